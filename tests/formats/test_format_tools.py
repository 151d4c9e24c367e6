"""The forms of cpuid, kcpuid, strace, /proc/cpuinfo, Firecracker and Cloud Hypervisor: as the programs print them, and cut."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.cpuid.excerpt import missing
from vcpuid.errors import InputError
from vcpuid.formats import documents, files, parse
from vcpuid.formats.writing import write
from vcpuid.sources import read, read_all

VENDOR = (0x756E6547, 0x6C65746E, 0x49656E69)
ANSWERS = [(0, 0, 7, VENDOR[0], VENDOR[2], VENDOR[1]), (7, 0, 1, 0x219C07AB, 0, 0), (7, 1, 0x20, 0, 0, 0)]
RAW = CpuidTable(Entry(function, index, 0, *registers) for function, index, *registers in ANSWERS)

CPUID_R = """\
CPU 0:
   0x00000000 0x00: eax=0x00000007 ebx=0x756e6547 ecx=0x49656e69 edx=0x6c65746e
   0x00000007 0x00: eax=0x00000001 ebx=0x219c07ab ecx=0x00000000 edx=0x00000000
   0x00000007 0x01: eax=0x00000020 ebx=0x00000000 ecx=0x00000000 edx=0x00000000
"""
TYCHO = """\
CPU 0:
CPUID 00000000:00 = 00000007 756e6547 49656e69 6c65746e | ....GenuineIntel
CPUID 00000007:00 = 00000001 219c07ab 00000000 00000000 | .......!........
CPUID 00000007:01 = 00000020 00000000 00000000 00000000 |  ...............
"""
TYCHO_OF_OLD = """\
CPUID 00000000, results = 00000007 756e6547 49656e69 6c65746e
CPUID 00000007, index 0 = 00000001 219c07ab 00000000 00000000
CPUID 00000007, index 1 = 00000020 00000000 00000000 00000000
"""
KCPUID = """\
Standard Leafs :
================
0x00000000: EAX=0x00000007, EBX=0x756e6547, ECX=0x49656e69, EDX=0x6c65746e
0x00000007: subleafs:
  0: EAX=0x00000001, EBX=0x219c07ab, ECX=0x00000000, EDX=0x00000000
  1: EAX=0x00000020, EBX=0x00000000, ECX=0x00000000, EDX=0x00000000
