"""How a fact can be given: no way is named that would not give it, and none that is needed is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

import vcpuid
from support.captures import MITIGATIONS_OFF, host, release
from vcpuid import Setup, Stack
from vcpuid.cpuid import CpuidWord, MsrTable, MsrWord, Snapshot
from vcpuid.cpuid.hardware_msrs import KEPT
from vcpuid.errors import InputError
from vcpuid.kvm.feature_msrs import VMX
from vcpuid.linux.machine import MICROCODE, Machine
from vcpuid.told import plausible
from vcpuid.told.completions import untold
from vcpuid.told.facts import TABLE, Fact, NotTold, WholeLeaf, grouped, remedy, sentences

SKYLAKE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3"
LEAF, BIT = Fact(WholeLeaf(7)), Fact(CpuidWord(7, 0, "ebx"), 5)
CAPABILITIES, REVISION, SECONDARY = Fact(MsrWord(0x10A)), Fact(MsrWord(MICROCODE)), Fact(MsrWord(0x48B), 1)
TERTIARY = Fact(MsrWord(0x492))

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ((LEAF,), "give a whole dump of its CPUID (vcpuid collect, cpuid -1r)"),
        ((CAPABILITIES,), "give a snapshot that vcpuid collect takes on the host as root or --param msr.10a=VALUE"),
        ((TERTIARY,), "give a snapshot that vcpuid collect takes on the host as root or --param msr.492=VALUE"),
        ((REVISION,), "give a snapshot that vcpuid collect takes on the host or --param microcode=REVISION"),
        ((SECONDARY,), "give a snapshot that vcpuid collect takes on the host with access to /dev/kvm or --param msr.48b=VALUE"),
        (
            (CAPABILITIES, SECONDARY),
            "give a snapshot that vcpuid collect takes on the host as root with access to /dev/kvm or --param msr.10a=VALUE and the like "
            "for 1 more",
        ),
        ((Fact(MsrWord(0x9999)),), "give --param msr.9999=VALUE"),
        (
            (LEAF._replace(of=TABLE), CAPABILITIES),
            "give a snapshot that vcpuid collect takes on the host as root or --param msr.10a=VALUE, and the whole table (cpuid -1r or "
            "vcpuid collect in the guest, or a recording of KVM_SET_CPUID2)",
        ),
    ],
)
def test_each_fact_is_given_in_its_own_way(facts: tuple[Fact, ...], told: str) -> None:
    assert remedy(facts) == told


def test_collecting_reads_every_msr_that_can_be_untold() -> None:
    """What KVM lists it reads from /dev/kvm, the microcode's revision from /proc/cpuinfo, the rest from /dev/cpu/N/msr."""
    for name in (SKYLAKE, MILAN):
        bare = Snapshot(raw=host(name).raw)
        assert {fact.place.msr for fact in untold(Setup.of(bare)) if isinstance(fact.place, MsrWord)} <= KEPT
    assert KEPT.issuperset(plausible.VMX)


def test_the_hardware_s_msr_that_kvm_does_not_list_is_told_by_the_hardware() -> None:
    whole = replace(host(SKYLAKE), table=None, kept=None)
    assert TERTIARY.place.msr not in VMX  # type: ignore[union-attr]
    assert TERTIARY in untold(Setup.of(whole))
    told = Setup.of(replace(whole, hardware_msrs=MsrTable({0x492: 0})))
    assert TERTIARY not in untold(told)
    assert SECONDARY.whole in untold(Setup.of(replace(whole, msrs=MsrTable(), hardware_msrs=MsrTable({0x48B: 0}))))


@pytest.mark.parametrize(("name", "value"), [(SKYLAKE, 0x0200005E << 32), (MILAN, 0x0200005E)])
def test_a_revision_is_held_where_the_vendor_has_it(name: str, value: int) -> None:
    bare = Snapshot(raw=host(name).raw)
    given = Setup.of(bare, Stack(params={"microcode": 0x0200005E}))
    assert Machine(given).msr(MICROCODE) == value
    assert REVISION in untold(Setup.of(bare))
    assert REVISION not in untold(given)


@pytest.mark.parametrize("value", ["new", -1, 1 << 32, True])
def test_what_is_no_revision_is_refused(value: str | int) -> None:
    with pytest.raises(InputError, match="parameter microcode"):
        Setup.of(Snapshot(raw=host(SKYLAKE).raw), Stack(params={"microcode": value}))


def test_a_revision_and_its_msr_are_one_too_many() -> None:
    with pytest.raises(InputError, match=r"microcode and msr\.8b"):
        Setup.of(Snapshot(raw=host(SKYLAKE).raw), Stack(params={"microcode": 1, "msr.8B": 2}))


def test_an_old_revision_takes_what_intel_withdrew() -> None:
    """A Skylake's first microcode with SPEC_CTRL is on Linux's black list (bad_spectre_microcode, cpu/intel.c)."""
    name = "kvm-intel.corei7_skylake_x@6.12"
    raw = host(name).raw
    edx = raw.registers(7).edx | 1 << 26 | 1 << 27 | 1 << 31
    table = type(raw)(entry._replace(edx=edx) if entry[:2] == (7, 0) else entry for entry in raw)
    seen = [
        vcpuid.explain("spec-ctrl", host=Snapshot(raw=table), stack=Stack(release(name), params={**MITIGATIONS_OFF, **given})).visible
        for given in ({"microcode": 0x0200003C}, {"microcode": 0x02007006}, {"msr.8b": 0x0200003C << 32})
    ]
    assert seen == [False, True, False]


def test_what_hangs_on_bits_of_one_leaf_is_told_together() -> None:
    other = Fact(CpuidWord(7, 0, "ebx"), 8)
    open_ = [NotTold("avx2", (BIT,)), NotTold("bmi2", (other,)), NotTold("rtm", (Fact(MsrWord(0x10A), 7),))]
    assert grouped(open_) == {(LEAF,): ["avx2", "bmi2"], (Fact(MsrWord(0x10A), 7),): ["rtm"]}
    assert sentences(open_)[0] == "Not told: avx2 bmi2: depends on CPUID[eax=07h,ecx=00h]."
    assert grouped(open_[:1]) == {(BIT,): ["avx2"]}
