"""Verbs about a guest on this machine ask its KVM alike what a vCPU keeps, so that they don't contradict each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from support.captures import CAPTURES, host, stack
from support.command import vcpuid
from vcpuid.answers.verdict import verdict
from vcpuid.cli import linux
from vcpuid.cli.check_text import CheckText
from vcpuid.cli.diagnose import sheet
from vcpuid.cpuid import CpuidTable, Registers, Snapshot
from vcpuid.diagnosis import diagnose
from vcpuid.setup import Stack

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
HOST = str(CAPTURES / "kvm" / f"{SKYLAKE}.txt.gz")
SMEP, AVX512F = 1 << 7, 1 << 16
MESSAGE = "host doesn't support requested feature: CPUID.07H:EBX.avx512f [bit 16]"
MANY = "Haswell-noTSX,+sha-ni,+avx512-bf16,+amx-tile,+serialize"


@dataclass(frozen=True)
class Reading:
    kept: CpuidTable
    seen: dict[tuple[int, int], Registers]


def overruling(table: CpuidTable, leaves: Sequence[tuple[int, int]]) -> Reading:
    """A KVM that shows every guest AVX-512F, and none SMEP."""
    kept = CpuidTable(e._replace(ebx=e.ebx & ~SMEP | AVX512F) if e[:2] == (7, 0) else e for e in table)
    return Reading(kept, {leaf: Registers(e.eax, e.ebx, e.ecx, e.edx) for leaf in leaves if (e := kept.get(*leaf)) is not None})


def test_linux_shows_a_guest_what_the_running_kvm_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "probe_for", lambda _: overruling)

    def flags(*more: str) -> list[str]:
        done = vcpuid("linux", "flags", HOST, "--guest", "--cpu", "Haswell-noTSX", "--format", "json", *more)
        found: list[str] = json.loads(done.stdout)["flags"]
        return found

    assert "smep" in flags("--no-probe")
    assert "smep" not in flags()


@pytest.mark.parametrize("verb", ["flags", "vulnerabilities"])
def test_many_warnings_of_qemus_are_counted(verb: str) -> None:
    command = ("linux", verb, HOST, "--guest", "--cpu", MANY)
    assert "QEMU: warning:" not in vcpuid(*command).stderr
    assert " warnings; --all prints them" in vcpuid(*command).stderr
    assert vcpuid(*command, "--all").stderr.count("QEMU: warning:") > 2
    assert vcpuid(*command, "--format", "json").stderr.count("QEMU: warning:") > 2


def test_hyperv_counts_many_warnings_of_qemus() -> None:
    assert "QEMU: warning:" not in vcpuid("hyperv", "--host", HOST, "--cpu", MANY).stderr
    assert vcpuid("hyperv", "--host", HOST, "--cpu", MANY, "--all").stderr.count("QEMU: warning:") > 2


@pytest.mark.parametrize("everything", [True, False])
def test_all_is_not_offered_to_one_who_asked_for_it(everything: bool) -> None:
    text = CheckText(everything)
    lines = list(text.verdict(verdict("Haswell-noTSX", _without_avx512f(), stack(SKYLAKE), probe=overruling), "", None, 0))
    assert any(line.startswith("Seen by the guest, though not asked for (1): avx512f") for line in lines) is everything
    offer = text.cut()
    assert (offer is not None and bool(offer.more)) is not everything


def _without_avx512f() -> Snapshot:
    snapshot = host(SKYLAKE)
    assert snapshot.supported is not None
    lacking = CpuidTable(e._replace(ebx=e.ebx & ~AVX512F) if e[:2] == (7, 0) else e for e in snapshot.supported)
    return replace(snapshot, supported=lacking)


def test_diagnose_goes_by_what_the_running_kvm_gives() -> None:
    cpu = "Haswell-noTSX,+avx512f"
    modelled, asked = (diagnose(MESSAGE, _without_avx512f(), cpu, stack(SKYLAKE), probe=probe) for probe in (None, overruling))
    fates = [found.explanation for one in (modelled, asked) for found in one.findings]
    assert [fate is not None and fate.visible for fate in fates] == [False, True]
    assert asked.verdict is not None
    assert [missing.put_back for missing in asked.verdict.missing] == [True]
    assert not any("give the host, the -cpu" in text for text in asked.remedies), "QEMU says so on this very host"


def test_what_kvm_shows_all_the_same_is_counted_beside_what_a_proposal_keeps() -> None:
    snapshot = host(SKYLAKE)
    assert snapshot.supported is not None
    patched = CpuidTable(e._replace(ebx=e.ebx & ~(1 << 5)) if e.function == 7 else e for e in snapshot.supported)

    def adding(table: CpuidTable, leaves: Sequence[tuple[int, int]]) -> Reading:
        kept = CpuidTable(e._replace(ebx=e.ebx | 1 << 5) if e[:2] == (7, 0) else e for e in table)
        return Reading(kept, {leaf: e.registers for leaf in leaves if (e := kept.get(*leaf)) is not None})

    answer = verdict("Haswell", replace(snapshot, supported=patched), Stack(kernel="6.12", qemu="11.1"), probe=adding)
    assert answer.keeping is not None
    asked, kept = len(answer.counts.asked), answer.counts.proposal_keeps
    assert kept is not None
    assert asked - len(answer.counts.lacks) == kept + 1
    assert answer.keeping.endswith(f"of the {asked} features asked for; this machine's KVM shows the guest 1 more of them all the same")


def test_what_a_kvm_does_of_its_own_is_one_cause_of_all_that_it_takes() -> None:
    """A row a feature, with a sentence within a sentence, said the same of each."""
    snapshot = host(SKYLAKE)
    assert snapshot.supported is not None
    patched = CpuidTable(e._replace(ebx=e.ebx & ~(1 << 5 | SMEP)) if e.function == 7 else e for e in snapshot.supported)
    text = "\n".join(f"host doesn't support requested feature: CPUID.07H:EBX.{name}" for name in ("avx2 [bit 5]", "smep [bit 7]"))
    found = diagnose(text, replace(snapshot, supported=patched), "Haswell-noTSX")
    lines = sheet(found).head
    assert lines[0] == (
        "With -cpu Haswell-noTSX on this host, the guest lacks avx2 smep: this machine's KVM does not offer it; stock Linux 6.12 would"
    )
