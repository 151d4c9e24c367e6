"""What the CPUID instruction returns in a guest, given the table that its vCPU keeps.

The rules are those of kvm_cpuid(), get_out_of_range_cpuid_entry() and cpuid_entry2_find() (kvm_find_cpuid_entry2() since 6.18) in Linux
arch/x86/kvm/cpuid.c:

* The first entry of the leaf that is not bound to a sub-leaf, or is bound to this one, answers.
* Where none does, a guest of AMD's or Hygon's vendor (or of none) reads zeros. Any other guest reads the highest basic leaf instead, if
  the leaf lies beyond its class or its class does not exist; the sub-leaf asked for still counts.
* A missing sub-leaf of the topology leaves 0xB and 0x1F echoes its number and tells the APIC id, if sub-leaf 1 exists.
* TSX and the invariant TSC may be hidden by an MSR; from 6.16 to 7.2 Xen's time leaf is filled in.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from vcpuid.cpuid import (
    SIGNIFICANT_INDEX,
    CpuidTable,
    CpuidWord,
    Entry,
    Register,
    Registers,
    bits,
    hyperv,
    hypervisor_name,
    vendor_name,
    vendors,
)
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError
from vcpuid.kvm import vcpu_rules as rules
from vcpuid.kvm.vcpu_state import RESET, VcpuState
from vcpuid.reasons import Ledger, Result, Rule
from vcpuid.releases import BEFORE_RHEL_9_2, Release, asked_linux, code_of, number

_AMD_LIKE = vendors.AMD_AND_HYGON | {vendors.OLD_AMD}
_HYPERVISOR_BASES = range(0x40000000, 0x40010000, 0x100)
_HYPERV_TSC_INVARIANT = hyperv.TSC_INVARIANT.mask
_RTM_AND_HLE = bits.RTM.mask | bits.HLE.mask
_TSX_CPUID_CLEAR = 1 << 1  # of IA32_TSX_CTRL
_INVARIANT_TSC = bits.CONSTANT_TSC.mask
_ADJUSTED = frozenset({7, 0x80000007})
"""Leaves whose answer an MSR may change, wherever the TSC's frequency is not told."""


class Answer(NamedTuple):
    """CPUID's answer and where it comes from.

    `entry` is the table's entry that answered, None where none did. `exact` is False where that entry is the highest basic leaf's, put in
    for a leaf out of range. `rules` are those that changed what the entry says, each with the registers after it.
    """

    registers: Registers
    entry: Entry | None
    exact: bool
    rules: tuple[tuple[Rule, Registers], ...] = ()


def find(table: CpuidTable, function: int, index: int | None = None) -> Entry | None:
    """Find the entry that KVM takes for a leaf, or for a sub-leaf; None stands for `whichever sub-leaf comes first`."""
    for entry in table.leaf(function):
        if index is None or entry.index == index or not entry.flags & SIGNIFICANT_INDEX:
            return entry
    return None


def find_plain(table: CpuidTable, function: int, kernel: str) -> Entry | None:
    """Find the entry that KVM takes for a leaf without sub-leaves; before Linux 6.0 none that is bound to a sub-leaf but the first."""
    return find(table, function, None if _takes_any(kernel) else 0)


@cache
def _takes_any(kernel: str) -> bool:
    """Whether KVM of one of KERNELS asks for a leaf without naming a sub-leaf (kvm_find_cpuid_entry)."""
    return kernel not in ("4.18", *BEFORE_RHEL_9_2) and number(code_of(kernel)) >= (6, 0)


def word_index(table: CpuidTable, entry: Entry) -> int | None:
    """Return the sub-leaf as which `CpuidTable.words` counts an entry, None where it counts an earlier one instead."""
    for index in (0, entry.index):
        if table.get(entry.function, index) == entry:
            return index
    return None


def signature_base(table: CpuidTable, name: str) -> tuple[int, int] | None:
    """Find where a hypervisor announces itself: its first leaf and the highest it claims; None where it does not.

    KVM looks for KVM's and Xen's own leaves so (kvm_get_hypervisor_cpuid, Linux arch/x86/kvm/cpuid.c).
    """
    for base in _HYPERVISOR_BASES:
        entry = find(table, base)
        if entry is not None and hypervisor_name(entry) == name:
            return base, entry.eax
    return None


def lookup(table: CpuidTable, function: int, index: int = 0, *, kernel: str | Release | None = None, state: VcpuState = RESET) -> Registers:
    """Return what CPUID answers in the guest for EAX = `function`, ECX = `index`.

    `table` is what the vCPU keeps (the table of `set_cpuid`), `kernel` the host's release, by default the newest with tables, `state` the
    vCPU's MSRs. Raises InputError for a wrong release.
    """
    release = asked_linux(kernel)
    entry = find(table, function, index)
    if entry is not None and function not in _ADJUSTED and not state.tsc_khz:
        return entry.registers
    return _look_up(table, function, index, release, state).registers


def lookup_entry(
    table: CpuidTable, function: int, index: int = 0, *, kernel: str | Release | None = None, state: VcpuState = RESET
) -> Answer:
    """Do the same, and tell which entry answered and what was changed on the way."""
    return _look_up(table, function, index, asked_linux(kernel), state)


def _look_up(table: CpuidTable, function: int, index: int, release: Release, state: VcpuState) -> Answer:
    entry = find(table, function, index)
    exact = entry is not None
    if entry is None:
        function, entry = _out_of_range(table, function, index, release.tables)
    if entry is None:
        return Answer(_missing(table, function, index), None, False)
    return _adjust(table, function, index, entry, exact, release.number, state)


