"""What a domain asks of libvirt, and libvirt of QEMU: which of their words are about a feature, and by which rules.

All is read off the journal of the start that libvirt works out; where libvirt refuses the domain, off the start that it would make
without its check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from vcpuid.cpuid.features import Feature
from vcpuid.errors import LibvirtError, QemuError
from vcpuid.kvm.answers import ask_ahead
from vcpuid.libvirt import Libvirt, connect
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.definition import OF_HOST
from vcpuid.libvirt.guest import Planned
from vcpuid.libvirt.host_models import OfQemu
from vcpuid.libvirt.journal import Ruling
from vcpuid.libvirt.live import minds
from vcpuid.libvirt.names import from_qemu, to_qemu
from vcpuid.libvirt.request import Request
from vcpuid.libvirt.silicon import address_bits
from vcpuid.libvirt.update import ASKED, HOST_MODEL
from vcpuid.qemu import KvmHost
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.reasons import Rule
from vcpuid.releases import Release
from vcpuid.setup import Setup
from vcpuid.told.completions import completions, nameless
from vcpuid.told.doubt import weighed
from vcpuid.told.facts import Fact, NotTold, sentences
from vcpuid.told.tried import NOWHERE, Tried, on_each

DOMAIN, LIBVIRT = "domain", "libvirt"
"""The parties above the VMM: who writes the XML, and who reads it."""

_WANTS = {"require": True, "force": True, "disable": False, "forbid": False}


class Wish(NamedTuple):
    """Whether a party above QEMU wants a feature: None where it leaves that to others. `rulings` are what libvirt's journal has of it."""

    value: bool | None
    why: str
    rulings: tuple[Ruling, ...] = ()


class Choice(NamedTuple):
    """Who chose the guest's model, by which rule, and in words why it is that one."""

    party: str
    rule: Rule
    text: str


class Blocking(NamedTuple):
    """A feature that a refusal hangs on: why libvirt minds, which party has it so (None where none does) and why, and what helps."""

    ruling: Ruling
    reason: str
    party: str | None
    why: str
    remedy: str | None

    @property
    def said(self) -> str:
        """The party and why, in a line."""
        return self.why if self.party is None else f"{self.party}: {self.why}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        feature, policy, rule, _ = self.ruling
        told = {"feature": feature, "policy": policy, "rule": rule.id, "reason": self.reason}
        return {**told, "party": self.party, "why": self.why, "remedy": self.remedy}


