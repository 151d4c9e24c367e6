"""Transactional memory: on or off (arch/x86/kernel/cpu/tsx.c). How it is built, `tsx_mode`, holds where the command line says nothing."""

from __future__ import annotations

from vcpuid.linux.arch_cap import ArchCap
from vcpuid.linux.bugs import arch_capabilities
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule

SOURCE = "tsx_init, cpu/tsx.c"
ALWAYS_ABORTS = Rule("linux.tsx.always-aborts", "microcode makes every transaction abort ({cause})", SOURCE, since="5.15")
CONTROL = Rule("linux.tsx.control", "ARCH_CAPABILITIES announces the TSX_CTRL MSR", SOURCE)
OFF = Rule("linux.tsx.off", "this kernel turns TSX off by TSX_CTRL", SOURCE, "boot with tsx=on")
ON = Rule("linux.tsx.on", "this kernel, as it was booted or built, turns TSX on by TSX_CTRL", SOURCE)


def init(cpu: Cpu) -> None:
    """Turn TSX on or off where the processor can do either."""
    if cpu.has("RTM_ALWAYS_ABORT"):
        cpu.drop("RTM", ALWAYS_ABORTS, "RTM_ALWAYS_ABORT")
        cpu.drop("HLE", ALWAYS_ABORTS, "RTM_ALWAYS_ABORT")
        return
    if not arch_capabilities(cpu) & ArchCap.TSX_CTRL:
        return
    cpu.force("MSR_TSX_CTRL", CONTROL)
    asked = cpu.machine.option("tsx")
    wanted = cpu.machine.tsx_mode if asked is None else asked
    on = wanted == "on" or (wanted == "auto" and not cpu.has_bug("TAA"))
    for feature in ("RTM", "HLE"):
        if on:
            cpu.force(feature, ON)
        else:
            cpu.drop(feature, OFF)
