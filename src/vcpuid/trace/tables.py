"""Which table a vCPU keeps, as far as somebody tells it: a file, or the kernel itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from vcpuid.cpuid import CpuidTable


class Tables(Protocol):
    """Tables of vCPUs by process and number."""

    remarks: list[str]
    """What there is to say of them."""

    def learn(self, pids: Collection[int]) -> None:
        """Look at these processes while they are there."""
        ...

    def candidates(self, pid: int) -> Sequence[tuple[int, CpuidTable]]:
        """Give the tables of a process's vCPUs, each with the vCPU's number; empty where nobody told them."""
        ...


class GivenTables:
    """Tables out of a file, of whichever guest it is: the first is that of vCPU 0, and so on."""

    def __init__(self, tables: Sequence[CpuidTable]) -> None:
        self.remarks: list[str] = []
        self._tables = list(enumerate(tables))

    def learn(self, pids: Collection[int]) -> None:
        """Nothing of a process is needed."""

    def candidates(self, pid: int) -> Sequence[tuple[int, CpuidTable]]:
        """Give all tables of the file."""
        return self._tables
