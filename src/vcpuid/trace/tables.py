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


class KernelTables:
    """Tables as the kernel has them: of each process when it is first seen, and at every look after some time.

    Raises UnavailableError at the first look where the kernel lets nobody read them.
    """

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self._tables: dict[int, list[tuple[int, CpuidTable]]] = {}

    def learn(self, pids: Collection[int]) -> None:
        """Read the tables of processes that are there."""
        for found in vcpu_tables(pids):
            self._tables.setdefault(found.pid, [])
        ...
