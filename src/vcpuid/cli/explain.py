"""vcpuid explain: a feature's fate."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import domain_options, unrefused
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import Asked, cpu_option, guest_kernel_option, host_option, print_warnings, probe_for, stack_options, trial_for
from vcpuid.cli.short import Cut
from vcpuid.cli.vmm import AskedGuest, vmm_options
from vcpuid.cpuid.registers import VULNERABILITIES
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
@guest_kernel_option
@click.option("--no-probe", is_flag=True, help="Do not ask this machine's KVM what a vCPU keeps of the table: model it.")
@stack_options()
@format_option
@all_option
def command(
    texts: tuple[str, ...],
    guest: AskedGuest,
    source: str | None,
    guest_kernel: str | None,
    no_probe: bool,
    asked: Asked,
    form: str,
    everything: bool,
) -> None:
    """Show where a feature is kept, dropped or added on its way to the guest.

    FEATURE is any spelling: avx2, X86_FEATURE_AVX2, arch-capabilities; a list of them, or a line of a log as QEMU and libvirt print it;
    '-' is such text on standard input. A name of /proc/cpuinfo, such as ibrs, means the flag that the guest's kernel shows there. The name
    of a vulnerability, such as spectre_v2, or of its file in sysfs is answered with whether the guest protects itself, in the words of its
    kernel and the host's; what is there for mitigations, such as spec_ctrl or ssbd, with that of the vulnerabilities as well.

    Exit status 0 where the guest sees every feature that is named, and needs no protection against the vulnerabilities that are named or
    has all that its kernel can give; 1 where it is otherwise, as where it is protected in part, or where HOST does not tell or the release
    has no tables that do.
    """
    from vcpuid.answers.certainty import followed
    from vcpuid.answers.explain import explain
    from vcpuid.answers.ordered import explain_ordered, judged
    from vcpuid.answers.starting import remarked
    from vcpuid.cli.spelled import collective, features
    from vcpuid.releases import linux

    host = guest.host(source)
    cpu, setup, order = guest.ordered(host, asked)
    inside = None if guest_kernel is None else linux(guest_kernel)
    wanted = features(texts, (inside or setup.kernel).tables)
    path = followed(cpu, host=setup, probe=None if no_probe or guest.partial else probe_for(host), vmm=guest.vmm)
    path = replace(remarked(path, None if no_probe else trial_for(host, setup)), guest_kernel=inside)
    if order is None:
        explanations = [explain(feature, path) for feature in wanted]
    else:
        by_libvirt = judged(order, path)
        explanations = [explain_ordered(feature, path, by_libvirt) for feature in wanted]
    print_warnings([*unrefused(path.remarks, order, form), *([inside.remark] if inside is not None and inside.remark else [])])
    if len(explanations) == 1:
        told = sheet(explanations[0])
        of_bit_alone = not explanations[0].serves and explanations[0].sysfs is None
        emit(told if everything or of_bit_alone else replace(told, cut=_cut(told)), form)
    else:
        emit(summary(explanations, [*collective(texts)]), form)
    sys.exit(0 if all(explanation.answered for explanation in explanations) else 1)


def sheet(explanation: Explanation) -> Sheet:
    """Lay an explanation out."""
    if explanation.sysfs is not None or explanation.sources:
        return _of_bits(explanation)
    feature, rows = explanation.feature, [_row(stage) for stage in explanation.parties]
    where = f"  {feature.bit}" if feature.bit is not None else ""
    nowhere = _nowhere(explanation.parties)
    return Sheet(
        columns=_COLUMNS if nowhere is None else [],
        rows=rows if nowhere is None else [],
        data=explanation.as_dict(),
        records=[_record(stage) for stage in explanation.parties],
        fields=_FIELDS,
        lines=[" ".join(str(row[column]) for column in _COLUMNS) for row in rows],
        head=[*_answer(explanation), "", f"{feature.name}{where}{nowhere or ''}"],
        foot=_foot(explanation),
        titles={"party": "layer"},
        styles={"party": "bold"},
    )


_COLUMNS = ("party", "value", "known", "why")


def _nowhere(stages: Sequence[Stage]) -> str | None:
    """Say in a line that no layer has it, and what of that was observed; None where a layer has it, or something to say."""
    if any(stage.value is not False or stage.why for stage in stages):
        return None
    by_basis = {stage.basis: [one.party for one in stages if one.basis is stage.basis] for stage in stages}
    known = (f"{', '.join(parties)} {basis.value}" for basis, parties in by_basis.items())
    return f": no in every layer, {'; '.join(known)}"


def _cut(told: Sheet) -> Cut:
    """Cut a table below what is said of vulnerabilities, which may be long, to a screen: what has a reason is shown first."""
    return Cut(len(told.rows), what="rows", weights=[bool(row["why"]) for row in told.rows])


def _foot(explanation: Explanation) -> list[str]:
    """Say why, what a refusal hangs on, what was taken for granted, and why /proc/cpuinfo does not name it."""
    from vcpuid.told.assumptions import granted as of_files

    taken, sysfs = explanation.assumes, explanation.sysfs
    granted = [f"Taken for granted: {one}" for one in taken] if sysfs is None else of_files(dict.fromkeys(taken, (sysfs.file,)))
    hidden = [explanation.hidden] if explanation.hidden else []
    return ["", *_because(explanation), *_blocking(explanation.order), *granted, *hidden]


def _of_bits(explanation: Explanation) -> Sheet:
    """Lay out what is said of a vulnerability, or of a flag that Linux makes up: layer by layer, the bits on which that hangs."""
    bits, sysfs = explanation.sources, explanation.sysfs
    where = "" if sysfs is None else f"  {VULNERABILITIES}/{sysfs.file}"
    layers = [stage.party for stage in bits[0].parties if stage.party not in _BETWEEN] if bits else []
    return Sheet(
        columns=["feature", *layers, "why"] if bits else [],
        rows=[{"feature": _whose(told), **_by_layer(told), "why": "" if told.visible else _first_cause(told)} for told in bits],
        data=explanation.as_dict(),
        records=_records(bits or [explanation]),
        fields=[*_FIELDS, "feature"],
        head=[*_answer(explanation), "", f"{explanation.feature.name}{where}"],
        foot=_foot(explanation),
        styles={"feature": "bold"},
    )


_BETWEEN = ("linux", "vcpu")
"""Layers that hand a bit on as the one before them did, or whose part in it the guest's tells."""


