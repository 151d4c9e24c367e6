"""What a feature's names say and don't say: Linux' numbers, flags hidden in /proc/cpuinfo, Linux' own words, and the like.

Facts are those of arch/x86: asm/cpufeatures.h and asm/cpufeature.h, kernel/cpu/mkcapflags.sh, common.c, scattered.c, kvm/reverse_cpuid.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from vcpuid.cpuid.feature_words import CONTROL_MSRS, LINUX_WORDS
from vcpuid.cpuid.features import Feature, LinuxName
from vcpuid.cpuid.names import all_features, find_all
from vcpuid.cpuid.words import CpuidWord, MsrWord
from vcpuid.releases import KERNELS

SUMMED_UP = {
    "X86_FEATURE_SPEC_CTRL": ("ibrs", "ibpb"),
    "X86_FEATURE_INTEL_STIBP": ("stibp",),
    "X86_FEATURE_SPEC_CTRL_SSBD": ("ssbd",),
    "X86_FEATURE_AMD_IBRS": ("ibrs",),
    "X86_FEATURE_AMD_IBPB": ("ibpb",),
    "X86_FEATURE_AMD_STIBP": ("stibp",),
    "X86_FEATURE_AMD_SSBD": ("ssbd",),
    "X86_FEATURE_VIRT_SSBD": ("ssbd",),
}
"""Bits that make Linux show flags of its own, whichever vendor's bit it was (init_speculation_control, kernel/cpu/common.c)."""

SET_BY = {
    "X86_FEATURE_SPLIT_LOCK_DETECT": "Linux sets it when MSR 33H (TEST_CTRL) lets it turn on the #AC exception for split locks; it looks "
    "there when bit 5 of MSR CFH (IA32_CORE_CAPABILITIES) says so, or on models known to have it (kernel/cpu/bus_lock.c). "
    "Other code, KVM's among it, reads the flag as it would a global variable.",
    "X86_FEATURE_CONSTANT_TSC": "Linux sets it, and nonstop_tsc, when bit 8 of CPUID leaf 80000007H EDX (invtsc for QEMU) is set, and on "
    "some older models without it (kernel/cpu/intel.c, amd.c).",
    "X86_FEATURE_NONSTOP_TSC": "Linux sets it together with constant_tsc when bit 8 of CPUID leaf 80000007H EDX (invtsc for QEMU) is set.",
    "X86_FEATURE_EPT": "Linux sets it when the MSRs of VMX allow EPT (kernel/cpu/feat_ctl.c); QEMU's vmx-ept is that control.",
    "X86_FEATURE_VPID": "Linux sets it when the MSRs of VMX allow VPID (kernel/cpu/feat_ctl.c); QEMU's vmx-vpid is that control.",
    "X86_FEATURE_TPR_SHADOW": "Linux sets it when the MSRs of VMX allow the TPR shadow (kernel/cpu/feat_ctl.c).",
    "X86_FEATURE_FLEXPRIORITY": "Linux sets it when the MSRs of VMX allow both the TPR shadow and virtual APIC accesses "
    "(kernel/cpu/feat_ctl.c).",
    "X86_FEATURE_VNMI": "On Intel's processors Linux sets it when the MSRs of VMX allow virtual NMIs (kernel/cpu/feat_ctl.c); QEMU's "
    "vmx-vnmi is that control.",
    "X86_FEATURE_3DNOWPREFETCH": "On AMD's processors Linux also sets it when lm or 3dnow is there (kernel/cpu/amd.c).",
    "X86_FEATURE_CPB": "On a first-generation Zen that is no guest Linux sets it even where CPUID lacks it (kernel/cpu/amd.c).",
    "X86_FEATURE_BTC_NO": "On a third-generation Zen that is no guest Linux sets it even where CPUID lacks it (kernel/cpu/amd.c).",
    "X86_FEATURE_ARAT": "On AMD's processors from family 12H on Linux sets it even where CPUID lacks it (kernel/cpu/amd.c).",
    "X86_FEATURE_LFENCE_RDTSC": "On AMD's processors with SSE2 Linux makes LFENCE serializing and sets it (kernel/cpu/amd.c).",
}
"""How Linux comes by some flags that CPUID alone does not explain."""


class Note(NamedTuple):
    """A remark on a feature; `text` is for a person.

    `topic` is number, hidden, summed, shown, word, own, bug, counted, copy, several or shared.
    """

    topic: str
    text: str


def notes(feature: Feature, kernel: str = KERNELS[-1]) -> tuple[Note, ...]:
    """Give the remarks on a feature; what Linux says is that of `kernel`, or where it has no symbol for it, of the newest that has."""
    return tuple(_notes(feature, feature.in_linux(kernel) or next(iter(feature.linux_names), None), kernel))


