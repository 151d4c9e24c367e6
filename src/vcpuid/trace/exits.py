"""A CPUID exit as it is counted, and the ways to count: all of them answer alike, and say what they did not see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from vcpuid.cpuid import Registers


class Exit(NamedTuple):
    """One kind of CPUID exit; all that are equal are counted together.

    `pid` is the VMM's process and `tid` its thread, which is the vCPU. `function` and `index` are the guest's EAX and ECX, `registers` what
    KVM answered, None where exits are not told apart by it. `rip` is the guest's linear address, None where nobody told it; `stack` the
    kernel's addresses, innermost first, empty where nobody told them.
    """

    pid: int
    tid: int
    function: int
    index: int  # type: ignore[assignment]  # the field's own name; hides tuple.index, which nobody asks of an exit
    registers: Registers | None = None
    rip: int | None = None
    stack: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted since tracing began.

    `missed` are exits that were seen and not counted by what they are (no room left for another kind), `lost` those that nobody saw. So
    `seen` is all there were where nothing was lost.
    """

    exits: Mapping[Exit, int]
    missed: int = 0
    lost: int = 0
    comms: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Names of the threads, by process and thread, as the kernel had them at their first exit; empty where nobody told them."""

    @property
    def counted(self) -> int:
        """How many exits are in `exits`."""
        return sum(self.exits.values())


@dataclass(frozen=True, slots=True)
class WantedExits:
    """What is traced: of a process, or of all; and by what exits are told apart besides threads and leaves: by KVM's answers, by the
    guest's addresses, by the kernel's back-traces.
    """

    pid: int | None = None
    answers: bool = False
    rip: bool = False
    stack: bool = False


class CountingWay(Protocol):
    """A way to count exits, under way until it is closed."""

    name: str
    """What counts: BPF, perf or tracefs."""
    pause: float
    """Seconds after which it wants to be read again, at the latest: what it keeps for us has bounds."""

    def read(self) -> Tally:
        """Tell what was counted so far."""
        ...

    def stop(self) -> None:
        """Count no more; what was counted can still be read."""
        ...

    def close(self) -> None:
        """End the counting, and leave nothing behind."""
        ...
