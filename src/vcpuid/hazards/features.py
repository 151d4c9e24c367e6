"""Features that the guest is told of and cannot use: the host lacks them, or what they need is off."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from vcpuid.cpuid import Bit, CpuidWord, MsrWord, Word, bits
from vcpuid.cpuid.names import all_features, find
from vcpuid.cpuid.words import positions
from vcpuid.hazards.rule import HazardRule, Looks, Severity
from vcpuid.hazards.view import View, name_of, names
from vcpuid.linux.tables import tables

_TSX = CpuidWord(7, 0, "ebx")
_EVEX = bits.AVX512BW.mask | bits.AVX512VL.mask
"""AVX-512 BW and VL: glibc prefers its EVEX functions where it finds both."""
_CHECKED_MSRS = frozenset({0x345, *range(0x480, 0x493)})

_PROMISES = (
    "erms", "fsrm", "fzrm", "fsrs", "fsrc", "zero-fcs-fds", "fdp-excptn-only", "arat", "invtsc", "ss", "tm", "pbe", "lahf_lm",
    "no-nested-data-bp", "fs-gs-base-ns", "lfence-always-serializing", "null-sel-clr-base", "btc-no", "ssb-no", "srso-no",
    "srso-user-kernel-no", "ibpb-brtype", "ibpb-ret", "mcdt-no", "stibp-always-on", "ibrs-same-mode",
    "tsa-sq-no", "tsa-l1-no", "bhi-no", "verw-clear", "eraps", "prefetchi", "fast_cppc", "perfctr_llc", "epsf", "amd-psfd",
)  # fmt: skip
"""Features that say how the processor behaves: there is no instruction and no register to use them by."""


@cache
def _promises() -> dict[Word, int]:
    masks: dict[Word, int] = {}
    for name in _PROMISES:
        word, position = find(name).place
        masks[word] = masks.get(word, 0) | 1 << position
    return masks


def _lacking(view: View, *, promises: bool) -> Iterator[str]:
    """Name what the guest has and the processor has not, but for TSX, which has rules of its own."""
    hardware = view.hardware
    if hardware is None:
        return
    for word, mask in view.excess.items():
        if isinstance(word, CpuidWord):
            mask &= ~hardware.word(word)
            mask &= _promises().get(word, 0) if promises else ~_promises().get(word, 0)
            if word == _TSX:
                mask &= ~(bits.RTM.mask | bits.HLE.mask)
            yield from names({word: mask})


def _no_hardware(view: View) -> Iterator[str]:
    return _lacking(view, promises=False)


def _false_promises(view: View) -> Iterator[str]:
    return _lacking(view, promises=True)


def _hidden(view: View) -> Iterator[str]:
    """Name what the processor has and KVM does not give."""
    for word, mask in view.excess.items():
        if isinstance(word, CpuidWord) and view.hardware is not None:
            yield from names({word: mask & view.hardware.word(word)})


def _refused_msrs(view: View) -> Iterator[str]:
    for word, mask in view.excess.items():
        if isinstance(word, MsrWord) and word.msr in _CHECKED_MSRS:
            yield from names({word: mask})


def _tsx(view: View) -> Iterator[str]:
    """Name RTM where the processor lacks it, so that XBEGIN and XTEST do not exist; and AVX2, where glibc would use both."""
    if _lacks(view, bits.RTM):
        evex = view.word(_TSX) & _EVEX == _EVEX
        yield "rtm, with avx2" if view.has(bits.AVX2) and not evex else "rtm"


def _hle(view: View) -> Iterator[str]:
    if _lacks(view, bits.HLE):
        yield "hle"


def _lacks(view: View, bit: Bit) -> bool:
    return view.has(bit) and view.hardware is not None and not view.hardware.has(bit)


def _aborting(view: View) -> Iterator[str]:
    for bit in (bits.RTM, bits.HLE):
        if view.has(bit) and view.has(bits.RTM_ALWAYS_ABORT):
            yield name_of(bit)


@cache
def needs(kernel: str) -> tuple[tuple[Bit, Bit], ...]:
    """Pair every feature with each that it needs, by Linux' table of dependencies (cpuid_deps, cpu/cpuid-deps.c)."""
    places = {name.symbol: f.bit for f in all_features() if f.bit is not None for name in f.linux_names if name.number is not None}
    rows = ((name, cause) for cause, dependents in tables(kernel).depending.items() for name in dependents)
    pairs = ((places.get(f"X86_FEATURE_{name}"), places.get(f"X86_FEATURE_{cause}")) for name, cause in rows)
    return tuple(dict.fromkeys((feature, needed) for feature, needed in pairs if feature is not None and needed is not None))


