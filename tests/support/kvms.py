"""Hosts and KVMs that are not Linux's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from support.captures import host
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.errors import UnavailableError

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"


def odd(name: str = SKYLAKE) -> Snapshot:
    """A captured host whose KVM would run on a module of somebody else's."""
    snapshot = host(name)
    return replace(snapshot, params=FrozenMap({**snapshot.params, "kvm_odd.native": "Y"}))


class Picky:
    """A KVM that refuses some MSRs; `absent` gives no vCPU at all."""

    listed = frozenset({0x10A})

    def __init__(self, *refused: int, absent: bool = False) -> None:
        self._refused, self._absent = refused, absent

    @contextmanager
    def vcpu(self) -> Iterator[Picky]:
        if self._absent:
            raise UnavailableError("/dev/kvm: No such file or directory")
        yield self

    def enable(self, capability: int, argument: int | None) -> None: ...

    def set_cpuid(self, table: CpuidTable) -> None: ...

    def machine_checks(self) -> int:
        return 0x9000100

    def set_machine_checks(self, wanted: int) -> None: ...

    def set_msrs(self, values: Sequence[tuple[int, int]]) -> int:
        return next((i for i, (msr, value) in enumerate(values) if msr in self._refused and (value or msr != 0x10A)), len(values))
