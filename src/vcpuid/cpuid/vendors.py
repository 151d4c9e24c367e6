"""Who made a processor and which hypervisor runs it, by the names in CPUID; and the numbers that its maker gave it."""

from __future__ import annotations

from vcpuid.cpuid.text import registers_of

INTEL, AMD, HYGON, CENTAUR, ZHAOXIN = "GenuineIntel", "AuthenticAMD", "HygonGenuine", "CentaurHauls", "  Shanghai  "
"""Leaf 0's names of those who make, or made, processors with x86-64."""
OLD_AMD = "AMDisbetter!"
"""Leaf 0's name on AMD's first K5."""

AMD_AND_HYGON = frozenset({AMD, HYGON})
"""AMD, and the maker of its design under licence: most rules are the same for both."""

LINUX_KINDS = {INTEL: "intel", AMD: "amd", HYGON: "hygon", CENTAUR: "centaur", ZHAOXIN: "zhaoxin"}
"""Vendors that a 64-bit Linux knows, in lower case as in the names of its files; it treats all others alike."""
UNKNOWN = "unknown"
"""What stands for the kind of all others."""

KINDS = {
    **LINUX_KINDS,
    "GenuineIotel": "intel",
    OLD_AMD: "amd",
    "VIA VIA VIA ": "centaur",
    "GenuineTMx86": "transmeta",
    "TransmetaCPU": "transmeta",
    "CyrixInstead": "cyrix",
    "Geode by NSC": "cyrix",
    "RiseRiseRise": "rise",
    "SiS SiS SiS ": "sis",
    "Vortex86 SoC": "vortex",
    "Genuine  RDC": "rdc",
    "NexGenDriven": "nexgen",
    "UMC UMC UMC ": "umc",
}
"""All names of leaf 0 that processors have had. GenuineIotel is no misprint of ours: some processors answer so, one bit astray."""

KVM, HYPERV, XEN, VMWARE, TCG = "KVMKVMKVM", "Microsoft Hv", "XenVMMXenVMM", "VMwareVMware", "TCGTCGTCGTCG"
"""Names of hypervisors in the first leaf of a range at 0x40000000, without the zero characters that fill them up to twelve."""

HYPERVISORS = {
    KVM: "kvm",
    HYPERV: "hyperv",
    XEN: "xen",
    VMWARE: "vmware",
    TCG: "tcg",
    "bhyve bhyve ": "bhyve",
    "ACRNACRNACRN": "acrn",
    " lrpepyh  vr": "parallels",
    "QNXQVMBSQG": "qnx",
    "SRESRESRESRE": "sre",
    "IntelTDX    ": "tdx",
}
"""All of them that are known."""


def twelve(name: str) -> tuple[int, int, int]:
    """Put a name of at most twelve characters into three registers, in the order of the characters."""
    first, second, third = registers_of(name.ljust(12, "\0"))
    return first, second, third


def linux_kind(name: str) -> str:
    """Return Linux' word for a vendor, `UNKNOWN` where a 64-bit Linux knows none of this name (get_cpu_vendor, cpu/common.c)."""
    return LINUX_KINDS.get(name, UNKNOWN)


def design_of(kind: str) -> str:
    """Return of Linux' words for vendors the one whose bits, fields and modules a processor has: Hygon's are AMD's."""
    return "amd" if kind == "hygon" else kind


def signature(eax: int) -> tuple[int, int, int]:
    """Split leaf 1's EAX into family, model and stepping as Linux does (x86_family and x86_model, arch/x86/lib/cpu.c).

    The extended family counts where the family is 15. Intel counts the extended model in families 6 and 15, AMD in 15 alone; Linux counts
    it from family 6 on, whoever made the processor. QEMU (`vcpuid.qemu.supported.host_signature`) and glibc (`vcpuid.software.tuning`)
    have rules of their own.
    """
    family = eax >> 8 & 0xF
    model = eax >> 4 & 0xF
    if family >= 6:
        model |= eax >> 12 & 0xF0
    if family == 0xF:
        family += eax >> 20 & 0xFF
    return family, model, eax & 0xF
