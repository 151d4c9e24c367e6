"""Features that are there for mitigations: the files of /sys/devices/system/cpu/vulnerabilities that hang on them.

What serves something else, and is only weighed for a mitigation as well (AVX, RTM, RDRAND, VMX, HYPERVISOR, TOPOEXT), is not listed.
"""

from __future__ import annotations

SERVING = {
    "spectre_v2": (
        *("SPEC_CTRL", "INTEL_STIBP", "ARCH_CAPABILITIES", "IBRS_ALL", "RSBA", "RRSBA", "PBRSB_NO", "BHI_CTRL"),
        *("AMD_IBPB", "AMD_IBRS", "AMD_STIBP", "AMD_STIBP_ALWAYS_ON", "AUTOIBRS", "BTC_NO"),
        *("IBRS", "IBPB", "STIBP", "IBRS_ENHANCED", "KERNEL_IBRS", "RETPOLINE", "USE_IBRS_FW"),
        *("RSB_CTXSW", "RSB_VMEXIT", "RSB_VMEXIT_LITE", "CLEAR_BHB_HW", "CLEAR_BHB_LOOP"),
    ),
    "spec_store_bypass": ("SPEC_CTRL_SSBD", "SSB_NO", "AMD_SSBD", "VIRT_SSBD", "AMD_SSB_NO", "SSBD"),
    "meltdown": ("RDCL_NO", "ARCH_CAPABILITIES", "PTI"),
    "l1tf": ("RDCL_NO", "ARCH_CAPABILITIES", "L1TF_PTEINV"),
    "mds": ("MD_CLEAR", "MDS_NO", "ARCH_CAPABILITIES", "CLEAR_CPU_BUF"),
    "tsx_async_abort": ("MD_CLEAR", "TAA_NO", "TSX_CTRL_MSR", "MDS_NO", "RTM_ALWAYS_ABORT", "CLEAR_CPU_BUF"),
    "mmio_stale_data": (
        *("FB_CLEAR", "SBDR_SSDP_NO", "FBSDP_NO", "PSDP_NO", "MD_CLEAR", "FLUSH_L1D", "MDS_NO", "ARCH_CAPABILITIES", "CLEAR_CPU_BUF"),
    ),
    "srbds": ("SRBDS_CTRL", "MDS_NO"),
    "gather_data_sampling": ("GDS_CTRL", "GDS_NO", "ARCH_CAPABILITIES"),
    "reg_file_data_sampling": ("RFDS_CLEAR", "RFDS_NO", "ARCH_CAPABILITIES"),
    "retbleed": (
        *("SPEC_CTRL", "INTEL_STIBP", "ARCH_CAPABILITIES", "IBRS_ALL", "RSBA", "AMD_IBRS", "AMD_STIBP", "AUTOIBRS", "BTC_NO"),
        *("IBRS", "STIBP", "IBRS_ENHANCED", "KERNEL_IBRS"),
    ),
    "spec_rstack_overflow": (
        *("IBPB_BRTYPE", "SRSO_NO", "SRSO_USER_KERNEL_NO", "SRSO_BP_SPEC_REDUCE", "BTB_CTX_ISOLATION", "AMD_IBPB", "IBPB"),
    ),
    "indirect_target_selection": ("ITS_NO", "BHI_CTRL", "ARCH_CAPABILITIES"),
    "tsa": ("VERW_CLEAR", "TSA_SQ_NO", "TSA_L1_NO"),
    "vmscape": (
        *("SPEC_CTRL", "AMD_IBPB", "SRSO_NO", "SRSO_USER_KERNEL_NO", "SRSO_BP_SPEC_REDUCE", "BTB_CTX_ISOLATION"),
        *("IBPB", "IBPB_EXIT_TO_USER", "IBPB_ON_VMEXIT"),
    ),
    "itlb_multihit": ("PSCHANGE_MC_NO", "ARCH_CAPABILITIES"),
}
"""By file, the best known first: Linux's names of bits of CPUID and of IA32_ARCH_CAPABILITIES, then of flags of its own."""
