"""vcpuid fleet baseline, models, blame: one CPU for many hosts, and who costs what."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from vcpuid.cli import choices
from vcpuid.cli.fleet_options import (
    LAYER,
    NOT_TOLD,
    absent,
    all_hosts,
    cluster_option,
    day_option,
    end_of_day,
    engine_option,
    hosts_argument,
    opened,
    same_cpu,
    short,
    software,
    stack_of,
)
from vcpuid.cli.layout import Verbatim
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import Asked, print_warnings, words_option
from vcpuid.cli.short import Cut, first, so_many, some
from vcpuid.cli.streams import replaced

if TYPE_CHECKING:
    from vcpuid.fleet.baseline import Baseline
    from vcpuid.fleet.blame import Blame, Untold
    from vcpuid.fleet.costs import Cost
    from vcpuid.fleet.named import NamedModels
    from vcpuid.fleet.wins import Win


@click.command()
@hosts_argument
@cluster_option
@day_option
@engine_option
@click.option("--require", multiple=True, metavar="FEATURE", shell_complete=choices.features, help="A feature that the guest must have.")
@words_option
@all_option
@software
@format_option
def baseline(
    stores: tuple[str, ...],
    cluster: str | None,
    as_of: str | None,
    engine: str,
    require: tuple[str, ...],
    manager: str | None,
    everything: bool,
    asked: Asked,
    form: str,
) -> None:
    """Find the best -cpu that runs on every host and is the same CPU on all, so that guests move freely.

    STORE is as for `vcpuid fleet`; the HOSTs' snapshots may be named instead, as in vcpuid fleet baseline a.txt b.txt. QEMU and kernel are
    each host's own, as its snapshot tells, unless --qemu and --kernel name them; QEMU is the newest where that is not told. Each class
    proves it: QEMU gives all that is asked for, without a warning, and the guest's table is the same. With --for it is the best that this
    manager's form can hold. Exit status 0 where it runs on all hosts, is the same CPU on all, and the TSC keeps its rate between them, else
    1, also where that is not told of some host or one cannot be read.
    """
    day = end_of_day(as_of)
    found = opened(stores, engine).baseline(stack_of(asked), cluster=cluster, as_of=day, require=require, manager=manager)
    print_warnings(found.remarks)
    emit(_baseline_sheet(found, manager, asked, everything), form)
    sys.exit(0 if found.runs and found.alike and found.rate_kept else 1)


def _baseline_sheet(found: Baseline, manager: str | None, asked: Asked, everything: bool) -> Sheet:
    from vcpuid.fleet.proof import running
    from vcpuid.fleet.software import chosen, eldest

    setup, program = eldest(found.setups), chosen(found.setups)
    rows = [
        {
            "runs": {True: "yes", False: "no", None: NOT_TOLD}[proof.runs],
            "hosts": proof.group.hosts,
            "who": proof.group.spoken,
            "cpu": proof.group.cpu,
            "why": proof.why or "",
            "costs": " ".join(found.costs.get(proof.group.kind.name, ())),
            **_spent(found.spent.get(proof.group.kind.name)),
            "class": proof.group.kind.name,
        }
        for proof in found.proofs
    ]
    shown = rows if everything else [{**row, "costs": some(str(row["costs"]).split())} for row in rows]
    if found.cpu is None:
        head = [f"No model of QEMU {program} can be made to run on {all_hosts(found.census.hosts)}."]
    else:
        level = f", x86-64-v{found.level}" if found.level > 1 else ""
        nowhere = all(proof.runs is False for proof in found.proofs)  # then there is no CPU to be the same
        head = [
            f"-cpu {found.cpu}",
            f"starts with every requested feature on {running(found.proofs)} of {so_many(found.census.hosts, 'host')}"
            f", QEMU {program}, {setup.machine}" + ("" if nowhere else f"; {same_cpu(found.alike, found.differs)}{level}"),
            *_clock(found),
            *_dangers(found),
        ]
    refused = [f"{group.spoken}: {why}" for group, why in found.refused]
    paid = list(_paid(found))
    foot = [*refused, *first(paid, everything, _PAID)]
    foot += [f"and {len(paid) - _PAID} classes more; --all prints them"] if len(foot) < len(refused) + len(paid) else []
    foot += _others(found)
    data = found.as_dict()
    lines = [found.cpu] if found.cpu else []
    asked_for = list[str]()
    if manager is not None and found.cpu is not None:
        from vcpuid.answers.in_words import in_words
        from vcpuid.qemu.catalog import catalog

        words = in_words(found.cpu, manager, catalog(setup.vmm.tables))
        lines = list(words.lines)
        asked_for = ["", *map(Verbatim, words.lines), *words.remarks]
        data["words"] = words.as_dict()
    columns = ["runs", "hosts", "who", "cpu", "why", "costs"]
    return Sheet(
        columns,
        shown,
        data,
        records=rows,
        fields=[*columns, "security", "software", "class"],
        lines=lines,
        head=[*head, *absent(found.census), *asked_for, ""],
        foot=["", *foot],
        titles={"costs": "gives up"},
        cut=None if everything else Cut(len(rows), more="every name" if shown != rows else "", weights=list(map(_weight, rows))),
    )


def _clock(found: Baseline) -> Iterator[str]:
    """Say in a line where the guest's TSC may run at another rate after a move, as `fleet migrate` does; none where it does not."""
    from vcpuid.fleet import clocks
    from vcpuid.fleet.members import spoken

    if found.rate_kept is False:
        yield "the hosts' TSCs run at several rates, and not every KVM scales them: fleet migrate says between which hosts a guest moves"
    elif found.rate_not_told:
        yield f"not told of {spoken(found.rate_not_told)}: {clocks.NOT_TOLD}"


