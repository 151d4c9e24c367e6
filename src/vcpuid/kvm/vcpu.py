"""What a vCPU keeps of the CPUID table that a VMM hands to KVM_SET_CPUID2, and what KVM_GET_CPUID2 then returns.

KVM checks very little and takes over nearly all; the handful of bits that it writes itself are those of `vcpuid.kvm.vcpu_runtime`. From
kvm_set_cpuid(), kvm_check_cpuid() and kvm_cpuid_check_equal() in Linux arch/x86/kvm/cpuid.c.
"""

from __future__ import annotations

import errno

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import KvmError
from vcpuid.kvm import cr4 as cr4_bits
from vcpuid.kvm.leaves.build import MAX_ENTRIES
from vcpuid.kvm.lookup import find_plain
from vcpuid.kvm.vcpu_host import DYNAMIC_XFEATURES, KvmBelow, offered_xcr0
from vcpuid.kvm.vcpu_runtime import renew
from vcpuid.kvm.vcpu_state import RESET, VcpuState
from vcpuid.params import Given, Params
from vcpuid.reasons import Result
from vcpuid.releases import Release, asked_linux
from vcpuid.setup import Setup, settled

_PADDING = Entry(0, 0, 0, 0, 0, 0, 0)
_APIC_BASE_BITS = 32


def set_cpuid(
    table: CpuidTable,
    *,
    host: Snapshot | Setup | None = None,
    kernel: str | Release | None = None,
    cr4: int = 0,
    apic: bool = True,
    params: Given | None = None,
    state: VcpuState = RESET,
) -> Result:
    """Return what KVM_GET_CPUID2 gives back once a vCPU that has not run was given `table`, and why it differs.

    `cr4` is the vCPU's CR4 and `apic` the global enable of its APIC, as KVM_SET_SREGS puts them; `state` is all else that matters. `host`,
    its `kernel` (by default the snapshot's own, else the newest) and `params` (`vcpuid.params`) tell what KVM itself has, or a Setup tells
    all three; without a host nothing counts as missing there. Order and number of the entries stay.

    Raises KvmError where KVM_SET_CPUID2 refuses (E2BIG, EINVAL, EPERM) or KVM_SET_SREGS does (EINVAL).
    """
    there = _below(host, kernel, params)
    _check_room(table)
    _check_table(table, there)
    reason = cr4_bits.refusal(cr4, table, there.supported, there.release) if cr4 else None
    if reason is not None:
        raise KvmError(errno.EINVAL, reason)
    if not apic:
        _check_apic_base(table, there.tables)
    return renew(table, there, cr4, apic, state, first=True)


def set_again(
    kept: CpuidTable,
    table: CpuidTable,
    *,
    host: Snapshot | Setup | None = None,
    kernel: str | Release | None = None,
    cr4: int = 0,
    apic: bool = True,
    params: Given | None = None,
    state: VcpuState = RESET,
) -> Result:
    """Return what KVM_GET_CPUID2 gives back when a vCPU that has run, and keeps `kept`, is given `table`.

    Since Linux 5.16 KVM then takes only what changes nothing: the bits that it rules itself may differ, all else, order and flags included,
    must be as kept. Raises KvmError(EINVAL) where it is not, E2BIG where there are too many entries.
    """
    _check_room(table)
    there = _below(host, kernel, params)
    result = renew(table, there, cr4, apic, state, first=False)
    if there.release < (5, 16):
        _check_table(table, there)
    elif result.table != kept:
        raise KvmError(errno.EINVAL, f"the vCPU has run, and {_difference(kept, result.table)}")
    return result


def get_cpuid(kept: CpuidTable, room: int = MAX_ENTRIES, *, kernel: str | Release | None = None) -> CpuidTable:
    """Return what KVM_GET_CPUID2 leaves in a zeroed buffer for `room` entries, as the caller counts them.

    Linux 6.1 does not write the number of entries back, so there the caller takes the whole buffer for entries. Raises KvmError(E2BIG)
    where the buffer is too small. From kvm_vcpu_ioctl_get_cpuid2, Linux arch/x86/kvm/cpuid.c.
    """
    if room < len(kept):
        raise KvmError(errno.E2BIG, f"{len(kept)} entries do not fit a buffer for {room}")
    release = asked_linux(kernel)
    if release.number > (6, 1):
        return kept
    return CpuidTable((*kept, *[_PADDING] * (room - len(kept))))


def _below(host: Snapshot | Setup | None, kernel: str | Release | None, params: Given | None) -> KvmBelow:
    if host is None:
        return KvmBelow(None, asked_linux(kernel), Params.of(params))
    setup = settled(host, kernel=kernel, params=params)
    return KvmBelow(setup, setup.kernel, setup.params)


def _check_room(table: CpuidTable) -> None:
    if len(table) > MAX_ENTRIES:
        raise KvmError(errno.E2BIG, f"{len(table)} entries: KVM takes {MAX_ENTRIES} at most")


def _check_table(table: CpuidTable, host: KvmBelow) -> None:
    """kvm_check_cpuid: the two things that KVM does look at."""
    sizes = find_plain(table, 0x80000008, host.tables)
    if sizes is not None and (bits := sizes.eax >> 8 & 0xFF) not in (0, 48, 57):
        raise KvmError(errno.EINVAL, f"leaf 0x80000008 says {bits} bits of virtual address: KVM takes 48, 57, or 0 for unsaid")
    asked = offered_xcr0(table) & DYNAMIC_XFEATURES if host.release >= (5, 17) else 0
    if asked & ~host.permission:
        raise KvmError(errno.EPERM, f"leaf 0xD offers XCR0 features {asked:#x}, which this process may not use (ARCH_REQ_XCOMP_GUEST_PERM)")


def _check_apic_base(table: CpuidTable, kernel: str) -> None:
    """kvm_apic_set_base() in lapic.c, before 6.14 kvm_set_apic_base() in x86.c: the APIC's address must be one that the guest can have.

    It is 0xFEE00000, whose highest bit is 31. Since 6.14 a value that changes nothing is not looked at.
    """
    last, sizes = find_plain(table, 0x80000000, kernel), find_plain(table, 0x80000008, kernel)
    if last is not None and last.eax >= 0x80000008 and sizes is not None and (bits := sizes.eax & 0xFF) < _APIC_BASE_BITS:
        raise KvmError(errno.EINVAL, f"leaf 0x80000008 says {bits} bits of physical address: the APIC, which is switched off, lies beyond")


def _difference(kept: CpuidTable, wanted: CpuidTable) -> str:
    """Say where a second table differs first."""
    if len(kept) != len(wanted):
        return f"the table has {len(wanted)} entries where {len(kept)} are kept"
    old, new = next((old, new) for old, new in zip(kept, wanted, strict=True) if old != new)
    return f"entry {new} is kept as {old}"
