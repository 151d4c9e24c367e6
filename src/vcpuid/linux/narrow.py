"""What /proc/cpuinfo tells of IA32_ARCH_CAPABILITIES where nobody read that: its bugs and flags, through Linux's rules backwards."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.linux.boot import booted
from vcpuid.linux.machine import ARCH_CAPABILITIES
from vcpuid.linux.tables import tables
from vcpuid.linux.vulnerabilities import ArchCap
from vcpuid.params import MSR
from vcpuid.setup import Setup, own_kernel

_ALL = (1 << 64) - 1
_IMMUNITIES = {
    "cpu_meltdown": ArchCap.RDCL_NO,
    "spec_store_bypass": ArchCap.SSB_NO,
    "mds": ArchCap.MDS_NO,
    "taa": ArchCap.TAA_NO,
    "itlb_multihit": ArchCap.PSCHANGE_MC_NO,
    "gds": ArchCap.GDS_NO,
    "rfds": ArchCap.RFDS_NO,
    "its": ArchCap.ITS_NO,
    "eibrs_pbrsb": ArchCap.PBRSB_NO,
}
"""Bugs that a single bit of the MSR rules out (cpu_set_bug_bits)."""

_ENHANCED = "ibrs_enhanced"


class Bounds(NamedTuple):
    """What is known of an MSR: the bits of `must` are set, those outside `may` are not."""

    must: int = 0
    may: int = _ALL


def arch_capabilities(setup: Setup) -> Bounds:
    """Narrow the hardware's IA32_ARCH_CAPABILITIES by the lines of a host's own kernel; nothing is known without them.

    A bug that is printed is ruled out by no bit. One that is not, and that the processor would have if the MSR were 0, is ruled out by its
    bit, as far as that kernel knows of the bug. On a processor without the MSR there is nothing to know.
    """
    host = setup.host
    if "bugs" not in host.cpuinfo or not host.raw or own_kernel(host) is None:
        return Bounds()
    without = booted(with_capabilities(setup, 0))
    if without.vendor != "intel" or not without.has("ARCH_CAPABILITIES"):
        return Bounds()
    printed, would = frozenset(host.cpuinfo["bugs"].split()), frozenset(bug.lower() for bug in without.bugs)
    must, may = 0, _ALL
    for bug, capability in _IMMUNITIES.items():
        if bug in printed:
            may &= ~capability
        elif bug in would:
            must |= capability
    flags = host.cpuinfo.get("flags")
    if flags is not None and _ENHANCED in (name for name, _ in tables(setup.kernel.tables).shown_features):
        if _ENHANCED not in flags.split():
            may &= ~ArchCap.IBRS_ALL
        elif not without.has("IBRS_ENHANCED"):
            must |= ArchCap.IBRS_ALL
    return Bounds(must & may, may)


def with_capabilities(setup: Setup, value: int) -> Setup:
    """Return the same setup with the hardware's IA32_ARCH_CAPABILITIES given."""
    return setup.with_param(f"{MSR}{ARCH_CAPABILITIES:x}", value)
