"""A guest beside its host: what differs, who caused it, and where the path does not know."""

from __future__ import annotations

import pytest

from support import captures
from support.captures import MITIGATIONS_OFF, host
from vcpuid import Stack, resolve
from vcpuid.answers.compare import UNKNOWN, Difference, by_feature, by_register, sides
from vcpuid.answers.compare_flags import GUEST_LINUX, by_flag
from vcpuid.answers.survey import survey
from vcpuid.cpuid import CpuidTable, CpuidWord, Snapshot
from vcpuid.cpuid.names import find
from vcpuid.errors import InputError, QemuError
from vcpuid.path.pipeline import guest_view

SKYLAKE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3"


def stack(name: str) -> Stack:
    return captures.stack(name, params=MITIGATIONS_OFF)


def guest(cpu: str, name: str = SKYLAKE) -> Snapshot:
    """What a collector in the guest would bring home, by the path."""
    return Snapshot(raw=guest_view(resolve(cpu, host=host(name), stack=stack(name))))


def named(found: list[Difference]) -> dict[str, Difference]:
    return {difference.what: difference for difference in found}


@pytest.mark.parametrize(("cpu", "name"), [("Haswell", SKYLAKE), ("host", SKYLAKE), ("EPYC", MILAN), ("qemu64", MILAN)])
def test_the_paths_own_guest_differs_as_the_survey_says(cpu: str, name: str) -> None:
    """But for leaves past the last: the survey takes what CPUID answers there for features, which no guest does."""
    both = sides(host(name), None, cpu, stack(name))
    found = survey(both.path)
    expected = {(told.feature.name, party) for side in (found.lost, found.gained) for party, of in side.items() for told in of}
    differing = {(d.what, d.party) for d in by_feature(both)}
    odd = {find(what).place.word for what, _ in differing ^ expected}
    assert not both.observed
    assert all(word.function > both.path.kept.registers(0).eax for word in odd if isinstance(word, CpuidWord))


def test_kvms_own_features_are_kvms_gift() -> None:
    """An Intel processor answers leaf 0x40000001 with its last leaf's bits: they are no features of the host."""
    found = named(by_feature(sides(host(SKYLAKE), None, "Haswell-noTSX", stack(SKYLAKE))))
    assert (found["kvmclock"].host, found["kvmclock"].guest, found["kvmclock"].party) == (False, True, "kvm")


def test_each_line_names_the_party_and_its_rule() -> None:
    found = named(by_feature(sides(host(SKYLAKE), None, "Haswell-noTSX", stack(SKYLAKE))))
    assert (found["avx512f"].host, found["avx512f"].guest, found["avx512f"].party) == (True, False, "qemu")
    assert "qemu.model.absent" in found["avx512f"].rules
    assert (found["est"].party, found["est"].rules) == ("kvm", ("kvm.caps.not-listed",))
    assert (found["hypervisor"].host, found["hypervisor"].guest, found["hypervisor"].party) == (False, True, "qemu")


def test_registers_name_the_last_party_that_changed_them() -> None:
    found = named(by_register(sides(host(SKYLAKE), None, "Haswell-noTSX", stack(SKYLAKE))))
    assert found["1.0.eax"].party == "qemu"
    assert found["1.0.eax"].rules[-1] == "qemu.leaf.signature"
    assert found["5.0.eax"].host == 0x40
    assert all(difference.host != difference.guest for difference in found.values())
    assert all(difference.rules for difference in found.values() if difference.party in ("kvm", "qemu"))


@pytest.mark.parametrize(("cpu", "name"), [("Haswell-noTSX", SKYLAKE), ("host", SKYLAKE), ("EPYC", MILAN), ("host", MILAN)])
def test_an_observed_guest_that_does_as_the_path_says_has_nothing_unknown(cpu: str, name: str) -> None:
    both = sides(host(name), guest(cpu, name), cpu, stack(name))
    assert both.observed
    for found in (by_feature(both), by_register(both)):
        assert found
        assert not [difference for difference in found if difference.party == UNKNOWN]


