"""vcpuid fleet baseline, blame: one CPU for many hosts, and who costs what."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from vcpuid.cli import choices
from vcpuid.cli.fleet_options import (
    NOT_TOLD,
    absent,
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
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import Asked, print_warnings, words_option

if TYPE_CHECKING:
    from vcpuid.fleet.baseline import Baseline
    from vcpuid.fleet.blame import Blame, Untold


@click.command()
@store_argument
@cluster_option
@day_option
@engine_option
@click.option("--require", multiple=True, metavar="FEATURE", shell_complete=choices.features, help="A feature that the guest must have.")
@words_option
@software
@format_option
def baseline(
    store: str, cluster: str | None, as_of: str | None, engine: str, require: tuple[str, ...], manager: str | None, asked: Asked, form: str
) -> None:
    """Find the best -cpu that runs on every host and is the same CPU on all, so that guests move freely.

    QEMU and machine type are the same on all hosts (the newest QEMU unless --qemu says another); the kernel is each host's own. Each class
    proves it: QEMU gives all that is asked for, without a warning, and the guest's table is the same. Exit status 0 where all do, else 1,
    also where that is not told of some host or one cannot be read.
    """
    found = opened(store, engine).baseline(stack_of(asked), cluster=cluster, as_of=end_of_day(as_of), require=require)
    print_warnings(found.remarks)
    emit(_baseline_sheet(found, manager), form)
    sys.exit(0 if found.runs and found.alike else 1)


def _baseline_sheet(found: Baseline, manager: str | None) -> Sheet:
    from vcpuid.fleet.proof import running

    setup = found.setups[0]
    rows = [
        {
            "runs": {True: "yes", False: "no", None: NOT_TOLD}[proof.runs],
            "hosts": proof.group.hosts,
            "who": proof.group.spoken,
            "cpu": proof.group.cpu,
            "why": proof.why or "",
            "costs": " ".join(found.costs.get(proof.group.kind.name, ())),
            "class": proof.group.kind.name,
        }
        for proof in found.proofs
    ]
    shown = [{**row, "costs": short(str(row["costs"]).split())} for row in rows]
    if found.cpu is None:
        head = [f"No model of QEMU {setup.vmm} can be made to run on all {found.census.hosts} hosts."]
    else:
        level = f", x86-64-v{found.level}" if found.level > 1 else ""
        head = [
            f"-cpu {found.cpu}",
            f"runs on {running(found.proofs)} of {found.census.hosts} hosts with QEMU {setup.vmm}, {setup.machine}; "
            f"{same_cpu(found.alike, found.differs)}{level}",
        ]
    refused = [f"{group.spoken}: {why}" for group, why in found.refused]
    foot = [*refused, *absent(found.census), *(f"else: -cpu {other.cpu}" for other in found.alternatives)]
    data = found.as_dict()
    lines = [found.cpu] if found.cpu else []
    if manager is not None and found.cpu is not None:
        from vcpuid.answers.in_words import in_words
        from vcpuid.qemu.catalog import catalog

        words = in_words(found.cpu, manager, catalog(setup.vmm.tables))
        lines = list(words.lines)
        foot += ["", *words.lines, *words.remarks]
        data["words"] = words.as_dict()
    columns = ["runs", "hosts", "who", "cpu", "why", "costs"]
    return Sheet(
        columns, shown, data, records=rows, fields=[*columns, "class"], lines=lines, head=[*head, ""], foot=["", *foot] if foot else []
    )


@click.command()
@store_argument
@cluster_option
@day_option
@engine_option
@click.option("--all", "every", is_flag=True, help="Print all rows, and not those of the fewest hosts alone.")
@software
@format_option
def blame(store: str, cluster: str | None, as_of: str | None, engine: str, every: bool, asked: Asked, form: str) -> None:
    """Tell who costs which features: those that some hosts could give their guests and others lack, with the cause.

    A row's hosts are all that lack its features: were they mended, or did they leave, a baseline could have them. Exit status 0 where all
    hosts can give the same, else 1, also where that is not told of some.
    """
    found = opened(store, engine).blame(stack_of(asked), cluster=cluster, as_of=end_of_day(as_of))
    print_warnings(found.remarks)
    emit(_blame_sheet(found, every), form)
    sys.exit(1 if found.losses or found.not_told or found.census.unread else 0)


_ROWS = 20


def _unknown(found: Untold) -> dict[str, Any]:
    from vcpuid.fleet.members import hosts_of, spoken

    who, features = spoken(found.groups), " ".join(found.features)
    return {"hosts": hosts_of(found.groups), "who": who, "features": features, "party": None, "why": found.why}


def _blame_sheet(found: Blame, every: bool) -> Sheet:
    rows = [
        {
            "hosts": loss.hosts,
            "who": loss.who,
            "features": " ".join(loss.features),
            "party": loss.party,
            "why": loss.why,
        }
        for loss in found.losses
    ]
    open_ = [_unknown(unknown) for unknown in found.not_told]
    shown = [*(rows if every else rows[:_ROWS]), *open_]
    head = [f"All {found.census.hosts} hosts can give {found.shared} features, any of them {found.offered}.", ""]
    more = 0 if every else len(rows) - _ROWS
    foot = [*([f"{more} more rows, of more hosts each: --all"] if more > 0 else []), *absent(found.census)]
    columns = ["hosts", "who", "features", "party", "why"]
    below = ["", *foot] if foot else []
    return Sheet(columns, shown, found.as_dict(), records=[*rows, *open_], fields=columns, head=head, foot=below, null=NOT_TOLD)
