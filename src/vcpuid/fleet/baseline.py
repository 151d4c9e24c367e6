"""One CPU for a whole fleet: the best named model and features that run on every member and are the same CPU on all.

What all can give is met first, model by model held against it, and the nearest ones made into a -cpu, which then has to prove itself: the
path is worked on every class, what QEMU would warn of is dropped, and so is what carries numbers of the host's own where members differ
(offsets of XSAVE's components, say), until the guests' tables are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from vcpuid.answers.attempt import Attempt
from vcpuid.cpuid import CpuidTable, Word
from vcpuid.cpuid.names import meant
from vcpuid.errors import InputError
from vcpuid.fleet import clocks, words
from vcpuid.fleet.costs import Cost, cost, could_have
from vcpuid.fleet.dangers import Danger, dangers
from vcpuid.fleet.holds import Holds
from vcpuid.fleet.members import Census, Group, hosts_of
from vcpuid.fleet.outcome import Table, seen_of, unlike
from vcpuid.fleet.proof import Proof, Proven, carriers, differing, prove
from vcpuid.fleet.software import eldest, remarks, settled
from vcpuid.kvm.answers import kvm_says
from vcpuid.qemu.catalog import Catalog, Model, catalog
from vcpuid.qemu.models import names_of
from vcpuid.setup import Setup, Stack
from vcpuid.software.cpu import software_cpu
from vcpuid.software.psabi import level

_TRIED = 8
"""Models that are made into a -cpu; the nearest come first."""

_ROUNDS = 32
"""A round drops a feature at least, and few were needed where anybody looked."""

_NOT_ADDED = frozenset(
    {"vmx", "svm", "sgx", "sgxlc", "intel-pt", "arch-lbr", "pdcm", "perfctr-core", "perfctr-nb", "perfmon-v2", "monitor", "ht",
     "cmp-legacy", "topoext", "hypervisor"}
)  # fmt: skip
"""Features that nobody gets unasked: a hypervisor's own, what carries the host's numbers into the guest, what the topology sets."""


@dataclass(frozen=True)
class Shared:
    """A -cpu for all: the model, features besides or without, and settings.

    `features` counts what its guests get, `level` is their psABI level, and `differs` names the words in which they are not one CPU.
    """

    model: str
    settings: tuple[str, ...]
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    features: int = 0
    level: int = 0
    differs: tuple[str, ...] = ()

    @property
    def cpu(self) -> str:
        """The argument of -cpu."""
        return ",".join((self.model, *self.settings, *(f"+{name}" for name in self.plus), *(f"-{name}" for name in self.minus)))

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"cpu": self.cpu, "model": self.model, "features": self.features, "psabi_level": self.level}


@dataclass(frozen=True)
class Baseline(Proven):
    """The answer. `shared` is the -cpu, None where no model can be made to run on all.

    `proofs` hold it against each class, and `differs` names the words in which guests have not the same CPU on all that start it, as far as
    these tell. `alternatives` are other models made to run, the best first. `level` is the guest's psABI level, 0 where nothing runs. Where
    there is no -cpu, `refused` says of the nearest one which members do not run it, and why.
    """

    census: Census
    setups: tuple[Setup, ...] = field(repr=False)
    shared: Shared | None = None
    alternatives: tuple[Shared, ...] = ()
    proofs: tuple[Proof, ...] = ()
    refused: tuple[tuple[Group, str], ...] = ()

    @property
    def cpu(self) -> str | None:
        """The argument of -cpu; None where there is none."""
        return None if self.shared is None else self.shared.cpu

    @property
    def runs(self) -> bool | None:
        """Whether it runs on every member; None where that is not told of some and not denied of any, or where some cannot be read."""
        return False if self.shared is None else super().runs

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of the software on any of the classes."""
        return remarks(self.census, self.setups)

    @cached_property
    def _clocks(self) -> tuple[list[list[int]], list[int]]:
        return clocks.parted([group.facts for group in self.census.groups])

    @property
    def rate_kept(self) -> bool | None:
        """Whether a guest's TSC goes on at its rate wherever it moves, by `clocks.parted`; None where that is not told of some."""
        parts, unclear = self._clocks
        return False if len(parts) > 1 else None if unclear or self.census.unread else True

    @property
    def rate_not_told(self) -> tuple[Group, ...]:
        """The classes of which that is not told."""
        return tuple(self.census.groups[place] for place in self._clocks[1])

    @property
    def level(self) -> int:
        """The guest's psABI level, 1 to 4."""
        return next((psabi(proof.found.cpuid) for proof in self.proofs if proof.found.cpuid is not None), 0)

    @cached_property
    def costs(self) -> dict[str, tuple[str, ...]]:
        """By class, what it could give for certain and its guests do not get, by QEMU's names; of features that may migrate."""
        found: dict[str, tuple[str, ...]] = {}
        for proof, setup in zip(self.proofs, self.setups, strict=True):
            if proof.found.cpuid is not None:
                tables = catalog(setup.vmm.tables)
                spare = words.names(words.worthwhile(words.without(words.known(setup), proof.found.features)), tables)
                names = tuple(name for name in spare if name not in _NOT_ADDED)
                on_others = found.get(proof.group.kind.name, names)  # of its other kinds of cores: it can give what all of them can
                found[proof.group.kind.name] = tuple(name for name in names if name in on_others)
        return found

    @cached_property
    def spent(self) -> dict[str, Cost]:
        """By class, what the baseline costs it: of those on which a guest with all that the host gives starts."""
        found = {}
        for proof, setup in zip(self.proofs, self.setups if self.proofs else (), strict=True):
            could = None if proof.found.cpuid is None else could_have(setup)
            if proof.found.cpuid is not None and could is not None:
                name = proof.group.kind.name
                found[name] = cost(self.costs[name], could, proof.found.cpuid)
        return found

    @cached_property
    def dangers(self) -> tuple[Danger, ...]:
        """What in the guest's CPU hurts on some of the classes that start it, the gravest first."""
        if self.cpu is None:
            return ()
        starting = [at for at, proof in enumerate(self.proofs) if proof.found.cpuid is not None]
        return dangers(self.cpu, [self.proofs[at].group for at in starting], [self.setups[at] for at in starting])

    @cached_property
    def prices(self) -> tuple[Cost | None, ...]:
        """What each alternative costs: what all members can give and its guests do not get, and programs' choices against the best's."""
        best = next((proof.found.cpuid for proof in self.proofs if proof.found.cpuid is not None), None)
        return tuple(None if best is None else self._price(other, best) for other in self.alternatives)

    def _price(self, other: Shared, best: CpuidTable) -> Cost | None:
        tables = catalog(eldest(self.setups).vmm.tables)
        made = Attempt(self.setups[0]).run(other.cpu)
        if made is None:
            return None
        offered = words.meet(map(words.known, self.setups))
        spare = words.names(words.worthwhile(words.without(offered, made.state.features)), tables)
        return cost([name for name in spare if name not in _NOT_ADDED], best, made.tables[0])

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        setup = eldest(self.setups)
        return {
            "schema": "vcpuid/fleet-baseline/2",
            "vmm": setup.vmm.as_dict(),
            "machine": setup.machine,
            "remarks": list(self.remarks),
            **self.census.as_dict(),
            "cpu": self.cpu,
            "runs": self.runs,
            "alike": self.alike,
            "differs": list(self.differs),
            "rate_kept": self.rate_kept,
            "psabi_level": self.level,
            "classes": [self._class(proof) for proof in self.proofs],
            "hazards": [danger.as_dict() for danger in self.dangers],
            "alternatives": [
                {**other.as_dict(), "costs": None if price is None else price.as_dict()}
                for other, price in zip(self.alternatives, self.prices, strict=True)
            ],
            "refused": [{**group.as_dict(), "why": why} for group, why in self.refused],
        }

    def _class(self, proof: Proof) -> dict[str, object]:
        name = proof.group.kind.name
        spent = self.spent.get(name)
        return {**proof.as_dict(), "costs": list(self.costs.get(name, ())), "spent": None if spent is None else spent.as_dict()}


