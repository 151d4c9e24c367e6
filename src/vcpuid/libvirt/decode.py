"""From features to a CPU model: the model that libvirt finds nearest, and what differs from it (x86Decode, src/cpu/cpu_x86.c)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from vcpuid.libvirt import refusal
from vcpuid.libvirt.cpu_map import CpuMap, MapModel, tsx_is_broken
from vcpuid.libvirt.definition import CpuDef, Policy

_PENALTY = 2
"""What the first disabled feature costs; each further one costs one more (BASE_PENALTY)."""


class CpuData(NamedTuple):
    """What is decoded: features, the maker by libvirt's name, and family, model and stepping (zeros: none)."""

    features: int
    vendor: str | None
    signature: tuple[int, int, int] = (0, 0, 0)


class Candidate(NamedTuple):
    """A model beside the processor: features to be required, and to be disabled; removed ones not counted among them."""

    model: MapModel
    more: int
    less: int
    removed: tuple[str, ...]

    @property
    def cost(self) -> tuple[int, int]:
        """What libvirt compares, and its part for disabled features (virCPUx86CompareCandidateFeatureList).

        libvirt's loop over the features ends earlier for each disabled one that it meets, and these stand last: it sees half of them.
        """
        disabled = self.less.bit_count() + len(self.removed)
        seen = (disabled + 1) // 2
        penalty = seen * _PENALTY + seen * (seen - 1) // 2
        return self.more.bit_count() + disabled - seen + penalty, penalty


def decode(
    processor: CpuData,
    known: CpuMap,
    *,
    of_host: bool = False,
    models: Mapping[str, Sequence[str]] | None = None,
    preferred: Collection[str] = (),
) -> CpuDef:
    """Describe a processor as a host's CPU or a guest's.

    `models` are those that may be chosen, each with the features that the hypervisor says it lacks (None: all, lacking nothing);
    `preferred` are those that are taken if they are nearly as good, a single one in any case. Raises LibvirtError where no model fits.
    """
    features, vendor, signature = processor
    if tsx_is_broken(vendor, signature):
        features &= ~known.broken_tsx
    best: Candidate | None = None
    for group in (tuple(known.models.values()),) if len(preferred) == 1 else known.by_signature(signature):
        for model in reversed(group):
            blockers = () if models is None else models.get(model.name)
            if blockers is None or (vendor and model.vendor and vendor != model.vendor):
                continue
            if not (model.of_hosts if of_host else model.of_guests):
                continue
            candidate = _beside(model, features, blockers, known, of_host=of_host)
            if of_host and candidate.less:
                continue
            if len(preferred) == 1 and model.name in preferred:
                return _describe(candidate, processor, known, of_host=of_host)
            if best is None or _better(candidate, best, signature, preferred=model.name in preferred, of_host=of_host):
                best = candidate
        if best is not None:  # a model with the processor's signature is better than any without
            return _describe(best, processor, known, of_host=of_host)
    raise refusal.internal("Cannot find suitable CPU model for given data")


def _beside(model: MapModel, features: int, blockers: Sequence[str], known: CpuMap, *, of_host: bool) -> Candidate:
    """Hold a model against features (x86DataToCPU)."""
    more, less = features & ~model.features, model.features & ~features
    if blockers:
        less |= known.masks(blockers) & ~more
    removed: tuple[str, ...] = ()
    if not of_host and model.removed:
        listed = more | less
        removed = tuple(name for name in model.removed if not known.mask(name) & listed)
    return Candidate(model, more, less, removed)


def _better(candidate: Candidate, best: Candidate, signature: tuple[int, int, int], *, preferred: bool, of_host: bool) -> bool:
    """Tell whether a candidate takes the place of the best one so far (x86DecodeUseCandidate)."""
    if any(signature):
        fits, stands = candidate.model.fits(signature), best.model.fits(signature)
        if fits != stands:
            return fits
    if of_host:
        return candidate.more.bit_count() < best.more.bit_count()
    (cost, penalty), (least, lowest) = candidate.cost, best.cost
    return cost < least or (cost == least and penalty < lowest) or (preferred and penalty < lowest)


def _describe(found: Candidate, processor: CpuData, known: CpuMap, *, of_host: bool) -> CpuDef:
    more: Policy | None = None if of_host else "require"
    cpu = CpuDef(of_host=of_host, mode=None if of_host else "custom", model=found.model.name, vendor=processor.vendor)
    cpu.signature = processor.signature
    cpu.features.update(dict.fromkeys(known.named(found.more), more))
    cpu.features.update(dict.fromkeys(known.named(found.less), "disable"))
    cpu.miss(found.removed, "disable")
    return cpu
