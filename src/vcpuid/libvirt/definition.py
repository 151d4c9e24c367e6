"""A CPU as libvirt describes it: what stands in a <cpu> (virCPUDef, src/conf/cpu_conf.h)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from vcpuid.libvirt import refusal
from vcpuid.libvirt.cpu_map import CpuMap, MapModel

Policy = Literal["force", "require", "optional", "disable", "forbid"]
POLICIES: tuple[Policy, ...] = ("force", "require", "optional", "disable", "forbid")

MODES = ("custom", "host-model", "host-passthrough", "maximum")
MATCHES = ("exact", "minimum", "strict")
CHECKS = ("default", "none", "partial", "full")
FALLBACKS = ("allow", "forbid")
OF_HOST = ("host-passthrough", "maximum")
"""Modes without a model of libvirt's."""


class Addresses(NamedTuple):
    """<maxphysaddr>: `bits` and `limit` are None where they are not given."""

    mode: str
    bits: int | None = None
    limit: int | None = None


class TopologyDef(NamedTuple):
    """<topology>."""

    sockets: int
    dies: int
    clusters: int
    cores: int
    threads: int


class CacheDef(NamedTuple):
    """<cache>."""

    level: int | None
    mode: str


class Counter(NamedTuple):
    """<counter name='tsc'>, its frequency in Hz."""

    frequency: int
    scaling: str | None


@dataclass(slots=True)
class CpuDef:
    """A CPU of a host or of a guest. Of a host's, features have no policy (None), and there is neither mode nor match.

    Features keep their order; one whose policy changes keeps its place, as libvirt has it.
    """

    of_host: bool = False
    mode: str | None = "custom"
    match: str = "exact"
    check: str = "default"
    migratable: str | None = None
    deprecated: str | None = None
    arch: str | None = None
    model: str | None = None
    fallback: str = "allow"
    vendor_id: str | None = None
    vendor: str | None = None
    microcode: int = 0
    signature: tuple[int, int, int] | None = None
    tsc: Counter | None = None
    topology: TopologyDef | None = None
    cache: CacheDef | None = None
    addresses: Addresses | None = None
    features: dict[str, Policy | None] = field(default_factory=dict)

    @property
    def described(self) -> bool:
        """Whether it says more than a topology or a cache: a mode, or a model."""
        return self.mode != "custom" or self.model is not None

    def copy(self) -> CpuDef:
        """Return another one that says the same."""
        return replace(self, features=dict(self.features))

    def miss(self, names: tuple[str, ...], policy: Policy) -> None:
        """Add features that are not listed yet (virCPUDefAddFeatureIfMissing)."""
        for name in names:
            self.features.setdefault(name, policy)


def model_of(cpu: CpuDef, known: CpuMap) -> MapModel | None:
    """Return a CPU's model; None where it has none. Raises LibvirtError where the map does not know it."""
    if cpu.model is None:
        return None
    found = known.models.get(cpu.model)
    if found is None:
        raise refusal.internal(f"Unknown CPU model {cpu.model}")
    return found


def features_of(cpu: CpuDef, known: CpuMap) -> int:
    """Return all that a CPU has: its model's features, those required and forced, without those disabled and forbidden.

    src/cpu/cpu_x86.c, x86ModelFromCPU with policy -1. Raises LibvirtError for a model or a feature that the map does not know.
    """
    model = model_of(cpu, known)
    found = 0 if model is None else model.features
    for name, policy in cpu.features.items():
        if policy == "optional":
            continue
        bit = _known(name, known)
        found = found & ~bit if policy in ("disable", "forbid") else found | bit
    return found


def features_with(cpu: CpuDef, known: CpuMap, policy: Policy) -> int:
    """Return the features of a policy, for "require" with the model's; of a host's CPU those alone are any.

    src/cpu/cpu_x86.c, x86ModelFromCPU. Raises LibvirtError for a model or a feature that the map does not know.
    """
    if cpu.of_host and policy != "require":
        return 0
    model = model_of(cpu, known) if policy == "require" else None
    found = 0 if model is None else model.features
    for name, other in cpu.features.items():
        if (other or "require") == policy:
            found |= _known(name, known)
    return found


def _known(name: str, known: CpuMap) -> int:
    bit = known.mask(name)
    if not bit:
        raise refusal.internal(f"Unknown CPU feature {name}")
    return bit
