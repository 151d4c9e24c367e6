"""What an upgrade changes for a guest: the features in which two paths of one host end otherwise, and who decides."""

from __future__ import annotations

import pytest

from support.captures import host
from vcpuid.answers.certainty import open_bits
from vcpuid.answers.drift import Change, Drift, Side, drift
from vcpuid.answers.explain import explain
from vcpuid.answers.survey import cpuid_features, number, survey
from vcpuid.cpuid import Bit, CpuidWord, MsrWord
from vcpuid.cpuid.names import all_features
from vcpuid.releases import KERNELS, QEMUS
from vcpuid.setup import Setup, Stack

MILAN, SKYLAKE = "kvm-amd.EPYC-Milan-v2@7.3", "kvm-intel.corei7_skylake_x@6.12"
OLD, NEW = Stack(kernel=KERNELS[0], qemu=QEMUS[0]), Stack(kernel=KERNELS[-1], qemu=QEMUS[-1])


def between(name: str, cpu: str, before: Stack, after: Stack) -> Drift:
    one, other = (Side.of(cpu, Setup.of(host(name), stack)) for stack in (before, after))
    return drift(one, other)


def named(found: Drift) -> dict[str, Change]:
    return {change.feature.name: change for change in found.changes}


@pytest.mark.parametrize("name", [MILAN, SKYLAKE])
@pytest.mark.parametrize("cpu", ["host", "max", "qemu64"])
def test_it_is_the_difference_of_what_the_two_guests_see(name: str, cpu: str) -> None:
    found = between(name, cpu, OLD, NEW)
    before, after = ({feature.name for feature in survey(side.path).seen} for side in (found.before, found.after))
    told = {n: c for n, c in named(found).items() if isinstance(c.feature.place.word, CpuidWord)}
    assert {n for n, change in told.items() if change.change == "gained"} == after - before
    assert {n for n, change in told.items() if change.change == "lost"} == before - after
    assert found.count() + found.same + found.not_told >= number(cpuid_features())


@pytest.mark.parametrize("cpu", ["host", "EPYC"])
def test_nothing_changes_between_a_stack_and_itself(cpu: str) -> None:
    found = between(MILAN, cpu, NEW, NEW)
    assert (found.changes, found.gone, found.new) == ((), (), ())


def test_the_way_back_loses_what_the_way_there_gains() -> None:
    there, back = between(MILAN, "host", OLD, NEW), between(MILAN, "host", NEW, OLD)
    assert {(n, c.before, c.after) for n, c in named(there).items()} == {(n, c.after, c.before) for n, c in named(back).items()}
    assert (there.gone, there.new) == (back.new, back.gone)


def test_who_decides_says_so_for_the_side_that_lacks_it() -> None:
    before, after = Stack(kernel="7.3", qemu="10.0"), Stack(kernel="7.3", qemu="10.0", params={"nested": 0}, what_if=True)
    found = named(between(MILAN, "host", before, after))
    assert (found["svm"].change, found["svm"].party, found["svm"].rule) == ("lost", "kvm", "kvm.svm.nested")
    assert found["svm"].why.startswith("now: ")
    assert found["svm"].remedy == "load kvm_amd with nested=1"


def test_what_is_gained_tells_what_kept_it_away_before_and_no_remedy() -> None:
    change = named(between(MILAN, "host", Stack(kernel="7.3", qemu="7.2"), Stack(kernel="7.3", qemu="10.0")))["null-sel-clr-base"]
    assert (change.change, change.party, change.remedy) == ("gained", "qemu", None)
    assert change.why.startswith("before: ")


def test_features_of_msrs_are_compared_where_a_guest_reads_them() -> None:
    found = named(between(SKYLAKE, "host", Stack(qemu="10.0"), Stack(qemu="10.0", params={"nested": 0}, what_if=True)))
    assert found["vmx-ept"].change == "lost"


def test_warnings_of_one_side_alone() -> None:
    found = between(SKYLAKE, "Skylake-Server", Stack(qemu="10.0"), Stack(qemu="10.0", params={"nested": 0}, what_if=True))
    assert found.gone == found.new == ()
    found = between(SKYLAKE, "Skylake-Server,+vmx", Stack(qemu="10.0"), Stack(qemu="10.0", params={"nested": 0}, what_if=True))
    assert found.new == ("host doesn't support requested feature: CPUID.01H:ECX.vmx [bit 5]",)


def test_a_warning_in_another_spelling_is_the_same() -> None:
    """Old QEMUs name no sub-leaf; the newer ones say nothing of PKRU's state any more, where pku is missing."""
    there, back = (
        between(SKYLAKE, "Skylake-Server-v4", Stack(qemu=one), Stack(qemu=other)) for one, other in (("7.2", "11.1"), ("11.1", "7.2"))
    )
    assert there.gone == back.new == ("host doesn't support requested feature: CPUID.0DH:EAX [bit 9]",)
    assert there.new == back.gone == ()
    assert any(".pku " in line for line in there.before.path.warnings)
    assert not set(there.before.path.warnings) & set(there.after.path.warnings)


