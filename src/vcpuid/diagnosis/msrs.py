"""MSRs as messages name them, by number: what each is called, which features promise it, which controls of a value KVM refuses."""

from __future__ import annotations

from functools import cache

from vcpuid import data
from vcpuid.cpuid import Bit, MsrWord, Snapshot
from vcpuid.cpuid.feature_words import CONTROL_MSRS, TRUE_CONTROLS
from vcpuid.cpuid.names import Feature, by_bit, find
from vcpuid.cpuid.words import positions

_HALVES = {**TRUE_CONTROLS, **{msr: msr for msr in CONTROL_MSRS}}
"""VMX's MSRs of controls, of which the low half says which must be on and the high half which may be; and under which the features table
has their names."""
_LOW = (1 << 32) - 1


@cache
def _table() -> dict[int, tuple[str, tuple[str, ...]]]:
    return {msr: (name, tuple(features)) for msr, name, features in data.load("messages")["msrs"]}


def name(msr: int) -> str | None:
    """Return what Linux calls an MSR, None where the table does not have it."""
    return _table()[msr][0] if msr in _table() else None


def promised(msr: int) -> tuple[Feature, ...]:
    """Return the features of CPUID that promise an MSR to a guest."""
    return tuple(find(text) for text in _table().get(msr, ("", ()))[1])


def promised_by_name(text: str) -> tuple[Feature, ...]:
    """Return the features that promise an MSR which is called by its name: MSR_IA32_SPEC_CTRL, IA32_SPEC_CTRL; none for other texts."""
    number = _numbers().get(text.upper().removeprefix("MSR_")) if "_" in text else None
    return () if number is None else promised(number)


@cache
def _numbers() -> dict[str, int]:
    return {name.removeprefix("MSR_"): msr for msr, (name, _) in _table().items()}


def bits(msr: int, value: int) -> tuple[Feature, ...]:
    """Return what a value of a feature MSR has: the controls that may be on, or the bits that are set."""
    word = MsrWord(_HALVES.get(msr, msr))
    allowed = value >> 32 if msr in _HALVES else value
    return tuple(found for position in positions(allowed) if (found := by_bit(Bit(word, position))) is not None)


def refused(msr: int, value: int, host: Snapshot) -> tuple[Feature, ...] | None:
    """Return what of a value this host's KVM does not have, and so refuses; None where the host does not tell its MSR.

    KVM takes a value of VMX's controls that allows no more and demands no less than its own (vmx_restore_control_msr,
    arch/x86/kvm/vmx/nested.c), and of other feature MSRs one without a bit that its own lacks.
    """
    own = host.msrs.get(msr)
    if own is None:
        return None
    word = MsrWord(_HALVES.get(msr, msr))
    wrong = (value >> 32) & ~(own >> 32) | own & ~value & _LOW if msr in _HALVES else value & ~own
    return tuple(by_bit(Bit(word, position)) or Feature(Bit(word, position)) for position in positions(wrong))
