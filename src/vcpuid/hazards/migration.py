"""What ties a guest to the host, the kernel or the QEMU that it was started on."""

from __future__ import annotations

from collections.abc import Iterator

from vcpuid.cpuid import bits
from vcpuid.hazards.rule import HazardRule, Looks, Severity
from vcpuid.hazards.view import View
from vcpuid.qemu.catalog import HOST_MODELS


def _host_model(view: View) -> Iterator[str]:
    if view.state is not None and view.state.model in HOST_MODELS:
        yield f"-cpu {view.state.model}"


def _not_migratable(view: View) -> Iterator[str]:
    if view.state is not None and view.state.model in HOST_MODELS and not view.on("migratable"):
        yield "migratable=off"


def _invtsc(view: View) -> Iterator[str]:
    frequency = 0 if view.state is None else view.state.props.get("tsc-frequency")
    if view.has(bits.CONSTANT_TSC) and not frequency:
        yield "invtsc"


def _from_host(view: View) -> Iterator[str]:
    """Name properties that hand on what this host has, on a model that has its own."""
    if view.state is None:
        return
    yield from (f"{name}=on" for name in ("host-cache-info", "hv-passthrough") if view.on(name))
    if view.state.model not in HOST_MODELS:
        limited = view.state.props.get("host-phys-bits-limit") == view.state.phys_bits  # a host with more bits shows the same
        taken = ("pmu",) if limited else ("pmu", "host-phys-bits")
        yield from (f"{name}=on" for name in taken if view.on(name))


def _forced(view: View) -> Iterator[str]:
    if view.on("x-force-features"):
        yield "x-force-features=on"


RULES = (
    HazardRule(
        "migration.host-model", Severity.NOTE, _host_model,
        "The guest's CPU is whatever this host, its kernel and its QEMU make of it: it can move only to a host that has all of that.",
        "use a named model that runs on all hosts that the guest may move to: vcpuid fleet baseline finds it",
        Looks.ASKED,
    ),
    HazardRule(
        "migration.off", Severity.RISK, _not_migratable,
        "The guest gets features that QEMU cannot migrate; QEMU does not stop you from trying, and the guest may crash on the other host.",
        "keep migratable=on, the default",
        Looks.ASKED,
    ),
    HazardRule(
        "migration.invtsc", Severity.RISK, _invtsc,
        "QEMU refuses to migrate or to save a guest with an invariant TSC, since the other host's TSC may run at another frequency.",
        "set -invtsc, or tsc-frequency= to the host's, with hosts that can scale or have the same",
    ),
    HazardRule(
        "migration.from-host", Severity.RISK, _from_host,
        "This part of the guest's CPU comes from this very host: on another the guest keeps running and finds caches, counters, addresses "
        "or enlightenments that are not there.",
        "leave it off, or move the guest between equal hosts only",
        Looks.ASKED,
    ),
    HazardRule(
        "migration.forced", Severity.RISK, _forced,
        "QEMU no longer checks that a host has what the guest was told: a guest that moves finds features gone.",
        "leave x-force-features off",
        Looks.ASKED,
    ),
)  # fmt: skip
