"""vcpuid guest: the whole guest CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from vcpuid.cli.domain import domain_options, unrefused
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import Asked, cpu_option, host_option, print_warnings, probe_for, stack_options, trial_for
from vcpuid.cli.short import Cut, answered, folded, left_open, some
from vcpuid.cli.vmm import AskedGuest, vmm_options
from vcpuid.cpuid.words import INDEXED_FUNCTIONS, CpuidWord

if TYPE_CHECKING:
    from vcpuid.answers.survey import Survey
    from vcpuid.cpuid.names import Feature


@click.command(name="guest")
@cpu_option
@domain_options
@host_option
@vmm_options
@click.option("--no-probe", is_flag=True, help="Model what a vCPU keeps of the table; do not ask this machine's KVM.")
@all_option
@stack_options()
@format_option
def command(guest: AskedGuest, source: str | None, no_probe: bool, everything: bool, asked: Asked, form: str) -> None:
    """Show the guest's CPU as a whole: what it has, loses and gains.

    Layers are the host's Linux, KVM, the VMM and the vCPU. The table is cut to a screen; --all prints all of it, and every feature that
    the guest sees, by leaf. Features that HOST does not tell enough of are listed as not told.

    Counted are the features of CPUID that Linux or QEMU names, each name once. The host's are those that the guest sees, those that are
    lost, and those that the guest's own kernel turns on later (osxsave).

    With --format lines, a snapshot of the guest: what its CPUID returns (RAW), the table set (TAB) and kept (GOT). vcpuid reads it back
    as a HOST, for a guest within the guest, and as a TABLE.
    """
    from vcpuid.answers.certainty import followed
    from vcpuid.answers.starting import remarked
    from vcpuid.answers.survey import survey
    from vcpuid.reasons.lazy import LazyMapping

    host = guest.host(source)
    cpu, setup, order = guest.ordered(host, asked, refusable=False)
    path = followed(cpu, host=setup, probe=None if no_probe or guest.partial else probe_for(host), vmm=guest.vmm)
    path = remarked(path, None if no_probe else trial_for(host, setup))
    brief = form == "table" and not everything
    print_warnings(unrefused(folded(path) if brief else path.said, order, form))
    found = survey(path, order)
    changes = found.changes()
    rows = _grouped(changes)
    beside = "every name, and all that the guest sees, by leaf"
    below = list(_below(found, everything))
    sheet = Sheet(
        columns=["change", "party", "features", "why"],
        rows=[
            {
                **row,
                "change": _SHOWN.get(row["change"], row["change"]),
                "features": " ".join(row["names"]) if everything else some(row["names"]),
            }
            for row in rows
        ],
        records=changes,
        fields=["change", "party", "feature", "why"],
        data=LazyMapping(found.as_dict),
        lines=_lines(found),
        head=[*answered(found.verdict(), order), path.headline(), *_above(found), ""],
        foot=["", *below] if below else [],
        titles={"party": "layer"},
        styles={"features": "bold"},
        cut=Cut(rest=f"the rest, {beside}", more=beside, weights=[len(row["names"]) for row in rows]) if brief else None,
    )
    emit(sheet, form)


def _lines(found: Survey) -> Iterator[str]:
    """Write the guest's snapshot, below what is not known or not told of it."""
    from vcpuid.formats.lines import format_snapshot
    from vcpuid.path.pipeline import guest_snapshot
    from vcpuid.told.facts import sentences

    yield from (f"# {line}" for line in (*found.unknown(), *sentences(found.open())))
    yield from format_snapshot(guest_snapshot(found.path))


_SHOWN = {"put back": "added by KVM"}
"""What the table calls a change that has another name for programs."""


def _grouped(changes: list[dict[str, object]]) -> list[dict[str, Any]]:
    """Join what has layer and cause in common; what is not told stands below the table, by what it depends on."""
    from vcpuid.answers.survey import NOT_TOLD_CHANGE

    groups: dict[tuple[object, object, object], list[str]] = {}
    for row in changes:
        if row["change"] != NOT_TOLD_CHANGE:
            groups.setdefault((row["change"], row["party"], row["why"]), []).append(str(row["feature"]))
    return [{"change": change, "party": party, "names": names, "why": why} for (change, party, why), names in groups.items()]


def _above(found: Survey) -> Iterator[str]:
    """Say by layer how many features are lost and gained, and what an odd KVM does to the table, or may do."""
    from vcpuid.answers.overruling import untried

    yield from found.by_layer()
    if (own := found.own_kvm()) is not None:
        yield own
    if (doubt := untried(found.path)) is not None:
        yield doubt


def _below(found: Survey, everything: bool) -> Iterator[str]:
    """Say what is not told, and what the guest sees."""
    from vcpuid.told.assumptions import granted
    from vcpuid.told.facts import sentences

    if everything:
        yield from (*found.unknown(), *sentences(found.open()), *granted(found.assumes()))
    else:
        yield from _open(found)
    if everything:
        by_leaf: dict[str, dict[str, None]] = {}
        for feature in found.seen:
            by_leaf.setdefault(_leaf(feature), {})[feature.name] = None
        yield ""
        yield "What the guest sees, by leaf:"
        for leaf, names in by_leaf.items():
            yield f"  leaf {leaf} ({len(names)}): {' '.join(names)}"


def _open(found: Survey) -> Iterator[str]:
    """Say in a few lines what is not told and what is taken for granted."""
    from vcpuid.told.facts import sentences

    yield from found.unknown()[:1]
    names = [one.feature.name for one in found.not_told if one.depends]
    yield from left_open(names, sentences(found.open()), found.assumes())


def _leaf(feature: Feature) -> str:
    word = feature.place.word
    assert isinstance(word, CpuidWord)
    return f"{word.function:x}.{word.index:x}" if word.function in INDEXED_FUNCTIONS else f"{word.function:x}"
