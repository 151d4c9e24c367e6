"""The bits of a vCPU's table that KVM writes itself, at once and whenever the guest changes what they follow.

From kvm_update_cpuid_runtime() and kvm_apply_cpuid_pv_features_quirk() (before 6.18: __kvm_update_cpuid_runtime()) in Linux
arch/x86/kvm/cpuid.c.
"""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Register, bits, vendors, xfeatures
from vcpuid.kvm import vcpu_rules as rules
from vcpuid.kvm.cr4 import CR4_OSXSAVE, CR4_PKE
from vcpuid.kvm.lookup import find, find_plain, signature_base, word_index, xen_time, xen_time_leaf
from vcpuid.kvm.vcpu_host import KvmBelow, offered_xcr0
from vcpuid.kvm.vcpu_state import VcpuState
from vcpuid.kvm.xsave import ALIGNED_SINCE, area_size
from vcpuid.reasons import Ledger, Result, Rule, Unrecorded
from vcpuid.reasons.lazy import LazySequence
from vcpuid.releases import REBUILT

_OSXSAVE, _MWAIT, _APIC = bits.OSXSAVE.mask, bits.MWAIT.mask, bits.APIC.mask
_OSPKE = bits.OSPKE.mask
_PV_UNHALT = bits.KVM_FEATURE_PV_UNHALT.mask
_XSAVEC_OR_XSAVES = bits.XSAVEC.mask | bits.XSAVES.mask
_SEARCHES_SINCE = (5, 17)
"""The first Linux that looks for KVM's leaves by their signature."""


def renew(table: CpuidTable, host: KvmBelow, cr4: int, apic: bool, state: VcpuState, *, first: bool) -> Result:
    """Return a table with the bits that KVM rules as they follow from the vCPU's state; `first`: it has no table yet.

    Its decisions are worked out when they are looked at, by doing the same once more.
    """
    renewed = _renewed(table, host, cr4, apic, state, Unrecorded(), first=first)
    decisions = LazySequence(lambda: _renewed(table, host, cr4, apic, state, Ledger(), first=first).decisions)
    return Result(renewed.table, decisions)


def _renewed(table: CpuidTable, host: KvmBelow, cr4: int, apic: bool, state: VcpuState, ledger: Ledger, *, first: bool) -> Result:
    edit = _Edit(table, ledger)
    always = host.release >= (6, 14)  # older kernels let these two be where the host lacks the feature
    leaf1 = find_plain(table, 1, host.tables)
    if always or host.runs_with("xsave", bits.XSAVE):
        edit.follow(leaf1, "ecx", _OSXSAVE, bool(cr4 & CR4_OSXSAVE), rules.OSXSAVE)
    edit.follow(leaf1, "edx", _APIC, apic, rules.APIC)
    if not state.mwait_quirk:
        edit.follow(leaf1, "ecx", _MWAIT, state.mwait_enabled, rules.MWAIT)
    if always or host.runs_with("pku", bits.PKU):
        edit.follow(find(table, 7, 0), "ecx", _OSPKE, bool(cr4 & CR4_PKE), rules.OSPKE)
    _xsave_sizes(edit, table, host, state)
    # Between 5.17 and 6.8 Linux looks for KVM's leaves in the table before this one: at first there is none, until something makes it look
    # again.
    stale = _SEARCHES_SINCE <= host.release <= (6, 8) and host.tables != "5.14-el9_5"  # whose KVM has the mend of 6.9
    if state.hlt_in_guest and (not stale or not first or _looked_again(cr4, apic, state)):
        edit.follow(_paravirtual(table, host), "eax", _PV_UNHALT, False, rules.PV_UNHALT)
    if (5, 13) <= host.release <= (6, 1):
        _enclave_features(edit, table, host)
    if host.hides_lone_invpcid and leaf1 is not None and not leaf1.ecx & bits.PCID.mask:
        edit.follow(find(table, 7, 0), "ebx", bits.INVPCID.mask, False, rules.INVPCID_WITHOUT_PCID)
    if (6, 6) <= host.release < (6, 16) and host.tables not in REBUILT and first and state.tsc_khz:  # built without KVM_XEN
        _xen_time(edit, table, state.tsc_khz)
    return edit.result()