def test_what_the_path_does_not_lead_to_is_unknown() -> None:
    """A guest whose VMM took AVX2 away and kept SMEP, against -cpu Haswell-noTSX,-smep."""
    seen = guest("Haswell-noTSX")
    odd = Snapshot(raw=CpuidTable(e._replace(ebx=e.ebx & ~(1 << 5) | 1 << 16) if e[:2] == (7, 0) else e for e in seen.raw))
    both = sides(host(SKYLAKE), odd, "Haswell-noTSX", stack(SKYLAKE))
    found = named(by_feature(both))
    assert (found["avx2"].party, found["avx2"].rules) == (UNKNOWN, ())
    assert found["avx2"].why == "HOST with -cpu Haswell-noTSX would give a guest this"
    assert "avx512f" not in found  # both sides have it: no difference, whatever the path says
    assert named(by_register(both))["7.0.ebx"].party == UNKNOWN


@pytest.mark.parametrize("cpu", ["host", "Haswell-v2", "Skylake-Server-v3", "Nehalem-v1"])
def test_the_guests_cpu_is_guessed_from_what_it_shows(cpu: str) -> None:
    both = sides(host(SKYLAKE), guest(cpu), None, stack(SKYLAKE))
    assert both.guessed
    assert both.path.cpu == cpu
    assert not [difference for difference in by_feature(both) if difference.party == UNKNOWN]


def test_a_guest_that_is_like_its_host_shows_no_difference() -> None:
    alike = Snapshot(raw=host(SKYLAKE).raw)
    both = sides(host(SKYLAKE), alike, "host", stack(SKYLAKE))
    assert by_feature(both) == by_register(both) == []


def test_flags_are_those_of_cpuinfo_on_both_sides() -> None:
    both = sides(host(SKYLAKE), None, "Haswell-noTSX", stack(SKYLAKE))
    found = named([d for d in by_flag(both) if d.place == "flags"])
    assert (found["avx512f"].host, found["avx512f"].guest, found["avx512f"].party) == (True, False, "qemu")
    assert (found["hypervisor"].guest, found["hypervisor"].party) == (True, "qemu")
    assert (found["tsc_known_freq"].host, found["tsc_known_freq"].party) == (False, GUEST_LINUX)
    assert "osxsave" not in found
    vmx = [d for d in by_flag(both) if d.place == "vmx flags"]
    assert vmx
    assert {d.party for d in vmx} == {"qemu"}
    assert all(d.why.startswith("vmx: ") for d in vmx)


def test_what_the_hosts_and_the_guests_kernel_printed_wins() -> None:
    shown = host(SKYLAKE).cpuinfo
    seen = guest("Haswell-noTSX")
    printed = Snapshot(raw=seen.raw, cpuinfo={"flags": shown["flags"] + " brand_new", "bugs": shown["bugs"]})
    both = sides(host(SKYLAKE), printed, "Haswell-noTSX", stack(SKYLAKE))
    assert not [d for d in by_flag(both) if d.place in ("flags", "bugs")]
    without = Snapshot(raw=seen.raw, cpuinfo={"flags": shown["flags"].replace(" avx2 ", " "), "bugs": shown["bugs"]})
    both = sides(host(SKYLAKE), without, "Haswell-noTSX", stack(SKYLAKE))
    assert [(d.what, d.party) for d in by_flag(both) if d.place in ("flags", "bugs")] == [("avx2", UNKNOWN)]


def test_a_newer_kernel_in_the_guest_shows_what_the_older_hosts_does_not() -> None:
    both = sides(host("kvm-intel.sapphire_rapids-xfd@6.1"), None, "host", Stack(kernel="6.1", params={"cmdline": "mitigations=off"}))
    older, newer = (named(by_flag(both, kernel)) for kernel in ("6.1", "7.3"))
    assert set(newer) - set(older)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="neither a guest"):
        sides(host(SKYLAKE))
    with pytest.raises(InputError, match="RAW"):
        sides(host(SKYLAKE), Snapshot())
    with pytest.raises(QemuError, match="unable to find CPU model"):
        sides(host(SKYLAKE), None, "Haswel")
