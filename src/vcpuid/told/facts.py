"""A fact that is not told: of a host's hardware, of a guest's table that somebody has a part of, or of a kernel between two with tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vcpuid.cpuid import Bit, CpuidWord, MsrWord, Word
from vcpuid.cpuid.feature_words import MSR_NAMES, OTHER_MSR_NAMES
from vcpuid.cpuid.hardware_msrs import KEPT
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.words import leaf_name
from vcpuid.kvm.feature_msrs import VMX
from vcpuid.params import MSR, REVISION, REVISION_MSR

HOST, TABLE = "host", "table"
"""Who does not tell a fact: the host, with the kernel on it, or the guest's table."""


class WholeLeaf(NamedTuple):
    """A leaf, or one sub-leaf of it, as a whole."""

    function: int
    index: int = 0  # type: ignore[assignment]  # the field's own name; hides tuple.index, which nobody asks of a leaf

    def __str__(self) -> str:
        return leaf_name(self.function, self.index)


class Between(NamedTuple):
    """What changed between two kernels with tables: of one that lies between them, `asked`, it is not known which of it that has."""

    asked: str
    older: str
    newer: str

    def __str__(self) -> str:
        return f"what changed between Linux {self.older} and {self.newer} (not known here of {self.asked})"


class Fact(NamedTuple):
    """What is missing: a leaf, an MSR, one bit of either, or what changed between two kernels.

    `of` is HOST, or TABLE where a table given for a guest lacks the leaf.
    """

    place: WholeLeaf | Word | Between
    position: int | None = None
    of: str = HOST

    @property
    def of_kernel(self) -> bool:
        """Whether it is what changed between two kernels."""
        return isinstance(self.place, Between)

    @property
    def name(self) -> str | None:
        """The feature that the bit stands for, or the MSR's name; None for a leaf, and for what has no name."""
        if isinstance(self.place, MsrWord) and self.position is None:
            return MSR_NAMES.get(self.place.msr) or OTHER_MSR_NAMES.get(self.place.msr)
        feature = None if self._bit is None else by_bit(self._bit)
        return None if feature is None else feature.name

    @property
    def _bit(self) -> Bit | None:
        return None if self.position is None or isinstance(self.place, (WholeLeaf, Between)) else Bit(self.place, self.position)

    @property
    def _spelled(self) -> str:
        return str(self.place if self._bit is None else self._bit)

    @property
    def whole(self) -> Fact:
        """The leaf or the MSR that the fact is a part of."""
        place = WholeLeaf(self.place.function, self.place.index) if isinstance(self.place, CpuidWord) else self.place
        return Fact(place, None, self.of)

    @property
    def how(self) -> str:
        """How it can be given."""
        return remedy((self,))

    def __str__(self) -> str:
        spelled = self._spelled if self.name is None else f"{self.name} ({self._spelled})"
        return f"{spelled} of the table" if self.of == TABLE else spelled

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"place": self._spelled, "name": self.name, "how": self.how, "of": self.of}


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
    """Say how facts can be given: a snapshot tells those of the host that collecting can read, a parameter one MSR, a dump all leaves.

    Of a kernel without tables nothing gives them; one beside it that has some is answered for.
    """
    given = tuple(facts)
    of_host = tuple(fact.place for fact in given if fact.of == HOST and not isinstance(fact.place, Between))
    ways = [_of_host(of_host)] if of_host else []
    if any(fact.of == TABLE for fact in given):
        ways.append("the whole table (cpuid -1r or vcpuid collect in the guest, or a recording of KVM_SET_CPUID2)")
    ways += [f"--kernel {place.older} or {place.newer}, which have tables" for place, *_ in given if isinstance(place, Between)]
    return f"give {', and '.join(ways)}"


def _of_host(places: Sequence[WholeLeaf | Word]) -> str:
    msrs = tuple(dict.fromkeys(place.msr for place in places if isinstance(place, MsrWord)))
    ways = [f"a snapshot that vcpuid collect takes on the host{_reading(msrs)}"] if msrs and KEPT.issuperset(msrs) else []
    if any(not isinstance(place, MsrWord) for place in places):
        ways.append("a whole dump of its CPUID (vcpuid collect, cpuid -1r)")
    if msrs:
        more = f" and the like for {len(msrs) - 1} more" if len(msrs) > 1 else ""
        parameter = f"{REVISION}=REVISION" if msrs[0] == REVISION_MSR else f"{MSR}{msrs[0]:x}=VALUE"
        ways.append(f"--param {parameter}{more}")
    return " or ".join(ways) if len(ways) < 3 else f"{ways[0]}, or {ways[1]} and {ways[2]}"


def _reading(msrs: Sequence[int]) -> str:
    """Say what `vcpuid collect` needs to read MSRs: root for the hardware's, /dev/kvm for what KVM makes of VMX's capabilities.

    The microcode's revision is in /proc/cpuinfo for everybody.
    """
    of_kvm = any(msr in VMX for msr in msrs)
    needs = ["as root"] if any(msr not in VMX and msr != REVISION_MSR for msr in msrs) else []
    return "".join(f" {need}" for need in (*needs, *(["with access to /dev/kvm"] if of_kvm else [])))


def hidden(facts: Sequence[Fact]) -> str:
    """Name facts on which an answer hangs, and whose they are: the host's, where any is, else nobody's who could tell."""
    return listed(facts) if all(fact.of_kernel for fact in facts) else f"what the host does not tell: {listed(facts)}"


def by_facts(answers: Iterable[NotTold]) -> dict[tuple[Fact, ...], list[str]]:
    """Put together what depends on the same facts."""
    groups: dict[tuple[Fact, ...], list[str]] = {}
    for what, facts in answers:
        groups.setdefault(facts, []).append(what)
    return groups


def grouped(answers: Iterable[NotTold]) -> dict[tuple[Fact, ...], list[str]]:
    """Put together what depends on the same leaves and MSRs, under the facts themselves where these are the same for all.

    What depends on many bits of a leaf, a row for each, is told in one row, under the leaf.
    """
    groups: dict[tuple[Fact, ...], list[NotTold]] = {}
    for answer in answers:
        groups.setdefault(wholes(answer.depends), []).append(answer)
    return {in_common([member.depends for member in members]): [member.what for member in members] for members in groups.values()}


def wholes(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Name the leaves and MSRs that facts are parts of, each once."""
    return tuple(dict.fromkeys(fact.whole for fact in facts))


def in_common(depends: Sequence[tuple[Fact, ...]]) -> tuple[Fact, ...]:
    """Name on what several answers depend: the facts where these are the same for all, else the leaves and MSRs that they are parts of."""
    same = all(facts == depends[0] for facts in depends)
    return depends[0] if same else wholes(fact for facts in depends for fact in facts)


def _leaves(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    return tuple(dict.fromkeys(fact.whole if isinstance(fact.place, CpuidWord) else fact for fact in facts))


def sentences(answers: Iterable[NotTold]) -> list[str]:
    """Say in a line each what is not told, and on what it depends; then how to give that. No line where nothing is open.

    Of a leaf that is missing all features are, so that here the leaf stands for them. What depends on no fact of the host's is left out.
    """
    by_facts = grouped(NotTold(what, _leaves(facts)) for what, facts in answers if facts)
    lines = [f"Not told: {' '.join(names)}: depends on {listed(facts)}." for facts, names in by_facts.items()]
    every = tuple(dict.fromkeys(fact for facts in by_facts for fact in facts))
    return [*lines, f"To settle all of that: {remedy(every)}."] if lines else []


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
