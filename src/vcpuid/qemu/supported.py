"""What QEMU takes the host to support: KVM_GET_SUPPORTED_CPUID and the feature MSRs, each with QEMU's own amendments.

QEMU, target/i386/kvm/kvm.c (kvm_arch_get_supported_cpuid, kvm_arch_get_supported_msr_feature) and target/i386/cpu.c
(x86_cpu_get_supported_feature_word). KVM_CAP_IRQCHIP and KVM_CAP_TSC_DEADLINE_TIMER are taken for granted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from vcpuid.cpuid import bits
from vcpuid.cpuid.feature_words import CONTROL_MSRS
from vcpuid.cpuid.registers import Registers
from vcpuid.cpuid.vendors import INTEL
from vcpuid.cpuid.words import MsrWord
from vcpuid.kvm.answers import Answers
from vcpuid.qemu.catalog import Catalog, MachineType
from vcpuid.qemu.stable import mended
from vcpuid.reasons import Ledger, Rule, Unrecorded

_CPUID = "kvm_arch_get_supported_cpuid, target/i386/kvm/kvm.c"
_MSR = "kvm_arch_get_supported_msr_feature, target/i386/kvm/kvm.c"
_WORD = "x86_cpu_get_supported_feature_word, target/i386/cpu.c"

ALWAYS = Rule("qemu.supported.always", "QEMU can give this feature whatever KVM reports", _CPUID)
SILICON = Rule(
    "qemu.supported.silicon", "it only says that the processor is fast at something, so QEMU asks the processor itself", _CPUID,
    since="8.0",
)  # fmt: skip
BROKEN_TSX = Rule("qemu.supported.broken-tsx", "transactional memory of this Haswell is broken", _CPUID)
AMD_ALIAS = Rule("qemu.supported.amd-alias", "AMD repeats this bit of leaf 1, and KVM leaves it out on Intel", _CPUID)
SPLIT_IRQCHIP = Rule(
    "qemu.supported.split-irqchip", "extended MSI destinations are QEMU's own where it emulates the I/O APIC", _CPUID, since="6.0",
)  # fmt: skip
NO_IRQCHIP = Rule(
    "qemu.supported.no-irqchip", "it needs interrupt controllers in the kernel, and kernel-irqchip=off has none there", _CPUID,
    remedy="set kernel-irqchip=on or split",
)  # fmt: skip
CONTROLS = Rule("qemu.supported.controls", "QEMU takes the bits of a VMX control MSR that may be one, but not those that must be", _MSR)
FB_CLEAR = Rule("qemu.supported.fb-clear", "a host without the bugs that FB_CLEAR mitigates can promise it", _MSR, since="10.0")
PERMITTED = Rule("qemu.supported.components", "KVM told QEMU which XSAVE components a guest may have", _CPUID)
NO_SGX = Rule("qemu.supported.no-sgx", "this machine type has no SGX", _WORD, since="9.1")
FAKE_ARCH_CAPABILITIES = Rule(
    "qemu.supported.fake-arch-capabilities", "the processor has no such MSR, which KVM makes up", _CPUID, since="10.1", until="10.1",
)  # fmt: skip

AMD_ALIASES = 0x0183F3FF
"""Bits of 0x80000001 EDX that repeat leaf 1 EDX (CPUID_EXT2_AMD_ALIASES)."""

_MTRR_PAT_MCE_MCA = bits.MTRR.mask | bits.PAT.mask | bits.MCE.mask | bits.MCA.mask
_RTM_HLE = bits.RTM.mask | bits.HLE.mask
_SGX, _SGX_LC = bits.SGX.mask, bits.SGX_LC.mask
_ARCH_CAPABILITIES = 0x10A
_NOT_VULNERABLE = (
    bits.ARCH_CAP_MDS_NO.mask
    | bits.ARCH_CAP_TAA_NO.mask
    | bits.ARCH_CAP_SBDR_SSDP_NO.mask
    | bits.ARCH_CAP_FBSDP_NO.mask
    | bits.ARCH_CAP_PSDP_NO.mask
)
_FB_CLEAR = bits.ARCH_CAP_FB_CLEAR.mask
_ARCH_CAPABILITIES_BIT = bits.ARCH_CAPABILITIES.mask
_MSI_EXT_DEST_ID = bits.KVM_FEATURE_MSI_EXT_DEST_ID.mask
_DEADLINE, _X2APIC, _PV_UNHALT = bits.TSC_DEADLINE_TIMER.mask, bits.X2APIC.mask, bits.KVM_FEATURE_PV_UNHALT.mask

_FIRST = (0, 0)
_ALWAYS: tuple[tuple[tuple[int, int], str, int], ...] = (
    (_FIRST, "FEAT_1_EDX", _MTRR_PAT_MCE_MCA),
    ((8, 2), "FEAT_1_EDX", bits.HT.mask),
    (_FIRST, "FEAT_1_ECX", bits.HYPERVISOR.mask | bits.TSC_DEADLINE_TIMER.mask),
    (_FIRST, "FEAT_6_EAX", bits.ARAT.mask),  # the APIC is emulated
    (_FIRST, "FEAT_8000_0001_ECX", bits.TOPOEXT.mask),
    ((9, 1), "FEAT_8000_0007_EBX", bits.OVERFLOW_RECOV.mask | bits.SUCCOR.mask),
    (_FIRST, "FEAT_KVM_HINTS", bits.KVM_HINTS_REALTIME.mask),
)
"""What QEMU gives on any host: since which release, in which feature word."""

_SILICON: tuple[tuple[tuple[int, int], str, int], ...] = (
    ((8, 0), "FEAT_7_0_EBX", bits.ERMS.mask),
    ((8, 0), "FEAT_7_0_EDX", bits.FSRM.mask),
    ((8, 0), "FEAT_7_1_EAX", bits.FZRM.mask | bits.FSRS.mask | bits.FSRC.mask),
    ((8, 1), "FEAT_7_2_EDX", bits.MCDT_NO.mask),
)
"""What QEMU asks the processor itself for, likewise."""


def _in(release: tuple[int, int], rows: tuple[tuple[tuple[int, int], str, int], ...]) -> dict[str, int]:
    """Return the masks that a release has, by feature word."""
    found: dict[str, int] = {}
    for since, name, mask in rows:
        if release >= since:
            found[name] = found.get(name, 0) | mask
    return found


def host_signature(host: Answers) -> tuple[int, int, int]:
    """Split the host's leaf 1 EAX into family, model and stepping (host_cpu_vendor_fms, target/i386/host-cpu.c).

    Unlike Linux (`vcpuid.cpuid.vendors.signature`), QEMU counts the extended family and the extended model in every family.
    """
    eax = host.raw.registers(1).eax
    return (eax >> 8 & 0xF) + (eax >> 20 & 0xFF), eax >> 4 & 0xF | eax >> 12 & 0xF0, eax & 0xF


def _tsx_is_broken(host: Answers) -> bool:
    """Tell the Haswells whose TSX a microcode update has to switch off (host_tsx_broken)."""
    if host.vendor != INTEL:
        return False
    family, model, stepping = host_signature(host)
    return family == 6 and ((model == 63 and stepping < 4) or model in (60, 69, 70))


class MachineKinds(NamedTuple):
    """What of a machine type matters here; `arch_cap_by_vendor`: its build is ahead in asking the guest's vendor about the MSR."""

    irqchip: str
    is_pc: bool
    arch_cap_by_vendor: bool


