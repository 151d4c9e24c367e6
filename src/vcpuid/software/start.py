"""What the start of a program costs in a guest: glibc's dynamic linker executes CPUID to choose functions and to size caches, an exit each.

How often depends on the caches that CPUID tells. It was counted on the CPUs that QEMU makes (`tools/program_starts.py`), a range for each
vendor and release; a processor that tells more of its caches than QEMU does goes beyond, to 68 under 2.36.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vcpuid.data import load
from vcpuid.software.cpu import SoftwareCpu


class ExitCost(NamedTuple):
    """What one CPUID costs a guest, in nanoseconds: `how` is measured or assumed, `where` says on what."""

    ns: float
    how: str
    where: str


ASSUMED = ExitCost(3478.0, "assumed", "what an AMD EPYC 9004 took, itself a guest on hardware virtualization")
"""Where nothing is measured: the figure of docs/worth.md."""


class ProgramStart(NamedTuple):
    """How many CPUIDs a program's start takes under a glibc, from `least` to `most`, as counted on `cpus` CPUs of the guest's vendor."""

    release: str
    least: int
    most: int
    cpus: int
    cost: ExitCost = ASSUMED

    @property
    def microseconds(self) -> tuple[float, float]:
        """What they cost in a guest."""
        return self.least * self.cost.ns / 1000, self.most * self.cost.ns / 1000

    @property
    def price(self) -> str:
        """Say what they cost in a few words."""
        least, most = self.microseconds
        return f"an exit each, {least / 1000:.2f} to {most / 1000:.2f} ms at {self.cost.ns / 1000:.1f} µs ({self.cost.how})"

    @property
    def why(self) -> str:
        """Say what they cost, and how that is known."""
        return f"{self.price.removesuffix(')')}: {self.cost.where}); counted on {self.cpus} of QEMU's CPUs of this vendor"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        least, most = self.microseconds
        cost = {
            "ns": round(self.cost.ns, 1),
            "how": self.cost.how,
            "where": self.cost.where,
            "microseconds": [round(least, 1), round(most, 1)],
        }
        return {"glibc": self.release, "least": self.least, "most": self.most, "cpus": self.cpus, "cost": cost, "why": self.why}


def starts(cpu: SoftwareCpu, releases: Sequence[str], cost: ExitCost = ASSUMED) -> Iterator[ProgramStart]:
    """Tell it for each of these releases that was counted on CPUs of the guest's vendor."""
    counted = load("program-starts")["starts"]
    for release in releases:
        if found := counted.get(release, {}).get(cpu.vendor):
            yield ProgramStart(release, found["least"], found["most"], found["cpus"], cost)
