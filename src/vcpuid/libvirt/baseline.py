"""The CPU that several hosts can give (virCPUx86Baseline, src/cpu/cpu_x86.c)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vcpuid.libvirt import refusal
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.decode import CpuData, decode
from vcpuid.libvirt.definition import Addresses, CpuDef, features_of


def baseline(
    cpus: Sequence[CpuDef],
    known: CpuMap,
    *,
    names: Collection[str] | None = None,
    models: Mapping[str, Sequence[str]] | None = None,
    migratable: bool = False,
) -> CpuDef:
    """Return the CPU that all of them have. Raises LibvirtError where there is none.

    `names` are the features that the hypervisor knows, `models` its models with what each lacks (None: all); with `migratable` features
    that libvirt itself takes for not migratable are not listed.
    """
    for number, cpu in enumerate(cpus):
        if cpu.model is None:
            raise refusal.invalid(f"no CPU model specified at index {number}")
    features, vendor, told_by_all = _common(cpus, known)
    if names is not None:
        features &= known.masks(names)
    if not features:
        raise refusal.failed("CPUs are incompatible")
    wanted = list(dict.fromkeys(cpu.model for cpu in cpus if cpu.model is not None))
    found = decode(CpuData(features, vendor), known, models=models, preferred=wanted)
    if migratable:
        found.features = {name: policy for name, policy in found.features.items() if name not in known.stuck}
    if wanted == [found.model]:
        found.fallback = "forbid"
    if not told_by_all:
        found.vendor = None
    return found


def _common(cpus: Sequence[CpuDef], known: CpuMap) -> tuple[int, str | None, bool]:
    """Return the common features, the maker, and whether every CPU names it."""
    first = cpus[0]
    features = features_of(first, known)
    vendor, told_by_all = first.vendor, first.vendor is not None
    if vendor is not None:
        _check_vendor(vendor, known)
    for cpu in cpus[1:]:
        other = features_of(cpu, known)
        of_model = known.models[cpu.model or ""].vendor
        if cpu.vendor is not None and of_model is not None and cpu.vendor != of_model:
            raise refusal.failed(f"CPU vendor {of_model} of model {cpu.model} differs from vendor {cpu.vendor}")
        told_by_all = told_by_all and cpu.vendor is not None
        named = cpu.vendor or of_model
        if named is not None:
            if vendor is None:
                _check_vendor(named, known)
                vendor = named
            elif vendor != named:
                raise refusal.failed("CPU vendors do not match")
        features &= other
    return features, vendor, told_by_all


def _check_vendor(name: str, known: CpuMap) -> None:
    if name not in {vendor for vendor, _ in known.vendors}:
        raise refusal.failed(f"Unknown CPU vendor {name}")


def common_limit(cpus: Sequence[CpuDef]) -> Addresses | None:
    """Return the lowest limit of address bits (qemuConnectBaselineHypervisorCPU): one without a limit makes libvirt forget those before."""
    lowest = 0
    for number, cpu in enumerate(cpus):
        limit = (cpu.addresses.limit if cpu.addresses is not None else None) or 0
        lowest = limit if not limit or number == 0 or limit < lowest else lowest
    return Addresses("passthrough", limit=lowest) if lowest else None
