"""What QEMU's monitor tells of a CPU model: query-cpu-model-expansion of type "full".

QEMU, target/i386/cpu-system.c (x86_cpu_from_model, x86_cpu_to_dict_full).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vcpuid.cpuid.registers import Snapshot
from vcpuid.errors import RefusedError
from vcpuid.kvm.answers import kvm_says
from vcpuid.params import Given
from vcpuid.qemu.catalog import HOST_MODELS, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.expand import Shape, expand
from vcpuid.qemu.plan import plan
from vcpuid.qemu.realize import draw
from vcpuid.qemu.unknown import hinting
from vcpuid.reasons import Unrecorded
from vcpuid.releases import Release
from vcpuid.setup import Setup, settled
from vcpuid.told.doubt import doubts
from vcpuid.told.facts import Fact, NotTold

SCHEMA = "vcpuid/qemu-expand/1"
"""The form of `report`."""

_UNSET = {"lbr-fmt": (1 << 64) - 1 & ~0x3F, "hv-vendor-id": ""}
"""How the monitor shows properties that nobody has set."""
_OWN = frozenset({"level-func24"})
"""Kept among the properties, and none of QEMU's."""


def expansion(
    cpu: str,
    host: Snapshot | Setup,
    qemu: str | Release | None = None,
    machine: str = "q35",
    *,
    kernel: str | Release | None = None,
    params: Given | None = None,
    xcr0: int | None = None,
) -> dict[str, Any]:
    """Return the properties of `-cpu CPU` before the host's lacks are filtered, by every name that QEMU has for them.

    That is what a model wants; for max and host it is what they get. `host` is a snapshot, or a Setup, which holds QEMU's release, the
    machine type and all else. Where it has no SUP lines they are modelled for `kernel` (by default the snapshot's own) and its `params`;
    `xcr0` is as in `Supported`. Properties of the object alone (realized, memory) are left out. Raises QemuError with QEMU's message.
    """
    setup = settled(host, kernel=kernel, qemu=qemu, machine=machine, params=params, observed=True)
    release = setup.vmm.tables
    with hinting(cpu, setup):
        tables, described = catalog(release), find_machine(release, setup.machine)
        found = plan(release, setup.machine, cpu, setup.globals)
    draft = draw(found, tables, described, kvm_says(setup), xcr0, Unrecorded())
    expand(draft, Shape())
    values: dict[str, Any] = {name: draft.features[flag.word] & flag.mask == flag.mask for name, flag in tables.flags.items()}
    for name, value in draft.props.items():
        row = tables.properties.get(name)
        if row is None and name in _UNSET:
            continue  # of a release that has no such property
        if name not in _OWN and (row is None or not row.host_only or found.model in HOST_MODELS):
            values[name] = _UNSET.get(name) if value is None else value
    values.update({alias: values[name] for alias, name in tables.aliases.items() if name in values})
    return values


def not_told(cpu: str, setup: Setup) -> dict[str, tuple[Fact, ...]]:
    """Return the properties that depend on what the host does not tell, each with these facts, by the XCR0 that its KVM tells of."""

    def properties(other: Setup) -> dict[str, Any] | None:
        try:
            return expansion(cpu, other, xcr0=kvm_says(other).xcr0)
        except RefusedError:
            return None

    return doubts(setup, properties)


def report(cpu: str, found: Mapping[str, object], setup: Setup, hanging: Mapping[str, tuple[Fact, ...]]) -> dict[str, object]:
    """Put what `expansion` and `not_told` found for a CPU into a document for programs."""
    told = {"schema": SCHEMA, "cpu": cpu, "setup": setup.as_dict(), "remarks": list(setup.remarks), "properties": dict(found)}
    return {**told, "not_told": [NotTold(name, facts).as_dict() for name, facts in hanging.items()]}