_DANGERS = 3
"""Hazards, and subjects of one, that are named before the rest is counted."""


def _dangers(found: Baseline) -> Iterator[str]:
    """Say in a line what `vcpuid check` warns of on some host, but for what is good to know alone, and who tells more."""
    from vcpuid.cli.check_text import by_qemu

    grave = [danger for danger in found.dangers if danger.grave]
    if not grave:
        return
    told = [
        f"{hazard.rule.severity.value} on {so_many(danger.hosts, 'host')}: {some(hazard.subjects, _DANGERS)}"
        for danger, hazard in zip(grave, by_qemu(danger.hazard for danger in grave), strict=True)
    ]
    more = [f"{len(told) - _DANGERS} more"] if len(told) > _DANGERS else []
    yield f"{'; '.join((*told[:_DANGERS], *more))} (vcpuid check of this -cpu on {grave[0].groups[0].example} tells what that does)"


_PAID = 1
"""Classes of which it is said what their guests give up, unless all is asked for."""


def _weight(row: Mapping[str, object]) -> int:
    """Say how much a class matters: most where the CPU does not run, and least where it costs nothing."""
    return 2 if row["runs"] != "yes" else bool(row["costs"])


def _spent(cost: Cost | None) -> dict[str, str]:
    return {"security": "" if cost is None else " ".join(cost.security), "software": "" if cost is None else cost.spoken}


def _paid(found: Baseline) -> Iterator[str]:
    """Say what the features that a class gives up are to its guests: mitigations, a psABI level, choices of programs."""
    for group in found.census.groups:
        cost = found.spent.get(group.kind.name)
        if cost is not None and (cost.security or cost.choices):
            flaws = [f"mitigations ({short(cost.security)})"] if cost.security else []
            yield f"{group.spoken} {'gives' if group.hosts == 1 else 'give'} up {'; '.join((*flaws, *filter(None, (cost.spoken,))))}"


def _others(found: Baseline) -> Iterator[str]:
    """Give the alternatives, the best first, each with what it costs; not those that are as good, of which nobody needs several."""
    for other, price in zip(found.alternatives, found.prices, strict=True):
        if price is None:
            yield f"else: -cpu {other.cpu}"
            continue
        lost = [f"{so_many(len(price.features), 'feature')} ({short(price.features)})"] if price.features else []
        flaws = [f"mitigations ({short(price.security)})"] if price.security else []
        differs = [same_cpu(False, other.differs)] if other.differs else []
        if costs := "; ".join((*lost, *flaws, *filter(None, (price.spoken,)), *differs)):
            yield from (f"else: -cpu {other.cpu}", f"      costs {costs}")


@click.command()
@hosts_argument
@cluster_option
@day_option
@engine_option
@all_option
@click.option("--svg", "picture", type=click.Path(), metavar="FILE", help="Draw hosts by class, and what is lost by each, too.")
@software
@format_option
def blame(
    stores: tuple[str, ...], cluster: str | None, as_of: str | None, engine: str, everything: bool, picture: str | None, asked: Asked,
    form: str,
) -> None:  # fmt: skip
    """Show which hosts lack features that others could give their guests, and the cause.

    A row's hosts are all that lack its features: without these hosts, or if they had them, a baseline could have them. What may help is
    named, a host with the same processor that has them first, and below the rows the smallest sets of hosts without which a better named
    model runs on the others. Exit status 0 where all hosts can give the same, else 1, also where that is not told of some.
    """
    found = opened(stores, engine).blame(stack_of(asked), cluster=cluster, as_of=end_of_day(as_of))
    print_warnings(found.remarks)
    if picture is not None:
        from vcpuid.fleet.figure import svg

        with replaced(picture) as output:
            for line in svg(found):
                print(line, file=output)
    emit(_blame_sheet(found, everything, asked), form)
    sys.exit(1 if found.losses or found.not_told or found.census.unread else 0)


