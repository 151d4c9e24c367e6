"""What another kernel, QEMU or parameter changes for a guest on every host of a fleet, and whether today's baseline still runs then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.answers.drift import Guessed, Register, Side, drift, guessed, software
from vcpuid.answers.survey import NOT_TOLD_CHANGE
from vcpuid.errors import InputError, KvmError, RefusedError
from vcpuid.fleet.members import Census, Group, hosts_of, spoken
from vcpuid.fleet.moves import kind_of
from vcpuid.fleet.proof import Proof, Proven, prove
from vcpuid.fleet.software import chosen, eldest, qemus, remarks, settled
from vcpuid.setup import Setup, Stack
from vcpuid.told.completions import untold
from vcpuid.told.facts import Fact


def _whose(groups: tuple[Group, ...]) -> dict[str, object]:
    """Tell programs which hosts a change is of."""
    return {"hosts": hosts_of(groups), "who": spoken(groups), "classes": [group.as_dict() for group in groups]}


class Shift(NamedTuple):
    """Features that guests on some classes lose, gain, or of which that is not told, by one cause. `change` is as in `vcpuid drift`."""

    change: str
    features: tuple[str, ...]
    party: str | None
    rule: str | None
    why: str
    groups: tuple[Group, ...]

    @property
    def hosts(self) -> int:
        """How many hosts these are."""
        return hosts_of(self.groups)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "change": self.change, "features": list(self.features), "party": self.party, "rule": self.rule, "why": self.why,
            **_whose(self.groups),
        }  # fmt: skip


class Rewritten(NamedTuple):
    """Registers of one kind that hold something else for guests on some classes, in bits that are no feature: sizes, numbers."""

    what: str
    registers: tuple[Register, ...]
    groups: tuple[Group, ...]

    @property
    def hosts(self) -> int:
        """How many hosts these are."""
        return hosts_of(self.groups)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "what": self.what, "registers": [register.as_dict() for register in self.registers],
            **_whose(self.groups),
        }  # fmt: skip


class Silent(NamedTuple):
    """A class that does not tell all of a guest's CPU: `features` of which neither side tells, and the facts on which all of it depends.

    `software` are the programs of which it does not tell what there is to compare.
    """

    group: Group
    features: int
    depends: tuple[Fact, ...]
    software: tuple[Guessed, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        told = {"features": self.features, "depends": [fact.as_dict() for fact in self.depends]}
        return {**self.group.as_dict(), **told, "software": [one.as_dict() for one in self.software]}


class Refusal(NamedTuple):
    """A class on which the guest does not start, before or after, and in which words."""

    group: Group
    when: str
    words: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.group.as_dict(), "when": self.when, "words": self.words}


@dataclass(frozen=True)
class Upgrade(Proven):
    """The answer.

    `shifts` and `registers` are what changes for a guest, that of the most hosts first and what is not told last; `same` counts hosts for
    which nothing does, as far as they tell: `not_told` are those that do not tell all, and of these no host counts whose `software` is not
    told on one side. `refused` are classes that do not start it. `proofs` hold the CPU
    against each class after the upgrade, and `differs` are the words in which guests then have not the same CPU on all.
    """

    cpu: str
    census: Census
    before: tuple[Setup, ...]
    after: tuple[Setup, ...]
    shifts: tuple[Shift, ...]
    refused: tuple[Refusal, ...]
    same: int
    proofs: tuple[Proof, ...]
    not_told: tuple[Silent, ...] = ()
    registers: tuple[Rewritten, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether nothing changes for a guest, and it runs on every host and is one CPU on all, as far as they tell."""
        unnamed = any(unknown.software for unknown in self.not_told)
        return not (self.shifts or self.registers or self.refused or unnamed) and bool(self.runs and self.alike)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of the software."""
        return remarks(self.census, self.before, self.after)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": "vcpuid/fleet-drift/2",
            "cpu": self.cpu,
            **self.census.as_dict(),
            "remarks": list(self.remarks),
            "before": self.before[0].as_dict(),
            "after": self.after[0].as_dict(),
            "runs": self.runs,
            "alike": self.alike,
            "differs": list(self.differs),
            "same": self.same,
            "shifts": [shift.as_dict() for shift in self.shifts],
            "registers": [one.as_dict() for one in self.registers],
            "not_told": [unknown.as_dict() for unknown in self.not_told],
            "refused": [refusal.as_dict() for refusal in self.refused],
            "classes": [proof.as_dict() for proof in self.proofs],
        }


def both_sides(census: Census, before: Stack, after: Stack) -> tuple[tuple[Setup, ...], tuple[Setup, ...]]:
    """Settle both sides on each class.

    Raises InputError as `settled`, and where both are the same on all since some do not tell what they run: that nothing changes then is
    no answer.
    """
    one, other = settled(census, before), settled(census, after)
    if list(map(software, one)) == list(map(software, other)):
        found: dict[Guessed, list[Group]] = {}
        for group, *sides in zip(census.cores, one, other, strict=True):
            for program in guessed(*sides):
                found.setdefault(program, []).append(group)
        for program, groups in found.items():
            same = f"QEMU {qemus(one)}, {eldest(one).machine}, Linux {_kernels(one)}"
            where = "the hosts" if len(groups) == len(census.cores) else spoken(groups)
            raise InputError(f"before and after are the same, {same}: {program.sentence(where)}")
    return one, other


FROM, TO = "--from qemu=", "--to qemu="
"""How the QEMU of either side is named."""


def stack(setups: tuple[Setup, ...], how: str) -> str:
    """Name the software of one side: QEMU as `software.chosen` does, machine type and kernels."""
    return f"QEMU {chosen(setups, how)}, {eldest(setups).machine}, Linux {_kernels(setups)}"


def _kernels(setups: tuple[Setup, ...]) -> str:
    return " and ".join(dict.fromkeys(str(setup.kernel) for setup in setups))


def upgrade(cpu: str, census: Census, before: Stack, after: Stack) -> Upgrade:
    """Hold a guest before an upgrade against the same one afterwards, on each class; raises as a baseline does."""
    one, other = both_sides(census, before, after)
    found: dict[tuple[str, str | None, str | None, str], dict[Group, list[str]]] = {}
    refused: list[Refusal] = []
    rewritten: dict[tuple[str, tuple[Register, ...]], list[Group]] = {}
    changed: set[int] = set()
    silent: dict[Group, int] = {}
    programs = {group: tuple(guessed(*sides)) for group, *sides in zip(census.cores, one, other, strict=True)}
    for group, was, will_be in zip(census.cores, one, other, strict=True):
        sides = [_side(cpu, setup) for setup in (was, will_be)]
        words = [(when, side) for when, side in zip(("before", "after"), sides, strict=True) if isinstance(side, str)]
        refused += [Refusal(group, when, side) for when, side in words]
        first, second = sides
        if isinstance(first, str) or isinstance(second, str):
            changed.add(group.kind.id)
            continue
        told = drift(first, second)
        silent[group] = told.not_told
        if told.changes or told.others or programs[group]:
            changed.add(group.kind.id)
        for change in told.changes:
            why = change.why if change.rule is not None else change.why.replace(change.feature.name, "it")  # one row for all of them
            key = (change.change, change.party, change.rule, why)
            found.setdefault(key, {}).setdefault(group, []).append(change.feature.name)
        for what, moved in _by_kind(told.others).items():
            rewritten.setdefault((what, tuple(moved)), []).append(group)
    same = sum(group.hosts for group in census.groups if group.kind.id not in changed)
    proofs = prove(cpu, census, other)
    not_told = tuple(
        _unknown(proof, setup, silent.get(proof.group, 0), programs[proof.group])
        for proof, setup in zip(proofs, other, strict=True)
        if not proof.told or silent.get(proof.group) or programs[proof.group]
    )
    others = [Rewritten(what, registers, tuple(groups)) for (what, registers), groups in rewritten.items()]
    others.sort(key=lambda one: (-one.hosts, one.what))
    return Upgrade(cpu, census, one, other, _shifts(found), tuple(refused), same, proofs, not_told, tuple(others))


def _by_kind(registers: Iterable[Register]) -> dict[str, list[Register]]:
    found: dict[str, list[Register]] = {}
    for register in registers:
        found.setdefault(kind_of(register.word), []).append(register)
    return found


def _unknown(proof: Proof, setup: Setup, features: int, software: tuple[Guessed, ...]) -> Silent:
    depends = () if proof.told and not features else proof.depends or untold(setup)
    return Silent(proof.group, features, depends, software)


def _shifts(found: dict[tuple[str, str | None, str | None, str], dict[Group, list[str]]]) -> tuple[Shift, ...]:
    """Put together the classes in which one cause does the same to the same features."""
    shifts = []
    for (change, party, rule, why), by_group in found.items():
        alike: dict[tuple[str, ...], list[Group]] = {}
        for group, features in by_group.items():
            alike.setdefault(tuple(features), []).append(group)
        shifts += [Shift(change, features, party, rule, why, tuple(groups)) for features, groups in alike.items()]
    return tuple(sorted(shifts, key=lambda shift: (shift.change == NOT_TOLD_CHANGE, -shift.hosts, shift.change, shift.features)))


def _side(cpu: str, setup: Setup) -> Side | str:
    try:
        return Side.of(cpu, setup)
    except (RefusedError, KvmError) as error:
        return str(error)
