"""A word after each party, as bits: of what has no name, nothing else is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vcpuid.answers.certainty import depends
from vcpuid.cpuid import Bit, Word
from vcpuid.cpuid.words import positions
from vcpuid.path.pipeline import Path


@dataclass(frozen=True, slots=True)
class Afterwards:
    """A word as the party hands it on: None where it does not look at it; `open` are the bits that are not told, as a mask."""

    party: str
    value: int | None
    open: int

    def as_dict(self) -> dict[str, object]:
        """For JSON; both in hexadecimal, as a word of CPUID or an MSR is spelled."""
        return {"party": self.party, "value": None if self.value is None else f"{self.value:x}", "open": f"{self.open:x}"}


def rows(path: Path, word: Word, mask: int) -> Iterator[Afterwards]:
    """Give the bits of `mask` in a word after each party of a path, from the silicon to the guest."""
    places = [Bit(word, position) for position in positions(mask)]
    for position, step in enumerate(path.trace.steps):
        value = step.word(word)
        open_ = sum(bit.mask for bit in places if depends(path, position, (bit,)))
        yield Afterwards(step.party, None if value is None else value & mask & ~open_, open_)
