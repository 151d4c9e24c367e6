"""Reads a trace and tells a bit's fate; computes nothing of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from vcpuid.answers.certainty import depends, rests
from vcpuid.answers.order import Order
from vcpuid.answers.overruling import put_back, withheld
from vcpuid.answers.remedy import hidden_from_linux, remedy
from vcpuid.answers.shown import ShownFlag, decided, family_of, maker, shown, sources
from vcpuid.answers.sysfs import Sysfs, file_of
from vcpuid.answers.unasked import UNASKED, why_lacking
from vcpuid.answers.vulnerabilities import told as told_of_host
from vcpuid.answers.vulnerabilities import told_inside
from vcpuid.cpuid import Bit, bits
from vcpuid.cpuid.names import Feature, by_bit, find
from vcpuid.cpuid.notes import notes
from vcpuid.kvm import vcpu_rules
from vcpuid.path.pipeline import Path
from vcpuid.reasons import Action, Basis, Decision, Rule, Step
from vcpuid.reasons.history import history
from vcpuid.told.assumptions import Assumption
from vcpuid.told.facts import Fact, listed
from vcpuid.told.facts import remedy as to_be_told

SCHEMA = "vcpuid/explain/4"
"""The form of `Explanation.as_dict`."""

NO_HARDWARE = Rule(
    "silicon.lacks",
    "the host's processor does not report it",
    "the CPUID instruction",
    remedy="run the guest on a processor that has it, or choose a CPU without it",
)

MIRRORS = {bits.OSXSAVE: (vcpu_rules.OSXSAVE, bits.XSAVE), bits.OSPKE: (vcpu_rules.OSPKE, bits.PKU)}
"""Bits that the guest's kernel turns on in its CR4: by which rule KVM shows them, and the feature without which it cannot."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A decision in words: what the party did to the feature, by which rule."""

    party: str
    feature: str
    action: Action
    rule: Rule
    text: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "party": self.party,
            "feature": self.feature,
            "action": self.action.value,
            "rule": self.rule.id,
            "reason": self.text,
            "source": self.rule.source,
            **history(self.rule).as_dict(),
            "remedy": self.rule.remedy,
        }


@dataclass(frozen=True, slots=True)
class Stage:
    """The feature after one party.

    `value` is None where the party does not look at the word, and where it is not told: `depends` then names the facts that it hangs on.
    Of a party that stands above the VMM it is what that asks for, and `said` how it asks. Where a release has no tables and what it does is
    not known, `said` is that. `stock` names the Linux whose rules `modelled` goes by.
    """

    party: str
    spoken: str
    title: str
    value: bool | None
    basis: Basis
    modelled: bool | None
    reasons: tuple[Reason, ...]
    depends: tuple[Fact, ...] = ()
    said: str | None = None
    stock: str = ""

    @property
    def unknown(self) -> bool:
        """Whether it hangs on a release that has no tables, and not on the host."""
        return self.basis is Basis.NOT_TOLD and self.said is not None and not self.depends

    @property
    def disagrees(self) -> bool:
        """Whether the machine answered otherwise than the rules say."""
        return self.modelled is not None and self.value is not None and self.modelled != self.value

    @property
    def why(self) -> str:
        """Give the reasons in one line; where it is not told, what it depends on; where the machine does otherwise than the rules, that."""
        if self.depends:
            return f"depends on {listed(self.depends)}"
        if self.said is not None:
            return self.said
        if self.disagrees:
            return self.otherwise()
        return "; ".join(f"{reason.action.value}: {reason.text}" for reason in self.reasons)

    def otherwise(self, module: str = "") -> str:
        """Say what the machine does otherwise than a stock Linux on the same processor; `module` is put behind KVM's name."""
        whose = "kernel" if self.party == "linux" else "KVM"
        if self.modelled:
            does, would = ("does not show it" if self.party == "guest" else "does not offer it"), "would"
        else:
            shown = self.party in ("vcpu", "guest")
            does, would = ("shows it although QEMU did not ask" if shown else "has it"), "would not"
        return f"this machine's {whose}{module} {does}; {self.stock or 'stock Linux'} {would}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "party": self.party,
            "title": self.title,
            "value": self.value,
            "basis": self.basis.value,
            "modelled": self.modelled,
            "why": self.why,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "depends": [fact.as_dict() for fact in self.depends],
        }


