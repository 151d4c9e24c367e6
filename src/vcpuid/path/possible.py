"""What a setup's host could be, and what a guest's table could be of which a part is known, by what they do not tell."""

from __future__ import annotations

from collections.abc import Iterator

from vcpuid.kvm.answers import kvm_says
from vcpuid.setup import Setup
from vcpuid.told import parts
from vcpuid.told.completions import Completion, completions
from vcpuid.told.facts import Fact
from vcpuid.vmm import Vmm
from vcpuid.vmm.recorded import Recorded


def possible(setup: Setup, vmm: Vmm) -> Iterator[tuple[Completion, Setup, Vmm]]:
    """Give the hosts that the setup's could be, each with its VMM; before them, where that has a part of a table, what this could be.

    What the hosts make of it is tried on the first of those tables, the one that has all there could be.
    """
    made = list(possible_tables(setup, vmm))
    yield from made
    full = made[0][2] if made else vmm
    for completion in completions(setup):
        against = completion.against
        if made:
            completion = completion._replace(against=0 if against is None else against + len(made))
        yield completion, completion.setup, full


def possible_tables(setup: Setup, vmm: Vmm) -> Iterator[tuple[Completion, Setup, Vmm]]:
    """Give what a VMM's table could be of which a part is known, on the setup's own host."""
    if isinstance(vmm, Recorded) and vmm.dump is not None:
        for completion in parts.completions(vmm.dump, _components(setup)):
            yield completion, setup, vmm.showing(completion.setup.host)


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
