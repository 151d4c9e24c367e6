"""The processors of this machine that are online, as the kernel lists them."""

from __future__ import annotations

import os

from vcpuid.numbers import decimal

_LIST = "/sys/devices/system/cpu/online"
_MOST = 1 << 16


def online_cpus() -> list[int]:
    """Give their numbers; those that this process may run on where the kernel does not tell."""
    try:
        with open(_LIST, encoding="ascii", errors="replace") as file:
            text = file.read(_MOST)
    except OSError:
        return sorted(os.sched_getaffinity(0))
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        low, high = decimal(first, _MOST), decimal(last or first, _MOST)
        if low is not None and high is not None:
            found.extend(range(low, min(high, _MOST) + 1))
    return found or sorted(os.sched_getaffinity(0))
