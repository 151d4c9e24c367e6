"""How far two spellings are apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def distance(one: str, other: str) -> int:
    """Count the letters to change, add, leave out, or swap with the next, until the one is the other."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        before, last, row = row, before, [at]
        for place, wanted in enumerate(other, 1):
            cost = min(before[place] + 1, row[-1] + 1, before[place - 1] + (letter != wanted))
            if at > 1 and place > 1 and letter == other[place - 2] and one[at - 2] == wanted:
                cost = min(cost, last[place - 2] + 1)
            row.append(cost)
    return row[-1]


def nearest(word: str, known: Iterable[str], most: int, work: int) -> str | None:
    """Give the word that is spelled most nearly so, the first of several; None where all have more than `most` letters otherwise.

    As many are at least otherwise as the one has and the other has not. Those with the fewest are looked at first, and no more than `work`
    of them: what is left then is hardly nearer.
    """
    has, looked = Counter(word), list[tuple[int, str]]()
    for other in known:
        longer = len(other) - len(word)
        if abs(longer) <= most:
            lacks = sum(max(0, times - other.count(letter)) for letter, times in has.items())
            looked.append((max(lacks, lacks + longer), other))
    found, apart = None, most + 1
    for least, other in sorted(looked)[:work]:
        if least >= apart:
            break
        if (now := distance(word, other)) < apart:
            found, apart = other, now
    return found
