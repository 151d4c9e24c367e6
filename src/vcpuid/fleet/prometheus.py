"""A fleet as metrics, for the textfile collector of Prometheus' node exporter: hosts by class, the baseline, and who has drifted.

The form is the text-based exposition format, version 0.0.4 (docs/instrumenting/exposition_formats.md of prometheus/docs): of a label's
value backslash, quotation mark and line feed are escaped, of a HELP backslash and line feed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from vcpuid.fleet.baseline import Baseline
from vcpuid.fleet.export import Export, ReadBack
from vcpuid.fleet.members import Group
from vcpuid.fleet.software import eldest, qemus

FORM = "prometheus"

_RUNS = {True: "yes", False: "no", None: "not told"}


class Sample(NamedTuple):
    """A value with its labels."""

    labels: Mapping[str, str]
    value: int


class Metric(NamedTuple):
    """A gauge: its name, what it is, its samples."""

    name: str
    help: str
    samples: tuple[Sample, ...]


def metrics(found: Baseline, changed: Mapping[str, int] | None = None) -> Iterator[Metric]:
    """Give a fleet's metrics; `changed` counts by cluster the hosts that are of another class than at an earlier time."""
    census, setup = found.census, eldest(found.setups)
    hosts = (Sample({"cluster": count.cluster, "class": f"{count.id:016x}"}, count.hosts) for count in census.counts)
    yield Metric("vcpuid_fleet_hosts", "Hosts of a class in a cluster.", tuple(hosts))
    yield Metric("vcpuid_fleet_class_info", "What the hosts of a class are.", tuple(map(_class, found.census.groups)))
    yield Metric("vcpuid_fleet_unread_hosts", "Members of which no snapshot can be read.", (Sample({}, len(census.unread)),))
    if found.cpu is not None:
        labels = {"cpu": found.cpu, "qemu": qemus(found.setups), "machine": setup.machine}
        yield Metric("vcpuid_fleet_baseline_info", "The -cpu that each class was checked with.", (Sample(labels, 1),))
        runs = (Sample({"class": name, "runs": said}, number) for name, (said, number) in _by_class(found).items())
        yield Metric("vcpuid_fleet_baseline_hosts", "Hosts by whether they run it, with all that it asks for.", tuple(runs))
        yield Metric(
            "vcpuid_fleet_baseline_alike",
            "Whether a guest has the same CPU on all.",
            () if found.alike is None else (Sample({}, 1 if found.alike else 0),),
        )
        yield Metric("vcpuid_fleet_baseline_psabi_level", "The guest's x86-64 psABI level.", (Sample({}, found.level),))
    if changed is not None:
        drifted = tuple(Sample({"cluster": cluster}, number) for cluster, number in sorted(changed.items()))
        yield Metric("vcpuid_fleet_drift_hosts", "Hosts that are of another class than on the day that was asked about.", drifted)


def _by_class(found: Baseline) -> dict[str, tuple[str, int]]:
    """Tell of each class whether its hosts run it, which they do where all their kinds of cores do, and how many they are."""
    told: dict[str, tuple[str, int]] = {}
    for proof in sorted(found.proofs, key=lambda proof: (proof.runs is False, proof.runs is None)):
        told[proof.group.kind.name] = _RUNS[proof.runs], proof.group.hosts
    return told


def _class(group: Group) -> Sample:
    kind = group.kind
    told = {"vendor": kind.facts.vendor, "cpu": kind.cpu, "microcode": kind.microcode or "", "kernel": kind.facts.kernel or ""}
    return Sample({"class": kind.name, **told}, 1)


def exposition(given: Iterable[Metric]) -> Iterator[str]:
    """Write metrics, line by line; one without samples is left out."""
    for name, what, samples in given:
        if samples:
            yield f"# HELP {name} {_escaped(what)}"
            yield f"# TYPE {name} gauge"
        for labels, value in samples:
            said = ",".join(f'{label}="{_quoted(text)}"' for label, text in labels.items())
            yield f"{name}{{{said}}} {value}" if said else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")


def prometheus(found: Baseline, changed: Mapping[str, int] | None = None) -> Export:
    """Return the metrics of a fleet as an export: what came of the CPU on each class is its proof."""
    back = tuple(ReadBack(proof.group, proof.runs, (proof.why or "").removeprefix("not told: ")) for proof in found.proofs)
    lines = tuple(exposition(metrics(found, changed)))
    return Export(FORM, found.census, found.cpu, lines, (), (), back, None if found.cpu is None else found.alike)
