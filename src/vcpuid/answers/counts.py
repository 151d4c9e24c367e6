"""How many of the features that a -cpu asks for a guest gets: counted, and spelled, by QEMU's own names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vcpuid.answers.attempt import Attempt
from vcpuid.cpuid import Bit
from vcpuid.qemu import QemuResult
from vcpuid.qemu.catalog import Catalog
from vcpuid.qemu.models import names_of

NO_MASKS: Mapping[str, int] = {}


class Requested(NamedTuple):
    """The features that a -cpu asks for, each once by QEMU's name, and how many of them what is proposed instead keeps.

    `lacks` are those that the guest does not get: neither what QEMU leaves out and KVM shows all the same, nor what is not told. `asked` is
    empty where QEMU refuses the -cpu whatever is left out, a number None where nothing is proposed.
    """

    asked: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    proposal_keeps: int | None = None
    nearest_keeps: int | None = None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "asked": len(self.asked),
            "lacks": list(self.lacks),
            "proposal_keeps": self.proposal_keeps,
            "nearest_keeps": self.nearest_keeps,
        }


NO_COUNTS = Requested()


def distinct(tables: Catalog, masks: Mapping[str, int]) -> tuple[str, ...]:
    """Name the features of masks by feature word once each, in QEMU's order; a part of the XSAVE area by the feature that uses it."""
    return tuple(dict.fromkeys(filter(None, names_of(tables, masks))))


def wanted(made: QemuResult) -> dict[str, int]:
    """Give what a -cpu asks for as masks by feature word: what QEMU gives, what it denies, and what it drops without a word."""
    words = (made.state.features, made.state.filtered, made.dropped or NO_MASKS)
    return {name: words[0].get(name, 0) | words[1].get(name, 0) | words[2].get(name, 0) for name in {**words[0], **words[1], **words[2]}}


def kept(attempt: Attempt, cpu: str | None, asked: Iterable[str]) -> int | None:
    """Count which of the features asked for another -cpu gives; None where there is none."""
    made = None if cpu is None else attempt.run(cpu)
    if made is None:
        return None
    return len(frozenset(asked) & frozenset(distinct(attempt.catalog, made.state.features)))


def called(tables: Catalog, bit: Bit) -> str | None:
    """Give QEMU's name of a bit, as `distinct` does; None where it has none."""
    masks = {row.name: bit.mask for row in tables.words if row.word == bit.word}
    return next(iter(distinct(tables, masks)), None)
