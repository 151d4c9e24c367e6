"""vcpuid drift: what another kernel, QEMU or parameter changes for a guest."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from vcpuid.cli import choices, standing
from vcpuid.cli.demands import demand
from vcpuid.cli.domain import WITHOUT_DOMAIN, AskedCpu, domain_options, no_domain, unrefused
from vcpuid.cli.examples import lacking
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import Asked, Host, cpu_option, print_warnings, read_host, stack_options
from vcpuid.cli.short import Cut, cut, first, so_many, some
from vcpuid.errors import InputError, KvmError, LibvirtError, RefusedError
from vcpuid.releases import option_parts

if TYPE_CHECKING:
    from vcpuid.answers.drift import Drift, Side

_WARNINGS, _REGISTERS = 3, 4
COLUMNS = ["change", "party", "features", "why", "do"]
FIELDS = ["feature", "place", "change", "before", "after", "party", "rule", "why", "remedy"]
_PROGRAMS = ("kernel", "qemu", "machine", "libvirt")
"""What a side may name besides parameters."""


def one_cpu_after(params: Mapping[str, Any]) -> None:
    """Raise UsageError where --to-cpu and --to-domain are both given."""
    if params["to_cpu"] is not None and params["to_domain"] is not None:
        raise click.UsageError("--to-cpu and --to-domain both name the guest's CPU")


def _two_sides(params: Mapping[str, Any]) -> None:
    if not any(params[name] for name in ("before", "after", "to_cpu", "to_domain")):
        raise lacking("give --from or --to, --to-cpu or --to-domain: what the two sides differ in")


@click.command(name="drift")
@click.argument("source", metavar="[HOST]", required=False, shell_complete=choices.hosts)
@click.option(
    "--from", "before", metavar="STACK", default="", shell_complete=choices.stacks,
    help="What the guest runs on now: kernel=RELEASE, qemu=RELEASE, machine=TYPE, libvirt=RELEASE and parameters, joined by commas "
    "(,, in a value).",
)  # fmt: skip
@click.option("--to", "after", metavar="STACK", default="", shell_complete=choices.stacks, help="What it will run on, in the same form.")
@click.option("--to-cpu", metavar="CPU", shell_complete=choices.cpus, help="The CPU that it will have, where that changes too.")
@click.option("--to-domain", metavar="FILE", type=click.Path(), help="The same, as the XML of a libvirt domain.")
@cpu_option
@domain_options
@all_option
@stack_options("kernel", "qemu")
@format_option
@demand(_two_sides)
@demand(one_cpu_after)
def command(
    source: str | None, before: str, after: str, to_cpu: str | None, to_domain: str | None, cpu: AskedCpu, everything: bool, asked: Asked,
    form: str,
) -> None:  # fmt: skip
    """Show what an upgrade changes in a guest: kernel, QEMU, libvirt.

    Features lost and gained between two stacks are shown with the layer that decides. HOST is the same on both sides, and so is all that
    --from or --to does not name: HOST's kernel, the installed QEMU, --machine and --param. A machine type without a version (q35) is the
    newest of each QEMU. With --to-cpu or --to-domain the guest's CPU is another one afterwards.

    Exit status 0 where the guest's features and QEMU's warnings stay as they are, as far as HOST tells, 1 where they do not, or where one
    side does not start it.
    """
    host = read_host(source)
    then = AskedCpu("host", to_domain, cpu.release) if to_domain else AskedCpu(to_cpu) if to_cpu else cpu
    one, other = (_side(host, *given) for given in ((cpu, asked, "--from", before), (then, asked, "--to", after)))
    if cpu.domain is None and then.domain is None:
        no_domain()
    sides = [side for side in (one, other) if not isinstance(side, str)]
    print_warnings(dict.fromkeys(remark for side in sides for remark in unrefused(side.path.remarks, side.order, form)))
    if isinstance(one, str) or isinstance(other, str):
        emit(_refused(one, other), form)
        sys.exit(1)
    from vcpuid.answers.drift import drift

    print_warnings(_guessed(one, other))
    found = drift(one, other)
    emit(_sheet(found, everything), form)
    sys.exit(0 if found.settled else 1)


def _guessed(one: Side, other: Side) -> list[str]:
    """Say which program is taken for granted on the side that names none, where the other does and the host does not tell it.

    Raises InputError where both sides are the same by that: that nothing changes then is no answer.
    """
    from vcpuid.answers.drift import guessed, software

    said = [program.sentence() for program in guessed(one.path.setup, other.path.setup)]
    before, after = ((side.path.cpu, software(side.path.setup)) for side in (one, other))
    if said and before == after:
        on = one.path.setup
        raise InputError(f"before and after are the same, {standing.software(on)}, Linux {on.kernel}: {said[0]}")
    return said


def _side(host: Host, cpu: AskedCpu, asked: Asked, option: str, stack: str) -> Side | str:
    """Work out the guest on one side; where a program there refuses it, return its words."""
    from vcpuid.answers.drift import Side

    chosen, release = named_stack(asked, option, stack)
    if release is not None and cpu.domain is None:
        print_warnings([f"{option} libvirt={release} has no effect: {WITHOUT_DOMAIN}"])
    try:
        return Side.of(*replace(cpu, release=release or cpu.release).ordered(host, chosen, remark=False))
    except (RefusedError, KvmError, LibvirtError) as error:
        return str(error)


def named_stack(asked: Asked, option: str, text: str) -> tuple[Asked, str | None]:
    """Read what one side names, and put it in place of what both have; return libvirt's release besides."""
    from vcpuid.params import given, is_known

    programs: dict[str, str] = {}
    params: list[str] = []
    for part in filter(None, option_parts(text)):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise InputError(f"{option}: {part[:60]!r} is not of the form NAME=VALUE")
        if name in programs:
            raise InputError(f"{option}: {name} stands there twice")
        if name in _PROGRAMS:
            programs[name] = value
        elif not is_known(name):
            raise InputError(f"{option}: {name[:40]!r} is neither {', '.join(_PROGRAMS)} nor a parameter{_suggestion(name)}")
        else:
            params.append(part)
    both = {**asked.params, **given(params)}
    chosen = replace(
        asked,
        kernel=programs.get("kernel"),
        qemu=programs.get("qemu"),
        machine=programs.get("machine", asked.machine),
        params=both,
        what_if=asked.what_if or bool(both),
    )
    return chosen, programs.get("libvirt")


