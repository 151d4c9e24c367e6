"""What a vCPU keeps of the CPUID table that a VMM hands to KVM_SET_CPUID2, and what KVM_GET_CPUID2 then returns.

KVM checks very little and takes over nearly all. A handful of bits it writes itself, at once and whenever the guest changes what they
follow: CR4, the APIC's enable, XCR0, IA32_XSS, IA32_MISC_ENABLE. From kvm_set_cpuid(), kvm_check_cpuid() and kvm_update_cpuid_runtime()
(before 6.18: __kvm_update_cpuid_runtime()) in Linux arch/x86/kvm/cpuid.c.
"""

from __future__ import annotations

import errno

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Register, Snapshot
from vcpuid.errors import KvmError
from vcpuid.kvm import cr4 as cr4_bits
from vcpuid.kvm import vcpu_rules as rules
from vcpuid.kvm.caps import caps
from vcpuid.kvm.lookup import find, signature_base
from vcpuid.kvm.params import Given, read
from vcpuid.kvm.supported import supported
from vcpuid.kvm.vcpu_state import RESET, VcpuState
from vcpuid.kvm.xsave import area_size
from vcpuid.path.decisions import Ledger, Result, Rule
from vcpuid.versions import kernel as kernel_tables
from vcpuid.versions import number

MAX_ENTRIES = 256
"""KVM_MAX_CPUID_ENTRIES of Linux arch/x86/include/asm/kvm_host.h."""

DYNAMIC_XFEATURES = 1 << 18
"""XFEATURE_MASK_USER_DYNAMIC of Linux arch/x86/include/asm/fpu/xstate.h: AMX's tile data."""

_KVM_SIGNATURE = b"KVMKVMKVM\0\0\0"
_PV_UNHALT = 1 << 7
_X87_AND_SSE = 3
_XSAVEC_OR_XSAVES = 1 << 1 | 1 << 3
_WORD = 0xFFFFFFFF
_PADDING = Entry(0, 0, 0, 0, 0, 0, 0)


def set_cpuid(
    table: CpuidTable,
    *,
    host: Snapshot | None = None,
    kernel: str = "6.12",
    cr4: int = 0,
    apic: bool = True,
    params: Given | None = None,
    state: VcpuState = RESET,
) -> Result:
    """Return what KVM_GET_CPUID2 gives back once a vCPU that has not run was given `table`, and why it differs.

    `cr4` is the vCPU's CR4 and `apic` the global enable of its APIC, as KVM_SET_SREGS puts them; `state` is all else that matters. `host`
    and `params` (see `vcpuid.kvm.params`) tell what KVM itself has; without a host nothing counts as missing there. `amx_permission` is
    taken as given where the host has AMX, because QEMU asks for it. Order and number of the entries stay.

    Raises KvmError where KVM_SET_CPUID2 refuses (E2BIG, EINVAL, EPERM) or KVM_SET_SREGS does (EINVAL).
    """
    kernel, params = kernel_tables(kernel), params or {}
    _check_room(table)
    _check_table(table, host, params)
    if cr4:
        reason = cr4_bits.refusal(cr4, table, _supported(host, kernel, params), kernel)
        if reason is not None:
            raise KvmError(errno.EINVAL, reason)
    return _renew(table, host, kernel, params, cr4, apic, state, first=True)


def set_again(
    kept: CpuidTable,
    table: CpuidTable,
    *,
    host: Snapshot | None = None,
    kernel: str = "6.12",
    cr4: int = 0,
    apic: bool = True,
    params: Given | None = None,
    state: VcpuState = RESET,
) -> Result:
    """Return what KVM_GET_CPUID2 gives back when a vCPU that has run, and keeps `kept`, is given `table`.

    KVM then takes only what changes nothing: the bits that it rules itself may differ, all else, order and flags included, must be as
    kept. Raises KvmError(EINVAL) where it is not, E2BIG where there are too many entries.
    """
    _check_room(table)
    result = _renew(table, host, kernel_tables(kernel), params or {}, cr4, apic, state, first=False)
    if result.table != kept:
        raise KvmError(errno.EINVAL, f"the vCPU has run, and {_difference(kept, result.table)}")
    return result


