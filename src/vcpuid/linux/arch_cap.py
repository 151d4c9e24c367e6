"""The bits of IA32_ARCH_CAPABILITIES, by Linux's names, and what KVM makes of them (kvm_get_arch_capabilities, arch/x86/kvm/x86.c)."""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.releases import BEFORE_ITS, BEFORE_RHEL_9_2, BEFORE_RHEL_9_3


class ArchCap:
    """ARCH_CAP_*, the bits of IA32_ARCH_CAPABILITIES that Linux asks for."""

    RDCL_NO = bits.ARCH_CAP_RDCL_NO.mask
    IBRS_ALL = bits.ARCH_CAP_IBRS_ALL.mask
    RSBA = bits.ARCH_CAP_RSBA.mask
    SKIP_L1D_FLUSH = bits.ARCH_CAP_SKIP_VMENTRY_L1DFLUSH.mask
    SSB_NO = bits.ARCH_CAP_SSB_NO.mask
    MDS_NO = bits.ARCH_CAP_MDS_NO.mask
    PSCHANGE_MC_NO = bits.ARCH_CAP_PSCHANGE_MC_NO.mask
    TSX_CTRL = bits.ARCH_CAP_TSX_CTRL_MSR.mask
    TAA_NO = bits.ARCH_CAP_TAA_NO.mask
    SBDR_SSDP_NO = bits.ARCH_CAP_SBDR_SSDP_NO.mask
    FBSDP_NO = bits.ARCH_CAP_FBSDP_NO.mask
    PSDP_NO = bits.ARCH_CAP_PSDP_NO.mask
    FB_CLEAR_CTRL = bits.ARCH_CAP_FB_CLEAR_CTRL.mask
    FB_CLEAR = bits.ARCH_CAP_FB_CLEAR.mask
    RRSBA = bits.ARCH_CAP_RRSBA.mask
    BHI_NO = bits.ARCH_CAP_BHI_NO.mask
    PBRSB_NO = bits.ARCH_CAP_PBRSB_NO.mask
    GDS_CTRL = bits.ARCH_CAP_GDS_CTRL.mask
    GDS_NO = bits.ARCH_CAP_GDS_NO.mask
    RFDS_NO = bits.ARCH_CAP_RFDS_NO.mask
    RFDS_CLEAR = bits.ARCH_CAP_RFDS_CLEAR.mask
    ITS_NO = bits.ARCH_CAP_ITS_NO.mask


_ALL = (1 << 64) - 1
_KVM_SUPPORTED = (
    ArchCap.RDCL_NO | ArchCap.IBRS_ALL | ArchCap.RSBA | ArchCap.SKIP_L1D_FLUSH | ArchCap.SSB_NO | ArchCap.MDS_NO | ArchCap.PSCHANGE_MC_NO
    | ArchCap.TSX_CTRL | ArchCap.TAA_NO | ArchCap.SBDR_SSDP_NO | ArchCap.FBSDP_NO | ArchCap.PSDP_NO | ArchCap.FB_CLEAR | ArchCap.RRSBA
    | ArchCap.PBRSB_NO | ArchCap.GDS_NO | ArchCap.RFDS_NO | ArchCap.RFDS_CLEAR | ArchCap.BHI_NO | ArchCap.ITS_NO
)  # fmt: skip
_NOT_YET = {
    "5.10": ArchCap.BHI_NO | ArchCap.ITS_NO,
    **dict.fromkeys(BEFORE_ITS, ArchCap.ITS_NO),
    "5.14-el9_3": ArchCap.RFDS_NO | ArchCap.RFDS_CLEAR | ArchCap.BHI_NO | ArchCap.ITS_NO,
    **dict.fromkeys(BEFORE_RHEL_9_3, ArchCap.GDS_NO | ArchCap.RFDS_NO | ArchCap.RFDS_CLEAR | ArchCap.BHI_NO | ArchCap.ITS_NO),
}
"""What kernels do not know whose tables are of an earlier day. The others' are younger, or of stable updates that took over what was
mended."""

_KVM_IMMUNE = {
    "CPU_MELTDOWN": ArchCap.RDCL_NO,
    "SPEC_STORE_BYPASS": ArchCap.SSB_NO,
    "MDS": ArchCap.MDS_NO,
    "RFDS": ArchCap.RFDS_NO,
    "ITS": ArchCap.ITS_NO,
    "TAA": ArchCap.TAA_NO,
    "GDS": ArchCap.GDS_NO,
}


def kvm_supported(kernel: str) -> int:
    """Return KVM_SUPPORTED_ARCH_CAP of one of KERNELS: the bits that KVM passes on. Red Hat's before 9.2 keep one to themselves."""
    return ~ArchCap.FB_CLEAR_CTRL & _ALL if kernel in ("4.18", *BEFORE_RHEL_9_2) else _known(kernel)


def _known(kernel: str) -> int:
    return _KVM_SUPPORTED & ~_NOT_YET.get(kernel, 0)


def kvm_immune(kernel: str) -> dict[str, int]:
    """Give the bits that KVM sets where the host's Linux knows the processor not to have a bug; TAA's only where there are transactions."""
    known = _known(kernel)
    return {bug: capability for bug, capability in _KVM_IMMUNE.items() if capability & known}
