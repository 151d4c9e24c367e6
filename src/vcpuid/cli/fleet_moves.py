"""vcpuid fleet migrate, drift: what moves where, and what an upgrade changes on many hosts."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from vcpuid.cli import choices
from vcpuid.cli.demands import demand
from vcpuid.cli.domain import WITHOUT_DOMAIN, domain_option, libvirt_option, named, one_cpu, read_file
from vcpuid.cli.examples import lacking
from vcpuid.cli.fleet_options import (
    LAYER,
    NOT_TOLD,
    SHOWN,
    STORES,
    absent,
    all_hosts,
    cluster_option,
    day_option,
    end_of_day,
    engine_option,
    opened,
    same_cpu,
    short,
    software,
    stack_of,
    store_argument,
)
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import Asked, print_warnings, stack_options, typed
from vcpuid.cli.short import Cut, some
from vcpuid.errors import InputError
from vcpuid.setup import Stack

if TYPE_CHECKING:
    from vcpuid.answers.drift import Guessed, Register
    from vcpuid.fleet.members import Group
    from vcpuid.fleet.moves import Circles, Move
    from vcpuid.fleet.upgrade import Upgrade

_DIFFERING = 3
"""Differences of a kind that are named before the rest is counted: registers with their numbers are long."""


@click.command()
@click.argument("places", metavar="STORE [A B]|HOST...", nargs=-1, required=True, type=click.Path(), shell_complete=choices.hosts)
@click.option(
    "--cpu", default="host", show_default=True, metavar="CPU", shell_complete=choices.cpus, help="The guest's CPU, as QEMU's -cpu takes it."
)
@domain_option
@libvirt_option
@cluster_option
@day_option
@engine_option
@all_option
@software
@format_option
@demand(one_cpu)
def migrate(
    places: tuple[str, ...],
    cpu: str,
    domain: str | None,
    libvirt_release: str | None,
    cluster: str | None,
    as_of: str | None,
    engine: str,
    everything: bool,
    asked: Asked,
    form: str,
) -> None:
    """Check whether a guest can move from host A to host B; without them, between which hosts it moves freely.

    STORE is as for `vcpuid fleet`, and A and B are hosts in it. The HOSTs' snapshots may be named instead: of two, as in vcpuid fleet
    migrate a.txt b.txt, the first is A and the second B; of more, all are asked about.

    QEMU compares nothing when a guest arrives. So there are three answers: yes, where the guest's CPU is the same on both; refused, by
    whom and in which words; unsafe, where it is accepted and is another CPU from then on. libvirt, which is asked of a --domain, wants the
    features to be the same, and looks at no numbers such as XSAVE's offsets. Exit status 0 for yes, else 1.
    """
    stores, origin, target = _places(places)
    if origin is not None and cluster is not None:
        raise click.UsageError("--cluster is asked of all hosts, and two are named: CLUSTER/HOST names one of a cluster")
    fleet, stack = opened(stores, engine), stack_of(asked)
    if origin is not None and target is not None:
        if domain is None:
            found = fleet.migrate(origin, target, cpu, stack, as_of=end_of_day(as_of))
        else:
            name, xml = read_file(domain)
            with named(name):
                found = fleet.migrate_domain(origin, target, xml, stack, libvirt=libvirt_release, as_of=end_of_day(as_of))
        print_warnings(_of_hosts(remark, origin, target) for remark in found.remarks)
        other = [] if domain is not None or found.outcome == "yes" else _another_cpu(stores, None)
        emit(_move_sheet(found, cpu if domain is None else None, origin, target, everything, other), form)
        sys.exit(0 if found.outcome == "yes" else 1)
    if domain is not None:
        raise click.UsageError("--domain is asked of two hosts: give both")
    parted = fleet.circles(cpu, stack, cluster=cluster, as_of=end_of_day(as_of))
    print_warnings(parted.remarks)
    free = len(parted.circles) == 1 and not parted.refused and not parted.not_told
    emit(_circles_sheet(parted, cpu, everything, [] if free else _another_cpu(stores, cluster)), form)
    sys.exit(0 if free and not parted.census.unread else 1)


_COPIED = 3
"""Names of files in a command that is printed to be copied."""


def _another_cpu(stores: tuple[str, ...], cluster: str | None) -> list[str]:
    """Lead to the verb that finds a CPU which moves, where none was named: that of the host is another one on each."""
    if typed("--cpu"):
        return []
    if len(stores) > _COPIED:
        return ["", "No --cpu is named; vcpuid fleet baseline of the same hosts finds one that moves freely."]
    words = (*stores, *(() if cluster is None else ("--cluster", cluster)))
    return ["", f"No --cpu is named; one that moves freely is found by: vcpuid fleet baseline {shlex.join(words)}"]


def _places(places: tuple[str, ...]) -> tuple[tuple[str, ...], str | None, str | None]:
    """Tell the store, or the snapshots that stand for one, and which hosts are A and B; of more than two nobody is."""
    if len(places) > 1 and all(os.path.isfile(place) and not place.endswith(STORES) for place in places):
        return (places, places[0], places[1]) if len(places) == 2 else (places, None, None)
    store, *hosts = places
    if len(places) > 1 and not os.path.exists(store) and (os.path.isdir(hosts[-1]) or hosts[-1].endswith(STORES)):
        raise click.UsageError(f"the store comes before the hosts: vcpuid fleet migrate {shlex.join((hosts[-1], store, *hosts[:-1]))}")
    if len(hosts) not in (0, 2):
        raise click.UsageError("give both hosts, or neither to ask about all")
    return ((store,), hosts[0], hosts[1]) if hosts else ((store,), None, None)


def _of_hosts(text: str, a: str, b: str) -> str:
    """Name the hosts in what is said of A or of B."""
    names = {"A": a, "B": b}
    return names[text[0]] + text[1:] if text[:3] in ("A's", "B's") or text[:2] in ("A:", "B:") else text


def _move_sheet(found: Move, cpu: str | None, a: str, b: str, everything: bool, other: list[str]) -> Sheet:
    from vcpuid.fleet.software import on_which
    from vcpuid.told.facts import listed

    by = None if found.by is None else _of_hosts(found.by, a, b)
    told = {
        "yes": f"yes: the guest's CPU is the same on {a} and on {b}",
        "refused": f"refused: {by} says: {found.words}",
        "unsafe": f"unsafe: {b} takes the guest, and it has another CPU there",
        "not told": "not told: it depends on what the hosts do not tell",
    }[found.outcome]
    outcome = {"outcome": found.outcome, "by": by or "", "words": found.words or ""}
    rows = [{**outcome, "what": one.kind, "differs": " ".join(one.names), "harm": one.harm} for one in found.differences]
    brief = [{**row, "differs": some(one.names, _DIFFERING)} for row, one in zip(rows, found.differences, strict=True)]
    shown = rows if everything else brief
    records = rows or [{**outcome, "what": "", "differs": "", "harm": ""}]
    open_ = [f"Not told: {one.what}{f': depends on {listed(one.depends)}' if one.depends else ''}" for one in found.not_told[:SHOWN]]
    data = {"schema": "vcpuid/fleet-migrate/1", "cpu": cpu, "move": {"from": a, "to": b, **found.as_dict()}, "all": None}
    lines = [f"{found.outcome} {by or ''} {found.words or ''}".rstrip(), *(f"{row['what']}: {row['differs']}" for row in rows)]
    columns = ["what", "differs", "harm"]
    return Sheet(
        columns,
        shown,
        data,
        records=records,
        fields=["outcome", "by", "words", *columns],
        lines=lines,
        head=[told, ", ".join((on_which(found.setups), *(() if cpu is None else (f"-cpu {cpu}",)))), *([""] if rows else [])],
        foot=[*other, "", *open_],
        cut=None if everything else Cut(len(rows), more="every difference" if shown != rows else ""),
    )


def _circles_sheet(found: Circles, cpu: str, everything: bool, other: list[str]) -> Sheet:
    from vcpuid.fleet.members import spoken
    from vcpuid.fleet.software import on_which

    rows = [
        {"circle": number, "hosts": circle.hosts, "who": spoken(circle.groups), "cpu": circle.groups[0].cpu, "why": ""}
        for number, circle in enumerate(found.circles, 1)
    ]
    for what, groups in (("refused", found.refused), ("not told", found.not_told)):
        rows += [{"circle": what, "hosts": group.hosts, "who": group.spoken, "cpu": group.cpu, "why": words} for group, words in groups]
    columns = ["circle", "hosts", "who", "cpu", "why"]
    head = [_freely(found), f"{on_which(found.setups)}, -cpu {cpu}", *absent(found.census), ""]
    data = {"schema": "vcpuid/fleet-migrate/1", "cpu": cpu, "move": None, "all": found.as_dict()}
    return Sheet(columns, rows, data, head=head, foot=other, titles={"circle": "group"}, cut=None if everything else Cut(len(rows)))


def _freely(found: Circles) -> str:
    """Say in a sentence where a guest moves freely."""
    apart = len(found.refused) + len(found.not_told)
    if sum(circle.hosts for circle in found.circles) < 2:
        if found.not_told:
            return "Not told: whether such a guest moves between any two of the hosts."
        return "Such a guest moves between no two of the hosts." if apart else "One host alone starts such a guest."
    if len(found.circles) == 1:
        which = "the hosts of group 1" if apart else all_hosts(found.census.hosts)
        return f"A guest moves freely between {which}."
    return (
        f"A guest moves freely within each of {len(found.circles)} groups of hosts; "
        "QEMU also takes it from one group to another, but its CPU changes on the way."
    )


def _changed(register: Register) -> str:
    return f"{register.word} {register.before:#x} → {register.after:#x}"


def _two_sides(params: Mapping[str, Any]) -> None:
    if not (params["before"] or params["after"]):
        raise lacking("give --from or --to: what the two sides differ in")


@click.command()
@store_argument
@click.option(
    "--from", "before", metavar="STACK", default="", shell_complete=choices.stacks,
    help="What the hosts run now, where it is not their own kernel and QEMU: kernel=RELEASE, qemu=RELEASE, machine=TYPE and "
    "parameters, joined by commas.",
)  # fmt: skip
@click.option("--to", "after", metavar="STACK", default="", shell_complete=choices.stacks, help="What they will run, likewise.")
@click.option(
    "--cpu", metavar="CPU", shell_complete=choices.cpus, help="The guest's CPU, as QEMU's -cpu takes it.  [default: the baseline]"
)
@cluster_option
@day_option
@engine_option
@all_option
@stack_options("kernel", "qemu", "what_if")
@format_option
@demand(_two_sides)
def drift(
    store: str, before: str, after: str, cpu: str | None, cluster: str | None, as_of: str | None, engine: str, everything: bool,
    asked: Asked, form: str,
) -> None:  # fmt: skip
    """Show what an upgrade changes for a guest on every host, and whether its CPU still runs on all and is still the same on all.

    Without --cpu it is the baseline before the upgrade. What --from or --to does not name is the same on both sides. Exit status 0 where
    nothing changes for a guest, registers included, and it runs on every host, else 1.
    """
    from vcpuid.cli.drift import named_stack
    from vcpuid.fleet.upgrade import both_sides

    sides = {option: named_stack(asked, option, stack) for option, stack in (("--from", before), ("--to", after))}
    print_warnings(
        f"{option} libvirt={release} has no effect: {WITHOUT_DOMAIN}" for option, (_, release) in sides.items() if release is not None
    )
    one, other = (stack_of(chosen) for chosen, _ in sides.values())
    fleet, day = opened(store, engine), end_of_day(as_of)
    both_sides(fleet.census(cluster, day), one, other)  # before a baseline is looked for in vain
    if cpu is None:
        cpu = fleet.baseline(one, cluster=cluster, as_of=day).cpu
        if cpu is None:
            raise InputError("no baseline can be made for these hosts before the upgrade: give --cpu")
    found = fleet.drift(cpu, one, other, cluster=cluster, as_of=day)
    print_warnings(found.remarks)
    emit(_drift_sheet(found, one, other, everything), form)
    sys.exit(0 if found.settled else 1)


def _drift_sheet(found: Upgrade, before: Stack, after: Stack, everything: bool) -> Sheet:
    from vcpuid.fleet.members import spoken
    from vcpuid.fleet.upgrade import FROM, TO, stack

    rows = [
        {
            "change": shift.change,
            "hosts": shift.hosts,
            "who": spoken(shift.groups),
            "features": " ".join(shift.features),
            "party": shift.party,
            "why": shift.why,
        }
        for shift in found.shifts
    ]
    rows += [
        {
            "change": "other",
            "hosts": one.hosts,
            "who": spoken(one.groups),
            "features": "",
            "party": " ".join(dict.fromkeys(by for register in one.registers for by in (register.before_by, register.after_by) if by)),
            "why": f"{one.what}: {some([_changed(register) for register in one.registers], _DIFFERING)}",
        }
        for one in found.registers
    ]
    runs = {
        True: "It runs on all of them then",
        False: "It does not run on all of them then",
        None: "Whether it runs on all then is not told",
    }
    alike = f"; {same_cpu(found.alike, found.differs)}" if found.runs else ""
    told = ", as far as they tell" if found.not_told else ""
    head = [
        f"For {found.same} of {found.census.hosts} hosts nothing changes for a guest{told}. {runs[found.runs]}{alike}.",
        f"before: {stack(found.before, FROM)}",
        f"after:  {stack(found.after, TO)}",
        f"-cpu {found.cpu}",
        *absent(found.census),
    ]
    foot = [f"{one.when}: {one.group.spoken} refuses it: {one.words.splitlines()[0]}" for one in found.refused]
    guessed: dict[Guessed, list[Group]] = {}
    for unknown in found.not_told:
        for program in unknown.software:
            guessed.setdefault(program, []).append(unknown.group)
    said = [one.sentence(spoken(groups)) for one, groups in guessed.items()]
    foot += [f"{sentence[0].upper()}{sentence[1:]}" for sentence in said]
    if silent := dict.fromkeys(unknown.group.spoken for unknown in found.not_told if unknown.features or unknown.depends):
        foot.append(f"Not told of all of a guest's CPU: {short(silent)}")
    foot += [f"{proof.group.spoken}: {proof.why}" for proof in found.proofs if proof.runs is not True and proof.why]
    columns = ["change", "hosts", "who", "features", "party", "why"]
    shown = rows if everything else [{**row, "features": some(str(row["features"]).split())} for row in rows]
    return Sheet(
        columns,
        shown,
        found.as_dict(),
        records=rows,
        titles=LAYER,
        head=[*head, *([""] if rows else [])],
        foot=["", *foot] if foot else [],
        null=NOT_TOLD,
        cut=None if everything else Cut(len(rows), more="every name" if shown != rows else ""),
    )