def _unknown(found: Untold) -> dict[str, Any]:
    from vcpuid.fleet.members import hosts_of, spoken

    who, features = spoken(found.groups), " ".join(found.features)
    return {"hosts": hosts_of(found.groups), "who": who, "features": features, "party": None, "why": found.why, "mends": ""}


_HELPS = {"mends": "what helps"}


def _blame_sheet(found: Blame, everything: bool, asked: Asked) -> Sheet:
    from vcpuid.fleet.software import on_which

    rows = [
        {
            "hosts": loss.hosts,
            "who": loss.who,
            "features": " ".join(loss.features),
            "party": loss.party,
            "why": loss.why,
            "mends": "; or ".join(loss.mends),
        }
        for loss in found.losses
    ]
    open_ = [_unknown(unknown) for unknown in found.not_told]
    every = [*rows, *open_]
    shown = every if everything else [{**row, "features": some(row["features"].split())} for row in every]
    of_any = f", any of them {found.offered}" if found.census.hosts > 1 else ""
    who = all_hosts(found.census.hosts)
    head = [
        f"{who[0].upper()}{who[1:]} can give {so_many(found.shared, 'feature')}{of_any}.",
        on_which(found.setups),
        *absent(found.census),
        "",
    ]
    foot = [_won(win, found.census.hosts) for win in found.wins]
    columns = ["hosts", "who", "features", "party", "why", "mends"]
    below = ["", *foot] if foot else []
    cut = None if everything else Cut(len(every), more="every name" if shown != every else "")
    return Sheet(columns, shown, found.as_dict(), records=every, titles=LAYER | _HELPS, head=head, foot=below, null=NOT_TOLD, cut=cut)


def _won(win: Win, hosts: int) -> str:
    """Say what leaving or mending wins."""
    level = f", x86-64-v{win.level}" if win.level > 1 else ""
    others = so_many(hosts - win.hosts, "host").removeprefix("1 ")
    than = f"{so_many(win.more, 'feature')} more than {win.than}, the best on all now" if win.than else "on all none does now"
    rest = f"{win.model} runs as it is on the other {others}: {than}{level}"
    return f"Without {win.who}, or if {'it' if win.hosts == 1 else 'they'} had {short(win.lacks)}, {rest}"


@click.command()
@hosts_argument
@cluster_option
@day_option
@engine_option
@click.option("--all", "every", is_flag=True, help="List deprecated models too, and those that run on no host.")
@software
@format_option
def models(stores: tuple[str, ...], cluster: str | None, as_of: str | None, engine: str, every: bool, asked: Asked, form: str) -> None:
    """List QEMU's named models, best first: on how many hosts each runs as it is, and who lacks what of the others.

    The best is that of the most hosts, of those the one with the most features. JSON, JSON lines and CSV have all models, class by class.
    Exit status 0 where some model that is not deprecated runs on all hosts, else 1.
    """
    from vcpuid.fleet.software import remarks

    found = opened(stores, engine).models(stack_of(asked), cluster=cluster, as_of=end_of_day(as_of))
    print_warnings(remarks(found.census, found.setups))
    emit(_models_sheet(found, every, asked), form)
    sys.exit(0 if not found.census.unread and any(model.runs and not model.deprecated for model in found.models) else 1)


def _models_sheet(found: NamedModels, every: bool, asked: Asked) -> Sheet:
    from vcpuid.fleet.software import on_which

    listed = [model for model in found.models if every or ((model.hosts or model.runs is None) and not model.deprecated)]
    rows = [
        {"model": model.name, "called": " ".join(model.aliases), "hosts": f"{model.hosts} of {found.census.hosts}",
         "features": model.features, "deprecated": model.deprecated, "lacks": found.who(model)}
        for model in listed
    ]  # fmt: skip
    records = [
        {"model": model.name, "deprecated": model.deprecated, "features": model.features, **one.as_dict()}
        for model in found.models
        for one in model.classes
    ]
    columns = ["model", "called", "hosts", "features", *(["deprecated"] if every else []), "lacks"]
    number = sum(model.runs is True and not model.deprecated for model in found.models)
    head = [f"Models that run on {all_hosts(found.census.hosts)}: {number}.", on_which(found.setups), *absent(found.census), ""]
    return Sheet(
        columns,
        rows,
        found.as_dict(),
        records=records,
        fields=["model", "deprecated", "features", "class", "hosts", "who", "runs", "missing"],
        lines=[f"{model.name} {model.hosts} {found.census.hosts}" for model in listed],
        head=head,
        cut=None if every else Cut(len(listed), len(found.models), "models", "the rest, also those that are deprecated or run on no host"),
    )
