"""A guest's <cpu> carried over to other forms as it was asked for: written again, or as the -cpu that libvirt would make of it.

What stands in it besides a model and features that are there or not is an `Aspect`; a form says which kinds of them it holds, and the
others are lost.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.errors import InputError
from vcpuid.formats.documents import parse_xml
from vcpuid.libvirt.cpu_map import cpu_map
from vcpuid.libvirt.definition import OF_HOST, CpuDef
from vcpuid.libvirt.domain import read
from vcpuid.libvirt.guest import Planned, plan
from vcpuid.libvirt.host_models import HostModels
from vcpuid.libvirt.layout import lines as laid_out
from vcpuid.libvirt.request import domain_of
from vcpuid.libvirt.tcg import Tcg
from vcpuid.libvirt.told import MACHINE
from vcpuid.qemu.catalog import resolve_machine
from vcpuid.releases import Release

_USUAL = {"mode": "custom", "match": "exact", "fallback": "allow"}
"""What a <cpu> means that does not say it."""
_PLAIN = ("require", "disable")
_OUTSIDE = ("features/hyperv", "features/kvm", "features/pmu", "features/pvspinlock", "features/apic[@eoi]", "clock/timer")
"""What makes a part of a guest's CPU and stands in the domain, not in its <cpu>."""
_WIDEST = 64
"""No host has as many physical address bits: without one, none is looked at."""

IN_QEMU = frozenset(("migratable", "vendor_id", "cache", "maxphysaddr"))
"""The kinds that QEMU's -cpu holds, whatever the mode."""
IN_SNAPSHOTS = frozenset(("vendor",))
"""The kinds that forms hold which are about CPUID or names alone."""


class Aspect(NamedTuple):
    """Something that a <cpu> says besides model and features: its kind, and how it stands there."""

    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class GuestXml:
    """A guest's CPU as a file has it: the <cpu>, and the <domain> around it where there is one."""

    cpu: ET.Element
    domain: ET.Element | None
    text: str

    @classmethod
    def of(cls, text: str) -> GuestXml | None:
        """Take a text for one; None where it is no guest's: what has an <arch> is a host's, and what is damaged is nobody's."""
        if not text.lstrip().startswith("<") or "<cpu" not in text:
            return None
        try:
            root = parse_xml(text, "domain")
        except InputError:
            return None
        cpu = root.find("cpu") if root.tag == "domain" else root
        if cpu is None or cpu.tag != "cpu" or (cpu is root and any(cpu.find(tag) is not None for tag in ("arch", "mode"))):
            return None
        return cls(cpu, None if cpu is root else root, text)

    @property
    def request(self) -> dict[str, str]:
        """What libvirt is asked to start it."""
        return {"do": "start", "cpu" if self.domain is None else "domain": self.text}

    def lines(self) -> list[str]:
        """Write the <cpu> again, laid out as libvirt does."""
        return list(laid_out(self.cpu))

    def outside(self) -> Iterator[str]:
        """Say what of the guest's CPU stands outside its <cpu>."""
        found = dict.fromkeys(path.rpartition("/")[2].partition("[")[0] for path in _OUTSIDE if self._in_domain(path))
        yield from (f"the domain's <{tag}>, which stands outside <cpu>" for tag in found)

    def _in_domain(self, path: str) -> bool:
        return self.domain is not None and self.domain.find(path) is not None

    def aspects(self) -> Iterator[Aspect]:
        """Give all that the <cpu> says besides a model, and features that are there or not."""
        yield from _attributes(self.cpu)
        for child in self.cpu:
            if child.tag == "model":
                yield from _attributes(child)
            elif child.tag == "feature":
                policy = child.get("policy", "require")
                if policy not in _PLAIN:
                    yield Aspect("policy", f"policy='{policy}' of {child.get('name')}")
            else:
                yield Aspect(child.tag, f"<vendor>{child.text}</vendor>" if child.tag == "vendor" else f"<{child.tag}>")

    def lost(self, kept: frozenset[str]) -> list[str]:
        """Name what is lost in a form that holds some kinds of aspects."""
        return [aspect.text for aspect in self.aspects() if aspect.kind not in kept]


def _attributes(element: ET.Element) -> Iterator[Aspect]:
    for name, value in element.items():
        if _USUAL.get(name) != value:
            yield Aspect(name, f"{name}='{value}'")


def lost_in_qemu(guest: GuestXml, planned: Planned) -> list[str]:
    """Name what a -cpu does not say of a guest's <cpu>: what libvirt alone looks at or settles, and what it does not pass on."""
    own = IN_QEMU | ({"mode"} if planned.asked.mode in OF_HOST else set())
    dropped = {note.feature: note.reason for note in planned.journal.rulings if note.policy is None}
    return [*guest.lost(own), *(f"{feature}: {reason}" for feature, reason in dropped.items())]


def hostless(guest: GuestXml, release: Release, qemu: str) -> Planned:
    """Work out how libvirt would start a guest with a QEMU of those tables on any host, without its check.

    Raises InputError where it hangs on the host, LibvirtError where libvirt refuses the <cpu> on all of them.
    """
    known = cpu_map(release.tables)
    hosts = HostModels(Tcg(qemu, known).told, known)
    domain = read(domain_of(guest.request), known.release)
    if domain.cpu is not None and (why := _of_host(domain.cpu, hosts)):
        raise InputError(f"{why}: give --host", source="domain")
    return plan(domain, hosts, resolve_machine(qemu, domain.machine or MACHINE), _WIDEST, unchecked=True)


def _of_host(cpu: CpuDef, hosts: HostModels) -> str | None:
    """Say why it hangs on the host what libvirt makes of a <cpu>; None where it does not."""
    if cpu.mode == "host-model" or cpu.match == "minimum":
        how = "mode='host-model'" if cpu.mode == "host-model" else "match='minimum'"
        return f"{how} is what libvirt makes of a host's CPU"
    if optional := [name for name, policy in cpu.features.items() if policy == "optional"]:
        return f"policy='optional' of {' '.join(optional)} is settled by the host"
    if cpu.mode == "custom" and cpu.model in hosts.known.models and cpu.model not in hosts.blockers:
        return f"QEMU has no model {cpu.model}, and which one libvirt takes in its place depends on the host"
    return None
