"""A paste as stacks: which of its messages are answered, and which only stand around these.

A manager says what libvirt said of what QEMU said. A row of the table names in `wraps` the layers whose messages tell what this one is
about. Such a message is answered only where there is none of them; so is a message without advice, which reports no error. Two messages
about other features are two errors, whoever prints them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vcpuid.diagnosis.recognise import Recognised


def answered(matches: Sequence[Recognised], naming: Collection[Recognised], covered: Collection[Recognised]) -> tuple[Recognised, ...]:
    """Give the messages that are answered, a form once: those that name features first, of these the ones nearest to the CPU.

    `naming` are the messages that features are taken from, `covered` those that name only features which a nearer one names as well.
    """
    first: dict[str, Recognised] = {}
    for match in sorted(matches, key=lambda match: (match not in naming, -match.message.depth, match.start)):
        if match not in covered:
            first.setdefault(match.message.id, match)
    found: list[Recognised] = []
    for match in sorted(first.values(), key=lambda match: (not match.message.fix, bool(match.message.wraps), match not in naming)):
        told = any(other.message.layer in match.message.wraps for other in found)
        if match in naming or not found or (match.message.fix and not told):
            found.append(match)
    kept = {match.message.id for match in found}
    return tuple(match for match in first.values() if match.message.id in kept)