@dataclass(frozen=True, eq=False)
class Order:
    """A domain's start by a libvirt.

    `refusal` is libvirt's where it starts no guest, or ends the one that it has started; `unchecked` says that `planned` is the start as it
    were with check='none', since libvirt refuses the domain before. `blocking` are the features that the refusal hangs on. `depends` are
    the facts that the host does not tell and on which it hangs whether libvirt refuses, `open` those on which the -cpu hangs; `elsewhere`
    has the same on each host that this one could be, None where libvirt refuses the domain there even unchecked.
    """

    release: Release
    setup: Setup
    request: Request
    kvm: KvmHost | None
    known: CpuMap
    qemu: Catalog
    planned: Planned
    refusal: LibvirtError | None = None
    unchecked: bool = False
    depends: tuple[Fact, ...] = ()
    open: tuple[Fact, ...] = ()
    blocking: tuple[Blocking, ...] = ()
    elsewhere: Tried[Order | None] = NOWHERE

    @property
    def doubted(self) -> bool:
        """Whether it hangs on facts that the host does not tell what libvirt makes of the domain."""
        return bool(self.open or self.depends)

    def on(self, setup: Setup) -> Setup:
        """Return a setup with the machine type and the topology that libvirt starts QEMU with."""
        return replace(setup, machine=self.planned.machine, smp=self.planned.smp, globals=())

    @property
    def argument(self) -> str:
        """What QEMU's -cpu gets; without one, what QEMU takes by itself."""
        return self.planned.started

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """The properties that -cpu sets, as libvirt writes them."""
        return dict(setting.partition("=")[::2] for setting in self.argument.split(",")[1:])

    def spelled(self, feature: Feature) -> str | None:
        """Return libvirt's name of a feature; None where this release has none."""
        names = (feature.libvirt, *(from_qemu(own.name) for own in feature.qemu_names))
        return next((name for name in names if name in self.known.numbers), None)

    def asked(self, feature: Feature) -> Wish:
        """Say what the domain asks of a feature."""
        cpu, name = self.planned.asked, self.spelled(feature)
        if name is not None and (policy := cpu.features.get(name)) is not None:
            own = tuple(ruling for ruling in self.planned.journal.of(name) if ruling.rule is ASKED)
            return Wish(_WANTS.get(policy), f"<feature policy='{policy}' name='{name}'/>", own[-1:])
        if cpu.mode != "custom":
            return Wish(None, f"it has mode='{cpu.mode}'")
        return Wish(None, f"it has the model {cpu.model}" + (" as a minimum" if cpu.match == "minimum" else ""))

    def passed(self, feature: Feature) -> Wish:
        """Say what libvirt passes on to QEMU of a feature."""
        cpu, name = self.planned.cpu, self.spelled(feature)
        rulings = () if name is None else tuple(ruling for ruling in self.planned.journal.of(name) if ruling.rule is not ASKED)
        reasons = [rulings[-1].reason] if rulings else []
        given = next((own.name for own in feature.qemu_names if self.settings.get(own.name) in ("on", "off")), None)
        if given is not None:
            state = self.settings[given]
            return Wish(state == "on", "; ".join([*reasons, f"-cpu has {given}={state}"]), rulings[-1:])
        if rulings and rulings[-1].policy is None:
            return Wish(None, f"not passed on: {rulings[-1].reason}", rulings[-1:])
        model = self.known.models.get(cpu.model or "") if cpu.mode not in OF_HOST else None
        if model is None or name is None:
            return Wish(None, f"-cpu {self.argument.partition(',')[0]} leaves it to QEMU")
        if not model.features & self.known.mask(name):
            return Wish(False, f"its {cpu.model} does not have it, and -cpu does not name it")
        but = ", which QEMU's does not" if self.lacks(model.name, name) else ""
        return Wish(True, f"its {cpu.model} has it{but}, and -cpu does not name it")

    def lacks(self, model: str, name: str) -> bool:
        """Whether QEMU's model of a name does not have a feature of libvirt's; not where QEMU has no such model, or no such feature."""
        flag = self.qemu.flags.get(to_qemu(name))
        if flag is None or (model not in self.qemu.model_aliases and model not in self.qemu.models):
            return False
        found = self.qemu.models[self.qemu.resolve_model(model, self.qemu.machine(self.planned.machine))]
        return not found.features.get(flag.word, 0) & flag.mask

    @property
    def choice(self) -> Choice:
        """Say who chose the model."""
        asked, cpu, chosen = self.planned.asked, self.planned.cpu, self.planned.journal.model
        if chosen is None:
            return Choice(DOMAIN, ASKED, f"the domain has mode='{cpu.mode}'")
        model, rule = chosen
        if rule is ASKED:
            return Choice(DOMAIN, rule, f"the domain has the model {model}")
        if rule is HOST_MODEL:
            how = "match='minimum'" if asked.match == "minimum" else f"mode='{asked.mode}'"
            return Choice(LIBVIRT, rule, f"the domain has {how}, and {model} is the model that libvirt found nearest to the host's CPU")
        return Choice(LIBVIRT, rule, f"QEMU does not have the domain's {asked.model}, and {model} is the nearest model that it has")

    @property
    def objection(self) -> str | None:
        """libvirt's refusal in a line, as far as it is certain; None where it starts the guest."""
        if self.refusal is None:
            return None
        told = f"libvirt {self.release} refuses: {self.refusal.message}"
        return (
            told
            if not self.depends
            else f"whether libvirt starts it is not told; where the host has nothing of what it does not tell, {told}"
        )

    def remarks(self) -> Iterator[str]:
        """Say with what QEMU is started, and what of it hangs on what the host does not tell."""
        planned = self.planned
        given = "this -cpu" if planned.argument is not None else f"no -cpu, which is {self.argument}"
        starts = "would start QEMU, with check='none'," if self.unchecked else "starts QEMU"
        yield f"libvirt {self.release} {starts} with {given}, -machine {planned.machine} and -smp {planned.smp}"
        for what, facts in (("whether libvirt starts the domain", self.depends), ("the -cpu that libvirt makes of the domain", self.open)):
            yield from sentences([NotTold(what, facts)] if facts else [])

    def head(self) -> Iterator[str]:
        """Say for a person what stands above QEMU."""
        if self.objection is not None:
            yield self.objection
            if self.unchecked:
                yield "What follows is as it were with check='none':"
        yield f"libvirt {self.release}: {self.choice.text}"

    def as_dict(self, feature: Feature | None = None) -> dict[str, object]:
        """For JSON, of all features that libvirt decided about, or of one."""
        names = None if feature is None else (self.spelled(feature),)
        rulings = [ruling for ruling in self.planned.journal.rulings if names is None or ruling.feature in names]
        asked, choice = self.planned.asked, self.choice
        return {
            "release": self.release.as_dict(),
            "mode": asked.mode,
            "check": asked.check,
            "model": None if self.planned.cpu.mode in OF_HOST else self.planned.cpu.model,
            "chosen_by": choice.party,
            "chosen_rule": choice.rule.id,
            "chosen_why": choice.text,
            "cpu_argument": self.planned.argument,
            "decisions": [ruling.as_dict() for ruling in rulings],
            "unchecked": self.unchecked,
            "depends": [fact.as_dict() for fact in (*self.depends, *self.open)],
            "objection": self._objected(),
        }

    def grouped(self) -> dict[str, list[str]]:
        """Give the features that the refusal hangs on, by the party that has them so and why."""
        found: dict[str, list[str]] = {}
        for cause in self.blocking:
            found.setdefault(cause.said, []).append(cause.ruling.feature)
        return found

    def _objected(self) -> dict[str, object] | None:
        error = self.refusal
        if error is None:
            return None
        causes = [cause.as_dict() for cause in self.blocking]
        names = [cause.ruling.feature for cause in self.blocking]
        return {"code": error.code, "domain": error.domain, "message": error.message, "features": names, "causes": causes}