@dataclass(frozen=True)
class Explanation:
    """A feature's fate on one path.

    `stages` hold its value after each party; `verdict` is one sentence; `chain` is why, from the deciding rule down to its first cause;
    `remedy` is what a user can do about that first cause, None where nothing helps. Where a domain of libvirt's leads to the VMM's -cpu,
    `order` is how, `above` what the domain and libvirt ask of the feature, and `unsettled` the facts that the host does not tell and on
    which it hangs what libvirt makes of the feature, or whether it starts the guest. Of a flag that Linux makes up, `sources` explain the
    bits of hardware that it is made of, those of the guest's vendor first. Of a vulnerability, `sysfs` is what the kernels say of it.
    """

    feature: Feature
    path: Path
    stages: tuple[Stage, ...]
    verdict: str
    chain: tuple[Reason, ...]
    remedy: str | None
    order: Order | None = None
    above: tuple[Stage, ...] = ()
    unsettled: tuple[Fact, ...] = ()
    sources: tuple[Explanation, ...] = ()
    sysfs: Sysfs | None = None

    def __str__(self) -> str:
        return self.verdict

    @property
    def parties(self) -> tuple[Stage, ...]:
        """All stages in the order of the path: those that ask the VMM stand before it."""
        at = next(position for position, stage in enumerate(self.stages) if stage.party == self.path.vmm.name)
        return (*self.stages[:at], *self.above, *self.stages[at:])

    @property
    def refused(self) -> bool:
        """Whether libvirt starts no guest, or ends it."""
        return self.order is not None and self.order.refusal is not None

    @property
    def put_back(self) -> bool:
        """Whether the VMM leaves it out of its table and KVM shows it to the guest all the same, as no stock KVM would."""
        return self.feature.bit is not None and put_back(self.path.trace, self.feature.bit)

    @property
    def withheld(self) -> bool:
        """Whether the VMM gives it and KVM does not show it to the guest, as a stock KVM would."""
        return self.feature.bit is not None and withheld(self.path.trace, self.feature.bit)

    @property
    def turn(self) -> Stage | None:
        """The last stage that handed on another value than the one before; None where no party changes it, or that is not told."""
        at = [] if self.visible is None else list(_turns(self.stages))
        return self.stages[at[-1]] if at else None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What stands for what was asked, and what is not known for sure: the path's remarks."""
        return self.path.remarks

    @property
    def visible(self) -> bool | None:
        """Whether the guest sees it; None where that is not told or not known, and for what no CPUID bit or MSR tells a guest."""
        if self.unsettled:
            return None
        if self.refused:
            return False
        if self.feature.bit is None and self.shown is not None:
            return self.shown.value
        return self.stages[-1].value

    @property
    def answered(self) -> bool:
        """Whether all is well: the guest sees it, or turns it on itself, or its kernel mitigates the vulnerability."""
        if self.sysfs is not None:
            return self.sysfs.guest is not None and self.sysfs.guest.well
        return bool(self.visible) or self.turned_on

    @property
    def turned_on(self) -> bool:
        """Whether the guest's kernel turns it on itself, and can: no layer hands it on."""
        bit = self.feature.bit
        return bit in MIRRORS and not self.refused and self.path.trace.steps[-1].value(MIRRORS[bit][1]) is True

    @cached_property
    def shown(self) -> ShownFlag | None:
        """Whether the guest's kernel shows it on the line "flags" of /proc/cpuinfo; None for what has no name there."""
        return None if self.refused else shown(self.feature, self.path)

    @property
    def known(self) -> bool:
        """Whether the VMM's release has tables that answer."""
        return not self.stages[-1].unknown

    @property
    def depends(self) -> tuple[Fact, ...]:
        """The facts that the host does not tell and on which the answer depends; none where it is definite."""
        if self.unsettled or self.refused:
            return self.unsettled
        if self.feature.bit is None and self.shown is not None:
            return self.shown.depends
        return self.stages[-1].depends

    @property
    def assumes(self) -> tuple[Assumption, ...]:
        """The settings that nobody gave, that are taken to be the usual ones, and with which it would be otherwise if they were not."""
        bit = self.feature.bit
        if self.visible is None or bit is None or self.refused:
            return ()
        return tuple(rests(self.path, lambda path: {self.feature.name: path.trace.steps[-1].value(bit)}))

    @property
    def hidden(self) -> str | None:
        """Why /proc/cpuinfo does not name the feature, whether the kernel uses it or not; None where it names it."""
        said = {note.topic: note.text for note in notes(self.feature, self.path.setup.kernel.tables)}
        if "hidden" not in said:
            return None
        return " ".join([said["hidden"], *([said["summed"]] if "summed" in said and self.visible else [])])

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        told = self.fate()
        return {"schema": SCHEMA, "feature": told["feature"], "bit": told["bit"], **self.path.as_dict(), **told}

    def fate(self) -> dict[str, object]:
        """Give the same without what is the path's: where there are many features of one path, that need be told once."""
        return {
            "feature": self.feature.name,
            "bit": str(self.feature.bit) if self.feature.bit else None,
            "visible": self.visible,
            "put_back": self.put_back,
            "withheld": self.withheld,
            "depends": [fact.as_dict() for fact in self.depends],
            "assumes": [assumption.as_dict() for assumption in self.assumes],
            "verdict": self.verdict,
            "stages": [stage.as_dict() for stage in self.parties],
            "chain": [reason.as_dict() for reason in self.chain],
            "remedy": self.remedy,
            "why_hidden": self.hidden,
            "cpuinfo": None if self.shown is None else self.shown.as_dict(),
            "made_of": [_source(source) for source in self.sources],
            "vulnerability": None if self.sysfs is None else self.sysfs.as_dict(),
            "libvirt": None if self.order is None else self.order.as_dict(self.feature),
        }