def get_cpuid(kept: CpuidTable, room: int = MAX_ENTRIES, *, kernel: str = "6.12") -> CpuidTable:
    """Return what KVM_GET_CPUID2 leaves in a zeroed buffer for `room` entries, as the caller counts them.

    Linux 6.1 does not write the number of entries back, so there the caller takes the whole buffer for entries. Raises KvmError(E2BIG)
    where the buffer is too small. From kvm_vcpu_ioctl_get_cpuid2, Linux arch/x86/kvm/cpuid.c.
    """
    if room < len(kept):
        raise KvmError(errno.E2BIG, f"{len(kept)} entries do not fit a buffer for {room}")
    if number(kernel_tables(kernel)) > (6, 1):
        return kept
    return CpuidTable((*kept, *[_PADDING] * (room - len(kept))))


def _check_room(table: CpuidTable) -> None:
    if len(table) > MAX_ENTRIES:
        raise KvmError(errno.E2BIG, f"{len(table)} entries: KVM takes {MAX_ENTRIES} at most")


def _check_table(table: CpuidTable, host: Snapshot | None, params: Given) -> None:
    """kvm_check_cpuid: the two things that KVM does look at."""
    sizes = find(table, 0x80000008)
    if sizes is not None and (bits := sizes.eax >> 8 & 0xFF) not in (0, 48, 57):
        raise KvmError(errno.EINVAL, f"leaf 0x80000008 says {bits} bits of virtual address: KVM takes 48, 57, or 0 for unsaid")
    asked = _xcr0(table) & DYNAMIC_XFEATURES
    if asked & ~_permission(host, params):
        raise KvmError(errno.EPERM, f"leaf 0xD offers XCR0 features {asked:#x}, which this process may not use (ARCH_REQ_XCOMP_GUEST_PERM)")


def _xcr0(table: CpuidTable) -> int:
    """The XCR0 features that a table offers."""
    entry = find(table, 0xD, 0)
    return 0 if entry is None else entry.eax | entry.edx << 32


def _permission(host: Snapshot | None, params: Given) -> int:
    """The dynamic XCR0 features that the VMM's process may use: none without its asking, none that the host has not."""
    if not read("amx_permission", params.get("amx_permission", True)):
        return 0
    if host is None:
        return DYNAMIC_XFEATURES
    return _xcr0(host.raw) if host.raw else _xcr0(host.supported or CpuidTable())


def _kvm_xcr0(host: Snapshot | None, kernel: str, params: Given) -> int:
    """The XCR0 features that KVM has; all where the host is not known."""
    if host is None:
        return -1
    return caps(host, kernel, params).xcr0 if host.raw else _xcr0(host.supported or CpuidTable())


def _supported(host: Snapshot | None, kernel: str, params: Given) -> CpuidTable | None:
    if host is None or host.supported is not None:
        return None if host is None else host.supported
    return supported(host, kernel, params).table


def _boot_cpu_has(host: Snapshot | None, flag: str, word: CpuidWord, mask: int) -> bool:
    """Whether Linux runs the host with a feature: by /proc/cpuinfo, else by CPUID, else by what KVM supports."""
    if host is None:
        return True
    if "flags" in host.cpuinfo:
        return flag in host.cpuinfo["flags"].split()
    return bool((host.raw or host.supported or CpuidTable()).word(word) & mask)


class _Edit:
    """A table under change: finds entries as KVM does and writes down what a rule makes of them."""

    def __init__(self, table: CpuidTable) -> None:
        self.given, self.entries, self.ledger = tuple(table), list(table), Ledger()
        self.table = table

    def write(self, entry: Entry | None, register: Register, mask: int, value: int, rule: Rule) -> None:
        """Give the bits of `mask` in a register of an entry (of the table as given) a value; no entry, nothing to do."""
        if entry is None:
            return
        position = self.given.index(entry)
        before: int = getattr(self.entries[position], register)
        # An entry behind a duplicate of its own number is no word of the table: it changes unseen.
        ledger = self.ledger if self.table.get(*entry[:2]) == entry else Ledger()
        word = CpuidWord(entry.function, entry.index, register)
        if not value:
            after = ledger.clear(word, before, mask, rule)
        elif value == mask:
            after = ledger.set(word, before, mask, rule)
        else:
            after = ledger.compute(word, before, before & ~mask | value, rule)
        self.entries[position] = self.entries[position]._replace(**{register: after})


