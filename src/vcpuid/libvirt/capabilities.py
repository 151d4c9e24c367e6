"""What `virsh capabilities` and `virsh domcapabilities` say of the CPU (src/cpu/cpu_x86.c, src/conf/domain_capabilities.c)."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from vcpuid.kvm.answers import Answers
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.decode import decode
from vcpuid.libvirt.definition import Addresses, Counter, CpuDef
from vcpuid.libvirt.domain import ENLIGHTENMENTS
from vcpuid.libvirt.host_models import HostModels, expanded
from vcpuid.libvirt.silicon import address_bits, microcode, processor
from vcpuid.libvirt.told import HypervOffer
from vcpuid.libvirt.writing import fill
from vcpuid.qemu import KvmHost

EXPAND, SUPPORTED = 2, 4
"""Flags of virConnectGetDomainCapabilities since 12.9: list a model's own features too, and those that QEMU leaves off by default."""

_SORTED = (12, 9)
"""Since that release host-model's features stand by name in domcapabilities."""
_NO_SPINLOCKS = 0xFFFFFFFF
_LEAST_SPINLOCKS = 4095


def host_cpu(says: Answers, known: CpuMap, kvm: KvmHost) -> CpuDef:
    """Return the host's CPU of `virsh capabilities`."""
    silicon = processor(says, known)
    cpu = decode(silicon, known, of_host=True)
    cpu.arch = "x86_64"
    cpu.microcode = microcode(says)
    if silicon.features & known.mask("invtsc") and kvm.tsc_khz is not None:
        cpu.tsc = Counter(kvm.tsc_khz * 1000, "yes" if kvm.tsc_scaling else "no")
    cpu.addresses = Addresses("emulate", bits=address_bits(says))
    return cpu


def domain_cpu(hosts: HostModels, *, bits: int, tcg: bool, flags: int) -> ET.Element:
    """Return the <cpu> of `virsh domcapabilities`; `bits` are the host's physical address bits."""
    element, release = ET.Element("cpu"), hosts.known.release
    for mode in ("host-passthrough", "maximum"):
        if mode == "host-passthrough" and tcg:
            ET.SubElement(element, "mode", {"name": mode, "supported": "no"})
            continue
        supported = ET.SubElement(element, "mode", {"name": mode, "supported": "yes"})
        kind = "hostPassthroughMigratable" if mode == "host-passthrough" else "maximumMigratable"
        _enum(supported, kind, ("on", "off"))
    model = ET.SubElement(element, "mode", {"name": "host-model", "supported": "yes"})
    fill(model, _host_model(hosts, bits=bits, tcg=tcg, flags=flags), release)
    custom = ET.SubElement(element, "mode", {"name": "custom", "supported": "yes"})
    _models(custom, hosts)
    return element


def _host_model(hosts: HostModels, *, bits: int, tcg: bool, flags: int) -> CpuDef:
    release, cpu = hosts.known.release, hosts.reported.copy()
    if release >= (11, 0) and not tcg:
        cpu.addresses = Addresses("passthrough", limit=bits)
    if flags & SUPPORTED:
        cpu.features.update(dict.fromkeys(hosts.known.named(hosts.told.supported), "require"))
    if flags & EXPAND:
        cpu = expanded(cpu, hosts.known)
    if release >= _SORTED:
        cpu.features = dict(sorted(cpu.features.items()))
    return cpu


def _models(element: ET.Element, hosts: HostModels) -> None:
    """List QEMU's models that the map knows (virDomainCapsCPUCustomFormat)."""
    known, offers = hosts.known, hosts.told.offers
    newer = known.release >= (11, 0)
    names = [name for name in offers if name in known.models and name != "host"]
    for name in sorted(names) if newer else names:
        offer, model = offers[name], known.models[name]
        named = {"usable": "yes" if offer.usable else "no"}
        if offer.deprecated:
            named["deprecated"] = "yes"
        named["vendor"] = model.vendor or "unknown"
        if newer and model.canonical is not None:
            named["canonical"] = model.canonical
        ET.SubElement(element, "model", named).text = name
        if newer and offer.blockers:
            blockers = ET.SubElement(element, "blockers", {"model": name})
            for feature in sorted(set(offer.blockers)):
                ET.SubElement(blockers, "feature", {"name": feature})


def hyperv_element(told: HypervOffer, release: tuple[int, int]) -> ET.Element:
    """Return the <hyperv> of `virsh domcapabilities` (virDomainCapsFeatureHypervFormat)."""
    element = ET.Element("hyperv", {"supported": "yes"})
    names = ENLIGHTENMENTS if release >= (11, 0) else ENLIGHTENMENTS[:-2]
    given = [name for name in names if name in ("spinlocks", "vendor_id") or f"hv-{name.replace('_', '-')}" in told.flags]
    _enum(element, "features", given)
    if release >= _SORTED:
        defaults = ET.SubElement(element, "defaults")
        for name, value in (
            ("spinlocks", str(_LEAST_SPINLOCKS if told.spinlocks == _NO_SPINLOCKS else told.spinlocks)),
            ("stimer_direct", _state("hv-stimer-direct", told)),
            ("tlbflush_direct", _state("hv-tlbflush-direct", told)),
            ("tlbflush_extended", _state("hv-tlbflush-ext", told)),
            ("vendor_id", told.vendor),
        ):
            ET.SubElement(defaults, name).text = value
    return element


def _state(flag: str, told: HypervOffer) -> str:
    return "on" if flag in told.flags else "off"


def _enum(element: ET.Element, name: str, values: list[str] | tuple[str, ...]) -> None:
    enum = ET.SubElement(element, "enum", {"name": name})
    for value in values:
        ET.SubElement(enum, "value").text = value