def report(explanations: Iterable[Explanation]) -> dict[str, object]:
    """Put several explanations into one document for programs."""
    return {"schema": SCHEMA, "explanations": [explanation.as_dict() for explanation in explanations]}


def explain(feature: Feature, path: Path) -> Explanation:
    """Tell what each party of a resolved path did to a feature, and why.

    Of a flag of Linux' own, and of a vulnerability, it is told what the guest's Linux says.
    """
    told = _followed(feature, path)
    if feature.is_bug:
        return _vulnerability(told)
    if (maker_ := maker(feature)) is not None and told.visible is False and not told.refused and _others(maker_, path):
        return _foreign(told, maker_)
    if told.shown is None:
        return told
    return _unlisted(told, told.shown) if feature.bit is not None else _flag(told, told.shown)


_MAKERS = {"intel": "Intel", "amd": "AMD"}


def _others(vendor: str, path: Path) -> bool:
    """Tell whether the guest's processor is another vendor's that is known."""
    own = None if path.inside is None else family_of(path.inside.vendor)
    return own in _MAKERS and own != vendor


def _foreign(told: Explanation, vendor: str) -> Explanation:
    """Tell of a bit that only another vendor's processors have: that is no lack, and nothing helps."""
    assert told.path.inside is not None, "its vendor is known"
    own = _MAKERS[family_of(told.path.inside.vendor)]
    verdict = f"{told.verdict} Only {_MAKERS[vendor]}'s processors have it: this guest's CPU is {own}'s and does not need it."
    return replace(told, verdict=verdict, remedy=None)


def _unlisted(told: Explanation, found: ShownFlag) -> Explanation:
    """Say so where the guest's kernel shows another thing in /proc/cpuinfo than CPUID."""
    if found.value is None or told.visible is None or found.value is told.visible or told.feature.bit in MIRRORS:
        return told
    does = "shows it" if found.value else "does not show it"
    why = _decided(decided(told.feature, told.path))
    return replace(told, verdict=f"{told.verdict} Yet the guest's /proc/cpuinfo {does}{why}.")