def psabi(guest: CpuidTable) -> int:
    """Return the psABI level of a guest."""
    return level(software_cpu(guest))


def baseline(census: Census, stack: Stack | None = None, require: Iterable[str] = (), manager: str | None = None) -> Baseline:
    """Find the best -cpu that runs on every class.

    `stack` names the machine type, which is the same on all, and QEMU and kernel where these are not each host's own. `require` are
    features that the guest must have, by any of their names. With a `manager`, one of `vcpuid.answers.in_words.MANAGERS`, it is the best
    that the manager's form can hold, where there is one. The best has the highest psABI level, of those the most features, then the
    shortest -cpu. Raises InputError for a feature that QEMU does not know, and where nothing is known of any host.
    """
    setups = settled(census, stack)
    tables = catalog(eldest(setups).vmm.tables)
    required = tuple(_spelled(name, tables) for name in require)
    search = _Search(census.cores, setups, tables, required, Holds(manager, tables))
    found = list(search.found())
    if manager is not None and all(shared.differs for shared in found):
        search = _Search(census.cores, setups, tables, required, Holds(None, tables))
        found = list(search.found())
    if not found:
        return Baseline(census, setups, refused=search.refused)
    best, *others = sorted(found, key=_rank)
    of_another = {tables.models[other.model].base: other for other in reversed(others)}
    of_another.pop(tables.models[best.model].base, None)
    return Baseline(census, setups, best, tuple(other for other in others if other in of_another.values()), prove(best.cpu, census, setups))


