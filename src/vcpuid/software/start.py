"""What the start of a program costs in a guest: glibc's dynamic linker executes CPUID to choose functions and to size caches, an exit each.

How often, was counted by `vcpuid trace -- true` on real processors, a row of data/program-starts.json each.
"""

from __future__ import annotations

from typing import NamedTuple


class ExitCost(NamedTuple):
    """What one CPUID costs a guest, in nanoseconds: `how` is measured or assumed, `where` says on what."""

    ns: float
    how: str
    where: str


ASSUMED = ExitCost(1000.0, "assumed", "on hardware that runs no hypervisor below; nested virtualization makes it 20 to 70 times as much")
