"""Texts that people type, each for what reads it alone: -smp, -global, releases, parameters, features and places."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from fuzz import grammar
from fuzz.target import Case, Target
from fuzz.text import hold_told
from vcpuid import releases
from vcpuid.cpuid import CpuidTable, names, words
from vcpuid.decode.ignore import Ignored
from vcpuid.errors import RefusedError, VcpuidError
from vcpuid.params import Params
from vcpuid.qemu import global_option
from vcpuid.qemu.smp import parse as parse_smp

Maker = Callable[[Random], Any]

_NO_TABLE = CpuidTable()

READERS: dict[str, tuple[Maker, Callable[[Any], object]]] = {
    "smp": (lambda random: [grammar.smp(random), random.choice(releases.QEMUS), grammar.machine(random)], lambda given: parse_smp(*given)),
    "global": (grammar.global_property, global_option.parse),
    "kernel": (grammar.kernel, releases.linux),
    "qemu": (grammar.qemu, releases.qemu),
    "params": (grammar.params, Params.of),
    "feature": (grammar.place, names.find_all),
    "leaf": (grammar.place, words.parse_leaf),
    "ignored": (grammar.place, lambda text: Ignored([text], [_NO_TABLE])),
}
"""What reads a text alone, and what makes such texts."""


def make(random: Random) -> Case:
    """Make a text for one of them."""
    what = random.choice(list(READERS))
    return {"what": what, "given": READERS[what][0](random)}


def check(case: Case) -> str:
    """Read it: it makes sense, or is refused."""
    try:
        READERS[case["what"]][1](case["given"])
    except RefusedError:  # in QEMU's own words, whatever these are; that a verb prints them on one line is for the verbs
        return "refused"
    except VcpuidError as error:
        hold_told(error)
        return "refused"
    return "taken"


TARGET = Target("texts", "-smp, -global, releases, parameters and places, each alone", make, check, share=0.5, seconds=2.0)
