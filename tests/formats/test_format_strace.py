"""strace's options change what stands around a call; no table is lost by that, and no refusal is made up."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import parse
from vcpuid.formats.lines import ENTRY_LIMIT
from vcpuid.sources import read_all


def entries(edx: int) -> str:
    return f"{{nent=1, entries=[{{function=0x7, index=0, flags=KVM_CPUID_FLAG_SIGNIFCANT_INDEX, eax=0, ebx=0, ecx=0, edx={edx:#x}}}]}}"


def table(edx: int) -> CpuidTable:
    return CpuidTable([Entry(7, 0, 1, 0, 0, 0, edx)])


def given(edx: int, thread: str = "12 ", descriptor: int = 9) -> str:
    return f"{thread}ioctl({descriptor}, KVM_SET_CPUID2, {entries(edx)}) = 0\n"


TRACE = f"""\
11 ioctl(3, KVM_GET_SUPPORTED_CPUID, 0x55b130c10ea0) = -1 E2BIG (Argument list too long)
11 ioctl(3, KVM_GET_SUPPORTED_CPUID, {entries(5)}) = 0
{given(6)}{given(7, "13 ", 10)}"""
CPUS = [Snapshot(supported=table(5), table=table(edx), set_result=0) for edx in (6, 7)]


def ahead(pattern: str) -> str:
    """Put what an option prints between thread and call."""
    return re.sub(r"^(\d+) ", pattern, TRACE, flags=re.MULTILINE)


BETWEEN = "<unfinished ...>\n14 brk(0) = 0\n11 <... ioctl resumed>"
OPTIONS = {
    "": TRACE,
    "to a terminal": ahead(r"[pid \1] "),
    "-i": ahead(r"\1 [00007f9f2ef3ad6b] "),
    "-n": ahead(r"\1 [  16] "),
    "-n to a terminal": ahead(r"[pid    \1] [  16] "),
    "-r": ahead(r"\1      0.000027 "),
    "-t -r": ahead(r"\1 11:38:54 (+     0.000063) "),
    "-ttt": ahead(r"\1 1795433934.090791 "),
    "-Y": ahead(r"\1<qemu-system-x86> "),
    "-Y with a name of a thread": ahead(r"[pid \1<CPU 0/KVM>] "),
    "-Y -ttt -r -n -i": ahead(r"\1<qemu-system-x86> 1795433936.881701 (+     0.000060) [  16] [00007f8aca7ccd6b] "),
    "quoted": ahead(r"> \1 "),
    "-y": TRACE.replace("(3,", "(3</dev/kvm>,").replace("(9,", "(9<anon_inode:kvm-vcpu:0>,"),
    "-yy": TRACE.replace("(3,", "(3</dev/kvm<char 10:232>>,").replace("(9,", "(9<anon_inode:[kvm-vcpu:0]>,"),
    "-y of a deleted file": TRACE.replace("(3,", "(3</dev/kvm>(deleted),"),
    "-T": TRACE.replace(" = 0\n", " = 0 <0.000009>\n"),
    "-X verbose": TRACE.replace("KVM_SET_CPUID2", "0x4008ae90 /* KVM_SET_CPUID2 */")
    .replace("KVM_GET_SUPPORTED_CPUID", "0xc008ae05 /* KVM_GET_SUPPORTED_CPUID */")
    .replace("KVM_CPUID_FLAG_SIGNIFCANT_INDEX", "0x1 /* KVM_CPUID_FLAG_SIGNIFCANT_INDEX */"),
    "-X raw": TRACE.replace("KVM_SET_CPUID2", "0x4008ae90")
    .replace("KVM_GET_SUPPORTED_CPUID", "0xc008ae05")
    .replace("KVM_CPUID_FLAG_SIGNIFCANT_INDEX", "0x1"),
    "interrupted": TRACE.replace("KVM_GET_SUPPORTED_CPUID, {", f"KVM_GET_SUPPORTED_CPUID {BETWEEN}, {{"),
    "interrupted, by an old strace": TRACE.replace("_CPUID, {", f"_CPUID, {BETWEEN} {{"),
    "interrupted answer, by an old strace": TRACE.replace("}) = 0\n12", f"}} {BETWEEN} ) = 0\n12"),
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_whatever_an_option_prints_around_a_call(option: str) -> None:
    assert parse(OPTIONS[option], "trace") == CPUS
    assert option == "" or OPTIONS[option] != TRACE


@pytest.mark.parametrize(
    "thread", ["", "[00007f9f2ef3ad6b] ", "     0.000027 ", "11:38:54 (+     0.000063) ", "1795433934.090791 ", "[  16] "]
)
def test_a_trace_that_tells_no_thread(thread: str) -> None:
    assert parse(re.sub(r"^\d+ ", thread, TRACE, flags=re.MULTILINE), "trace") == CPUS


def test_two_vmms_with_the_same_descriptors_stay_apart() -> None:
    cpus = parse(given(6, "12 ") + given(7, "22 ") + given(8, "13 ", 10), "trace")
    assert cpus == [Snapshot(table=table(edx), set_result=0) for edx in (6, 7, 8)]


LOGS = [
    "> ",
    "> | ",
    "10:20:30 ",
    "> 10:20:30.123 ",
    "[   12.345678] ",
    "1795433934.090791 ",
    "2026-11-23 10:20:30 ",
    "2026-11-23T10:20:30.1234567Z ",
    "Nov 23 10:20:30 host strace[55]: ",
    "> Nov  3 10:20:30 host strace[55]: ",
]


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("thread", ["# ", "[pid #] ", "[pid    #<CPU 0/KVM>] ", "#<qemu> ", "# 10:20:30 ", "# [  16] "])
def test_threads_stay_apart_in_a_log(log: str, thread: str) -> None:
    cpus = parse("".join(log + given(edx, thread.replace("#", str(edx + 6))) for edx in (6, 7)), "trace")
    assert cpus == [Snapshot(table=table(edx), set_result=0) for edx in (6, 7)]


@pytest.mark.parametrize("log", LOGS)
def test_times_are_no_threads(log: str) -> None:
    (cpu,) = parse(log + given(6, "") + log.replace("3", "4") + given(7, "[  16] "), "trace")
    assert cpu.table == table(7)


def test_a_table_that_replaces_another_is_told_of() -> None:
    for thread in ("12 ", ""):
        (cpu,) = parse(given(6, thread) + given(7, thread), "trace")
        assert (cpu.table, len(cpu.notes)) == (table(7), 1)
        assert "took several tables for this vCPU" in cpu.notes[0]
    (cpu,) = parse(given(6) * 2 + given(7).replace("= 0", "= -1 EINVAL (Invalid argument)"), "trace")
    assert (cpu.table, cpu.notes) == (table(6), ())


def test_several_answers_are_told_of() -> None:
    again = TRACE + f"21 ioctl(3, KVM_GET_SUPPORTED_CPUID, {entries(4)}) = 0\n"
    for cpu in parse(again, "trace"):
        assert (cpu.supported, cpu.notes) == (table(4), ("KVM_GET_SUPPORTED_CPUID has several answers: the last counts",))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (TRACE.replace("11 ioctl(3, KVM_GET_SUPPORTED_CPUID, {", "11 <... ioctl resumed>, {"), "trace:2: the trace lacks the beginning"),
        (TRACE + "14 ioctl(11, KVM_SET_CPUID2 <unfinished ...>\n15 brk(0) = 0\n", "trace:5: KVM_SET_CPUID2 is cut"),
        (re.sub(r"\{.*\}", "0x7ffd1afa9280", TRACE), "trace:2: KVM_GET_SUPPORTED_CPUID has no entries"),
        (TRACE.replace("nent=1", f"nent={ENTRY_LIMIT + 1}"), f"trace:2: more than {ENTRY_LIMIT} entries"),
        (TRACE.replace("nent=1", "nent=" + "1" * 5000), "trace:2: KVM_GET_SUPPORTED_CPUID is cut"),
        (TRACE.replace("}) = 0", "}) = " + "1" * 5000), "trace:2: KVM_GET_SUPPORTED_CPUID is cut"),
        (TRACE.splitlines()[0] + "\n", "trace: KVM refused every call"),
    ],
)  # fmt: skip
def test_what_is_lost_is_named(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=f"^{cause}"):
        parse(text, "trace")


@pytest.mark.kvm
@pytest.mark.qemu
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("options", ["", "-yy -n -i -T", "-Y -tt -r", "-ttt -y", "-r -X verbose", "-t -X raw"])
def test_a_real_trace_with_any_options(options: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    qemu = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "qemu64", "-smp", "2", "-display", "none", "-nodefaults", "-S", "-qmp", "stdio"]
    strace = ["strace", "-f", "-v", *options.split(), "-e", "trace=ioctl", "-o", str(trace)]
    quit_ = '{"execute": "qmp_capabilities"}{"execute": "quit"}'
    subprocess.run([*strace, *qemu], input=quit_, capture_output=True, text=True, timeout=60, check=False)
    if not trace.exists() or not re.search("KVM_SET_CPUID2|0x4008ae90", trace.read_text(encoding="utf-8")):
        pytest.skip("this machine's KVM, or ptrace, lets no QEMU start here")
    cpus = read_all(trace)
    assert [cpu.set_result for cpu in cpus] == [0, 0]
    apic_ids = [cpu.table.registers(1).ebx >> 24 for cpu in cpus if cpu.table is not None]
    assert apic_ids == [0, 1]
    for cpu in cpus:
        assert cpu.supported is not None
        assert cpu.supported.get(0x40000000) is not None
        assert any(entry.flags for entry in cpu.supported)
