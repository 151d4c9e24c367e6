"""Recorded VMMs: a QEMU's table is the one that the model of that QEMU makes, and of any other the known idioms are named."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from support.captures import CAPTURES
from vcpuid import resolve
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry
from vcpuid.formats.files import read_text
from vcpuid.formats.recorded_calls import Recording
from vcpuid.formats.recording import read_recording
from vcpuid.path.pipeline import Path as CpuPath
from vcpuid.reasons import Basis, replay
from vcpuid.setup import Setup, Stack
from vcpuid.vmm.held import held
from vcpuid.vmm.observed import ShownGuest, observed
from vcpuid.vmm.qemu_line import QemuLine, read_line

FOLDER = CAPTURES / "recordings"
ALL = sorted(path.name.removesuffix(".jsonl.gz") for path in FOLDER.glob("*.jsonl.gz"))
QEMUS = [name for name in ALL if name.startswith("qemu-")]


@cache
def recording(name: str) -> Recording:
    source, text = read_text(FOLDER / f"{name}.jsonl.gz")
    return read_recording(text, source)


@cache
def path(name: str) -> CpuPath:
    found = recording(name)
    shown = ShownGuest.of(found)
    line = shown.line
    if line is None:
        return resolve(name, host=found.host, vmm=observed(shown))
    stack = Stack(None, release(name), line.machine, line.smp, globals=line.globals)
    return resolve(line.cpu, host=Setup.of(found.host, stack), vmm=observed(shown))


def release(name: str) -> str:
    """QEMU's release as the recording tells it; of older ones, which do not, as the file's name does."""
    named = name.split("-")[1]
    told = ShownGuest.of(recording(name)).release
    assert told in (named, None)
    return named


SAME = re.compile(
    r"the model of QEMU [0-9.]+ makes the same tables?(?: as far as is told: ([0-9]+) registers? hangs? on the processor's own CPUID)?"
)


@pytest.mark.parametrize("name", QEMUS)
def test_a_qemu_hands_over_what_the_model_of_that_qemu_makes(name: str) -> None:
    (told,) = [found for remark in path(name).remarks if (found := SAME.fullmatch(remark))]
    if recording(name).host.raw:
        assert told[1] is None  # the host is told whole, and so is the comparison
    assert ("-amd" in name) == bool(recording(name).host.raw)


@pytest.mark.parametrize("name", QEMUS)
def test_its_reasons_are_qemus_own_rules(name: str) -> None:
    rules = {decision.rule.id for decision in path(name).made.decisions}
    assert any(rule.startswith("qemu.") for rule in rules)
    assert path(name).trace.vmm.party == "qemu"
    if recording(name).host.raw:
        assert not any(rule.startswith("recorded.") for rule in rules)


IDIOMS = {
    "kvmtool-b48735e-kvm_amd-7.3.4": set(),
    "microsandbox-0.7.11-libkrun": {"recorded.apic-id", "recorded.topology", "recorded.brand"},
    "microsandbox-0.7.11-libkrun-amd": {"recorded.topology", "recorded.brand", "recorded.range", "recorded.taken"},  # arch-capabilities
    "runsc-20240729-kvm": {"recorded.runtime"},
    "runsc-20240729-kvm-amd": {"recorded.runtime"},
    "vcpuid-tiny-guest-amd": set(),
}


@pytest.mark.parametrize("name", [name for name in ALL if name not in QEMUS])
def test_of_another_vmm_each_change_on_kvms_answer_is_named_by_its_idiom_where_it_has_one(name: str) -> None:
    assert {decision.rule.id for decision in path(name).made.decisions} == IDIOMS[name]
    step = path(name).trace.vmm
    assert (step.party, step.basis) == ("vmm", Basis.OBSERVED)


@pytest.mark.parametrize("name", ALL)
def test_the_decisions_lead_from_kvms_answer_to_the_recorded_table(name: str) -> None:
    step = path(name).trace.vmm
    words = replay(step.before, step.decisions)
    told = {word: value for word, value in words.items() if value and (word in step.after or isinstance(word, CpuidWord))}
    assert told == {word: value for word, value in step.after.items() if value}


def test_what_was_kept_is_observed_and_leads_to_the_guest() -> None:
    found = recording("vcpuid-tiny-guest-amd")
    (vcpu,) = found.vcpus
    assert vcpu.kept is not None
    resolved = path("vcpuid-tiny-guest-amd")
    assert resolved.kept == vcpu.kept
    assert resolved.trace.step("vcpu").basis is Basis.OBSERVED


def test_an_msr_that_the_vmm_sets_is_the_vmms_doing() -> None:
    name = "qemu-11.1.3-q35-host-smp2-amd"
    assert ShownGuest.of(recording(name)).msrs.get(0x8B) is not None


def test_a_difference_is_named_by_its_registers() -> None:
    one, other = CpuidTable([Entry(7, 0, 1, 0, 0x20, 0, 0)]), CpuidTable([Entry(7, 0, 1, 0, 0x28, 0, 0)])
    said = held("QEMU 9.9", [one], [other], {})
    assert said == "the model of QEMU 9.9 makes another table: it differs in CPUID[eax=07h,ecx=00h].EBX"
    (word,) = [word for word in one.words() if word.register == "ebx"]
    assert "1 register hangs on" in held("QEMU 9.9", [one], [other], {(0, word): 0x8})
    assert "another table" in held("QEMU 9.9", [one], [other], {(0, word): 0x10})
    assert "in another order" in held("QEMU 9.9", [one], [CpuidTable([one[0]._replace(flags=0)])], {})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("qemu-system-x86_64", QemuLine("qemu64", "pc", "1")),
        ("/opt/q/qemu-system-x86_64 -cpu host,-avx2 -M q35 -smp 2", QemuLine("host,-avx2", "q35", "2")),
        ("chroot l1 qemu-system-x86_64 --cpu max --machine microvm,accel=kvm", QemuLine("max", "microvm", "1")),
        ("qemu-system-x86_64 -M q35 -machine kernel-irqchip=split", QemuLine("qemu64", "q35,kernel-irqchip=split", "1")),
        ("qemu-system-x86_64 -machine type=q35,usb=off -smp 4 -smp threads=2", QemuLine("qemu64", "q35,usb=off", "4,threads=2")),
        ("qemu-system-x86_64 -global a.b=c -global d=e -readconfig f", QemuLine(globals=("a.b=c", "d=e"), unread=("-readconfig f",))),
        ("qemu-system-x86_64 -cpu", QemuLine("", "pc", "1")),
        ("cloud-hypervisor -cpu host", None),
    ],
)  # fmt: skip
def test_a_command_line_says_what_makes_the_cpu(words: str, line: QemuLine | None) -> None:
    assert read_line(words.split(), "qemu-system-x86_64") == line


def test_a_vcpu_by_its_place_comes_first_with_its_own_guest() -> None:
    found = recording("qemu-11.1.3-q35-haswell-smp2-amd")
    assert [vcpu.number for vcpu in ShownGuest.of(found, 1).vcpus] == [1, 0]


def test_the_captures_are_listed() -> None:
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w[^|]+) \|", told, re.MULTILINE)
    listed = {name for row in rows for name in _spelled(row)} - {"file"}
    assert listed == set(ALL)


def _spelled(row: str) -> list[str]:
    """Spell the names of a row: those behind the first are put to what stands before its own -q35, or to its end."""
    first, *others = row.split(", ")
    stem = first.partition("-q35")[0]
    return [first, *(first + other if other == "-amd" else stem + other for other in others)]


def test_no_path_of_a_machine_is_in_them() -> None:
    for file in Path(FOLDER).glob("*.gz"):
        assert not re.search(r'"(?:/root|/home|/work)/', read_text(file)[1])