def _source(told: Explanation) -> dict[str, object]:
    return {"feature": told.feature.name, "bit": str(told.feature.bit), "vendor": maker(told.feature), "visible": told.visible}


def _flag(told: Explanation, found: ShownFlag) -> Explanation:
    """Tell of a flag that the guest's Linux makes up, out of which bits of its CPU; what helps is what gives it one of its vendor's."""
    assert told.path.inside is not None, "it shows the flag, or does not"
    vendor = family_of(told.path.inside.vendor)
    parts = tuple(_followed(other, told.path) for other in sources(told.feature, vendor))
    own = [part for part in parts if maker(part.feature) in (None, vendor)]
    told = replace(told, sources=parts)
    if found.value is None:
        return replace(told, verdict=not_told(told.feature, found.depends), remedy=to_be_told(found.depends))
    if found.value:
        making = next((part for part in parts if part.visible), None)
        why = _made_of(making) if making is not None else _decided(decided(told.feature, told.path))
        return replace(told, verdict=f"The guest's /proc/cpuinfo shows {found.name}{why}.", chain=(), remedy=None)
    verdict = f"The guest's /proc/cpuinfo does not show {found.name}"
    if own and not any(part.visible for part in own):
        return replace(told, verdict=f"{verdict}: {_without(own)}, of which Linux makes it.", chain=own[0].chain, remedy=own[0].remedy)
    made = decided(told.feature, told.path)
    helps = next((one.rule.remedy for one in reversed(made) if one.rule.remedy), None)
    return replace(told, verdict=f"{verdict}{_decided(made)}.", chain=(), remedy=helps)


def _made_of(part: Explanation) -> str:
    return f": its Linux makes it of {spelled(part.feature)}, which the guest sees"


def _decided(made: Sequence[Decision]) -> str:
    """Give the rule by which the guest's Linux decided, in brackets: a sentence of its own."""
    return f" ({sentence(made[-1])})" if made else ""


def spelled(feature: Feature) -> str:
    """Name a bit so that it is taken for no other: what Linux or QEMU calls it, and its place."""
    return f"{feature.qemu or feature.name} ({feature.bit})"


def _without(parts: Sequence[Explanation]) -> str:
    names = [spelled(part.feature) for part in parts]
    return f"its CPU lacks {names[0]}" if len(names) == 1 else f"its CPU has neither {' nor '.join(names)}"


def _vulnerability(told: Explanation) -> Explanation:
    """Tell of a vulnerability what the host's kernel and the guest's say in sysfs."""
    file = file_of(told.feature)
    if file is None:
        return told
    inside, _ = told_inside(told.path)
    found = Sysfs(file, told_of_host(told.path.setup).of(file), inside.of(file))
    return replace(told, sysfs=found, verdict=found.sentence(), chain=(), remedy=found.remedy)


def _followed(feature: Feature, path: Path) -> Explanation:
    """Tell what each party of a resolved path did to a feature's bit, and why."""
    kernel = path.setup.kernel.tables
    stages = tuple(_stage(path, position, feature, kernel) for position in range(len(path.trace.steps)))
    if facts := stages[-1].depends:
        return Explanation(feature, path, stages, not_told(feature, facts), (), to_be_told(facts))
    if feature.bit in MIRRORS and stages[-1].value is False:
        return _mirror(feature, path, stages)
    chain = tuple(_chain(path, feature, stages))
    if stages[0].value is False and not any(stage.value for stage in stages):  # what a party makes up, the hardware need not have
        rule = why_lacking(feature, path) or NO_HARDWARE
        party = {UNASKED: "qemu", NO_HARDWARE: "silicon"}.get(rule, "kvm")
        chain = (*chain, Reason(party, feature.name, Action.CLEARED, rule, rule.reason))
    if not stages[-1].value and (found := _open(path, chain)) is not None:
        party, why = found
        first = next(at for at, stage in enumerate(stages) if stage.party == party)
        stages = (*stages[:first], *(_not_known(stage, why) for stage in stages[first:]))
        return Explanation(feature, path, stages, f"Whether the guest sees {feature.name} is {why}.", (), None)
    odd = next((stage for stage in stages if stage.disagrees and not stage.value), None)
    helps = hidden_from_linux(path, feature) if odd is not None and odd.party == "linux" else None
    helps = helps or remedy(path, ((reason.rule, reason.feature) for reason in chain))
    return Explanation(feature, path, stages, _verdict(feature, path, stages), chain, helps)


