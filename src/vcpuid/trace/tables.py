"""Which table a vCPU keeps, as far as somebody tells it: a file, or the kernel itself."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from vcpuid.cpuid import CpuidTable
from vcpuid.errors import UnavailableError
from vcpuid.trace.first_entry import FirstEntries
from vcpuid.trace.vcpus import VcpuTable, require_tables, vcpu_tables

_PAUSE = 0.5
"""Seconds between two looks at the same processes."""
_MOST = 4096
"""VcpuTables of a process that are kept, the latest."""


class VcpuTables(Protocol):
    """VcpuTables of vCPUs by process and number; some are only found while a `with` goes on."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing was opened."""

    def learn(self, pids: Set[int]) -> None:
        """Nothing of a process is needed."""

    def candidates(self, pid: int) -> Sequence[tuple[int, CpuidTable]]:
        """Give all tables of the file."""
        return self._tables


class KernelTables:
    """VcpuTables that the kernel keeps: of each vCPU when it first enters its guest, and again and again while it is there.

    `pid` is the process that is meant, None for all. Where the kernel does not tell of entries, a guest that is gone before the next look
    has none.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self._tables: dict[int, dict[tuple[int, CpuidTable], None]] = {}
        self._entries: FirstEntries | None = None
        self._looked_at: set[int] = set()
        self._due = 0.0

    def __enter__(self) -> Self:
        """Begin; raises UnavailableError where this kernel tells no tables, before anybody waits for them."""
        require_tables()
        with suppress(UnavailableError):
            self._entries = FirstEntries(self._pid)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._entries is not None:
            self._entries.close()

    def learn(self, pids: Set[int]) -> None:
        """Read the tables of these processes; raises UnavailableError where the kernel lets nobody read them."""
        for found in [] if self._entries is None else self._entries.take():
            self._keep(found)
        now = time.monotonic()
        if now < self._due and pids <= self._looked_at:
            return
        self._due = now + _PAUSE
        self._looked_at |= pids
        for found in vcpu_tables(pids):
            self._keep(found)

    def candidates(self, pid: int) -> Sequence[tuple[int, CpuidTable]]:
        """Give all tables that vCPUs of the process had: another guest may have been in it before, and a VMM may set a table anew."""
        return list(self._tables.get(pid, ()))

    def _keep(self, found: VcpuTable) -> None:
        of_process = self._tables.setdefault(found.pid, {})
        of_process.pop((found.number, found.table), None)
        of_process[found.number, found.table] = None
        if len(of_process) > _MOST:
            del of_process[next(iter(of_process))]