def _by_layer(told: Explanation) -> dict[str, object]:
    return {stage.party: _value(stage) for stage in told.parties}


def _whose(told: Explanation) -> str:
    """Name a bit so that it is taken for no flag of the same name, and say whose processors have it."""
    from vcpuid.answers.shown import maker

    vendor = {"intel": "Intel's ", "amd": "AMD's ", None: ""}[maker(told.feature)]
    return f"{vendor}{told.feature.name}"


_FIELDS = ["party", "value", "basis", "modelled", "why"]


def _records(explanations: Sequence[Explanation]) -> list[dict[str, object]]:
    """Give programs the layers of several features, a row each."""
    return [{"feature": told.feature.name, **_record(stage)} for told in explanations for stage in told.parties]


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
        records=_records(explanations),
        fields=["feature", *_FIELDS],
        head=[*_order(explanations[0]), _headline(explanations), *taken, ""],
        foot=["", *_blocking(explanations[0].order), *_summed(explanations)],
        styles={"feature": "bold"},
    )


def _seen_as(told: Explanation) -> str:
    """Say in a word whether the guest sees a feature; of a vulnerability, what its kernel makes of it."""
    if told.refused:
        return "no"
    if told.sysfs is not None:
        return told.sysfs.state
    return "no" if told.feature.bit is None and told.visible is False else "yes" if told.visible else _value(told.stages[-1])


