"""What a processor lacks that would let its kernel mitigate a vulnerability, or do more about one: found out by giving it that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from vcpuid.answers.file_verdict import FileVerdict, More
from vcpuid.cpuid import Bit, MsrWord, bits
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.showing import showing
from vcpuid.cpuid.vendors import design_of, linux_kind
from vcpuid.linux.machine import ARCH_CAPABILITIES, machine_of
from vcpuid.linux.sysfs import vulnerabilities
from vcpuid.params import CMDLINE, MSR
from vcpuid.setup import Setup

_CONTROLS = {
    "intel": (
        bits.SPEC_CTRL,
        bits.SPEC_CTRL_SSBD,
        bits.INTEL_STIBP,
        bits.MD_CLEAR,
        bits.FLUSH_L1D,
        bits.SRBDS_CTRL,
        bits.ARCH_CAP_FB_CLEAR,
        bits.ARCH_CAP_RFDS_CLEAR,
        bits.ARCH_CAP_GDS_CTRL,
        bits.ARCH_CAP_TSX_CTRL_MSR,
    ),
    "amd": (bits.AMD_IBPB, bits.AMD_IBRS, bits.AMD_STIBP, bits.AMD_SSBD, bits.VIRT_SSBD, bits.VERW_CLEAR, bits.IBPB_BRTYPE, bits.SBPB),
}
"""What microcode gives a processor for a kernel to use, by the vendor that has it."""


def by_rules(setup: Setup) -> Setup:
    """Let rules alone answer, as they do for what is held against a setup: what a running kernel printed holds only of how it ran."""
    return setup.with_param(CMDLINE, setup.params.linux.get(CMDLINE, ""))


@lru_cache(maxsize=256)
def helping(setup: Setup, file: str) -> tuple[str, ...]:
    """Name what a vulnerable processor lacks and would let its kernel mitigate this: the first control, or the first two, that do.

    None is named where it lacks nothing, and its kernel was told not to mitigate.
    """
    setup = by_rules(setup)
    if _helped(setup, file):
        return ()
    lacking = _lacking(setup)
    for wanted in [*([bit] for bit in lacking), *([one, other] for at, one in enumerate(lacking) for other in lacking[at + 1 :])]:
        if _helped(_given(setup, wanted), file):
            return tuple(_spelled(bit) for bit in wanted)
    return ()


@lru_cache(maxsize=16)
def adding(setup: Setup) -> FrozenMap[str, tuple[More, ...]]:
    """Give the controls that a processor lacks and with each of which its kernel would do more, by the files that would say so."""
    setup = by_rules(setup)
    base = vulnerabilities(setup)
    found: dict[str, list[More]] = {}
    for bit in _lacking(setup):
        for file, text in vulnerabilities(_given(setup, [bit])).items():
            if text != base.get(file):
                found.setdefault(file, []).append(More(_spelled(bit), _besides(text, base.get(file, ""))))
    return FrozenMap((file, tuple(more)) for file, more in found.items())


def _besides(text: str, base: str) -> str:
    """Give those parts of a file's text that another text has not; the whole where that has all of them and more."""
    between = "; " if "; " in base else ", "  # which older kernels write
    had = base.split(between)
    return between.join(part for part in text.split(between) if part not in had) or text


def _lacking(setup: Setup) -> list[Bit]:
    return [bit for bit in _CONTROLS.get(design_of(linux_kind(setup.host.vendor)), ()) if not _has(setup, bit)]


def _helped(setup: Setup, file: str) -> bool:
    return FileVerdict(file, vulnerabilities(setup).get(file, "")).well


def _spelled(bit: Bit) -> str:
    feature = by_bit(bit)
    assert feature is not None, "a bit that rules ask for has a name"
    return feature.qemu or feature.name


def _capabilities(setup: Setup) -> int:
    """Return IA32_ARCH_CAPABILITIES, zero where CPUID does not announce it."""
    return (machine_of(setup).msr(ARCH_CAPABILITIES) or 0) if setup.host.raw.has(bits.ARCH_CAPABILITIES) else 0


def _has(setup: Setup, bit: Bit) -> bool:
    return bool(_capabilities(setup) & bit.mask) if isinstance(bit.word, MsrWord) else setup.host.raw.has(bit)


def _given(setup: Setup, wanted: Sequence[Bit]) -> Setup:
    """Give a processor features, and with those of IA32_ARCH_CAPABILITIES that MSR."""
    value, raw = _capabilities(setup), setup.host.raw
    for bit in wanted:
        in_msr = isinstance(bit.word, MsrWord)
        value |= bit.mask if in_msr else 0
        raw = showing(raw, bits.ARCH_CAPABILITIES if in_msr else bit)
    given = setup.with_host(replace(setup.host, raw=raw))
    return given.with_param(f"{MSR}{ARCH_CAPABILITIES:x}", value) if any(isinstance(bit.word, MsrWord) for bit in wanted) else given
