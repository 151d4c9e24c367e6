"""What the host lacks: taken away, kept by force, reported or refused, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from support.qemu_captures import qemu_host
from vcpuid.cpuid.registers import CpuidTable, Entry, Snapshot
from vcpuid.errors import QemuError
from vcpuid.qemu.realize import realize
from vcpuid.releases import QEMUS

PREFIX = "host doesn't support requested feature: "


def host(name: str = "bochs/corei7_haswell_4770-rnd00@6.1") -> Snapshot:
    return qemu_host(name)


def edited(found: Snapshot, edit: Callable[[Entry], Entry]) -> Snapshot:
    """Return the host with what KVM supports changed."""
    assert found.supported is not None
    return replace(found, supported=CpuidTable(map(edit, found.supported)))


def test_what_kvm_lacks_goes_and_is_reported_bit_by_bit() -> None:
    state = realize("Haswell-v4,+avx512f,+clwb", host(), "10.0")
    assert not state.features["FEAT_7_0_EBX"] & (1 << 16 | 1 << 24)
    assert PREFIX + "CPUID.07H:EBX.avx512f [bit 16]" in state.warnings
    assert state.warnings.index(PREFIX + "CPUID.07H:EBX.avx512f [bit 16]") < state.warnings.index(PREFIX + "CPUID.07H:EBX.clwb [bit 24]")


def test_check_off_is_silent_and_enforce_refuses() -> None:
    assert realize("Haswell-v4,+avx512f,check=off", host()).warnings == ()
    assert not realize("Haswell-v4,+avx512f,check=off", host()).features["FEAT_7_0_EBX"] & 1 << 16
    with pytest.raises(QemuError, match=r"^Host doesn't support requested features$") as refusal:
        realize("Haswell-v4,+avx512f,enforce", host())
    assert any("avx512f" in warning for warning in refusal.value.warnings)
    assert realize("host,enforce", host()).warnings == ()


def test_force_keeps_and_still_reports() -> None:
    state = realize("Haswell-v4,+avx512f,x-force-features=on", host(), "10.0")
    assert state.features["FEAT_7_0_EBX"] & 1 << 16
    assert PREFIX + "CPUID.07H:EBX.avx512f [bit 16]" in state.warnings


@pytest.mark.parametrize("release", QEMUS)
def test_host_takes_nothing_that_kvm_lacks(release: str) -> None:
    for cpu in ("host", "max", "host,migratable=off"):
        state = realize(cpu, host(), release)
        assert not [warning for warning in state.warnings if warning.startswith(PREFIX)]
        assert not [decision for decision in state.decisions if decision.rule.id == "qemu.filter.kvm"]


def test_migratable_keeps_back_what_has_no_name_and_invtsc() -> None:
    stable = edited(host(), lambda entry: entry._replace(edx=entry.edx | 1 << 8) if entry.function == 0x80000007 else entry)
    assert not realize("host", stable).features["FEAT_8000_0007_EDX"] & 1 << 8
    assert realize("host,migratable=off", stable).features["FEAT_8000_0007_EDX"] & 1 << 8
    assert realize("host,tsc-frequency=2000000000", stable, "11.1").features["FEAT_8000_0007_EDX"] & 1 << 8
    assert not realize("host,tsc-frequency=2000000000", stable, "7.2").features["FEAT_8000_0007_EDX"] & 1 << 8


def test_a_lesser_avx10_lowers_the_version_unless_forced() -> None:
    found = host("bochs/sapphire_rapids-gnr@6.12")
    state = realize("base,avx10-version=2", found, "11.1")
    assert state.props["avx10-version"] == 1
    assert state.warnings[-1] == f"{PREFIX}avx10.2. Adjust to avx10.1"
    forced = realize("base,avx10-version=2,x-force-features=on", found, "11.1")
    assert forced.props["avx10-version"] == 2
    assert forced.warnings[-1] == f"{PREFIX}avx10.2."
    assert realize("base,avx10-version=2", host(), "10.0").warnings == (f"{PREFIX}avx10.2.",)


def test_processor_trace_has_to_match_qemus_own() -> None:
    found = host("bochs/sapphire_rapids-dmrfred@6.1")
    assert found.supported is not None
    whole = {0: (1, 0xF, 7, 0), 1: (0x02490002, 0x003F3FFF, 0, 0)}

    def traced(entry: Entry) -> Entry:
        if entry.function == 7 and entry.index == 0:
            return entry._replace(ebx=entry.ebx | 1 << 25)
        if entry.function == 0x14 and entry.index in whole:
            eax, ebx, ecx, edx = whole[entry.index]
            return entry._replace(eax=eax, ebx=ebx, ecx=ecx, edx=edx)
        return entry

    kept = [entry for entry in found.supported if entry.function != 0x14]
    table = CpuidTable([*kept, Entry(0x14, 0, 1, 0, 0, 0, 0), Entry(0x14, 1, 1, 0, 0, 0, 0)])
    host_with = edited(replace(found, supported=table), traced)
    assert realize("host", host_with).features["FEAT_7_0_EBX"] & 1 << 25
    whole[1] = (0x02490001, 0x003F3FFF, 0, 0)  # one address range too few
    lesser = realize("host", edited(replace(found, supported=table), traced))
    assert not lesser.features["FEAT_7_0_EBX"] & 1 << 25
    assert lesser.warnings == (f"{PREFIX}CPUID[eax=07h,ecx=00h].EBX.intel-pt [bit 25]",)


def test_mpx_and_apx_exclude_each_other() -> None:
    def both(entry: Entry) -> Entry:
        if entry.function == 7 and entry.index == 0:
            return entry._replace(ebx=entry.ebx | 1 << 14)
        return entry._replace(edx=entry.edx | 1 << 21) if entry.function == 7 and entry.index == 1 else entry

    found = edited(host("bochs/sapphire_rapids-dmr@7.3"), both)
    state = realize("max,check=off", found, "11.1")
    assert state.warnings == (
        "this feature conflicts with APX: CPUID[eax=07h,ecx=00h].EBX.mpx [bit 14]",
        "this feature conflicts with MPX: CPUID[eax=07h,ecx=01h].EDX.apxf [bit 21]",
    )
    assert not state.features["FEAT_7_0_EBX"] & 1 << 14
    assert not state.features["FEAT_7_1_EDX"] & 1 << 21
    assert realize("max,-mpx,check=off", found, "11.1").features["FEAT_7_1_EDX"] & 1 << 21


def test_address_bits_are_the_hosts_where_asked() -> None:
    found = host()
    wide = replace(found, raw=CpuidTable(entry._replace(eax=0x302E) if entry.function == 0x80000008 else entry for entry in found.raw))
    assert realize("Haswell", wide).phys_bits == 40
    assert realize("Haswell", wide, "11.1", "microvm").phys_bits == 46
    assert realize("Haswell,host-phys-bits=on", wide).phys_bits == 46
    assert realize("host", wide).phys_bits == 46
    assert realize("host,host-phys-bits-limit=38", wide).phys_bits == 38
    state = realize("Haswell,phys-bits=44", wide)
    assert state.phys_bits == 44
    assert state.warnings[-1:] == state.once == ("Host physical bits (46) does not match phys-bits property (44)",)


def test_guest_address_bits_are_kvms_but_on_old_machine_types() -> None:
    less = edited(host(), lambda entry: entry._replace(eax=entry.eax | 36 << 16) if entry.function == 0x80000008 else entry)
    assert realize("host", less, "10.0").guest_phys_bits == 36
    assert realize("host", less, "10.0", "pc-q35-9.0").guest_phys_bits == 0
    assert realize("host", less, "7.2").guest_phys_bits == 0
    assert realize("host,guest-phys-bits=39", less, "10.0").guest_phys_bits == 39


def test_without_long_mode_address_bits_follow_paging() -> None:
    assert realize("pentium", host()).phys_bits == 32
    assert realize("pentium,+pae", host(), "7.2").phys_bits == 32
    assert realize("pentium,+pae", host(), "10.0").phys_bits == 36