def _answer(told: Explanation) -> list[str]:
    """Say what came of it, first, with what it means for the vulnerabilities that hang on it; then what was asked, and what helps."""
    from vcpuid.answers.sysfs import stakes

    return [told.verdict, *stakes(told.serves), *_order(told), _headline([told]), *_remedy(told)]


def _headline(told: Sequence[Explanation]) -> str:
    """Say what was asked, and which the guest's kernel is where the answer is about that."""
    path = told[0].path
    of_kernel = any(one.sysfs is not None or one.serves or (one.feature.bit is None and one.shown is not None) for one in told)
    if path.guest_kernel is not None:
        return path.headline(f"guest kernel: Linux {path.guest_kernel}, ")
    return path.headline(f"guest kernel: the host's, Linux {path.guest_linux.tables}, " if of_kernel else "")


def _order(told: Explanation) -> list[str]:
    """Say what stands above the VMM, where a domain does."""
    return [] if told.order is None else list(told.order.head())


def _blocking(order: Order | None) -> list[str]:
    """Name the features that libvirt's refusal hangs on, with the party that has them so."""
    return [] if order is None else [f"The refusal is due to {' '.join(names)}: {said}" for said, names in order.grouped().items()]


def _first_cause(told: Explanation) -> str:
    if told.sysfs is not None and told.sysfs.guest is not None:
        return told.sysfs.guest.said
    if told.order is not None and told.refused:
        return f"libvirt {told.order.release} refuses the domain"
    if told.visible is None or not told.chain or told.visible:
        return told.verdict if told.visible is None else told.stages[-1].why
    reason = told.chain[-1]
    return f"{reason.party}: {reason.text if reason.feature == told.feature.name else f'{reason.feature}: {reason.text}'}"


def _summed(explanations: Sequence[Explanation]) -> Iterator[str]:
    from vcpuid.answers.sysfs import stakes

    asked = {told.sysfs.file for told in explanations if told.sysfs is not None}
    served = {one.file: one for told in explanations for one in told.serves}
    bits = [told for told in explanations if told.sysfs is None]
    seen = [told.feature.name for told in bits if told.visible]
    unseen = [told.feature.name for told in bits if told.visible is False]
    open_ = [told for told in bits if told.visible is None]
    not_told, not_known = ([told.feature.name for told in open_ if told.known is known] for known in (True, False))
    groups = ("The guest sees", seen), ("The guest does not see", unseen), ("Not told", not_told), ("Not known here", not_known)
    for what, names in groups:
        if names:
            yield f"{what}: {' '.join(names)}"
    yield from stakes([one for one in served.values() if one.file not in asked])
    by_state: dict[str, list[str]] = {}
    for told in explanations:
        if told.sysfs is not None:
            by_state.setdefault(told.sysfs.state, []).append(told.feature.name)
    yield from (f"In the guest, {state}: {' '.join(names)}" for state, names in by_state.items())
    yield from (told.sysfs.lacks for told in explanations if told.sysfs is not None and told.sysfs.lacks)
    yield from dict.fromkeys(line for told in explanations for line in _remedy(told))


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
    from vcpuid.answers.sysfs import in_full

    own = explanation.remedy if explanation.sysfs is not None or not explanation.answered else None
    at_length = [one.remedy for one in in_full(explanation.serves)]
    unaware = [one.remedy for one in explanation.serves if one.state == "unaware"]
    helps = [*(at_length if any(at_length) else [own]), *unaware]
    return [f"What you can do: {remedy}" for remedy in dict.fromkeys(helps) if remedy]


def _origin(reason: Reason) -> str:
    told = history(reason.rule)
    known = "read from the source, no capture has shown it" if told.known == "read" else ""
    return f"{reason.rule.id}: {'; '.join(text for text in (reason.rule.source, *told.words(), known) if text)}"
