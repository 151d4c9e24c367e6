"""A warning of QEMU's that hangs on what the host does not tell is not stated: which facts decide is, in every format."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from support.captures import MITIGATIONS_OFF, capture, host
from support.command import vcpuid as run
from vcpuid import Setup, Stack, read, resolve
from vcpuid.answers.certainty import followed
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import CpuidTable, MsrTable, Snapshot
from vcpuid.errors import QemuError
from vcpuid.formats.writing import write
from vcpuid.path.pipeline import ANY_WARNING, warned
from vcpuid.vmm.qemu import QEMU

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
LACKS = "host doesn't support requested feature: CPUID[eax=07h,ecx=00h].EBX."
RTM, HLE = f"{LACKS}rtm [bit 11]", f"{LACKS}hle [bit 4]"
BITS = "Host physical bits (?) does not match phys-bits property (46)"
CASCADE_LAKE = str(capture("cascade-lake-without-msrs", "reports"))
PINNED = ("--kernel", "6.12", "--qemu", "11.1")


def cut(*functions: int, name: str = SKYLAKE) -> Setup:
    """A captured processor, all of it modelled, without some of its leaves."""
    whole = host(name)
    kept = CpuidTable(entry for entry in whole.raw if entry.function not in functions)
    return Setup.of(Snapshot(raw=kept, msrs=whole.msrs, kernel=whole.kernel), Stack(params=MITIGATIONS_OFF))


@pytest.fixture(scope="module")
def without_bits(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("dumps") / "without-80000008.txt"
    path.write_text("".join(f"{line}\n" for line in write([Snapshot(raw=cut(0x80000008).host.raw)], "snapshot")), encoding="utf-8")
    return str(path)


def told(setup: Setup, cpu: str) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    path = resolve(cpu, host=setup)
    return path.warnings, {found.what: [str(fact) for fact in found.depends] for found in path.warnings_not_told}


@pytest.mark.parametrize("bits", [36, 46, 52])
def test_the_width_of_addresses_is_not_compared_where_it_is_not_told(bits: int) -> None:
    differs = BITS.replace("46", str(bits))
    assert told(cut(0x80000008), f"host,phys-bits={bits}") == ((), {differs: ["CPUID[eax=80000008h]"]})


def test_where_it_is_told_the_warning_is_stated() -> None:
    assert told(cut(), "host,phys-bits=52") == (("Host physical bits (40) does not match phys-bits property (52)",), {})


def test_tsx_may_be_off_by_an_msr_and_then_qemu_warns() -> None:
    setup = Setup.of(read(CASCADE_LAKE), Stack("6.12", "11.1"))
    certain, open_ = told(setup, "Cascadelake-Server,+la57")
    assert certain == ("host doesn't support requested feature: CPUID[eax=07h,ecx=00h].ECX.la57 [bit 16]",)
    assert open_ == {warning: ["tsx-ctrl (MSR(10Ah) [bit 7])"] for warning in (HLE, RTM)}
    with_control = Setup.of(read(CASCADE_LAKE), Stack("6.12", "11.1", params={"msr.10a": 0xAB}))
    assert told(with_control, "Cascadelake-Server") == ((HLE, RTM), {})
    without = Setup.of(read(CASCADE_LAKE), Stack("6.12", "11.1", params={"msr.10a": 0x2B}))
    assert told(without, "Cascadelake-Server") == ((), {})


def test_of_a_cpu_that_is_refused_what_was_printed_before_is_told_apart() -> None:
    setup = Setup.of(read(CASCADE_LAKE), Stack("6.12", "11.1"))
    found = warned("Cascadelake-Server,+la57,enforce", setup, QEMU)
    assert [warning.rpartition(" [")[0].rpartition(".")[2] for warning in found.certain] == ["la57"]
    assert {open_.what for open_ in found.not_told} == {HLE, RTM}
    assert not {HLE, RTM} & set(verdict("Cascadelake-Server,+la57,enforce", setup).warnings)
    with pytest.raises(QemuError) as refused:
        followed("Cascadelake-Server,+la57,enforce", host=setup)
    assert refused.value.warnings == found.certain


def test_no_warning_is_sure_where_nobody_knows_the_processor() -> None:
    certain, open_ = told(cut(1), "Haswell,+la57")
    assert (certain, list(open_)) == ((), [ANY_WARNING])


def test_a_warning_that_may_come_is_no_reason_for_a_proposal() -> None:
    found = verdict("host,phys-bits=46", cut(0x80000008))
    assert (found.runs, found.warnings, found.proposal) == (True, (), "host,phys-bits=46")
    assert [open_.what for open_ in found.warnings_not_told] == [BITS]


def test_capabilities_of_vmx_that_are_not_told_are_warned_of_on_no_certain_ground() -> None:
    bare = replace(cut().host, msrs=MsrTable())
    certain, open_ = told(cut().with_host(bare), "Haswell,+vmx")
    assert not [warning for warning in certain if "MSR(4" in warning]
    assert len([what for what in open_ if "MSR(4" in what]) > 50


@pytest.mark.parametrize("verb", [("guest",), ("worth",), ("hyperv",), ("linux", "flags", "--guest")])
def test_every_verb_says_it_on_standard_error(verb: tuple[str, ...], without_bits: str) -> None:
    source = [without_bits] if verb[0] == "linux" else ["--host", without_bits]
    done = run(*verb, "--cpu", "host,phys-bits=46", *source, *PINNED, "--format", "json")
    said = [line for line in done.stderr.splitlines() if "Host physical bits" in line]
    how = "give a whole dump of its CPUID (vcpuid collect, cpuid -1r)"
    assert said == [f"vcpuid: not told whether QEMU warns: {BITS}: depends on CPUID[eax=80000008h]; {how}"]
    answer = json.loads(done.stdout)
    path = answer if verb == ("guest",) else answer["path"]
    assert path["warnings"] == []
    assert [(open_["what"], [fact["place"] for fact in open_["depends"]]) for open_ in path["warnings_not_told"]] == [
        (BITS, ["CPUID[eax=80000008h]"])
    ]


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl"])
def test_check_says_it_in_every_format(form: str, without_bits: str) -> None:
    done = run("check", "host,phys-bits=46", without_bits, *PINNED, "--format", form)
    if form == "json":
        answer = json.loads(done.stdout)
        assert (answer["warnings"], [open_["what"] for open_ in answer["warnings_not_told"]]) == ([], [BITS])
        return
    first = {
        "table": lambda text: text.splitlines()[2],
        "csv": lambda text: next(csv.DictReader(io.StringIO(text)))["why"],
        "jsonl": lambda text: json.loads(text.splitlines()[0])["why"],
    }[form](done.stdout)
    assert first.startswith(f"not told whether QEMU warns: {BITS}: depends on CPUID[eax=80000008h]")


def test_many_warnings_of_one_fact_are_one_short_line() -> None:
    done = run("guest", "--cpu", "Haswell,+vmx", "--host", CASCADE_LAKE, *PINNED, "--format", "json")
    lines = [line for line in done.stderr.splitlines() if "whether QEMU warns" in line and "MSR(48Bh)" in line]
    assert len(lines) == 1
    assert " more: depends on IA32_VMX_PROCBASED_CTLS2 (MSR(48Bh))" in lines[0]
    assert lines[0].count("host doesn't support requested feature: ") == 1
