"""MSRs of a guest's feature set: what KVM starts a vCPU with, and what the template makes of them.

Firecracker asks KVM for the MSRs that its template names (KVM_GET_MSRS on the first vCPU), changes them and sets them on each vCPU, after
which come the MSRs that Linux needs for boot. From configure_vcpus_for_boot in src/vmm/src/arch/x86_64/mod.rs; up to 1.16 the MSRs were
read before the CPUID was set (CpuConfiguration::new).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vcpuid.cpuid import CpuidTable, MsrWord, bits
from vcpuid.cpuid.feature_words import CONTROL_MSRS
from vcpuid.formats.firecracker_template import Template
from vcpuid.reasons import Decision, Ledger, Rule
from vcpuid.vmm.firecracker import rules

_ALL = (1 << 64) - 1
_ARCH_CAPABILITIES = 0x10A
_VMX = range(0x480, 0x492)

_BOOT = {0x10: 0, 0x174: 0, 0x175: 0, 0x176: 0, 0x1A0: 1, 0xC0000081: 0, 0xC0000082: 0, 0xC0000083: 0, 0xC0000084: 0, 0xC0000102: 0}
"""create_boot_msr_entries of src/vmm/src/arch/x86_64/msr.rs: TSC, SYSENTER_*, MISC_ENABLE with fast strings, SYSCALL's, KERNEL_GS_BASE."""

_MEMORY_TYPES = {0x2FF: 0x806}
"""MTRRdefType, write-back: since 1.14."""


class Msrs(NamedTuple):
    """MSRs that the guest's CPUID tells of or the template sets; of VMX's controls the half that says what may be 1."""

    values: dict[MsrWord, int]
    decisions: tuple[Decision, ...]
    remarks: tuple[str, ...]


def guest_msrs(
    template: Template, table: CpuidTable, offered: Mapping[int, int], release: tuple[int, int], kernel: tuple[int, int]
) -> Msrs:
    """Work out the MSRs of a guest.

    `table` is the vCPU's CPUID, `offered` KVM's feature MSRs: those that CPUID tells of hold KVM's value on a fresh vCPU. `kernel` is the
    host's Linux.
    """
    ledger, msrs, remarks = Ledger(), dict[int, int](), list[str]()
    for index, value in offered.items():
        if (shown := _shown(index, table)) is not None:
            msrs[index] = value if shown else _change(ledger, index, value, 0, rules.MSR_HIDDEN)
    early = release <= (1, 16) and kernel >= (6, 13)
    boot = _BOOT | (_MEMORY_TYPES if release >= (1, 14) else {})
    for index in dict.fromkeys(index for index, _ in template.msrs):
        if index in msrs and early:
            msrs[index] = _change(ledger, index, msrs[index], 0, rules.MSR_EARLY)
    for index, (mask, value) in template.msrs:
        if _shown(index, table) is False:
            remarks.append(f"the template sets MSR {index:#x}, which the guest's CPUID does not tell of")
        elif index in boot:
            msrs[index] = _change(ledger, index, msrs.get(index, 0), boot[index], rules.MSR_BOOT)
        elif index in msrs or mask == _ALL:
            before = msrs.get(index, 0)
            msrs[index] = _change(ledger, index, before, before & ~mask | value, rules.TEMPLATE_MSR)
        else:
            remarks.append(f"the template leaves bits of MSR {index:#x} as they are on a fresh vCPU, which the host does not tell")
    values = {MsrWord(index): counted(index, value) for index, value in msrs.items() if _shown(index, table) is not False}
    return Msrs(values, tuple(ledger.decisions), tuple(dict.fromkeys(remarks)))


def _shown(index: int, table: CpuidTable) -> bool | None:
    """Whether the guest's CPUID tells of an MSR; None of one that it never tells of, or whose value on a fresh vCPU is not KVM's."""
    if index == _ARCH_CAPABILITIES:
        return table.has(bits.ARCH_CAPABILITIES)
    return table.has(bits.VMX) if index in _VMX else None


def _change(ledger: Ledger, index: int, before: int, after: int, rule: Rule) -> int:
    ledger.compute(MsrWord(index), counted(index, before), counted(index, after), rule)
    return after


def counted(index: int, value: int) -> int:
    """Return an MSR's value as words count its bits: of VMX's controls, the half that says what may be 1."""
    return value >> 32 if index in CONTROL_MSRS else value
