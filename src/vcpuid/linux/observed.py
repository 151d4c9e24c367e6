"""Flags as a running kernel printed them, in place of those that the rules work out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vcpuid.cpuid.words import CpuidWord
from vcpuid.linux.cpu import Cpu
from vcpuid.linux.tables import Place
from vcpuid.reasons import Rule

OBSERVED = Rule(
    "linux.observed",
    "the running kernel's /proc/cpuinfo says so",
    "show_cpuinfo, cpu/proc.c",
)


def adopt(cpu: Cpu, cpuinfo: Mapping[str, str], *, of_cpuid: bool, own: bool) -> None:
    """Give every flag that /proc/cpuinfo would print the value that its lines have; hidden flags and lines not there stay as they are.

    Where they are not known to be this kernel's `own`, a bug that is not printed may be one that an older kernel knows nothing of: it stays
    as it is. Without `of_cpuid`, flags in words that copy a register of CPUID stay as well: what is left is what CPUID alone cannot tell.
    """
    for line, names in (("flags", cpu.tables.shown_features), ("bugs", cpu.tables.shown_bugs)):
        if line in cpuinfo:
            for word, (shown, on) in _masks(names, cpuinfo[line]).items():
                if isinstance(cpu.tables.words[word], CpuidWord) and not of_cpuid:
                    continue
                before = cpu.caps[word]
                kept = before if line == "bugs" and not own else before & ~shown
                cpu.caps[word] = cpu.ledger.compute(cpu.tables.words[word], before, kept | on, OBSERVED)
    if "vmx_flags" in cpuinfo:
        for word, (shown, on) in _masks(cpu.tables.shown_vmx, cpuinfo["vmx_flags"]).items():
            cpu.vmx[word] = cpu.vmx[word] & ~shown | on


def _masks(names: Sequence[tuple[str, Place]], line: str) -> dict[int, tuple[int, int]]:
    printed = frozenset(line.split())
    masks: dict[int, tuple[int, int]] = {}
    for name, (word, mask) in names:
        shown, on = masks.get(word, (0, 0))
        masks[word] = shown | mask, on | mask * (name in printed)
    return masks
