"""QEMU's part of a start, by `vcpuid.qemu`: which features the CPU has that it makes."""

from __future__ import annotations

from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.live import Running
from vcpuid.libvirt.names import from_qemu
from vcpuid.libvirt.told import features_in
from vcpuid.qemu import KvmHost
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.qemu.draft import Draft
from vcpuid.qemu.guest import make
from vcpuid.qemu.models import names_of
from vcpuid.qemu.state import CpuState
from vcpuid.setup import Setup

_SWITCHES = ("hv-", "kvm-")


def run(setup: Setup, kvm: KvmHost, known: CpuMap, cpu: str) -> tuple[Running, tuple[str, ...]]:
    """Make the CPU of a -cpu argument, with QEMU's warnings; raises QemuError where QEMU refuses."""
    made = make(cpu, setup, kvm)
    found = running(made.state, catalog(setup.vmm.tables), known)
    hyperv = made.state.hyperv
    return found if hyperv is None else found._replace(switches=found.switches | hyperv.flags), made.warnings


def running(cpu: CpuState | Draft, tables: Catalog, known: CpuMap) -> Running:
    """Return what libvirt reads of the CPU object: its true booleans, and unavailable-features; without what KVM has of Hyper-V."""
    switches = {name for name, value in cpu.props.items() if value is True and name.startswith(_SWITCHES)}
    switches |= {name for name, (word, mask) in tables.flags.items() if name.startswith(_SWITCHES) and cpu.features[word] & mask == mask}
    disabled = known.masks(map(from_qemu, names_of(tables, cpu.filtered)))
    return Running(features_in(cpu.features, tables, known, aliases=True), disabled, frozenset(switches))
