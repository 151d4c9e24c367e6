"""Which features a migration hangs on, and which party has it so."""

from __future__ import annotations

import pytest

from support.libvirt_captures import played
from vcpuid.answers.moving import moving
from vcpuid.libvirt import connect
from vcpuid.libvirt.migration import migrate

SKYLAKE, IVY = "bochs/corei7_skylake_x@6.12", "bochs/corei7_ivy_bridge_3770k@6.12"
DOMAIN = "<domain type='kvm'><os><type arch='x86_64' machine='q35'>hvm</type></os>{cpu}</domain>"
FORBID = "<cpu mode='host-model'><feature policy='forbid' name='xop'/></cpu>"


def rows(cpu: str, a: str, b: str) -> dict[str, tuple[str | None, str | None]]:
    (one, kvm), (other, other_kvm) = played(a, "11.3.0"), played(b, "11.3.0")
    found = migrate(DOMAIN.format(cpu=cpu), connect(one, "11.3", kvm), connect(other, "11.3", other_kvm))
    return {str(row["feature"]): (row["change"], row["party"]) for row in moving(found, one, other)}


def test_what_b_misses_is_told_of_bs_path() -> None:
    found = rows("<cpu mode='host-model'/>", SKYLAKE, IVY)
    assert found["avx2"] == ("missing", "silicon")
    assert found["vmx-xsaves"] == ("missing", "qemu")


def test_what_a_does_not_start_is_told_of_as_path() -> None:
    found = rows("<cpu mode='custom'><model>Haswell</model></cpu>", IVY, SKYLAKE)
    assert found["avx2"] == ("refused", "silicon")


def test_where_nobody_looks_it_is_lost_or_gained() -> None:
    assert rows("<cpu mode='host-passthrough'/>", IVY, SKYLAKE)["avx2"] == ("gained", "silicon")
    assert rows("<cpu mode='host-passthrough'/>", SKYLAKE, IVY)["avx2"] == ("lost", "silicon")


@pytest.mark.parametrize("cpu", ["<cpu mode='host-model'/>", "<cpu mode='host-passthrough'/>", FORBID])
def test_on_the_same_host_there_is_nothing_to_tell(cpu: str) -> None:
    assert rows(cpu, SKYLAKE, SKYLAKE) == {}


def test_what_blocks_a_guest_is_on_a() -> None:
    found = rows("<cpu mode='host-passthrough' migratable='off'/>", SKYLAKE, IVY)
    assert {name: change for name, (change, _) in found.items()} == {"invtsc": "blocks"}
