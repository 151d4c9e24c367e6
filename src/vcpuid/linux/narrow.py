"""What is known of an MSR of the hardware that nobody read: by what KVM made of it, and by what Linux printed in /proc/cpuinfo.

Both rules are followed backwards (`vcpuid.linux.behind_kvm` has KVM's), under the kernel that the host ran.
"""

from __future__ import annotations

from typing import NamedTuple

from vcpuid import releases
from vcpuid.cpuid import bits
from vcpuid.linux import behind_kvm
from vcpuid.linux.arch_cap import ArchCap, kvm_immune
from vcpuid.linux.behind_kvm import Bounds
from vcpuid.linux.boot import BootCpu, booted
from vcpuid.linux.bugs import MMIO_IMMUNE
from vcpuid.linux.machine import ARCH_CAPABILITIES
from vcpuid.linux.tables import tables
from vcpuid.params import MSR
from vcpuid.setup import Remembered, Setup, own_kernel


class _Group(NamedTuple):
    """Bits of the MSR that cpu_set_bug_bits weighs together, and the names on /proc/cpuinfo's bugs line on which they show."""

    bits: int
    bugs: frozenset[str]


def _group(bits_: int, *bugs: str) -> _Group:
    return _Group(bits_, frozenset(bugs))


_IBRS = _group(ArchCap.IBRS_ALL | ArchCap.PBRSB_NO, "eibrs_pbrsb")  # bhi hangs on IBRS_ALL too, and on BHI_NO in kernels before May 2025
_TAA = _group(ArchCap.TAA_NO | ArchCap.TSX_CTRL, "taa")
_GROUPS = (
    _group(ArchCap.RDCL_NO, "cpu_meltdown", "l1tf"),
    _group(ArchCap.SSB_NO, "spec_store_bypass"),
    _group(ArchCap.MDS_NO, "mds", "msbds_only"),
    _group(ArchCap.PSCHANGE_MC_NO, "itlb_multihit"),
    _group(ArchCap.GDS_NO, "gds"),
    _group(ArchCap.RFDS_NO | ArchCap.RFDS_CLEAR, "rfds"),
    _group(ArchCap.ITS_NO, "its", "its_native_only"),
    _group(ArchCap.RSBA, "retbleed"),
    _group(MMIO_IMMUNE, "mmio_stale_data", "mmio_unknown"),
    _TAA,
    _IBRS,
)
"""No bit is in two groups, and no bug hangs on bits of two."""

_BROUGHT = {
    "gds": ((6, 5), frozenset({"rfds", "bhi", "its", "tsa", "vmscape"})),
    "rfds": ((6, 9), frozenset({"bhi", "its", "tsa", "vmscape"})),
    "its": ((6, 15), frozenset({"tsa", "vmscape"})),
}
"""Bugs that stable kernels got after 6.1: the release that brought each, and later ones, with which a kernel knows it as well."""

_ENHANCED = "ibrs_enhanced"


NOTHING = Bounds()
"""Nothing is known."""


def hardware(setup: Setup, index: int) -> Bounds:
    """Narrow an MSR of the hardware that a host does not tell."""
    return arch_capabilities(setup) if index == ARCH_CAPABILITIES else behind_kvm.bounds(setup.as_it_ran, index)


@Remembered
def arch_capabilities(setup: Setup) -> Bounds:
    """Narrow the hardware's IA32_ARCH_CAPABILITIES by KVM's, and by the lines of a host's own kernel; nothing is known without either.

    On a processor without the MSR there is nothing to know.
    """
    ran = setup.as_it_ran
    printed, offered = "bugs" in ran.host.cpuinfo and own_kernel(ran.host) is not None, ARCH_CAPABILITIES in ran.host.msrs
    if not ran.host.raw or not (printed or offered):
        return NOTHING
    without = booted(with_capabilities(ran, 0))
    if without.vendor != "intel" or not without.has("ARCH_CAPABILITIES"):
        return NOTHING
    by_lines = _behind_lines(ran, without) if printed else NOTHING
    by_kvm = _behind_kvm(ran) if offered else NOTHING
    may = by_lines.may & by_kvm.may
    return Bounds((by_lines.must | by_kvm.must) & may, may)


