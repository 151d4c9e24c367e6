"""QEMU without KVM, as libvirt asks it and starts it: the same on every host."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.live import Running
from vcpuid.libvirt.names import from_qemu
from vcpuid.libvirt.realized import running
from vcpuid.libvirt.told import MACHINE, OTHERS, ModelOffer, QemuTold, names_of_models, of_drafts
from vcpuid.qemu import tcg
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.models import names_of


class Tcg:
    """A QEMU's TCG for a libvirt."""

    def __init__(self, release: str, known: CpuMap) -> None:
        self.release, self.known, self.tables = release, known, catalog(release)

    @property
    def told(self) -> QemuTold:
        """What QEMU tells libvirt; in place of "host" it is asked for "max"."""
        return _told(self.release, self.known)

    def run(self, cpu: str, machine: str) -> tuple[Running, tuple[str, ...]]:
        """Make the CPU of a -cpu argument, with QEMU's warnings; raises QemuError where QEMU refuses."""
        made, warnings = tcg.realized(self.release, machine, cpu)
        return running(made, self.tables, self.known), warnings


@lru_cache(maxsize=8)
def _told(release: str, known: CpuMap) -> QemuTold:
    tables = catalog(release)
    most, kept = (tcg.draft(release, MACHINE, cpu) for cpu in ("max,migratable=off", "max"))
    return of_drafts(most, kept, tables, known, _offers(release, tables))


def _offers(release: str, tables: Catalog) -> Iterator[tuple[str, ModelOffer]]:
    machine = find_machine(release, MACHINE)
    for name in names_of_models(tables):
        model = tables.models.get(name if name in OTHERS else tables.resolve_model(name, machine))
        made, _ = tcg.realized(release, MACHINE, name)
        yield name, ModelOffer(tuple(map(from_qemu, names_of(tables, made.filtered))), model is not None and model.deprecated)