def _out_of_range(table: CpuidTable, function: int, index: int, kernel: str) -> tuple[int, Entry | None]:
    """The leaf that stands in for one without an entry, and its entry."""
    basic = find_plain(table, 0, kernel)
    if basic is None or vendor_name(basic) in _AMD_LIKE:
        return function, None
    top = find_plain(table, _class_base(function), kernel)
    if top is not None and function <= top.eax:
        return function, None
    return basic.eax, find(table, basic.eax, index)


def _class_base(function: int) -> int:
    """The leaf whose EAX tells the highest leaf of a leaf's class."""
    if 0x40000000 <= function <= 0x4FFFFFFF:
        return function & 0xFFFFFF00
    if function >= 0xC0000000:
        return 0xC0000000
    return function & 0x80000000


def _missing(table: CpuidTable, function: int, index: int) -> Registers:
    """The answer where no entry does."""
    if function in (0xB, 0x1F):
        level = find(table, function, 1)
        if level is not None:
            return Registers(0, 0, index & 0xFF, level.edx)
    return Registers()


def _adjust(table: CpuidTable, function: int, index: int, entry: Entry, exact: bool, kernel: tuple[int, int], state: VcpuState) -> Answer:
    """What the guest reads of an entry: leaves 7 and 0x80000007 depend on MSRs, Xen's time leaf on the TSC's frequency."""
    registers = entry.registers
    if function == 7:
        if index == 0 and state.tsx_ctrl & _TSX_CPUID_CLEAR:
            registers = registers._replace(ebx=registers.ebx & ~_RTM_AND_HLE)
            return Answer(registers, entry, exact, ((rules.TSX_HIDDEN, registers),))
    elif function == 0x80000007:
        if _hides_invtsc(table, kernel, state):
            registers = registers._replace(edx=registers.edx & ~_INVARIANT_TSC)
            return Answer(registers, entry, exact, ((rules.INVTSC_HIDDEN, registers),))
    elif state.tsc_khz and state.xen_enabled and (6, 16) <= kernel < (7, 3) and function == xen_time_leaf(table):
        told = {register: value for subleaf, register, value in xen_time(state.tsc_khz) if subleaf == index}
        registers = registers._replace(**told)
        return Answer(registers, entry, exact, ((rules.XEN_TIME, registers),))
    return Answer(registers, entry, exact)


def _hides_invtsc(table: CpuidTable, release: tuple[int, int], state: VcpuState) -> bool:
    """Whether a Hyper-V guest has yet to ask for the invariant TSC (kvm_hv_invtsc_suppressed, Linux arch/x86/kvm/hyperv.h)."""
    if release < (6, 6) or (release < (6, 14) and not state.constant_tsc) or state.invtsc_control & 1:
        return False
    interface, features = find(table, hyperv.INTERFACE), find(table, hyperv.FEATURES)
    if interface is None or interface.eax != hyperv.HV_1 or features is None:
        return False
    return bool(features.eax & _HYPERV_TSC_INVARIANT)


def xen_time_leaf(table: CpuidTable) -> int | None:
    """Return the leaf in which Xen tells a guest the time's rate, None where it has none."""
    xen = signature_base(table, vendors.XEN)
    return xen[0] | 3 if xen is not None and xen[0] | 3 <= xen[1] else None


def xen_time(tsc_khz: int) -> tuple[tuple[int, Register, int], ...]:
    """Return what KVM writes into Xen's time leaf: sub-leaf, register, value."""
    multiplier, shift = time_scale(tsc_khz)
    return (1, "ecx", multiplier), (1, "edx", shift & 0xFFFFFFFF), (2, "eax", tsc_khz)


def time_scale(tsc_khz: int) -> tuple[int, int]:
    """Turn a TSC frequency into pvclock's multiplier and shift (kvm_get_time_scale, Linux arch/x86/kvm/x86.c).

    Nanoseconds are `(ticks << shift) * multiplier >> 32`, a negative shift going right. Raises InputError below 1 kHz.
    """
    if tsc_khz < 1:
        raise InputError(f"a TSC of {tsc_khz} kHz")
    target, base, shift = 10**9, tsc_khz * 1000, 0
    while base > 2 * target or base >> 32:
        base >>= 1
        shift -= 1
    while base <= target:
        base <<= 1
        shift += 1
    return (target << 32) // base, shift


def seen(table: CpuidTable, *, kernel: str | Release | None = None, state: VcpuState = RESET) -> Result:
    """Return what the guest reads at every place where the table has an entry, and why it is not what the entry says."""
    release = asked_linux(kernel)
    ledger = Ledger()
    read = []
    told: set[tuple[int, int]] = set()
    for entry in table:
        answer = _look_up(table, entry.function, entry.index, release, state)
        if answer.registers == entry[3:]:
            read.append(entry)
            continue
        read.append(Entry(*entry[:3], *answer.registers))
        index = word_index(table, entry)
        if index is not None and (entry.function, index) not in told:
            told.add((entry.function, index))
            _explain(ledger, entry._replace(index=index), answer)
    return Result(CpuidTable(read), tuple(ledger.decisions))


def _explain(ledger: Ledger, entry: Entry, answer: Answer) -> None:
    before = entry.registers
    source = before if answer.entry is None else answer.entry.registers
    for rule, after in ((rules.FIRST_MATCH, source), *answer.rules):
        for register, old, new in zip(REGISTERS, before, after, strict=True):
            word = CpuidWord(entry.function, entry.index, register)
            ledger.copy(word, old, new, rule) if rule is rules.FIRST_MATCH else ledger.compute(word, old, new, rule)
        before = after
