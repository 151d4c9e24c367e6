"""What libvirt settles and refuses of a domain before it looks at the host (src/qemu/qemu_postparse.c, src/qemu/qemu_validate.c)."""

from __future__ import annotations

from vcpuid.libvirt import refusal
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.definition import OF_HOST, CpuDef
from vcpuid.libvirt.domain import Domain, HypervDef

DEFAULT_MODEL = "qemu64"
"""What a PC has where a domain names no CPU (virQEMUCapsGetMachineDefaultCPU)."""

_NEEDS_CHECKED = (12, 9)
_NEEDS = (("stimer", "synic"), ("tlbflush", "vpindex"), ("ipi", "vpindex"), ("evmcs", "vapic"), ("hv-tlbflush-direct", "vapic"))
"""Enlightenments and what they need, in the order in which libvirt looks."""


def complete(domain: Domain) -> None:
    """Fill in what the domain leaves open (qemuDomainDefPostParse): the machine's default CPU, migratable, check."""
    cpu = domain.cpu = CpuDef() if domain.cpu is None else domain.cpu
    if not cpu.described:
        cpu.check, cpu.mode, cpu.match, cpu.fallback, cpu.model = "none", "custom", "exact", "forbid", DEFAULT_MODEL
    if cpu.mode == "host-passthrough" and cpu.migratable is None:
        cpu.migratable = "on"
    if cpu.check == "default":
        unchecked = cpu.mode in OF_HOST or (cpu.mode == "custom" and domain.virt == "qemu")
        cpu.check = "none" if unchecked else "partial"


def validate(domain: Domain, address_bits: int, release: tuple[int, int]) -> None:
    """Refuse what no host of that many physical address bits takes (qemuValidateDomainDef). Raises LibvirtError."""
    cpu = domain.cpu
    if cpu is not None:
        _addresses(cpu, address_bits, release)
        _cache(cpu)
        if cpu.topology is not None:
            sockets, dies, clusters, cores, threads = cpu.topology
            if sockets * dies * clusters * cores * threads != domain.vcpus:
                raise refusal.unsupported("CPU topology doesn't match maximum vcpu count", refusal.QEMU)
    if domain.hyperv is not None and release >= _NEEDS_CHECKED:
        _needs(domain.hyperv, domain)


def _needs(asked: HypervDef, domain: Domain) -> None:
    """Refuse an enlightenment without what it needs; known by asking libvirt 12.9 alone."""
    on = {name for name, state in asked.states.items() if state == "on"}
    if "stimer" in on and not any(name == "hypervclock" and present == "yes" for name, present, _ in domain.timers):
        raise refusal.unsupported("'stimer' hyperv feature requires 'hypervclock' timer", refusal.QEMU)
    if "tlbflush" in on and asked.direct_flush == "on":
        on.add("hv-tlbflush-direct")
    for name, needed in _NEEDS:
        if name in on and needed not in on:
            raise refusal.unsupported(f"'{name}' hyperv feature requires '{needed}' feature", refusal.QEMU)


def check_names(cpu: CpuDef, known: CpuMap) -> None:
    """Refuse a feature that the map does not know (virCPUx86ValidateFeatures)."""
    for name in cpu.features:
        if name not in known.numbers:
            raise refusal.unsupported(f"unknown CPU feature: {name}")


def _addresses(cpu: CpuDef, most: int, release: tuple[int, int]) -> None:
    if cpu.addresses is None:
        return
    mode, bits, _ = cpu.addresses
    if mode == "passthrough":
        if bits is not None:
            text = "CPU maximum physical address bits number specification cannot be used with mode='passthrough'"
            raise refusal.unsupported(text, refusal.QEMU)
    elif bits is None:
        if release < (11, 0):
            text = "if using CPU maximum physical address mode='emulate', bits= must be specified too"
            raise refusal.unsupported(text, refusal.QEMU)
    elif bits > most:
        text = "The number of virtual CPU address bits cannot exceed the number supported by the host CPU"
        raise refusal.unsupported(text, refusal.QEMU)


def _cache(cpu: CpuDef) -> None:
    if cpu.cache is None:
        return
    level, mode = cpu.cache
    if mode == "emulate" and level != 3:
        raise refusal.unsupported("CPU cache mode 'emulate' can only be used with level='3'", refusal.QEMU)
    if mode == "passthrough" and cpu.mode not in OF_HOST:
        text = "CPU cache mode 'passthrough' can only be used with 'host-passthrough' / 'maximum' CPUs"
        raise refusal.unsupported(text, refusal.QEMU)
    if mode != "emulate" and level is not None:
        raise refusal.unsupported(f"unsupported CPU cache level for mode '{mode}'", refusal.QEMU)
