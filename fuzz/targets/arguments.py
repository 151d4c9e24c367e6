"""Arguments: -cpu, -smp, -machine, -global, releases, parameters, places, by their grammar; read alone, or all of them on a host."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from fuzz import grammar
from fuzz.seeds import host, machines
from fuzz.target import Case, Target, hold
from fuzz.text import hold_told
from vcpuid import Setup, Stack, kvm, linux, qemu, releases, resolve
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import CpuidTable, names, words
from vcpuid.decode.ignore import Ignored
from vcpuid.errors import RefusedError, VcpuidError
from vcpuid.params import Params
from vcpuid.qemu import global_option, properties
from vcpuid.qemu.smp import parse as parse_smp
from vcpuid.reasons import replay

Maker = Callable[[Random], Any]

_NO_TABLE = CpuidTable()

READERS: dict[str, tuple[Maker, Callable[[Any], object]]] = {
    "cpu": (grammar.cpu, properties.parse),
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


def _tables(asked: Case) -> None:
    setup = _setup(asked)
    made = qemu.guest_tables(asked["cpu"], host=setup)
    hold(len(made.tables) >= 1, "a guest has a vCPU")


def _path(asked: Case) -> None:
    path = resolve(asked["cpu"], host=_setup(asked))
    for step in path.trace.steps:
        for decision in step.decisions or ():
            hold(decision.mask, "a decision names a bit", decision)
    made = path.trace.steps[3]
    after = replay(made.before, made.decisions or ())
    hold(all(after.get(word, 0) == value for word, value in path.tables[0].words().items()), "QEMU's decisions give its table")


def _verdict(asked: Case) -> None:
    verdict(asked["cpu"][:500], _setup(asked)).as_dict()


def _kvm(asked: Case) -> None:
    setup = _setup(asked)
    for function in (kvm.supported, kvm.emulated, kvm.hyperv_supported):
        function(setup)
    linux.cpuinfo(setup)


_WHOLE: dict[str, Callable[[Case], None]] = {"tables": _tables, "path": _path, "verdict": _verdict, "kvm": _kvm}
"""What is asked of a host with all that was typed; the dear ones are asked less often."""


def _setup(asked: Case) -> Setup:
    machine, smp = asked.get("machine") or "q35", asked.get("smp") or "1"
    stack = Stack(asked.get("kernel"), asked.get("qemu"), machine, smp, asked.get("params") or {}, bool(asked.get("what_if")))
    return Setup.of(host(asked["host"]), stack)


def make(random: Random) -> Case:
    """Make one text for its reader, or a whole command line for a host."""
    if random.random() < 0.8:
        what = random.choice(list(READERS))
        return {"what": what, "given": READERS[what][0](random)}
    what = random.choices(list(_WHOLE), (8, 6, 1, 4))[0]
    asked: Case = {"what": what, "host": random.choice(machines()), "cpu": grammar.cpu(random)}
    if random.random() < 0.6:
        asked |= {"kernel": random.choice(releases.KERNELS), "qemu": random.choice(releases.QEMUS), "smp": random.choice(("1", "2", "4"))}
    else:
        asked |= {"kernel": grammar.kernel(random), "qemu": grammar.qemu(random), "smp": grammar.smp(random)}
        asked |= {"machine": grammar.machine(random), "params": grammar.params(random), "what_if": random.random() < 0.3}
    return asked


def check(case: Case) -> str:
    """Read it: it makes sense, or is refused in one line."""
    what = case["what"]
    try:
        READERS[what][1](case["given"]) if what in READERS else _WHOLE[what](case)
    except RefusedError:  # in QEMU's own words, whatever these are; that a verb prints them on one line is for the verbs
        return "refused"
    except VcpuidError as error:
        hold_told(error)
        return "refused"
    return "taken"


TARGET = Target("arguments", "-cpu, -smp, -machine, parameters, releases and places", make, check, share=1.0)
