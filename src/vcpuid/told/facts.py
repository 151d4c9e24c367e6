"""A fact of the hardware that a host does not tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vcpuid.cpuid import Bit, CpuidWord, MsrWord, Word
from vcpuid.cpuid.feature_words import MSR_NAMES, OTHER_MSR_NAMES
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.words import leaf_name


class WholeLeaf(NamedTuple):
    """A leaf, or one sub-leaf of it, as a whole."""

    function: int
    index: int = 0  # type: ignore[assignment]  # the field's own name; hides tuple.index, which nobody asks of a leaf

    def __str__(self) -> str:
        return leaf_name(self.function, self.index)


class Fact(NamedTuple):
    """What is missing: a leaf, an MSR, or one bit of either."""

    place: WholeLeaf | Word
    position: int | None = None

    @property
    def name(self) -> str | None:
        """The feature that the bit stands for, or the MSR's name; None for a leaf, and for what has no name."""
        if isinstance(self.place, MsrWord) and self.position is None:
            return MSR_NAMES.get(self.place.msr) or OTHER_MSR_NAMES.get(self.place.msr)
        feature = None if self._bit is None else by_bit(self._bit)
        return None if feature is None else feature.name

    @property
    def _bit(self) -> Bit | None:
        return None if self.position is None or isinstance(self.place, WholeLeaf) else Bit(self.place, self.position)

    @property
    def _spelled(self) -> str:
        return str(self.place if self._bit is None else self._bit)

    @property
    def whole(self) -> Fact:
        """The leaf or the MSR that the fact is a part of."""
        return Fact(WholeLeaf(self.place.function, self.place.index) if isinstance(self.place, CpuidWord) else self.place)

    @property
    def how(self) -> str:
        """How it can be given."""
        return remedy((self,))

    def __str__(self) -> str:
        return self._spelled if self.name is None else f"{self.name} ({self._spelled})"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"place": self._spelled, "name": self.name, "how": self.how}


class NotTold(NamedTuple):
    """An answer that is neither yes nor no: what it is about, and the facts on which it depends."""

    what: str
    depends: tuple[Fact, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"what": self.what, "depends": [fact.as_dict() for fact in self.depends]}


_LISTED = 4


def listed(facts: Sequence[Fact]) -> str:
    """Name facts in a sentence: the first ones, and how many more there are."""
    named = [str(fact) for fact in facts[:_LISTED]]
    if len(facts) > _LISTED:
        named.append(f"{len(facts) - _LISTED} more")
    return " and ".join((", ".join(named[:-1]), named[-1])) if len(named) > 1 else "".join(named)


def remedy(facts: Iterable[Fact]) -> str:
    """Say how facts can be given: a snapshot tells all of them, a parameter one MSR, a dump of CPUID all leaves."""
    places = [fact.place for fact in facts]
    msrs = tuple(dict.fromkeys(place.msr for place in places if isinstance(place, MsrWord)))
    ways = ["a snapshot that vcpuid collect takes on the host as root"] if msrs else []
    if any(not isinstance(place, MsrWord) for place in places):
        ways.append("a whole dump of its CPUID (vcpuid collect, cpuid -1r)")
    if msrs:
        more = f" and the like for {len(msrs) - 1} more" if len(msrs) > 1 else ""
        ways.append(f"--param msr.{msrs[0]:x}=VALUE{more}")
    return f"give {' or '.join(ways)}" if len(ways) < 3 else f"give {ways[0]}, or {ways[1]} and {ways[2]}"


def grouped(answers: Iterable[NotTold]) -> dict[tuple[Fact, ...], list[str]]:
    """Put what depends on the same facts together."""
    by_facts: dict[tuple[Fact, ...], list[str]] = {}
    for what, facts in answers:
        by_facts.setdefault(facts, []).append(what)
    return by_facts


def _leaves(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    return tuple(dict.fromkeys(fact.whole if isinstance(fact.place, CpuidWord) else fact for fact in facts))


def sentences(answers: Iterable[NotTold]) -> list[str]:
    """Say in a line each what is not told, and on what it depends; then how to give that. No line where nothing is open.

    Of a leaf that is missing all features are, so that here the leaf stands for them.
    """
    by_facts = grouped(NotTold(what, _leaves(facts)) for what, facts in answers)
    lines = [f"Not told: {' '.join(names)}: depends on {listed(facts)}." for facts, names in by_facts.items()]
    every = tuple(dict.fromkeys(fact for facts in by_facts for fact in facts))
    return [*lines, f"To be told of all: {remedy(every)}."] if lines else []


def whether(something: str, answers: Iterable[NotTold]) -> list[str]:
    """Say in a line for each set of facts what hangs on it: whether `something` of the kind of these texts comes."""
    return [
        f"not told whether {something}: {_texts(texts)}: depends on {listed(facts)}; {remedy(facts)}"
        for facts, texts in grouped(NotTold(text, _leaves(facts)) for text, facts in answers).items()
    ]


def _texts(texts: Sequence[str]) -> str:
    """List the first of some texts; what all begin with, up to a colon, stands there once."""
    start, colon, _ = texts[0].partition(": ")
    begin = start + colon if colon and all(text.startswith(start + colon) for text in texts) else ""
    more = f"; and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return begin + "; ".join(text.removeprefix(begin) for text in texts[:_LISTED]) + more
