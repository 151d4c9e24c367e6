"""What software in a path's guest makes of its CPU, and which of its answers depend on what the host does not tell."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Mapping
from functools import cache
from typing import TypeVar

from vcpuid.answers.certainty import hanging, rests
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.cpuid.parts import alone, dumped, for_guest
from vcpuid.path.pipeline import Path, guest_view
from vcpuid.setup import Setup
from vcpuid.told.assumptions import Assumption
from vcpuid.told.doubt import doubts
from vcpuid.told.facts import Fact

K = TypeVar("K", bound=Hashable)


def of_guest(path: Path, answer: Callable[[CpuidTable], Mapping[K, object]]) -> dict[K, tuple[Fact, ...]]:
    """Return the answers about the CPUID of a path's guest that are not told, each with the facts on which it depends."""
    once = cache(lambda table: answer(table))
    return hanging(path.cpu, path.setup, path.vmm, lambda other: None if other is None else once(guest_view(other)))


def resting(path: Path, answer: Callable[[CpuidTable], Mapping[K, object]], but: Container[K]) -> dict[Assumption, tuple[K, ...]]:
    """Return the assumptions on which those answers rest, each with what these are about, but for `but`, which is not told."""
    once = cache(lambda table: answer(table))
    return rests(path, lambda other: once(guest_view(other)), but)


def of_table(snapshot: Snapshot, answer: Callable[[CpuidTable], Mapping[K, object]]) -> dict[K, tuple[Fact, ...]]:
    """Do the same for the CPU of a snapshot's table for a guest: what a program read may be a part, and so may what is left of KVM's."""
    setup = Setup.of(alone(snapshot))  # names of features alone are a table from here on
    if not dumped(setup.host):
        return {}
    once = cache(lambda table: answer(table))
    return doubts(setup, lambda other: once(for_guest(other.host)))
