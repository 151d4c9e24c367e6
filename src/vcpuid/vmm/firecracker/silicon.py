"""The host's CPUID instruction, which Firecracker executes itself for some leaves."""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable, Registers
from vcpuid.cpuid.words import range_of


class Silicon:
    """What the host's CPUID answers, as far as its RAW entries tell; KVM's answer stands for a leaf that they do not tell.

    A sub-leaf that is not listed of a leaf that is, and a leaf past the last of its range, read zero: so they do on AMD's processors, and
    of Intel's no such leaf is asked for.
    """

    __slots__ = ("_raw", "_supported", "untold")

    def __init__(self, raw: CpuidTable, supported: CpuidTable) -> None:
        self._raw, self._supported = raw, supported
        self.untold: set[int] = set()
        """Leaves that were asked for and are not told."""

    def registers(self, function: int, index: int = 0) -> Registers:
        """Return what CPUID answers."""
        if not self._tells(function):
            self.untold.add(function)
            return self._supported.registers(function, index)
        return self._raw.registers(function, index)

    def _tells(self, function: int) -> bool:
        last = self._raw.get(range_of(function))
        return bool(self._raw.leaf(function)) or (last is not None and last.eax < function)
