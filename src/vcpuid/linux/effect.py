"""Which of the Linux host's parameters change nothing there, worked out with and without; and how public functions say so."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError, warn_caller
from vcpuid.linux import narrow
from vcpuid.linux.arch_cap import ArchCap
from vcpuid.linux.boot import booted
from vcpuid.linux.machine import ARCH_CAPABILITIES, machine_of
from vcpuid.params import CMDLINE, TSX_MODE
from vcpuid.setup import Setup, Stack, as_asked

P = ParamSpec("P")
R = TypeVar("R")


def saying(remarks: Callable[[Setup], Iterable[str]]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a public function say what `remarks` gives of its parameters, a RemarkWarning each, where it is asked of a snapshot.

    A Setup is taken as it is. Without parameters nothing is looked at.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def asked(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs.get("params") or (len(args) > 1 and any(isinstance(argument, Mapping) for argument in args)):
                given = signature.bind(*args, **kwargs).arguments
                host = given.get("host")
                if isinstance(host, Snapshot):
                    for remark in remarks(Setup.of(host, Stack(as_asked(given.get("kernel")), params=given.get("params") or {}))):
                        warn_caller(remark)
            return function(*args, **kwargs)

        return asked

    return decorate


def made_of(setup: Setup) -> tuple[object, ...]:
    """Return what Linux makes of a processor, as far as others look at it."""
    boot = booted(setup)
    return boot.caps, boot.vmx, boot.phys_bits


def without_effect(
    setup: Setup, made: Callable[[Setup], object] = made_of, same: str = "Linux makes the same of its processor without"
) -> tuple[str, ...]:
    """Say which words of the command line, and whether `tsx_mode`, change nothing in what is `made` of this host's processor.

    A sentence each, with the reason where it is known, else that it is the `same`. A host that tells no CPUID is not asked.
    """
    if not setup.host.raw or not {CMDLINE, TSX_MODE} & setup.params.linux.keys():
        return ()
    try:
        return tuple(_sentences(setup, made, same))
    except InputError:  # the host tells too little for an answer, and whoever asks for one is told so
        return ()


def _sentences(setup: Setup, made: Callable[[Setup], object], same: str) -> Iterator[str]:
    whole = made(setup)
    words = str(setup.params.linux.get(CMDLINE, "")).split()
    why: dict[str, list[str]] = {}
    for word in dict.fromkeys(words):
        rest = [other for other in words if other != word]
        if made(setup.with_param(CMDLINE, " ".join(rest))) == whole:
            words = rest
            why.setdefault(_why(setup, word.partition("=")[0], same), []).append(word[:40])
    for reason, found in why.items():
        more = f" and {len(found) - _MOST} more words" if len(found) > _MOST else ""
        verb = "has" if len(found) == 1 else "have"
        yield f"{', '.join(found[:_MOST])}{more} on the command line {verb} no effect on this host: {reason}"
    if TSX_MODE in setup.params.linux and made(setup.with_param(TSX_MODE, None)) == whole:
        yield f"the parameter {TSX_MODE} has no effect on this host: {_why(setup, 'tsx', same)}"


_MOST = 4
"""As many words are named: most of a whole command line is about other things."""


def _why(setup: Setup, option: str, same: str) -> str:
    boot = booted(setup)
    if option != "tsx" or boot.vendor != "intel":
        return same
    if boot.has("RTM_ALWAYS_ABORT"):
        return "microcode makes its transactions abort, whatever Linux does"
    if boot.has("MSR_TSX_CTRL"):
        return "without, Linux does the same"
    if not boot.has("ARCH_CAPABILITIES"):
        return "its processor lacks MSR 0x10a, which announces TSX_CTRL, by which Linux turns TSX on and off"
    if machine_of(setup).tells(ARCH_CAPABILITIES) or not narrow.arch_capabilities(setup).may & ArchCap.TSX_CTRL:
        return "bit 7 of its MSR 0x10a does not announce TSX_CTRL, by which Linux turns TSX on and off"
    return "TSX_CTRL, by which Linux turns TSX on and off, is announced by bit 7 of MSR 0x10a, and that is not told: give msr.10a=VALUE"