def _rank(shared: Shared) -> tuple[bool, int, int, int]:
    return bool(shared.differs), -shared.level, -shared.features, len(shared.plus) + len(shared.minus)


def _spelled(name: str, tables: Catalog) -> str:
    """Return a feature's name as QEMU has it; raises InputError for one that QEMU does not know."""
    known = (name, *(own.name for feature in meant(name) for own in feature.qemu_names))
    found = next((own for own in known if own in tables.flags), None)
    if found is None:
        raise InputError(f"QEMU {tables.release} has no feature {name[:40]!r}")
    return found


class _Search:
    """Makes models into a -cpu that runs on all classes; `refused` says of the nearest that cannot who does not run it, and why."""

    refused: tuple[tuple[Group, str], ...] = ()

    def __init__(
        self, groups: Sequence[Group], setups: Sequence[Setup], tables: Catalog, require: tuple[str, ...], holds: Holds
    ) -> None:  # fmt: skip
        self._groups, self._setups, self._tables, self._require, self._holds = groups, setups, tables, require, holds
        self._offered = words.meet(map(words.offered, setups))
        self._vendors = self._hosts_by_vendor()
        leaves = [kvm_says(setup) for setup in setups]
        self._width = min(says.raw.registers(0x80000008).eax & 0xFF for says in leaves)  # 0 where a member does not tell
        self._guest_widths = {min(says.supported.registers(0x80000008).eax >> 16 & 0xFF, self._width) for says in leaves}
        self._members = [_Member(setup) for setup in setups]

    def _hosts_by_vendor(self) -> dict[str, int]:
        groups: dict[str, list[Group]] = {}
        for group, setup in zip(self._groups, self._setups, strict=True):
            if setup.host.vendor:  # of one that does not tell it nobody knows whether it is another
                groups.setdefault(setup.host.vendor, []).append(group)
        return {vendor: hosts_of(of_it) for vendor, of_it in groups.items()}

    def _settings(self, model: Model) -> Iterator[str]:
        """Give the settings without which even one model is not one CPU: the vendor, which KVM takes from the host, and address bits."""
        if len(self._vendors) > 1:
            of_most = max(self._vendors, key=lambda vendor: self._vendors[vendor])
            yield f"vendor={model.vendor if model.vendor in self._vendors else of_most}"
        if self._width:
            yield "host-phys-bits=on"
            yield f"host-phys-bits-limit={self._width}"
            if len(self._guest_widths) > 1 and "guest-phys-bits" in self._tables.properties:
                yield f"guest-phys-bits={min(self._guest_widths - {0})}"

    def found(self) -> Iterator[Shared]:
        """Give a -cpu for each of the nearest models that can be made to run."""
        drafts = [draft for model in self._tables.models.values() if not model.deprecated and (draft := self._draft(model))]
        drafts.sort(key=lambda draft: len(draft.plus) + len(draft.minus))
        for draft in drafts[:_TRIED]:
            made = self._refined(draft)
            if made is not None and self._holds.whole(made.cpu):
                yield made

    def _draft(self, model: Model) -> Shared | None:
        """Put features beside a model, or take them from it, until it is what all can give; None where the form cannot hold the model."""
        settings = self._holds.settings(model.name, tuple(self._settings(model)))
        if settings is None:
            return None
        draft = Shared(model.name, settings, (), ())
        has = words.wanted(eldest(self._setups), draft.cpu)
        spare = words.worthwhile(words.without(self._offered, has))
        plus = self._holds.features(name for name in words.names(spare, self._tables) if name not in _NOT_ADDED)
        minus = words.names(words.without(has, self._offered), self._tables)
        more = [name for name in self._require if not has.get(self._tables.flags[name].word, 0) & self._tables.flags[name].mask]
        return replace(draft, plus=tuple(dict.fromkeys((*plus, *more))), minus=tuple(n for n in minus if n not in self._require))

    def _refined(self, draft: Shared) -> Shared | None:
        """Drop what some member denies, and what members show differently, until nothing is left to drop; None if that fails."""
        for _ in range(_ROUNDS):
            made = [member.run(draft.cpu) for member in self._members]
            results = [one for one in made if one is not None]
            if any(0 < self._width < one.cpuid.registers(0x80000008).eax & 0xFF for one in results):
                return None  # memory of the guest's would have addresses that some host has not
            if len(results) < len(made):
                self._refuse(member.words(draft.cpu) if one is None else "" for member, one in zip(self._members, made, strict=True))
                return None
            drop = {name: None for one in results for name in names_of(self._tables, one.denied) if name}
            unequal: dict[Word, int] = {}
            if not drop:
                if any(one.denied or one.warned for one in results):
                    self._refuse(self._lacking(one) for one in results)
                    return None
                unequal = differing([(one.table, one.open) for one in results])
                drop = dict.fromkeys(carriers(unequal, self._tables))
            fewer = self._without(draft, drop)
            if fewer == draft:
                first = results[0]
                found = replace(draft, features=words.count(words.worthwhile(first.features)), differs=tuple(sorted(map(str, unequal))))
                return replace(found, level=psabi(first.cpuid))
            draft = fewer
        return None

    def _refuse(self, words: Iterable[str]) -> None:
        """Keep who does not run a -cpu and why, of the first one: that is the nearest."""
        self.refused = self.refused or tuple((group, why) for group, why in zip(self._groups, words, strict=True) if why)

    def _lacking(self, tried: _Tried) -> str:
        names = [name or "a bit without a name" for name in names_of(self._tables, tried.denied)]
        return f"lacks {' '.join(names)}" if names else "QEMU warns of it" if tried.warned else ""

    def _without(self, draft: Shared, drop: Iterable[str]) -> Shared:
        gone = [name for name in drop if name not in self._require]
        plus = tuple(name for name in draft.plus if name not in gone)
        more = [name for name in gone if name not in draft.plus and name not in draft.minus and name in self._tables.flags]
        return replace(draft, plus=plus, minus=(*draft.minus, *more))