def _behind_kvm(ran: Setup) -> Bounds:
    """Narrow it by KVM's: a bug that KVM says the processor is immune to, and which it would have if the MSR held no more, is ruled out."""
    must, may = behind_kvm.bounds(ran, ARCH_CAPABILITIES)
    would = set(booted(with_capabilities(ran, must)).bugs)
    for bug, capability in kvm_immune(ran.kernel.tables).items():
        if bug == "TAA" and not ran.host.raw.has(bits.RTM):  # where there are no transactions KVM tells nothing of TAA
            continue
        if not ran.host.msrs[ARCH_CAPABILITIES] & capability:
            may &= ~capability
        elif bug in would:
            must |= capability
    return Bounds(must & may, may)


def _behind_lines(ran: Setup, without: BootCpu) -> Bounds:
    """Narrow it by what the kernel printed.

    Linux's rules are asked which bugs it would print for each value that the bits of a group can have: those with which it would print
    other ones than it did are ruled out; a bug that it need not know yet tells nothing by its absence. Where it would print them with
    none, the lines are not those of these rules, and tell nothing of the group.
    """
    shown = _Shown.of(ran)
    choices = [list(_subsets(group.bits)) for group in _GROUPS]
    # No bug hangs on two groups, so one boot tries a value of each.
    rounds = [tuple(values[number % len(values)] for values in choices) for number in range(max(map(len, choices)))]
    boots = [without, *(booted(with_capabilities(ran, sum(values))) for values in rounds[1:])]
    must, may = NOTHING
    for position, group in enumerate(_GROUPS):
        if not shown.knows(group, releases.linux(ran.host.kernel or "").number):
            continue
        if group is _TAA and ran.host.raw.has(bits.RTM_ALWAYS_ABORT):
            continue  # the kernel may have hidden RTM after it looked for bugs, without TSX_CTRL (tsx_clear_cpuid)
        possible = {values[position] for values, boot in zip(rounds, boots, strict=True) if shown.by(boot, group)}
        always, ever = group.bits, 0
        for value in possible:
            always, ever = always & value, ever | value
        if possible:
            must, may = must | always, may & ~(group.bits & ~ever)
    return Bounds(must, may)


def _subsets(mask: int) -> list[int]:
    """Every value that some bits can have together, 0 first."""
    found = [0]
    while found[-1] != mask:
        found.append(found[-1] - mask & mask)
    return found


class _Shown(NamedTuple):
    """What a host's own kernel printed: its bugs, and whether it named enhanced IBRS, None where its lines do not tell."""

    bugs: frozenset[str]
    enhanced: bool | None

    @classmethod
    def of(cls, setup: Setup) -> _Shown:
        """Read it off a host that tells its bugs."""
        lines = setup.host.cpuinfo
        named = "flags" in lines and _ENHANCED in (name for name, _ in tables(setup.kernel.tables).shown_features)
        return cls(frozenset(lines["bugs"].split()), _ENHANCED in lines["flags"].split() if named else None)

    def knows(self, group: _Group, kernel: tuple[int, int]) -> bool:
        """Tell whether that kernel would print the group's bugs: it did, it came later, or it prints one that came later."""
        brought = (_BROUGHT[bug] for bug in group.bugs - self.bugs if bug in _BROUGHT)
        return bool(group.bugs & self.bugs) or all(kernel >= release or not later.isdisjoint(self.bugs) for release, later in brought)

    def by(self, boot: BootCpu, group: _Group) -> bool:
        """Tell whether such a processor would show what was printed, as far as the group decides it."""
        if group is _IBRS and self.enhanced not in (None, boot.has("IBRS_ENHANCED")):
            return False
        return group.bugs.isdisjoint(self.bugs ^ {bug.lower() for bug in boot.bugs})


def with_capabilities(setup: Setup, value: int) -> Setup:
    """Return the same setup with the hardware's IA32_ARCH_CAPABILITIES given."""
    return setup.with_param(f"{MSR}{ARCH_CAPABILITIES:x}", value)
