"""XSAVE, as far as it shows in flags (fpu__init_system_xstate in arch/x86/kernel/fpu/xstate.c)."""

from __future__ import annotations

from vcpuid.cpuid import xfeatures
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule

SOURCE = "fpu__init_system_xstate, fpu/xstate.c"
NO_SSE_STATE = Rule("linux.xsave.no-sse-state", "leaf 0xD does not list the x87 and SSE states, so XSAVE is not used", SOURCE)
APX_AND_MPX = Rule("linux.xsave.apx-and-mpx", "leaf 0xD lists APX's state and MPX's, which share their place", SOURCE, since="6.16")
COMPACTED = Rule("linux.xsave.compacted", "{cause} saves states in the compacted format", SOURCE, since="6.1")
ENABLED = Rule("linux.xsave.enabled", "Linux turned CR4.OSXSAVE on", SOURCE)


def init(cpu: Cpu) -> None:
    """Turn XSAVE on, or off where its leaf makes no sense."""
    if not cpu.has("XSAVE"):
        return
    states = cpu.leaf(0xD).eax
    if states & xfeatures.LEGACY != xfeatures.LEGACY:
        cpu.drop("XSAVE", NO_SSE_STATE)
        return
    if cpu.since("6.16") and states & xfeatures.APX and states & xfeatures.MPX:
        cpu.drop("XSAVE", APX_AND_MPX)
        return
    for cause in ("XSAVEC", "XSAVES"):
        if cpu.has(cause):
            cpu.force("XCOMPACTED", COMPACTED, cause)
    cpu.force("OSXSAVE", ENABLED)
