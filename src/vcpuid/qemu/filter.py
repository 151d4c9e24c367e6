"""Takes from the CPU what the host does not support, and says so.

QEMU, target/i386/cpu.c, x86_cpu_filter_features and mark_unavailable_features.
"""

from __future__ import annotations

from collections.abc import Mapping

from vcpuid.cpuid import bits
from vcpuid.qemu import messages
from vcpuid.qemu.draft import Draft
from vcpuid.qemu.expand import INTEL_PT
from vcpuid.qemu.supported import Supported
from vcpuid.reasons import Rule

_FILTER = "x86_cpu_filter_features, target/i386/cpu.c"

NOT_SUPPORTED = Rule(
    "qemu.filter.kvm", "KVM does not support it on this host", _FILTER,
    remedy="see why KVM does not offer it: a newer kernel, a module parameter, or another host may help",
)  # fmt: skip
PROCESSOR_TRACE = Rule("qemu.filter.processor-trace", "the host's Processor Trace lacks what QEMU's fixed one has", _FILTER)

_AVX10, _LIP = bits.AVX10.mask, bits.INTEL_PT_LIP.mask

# The one Processor Trace that QEMU offers, leaf 0x14 (INTEL_PT_* of target/i386/cpu.c).
_PT_EBX, _PT_ECX, _PT_MTC, _PT_RANGES, _PT_CYCLES_AND_PSB = 0xF, 0x7, 0x0249 << 16, 2, 0x003F << 16 | 0x1FFF


def filter_features(draft: Draft, verbose: bool) -> bool:
    """Filter a draft's features; return whether anything was missing."""
    message = messages.HOST_LACKS if verbose else None
    supported = draft.supported.words
    for row in draft.catalog.words:
        missing = draft.features[row.name] & ~supported[row.name]
        if missing:
            draft.refuse(row.name, missing, NOT_SUPPORTED, message)
    for name, mask in lacks_trace(draft.features, draft.supported).items():
        draft.refuse(name, mask, PROCESSOR_TRACE, message)
    missing_any = any(draft.filtered.values())
    if draft.catalog.number < (9, 2):
        return missing_any
    return _filter_avx10(draft, verbose) or missing_any


def lacks_trace(features: Mapping[str, int], able: Supported) -> dict[str, int]:
    """Return the bit of Processor Trace where a CPU has it and the host's cannot stand in for QEMU's, as words."""
    has = features.get("FEAT_7_0_EBX", 0) & INTEL_PT
    return {"FEAT_7_0_EBX": has} if has and not _traces(features, able) else {}


def _traces(features: Mapping[str, int], able: Supported) -> bool:
    first, second = able.leaf(0x14, 0), able.leaf(0x14, 1)
    return (
        first.eax != 0
        and first.ebx & _PT_EBX == _PT_EBX
        and first.ecx & _PT_ECX == _PT_ECX
        and second.eax & _PT_MTC == _PT_MTC
        and second.eax & 3 >= _PT_RANGES
        and second.ebx & _PT_CYCLES_AND_PSB == _PT_CYCLES_AND_PSB
        and first.ecx & _LIP == features.get("FEAT_14_0_ECX", 0) & _LIP
    )


def _filter_avx10(draft: Draft, verbose: bool) -> bool:
    """Lower AVX10's version to the host's; return whether it was too high."""
    asked = draft.props["avx10-version"]
    if draft.has("FEAT_7_1_EDX", _AVX10):
        version = draft.supported.leaf(0x24).ebx & 0xFF
        if version >= asked:
            return False
        kept = draft.catalog.number >= (11, 0) and draft.props["x-force-features"]
        if verbose:
            told = messages.AVX10_LACKING(version=asked) if kept else messages.AVX10_ADJUSTED(version=asked, given=version)
            draft.warnings.append(told)
        if not kept:
            draft.props["avx10-version"] = version
        return True
    if asked and verbose:
        draft.warnings.append(messages.AVX10_LACKING(version=asked))
    return bool(asked)