def _unmet(view: View) -> Iterator[str]:
    """Name each feature with what it needs and has not, by the tables of Linux and of QEMU; what KVM itself offers so is left out."""
    for feature, needed in needs(view.setup.kernel.tables):
        if view.has(feature) and not view.has(needed) and _told(view, needed.word) and not _offered(view, feature, needed):
            yield f"{name_of(feature)} needs {name_of(needed)}"
    by_name = view.catalog.by_name
    for name, mask, dependent, dependent_mask in view.catalog.dependencies:
        word, target = by_name[name].word, by_name[dependent].word
        if not _told(view, word) or view.word(word) & mask:
            continue
        for position in positions(view.word(target) & dependent_mask):
            if position in by_name[dependent].names:
                yield f"{name_of(Bit(target, position))} needs {name_of(Bit(word, mask.bit_length() - 1))}"


def _told(view: View, word: Word) -> bool:
    return view.tells(word.function) if isinstance(word, CpuidWord) else word in view.msrs


def _offered(view: View, feature: Bit, needed: Bit) -> bool:
    """Whether KVM supports the one without the other: SSBD by Intel's bit on AMD, say, or a processor that is odd itself."""
    supported = view.supported
    if supported is None or not isinstance(needed.word, CpuidWord):
        return False
    return supported.has(feature) and not supported.has(needed)


RULES = (
    HazardRule(
        "tsx.no-hardware", Severity.BREAKS, _tsx,
        "XBEGIN and XTEST raise #UD on this host. With AVX2, glibc picks its *_avx2_rtm string functions (unless AVX-512 BW and VL are "
        "there), which end in XTEST: the first process of a Linux guest dies of an invalid opcode, and the guest with it.",
        "switch it off with -rtm, or use a model without TSX (its -noTSX version); no x-force-features=on",
        Looks.HOST,
    ),
    HazardRule(
        "tsx.no-hle", Severity.RISK, _hle,
        "The processor ignores the prefixes XACQUIRE and XRELEASE, so locks work as ever; but XTEST, which HLE promises as well, raises "
        "#UD where RTM is not there either.",
        "switch it off: -hle",
        Looks.HOST,
    ),
    HazardRule(
        "tsx.always-aborts", Severity.RISK, _aborting,
        "The processor's microcode aborts every transaction: code that tries them only loses time, and code without a way to go on hangs.",
        "switch them off: -rtm,-hle",
    ),
    HazardRule(
        "feature.no-hardware", Severity.BREAKS, _no_hardware,
        "The host's processor lacks it and KVM does not emulate it: its instructions raise #UD, its registers and control bits #GP, in "
        "whatever program or kernel believes the guest's CPUID.",
        "switch it off with -feature, and do without x-force-features=on",
        Looks.HOST,
    ),
    HazardRule(
        "feature.false-promise", Severity.RISK, _false_promises,
        "The processor does not behave as this promises: code picked for it is slow, or leaves out what it should have done.",
        "switch it off with -NAME in -cpu",
        Looks.HOST,
    ),
    HazardRule(
        "feature.kvm-hides", Severity.RISK, _hidden,
        "The processor has it, but KVM does not let guests use it: its registers raise #GP, its state is not kept when the guest is "
        "scheduled, or its instructions are intercepted.",
        "switch it off with -feature; vcpuid explain FEATURE says why KVM hides it",
        Looks.HOST,
    ),
    HazardRule(
        "msr.refused", Severity.BREAKS, _refused_msrs,
        "KVM refuses a feature MSR with bits that it does not support, and QEMU stops with 'failed to set MSR'.",
        "switch it off with -NAME in -cpu",
        Looks.HOST,
    ),
    HazardRule(
        "feature.unmet-need", Severity.RISK, _unmet,
        "Linux counts the one as needing the other: it may warn, or switch the feature off again; a program that tests for the one bit "
        "alone may use what does not work.",
        "switch the needed feature on or the one that needs it off",
        Looks.HOST,
    ),
)  # fmt: skip