def supported(catalog: Catalog, machine: MachineType, host: Answers, ledger: Ledger, xcr0: int | None = None) -> Supported:
    """See a host as a QEMU does; where nobody wants to know why, what was worked out for the last hosts is taken."""
    kinds = MachineKinds(machine.irqchip, machine.is_pc, any(name == "x-arch-cap-always-on" for name, _ in machine.own))
    return Supported(catalog, kinds, host, ledger, xcr0) if ledger.records else _unrecorded(catalog, kinds, host, xcr0)


@lru_cache(maxsize=64)
def _unrecorded(catalog: Catalog, kinds: MachineKinds, host: Answers, xcr0: int | None) -> Supported:
    return Supported(catalog, kinds, host, Unrecorded(), xcr0)


LEAVES = ((0, 0), (0x14, 0), (0x14, 1), (0x24, 0), (0x80000000, 0), (0x80000008, 0), (0xC0000000, 0))
"""Leaves that say more than what features there are: last leaves, Processor Trace, AVX10, widths of addresses."""


class Supported:
    """The host as one QEMU on one machine type sees it; `words` by QEMU's names of feature words.

    `xcr0` is what KVM tells of the XSAVE components that a guest may have (KVM_GET_DEVICE_ATTR, KVM_X86_XCOMP_GUEST_SUPP); None: what leaf
    0xD of KVM_GET_SUPPORTED_CPUID says, which leaves out those that need a permission QEMU has not asked for yet.
    """

    __slots__ = ("_leaves", "words")

    def __init__(self, catalog: Catalog, kinds: MachineKinds, host: Answers, ledger: Ledger, xcr0: int | None = None) -> None:
        table = host.supported
        self._leaves = tuple(table.registers(*place) for place in LEAVES)
        release = catalog.number
        always, silicon = _in(release, _ALWAYS), _in(release, _SILICON)
        self.words: dict[str, int] = {}
        for row in catalog.words:
            if isinstance(row.word, MsrWord):
                self.words[row.name] = _msr(row.word, host.msrs.get(row.word.msr, 0), release, ledger)
                continue
            value = table.word(row.word)
            if row.name in always:
                given = always[row.name]
                if row.name == "FEAT_1_ECX" and kinds.irqchip == "off":
                    given &= ~_DEADLINE
                value = ledger.set(row.word, value, given, ALWAYS)
            if row.name in silicon:
                value = ledger.set(row.word, value, host.raw.word(row.word) & silicon[row.name], SILICON)
            self.words[row.name] = value
        if xcr0 is not None and release >= (7, 0):
            for name, value in (("FEAT_XSAVE_XCR0_LO", xcr0 & 0xFFFFFFFF), ("FEAT_XSAVE_XCR0_HI", xcr0 >> 32)):
                self.words[name] = ledger.compute(catalog.by_name[name].word, self.words[name], value, PERMITTED)
        self._amend(catalog, kinds, host, ledger)

    def _amend(self, catalog: Catalog, kinds: MachineKinds, host: Answers, ledger: Ledger) -> None:
        words, by_name = self.words, catalog.by_name
        if _tsx_is_broken(host):
            words["FEAT_7_0_EBX"] = ledger.clear(by_name["FEAT_7_0_EBX"].word, words["FEAT_7_0_EBX"], _RTM_HLE, BROKEN_TSX)
        extended = by_name["FEAT_8000_0001_EDX"]
        words[extended.name] = ledger.set(extended.word, words[extended.name], words["FEAT_1_EDX"] & AMD_ALIASES, AMD_ALIAS)
        if kinds.irqchip == "off":
            for name, mask in (("FEAT_1_ECX", _X2APIC), ("FEAT_KVM", _PV_UNHALT)):
                words[name] = ledger.clear(by_name[name].word, words[name], mask, NO_IRQCHIP)
        if kinds.irqchip == "split" and catalog.number >= (6, 0):
            words["FEAT_KVM"] = ledger.set(by_name["FEAT_KVM"].word, words["FEAT_KVM"], _MSI_EXT_DEST_ID, SPLIT_IRQCHIP)
        if catalog.number == (10, 1) and not kinds.arch_cap_by_vendor and not host.raw.registers(7).edx & _ARCH_CAPABILITIES_BIT:
            edx = by_name["FEAT_7_0_EDX"]
            words[edx.name] = ledger.clear(edx.word, words[edx.name], _ARCH_CAPABILITIES_BIT, FAKE_ARCH_CAPABILITIES)
        if catalog.number >= (9, 1) and not kinds.is_pc:
            for name, mask in (("FEAT_7_0_EBX", _SGX), ("FEAT_7_0_ECX", _SGX_LC)):
                words[name] = ledger.clear(by_name[name].word, words[name], mask, NO_SGX)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Supported) and self.words == other.words and self._leaves == other._leaves

    def __hash__(self) -> int:
        return hash((self._leaves, *self.words.values()))

    def leaf(self, function: int, index: int = 0) -> Registers:
        """Return a leaf as KVM reports it, one of those at which QEMU looks while it makes a CPU."""
        return self._leaves[LEAVES.index((function, index))]


def _msr(word: MsrWord, value: int, release: tuple[int, int], ledger: Ledger) -> int:
    if word.msr in CONTROL_MSRS:
        must, may = value & 0xFFFFFFFF, value >> 32
        return ledger.compute(word, may, may & ~must, CONTROLS)
    if mended(release, (10, 2), (10, 0)) and word.msr == _ARCH_CAPABILITIES and value & _NOT_VULNERABLE == _NOT_VULNERABLE:
        return ledger.set(word, value, _FB_CLEAR, FB_CLEAR)
    return value