def _notes(feature: Feature, linux: LinuxName | None, kernel: str) -> Iterator[Note]:
    if linux is not None:
        release = kernel if kernel in linux.kernels else linux.kernels[-1]
        if linux.number is not None:
            yield Note("number", _number(feature, linux))
        if linux.cpuinfo is None:
            yield Note("hidden", _hidden(feature, linux, release))
            if linux.symbol in SUMMED_UP:
                yield Note("summed", f"Where the bit is set, /proc/cpuinfo shows {' and '.join(SUMMED_UP[linux.symbol])} for it.")
        elif linux.symbol.startswith("VMX_FEATURE_"):
            yield Note("shown", f"/proc/cpuinfo shows {linux.cpuinfo} in the line `vmx flags`, not in `flags`.")
        if linux.word in LINUX_WORDS and not feature.is_bug:
            yield Note("word", f"{linux.word} holds {LINUX_WORDS[linux.word]}.")
        if linux.symbol in SET_BY and linux.number is not None:
            yield Note("own", SET_BY[linux.symbol])
        if feature.is_bug:
            yield Note(
                "bug",
                "No bit of the hardware means the bug: Linux concludes it from vendor, family, model and feature bits. "
                "vcpuid linux vulnerabilities says what its kernel reports of it, and vcpuid explain, what a guest's does.",
            )
    if feature.bit is not None and isinstance(feature.bit.word, MsrWord) and feature.bit.word.msr in CONTROL_MSRS:
        yield Note("counted", f"Bit {feature.bit.position} counts in the MSR's high half, where a set bit allows the control to be 1.")
    if feature.copy_of is not None:
        yield Note("copy", f"AMD's processors repeat bit {feature.copy_of.bit} here; Intel's leave it 0.")
    for name in {qemu.name: None for qemu in feature.qemu_names}:
        places = _by_qemu()[name]
        if len(places) > 1:
            yield Note("several", f"QEMU's {name} stands for {len(places)} bits: {', '.join(places)}.")
    if others := [other for other in find_all(feature.name) if other != feature]:
        yield Note("shared", f"{feature.name} is also a name of " + " and of ".join(str(other.place) for other in others) + ".")


@lru_cache(maxsize=1)
def _by_qemu() -> dict[str, list[str]]:
    """Give the bits of each of QEMU's names."""
    found: dict[str, list[str]] = {}
    for feature in all_features():
        for name in {qemu.name: None for qemu in feature.qemu_names}:
            found.setdefault(name, []).append(str(feature.bit))
    return found


def _number(feature: Feature, linux: LinuxName) -> str:
    """Say why a number of Linux' means nothing to hardware."""
    assert linux.number is not None
    count = f"{linux.symbol} is {linux.number // 32}*32+{linux.number % 32}"
    if linux.place is not None and not linux.symbol.startswith("X86_FEATURE_"):
        return f"{count} in an array of Linux' own; the number means nothing to hardware."
    if feature.bit is None:
        return f"{count}: a place in Linux' array x86_capability, in {linux.word}. No register of the hardware holds it."
    if linux.word is not None and linux.word.startswith("CPUID_LNX_"):
        return (
            f"{count}: a place in Linux' array x86_capability, in {linux.word}, to which Linux copies {feature.bit} at boot "
            "(init_scattered_cpuid_features). Neither the word's number nor the bit's means anything to hardware."
        )
    return (
        f"{count}: word {linux.number // 32} of Linux' array x86_capability is a copy of {feature.bit.word} ({linux.word}). "
        f"The bit is the register's; the word's number is Linux' own and means nothing to hardware."
    )


def _hidden(feature: Feature, linux: LinuxName, kernel: str) -> str:
    """Say why /proc/cpuinfo does not show a feature, and what shows it."""
    if linux.number is None:
        return f"/proc/cpuinfo of Linux {kernel} does not show it: {linux.symbol} is no number of Linux' array of flags{_whose(linux)}."
    header = "vmxfeatures.h" if linux.symbol.startswith("VMX_FEATURE_") else "cpufeatures.h"
    text = f"Linux {kernel} gives this bit no name in /proc/cpuinfo ({linux.symbol} in {header})."
    if feature.bit is not None and isinstance(feature.bit.word, CpuidWord):
        text += " That says nothing about the processor: the CPUID instruction and the cpuid tool show the bit."
    return text


def _whose(linux: LinuxName) -> str:
    if linux.symbol.startswith("X86_FEATURE_"):
        return ", only KVM has a word for it (kvm/reverse_cpuid.h)"
    return ", but a bit that KVM offers to guests" if linux.symbol.startswith("KVM_") else ", but a bit of an MSR"
