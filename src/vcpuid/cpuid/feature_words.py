"""Words of features: what they are called, what they hold, which features are in them.

Linux' words come in three kinds. Most are copies of one register of one leaf. CPUID_LNX_1 and its like are Linux' own: bits copied there
from registers of which Linux wants few ("scattered"), and flags that no register holds. Words of KVM alone (CPUID_12_EAX and its like)
stand behind the array and hold what KVM hands to guests though Linux itself has no use for it.
"""

from __future__ import annotations

from vcpuid.cpuid.feature_table import table
from vcpuid.cpuid.features import Feature
from vcpuid.cpuid.names import all_features, parse_place
from vcpuid.cpuid.words import CpuidWord, LinuxWord, MsrWord, Word
from vcpuid.errors import InputError
from vcpuid.releases import KERNELS

LINUX_WORDS = {
    "CPUID_LNX_1": "makes of processors (K8, ZEN5), what the TSC and the PMU are good for (constant_tsc, arch_perfmon), and facts that "
    "Linux works out at boot (rep_good, nopl)",
    "CPUID_LNX_2": "scattered bits of power and cache control (epb, cat_l3, hw_pstate), speculation controls as Linux sums them up from "
    "Intel's and AMD's bits (ibrs, ibpb, stibp, ssbd), and mitigations in use (pti)",
    "CPUID_LNX_3": "virtualization: what VMX can do, read from MSRs (ept, vpid, tpr_shadow), and what kind of guest this kernel is "
    "(vmmcall, tdx_guest)",
    "CPUID_LNX_4": "scattered bits of cache monitoring and SGX (cqm_llc, SGX1), mitigations in use (RETPOLINE, ENTRY_IBPB), and flags for "
    "other parts of the kernel such as split_lock_detect",
    "CPUID_LNX_5": "mitigations in use (CLEAR_BHB_LOOP) and scattered bits of newer leaves (BHI_CTRL, APX)",
    "CPUID_LNX_6": "scattered bits of machine-check and later AMD leaves (overflow_recov, succor, smca)",
    "BUGS_1": "bugs: what Linux concludes from vendor, family, model and feature bits, shown in the line `bugs` of /proc/cpuinfo",
    "BUGS_2": "more bugs",
    "VMX_WORD_0": "VMX features: pin-based controls in bits 0 to 15, then bits taken from the EPT, VPID and VM-function MSRs",
    "VMX_WORD_1": "VMX features: primary processor-based controls, the allowed-1 half of MSR 482H",
    "VMX_WORD_2": "VMX features: secondary processor-based controls, the allowed-1 half of MSR 48BH",
    "VMX_WORD_3": "VMX features: tertiary processor-based controls, MSR 492H",
}
"""What the words hold that Linux defines itself (asm/cpufeatures.h and asm/vmxfeatures.h)."""

MSR_NAMES = {
    0xCF: "IA32_CORE_CAPABILITIES",
    0x10A: "IA32_ARCH_CAPABILITIES",
    0x345: "IA32_PERF_CAPABILITIES",
    0x480: "IA32_VMX_BASIC",
    0x485: "IA32_VMX_MISC",
    0x48B: "IA32_VMX_PROCBASED_CTLS2",
    0x48C: "IA32_VMX_EPT_VPID_CAP",
    0x48D: "IA32_VMX_TRUE_PINBASED_CTLS",
    0x48E: "IA32_VMX_TRUE_PROCBASED_CTLS",
    0x48F: "IA32_VMX_TRUE_EXIT_CTLS",
    0x490: "IA32_VMX_TRUE_ENTRY_CTLS",
    0x491: "IA32_VMX_VMFUNC",
    0x492: "IA32_VMX_PROCBASED_CTLS3",
}
"""Intel's names of the feature MSRs (SDM volume 4)."""

