"""Arguments: -cpu, -smp, -machine, a kernel, a QEMU and parameters, by their grammar, all of them together on a captured host."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fuzz import grammar
from fuzz.seeds import host, machines
from fuzz.target import Case, Target, hold
from fuzz.text import hold_told
from vcpuid import Setup, Stack, kvm, linux, qemu, releases, resolve
from vcpuid.answers.verdict import verdict
from vcpuid.errors import RefusedError, VcpuidError
from vcpuid.reasons import replay


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
    """Make a command line for a host."""
    asked: Case = {"what": random.choices(list(_WHOLE), (8, 6, 1, 4))[0], "host": random.choice(machines()), "cpu": grammar.cpu(random)}
    if random.random() < 0.6:
        asked |= {"kernel": random.choice(releases.KERNELS), "qemu": random.choice(releases.QEMUS), "smp": random.choice(("1", "2", "4"))}
    else:
        asked |= {"kernel": grammar.kernel(random), "qemu": grammar.qemu(random), "smp": grammar.smp(random)}
        asked |= {"machine": grammar.machine(random), "params": grammar.params(random), "what_if": random.random() < 0.3}
    return asked


def check(case: Case) -> str:
    """Ask it: an answer, or a refusal."""
    try:
        _WHOLE[case["what"]](case)
    except RefusedError:  # in QEMU's own words, whatever these are; that a verb prints them on one line is for the verbs
        return "refused"
    except VcpuidError as error:
        hold_told(error)
        return "refused"
    return f"{case['what']} answered"


TARGET = Target("arguments", "-cpu, -smp, -machine, parameters and releases on captured hosts", make, check)
