"""What an answer says of the Linux host's parameters: which change nothing there, worked out with and without, and which stand for what."""

from __future__ import annotations

from collections.abc import Iterator

from vcpuid.errors import InputError
from vcpuid.kvm.caps import loaded
from vcpuid.kvm.feature_msrs import VMX
from vcpuid.kvm.hyperv import hyperv_supported
from vcpuid.linux.boot import booted
from vcpuid.linux.machine import ARCH_CAPABILITIES, Machine
from vcpuid.params import CMDLINE, TSX_MODE, msrs_in
from vcpuid.setup import Setup


def remarks(setup: Setup) -> tuple[str, ...]:
    """Say what was made of the parameters that are the Linux host's: a sentence each for those that ask for one."""
    return (*without_effect(setup), *_taken_as_given(setup))


def without_effect(setup: Setup) -> tuple[str, ...]:
    """Say which words of the command line, and whether `tsx_mode`, change nothing that Linux or KVM makes of this processor.

    A sentence each, with the reason where it is known. A host that tells no CPUID is not asked.
    """
    if not setup.host.raw or not {CMDLINE, TSX_MODE} & setup.params.linux.keys():
        return ()
    try:
        return tuple(_sentences(setup))
    except InputError:  # the host tells too little for an answer, and whoever asks for one is told so
        return ()


def _taken_as_given(setup: Setup) -> Iterator[str]:
    taken = [name for name, index in msrs_in(setup.params.linux) if index in VMX and index not in setup.host.msrs]
    if taken and setup.host.raw and "nested" in loaded(setup).hardware.on:
        yield f"{', '.join(taken)}: taken as what KVM offers, since what it keeps back from guests that nest is not modelled"


def _sentences(setup: Setup) -> Iterator[str]:
    made = _made(setup)
    words = str(setup.params.linux.get(CMDLINE, "")).split()
    why: dict[str, list[str]] = {}
    for word in dict.fromkeys(words):
        rest = [other for other in words if other != word]
        if _made(setup.with_param(CMDLINE, " ".join(rest))) == made:
            words = rest
            why.setdefault(_why(setup, word.partition("=")[0]), []).append(word[:40])
    for reason, found in why.items():
        more = f" and {len(found) - _MOST} more words" if len(found) > _MOST else ""
        verb = "has" if len(found) == 1 else "have"
        yield f"{', '.join(found[:_MOST])}{more} on the command line {verb} no effect on this host: {reason}"
    if TSX_MODE in setup.params.linux and _made(setup.with_param(TSX_MODE, None)) == made:
        yield f"the parameter {TSX_MODE} has no effect on this host: {_why(setup, 'tsx')}"


_MOST = 4
"""As many words are named: most of a whole command line is about other things."""


def _made(setup: Setup) -> tuple[object, ...]:
    boot = booted(setup)
    return boot.caps, boot.vmx, boot.phys_bits, hyperv_supported(setup).table


def _why(setup: Setup, option: str) -> str:
    boot = booted(setup)
    if option != "tsx" or boot.vendor != "intel":
        return "Linux and KVM make the same of its processor without"
    if boot.has("RTM_ALWAYS_ABORT"):
        return "microcode makes its transactions abort, whatever Linux does"
    if boot.has("MSR_TSX_CTRL"):
        return "without, Linux does the same"
    if not boot.has("ARCH_CAPABILITIES"):
        return "its processor lacks MSR 0x10a, which announces TSX_CTRL, by which Linux turns TSX on and off"
    if Machine(setup.host, setup.params.linux).tells(ARCH_CAPABILITIES):
        return "bit 7 of its MSR 0x10a does not announce TSX_CTRL, by which Linux turns TSX on and off"
    return "TSX_CTRL, by which Linux turns TSX on and off, is announced by bit 7 of MSR 0x10a, and that is not told: give msr.10a=VALUE"