def test_what_neither_side_tells_is_counted_bit_by_bit() -> None:
    """A bit's position was taken for its mask, so that many of an MSR that nobody tells counted as unchanged."""
    found = between(SKYLAKE, "host", Stack(kernel="6.1", qemu="7.2"), Stack(kernel="7.2", qemu="10.0"))
    sides = [
        open_bits(side.path, [feature.place.word for feature in all_features() if feature.bit]) for side in (found.before, found.after)
    ]
    read = {word for side in (found.before, found.after) for word in side.path.trace.steps[-1].after}
    both = [
        feature
        for feature in all_features()
        if feature.bit is not None
        and isinstance(feature.bit.word, MsrWord)
        and feature.bit.word in read
        and (feature.linux_names or feature.qemu_names)
        and all(side.get(feature.bit.word, 0) & feature.bit.mask for side in sides)
    ]
    assert number(both) > 60
    assert found.not_told >= number(both)


@pytest.mark.parametrize("name", [MILAN, SKYLAKE, "kvm-intel.sapphire_rapids-dmr@7.3"])
@pytest.mark.parametrize(("before", "after"), [(OLD, NEW), (Stack(kernel="5.15", qemu="6.2"), Stack(kernel="6.8", qemu="8.2"))])
def test_every_bit_that_differs_is_a_feature_s_or_in_a_register_that_is_named(name: str, before: Stack, after: Stack) -> None:
    found = between(name, "host", before, after)
    features = dict.fromkeys((change.feature.place for change in found.changes), True)
    others = {other.word for other in found.others}
    first, second = (side.path.trace.steps[-1].after for side in (found.before, found.after))
    words = {
        CpuidWord(*entry[:2], r) for side in (found.before, found.after) for entry in side.path.kept for r in ("eax", "ebx", "ecx", "edx")
    }
    hidden = [open_bits(side.path, words) for side in (found.before, found.after)]
    for word in words:
        differing = first.get(word, 0) ^ second.get(word, 0)
        for position in range(32):
            if differing >> position & 1 and word not in others and not any(one.get(word, 0) >> position & 1 for one in hidden):
                assert Bit(word, position) in features, (word, position)


def test_a_size_that_changes_is_no_feature_and_told_all_the_same() -> None:
    found = between("kvm-amd.EPYC-Milan-v2@6.12", "EPYC-Milan", Stack(kernel="5.15", qemu="6.2"), Stack(kernel="6.8", qemu="8.2"))
    assert found.changes == ()
    assert list(map(str, found.others)) == ["CPUID[eax=0Dh,ecx=01h].EBX: 00000000 before, 00000348 after (kvm, qemu)"]
    assert not found.settled


def test_a_register_is_told_once_whatever_index_a_QEMU_left_in_its_entry() -> None:
    """QEMU 7.2 leaves the number of its entries so far as the index of leaf 0x80000000."""
    found = between("kvm-intel.corei7_skylake_x-rnd01@6.12", "qemu64", Stack(qemu="7.2"), Stack(qemu="11.1"))
    places = [str(other.word) for other in found.others]
    assert "CPUID[eax=80000000h].EBX" in places
    assert len(places) == len(set(places))


def test_a_feature_of_two_bits_counts_once() -> None:
    """KVM's clock has two, and is in none of these guests' tables with kvm=off."""
    before, after = (Side.of(cpu, Setup.of(host(SKYLAKE), NEW)) for cpu in ("qemu64", "qemu64,kvm=off"))
    found = drift(before, after)
    assert [change.feature.name for change in found.changes].count("kvmclock") == 2
    assert found.count("lost") == found.count() == len({change.feature.name for change in found.changes})
    assert found.same + found.not_told + found.count() == drift(before, before).same + found.not_told


def test_what_is_not_told_is_looked_for_in_the_right_bits() -> None:
    """A feature's place is a word and a position: bit 8 of a word is not mask 8."""
    found = between("kvm-intel.corei7_skylake_x@6.1", "host", Stack(kernel="5.15", qemu="6.2"), Stack(kernel="6.8", qemu="8.2"))
    for change in (change for change in found.changes if change.change == "not told"):
        sides = [explain(change.feature, side.path).visible for side in (found.before, found.after)]
        assert sides == [change.before, change.after]
    features = [feature for feature in cpuid_features() if None in [explain(feature, s.path).visible for s in (found.before, found.after)]]
    told = {change.feature.name for change in found.changes if change.change == "not told"}
    both = [feature for feature in features if feature.name not in told]
    assert found.not_told >= len(both)
    assert found.depends