def _open(path: Path, chain: Iterable[Reason]) -> tuple[str, str] | None:
    """Say what is not known of the releases asked for and may be behind a decision, and whose that is; None where all are certain."""
    known = path.made.open
    taken = ((reason.party, find(reason.feature).bit) for reason in chain if reason.party == path.vmm.name) if known else ()
    return next(((party, known[bit]) for party, bit in taken if bit is not None and bit in known), None)


def _not_known(stage: Stage, why: str) -> Stage:
    return replace(stage, value=None, basis=Basis.NOT_TOLD, modelled=None, reasons=(), said=why)


def _mirror(feature: Feature, path: Path, stages: tuple[Stage, ...]) -> Explanation:
    """Tell of a bit that is off since the guest's kernel has not run: no party hands it on, and what it takes may be missing."""
    assert feature.bit is not None
    rule, needed = MIRRORS[feature.bit]
    needs = by_bit(needed)
    assert needs is not None
    chain = (Reason("vcpu", feature.name, Action.CLEARED, rule, rule.reason),)
    verdict = f"The guest's own kernel turns {feature.name} on in CR4: no layer hands it on"
    lacking = _followed(needs, path)
    if lacking.visible is False:
        verdict = f"{verdict}, and it takes {needs.name}. {lacking.verdict}"
        return Explanation(feature, path, stages, verdict, (*chain, *lacking.chain), lacking.remedy)
    verdict = f"{verdict}. When it starts, the guest does not see {feature.name} yet; nothing is lost."
    return Explanation(feature, path, stages, verdict, chain, rule.remedy)


def places(feature: Feature, step: Step, kernel: str) -> tuple[Bit, ...]:
    """Where a party keeps the feature: Linux copies scattered bits to words of its own, all others use the hardware's place."""
    linux = feature.in_linux(kernel) if step.party == "linux" else None
    own = linux.place if linux is not None else None
    return tuple(dict.fromkeys(bit for bit in (own, feature.bit) if bit is not None))


def _stage(path: Path, position: int, feature: Feature, kernel: str) -> Stage:
    step = path.trace.steps[position]
    bits = places(feature, step, kernel)
    if facts := depends(path, position, bits):
        return Stage(step.party, step.spoken, step.title, None, Basis.NOT_TOLD, None, (), facts)
    value = next((v for v in map(step.value, bits) if v is not None), None)
    modelled = next((v for v in map(step.modelled_value, bits) if v is not None), None)
    reasons = tuple(_reason(step, decision, feature.name) for bit in bits for decision in step.about(bit))
    return Stage(step.party, step.spoken, step.title, value, step.basis, modelled, reasons, stock=f"stock Linux {kernel}")


def _reason(step: Step, decision: Decision, feature: str) -> Reason:
    return Reason(step.party, feature, decision.action, decision.rule, sentence(decision))


def sentence(decision: Decision) -> str:
    """Give a decision's reason for a person, the cause spelled by its feature's name."""
    if decision.cause is None:
        return decision.rule.reason
    cause = by_bit(decision.cause)
    return decision.rule.reason.format(cause=decision.cause if cause is None else cause.name)


def _turns(stages: tuple[Stage, ...]) -> Iterator[int]:
    """Positions at which the value differs from what the party before handed on."""
    last: bool | None = None
    for position, stage in enumerate(stages):
        if stage.value is None:
            continue
        if last is not None and stage.value != last:
            yield position
        last = stage.value


