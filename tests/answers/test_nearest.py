"""A named model in the place of another CPU is of use only where it runs the same guests: a 64-bit guest needs a 64-bit CPU."""

from __future__ import annotations

from dataclasses import replace

from support.captures import host, stack
from vcpuid import Setup, qemu
from vcpuid.answers.usable import Models, usable
from vcpuid.answers.verdict import Verdict, verdict
from vcpuid.cli.check_text import CheckText
from vcpuid.cpuid import CpuidTable, Snapshot, bits
from vcpuid.cpuid.words import CpuidWord

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
SAPPHIRE = "kvm-intel.sapphire_rapids-rnd06@6.12"


def without_sse3() -> Snapshot:
    """A host that lacks what every 64-bit model of QEMU's has, and no 32-bit one."""

    def bare(table: CpuidTable) -> CpuidTable:
        return CpuidTable(e._replace(ecx=e.ecx & ~(1 | bits.HYPERVISOR.mask)) if e[:2] == (1, 0) else e for e in table)

    snapshot = host(SAPPHIRE)
    return replace(snapshot, raw=bare(snapshot.raw), supported=bare(snapshot.supported or CpuidTable()), cpuinfo={})


def judged(cpu: str, snapshot: Snapshot) -> tuple[Verdict, list[str]]:
    answer = verdict(cpu, snapshot, stack(SAPPHIRE, qemu="10.0"))
    return answer, [line for line in CheckText(everything=False).verdict(answer, "", None, 0) if "Named model" in line]


def listed(snapshot: Snapshot) -> Models:
    setup = Setup.of(snapshot, stack(SAPPHIRE, qemu="10.0"))
    return usable(qemu.models(setup), setup)


def test_a_32_bit_model_is_named_only_in_the_place_of_another() -> None:
    assert CpuidWord(1, 0, "ecx") == bits.HYPERVISOR.word
    answer, said = judged("Icelake-Server", without_sse3())
    assert answer.nearest is None
    assert said == ["Named model that runs without warnings: none that is 64-bit"]
    answer, said = judged("Icelake-Server,lm=off,hle=on", without_sse3())
    assert answer.nearest is not None
    assert len(said) == 1
    answer, said = judged("Icelake-Server,hle=on", host(SAPPHIRE))
    assert answer.nearest is not None
    assert answer.nearest.startswith("Icelake-Server"), said


def test_a_version_of_the_model_as_it_is_is_the_named_model_too() -> None:
    answer = verdict("Haswell", host(SKYLAKE), stack(SKYLAKE, qemu="10.0"))
    assert (answer.proposal, answer.nearest) == ("Haswell-v2", "Haswell-v2")
    assert (answer.counts.proposal_keeps, answer.counts.nearest_keeps) == (61, 61)
    said = list(CheckText(everything=False).verdict(answer, "", None, 0))
    at = said.index("Recommended, keeps the most: -cpu Haswell-v2")
    assert said[at + 1] == "    It keeps 61 of the 63 features asked for, and is a named model as it is"
    assert not [line for line in said if "Named model" in line]


def test_no_64_bit_model_is_denied_to_a_host_that_does_not_tell_whether_it_has_one() -> None:
    whole = host("kvm-amd.Snowridge-v4-amdvendor@6.16")
    cut = Snapshot(raw=CpuidTable(entry for entry in whole.raw if entry.function < 8), kernel=whole.kernel)
    answer, said = judged("Haswell-v4", cut)
    assert answer.nearest is None
    assert said == ["Named model that runs without warnings: not told; qemu64 if the host has all that it does not tell"]


def test_the_best_model_of_a_64_bit_host_is_a_64_bit_one() -> None:
    found = listed(without_sse3())
    assert found.usable
    assert all(one.narrow for one in found.usable)
    assert found.best is None
    whole = listed(host(SAPPHIRE))
    assert whole.best is not None
    assert not whole.best.narrow
    narrow = [one.narrow for one in whole.usable]
    assert any(narrow)
    assert narrow == sorted(narrow)


def test_features_are_not_counted_of_a_cpu_that_asks_for_none() -> None:
    _, said = judged("Skylake-Server,avx512f=of", host(SAPPHIRE))
    assert said == []
