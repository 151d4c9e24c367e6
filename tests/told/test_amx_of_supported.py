"""A host of which only KVM's answer is told has the state of AMX's tiles where that answer says so, though no leave was asked for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.captures import MACHINES, host, release
from vcpuid import Snapshot, Stack, resolve
from vcpuid.cpuid import CpuidTable, xfeatures
from vcpuid.hazards import of_path

WITH_AMX = [name for name in MACHINES if host(name).raw.registers(7).edx >> 24 & 1 and host(name).raw.registers(0xD).eax & xfeatures.AMX]


def alone(name: str) -> Snapshot:
    """What KVM supports, and nothing of the processor."""
    whole = host(name)
    return Snapshot(supported=whole.supported, emulated=whole.emulated, hyperv=whole.hyperv, msrs=whole.msrs, kernel=whole.kernel)


@pytest.mark.parametrize("name", WITH_AMX)
def test_a_guest_has_it_as_on_the_whole_host(name: str) -> None:
    part, whole = (
        resolve("host", host=snapshot, stack=Stack(release(name)))
        for snapshot in (alone(name), replace(host(name), table=None, kept=None, set_result=None))
    )
    for function, index in ((0xD, 0), (0xD, 17), (0xD, 18), (0x1D, 0), (0x1D, 1)):
        assert part.tables[0].registers(function, index) == whole.tables[0].registers(function, index)
    assert part.tables[0].registers(7).edx == whole.tables[0].registers(7).edx
    assert {hazard.rule.id for hazard in of_path(part)} <= {hazard.rule.id for hazard in of_path(whole)}


def test_without_xfd_kvm_has_no_tiles_to_give() -> None:
    told = alone("kvm-intel.sapphire_rapids-xfd@7.3")
    assert told.supported is not None
    without = CpuidTable(e._replace(eax=e.eax & ~(1 << 4)) if e[:2] == (0xD, 1) else e for e in told.supported)
    path = resolve("host", host=replace(told, supported=without), stack=Stack("7.3"))
    assert not path.tables[0].registers(0xD).eax & xfeatures.AMX
