"""QEMU's part of a start, by `vcpuid.qemu`: which features the CPU has that it makes."""

from __future__ import annotations

from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.live import Running
from vcpuid.libvirt.names import from_qemu
from vcpuid.libvirt.told import features_in
from vcpuid.qemu import KvmHost
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.qemu.guest import make
from vcpuid.qemu.models import names_of
from vcpuid.qemu.state import CpuState
from vcpuid.setup import Setup

_SWITCHES = ("hv-", "kvm-")


def run(setup: Setup, kvm: KvmHost, known: CpuMap, cpu: str) -> tuple[Running, tuple[str, ...]]:
    """Make the CPU of a -cpu argument, with QEMU's warnings; raises QemuError where QEMU refuses."""
    made = make(cpu, setup, kvm)
    return _running(made.state, catalog(setup.vmm.tables), known), made.warnings


def _running(state: CpuState, tables: Catalog, known: CpuMap) -> Running:
    """Return what libvirt reads of the CPU object: its true booleans, and unavailable-features."""
    switches = {name for name, value in state.props.items() if value is True and name.startswith(_SWITCHES)}
    switches |= {name for name, (word, mask) in tables.flags.items() if name.startswith(_SWITCHES) and state.features[word] & mask == mask}
    if state.hyperv is not None:
        switches |= state.hyperv.flags
    disabled = known.masks(map(from_qemu, names_of(tables, state.filtered)))
    return Running(features_in(state.features, tables, known, aliases=True), disabled, frozenset(switches))
