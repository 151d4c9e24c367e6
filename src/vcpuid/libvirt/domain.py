"""The parts of a domain that its CPU depends on, as libvirt reads them (src/conf/domain_conf.c)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

from vcpuid.errors import InputError
from vcpuid.libvirt import refusal
from vcpuid.libvirt.attributes import BOOL, SWITCH, choice, unsigned
from vcpuid.libvirt.definition import CpuDef
from vcpuid.libvirt.reading import read as read_cpu
from vcpuid.numbers import decimal

ENLIGHTENMENTS = (
    "relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "reset", "vendor_id", "frequencies", "reenlightenment",
    "tlbflush", "ipi", "evmcs", "avic", "emsr_bitmap", "xmm_input",
)  # fmt: skip
"""virDomainHyperv, in the order of -cpu; the last two since libvirt 11.0."""
_NEW_ENLIGHTENMENTS = ("emsr_bitmap", "xmm_input")

KVM_FEATURES = ("hidden", "hint-dedicated", "poll-control", "pv-ipi", "dirty-ring")
"""virDomainKVM."""
TIMERS = ("platform", "pit", "rtc", "hpet", "tsc", "kvmclock", "hypervclock", "armvtimer")
"""virDomainTimerName."""

_FEATURES = """
acpi apic pae hap viridian privnet hyperv kvm pvspinlock capabilities pmu vmport gic smm ioapic hpt vmcoreinfo htm nested-hv msrs ccf-assist
xen cfpc sbbc ibs tcg async-teardown ras ps2 aia
"""
FEATURES = frozenset(_FEATURES.split())
"""virDomainFeature."""

TYPES = (
    "qemu", "kqemu", "kvm", "xen", "lxc", "uml", "openvz", "test", "vmware", "hyperv", "vbox", "phyp", "parallels", "bhyve", "vz", "hvf",
)  # fmt: skip
"""virDomainVirt."""

_DIGITS = 6
_LEAST_SPINLOCKS, _LONGEST_VENDOR = 0xFFF, 12


@dataclass(slots=True)
class HypervDef:
    """<hyperv>: states by name, with the values of those that have one."""

    passthrough: bool = False
    states: dict[str, str] = field(default_factory=dict)
    spinlocks: int = 0
    vendor: str = ""
    direct_timer: str | None = None
    direct_flush: str | None = None
    extended_flush: str | None = None


@dataclass(slots=True)
class Domain:
    """A domain. `virt` is its type (kvm, or qemu for TCG), `machine` None where it names none, `current` how many of its vCPUs are there at
    start, `switches` the states of vmport, pmu, pvspinlock and their like.
    """

    virt: str = "kvm"
    machine: str | None = None
    vcpus: int = 1
    current: int = 1
    cpu: CpuDef | None = None
    eoi: str | None = None
    hyperv: HypervDef | None = None
    kvm: dict[str, str] = field(default_factory=dict)
    switches: dict[str, str] = field(default_factory=dict)
    timers: list[tuple[str, str | None, int]] = field(default_factory=list)


def read(root: ET.Element, release: tuple[int, int]) -> Domain:
    """Read a <domain>; raises LibvirtError as libvirt of that release does."""
    if root.tag != "domain":
        raise refusal.malformed(f"expecting root element of 'domain', not '{root.tag}'", refusal.XML)
    kind = root.find("os/type")
    domain = Domain(virt=_type(root), machine=None if kind is None else kind.get("machine"))
    if (vcpu := root.find("vcpu")) is not None:
        _vcpus(vcpu, domain)
    if (cpu := root.find("cpu")) is not None:
        domain.cpu = read_cpu(cpu, "guest", release)
    if not domain.vcpus:
        raise refusal.internal("CPU IDs in <numa> exceed the <vcpu> count", refusal.DOMAIN)
    for features in root.findall("features"):
        for element in features:
            _feature(element, domain, release)
    if (clock := root.find("clock")) is not None:
        domain.timers = [_timer(timer) for timer in clock.findall("timer")]
    return domain


def _vcpus(element: ET.Element, domain: Domain) -> None:
    count = (element.text or "").strip()
    vcpus = decimal(count, 10**_DIGITS - 1) if len(count) <= _DIGITS else None
    if vcpus is None:
        raise refusal.malformed("maximum vcpus count must be an integer", refusal.DOMAIN)
    domain.vcpus = vcpus
    current = unsigned(element, "current")
    domain.current = domain.vcpus if current is None else current
    if domain.current > domain.vcpus:
        raise refusal.unsupported("maximum vCPU count must not be less than current vCPU count", refusal.DOMAIN)


def _type(root: ET.Element) -> str:
    """Return a domain's type; raises InputError for one that is not QEMU's, of which there is nothing to tell."""
    virt = choice(root, "type", TYPES, required=True) or ""
    if virt not in ("kvm", "qemu"):
        raise InputError(f"a domain of type {virt}, not kvm or qemu", source="domain")
    return virt


def _feature(element: ET.Element, domain: Domain, release: tuple[int, int]) -> None:
    name = element.tag
    if name not in FEATURES:
        raise refusal.unsupported(f"unexpected feature '{name}'", refusal.DOMAIN)
    if name == "apic":
        domain.eoi = choice(element, "eoi", SWITCH)
    elif name in ("vmport", "pmu", "pvspinlock", "smm", "vmcoreinfo"):
        domain.switches[name] = choice(element, "state", SWITCH) or "on"
    elif name == "hyperv":
        domain.hyperv = _hyperv(element, release)
    elif name == "kvm":
        if release < (11, 0):  # a second one takes the place of the first
            domain.kvm = {}
        for feature in element:
            if feature.tag not in KVM_FEATURES:
                raise refusal.unsupported(f"unsupported KVM feature: {feature.tag}", refusal.DOMAIN)
            domain.kvm[feature.tag] = choice(feature, "state", SWITCH, required=True) or ""


def _hyperv(element: ET.Element, release: tuple[int, int]) -> HypervDef:
    found = HypervDef(passthrough=choice(element, "mode", ("custom", "passthrough")) == "passthrough")
    if found.passthrough:
        return found
    for child in element:
        name = child.tag
        if name not in ENLIGHTENMENTS or (name in _NEW_ENLIGHTENMENTS and release < (11, 0)):
            raise refusal.unsupported(f"unsupported HyperV Enlightenment feature: {name}", refusal.DOMAIN)
        state = found.states[name] = choice(child, "state", SWITCH, required=True) or ""
        if state == "on":
            _values(child, found, release)
    return found


def _values(element: ET.Element, found: HypervDef, release: tuple[int, int]) -> None:
    """Read what goes with an enlightenment that is on."""
    if element.tag == "spinlocks":
        found.spinlocks = unsigned(element, "retries", required=True, base=0) or 0
        if found.spinlocks < _LEAST_SPINLOCKS:
            raise refusal.malformed("HyperV spinlock retry count must be at least 4095", refusal.DOMAIN)
    elif element.tag == "vendor_id":
        vendor = element.get("value")
        if vendor is None:
            raise refusal.malformed("missing 'value' attribute for HyperV feature 'vendor_id'", refusal.DOMAIN)
        if len(vendor.encode()) > _LONGEST_VENDOR:
            raise refusal.malformed(f"HyperV vendor_id value must not be more than {_LONGEST_VENDOR} characters.", refusal.DOMAIN)
        if "," in vendor:
            raise refusal.malformed("HyperV vendor_id value is invalid", refusal.DOMAIN)
        found.vendor = vendor
    elif element.tag == "stimer":
        for child in element:
            if child.tag != "direct":
                raise refusal.unsupported(f"unsupported Hyper-V stimer feature: {child.tag}", refusal.DOMAIN)
            found.direct_timer = choice(child, "state", SWITCH, required=True)
    elif element.tag == "tlbflush" and release >= (11, 0):
        for child in element:
            if child.tag == "direct":
                found.direct_flush = choice(child, "state", SWITCH, required=True)
            elif child.tag == "extended":
                found.extended_flush = choice(child, "state", SWITCH, required=True)
            else:
                raise refusal.unsupported(f"unsupported Hyper-V tlbflush feature: {child.tag}", refusal.DOMAIN)


def _timer(element: ET.Element) -> tuple[str, str | None, int]:
    """Return a timer's name, whether it is present, and its frequency in Hz."""
    name = choice(element, "name", TIMERS, required=True) or ""
    return name, choice(element, "present", BOOL), unsigned(element, "frequency", bits=64) or 0
