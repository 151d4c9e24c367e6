"""Which table a vCPU keeps, as far as somebody tells it: a file, or the kernel itself."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from typing import Protocol

from vcpuid.cpuid import CpuidTable
from vcpuid.trace.vcpus import vcpu_tables

_PAUSE = 0.5
"""Seconds between two looks at the same processes."""
_MOST = 4096
"""VcpuTables of a process that are kept, the latest."""


class VcpuTables(Protocol):
    """VcpuTables of vCPUs by process and number."""

    def learn(self, pids: Set[int]) -> None:
        """Look at these processes while they are there."""
        ...

    def candidates(self, pid: int) -> Sequence[tuple[int, CpuidTable]]:
        """Give the tables of a process's vCPUs, each with the vCPU's number; empty where nobody told them."""
        ...


class GivenTables:
    """VcpuTables out of a file, of whichever guest it is: the first is that of vCPU 0, and so on."""

    def __init__(self, tables: Sequence[CpuidTable]) -> None:
        self._tables = list(enumerate(tables))

    def learn(self, pids: Set[int]) -> None:
        """Nothing of a process is needed."""

    def candidates(self, pid: int) -> Sequence[tuple[int, CpuidTable]]:
        """Give all tables of the file."""
        return self._tables


class KernelTables:
    """VcpuTables that the kernel keeps now, read again and again while their guests are there."""

    def __init__(self) -> None:
        self._tables: dict[int, dict[tuple[int, CpuidTable], None]] = {}
        self._due = 0.0

    def learn(self, pids: Set[int]) -> None:
        """Read the tables of these processes; raises UnavailableError where the kernel lets nobody read them."""
        now = time.monotonic()
        if now < self._due and pids <= self._tables.keys():
            return
        self._due = now + _PAUSE
        for pid in pids:
            self._tables.setdefault(pid, {})
        for found in vcpu_tables(pids):
            of_process = self._tables[found.pid]
            of_process.pop((found.number, found.table), None)
            of_process[found.number, found.table] = None
            if len(of_process) > _MOST:
                del of_process[next(iter(of_process))]

    def candidates(self, pid: int) -> Sequence[tuple[int, CpuidTable]]:
        """Give all tables that vCPUs of the process had: another guest may have been in it before, and a VMM may set a table anew."""
        return list(self._tables.get(pid, ()))
