"""What Linux knows of Zhaoxin's and Centaur's (VIA's) processors beyond CPUID (arch/x86/kernel/cpu/zhaoxin.c, centaur.c)."""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.linux import vmx
from vcpuid.linux.cpu import Cpu
from vcpuid.linux.intel import has_perfmon
from vcpuid.reasons import Rule

SOURCE = "init_zhaoxin, cpu/zhaoxin.c; init_centaur, cpu/centaur.c"
CONSTANT_TSC = Rule("linux.zhaoxin.constant-tsc", "the TSC of this family and model runs at a constant rate", SOURCE)
INVARIANT_TSC = Rule("linux.zhaoxin.invariant-tsc", "leaf 0x80000007 says that the TSC runs at a constant rate and never stops", SOURCE)
SYSENTER = Rule("linux.zhaoxin.sysenter32", "a 64-bit kernel enters 32-bit system calls by SYSENTER here", SOURCE, until="6.19")
PERFMON = Rule("linux.zhaoxin.arch-perfmon", "leaf 0xA has a version and more than one counter", SOURCE)
REP_GOOD = Rule("linux.zhaoxin.rep-good", "string instructions are fast on this family", SOURCE)
LFENCE = Rule("linux.zhaoxin.lfence", "LFENCE orders RDTSC on 64-bit processors of this vendor", SOURCE)


def early_init(cpu: Cpu) -> None:
    """Do what early_init_zhaoxin, or early_init_centaur, does."""
    if _modern(cpu):
        cpu.set("CONSTANT_TSC", CONSTANT_TSC)
    cpu.set("SYSENTER32", SYSENTER)
    if cpu.power & bits.CONSTANT_TSC.mask:
        cpu.set("CONSTANT_TSC", INVARIANT_TSC)
        cpu.set("NONSTOP_TSC", INVARIANT_TSC)


def init(cpu: Cpu) -> None:
    """Do what init_zhaoxin, or init_centaur, does after the early part."""
    if has_perfmon(cpu):
        cpu.set("ARCH_PERFMON", PERFMON)
    if _modern(cpu):
        cpu.set("REP_GOOD", REP_GOOD)
    cpu.set("LFENCE_RDTSC", LFENCE)
    vmx.feature_control(cpu)


def _modern(cpu: Cpu) -> bool:
    return cpu.family >= 7 or (cpu.family == 6 and (cpu.vendor == "zhaoxin" or cpu.model >= 0xF))