def together(remedies: Sequence[str]) -> str:
    """Join remedies of the form "verb this, or that": all of the first ones, each verb once, or one of the others."""
    parts = [remedy.partition(", or ") for remedy in dict.fromkeys(remedies)]
    others = dict.fromkeys(other for _, _, other in parts if other)
    done: dict[str, dict[str, None]] = {}
    for first, _, _ in parts:
        verb, _, what = first.partition(" ")
        done.setdefault(verb, {})[what] = None
    return ", or ".join([" and ".join(" ".join((verb, *whats)) for verb, whats in done.items()), *others])


def order(request: Request, setup: Setup, release: Release, kvm: KvmHost | None = None) -> Order:
    """Work out how the libvirt of a host starts a request's domain; `kvm` is as in `vcpuid.libvirt.connect`.

    Raises LibvirtError where it refuses the domain whether it checks its CPU or not.
    """
    starts = _Starts(request, release, kvm)
    made = starts.on(setup)
    ask_ahead([completion.setup for completion in completions(setup)])
    elsewhere = on_each(setup, starts.tried)
    base = _decided(made)
    if blind := nameless(setup.host):
        found = dict.fromkeys(base, blind)
    else:
        found = weighed(base, elsewhere.map(lambda other: None if other is None else _decided(other)))
    return replace(made, depends=found.get("refuses", ()), open=found.get("-cpu", ()), elsewhere=elsewhere)


def _decided(made: Order) -> dict[str, object]:
    return {"refuses": made.refusal is not None, "-cpu": made.argument}


class _Plan(NamedTuple):
    """A start as libvirt plans it, or its refusal; of one that its check refuses both, the plan being that without the check."""

    planned: Planned | None
    refusal: LibvirtError | None = None


class _Starts:
    """The starts of a domain on the hosts that one could be; what is the same to libvirt on many of them is planned once."""

    def __init__(self, request: Request, release: Release, kvm: KvmHost | None) -> None:
        self._request, self._release, self._kvm = request, release, kvm
        self._plans: dict[tuple[OfQemu, int], _Plan] = {}

    def tried(self, setup: Setup) -> Order | None:
        """Work out a start without asking what hangs on facts; None where libvirt refuses the domain even unchecked."""
        try:
            return self.on(setup)
        except LibvirtError:
            return None

    def on(self, setup: Setup) -> Order:
        """Do the same; raises the refusal."""
        libvirt = connect(setup, self._release.tables, self._kvm)
        planned, error = self._planned(libvirt)
        if planned is None:
            assert error is not None
            raise error
        unchecked = error is not None
        if planned.domain.virt == "kvm" and error is None:
            error = _ended(planned, libvirt)
        return Order(self._release, setup, self._request, self._kvm, libvirt.known, catalog(setup.vmm.tables), planned, error, unchecked)

    def _planned(self, libvirt: Libvirt) -> _Plan:
        hosts = libvirt.by_kvm
        same = (hosts.of_qemu, address_bits(libvirt.says))
        found = self._plans.get(same)
        if found is None:
            found = _plan(self._request, libvirt)
            if not hosts.told_silicon:  # else it hangs on more of the processor than QEMU tells
                self._plans[same] = found
        return found


def _plan(request: Request, libvirt: Libvirt) -> _Plan:
    try:
        return _Plan(libvirt.planned(request))
    except LibvirtError as refusal:
        try:
            return _Plan(libvirt.planned(request, unchecked=True), refusal)
        except LibvirtError:  # it is not the check's
            return _Plan(None, refusal)


def _ended(planned: Planned, libvirt: Libvirt) -> LibvirtError | None:
    """Return the error with which libvirt ends a guest that QEMU has started, if it does; where QEMU refuses is not libvirt's to tell."""
    if not minds(planned.domain, planned.cpu, libvirt.known):
        return None
    try:
        libvirt.started_by(planned)
    except LibvirtError as error:
        return None if isinstance(error.__cause__, QemuError) else error
    return None
