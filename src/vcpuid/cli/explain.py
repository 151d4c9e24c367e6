"""vcpuid explain: a feature's fate."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import domain_options, unrefused
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import Asked, cpu_option, host_option, print_warnings, probe_for, stack_options, trial_for
from vcpuid.cli.vmm import AskedGuest, vmm_options
from vcpuid.reasons.history import history

if TYPE_CHECKING:
    from vcpuid.answers.explanation import Explanation, Reason, Stage
    from vcpuid.answers.order import Order


@click.command(name="explain")
@click.argument("texts", metavar="FEATURE...", nargs=-1, required=True, shell_complete=choices.features)
@cpu_option
@domain_options
@host_option
@vmm_options
@click.option("--no-probe", is_flag=True, help="Do not ask this machine's KVM what a vCPU keeps of the table: model it.")
@stack_options()
@format_option
def command(texts: tuple[str, ...], guest: AskedGuest, source: str | None, no_probe: bool, asked: Asked, form: str) -> None:
    """Show where a feature is kept, dropped or added on its way to the guest.

    FEATURE is any spelling: avx2, X86_FEATURE_AVX2, arch-capabilities; a list of them, or a line of a log as QEMU and libvirt print it;
    '-' is such text on standard input. A name of /proc/cpuinfo, such as ibrs, means the flag that the guest's kernel shows there. The name
    of a vulnerability, such as spectre_v2, or of its file in sysfs is answered with what the guest's kernel and the host's report.

    Exit status 0 where the guest sees every feature that is named and is not vulnerable to what is named, 1 where it is otherwise, or
    where HOST does not tell or the release has no tables that do.
    """
    from vcpuid.answers.certainty import followed
    from vcpuid.answers.explain import explain
    from vcpuid.answers.ordered import explain_ordered, judged
    from vcpuid.answers.starting import remarked
    from vcpuid.cli.spelled import collective, features

    host = guest.host(source)
    cpu, setup, order = guest.ordered(host, asked)
    wanted = features(texts, setup.kernel.tables)
    path = followed(cpu, host=setup, probe=None if no_probe or guest.partial else probe_for(host), vmm=guest.vmm)
    path = remarked(path, None if no_probe else trial_for(host, setup))
    if order is None:
        explanations = [explain(feature, path) for feature in wanted]
    else:
        by_libvirt = judged(order, path)
        explanations = [explain_ordered(feature, path, by_libvirt) for feature in wanted]
    print_warnings(unrefused(path.remarks, order, form))
    emit(sheet(explanations[0]) if len(explanations) == 1 else summary(explanations, [*collective(texts)]), form)
    sys.exit(0 if all(explanation.answered for explanation in explanations) else 1)


def sheet(explanation: Explanation) -> Sheet:
    """Lay an explanation out."""
    feature = explanation.feature
    where = f"  {feature.bit}" if feature.bit is not None else ""
    return Sheet(
        columns=["party", "value", "known", "why"],
        rows=[_row(stage) for stage in explanation.parties],
        data=explanation.as_dict(),
        records=[_record(stage) for stage in explanation.parties],
        fields=["party", "value", "basis", "modelled", "why"],
        head=[explanation.verdict, *_order(explanation), explanation.path.headline(), *_remedy(explanation), "", f"{feature.name}{where}"],
        foot=[
            "",
            *_because(explanation),
            *_blocking(explanation.order),
            *_sources(explanation),
            *(f"Taken for granted: {assumption}" for assumption in explanation.assumes),
            *([explanation.hidden] if explanation.hidden else []),
        ],
        titles={"party": "layer"},
        styles={"party": "bold"},
    )


def summary(explanations: Sequence[Explanation], taken: Sequence[str] = ()) -> Sheet:
    """Lay several explanations out, a row for each feature; `taken` says which of them stand for a name that was given."""
    from vcpuid.answers.explanation import report

    return Sheet(
        columns=["feature", "guest", "because"],
        rows=[
            {
                "feature": told.feature.name,
                "guest": _seen_as(told),
                "because": _first_cause(told),
                "remedy": told.remedy,
            }
            for told in explanations
        ],
        data=report(explanations),
        records=[{"feature": told.feature.name, **_record(stage)} for told in explanations for stage in told.parties],
        fields=["feature", "party", "value", "basis", "modelled", "why"],
        head=[*_order(explanations[0]), explanations[0].path.headline(), *taken, ""],
        foot=["", *_blocking(explanations[0].order), *_summed(explanations)],
        styles={"feature": "bold"},
    )


def _seen_as(told: Explanation) -> str:
    """Say in a word whether the guest sees a feature; of a vulnerability, what its kernel makes of it."""
    if told.refused:
        return "no"
    return _value(told.stages[-1]) if told.sysfs is None else told.sysfs.state


def _order(told: Explanation) -> list[str]:
    """Say what stands above the VMM, where a domain does."""
    return [] if told.order is None else list(told.order.head())


def _blocking(order: Order | None) -> list[str]:
    """Name the features that libvirt's refusal hangs on, with the party that has them so."""
    return [] if order is None else [f"The refusal is due to {' '.join(names)}: {said}" for said, names in order.grouped().items()]


