"""The fate of a bit, read off a path's trace: what each party did to it, and which decision made it what the guest sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vcpuid.answers.certainty import depends
from vcpuid.answers.explanation import MIRRORS, Explanation, Reason, Stage, sentence, turns
from vcpuid.answers.overruling import put_back, untried
from vcpuid.answers.remedy import hidden_from_linux, remedy
from vcpuid.answers.unasked import UNASKED, why_lacking
from vcpuid.cpuid import Bit, CpuidWord
from vcpuid.cpuid.names import Feature, by_bit, find
from vcpuid.cpuid.vendors import AMD_AND_HYGON
from vcpuid.kvm.answers import kvm_says
from vcpuid.linux.vmx import FLAGS
from vcpuid.path.pipeline import Path
from vcpuid.reasons import Action, Basis, Decision, Rule, Step
from vcpuid.told.facts import Fact, listed
from vcpuid.told.facts import remedy as to_be_told

NO_HARDWARE = Rule(
    "silicon.lacks",
    "the host's processor does not report it",
    "the CPUID instruction",
    remedy="run the guest on a processor that has it, or choose a CPU without it",
)


OWN_DOING = Rule(
    "observed.otherwise",
    "this machine's kernel or KVM differs from stock Linux",
    "the host's snapshot",
    remedy="run the guest on a host with stock Linux: no option of QEMU changes this",
)


def followed(feature: Feature, path: Path) -> Explanation:
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
    if odd is not None and not stages[-1].value:
        chain = (*chain, Reason(odd.party, feature.name, Action.CLEARED, OWN_DOING, _own_doing(path, odd)))
    helps = helps or remedy(path, ((reason.rule, reason.feature) for reason in chain))
    return Explanation(feature, path, stages, _verdict(feature, path, stages), chain, helps)


def _own_doing(path: Path, stage: Stage) -> str:
    """Say whose doing it is: of this machine's KVM, by the module that it is where that is none of Linux's own."""
    odd = kvm_says(path.setup).odd_modules if stage.party == "kvm" else ()
    return stage.otherwise(f" ({' and '.join(odd)})" if odd else "")


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
    lacking = followed(needs, path)
    if facts := lacking.depends:
        verdict = f"{verdict}, and it takes {needs.name}. {lacking.verdict}"
        return Explanation(feature, path, stages, verdict, chain, lacking.remedy, unsettled=facts)
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
    if step.party == "linux" and step.basis is not Basis.NOT_TOLD and _of_vmx(feature, path, kernel):
        said = f"the flag {feature.cpuinfo} of /proc/cpuinfo stands for VMX's here"
        return Stage(step.party, step.spoken, step.title, None, step.basis, None, (), said=said)
    bits = places(feature, step, kernel)
    if facts := depends(path, position, bits):
        return Stage(step.party, step.spoken, step.title, None, Basis.NOT_TOLD, None, (), facts)
    value = next((v for v in map(step.value, bits) if v is not None), None)
    modelled = next((v for v in map(step.modelled_value, bits) if v is not None), None)
    reasons = tuple(_reason(step, decision, feature.name) for bit in bits for decision in step.about(bit))
    return Stage(step.party, step.spoken, step.title, value, step.basis, modelled, reasons, stock=f"stock Linux {kernel}")


def _of_vmx(feature: Feature, path: Path, kernel: str) -> bool:
    """Whether the host's Linux keeps another thing in the place of a bit of CPUID: what VMX's capabilities tell, not the bit."""
    linux = feature.in_linux(kernel)
    copied = linux is not None and linux.symbol in FLAGS and feature.bit is not None and isinstance(feature.bit.word, CpuidWord)
    return copied and path.host.vendor not in AMD_AND_HYGON


def _reason(step: Step, decision: Decision, feature: str) -> Reason:
    return Reason(step.party, feature, decision.action, decision.rule, sentence(decision))


def _chain(path: Path, feature: Feature, stages: tuple[Stage, ...]) -> Iterator[Reason]:
    """Go from the decision that made the bit what the guest sees to that decision's cause, then to the cause's own, and so on."""
    turned = turns(stages)
    at = turned[-1] if turned else len(stages) - 1
    seen: set[tuple[str, str]] = set()
    value: bool | None = None
    while (found := _decider(path, feature, at, value)) is not None:
        at, decision = found
        key = (decision.rule.id, feature.name)
        if key in seen:
            return
        seen.add(key)
        yield _reason(path.trace.steps[at], decision, feature.name)
        cause = None if decision.cause is None else by_bit(decision.cause)
        if cause is not None:
            feature, value = cause, None
        elif decision.cause is None and at > 0 and not decision.value:
            at, value = at - 1, False  # a party that took the bit away may have done so because one before it had
        else:
            return


def _decider(path: Path, feature: Feature, at: int, value: bool | None) -> tuple[int, Decision] | None:
    """The last decision about the feature at this party or at one before it, as long as those before still agree about the bit.

    They agree on `value`, or where that is None, on what the last of them that looks at it has.
    """
    kernel = path.setup.kernel.tables
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
    said, more = _sentence(feature, path, stages), untried(path)
    return said if more is None or stages[-1].value is None else f"{said} {more}"


def _sentence(feature: Feature, path: Path, stages: tuple[Stage, ...]) -> str:
    first, last = stages[0], stages[-1]
    name = feature.name
    if feature.bit is None:
        return f"{name} is Linux's own: no CPUID bit or MSR hands it to a guest, whose kernel works it out anew."
    if last.value is None:
        return f"It is not known whether the guest sees {name}: no layer of the path looks at it."
    if put_back(path.trace, feature.bit):
        why = "" if path.trace.step("kvm").value(feature.bit) else ", since KVM does not offer it"
        return f"The guest sees {name}: {path.vmm.spoken} leaves it out{why}, yet this machine's KVM adds it, as stock Linux's would not."
    odd = dict.fromkeys(stage.otherwise() for stage in stages if stage.disagrees)
    disagreement = "".join(f" {text[0].upper()}{text[1:]}." for text in odd)
    turned = turns(stages)
    if not turned:
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
    party = stages[turned[-1]].spoken
    if last.value:
        lacking = ", though the host's CPU does not have it" if first.value is False else ""
        return f"The guest sees {name}: {party} put it there{lacking}.{disagreement}"
    return f"The guest does not see {name}: {party} took it away.{disagreement}"
