"""Which features a migration hangs on, and which party of which host has it so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vcpuid.answers.ordered import explained_by_name, fate
from vcpuid.errors import VcpuidError
from vcpuid.libvirt.journal import Ruling
from vcpuid.libvirt.live import EXTRA, MISSING
from vcpuid.libvirt.migration import NO_INVTSC, Migration
from vcpuid.path.pipeline import Path, resolve
from vcpuid.setup import Setup

_CHANGES = {MISSING: "missing", EXTRA: "extra"}
_TIMED = "a <timer name='tsc' frequency='…'/> in the domain's <clock>; else disable it"
_ABSENT = ("missing", "lost", "refused")


def moving(found: Migration, a: Setup, b: Setup) -> list[dict[str, str | None]]:
    """Give the features that a migration from `a` to `b` hangs on, or that it changes: a row each.

    `change` is "missing" or "extra" where B's libvirt finds the CPU otherwise than the guest has it, "lost" or "gained" where it does not
    look, "blocks" where A's QEMU does not let the guest go, and "refused" for what libvirt demands or forbids before it starts QEMU.
    `party` and `why` tell of that host's path, from the silicon to QEMU; None where it does not know the feature.
    """
    setup = a if found.step in ("start", "leave") else b
    path = _path(found, setup)
    return [_row(feature, change, path, ruling) for feature, change, ruling in _features(found)]


def _features(found: Migration) -> Iterator[tuple[str, str, Ruling | None]]:
    for feature in found.lost:
        yield feature, "lost", None
    for feature in found.gained:
        yield feature, "gained", None
    if found.refusal is None:
        return
    if NO_INVTSC in found.refusal.message:
        yield "invtsc", "blocks", None
    for cause in found.refusal.causes:
        if isinstance(cause, Ruling):
            yield cause.feature, _CHANGES.get(cause.rule, "refused"), cause


def _path(found: Migration, setup: Setup) -> Path | None:
    """Resolve the CPU on its host; where it does not come to a -cpu, all that the host can give."""
    argument = found.argument if found.step not in ("start", "leave") else None
    if found.refusal is not None and argument is None:
        argument = found.refusal.cpu
    settled = setup if found.machine is None else replace(setup, machine=found.machine, smp=found.smp)
    try:
        return resolve(argument or "host,migratable=off", host=settled)
    except VcpuidError:
        return None


def _row(feature: str, change: str, path: Path | None, ruling: Ruling | None) -> dict[str, str | None]:
    explained = None if path is None else explained_by_name(feature, path)
    party, why, remedy = (None, None, None) if explained is None else fate(explained, absent=change in _ABSENT)
    if why is None and ruling is not None:
        why, remedy = ruling.reason, ruling.remedy
    if change == "blocks":
        remedy = _TIMED
    return {"feature": feature, "change": change, "party": party, "why": why, "remedy": remedy}
