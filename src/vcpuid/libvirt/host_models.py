"""The three CPUs that libvirt makes of a host (virQEMUCapsInitHostCPUModel, src/qemu/qemu_capabilities.c)."""

from __future__ import annotations

from functools import cached_property

from vcpuid.libvirt import refusal
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.decode import CpuData, decode
from vcpuid.libvirt.definition import CpuDef
from vcpuid.libvirt.told import QemuTold


class HostModels:
    """What host-model stands for. They are not to be changed: whoever changes one takes a copy.

    `silicon` is the processor as libvirt sees it without QEMU; None under TCG, where it makes no difference.
    """

    def __init__(self, told: QemuTold, silicon: CpuData | None, known: CpuMap) -> None:
        self.told, self.silicon, self.known = told, silicon, known
        self.blockers = {name: offer.blockers for name, offer in told.offers.items()}

    @cached_property
    def reported(self) -> CpuDef:
        """The host's CPU as QEMU can give it: that of domcapabilities."""
        return self._of_qemu(self.told.features)

    @cached_property
    def migratable(self) -> CpuDef:
        """The same without what cannot be migrated: what host-model becomes."""
        return self._of_qemu(self.told.migratable)

    @cached_property
    def full(self) -> CpuDef:
        """What QEMU or the processor has: what a guest's CPU is checked against."""
        if self.silicon is None:
            return self.reported
        cpu = decode(self.silicon, self.known)
        for name, policy in expanded(self.reported, self.known).features.items():
            if policy == "require":
                cpu.features[name] = "require"
        return cpu

    @cached_property
    def required(self) -> frozenset[str]:
        """The features that the reported CPU has, its model's among them."""
        return frozenset(name for name, policy in expanded(self.reported, self.known).features.items() if policy == "require")

    def _of_qemu(self, features: int) -> CpuDef:
        processor = CpuData(features, self.known.vendor(self.told.vendor), self.told.signature)
        cpu = decode(processor, self.known, models=self.blockers)
        cpu.fallback = "forbid"
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