"""


@pytest.mark.parametrize("text", [CPUID_R, TYCHO, TYCHO_OF_OLD, KCPUID], ids=["cpuid", "tycho", "tycho of old", "kcpuid"])
def test_every_tool_says_the_same(text: str) -> None:
    assert parse(text, "dump.txt") == [Snapshot(raw=RAW)]


@pytest.mark.parametrize(("form", "text"), [("cpuid", CPUID_R), ("tycho", TYCHO)])
def test_what_is_written_is_what_the_tool_prints(form: str, text: str) -> None:
    assert "".join(line + "\n" for line in write([Snapshot(raw=RAW)], form)) == text


@pytest.mark.parametrize(
    "text",
    [
        CPUID_R.replace("CPU 0:", "CPU:"),
        CPUID_R.replace("CPU 0:\n", ""),
        "The guest hangs. Here is what cpuid says:\n\n" + re.sub("^ *", "> ", CPUID_R, flags=re.MULTILINE) + "-- \nregards\n",
        re.sub("^", "[   12.345678] ", CPUID_R, flags=re.MULTILINE),
        CPUID_R + "processor\t: 0\nflags\t\t: fpu vme\n",  # what tells most is read
    ],
    ids=["one CPU", "no heading", "quoted", "with a time", "with /proc/cpuinfo"],
)
def test_the_lines_are_found_inside_other_text(text: str) -> None:
    assert parse(text, "report.txt") == [Snapshot(raw=RAW)]


def test_an_excerpt_is_not_taken_for_all_of_cpuid() -> None:
    (cpu,) = parse("".join(CPUID_R.splitlines(keepends=True)[2:]), "report.txt")
    assert len(cpu.raw) == 2
    assert missing(cpu.raw) == ["leaf 0 is missing: this is a part of what CPUID answers"]


def test_cpuid_of_old_prints_no_subleaves() -> None:
    (cpu,) = parse(re.sub(" 0x0.:", ":", CPUID_R), "dump.txt")
    assert cpu.raw == RAW
    assert cpu.notes == ("the dump does not number the sub-leaves of leaf 7: they are counted in its order",)


@pytest.mark.parametrize("text", [CPUID_R, TYCHO], ids=["cpuid", "tycho"])
def test_a_dump_cut_between_lines_is_known_by_the_cpu_before(text: str) -> None:
    lines = (text + text.replace("CPU 0", "CPU 1")).splitlines(keepends=True)
    for kept in range(5, len(lines)):
        with pytest.raises(InputError, match=rf"^dump.txt:{kept}: the dump (is cut here|ends behind)"):
            parse("".join(lines[:kept]), "dump.txt")
    assert [cpu.raw for cpu in parse("".join(lines), "dump.txt")] == [RAW, RAW]


def test_what_people_paste_is_read_up_to_a_last_line_that_is_cut() -> None:
    whole = CPUID_R.splitlines(keepends=True)
    for length in range(len("".join(whole[:2])) + len("   0x00"), len(CPUID_R)):
        text = CPUID_R[:length]
        (cpu,) = parse(text, "report.txt")
        assert tuple(cpu.raw) == tuple(RAW)[: len(cpu.raw)]
        last = text.rpartition("\n")[2]
        if last.strip() and f"{last}\n" not in whole:
            assert cpu.notes == (f"line {text.count(chr(10)) + 1} is cut: what the dump tells before it was read",)
    for text in (CPUID_R.replace("219c07ab", "219c07a"), f"{CPUID_R}   0x00000014 0x00: ea\nregards\n", "CPU 0:\n   0x00000000 0x00: ea"):
        with pytest.raises(InputError):
            parse(text, "report.txt")


@pytest.mark.parametrize("text", [TYCHO, KCPUID], ids=["tycho", "kcpuid"])
def test_a_dump_cut_anywhere_is_refused_or_has_whole_answers_only(text: str) -> None:
    refused = []
    for length in range(len(text)):
        try:
            (cpu,) = parse(text[:length], "dump.txt")
        except InputError as error:
            refused.append(str(error))
        else:
            assert tuple(cpu.raw) == tuple(RAW)[: len(cpu.raw)]
    assert len(refused) > len(text) * 0.6
    assert all(error.startswith("dump.txt") for error in refused)


def test_a_damaged_line_is_named() -> None:
    for text in (CPUID_R, TYCHO, KCPUID):
        damaged = text.replace("219c07ab", "219c07a")
        with pytest.raises(InputError, match=r"^dump.txt:\d: an answer of CPUID that is cut or damaged") as caught:
            parse(damaged, "dump.txt")
        assert "219c07a" in damaged.splitlines()[(caught.value.line or 0) - 1]


def test_a_subleaf_under_no_leaf_is_named() -> None:
    with pytest.raises(InputError, match=r"^dump.txt:4: a sub-leaf under no leaf"):
        parse(KCPUID.replace("0x00000007: subleafs:\n", ""), "dump.txt")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    file = tmp_path / "dump.txt"
    file.write_text(CPUID_R + CPUID_R.replace("CPU 0", "CPU 1").replace("219c07ab", "219c07aa"), encoding="utf-8")
    return file


def test_of_several_cpus_the_first_is_read_and_told_of(two: Path) -> None:
    assert read(two).raw == RAW
    assert read(two).notes == ("the first of 2 CPUs in the dump: append #1 and so on to its name for another",)


def test_a_cpu_of_several_is_read_by_its_number(two: Path) -> None:
    first, second = read_all(two)
    assert (read(f"{two}#0"), read(f"{two}#1")) == (first, second)
    assert second.raw.registers(7).ebx == 0x219C07AA
    assert read_all(f"{two}#1") == [second]
    with pytest.raises(InputError, match=r"dump.txt: it has no CPU 2: there are 2, counted from 0"):
        read(f"{two}#2")


def test_a_file_whose_name_has_a_number_sign(two: Path) -> None:
    other = two.with_name("dump.txt#1")
    other.write_text(CPUID_R, encoding="utf-8")
    assert read(str(other)).raw == RAW
    assert read(f"{other}#0").raw == RAW


@pytest.mark.x86
@pytest.mark.skipif(shutil.which("cpuid") is None, reason="Todd Allen's cpuid is not installed")
def test_the_installed_cpuid_tells_what_we_see(tmp_path: Path) -> None:
    file = tmp_path / "dump.txt"
    file.write_bytes(subprocess.run(["cpuid", "-r"], capture_output=True, check=True).stdout)
    cpus = read_all(file)
    assert {cpu.vendor for cpu in cpus} == {read("live").vendor}
    assert "".join(line + "\n" for line in write(cpus, "cpuid")) == file.read_text(encoding="utf-8")


SET = (
    "KVM_SET_CPUID2, {nent=2, entries=[{function=0x40000000, index=0, flags=0, eax=0x40000001, ebx=0x4b4d564b, ecx=0x564b4d56, edx=0x4d},"
    " {function=0x7, index=0x1, flags=KVM_CPUID_FLAG_SIGNIFCANT_INDEX|KVM_CPUID_FLAG_STATEFUL_FUNC, eax=0x20, ebx=0, ecx=0, edx=0}]})"
)
GET = "KVM_GET_SUPPORTED_CPUID, {nent=1, entries=[{function=0, index=0, flags=0, eax=0x1c, ebx=0x1, ecx=0x2, edx=0x3}]})"
TABLE = CpuidTable([Entry(0x40000000, 0, 0, 0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D), Entry(7, 1, 3, 0x20, 0, 0, 0)])
SUPPORTED = CpuidTable([Entry(0, 0, 0, 0x1C, 1, 2, 3)])
STRACE = f"""\
100 ioctl(3, KVM_GET_API_VERSION, 0)        = 12
100 ioctl(3, KVM_GET_SUPPORTED_CPUID, 0x55ba025d7ba0) = -1 E2BIG (Argument list too long)
100 ioctl(3, {GET} = 0
101 ioctl(9, {SET} = 0
101 ioctl(9, KVM_RUN, 0)  = 0
"""


def test_strace_shows_kvms_tables() -> None:
    assert parse(STRACE, "trace") == [Snapshot(supported=SUPPORTED, table=TABLE, set_result=0)]


@pytest.mark.parametrize(
    "text",
    [
        re.sub(r"^10(\d) ", r"[pid   10\1] ", STRACE, flags=re.MULTILINE),
        re.sub(r"^10\d ", "", STRACE, flags=re.MULTILINE),
        re.sub(r"^(10\d) ", r"\1 12:34:56.789012 ", STRACE, flags=re.MULTILINE),
        STRACE.replace("ioctl(9,", "ioctl(9<anon_inode:kvm-vcpu:0>,"),
        STRACE.replace("}]}) = 0\n101", "}]} <unfinished ...>\n100 <... ioctl resumed>) = 0\n101", 1),
        STRACE.replace(
            f"101 ioctl(9, {SET} = 0", f"101 ioctl(9, {SET[:-1]} <unfinished ...>\n100 ioctl(3, X) = 0\n101 <... ioctl resumed>) = 0"
        ),
        STRACE.replace(GET, GET.replace(", {", " <unfinished ...>\n101 brk(0) = 0\n100 <... ioctl resumed>, {")),
    ],
    ids=["to a terminal", "one thread", "with times", "with names of descriptors", "interrupted get", "interrupted set", "answer later"],
)
def test_strace_by_any_options(text: str) -> None:
    assert parse(text, "trace") == parse(STRACE, "trace")


def test_every_vcpu_is_a_cpu() -> None:
    text = STRACE + f"102 ioctl(10, {SET.replace('eax=0x20', 'eax=0x21')} = -1 EINVAL (Invalid argument)\n"
    first, second = parse(text, "trace")
    assert first == parse(STRACE, "trace")[0]
    assert (second.supported, second.set_result) == (SUPPORTED, -1)
    assert second.table is not None
    assert second.table[1].eax == 0x21


def test_the_last_table_that_kvm_took_counts() -> None:
    again = f"101 ioctl(9, {SET.replace('eax=0x20', 'eax=0x21')} = 0\n"
    refused = f"101 ioctl(9, {SET.replace('eax=0x20', 'eax=0x22')} = -1 EINVAL (Invalid argument)\n"
    (cpu,) = parse(STRACE + again + refused, "trace")
    assert cpu.table is not None
    assert cpu.table[1].eax == 0x21
    assert cpu.set_result == 0


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (re.sub(r"entries=\[.*\]", "entries=[...]", STRACE), ":3: strace was run without -v"),
        (STRACE[: STRACE.index("ecx=0x564b4d56")], ":4: KVM_SET_CPUID2 is cut"),
        (STRACE.replace("nent=2", "nent=3"), ":4: 2 entries where KVM_SET_CPUID2 tells of 3"),
        (STRACE.replace("eax=0x20,", "eax=0x120000000,"), ":4: '{function=0x7, "),
        (STRACE.replace("flags=KVM_CPUID_FLAG_SIGNIFCANT_INDEX", "flags=KVM_NEW"), ":4: '{function=0x7, "),
        (STRACE.splitlines()[1] + "\n", "KVM refused every call"),
    ],
)
def test_a_trace_that_is_cut_is_refused(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=f"^trace(:\\d+)?: ?{re.escape(cause.split(': ', 1)[1] if cause[0] == ':' else cause)}") as caught:
        parse(text, "trace")
    assert str(caught.value.line or "") == (cause[1] if cause[0] == ":" else "")


@pytest.mark.kvm
@pytest.mark.qemu
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_real_trace_of_the_installed_qemu(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    qemu = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "qemu64", "-display", "none", "-nodefaults", "-S", "-qmp", "stdio"]
    quit_ = '{"execute": "qmp_capabilities"}{"execute": "quit"}'
    strace = ["strace", "-f", "-v", "-s", "65536", "-e", "trace=ioctl", "-o", str(trace)]
    subprocess.run([*strace, *qemu], input=quit_, capture_output=True, text=True, timeout=60, check=False)
    if not trace.exists() or "KVM_SET_CPUID2" not in trace.read_text(encoding="utf-8"):
        pytest.skip("this machine's KVM, or ptrace, lets no QEMU start here")
    cpu = read(trace)
    assert cpu.set_result == 0
    assert cpu.supported is not None
    assert cpu.table is not None
    assert cpu.table.get(0x40000000) is not None


CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: An Intel CPU
cpu MHz\t\t: 2400.000
flags\t\t: fpu vme avx2
vmx flags\t: vnmi
bugs\t\t:

processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: fpu vme
bugs\t\t: spectre_v1

"""


def test_cpuinfo_is_a_partial_snapshot() -> None:
    first, second = parse(CPUINFO, "cpuinfo")
    assert not first.raw
    assert first.cpu == "An Intel CPU"
    assert first.cpuinfo == {
        "vendor_id": "GenuineIntel", "model_name": "An Intel CPU", "flags": "fpu vme avx2", "vmx_flags": "vnmi", "bugs": ""
    }  # fmt: skip
    assert second.cpuinfo == {"vendor_id": "GenuineIntel", "flags": "fpu vme", "bugs": "spectre_v1"}


def test_a_line_of_cpuinfo_alone_is_enough() -> None:
    assert parse("flags\t\t: fpu vme\n", "cpuinfo") == [Snapshot(cpuinfo={"flags": "fpu vme"})]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (CPUINFO[: CPUINFO.index(" avx2")], "cpuinfo:5: the file ends within this line"),
        (CPUINFO[: CPUINFO.rindex("vendor_id")], "cpuinfo: processor 1 has no flags line"),
    ],
)
def test_a_cpuinfo_that_is_cut_is_refused(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        parse(text, "cpuinfo")


@pytest.mark.x86
def test_this_machines_cpuinfo() -> None:
    assert read_all("/proc/cpuinfo")[0].cpuinfo["flags"].split()[0] == "fpu"


def template(**changes: object) -> str:
    bitmaps = {"eax": f"0b{1:032b}", "ebx": f"0b{0x219C07AB:032b}", "ecx": "0b" + "0000_" * 8, "edx": "0b" + "0" * 32, **changes}
    modifiers = [{"register": register, "bitmap": bitmap} for register, bitmap in bitmaps.items() if bitmap]
    return json.dumps({"cpuid_modifiers": [{"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": modifiers}], "msr_modifiers": []})


def test_a_dump_of_firecrackers_helper_is_a_guests_table() -> None:
    table = CpuidTable([Entry(7, 0, 1, 1, 0x219C07AB, 0, 0)])
    assert parse(template(), "template.json") == [Snapshot(table=table)]
    fingerprint = f'{{"firecracker_version": "1.10.0", "kernel_version": "6.1.100", "guest_cpu_config": {template()}}}'
    assert parse(fingerprint, "fingerprint.json") == [Snapshot(table=table, kernel="6.1.100")]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (template(edx="0b2"), r"cpuid_modifiers\[0\].modifiers\[3\].bitmap: '0b2' is not a bitmap"),
        (template().replace('"0x7"', "7"), r"cpuid_modifiers\[0\].leaf: '7' is not a number of 32 bits"),
        (template().replace('"flags": 1', '"flags": "1"'), r"cpuid_modifiers\[0\].flags: '1' is not a number of 32 bits"),
        (template()[:-1], ":1: damaged or cut JSON"),
        ('{"cpuid_modifiers": 5}', "cpuid_modifiers: not a list"),
    ],
)
def test_a_template_that_is_no_cpu_is_refused(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        parse(text, "template.json")


LEAF_7 = {"function": 7, "index": 0, "flags": 1, "eax": 1, "ebx": 0x219C07AB, "ecx": 0, "edx": 0}


def state_json(*vcpus: object, as_bytes: bool = False) -> str:
    """Write the state.json of a VM, as Cloud Hypervisor's structures are written, without most of what is not CPUID."""

    def node(state: object, **snapshots: object) -> dict[str, object]:
        told = json.dumps(state, separators=(",", ":"))
        return {"snapshots": snapshots, "snapshot_data": None if state is None else list(told.encode()) if as_bytes else {"state": told}}

    cpus = {str(number): node(state) for number, state in sorted(enumerate(vcpus), key=lambda pair: str(pair[0]))}
    parts = {"cpu-manager": node(None, **cpus), "device-manager": node({"device_tree": {}}), "memory-manager": node({"ranges": []})}
    vm = {"clock": {"Kvm": {"clock": 1}}, "common_cpuid": [{**LEAF_7, "ebx": 0}]}
    return json.dumps(node(vm, **parts), separators=(",", ":"))


def vcpu(**changes: object) -> dict[str, dict[str, object]]:
    return {"Kvm": {"cpuid": [{**LEAF_7, **changes}], "msrs": [{"index": 0x10, "data": 5}], "tsc_khz": 2_000_000, "nested_state": None}}


@pytest.mark.parametrize("as_bytes", [False, True], ids=["since 39.0", "since 29.0"])
def test_a_snapshot_of_cloud_hypervisor_has_every_vcpu_by_number(as_bytes: bool) -> None:
    text = state_json(*(vcpu(edx=number) for number in range(12)), as_bytes=as_bytes)
    wanted = [Snapshot(table=CpuidTable([Entry(7, 0, 1, 1, 0x219C07AB, 0, number)])) for number in range(12)]
    assert parse(text, "state.json") == wanted
    assert parse(json.dumps(json.loads(text), indent=2), "state.json") == wanted


def test_a_snapshot_of_cloud_hypervisor_is_one_line_of_any_length(tmp_path: Path) -> None:
    state = vcpu()
    state["Kvm"]["lapic_state"] = {"regs": [0] * 1024}
    path = tmp_path / "state.json"
    path.write_text(state_json(*[state] * 32), encoding="utf-8")
    assert path.stat().st_size > files.LINE_LIMIT
    assert len(read_all(path)) == 32


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (state_json(vcpu())[:-1], ":1: damaged or cut JSON"),
        (state_json(vcpu()).replace("}],", "},", 1), "damaged or cut JSON"),
        (state_json(vcpu(eax=1 << 32)), "Cloud Hypervisor's state.json: .*eax 4294967296"),
        (state_json(vcpu(eax=-1)), "Cloud Hypervisor's state.json: .*eax -1"),
        (state_json(vcpu(eax=True)), "Cloud Hypervisor's state.json: .*eax True"),
        (state_json(vcpu(eax="1")), "Cloud Hypervisor's state.json: .*eax '1'"),
        (state_json(vcpu()).replace("ecx", "exx"), "Cloud Hypervisor's state.json: KeyError"),
        (state_json({"Mshv": {"msrs": []}}), "vCPU 0 has no CPUID"),
        (state_json({"Kvm": {"cpuid": []}}), "vCPU 0 has no CPUID"),
        (state_json(None), "Cloud Hypervisor's state.json: TypeError"),
        (state_json({"Kvm": 5}), "Cloud Hypervisor's state.json: AttributeError"),
        (state_json(), "Cloud Hypervisor's state.json: .*no vCPU"),
        (state_json(vcpu(), as_bytes=True).replace("[123", "[300", 1), "Cloud Hypervisor's state.json: ValueError"),
        (state_json(vcpu(), as_bytes=True).replace("[123", "[255", 1), "Cloud Hypervisor's state.json: UnicodeDecodeError"),
        (state_json(vcpu()).replace('"0"', '"first"'), "Cloud Hypervisor's state.json: ValueError"),
        (state_json(vcpu()) * 2, "Cloud Hypervisor's state.json: ValueError"),
        ('{"snapshots": {}}', "Cloud Hypervisor's state.json: KeyError"),
        (
            '{"snapshots": {"cpu-manager": {"snapshots": {"0": {"snapshot_data": {"state": ""}}}}}}',
            "Cloud Hypervisor's state.json: ValueError",
        ),
    ],
)
def test_a_snapshot_without_cpuid_or_damaged_is_refused(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        parse(text, "state.json")


@pytest.mark.bounds
@pytest.mark.parametrize(
    "line",
    [
        "   0x00000000 0x00: eax=0x00000007 ebx=0x756e6547 ecx=0x49656e69 edx=0x6c65746e\n",
        "CPUID 00000000:00 = 00000007 756e6547 49656e69 6c65746e | ....GenuineIntel\n",
        "CPUID 00000000: 00000007-756E6547-49656E69-6C65746E\n",
        "0x00000000: EAX=0x00000007, EBX=0x756e6547, ECX=0x49656e69, EDX=0x6c65746e\n",
        "<cpu>" * 1000 + "\n",
        "<cpudata>" * 1000 + "\n",
        '{"return":[' * 1000 + "\n",
        "processor : 0\nflags : fpu\n",
        f"1 ioctl(9, {SET} = 0\n",
        "\n",
        " " * 60_000 + "\n",
    ],
    ids=["cpuid", "tycho", "instlatx64", "kcpuid", "cpu", "cpudata", "json", "cpuinfo", "strace", "empty", "blank"],
)
@pytest.mark.parametrize("size", [files.SIZE_LIMIT + 1, documents.LIMIT])
def test_memory_is_bounded(line: str, size: int, tmp_path: Path) -> None:
    file = tmp_path / "dump.txt"
    file.write_text((line * (size // len(line) + 1))[:size], encoding="utf-8")
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"more than|cut|no CPUID|has no flags|nested too deep"):
            read(file)
        assert tracemalloc.get_traced_memory()[1] < 10 * files.SIZE_LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.bounds
def test_a_document_takes_no_more_than_a_hundred_times_its_size() -> None:
    text = "<cpu>" + "<a/>" * (documents.LIMIT // 4 - 10) + "</cpu>"
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="no <cpu> in it"):
            parse(text, "cpu.xml")
        assert tracemalloc.get_traced_memory()[1] < 100 * documents.LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.bounds
def test_noise_with_a_sign_of_each_form_is_refused_in_time() -> None:
    noise = random.Random(1)
    signs = ["0x00000000 0x00: eax=0x0", "CPUID 00000000:00 = 0", "CPUID 00000000: 00000000-", "0x00000000: EAX=0x0", "<cpu>", "<cpudata "]
    for sign in signs:
        text = "".join(noise.choice("0x :=-eaxEACPUID \n") for _ in range(200_000)) + "\n" + sign
        with pytest.raises(InputError):
            parse(text, "noise")
