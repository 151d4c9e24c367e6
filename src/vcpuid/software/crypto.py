"""Which drivers of Linux' crypto API serve which algorithm on a CPU (data/linux-crypto.json: arch/x86/crypto of Linux 6.12).

A driver registers itself where its features are there; of those of an algorithm the one with the highest priority serves. Later kernels
moved hashes into lib/crypto, where the same features decide, without names of drivers.
"""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.data import load
from vcpuid.software.cpu import SoftwareCpu

_SLOW_ZMM = "!ZMM_SLOW"
"""Not one of the models on which 512-bit vectors slow the processor down (zmm_exclusion_list)."""


class Driver(NamedTuple):
    """The driver that serves an algorithm, and the faster ones with the Linux flags that each lacks; `XCR0` for states not enabled."""

    algorithm: str
    driver: str
    better: tuple[tuple[str, tuple[str, ...]], ...]


def drivers(cpu: SoftwareCpu) -> tuple[Driver, ...]:
    """Say which driver serves each algorithm."""
    table = load("linux-crypto")
    slow = table["slow_zmm"]
    boot = cpu.linux
    is_slow = (boot.vendor, boot.family) == (slow["vendor"], slow["family"]) and boot.model in slow["models"]
    found = []
    for algorithm, rows in table["algorithms"].items():
        better: list[tuple[str, tuple[str, ...]]] = []
        for driver, features, states in rows:
            lacking = tuple(name for name in features.split() if (is_slow if name == _SLOW_ZMM else not boot.has(name)))
            lacking += ("XCR0",) if states & ~cpu.xcr0 else ()
            if not lacking:
                found.append(Driver(algorithm, driver, tuple(better)))
                break
            better.append((driver, lacking))
    return tuple(found)
