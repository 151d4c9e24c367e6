"""The three CPUs that libvirt makes of a host (virQEMUCapsInitHostCPUModel, src/qemu/qemu_capabilities.c)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property, lru_cache

from vcpuid.libvirt import refusal
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.decode import CpuData, decode
from vcpuid.libvirt.definition import CpuDef
from vcpuid.libvirt.told import QemuTold
from vcpuid.setup import SHARED


class OfQemu:
    """Those CPUs that QEMU's answers make: the same on all hosts that are the same to QEMU."""

    def __init__(self, told: QemuTold, known: CpuMap) -> None:
        self.told, self.known = told, known
        self.blockers = {name: offer.blockers for name, offer in told.offers.items()}

    @cached_property
    def reported(self) -> CpuDef:
        """The host's CPU as QEMU can give it: that of domcapabilities."""
        return self._with(self.told.features)

    @cached_property
    def migratable(self) -> CpuDef:
        """The same without what cannot be migrated: what host-model becomes."""
        return self.reported if self.told.migratable == self.told.features else self._with(self.told.migratable)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The features that the reported CPU has, its model's among them."""
        return tuple(name for name, policy in expanded(self.reported, self.known).features.items() if policy == "require")

    def _with(self, features: int) -> CpuDef:
        processor = CpuData(features, self.known.vendor(self.told.vendor), self.told.signature)
        cpu = decode(processor, self.known, models=self.blockers)
        cpu.fallback = "forbid"
        return cpu


@lru_cache(maxsize=SHARED)
def of_qemu(told: QemuTold, known: CpuMap) -> OfQemu:
    """Return what QEMU's answers make."""
    return OfQemu(told, known)


class HostModels:
    """What host-model stands for. They are not to be changed: whoever changes one takes a copy.

    `silicon` tells the processor as libvirt sees it without QEMU; None under TCG, where it makes no difference.
    """

    def __init__(self, told: QemuTold, known: CpuMap, silicon: Callable[[], CpuData] | None = None) -> None:
        self.told, self.known, self._silicon = told, known, silicon
        self.of_qemu = of_qemu(told, known)
        self.blockers, self.told_silicon = self.of_qemu.blockers, False

    @property
    def reported(self) -> CpuDef:
        """The host's CPU as QEMU can give it."""
        return self.of_qemu.reported

    @property
    def migratable(self) -> CpuDef:
        """The same without what cannot be migrated."""
        return self.of_qemu.migratable

    @property
    def required(self) -> Collection[str]:
        """The features that the reported CPU has."""
        return self.of_qemu.required

    @cached_property
    def full(self) -> CpuDef:
        """What QEMU or the processor has: what a guest's CPU is checked against."""
        if self._silicon is None:
            return self.reported
        self.told_silicon = True
        cpu = decode(self._silicon(), self.known)
        cpu.features.update(dict.fromkeys(self.of_qemu.required, "require"))
        return cpu


def expanded(cpu: CpuDef, known: CpuMap) -> CpuDef:
    """List a CPU's features with its model's, by name (virCPUExpandFeatures, virCPUx86ExpandFeatures). Raises LibvirtError."""
    model = known.models.get(cpu.model or "")
    if model is None:
        raise refusal.internal(f"unknown CPU model {cpu.model}")
    found = cpu.copy()
    found.features = dict.fromkeys(known.named(model.features), None if cpu.of_host else "require")
    for name, policy in cpu.features.items():
        if cpu.of_host or policy in ("require", "disable"):
            found.features[name] = policy
    if not cpu.of_host:
        found.miss(model.removed, "disable")
    found.features = dict(sorted(found.features.items()))
    return found
