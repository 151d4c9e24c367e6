"""What QEMU's monitor tells of a CPU model: query-cpu-model-expansion of type "full".

QEMU, target/i386/cpu-system.c (x86_cpu_from_model, x86_cpu_to_dict_full).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vcpuid import releases
from vcpuid.cpuid.registers import Snapshot
from vcpuid.qemu.catalog import HOST_MODELS, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.expand import Shape, expand
from vcpuid.qemu.plan import plan
from vcpuid.qemu.realize import draw

_UNSET = {"lbr-fmt": (1 << 64) - 1 & ~0x3F, "hv-vendor-id": ""}
"""How the monitor shows properties that nobody has set."""
_OWN = frozenset({"level-func24"})
"""Kept among the properties, and none of QEMU's."""


def expansion(
    cpu: str,
    host: Snapshot,
    qemu: str = "11.1",
    machine: str = "q35",
    *,
    kernel: str = "6.12",
    params: Mapping[str, int | str | bool] | None = None,
    xcr0: int | None = None,
) -> dict[str, Any]:
    """Return the properties of `-cpu CPU` before the host's lacks are filtered, by every name that QEMU has for them.

    That is what a model wants; for max and host it is what they get. Where `host` has no SUP lines they are modelled for `kernel` and its
    module parameters `params`; `xcr0` is as in `Supported`. Properties of the object alone (realized, memory) are left out. Raises
    QemuError with QEMU's message.
    """
    release = releases.qemu(qemu)
    tables, described = catalog(release), find_machine(release, machine)
    if host.supported is None:
        from vcpuid import kvm

        host = replace(host, supported=kvm.supported(host, kernel=kernel, params=params).table)
    found = plan(release, described.name, cpu)
    draft = draw(found, release, described.name, host, xcr0)
    expand(draft, Shape())
    values: dict[str, Any] = {name: draft.features[flag.word] & flag.mask == flag.mask for name, flag in tables.flags.items()}
    for name, value in draft.props.items():
        row = tables.properties.get(name)
        if name not in _OWN and (row is None or not row.host_only or found.model in HOST_MODELS):
            values[name] = _UNSET.get(name) if value is None else value
    values.update({alias: values[name] for alias, name in tables.aliases.items() if name in values})
    return values
