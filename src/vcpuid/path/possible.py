"""What a setup's host could be, and what a guest's table could be of which a part is known, by what they do not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from vcpuid.kvm.answers import kvm_says
from vcpuid.setup import Setup
from vcpuid.told import parts
from vcpuid.told.completions import completions
from vcpuid.told.facts import Fact
from vcpuid.told.hosts import Completions
from vcpuid.told.tried import Tried
from vcpuid.vmm import Vmm
from vcpuid.vmm.recorded import Recorded

T = TypeVar("T")


class Possible(NamedTuple):
    """The hosts that a setup's could be, and before them, where a part of its VMM's table is all that is known, what this could be.

    `vmms` are theirs, each at its completion's place. The hosts' is `full`: what they make of it is tried on the first of those tables,
    which has all that there could be.
    """

    completions: Completions
    vmms: tuple[Vmm, ...]
    full: Vmm

    def tried(self, ask: Callable[[Setup, Vmm], T]) -> Tried[T]:
        """Ask each of them."""
        answers = [ask(completion.setup, vmm) for completion, vmm in zip(self.completions, self.vmms, strict=True)]
        return Tried(self.completions, answers, lambda against, fact: ask(self.completions.turned(against, fact), self.full))


def possible(setup: Setup, vmm: Vmm) -> Possible:
    """Give what a setup's host could be, and its VMM's table."""
    tables, hosts = possible_tables(setup, vmm), completions(setup)
    if before := len(tables.completions):
        after = (made._replace(against=_after(before, made.against)) for made in hosts)
        turned = hosts.turned
        hosts = Completions((*tables.completions, *after), lambda against, fact: turned(against - before, fact))
    return Possible(hosts, (*tables.vmms, *(tables.full for _ in hosts.made[before:])), tables.full)


def _after(before: int, against: int | None) -> int:
    """Renumber what a completion is compared with that others stand before, the first of which is the host with nothing made up."""
    return 0 if against is None else against + before


def possible_tables(setup: Setup, vmm: Vmm) -> Possible:
    """Give what a VMM's table could be of which a part is known, on the setup's own host."""
    if not isinstance(vmm, Recorded) or vmm.dump is None:
        return Possible(Completions(), (), vmm)
    made = parts.completions(vmm.dump, _components(setup))
    vmms = tuple(vmm.showing(completion.setup.host) for completion in made)
    return Possible(Completions(tuple(completion._replace(setup=setup) for completion in made)), vmms, vmms[0] if vmms else vmm)


def _components(setup: Setup) -> int:
    """Return the XSAVE components that the host's KVM lets a guest have, all where nothing is known of it."""
    leaf = None if setup.host.supported is None else setup.host.supported.registers(0xD)
    if not setup.host.raw:
        return -1 if leaf is None else leaf.edx << 32 | leaf.eax
    return kvm_says(setup).xcr0 or 0


def partial(vmm: Vmm) -> bool:
    """Whether the VMM's table is one of which only a part is known."""
    return isinstance(vmm, Recorded) and vmm.dump is not None and bool(parts.missing(vmm.dump))


def unnamed_table(vmm: Vmm) -> tuple[Fact, ...]:
    """Name those of leaves 0 and 1 that a VMM's table lacks of which only a dump is known."""
    return parts.unnamed(vmm.dump) if isinstance(vmm, Recorded) and vmm.dump is not None else ()