def _chain(path: Path, feature: Feature, stages: tuple[Stage, ...]) -> Iterator[Reason]:
    """Go from the decision that made the bit what the guest sees to that decision's cause, then to the cause's own, and so on."""
    turns = list(_turns(stages))
    at = turns[-1] if turns else len(stages) - 1
    seen: set[tuple[str, str]] = set()
    while (found := _decider(path, feature, at)) is not None:
        at, decision = found
        key = (decision.rule.id, feature.name)
        if key in seen:
            return
        seen.add(key)
        yield _reason(path.trace.steps[at], decision, feature.name)
        cause = None if decision.cause is None else by_bit(decision.cause)
        if cause is not None:
            feature = cause
        elif decision.cause is None and at > 0 and not decision.value:
            at -= 1  # a party that took the bit away may have done so because one before it had
        else:
            return


def _decider(path: Path, feature: Feature, at: int) -> tuple[int, Decision] | None:
    """The last decision about the feature at this party or at one before it, as long as those before still agree about the bit."""
    kernel = path.setup.kernel.tables
    value: bool | None = None
    for position in range(at, -1, -1):
        step = path.trace.steps[position]
        bits = places(feature, step, kernel)
        passed = next((v for v in map(step.value, bits) if v is not None), None)
        if value is not None and passed is not None and passed != value:
            return None
        value = passed if value is None else value
        decisions = [decision for bit in bits for decision in step.about(bit)]
        if decisions:
            return position, decisions[-1]
    return None


def not_told(feature: Feature, facts: tuple[Fact, ...]) -> str:
    """Say that it is not told whether the guest sees a feature."""
    return f"Whether the guest sees {feature.name} is not told: it depends on {listed(facts)}."


def _verdict(feature: Feature, path: Path, stages: tuple[Stage, ...]) -> str:
    """Say it in a sentence; a second one tells whose rules the answer goes by where they are not this machine's."""
    untried = " Its KVM is not Linux's own and was not tried: this is what Linux's would do." if stages[-1].basis is Basis.NOT_TRIED else ""
    return _sentence(feature, path, stages) + (untried if stages[-1].value is not None else "")


def _sentence(feature: Feature, path: Path, stages: tuple[Stage, ...]) -> str:
    first, last = stages[0], stages[-1]
    name = feature.name
    if feature.bit is None:
        return f"{name} is Linux's own: no CPUID bit or MSR hands it to a guest, whose kernel works it out anew."
    if last.value is None:
        return f"It is not known whether the guest sees {name}: no layer of the path looks at it."
    odd = dict.fromkeys(stage.otherwise() for stage in stages if stage.disagrees)
    disagreement = "".join(f" {text[0].upper()}{text[1:]}." for text in odd)
    if feature.bit is not None and put_back(path.trace, feature.bit):
        offered = path.trace.step("kvm").value(feature.bit)
        refused = "" if offered else "KVM does not offer it in KVM_GET_SUPPORTED_CPUID and "
        left = f"{refused}{path.vmm.spoken} leaves it out of its table"
        return f"The guest sees {name}: {left}, yet KVM adds it in KVM_SET_CPUID2.{disagreement}"
    turns = list(_turns(stages))
    if not turns:
        told = next(stage for stage in stages if stage.value is not None)
        source = "the host's CPU" if told is first else told.spoken
        if any(stage.depends for stage in stages):
            way = "has it" if last.value else "does not hand it on"
            return f"The guest {'sees' if last.value else 'does not see'} {name}, whatever is not told: {source} {way}.{disagreement}"
        untold = "" if told is first else " The host does not tell what its hardware has."
        if last.value:
            return f"The guest sees {name}: {source} has it and every layer keeps it.{untold}{disagreement}"
        if (rule := why_lacking(feature, path)) is not None:
            why = "-cpu does not ask for it" if rule is UNASKED else rule.reason
            return f"The guest does not see {name}: {why}.{disagreement}"
        return f"The guest does not see {name}: {source} does not have it and nothing emulates it.{untold}{disagreement}"
    party = stages[turns[-1]].spoken
    if last.value:
        lacking = ", though the host's CPU does not have it" if first.value is False else ""
        return f"The guest sees {name}: {party} put it there{lacking}.{disagreement}"
    return f"The guest does not see {name}: {party} took it away.{disagreement}"
