"""vcpuid rules: the rules by which parties change bits, to be looked up."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.short import Cut
from vcpuid.cli.streams import tell

if TYPE_CHECKING:
    from vcpuid.rulebook import Card

_SHOWN = 8
_BRIEF = ["rule", "known", "reason"]
COLUMNS = ["rule", "party", "since", "until", "known", "reason"]


@click.command(name="rules")
@click.argument("words", metavar="[ID|TEXT...]", nargs=-1, shell_complete=choices.rules)
@all_option
@format_option
def command(words: tuple[str, ...], everything: bool, form: str) -> None:
    """List the rules that change CPUID bits, or explain one.

    With the ID of a rule, as explain prints it: its reason, the function it was read from, the release and commit that brought it, a
    remedy, and how it is known. "Captured" rules have decided a bit in a real kernel's or QEMU's answer; the others are only read from the
    source. With a TEXT: every rule that has all of its words in its id, reason or source. Without either: every rule, and every hazard of
    vcpuid check. The rules are those of Linux, KVM, QEMU, libvirt and Firecracker.

    Exit status 1 where no rule is found; similar ids are then named. What diagnose prints in brackets are ids of messages, not of rules.
    """
    from vcpuid.rulebook import all_rules, look_up, report

    text = " ".join(words)
    found = look_up(text) if text else all_rules()
    if (message := _message(text)) is not None:
        tell(message)
    elif not found:
        tell(f"no rule has {text[:60]!r}{_instead(text)}")
    if len(found) == 1 and form == "table":
        rows: list[dict[str, object]] = [{"what": what, "told": told} for what, told in _card(found[0])]
        emit(Sheet(["what", "told"], rows), form)
    else:
        brief = form == "table" and not everything
        by_layer = ", ".join(f"{layer} {count}" for layer, count in Counter(card.party for card in found).items())
        captured = sum(card.history.known == "captured" for card in found)
        sheet = Sheet(
            _BRIEF if brief else COLUMNS,
            [_row(card) for card in found],
            report(found),
            head=[f"{len(found)} rules, {captured} of them shown by a capture; by layer: {by_layer}.", ""] if found else [],
            cut=Cut(_SHOWN, what="rules") if brief else None,
            titles={"rule": "id", "party": "layer"},
        )
        emit(sheet, form)
    sys.exit(0 if found else 1)


def _instead(text: str) -> str:
    """Ask for what may be meant by what no rule has: for a feature, or for rules of ids like it."""
    from vcpuid.cpuid.names import meant
    from vcpuid.rulebook import near

    if meant(text):
        return f", which is a feature: did you mean vcpuid explain {shlex.quote(text)}?"
    ids = " or ".join(near(text))
    return f"; did you mean {ids}?" if ids else ""


def _message(text: str) -> str | None:
    """Say of the id of a message, which diagnose prints in brackets as explain prints a rule's, what it is; None for any other text."""
    from vcpuid.diagnosis.messages import messages

    found = next((message for message in messages() if message.id == text), None)
    return (
        None
        if found is None
        else f"{text} is no rule but a message of {found.program}'s that vcpuid diagnose knows, as in: {found.example}"
    )


def _row(card: Card) -> dict[str, object]:
    told = card.history
    values = (card.id, card.party, told.provenance.since, told.provenance.until, told.known, card.reason)
    return dict(zip(COLUMNS, values, strict=True))


def _card(card: Card) -> Iterator[tuple[str, str]]:
    yield "id", card.id
    yield "layer", card.party
    yield "reason", card.reason
    if card.severity is not None:
        yield "severity", card.severity.value
    if card.source is not None:
        yield "source", card.source
    if history := "; ".join(card.history.words()):
        yield "history", history
    if card.history.provenance.evidence is not None:
        yield "evidence", card.history.provenance.evidence
    if card.history.capture is not None:
        yield "known", f"captured: tests/captures/{card.history.capture}"
    elif card.history.known is not None:
        yield "known", "read from the source; no capture shows it yet"
    if card.remedy is not None:
        yield "remedy", card.remedy
