"""Whether a host can give a CPU: by bits (x86Compute, src/cpu/cpu_x86.c), and by what QEMU says of its models (qemuDomainCheckCPU,
src/qemu/qemu_domain.c, since libvirt 11.0)."""

from __future__ import annotations

from typing import Literal

from vcpuid.libvirt import refusal
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.definition import Cpu, features_of, features_with
from vcpuid.libvirt.host_models import HostModels

Result = Literal[0, 1, 2]
INCOMPATIBLE: Result = 0
IDENTICAL: Result = 1
SUPERSET: Result = 2

BY_MODEL = (11, 0)
"""The release since which libvirt asks QEMU's word on the model first."""

_ARCHITECTURES = ("i686", "x86_64")


def compare(host: Cpu, cpu: Cpu, known: CpuMap) -> tuple[Result, str]:
    """Hold a CPU against a host's by their bits; the text says why they are incompatible. Raises LibvirtError for unknown names."""
    if cpu.arch is not None and cpu.arch not in _ARCHITECTURES:
        return INCOMPATIBLE, f"CPU arch {cpu.arch} does not match host arch"
    if cpu.vendor is not None and cpu.vendor != host.vendor:
        return INCOMPATIBLE, f"host CPU vendor does not match required CPU vendor {cpu.vendor}"
    given = features_of(host, known)
    force = features_with(cpu, known, "force")
    require = features_with(cpu, known, "require")
    optional = features_with(cpu, known, "optional")
    disable = features_with(cpu, known, "disable")
    forbid = features_with(cpu, known, "forbid")
    if found := forbid & given:
        return INCOMPATIBLE, _listed("Host CPU provides forbidden features", found, known)
    require &= ~(force | optional | disable)
    if missing := require & ~given:
        return INCOMPATIBLE, _listed("Host CPU does not provide required features", missing, known)
    extra = given & ~(optional | require | disable | force)
    if not extra:
        return IDENTICAL, ""
    if not cpu.of_host and cpu.match == "strict":
        return INCOMPATIBLE, _listed("Host CPU does not strictly match guest CPU: Extra features", extra, known)
    return SUPERSET, ""


def check(cpu: Cpu, hosts: HostModels, against: Cpu) -> tuple[Result, str]:
    """Hold a CPU against a host as check='partial' does; `against` is the host's CPU where bits are compared. Raises LibvirtError."""
    known, told = hosts.known, hosts.told
    if known.release < BY_MODEL:
        return compare(against, cpu, known)
    offer = told.offers.get(cpu.model or "")
    if offer is not None and offer.usable and all(policy == "disable" for policy in cpu.features.values()):
        return SUPERSET, ""
    if offer is None:
        return compare(against, cpu, known)
    model = known.models.get(cpu.model or "")
    if model is None:
        raise refusal.invalid(f"unknown CPU model {cpu.model}")
    if model.compat:
        return compare(against, cpu, known)
    missing = [name for name in offer.blockers if cpu.features.get(name) != "disable"]
    missing += [name for name, policy in cpu.features.items() if policy == "require" and name not in hosts.required]
    return (INCOMPATIBLE, f"Host CPU does not provide required features: {', '.join(missing)}") if missing else (SUPERSET, "")


def forbidden(cpu: Cpu, host: Cpu) -> str | None:
    """Return the first feature that a CPU forbids and the host's lists (virCPUCheckForbiddenFeatures); None where there is none."""
    for name, policy in cpu.features.items():
        if policy == "forbid" and host.features.get(name, "disable") != "disable":
            return name
    return None


def _listed(text: str, features: int, known: CpuMap) -> str:
    return f"{text}: {', '.join(known.named(features))}"
