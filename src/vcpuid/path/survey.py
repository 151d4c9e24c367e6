"""The guest's CPU as a whole: every feature that it sees, and every one that it gained or lost against the host, by party."""

from __future__ import annotations

from dataclasses import dataclass

from vcpuid.cpuid import CpuidWord
from vcpuid.cpuid.names import Feature, all_features
from vcpuid.path.decisions import Trace
from vcpuid.path.explain import Explanation, explain
from vcpuid.path.pipeline import Path


@dataclass(frozen=True, slots=True)
class Survey:
    """`seen` are the guest's features; `lost` and `gained` explain those in which it differs from the host's CPUID, by deciding party."""

    seen: tuple[Feature, ...]
    lost: dict[str, tuple[Explanation, ...]]
    gained: dict[str, tuple[Explanation, ...]]


def survey(path: Path) -> Survey:
    """Hold every CPUID feature that Linux or QEMU names against the host's.

    Features of MSRs are left out, since the host's own are not known, and so are AMD's copies of leaf 1 in leaf 0x80000001.
    """
    seen: list[Feature] = []
    lost: dict[str, list[Explanation]] = {}
    gained: dict[str, list[Explanation]] = {}
    first, last = path.trace.steps[0], path.trace.steps[-1]
    for feature in all_features():
        if not isinstance(feature.place.word, CpuidWord) or feature.copy_of or not (feature.linux_names or feature.qemu_names):
            continue
        before, after = first.value(feature.place), last.value(feature.place)
        if after:
            seen.append(feature)
        if before is not None and after is not None and before != after:
            side = gained if after else lost
            side.setdefault(decider(path.trace, feature), []).append(explain(feature, path))
    return Survey(tuple(seen), {k: tuple(v) for k, v in lost.items()}, {k: tuple(v) for k, v in gained.items()})


def decider(trace: Trace, feature: Feature) -> str:
    """Name the last party that handed the feature on otherwise than it was given it."""
    name = last = None
    for step in trace.steps:
        value = step.value(feature.place)
        if value is None:
            continue
        if last is not None and value != last:
            name = step.party
        last = value
    return name or trace.steps[-1].party
