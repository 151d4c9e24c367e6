"""What is known of an MSR of the hardware that nobody read: by what KVM made of it, and by what Linux printed in /proc/cpuinfo.

Both rules are followed backwards (`vcpuid.linux.behind_kvm` has KVM's), under the kernel that the host ran.
"""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.linux import behind_kvm
from vcpuid.linux.arch_cap import ArchCap
from vcpuid.linux.behind_kvm import Bounds
from vcpuid.linux.boot import booted
from vcpuid.linux.machine import ARCH_CAPABILITIES
from vcpuid.linux.tables import tables
from vcpuid.params import MSR
from vcpuid.setup import Setup, own_kernel

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


def hardware(setup: Setup, index: int) -> Bounds:
    """Narrow an MSR of the hardware that a host does not tell."""
    return arch_capabilities(setup) if index == ARCH_CAPABILITIES else behind_kvm.bounds(setup.as_it_ran, index)


def arch_capabilities(setup: Setup) -> Bounds:
    """Narrow the hardware's IA32_ARCH_CAPABILITIES by KVM's, and by the lines of a host's own kernel; nothing is known without either.

    A bug that is printed is ruled out by no bit. One that is not, and that the processor would have if the MSR held no more than what is
    known, is ruled out by its bit, as far as that kernel knows of the bug; so is one of which KVM says so. On a processor without the MSR
    there is nothing to know.
    """
    ran = setup.as_it_ran
    host = ran.host
    printed = frozenset(host.cpuinfo["bugs"].split()) if "bugs" in host.cpuinfo and own_kernel(host) is not None else None
    kvm = host.msrs.get(ARCH_CAPABILITIES)
    if not host.raw or (printed is None and kvm is None):
        return Bounds()
    must, may = behind_kvm.bounds(ran, ARCH_CAPABILITIES)
    without = booted(with_capabilities(ran, must))
    if without.vendor != "intel" or not without.has("ARCH_CAPABILITIES"):
        return Bounds()
    would = frozenset(bug.lower() for bug in without.bugs)
    if kvm is not None:
        for bug, capability in behind_kvm.IMMUNE.items():
            if bug == "taa" and not host.raw.has(bits.RTM):  # where there are no transactions KVM tells nothing of TAA
                continue
            if not kvm & capability:
                may &= ~capability
            elif bug in would:
                must |= capability
    if printed is not None:
        for bug, capability in _IMMUNITIES.items():
            if bug in printed:
                may &= ~capability
            elif bug in would:
                must |= capability
        flags = host.cpuinfo.get("flags")
        if flags is not None and _ENHANCED in (name for name, _ in tables(ran.kernel.tables).shown_features):
            if _ENHANCED not in flags.split():
                may &= ~ArchCap.IBRS_ALL
            elif not without.has("IBRS_ENHANCED"):
                must |= ArchCap.IBRS_ALL
    return Bounds(must & may, may)


def with_capabilities(setup: Setup, value: int) -> Setup:
    """Return the same setup with the hardware's IA32_ARCH_CAPABILITIES given."""
    return setup.with_param(f"{MSR}{ARCH_CAPABILITIES:x}", value)