class _Tried(NamedTuple):
    """What a member makes of a -cpu: what it denies for certain, whether it warns of more, and the guest's CPU with what of it is open."""

    denied: words.Words
    warned: bool
    features: words.Words
    cpuid: CpuidTable
    table: Table
    open: frozenset[Word]


class _Member:
    """A member on which -cpu arguments are tried, as it is and with all there that it does not tell."""

    def __init__(self, setup: Setup) -> None:
        full = words.fullest(setup)
        self._told, self._full = Attempt(setup), None if full is None else Attempt(full)

    def words(self, cpu: str) -> str:
        """Return QEMU's words where it refuses one."""
        told = self._told.tell(cpu)
        return told.partition("\n")[0] if isinstance(told, str) else ""

    def run(self, cpu: str) -> _Tried | None:
        """Try one; None where QEMU refuses it for certain."""
        told = self._told.run(cpu)
        full = told if self._full is None else self._full.run(cpu)
        made = [one for one in (told, full) if one is not None]
        if not made:
            return None
        tables = [seen_of(one) for one in made]
        denied = words.meet(one.denied for one in made) if len(made) > 1 else {}
        if self._full is None:
            denied = dict(made[0].denied)
        return _Tried(
            {name: mask for name, mask in denied.items() if mask},
            all(one.warnings and not one.denied for one in made),
            dict(made[-1].state.features),
            made[0].tables[0],
            tables[0],
            frozenset(unlike(tables[0], tables[-1])),
        )
