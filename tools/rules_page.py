"""Write the page of all rules for the documentation's site.

    python tools/rules_page.py docs/generated/rules.md

Everything on it is what `vcpuid rules` prints; docs/conformance.md tells what "captured" means.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from figures import table
from man_pages import plain
from vcpuid.rulebook import HAZARDS, Card, all_rules

INTRODUCTION = """# Rules

Every reason for which a party changes bits, as `vcpuid explain` and `vcpuid guest` name it; `vcpuid rules ID` shows one with its evidence.
*Captured* rules decided a bit that stands in an answer of a real kernel or QEMU ([which ones](../conformance.md)); the others are read from
the program's source and no capture has shown them. *Since* is the release of the program itself, where it was found out; stable series took
some of these changes over. A rule without a release says in which of the tables here it is."""

HEADS = {"silicon": "Silicon", "linux": "Linux", "kvm": "KVM", "qemu": "QEMU", "observed": "Observed", HAZARDS: "Hazards"}


def page() -> str:
    """Lay the page out."""
    parts = [INTRODUCTION]
    for party, cards in groupby(all_rules(), key=lambda card: card.party):
        rows = list(cards)
        captured = sum(card.history.known == "captured" for card in rows)
        parts.append(f"## {HEADS.get(party, party.capitalize())}")
        if party == HAZARDS:
            parts.append("What in a table hurts its guest, whoever made it: `vcpuid check` tells of these.")
        elif captured:
            parts.append(f"{captured} of {len(rows)} are captured.")
        parts.append(table(["rule", "what it says", "where", "releases", "known"], map(_row, rows)))
    return "\n\n".join(parts) + "\n"


def _row(card: Card) -> list[str]:
    about = card.reason if card.severity is None else f"{card.severity.value}: {card.reason}"
    told = (about, card.source or "", "; ".join(card.history.words()), card.history.known or "")
    return [f"`{card.id}`", *(plain(text).replace("|", "\\|") for text in told)]


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(), encoding="utf-8")