def _paravirtual(table: CpuidTable, host: KvmBelow) -> Entry | None:
    """Find the leaf of KVM's features: Linux before 5.17 looks in one place, whoever announces himself there."""
    if host.release < _SEARCHES_SINCE:
        return find_plain(table, 0x40000001, host.tables)
    base = signature_base(table, vendors.KVM)
    return find(table, base[0] | 1) if base else None


def _xsave_sizes(edit: _Edit, table: CpuidTable, host: KvmBelow, state: VcpuState) -> None:
    layout = host.xsave_layout(table)
    edit.write(find(table, 0xD, 0), "ebx", area_size(layout, state.xcr0, compacted=False), rules.XSAVE_SIZE)
    compact = find(table, 0xD, 1)
    if compact is not None and compact.eax & _XSAVEC_OR_XSAVES:
        features = state.xcr0 | state.xss if host.release >= (6, 18) else state.xcr0
        edit.write(compact, "ebx", area_size(layout, features, compacted=True, aligned=host.release >= ALIGNED_SINCE), rules.XSAVES_SIZE)


def _enclave_features(edit: _Edit, table: CpuidTable, host: KvmBelow) -> None:
    entry = find(table, 0x12, 1)
    if entry is not None:
        offered = offered_xcr0(table) & host.xcr0
        edit.write(entry, "ecx", entry.ecx & offered | xfeatures.LEGACY, rules.SGX_XFRM)
        edit.write(entry, "edx", entry.edx & offered >> 32, rules.SGX_XFRM)


def _xen_time(edit: _Edit, table: CpuidTable, tsc_khz: int) -> None:
    """Linux up to 6.14 writes the time's rate into the table itself when the vCPU runs, not into one that is set again."""
    leaf = xen_time_leaf(table)
    if leaf is not None:
        for index, register, value in xen_time(tsc_khz):
            edit.write(find(table, leaf, index), register, value, rules.XEN_TIME)


def _looked_again(cr4: int, apic: bool, state: VcpuState) -> bool:
    """Whether the vCPU left its reset state in a way that makes KVM write its bits anew."""
    return bool(cr4 & (CR4_OSXSAVE | CR4_PKE) or not apic or state.xcr0 & ~xfeatures.LEGACY or state.xss)


class _Edit:
    """A table under change: takes entries of the table as given, and writes down what a rule makes of them. No entry, nothing to do."""

    def __init__(self, table: CpuidTable, ledger: Ledger) -> None:
        self._table, self._given, self._entries, self._ledger = table, tuple(table), list(table), ledger

    def follow(self, entry: Entry | None, register: Register, mask: int, on: bool, rule: Rule) -> None:
        """Make bits of a register follow a switch."""
        if entry is not None:
            ledger, word, before = self._place(entry, register)
            self._replace(entry, register, ledger.set(word, before, mask, rule) if on else ledger.clear(word, before, mask, rule))

    def write(self, entry: Entry | None, register: Register, value: int, rule: Rule) -> None:
        """Replace a register."""
        if entry is not None:
            ledger, word, before = self._place(entry, register)
            self._replace(entry, register, ledger.compute(word, before, value, rule))

    def result(self) -> Result:
        """The table after all changes."""
        return Result(CpuidTable(self._entries), tuple(self._ledger.decisions))

    def _place(self, entry: Entry, register: Register) -> tuple[Ledger, CpuidWord, int]:
        index = word_index(self._table, entry) if self._ledger.records else entry.index
        ledger = Ledger() if index is None else self._ledger  # an entry that is no word of the table changes unseen
        return ledger, CpuidWord(entry.function, index or 0, register), getattr(self._entries[self._given.index(entry)], register)

    def _replace(self, entry: Entry, register: Register, value: int) -> None:
        position = self._given.index(entry)
        self._entries[position] = self._entries[position]._replace(**{register: value})
