"""A guest that moves from one host's libvirt to another's: what the first sends, and whether the second takes it.

The second gets the domain with its own <cpu>, and beside it the CPU as the guest has it (qemu_migration_cookie.c). It starts a QEMU with
that CPU, and since its check is full, QEMU must make of it exactly the features that are listed: no more, no less.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Literal

from vcpuid.errors import LibvirtError
from vcpuid.formats.documents import parse_xml
from vcpuid.libvirt import refusal
from vcpuid.libvirt.daemon import Libvirt
from vcpuid.libvirt.definition import OF_HOST
from vcpuid.libvirt.guest import Planned, Started
from vcpuid.libvirt.live import Running, sent
from vcpuid.libvirt.writing import text, write

NO_INVTSC = "State blocked by non-migratable CPU device (invtsc flag)"
NO_PASSTHROUGH = "'hv-passthrough' CPU flag prevents migration, use explicit set of hv-* flags instead"
"""QEMU's words (hyperv_init_vcpu and kvm_arch_init_vcpu, target/i386/kvm/kvm.c), in its order."""

Step = Literal["start", "leave", "arrive"]
"""Where it may fail: A does not start the guest, does not let it go, or B does not take it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What comes of it.

    `refusal` is libvirt's where it fails, and `step` the step. `live` is the <cpu> that A writes of the running guest, `sent` the one that
    it tells B, both None where A does not start it. `argument` is the -cpu that B's QEMU is started with, None where it does not come to
    that, and `machine` and `smp` are what else it is started with. `checked` tells whether B's libvirt holds what its QEMU made against
    what the guest has: it does not where the CPU is the host's own. `lost` and `gained` are the features that the guest then has on A alone
    and on B alone.
    """

    step: Step | None = None
    refusal: LibvirtError | None = None
    live: str | None = None
    sent: str | None = None
    argument: str | None = None
    machine: str | None = None
    smp: str = "1"
    checked: bool = True
    lost: tuple[str, ...] = ()
    gained: tuple[str, ...] = ()

    @property
    def outcome(self) -> tuple[object, ...]:
        """What two migrations are compared by."""
        return self.step, None if self.refusal is None else self.refusal.message, self.lost, self.gained


def migrate(domain: str, a: Libvirt, b: Libvirt) -> Migration:
    """Start a domain (its XML) on one host, and move it to another. Raises InputError for what is no domain's XML."""
    try:
        here = a.started({"do": "start", "domain": domain})
    except LibvirtError as error:
        return Migration("start", error)
    live, cookie = _text(here, a), text(write(sent(here.live, here.planned.asked, a.known), a.known.release))
    machine, smp = here.planned.machine, here.planned.smp
    was = a.realized(here.planned)
    if blockers := _blockers(here.planned, was, a):
        blocked = refusal.not_valid(f"cannot migrate domain: {'; '.join(blockers)}")
        return Migration("leave", blocked, live, cookie, machine=machine, smp=smp)
    moved = _as_sent(parse_xml(domain, "domain"), text(write(here.migratable, a.known.release)), machine)
    argument = None
    try:
        argument = b.planned({"do": "argv", "domain": moved}, cookie).argument
        there = b.started({"do": "start", "domain": moved}, cookie)
    except LibvirtError as error:
        return Migration("arrive", error, live, cookie, argument, machine, smp)
    if here.live.mode not in OF_HOST or here.live.check == "full":
        return Migration(None, None, live, cookie, argument, machine, smp)
    lost, gained = _differ(was, a, b.realized(there.planned), b)
    return Migration(None, None, live, cookie, argument, machine, smp, False, lost, gained)


def _text(started: Started, of: Libvirt) -> str:
    return text(write(started.live, of.known.release))


def _blockers(planned: Planned, running: Running, of: Libvirt) -> list[str]:
    """Give QEMU's reasons against a migration that hang on the CPU (qemuMigrationSrcIsAllowed asks for them)."""
    if planned.domain.virt == "qemu":
        return []
    hyperv = planned.domain.hyperv
    timed = any(name == "tsc" and frequency for name, _, frequency in planned.domain.timers)
    found = [NO_PASSTHROUGH] if hyperv is not None and hyperv.passthrough else []
    return [*found, NO_INVTSC] if running.enabled & of.known.mask("invtsc") and not timed else found


def _as_sent(root: ET.Element, cpu: str, machine: str) -> str:
    """Write the domain's XML as A sends it: with that <cpu>, and the machine type by its full name."""
    for element in root.findall("cpu"):
        root.remove(element)
    root.append(ET.fromstring(cpu))
    if (kind := root.find("os/type")) is None:
        kind = ET.SubElement(root.find("os") or ET.SubElement(root, "os"), "type", {"arch": "x86_64"})
        kind.text = "hvm"
    kind.set("machine", machine)
    return ET.tostring(root, encoding="unicode")


def _differ(one: Running, of_one: Libvirt, other: Running, of_other: Libvirt) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the features that the one CPU has alone, and the other; those that either libvirt does not know are not told."""
    known = of_one.known.numbers.keys() & of_other.known.numbers.keys()
    first, second = list(of_one.known.named(one.enabled)), list(of_other.known.named(other.enabled))
    return (
        tuple(name for name in first if name in known and name not in second),
        tuple(name for name in second if name in known and name not in first),
    )
