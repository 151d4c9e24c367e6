"""The words of a table, and those that the guest's CPUID instruction makes of it: looked up when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from vcpuid import kvm
from vcpuid.cpuid import CpuidTable, CpuidWord, Registers, Word
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.words import REGISTERS
from vcpuid.releases import Release
from vcpuid.setup import SHARED


class TableWords(Mapping[Word, int]):
    """A table's registers and feature MSRs, word by word; looked up when asked for, since most words of a path never are."""

    def __init__(self, table: CpuidTable, msrs: Mapping[Word, int]) -> None:
        self._table, self._msrs = table, msrs

    def __getitem__(self, word: Word) -> int:
        if not isinstance(word, CpuidWord):
            return self._msrs[word]
        if self._table.get(word.function, word.index) is None:
            raise KeyError(word)
        return self._table.word(word)

    def __iter__(self) -> Iterator[Word]:
        yield from self._table.words()
        yield from self._msrs

    def __len__(self) -> int:
        return len(self._table.by_key()) * len(REGISTERS) + len(self._msrs)


class GuestWords(TableWords):
    """What the guest's CPUID instruction returns, by KVM's look-up rules; feature MSRs as the VMM set them."""

    def __init__(self, kept: CpuidTable, msrs: Mapping[Word, int], kernel: Release) -> None:
        super().__init__(kept, msrs)
        self._kernel = kernel
        self._leaves: dict[tuple[int, int], Registers] = {}

    def __getitem__(self, word: Word) -> int:
        if isinstance(word, CpuidWord):
            value: int = getattr(self.leaf(word.function, word.index), word.register)
            return value
        return self._msrs[word]

    def leaf(self, function: int, index: int) -> Registers:
        """All four registers at once, looked up once: who asks for one mostly asks for the others."""
        if (known := self._leaves.get((function, index))) is None:
            known = self._leaves[function, index] = kvm.lookup(self._table, function, index, kernel=self._kernel)
        return known


@lru_cache(maxsize=SHARED)
def table_words(table: CpuidTable, msrs: FrozenMap[Word, int]) -> TableWords:
    """Return a table's words; of hosts on which they are the same, they are one object, which is read once."""
    return TableWords(table, msrs)


@lru_cache(maxsize=SHARED)
def guest_words(kept: CpuidTable, msrs: FrozenMap[Word, int], kernel: Release) -> GuestWords:
    """Return what a guest reads, likewise."""
    return GuestWords(kept, msrs, kernel)