def _first_cause(told: Explanation) -> str:
    if told.order is not None and told.refused:
        return f"libvirt {told.order.release} refuses the domain"
    if told.visible is None or not told.chain or told.visible:
        return told.verdict if told.visible is None else told.stages[-1].why
    reason = told.chain[-1]
    return f"{reason.party}: {reason.text if reason.feature == told.feature.name else f'{reason.feature}: {reason.text}'}"


def _summed(explanations: Sequence[Explanation]) -> Iterator[str]:
    bits = [told for told in explanations if told.sysfs is None]
    seen = [told.feature.name for told in bits if told.visible]
    unseen = [told.feature.name for told in bits if told.visible is False]
    open_ = [told for told in bits if told.visible is None]
    not_told, not_known = ([told.feature.name for told in open_ if told.known is known] for known in (True, False))
    groups = ("The guest sees", seen), ("The guest does not see", unseen), ("Not told", not_told), ("Not known here", not_known)
    for what, names in groups:
        if names:
            yield f"{what}: {' '.join(names)}"
    by_state: dict[str, list[str]] = {}
    for told in explanations:
        if told.sysfs is not None:
            by_state.setdefault(told.sysfs.state, []).append(told.feature.name)
    yield from (f"In the guest, {state}: {' '.join(names)}" for state, names in by_state.items())
    helps = dict.fromkeys(told.remedy for told in explanations if told.remedy and not told.answered)
    yield from (f"What you can do: {remedy}" for remedy in helps)


def _row(stage: Stage) -> dict[str, object]:
    known = stage.basis.value
    if stage.modelled is not None and stage.value is not None:
        known += f" (model: {'yes' if stage.modelled else 'no'})"
    return {"party": stage.party, "value": _value(stage), "known": known, "why": stage.why}


def _record(stage: Stage) -> dict[str, object]:
    return {"party": stage.party, "value": stage.value, "basis": stage.basis.value, "modelled": stage.modelled, "why": stage.why}


def _value(stage: Stage) -> str:
    if stage.depends:
        return "not told"
    if stage.unknown:
        return "not known"
    return "-" if stage.value is None else "yes" if stage.value else "no"


def _because(explanation: Explanation) -> list[str]:
    return [f"{'Because' if i == 0 else '    and'}: {r.feature}: {r.text}  [{_origin(r)}]" for i, r in enumerate(explanation.chain)]


def _remedy(explanation: Explanation) -> list[str]:
    return [f"What you can do: {explanation.remedy}"] if explanation.remedy and not explanation.answered else []


def _sources(told: Explanation) -> Iterator[str]:
    """Tell of each bit of hardware out of which Linux makes a flag, and whose processors have it."""
    from vcpuid.answers.explain import spelled
    from vcpuid.answers.shown import maker

    whose = {"intel": "Intel's: ", "amd": "AMD's: ", None: ""}
    for part in told.sources:
        yield f"{whose[maker(part.feature)]}{spelled(part.feature)}: {_seen(part.visible)}"


def _seen(visible: bool | None) -> str:
    if visible is None:
        return "not told whether the guest sees it"
    return "the guest sees it" if visible else "the guest does not see it"


def _origin(reason: Reason) -> str:
    told = history(reason.rule)
    known = "read from the source, no capture has shown it" if told.known == "read" else ""
    return f"{reason.rule.id}: {'; '.join(text for text in (reason.rule.source, *told.words(), known) if text)}"
