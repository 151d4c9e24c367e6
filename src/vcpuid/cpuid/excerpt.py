"""Whether a table can be all that CPUID answers."""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable


def missing(raw: CpuidTable, kept: CpuidTable | None = None) -> list[str]:
    """Say what a processor's answers lack, by leaf 0 and 0x80000000, which tell the last leaf of their range.

    Where they are those of a vCPU and `kept` is its table, nothing is: a leaf that the table does not have answers zeros.
    """
    if kept and raw.by_key().keys() == kept.by_key().keys():
        return []
    if raw.get(0) is None:
        return ["leaf 0 is missing: this is a part of what CPUID answers"]
    lacking = []
    for first in (0, 0x80000000):
        last = raw.registers(first).eax
        if first < last < first + 0x10000 and raw.get(last) is None:
            most = max(entry.function for entry in raw if first <= entry.function < last)
            lacking.append(f"leaf {first:#x} tells of leaves up to {last:#x}, {most:#x} is the last: this is a part of what CPUID answers")
    return lacking