OTHER_MSR_NAMES = {
    0x33: "MSR_TEST_CTRL",
    0x4E: "MSR_PPIN_CTL",
    0x8B: "IA32_BIOS_SIGN_ID",
    0xCE: "MSR_PLATFORM_INFO",
    0x140: "MISC_FEATURE_ENABLES",
    0x481: "IA32_VMX_PINBASED_CTLS",
    0x482: "IA32_VMX_PROCBASED_CTLS",
    0xC00102F0: "PPIN_CTL",
}
"""The same of MSRs that rules read and that hold no feature of the table."""

CONTROL_MSRS = frozenset({0x48B, 0x48D, 0x48E, 0x48F, 0x490})
"""MSRs of VMX controls. Their high half says which controls may be 1; features are counted in it from 0, as QEMU does."""

PLAIN_CONTROLS = {0x48D: 0x481, 0x48E: 0x482, 0x48F: 0x483, 0x490: 0x484}
"""VMX's "true" controls, which QEMU sets, and the plain ones that KVM answers likewise (vmx_get_vmx_msr, arch/x86/kvm/vmx/nested.c)."""

TRUE_CONTROLS = {plain: true for true, plain in PLAIN_CONTROLS.items()}
"""The other way round: the plain ones, and those whose features they hold."""


def parse_word(text: str) -> Word:
    """Read a word, by its place or by its name in Linux or QEMU; raises InputError where it is neither.

    Places are `7.0.ebx`, `CPUID[eax=07h,ecx=00h].EBX`, `msr.10a`, `MSR(10AH)`; names are CPUID_7_0_EBX, CPUID_LNX_4, FEAT_7_0_EBX.
    """
    name = text.strip().upper()
    if name in table().hardware:
        return table().hardware[name]
    if name in table().words or name in LINUX_WORDS:
        return LinuxWord(name)
    place = parse_place(f"{text.strip()}.0") or parse_place(f"{text.strip()} [bit 0]")
    if place is None:
        raise InputError(f"{text!r} is not a word such as 7.0.ebx, msr.10a, CPUID_LNX_4 or FEAT_7_0_EBX")
    return place.word


def in_word(word: Word, kernel: str = KERNELS[-1]) -> tuple[Feature, ...]:
    """Give the features of a word by bit; of a word of Linux' own, those that the kernel has there."""
    if not isinstance(word, LinuxWord):
        return tuple(feature for feature in all_features() if feature.bit is not None and feature.bit.word == word)
    found = []
    for feature in all_features():
        name = feature.in_linux(kernel)
        if name is not None and name.place is not None and name.place.word == word:
            found.append((name.place.position, feature))
    return tuple(feature for _, feature in sorted(found, key=lambda pair: pair[0]))


def word_names(word: Word) -> tuple[str, ...]:
    """Give what Linux or KVM, QEMU and Intel call a word; nothing where none of them has a name for it."""
    names = [name for name, hardware in table().hardware.items() if hardware == word]
    return (*names, MSR_NAMES[word.msr]) if isinstance(word, MsrWord) and word.msr in MSR_NAMES else tuple(names)


def describe(word: Word) -> str:
    """Say in a sentence or two what a word is."""
    if isinstance(word, LinuxWord):
        where = f"word {table().words.index(word.name)} of Linux' array" if word.name in table().words else "a word of Linux"
        return f"{word} is {where}; no register of the processor holds it. It holds {LINUX_WORDS.get(word.name, 'flags')}."
    names = word_names(word)
    called = f", called {' and '.join(names)}" if names else ""
    if isinstance(word, CpuidWord):
        subleaf = f", sub-leaf {word.index:X}H" if word.index or "ecx=" in str(word) else ""
        return f"{word} is register {word.register.upper()} of CPUID leaf {word.function:X}H{subleaf}{called}."
    counted = " Controls are counted in its high half: bit 0 is bit 32 of the register." if word.msr in CONTROL_MSRS else ""
    return f"{word} is a 64-bit register that RDMSR reads{called}.{counted}"
