"""An answer about a feature on one path: what each party made of it, by which rule, and what that comes to for the guest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from vcpuid.answers.certainty import rests
from vcpuid.answers.order import Order
from vcpuid.answers.overruling import put_back, withheld
from vcpuid.answers.shown import ShownFlag, maker, shown
from vcpuid.answers.sysfs import Sysfs
from vcpuid.cpuid import bits
from vcpuid.cpuid.names import Feature, by_bit
from vcpuid.cpuid.notes import notes
from vcpuid.kvm import vcpu_rules
from vcpuid.path.pipeline import Path
from vcpuid.reasons import Action, Basis, Decision, Rule
from vcpuid.reasons.history import history
from vcpuid.told.assumptions import Assumption
from vcpuid.told.facts import Fact, listed

SCHEMA = "vcpuid/explain/5"
"""The form of `Explanation.as_dict`."""

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


def sentence(decision: Decision) -> str:
    """Give a decision's reason for a person, the cause spelled by its feature's name."""
    if decision.cause is None:
        return decision.rule.reason
    cause = by_bit(decision.cause)
    return decision.rule.reason.format(cause=decision.cause if cause is None else cause.name)


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


def turns(stages: Sequence[Stage]) -> list[int]:
    """List the positions at which the value differs from what the party before handed on."""
    found: list[int] = []
    last: bool | None = None
    for position, stage in enumerate(stages):
        if stage.value is None:
            continue
        if last is not None and stage.value != last:
            found.append(position)
        last = stage.value
    return found


@dataclass(frozen=True)
class Explanation:
    """A feature's fate on one path.

    `stages` hold its value after each party; `verdict` is one sentence; `chain` is why, from the deciding rule down to its first cause;
    `remedy` is what a user can do about that first cause, None where nothing helps. Where a domain of libvirt's leads to the VMM's -cpu,
    `order` is how, `above` what the domain and libvirt ask of the feature, and `unsettled` the facts that the host does not tell and on
    which it hangs what libvirt makes of the feature, or whether it starts the guest; of what the guest's kernel turns on itself, those on
    which it hangs whether it can. Of a flag that Linux makes up, `sources` explain the bits of hardware that it is made of, those of the
    guest's vendor first. Of a vulnerability, `sysfs` is what the kernels say of it, and `sources` are the bits on which that hangs; of a
    feature that is there for mitigations, `serves` are the vulnerabilities.
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
    serves: Sequence[Sysfs] = ()

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
        at = [] if self.visible is None else turns(self.stages)
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
            return self.sysfs.guest is not None and self.sysfs.guest.protected
        return bool(self.visible) or self.turned_on

    @property
    def turned_on(self) -> bool:
        """Whether the guest's kernel turns it on itself, and can: no layer hands it on."""
        bit = self.feature.bit
        if bit not in MIRRORS or self.refused or self.unsettled:
            return False
        return self.path.trace.steps[-1].value(MIRRORS[bit][1]) is True

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
        if self.sysfs is not None:
            return self.sysfs.assumes
        if self.visible is None or bit is None or self.refused:
            return ()
        return tuple(rests(self.path, lambda path: {self.feature.name: path.trace.steps[-1].value(bit)}))

    @property
    def hidden(self) -> str | None:
        """Why /proc/cpuinfo does not name the feature, whether the kernel uses it or not; None where it names it."""
        said = {note.topic: note.text for note in notes(self.feature, self.path.guest_linux.tables)}
        if "hidden" not in said:
            return None
        return " ".join([said["hidden"], *([said["summed"]] if "summed" in said and self.visible else [])])

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        told = self.fate()
        serves = {"vulnerabilities": [found.as_dict() for found in self.serves]}
        return {"schema": SCHEMA, "feature": told["feature"], "bit": told["bit"], **self.path.as_dict(), **told, **serves}

    def fate(self) -> dict[str, object]:
        """Give the same of the feature alone: of many on one path, what is the path's, and its guest's vulnerabilities, is told once."""
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


def _source(told: Explanation) -> dict[str, object]:
    return {"feature": told.feature.name, "bit": str(told.feature.bit), "vendor": maker(told.feature), "visible": told.visible}


def report(explanations: Iterable[Explanation]) -> dict[str, object]:
    """Put several explanations into one document for programs."""
    return {"schema": SCHEMA, "explanations": [explanation.as_dict() for explanation in explanations]}