def _suggestion(name: str) -> str:
    from difflib import get_close_matches

    from vcpuid.params import MODULES, names

    short = {parameter for module in MODULES.values() for parameter in module}
    near = get_close_matches(name[:40], [*_PROGRAMS, *sorted({*names(), *short})], n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _refused(*sides: Side | str) -> Sheet:
    """Lay out that one side, or both, do not start the guest."""
    from vcpuid.answers.drift import refused_report

    lines = [
        f"{when}: {side}" if isinstance(side, str) else f"{when}, where it starts: {side.path.headline()}"
        for when, side in zip(("before", "after"), sides, strict=True)
    ]
    one, other = (isinstance(side, str) for side in sides)
    when = "only after" if one else "no longer after"
    answer = "The guest starts on neither side." if one and other else f"The guest starts {when} the upgrade."
    return Sheet(COLUMNS, [], data=refused_report(*sides), fields=FIELDS, lines=lines, head=[answer, "", *lines])


def _sheet(found: Drift, everything: bool) -> Sheet:
    """Lay out the changes: for people one row for all features of one cause, for programs one for each."""
    groups: dict[tuple[str, str | None, str, str | None], dict[str, None]] = {}
    for change in found.changes:
        groups.setdefault((change.change, change.party, change.why, change.remedy), {})[change.feature.name] = None
    caused = Counter(change.cause for change in found.changes if change.cause != change.feature.name)
    weights = [
        len(names) + sum(caused[name] for name in names) + (len(found.changes) if change == "lost" else 0)
        for (change, *_), names in groups.items()
    ]  # what a guest loses before what it gains, and a cause before what follows from it
    sides = {"before:": found.before, "after: ": found.after}
    warnings = [f"{when}: {line}" for when, lines in (("no longer", found.gone), ("new", found.new)) for line in lines]
    said = [*first(warnings, everything, _WARNINGS)]
    named = {group: " ".join(names) if everything else some(names) for group, names in groups.items()}
    short = any(named[group] != " ".join(names) for group, names in groups.items())
    told = [*said, *cut(len(said), len(warnings), "warnings")]
    return Sheet(
        COLUMNS,
        [
            {"change": change, "party": party or "", "features": names, "why": why, "do": remedy or ""}
            for (change, party, why, remedy), names in named.items()
        ],
        data=found.as_dict(),
        records=[change.as_dict() for change in found.changes],
        fields=FIELDS,
        lines=[f"{change.change} {change.feature.name} {change.party or '-'} {change.rule or '-'}" for change in found.changes],
        head=[_verdict(found), "", *(f"{when} {line}" for when, side in sides.items() for line in side.head()), ""],
        foot=[*_others(found, everything), *_to_be_told(found), *(["", *told] if told else [])],
        titles={"party": "layer"},
        styles={"features": "bold"},
        cut=None if everything else Cut(more="every name" if short else "", weights=weights),
    )


def _to_be_told(found: Drift) -> list[str]:
    """Say how to be told of what is not, on one side or on both."""
    from vcpuid.told.facts import remedy

    return ["", f"To be told of all: {remedy(found.depends)}."] if found.depends else []


def _others(found: Drift, everything: bool) -> list[str]:
    """Say which registers hold something else in bits that are no feature; beside features their number, which stands above, is enough."""
    if not found.others:
        return []
    if found.changes and not everything:
        return ["", "--all prints the registers that differ in bits that are no feature."]
    shown = [*first(found.others, everything, _REGISTERS)]
    return [
        "",
        "Registers of CPUID that differ in bits that are no feature:",
        *(f"  {other}" for other in shown),
        *cut(len(shown), len(found.others), "registers"),
    ]


def _verdict(found: Drift) -> str:
    """Say in a sentence how many features the guest loses and gains."""
    from vcpuid.answers.survey import NOT_TOLD_CHANGE

    counts = {kind: found.count(kind) for kind in ("lost", "gained", NOT_TOLD_CHANGE)}
    words = {"lost": "loses {}", "gained": "gains {}"}
    told = [word.format(f"{so_many(counts[kind], 'feature')}") for kind, word in words.items() if counts[kind]]
    changes = " and ".join(told) if told else "loses and gains nothing"
    if found.others:
        changes += f"; {so_many(len(found.others), 'register')} {'has' if len(found.others) == 1 else 'have'} other numbers"
    more = f"; {so_many(found.same, 'feature')} {'stays as it is' if found.same == 1 else 'stay as they are'}"
    open_ = counts[NOT_TOLD_CHANGE]
    one_sided = f", {open_} {'is' if open_ == 1 else 'are'} known on one side only" if open_ else ""
    untold = f", {found.not_told} on neither" if found.not_told else ""
    refusing = [when for when, side in (("before", found.before), ("after", found.after)) if side.refused]
    refused = f"libvirt does not start the guest {' and '.join(refusing)}. Without its check: " if refusing else ""
    return f"{refused}{'the' if refused else 'The'} guest {changes}{more}{one_sided}{untold}."