def _renew(
    table: CpuidTable, host: Snapshot | None, kernel: str, params: Given, cr4: int, apic: bool, state: VcpuState, *, first: bool
) -> Result:
    """kvm_update_cpuid_runtime and the PV quirk: what KVM writes into a table itself. `first`: the vCPU had no table before."""
    edit, release = _Edit(table), number(kernel)
    always = release >= (6, 18)  # older kernels let these two be where the host lacks the feature
    leaf1, leaf7 = find(table, 1), find(table, 7, 0)
    if always or _boot_cpu_has(host, "xsave", CpuidWord(1, 0, "ecx"), 1 << 26):
        edit.write(leaf1, "ecx", 1 << 27, 1 << 27 if cr4 & cr4_bits.OSXSAVE else 0, rules.OSXSAVE)
    edit.write(leaf1, "edx", 1 << 9, 1 << 9 if apic else 0, rules.APIC)
    if not state.mwait_quirk:
        edit.write(leaf1, "ecx", 1 << 3, 1 << 3 if state.mwait_enabled else 0, rules.MWAIT)
    if always or _boot_cpu_has(host, "pku", CpuidWord(7, 0, "ecx"), 1 << 3):
        edit.write(leaf7, "ecx", 1 << 4, 1 << 4 if cr4 & cr4_bits.PKE else 0, rules.OSPKE)
    _renew_xsave(edit, table, host, release, state)
    # Linux 6.1 looks for KVM's leaves in the table before this one: at first there is none, until something makes it look again.
    if state.hlt_in_guest and (release > (6, 1) or not first or _looked_again(cr4, apic, state)):
        base = signature_base(table, _KVM_SIGNATURE)
        edit.write(find(table, base[0] | 1) if base else None, "eax", _PV_UNHALT, 0, rules.PV_UNHALT)
    if release <= (6, 1):
        xfrm = find(table, 0x12, 1)
        if xfrm is not None:
            offered = _xcr0(table) & _kvm_xcr0(host, kernel, params)
            edit.write(xfrm, "ecx", _WORD, xfrm.ecx & offered | _X87_AND_SSE, rules.SGX_XFRM)
            edit.write(xfrm, "edx", _WORD, xfrm.edx & offered >> 32, rules.SGX_XFRM)
    return Result(CpuidTable(edit.entries), tuple(edit.ledger.decisions))


def _renew_xsave(edit: _Edit, table: CpuidTable, host: Snapshot | None, release: tuple[int, int], state: VcpuState) -> None:
    """The sizes of the XSAVE area, from the host's layout (the table's own where the host is not known)."""
    layout = host.raw or host.supported or table if host is not None else table
    edit.write(find(table, 0xD, 0), "ebx", _WORD, area_size(layout, state.xcr0, compacted=False), rules.XSAVE_SIZE)
    compact = find(table, 0xD, 1)
    if compact is not None and compact.eax & _XSAVEC_OR_XSAVES:
        features = state.xcr0 | state.xss if release >= (6, 18) else state.xcr0
        edit.write(compact, "ebx", _WORD, area_size(layout, features, compacted=True), rules.XSAVES_SIZE)


def _looked_again(cr4: int, apic: bool, state: VcpuState) -> bool:
    """Whether the vCPU left its reset state in a way that makes KVM write its bits anew."""
    return bool(cr4 & (cr4_bits.OSXSAVE | cr4_bits.PKE) or not apic or state.xcr0 & ~_X87_AND_SSE or state.xss)


def _difference(kept: CpuidTable, wanted: CpuidTable) -> str:
    """Say where a second table differs first."""
    if len(kept) != len(wanted):
        return f"the table has {len(wanted)} entries where {len(kept)} are kept"
    old, new = next((old, new) for old, new in zip(kept, wanted, strict=True) if old != new)
    return f"entry {new} is kept as {old}"
