"""What the verbs of `vcpuid fleet` share: the store and the options that choose hosts and software, and words for cells."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.setup import Asked, stack_options
from vcpuid.cli.short import so_many
from vcpuid.cli.streams import tell
from vcpuid.errors import InputError
from vcpuid.setup import Stack

if TYPE_CHECKING:
    from vcpuid.fleet import Fleet
    from vcpuid.fleet.members import Census

SHOWN = 8
"""Names that a cell of a table takes before it counts the rest."""

STORES = (".duckdb", ".parquet")
"""How the names of stores that keep the history end."""

hosts_argument = click.argument("stores", metavar="STORE|HOST...", nargs=-1, required=True, type=click.Path(), shell_complete=choices.hosts)
"""A store, or the snapshots of the hosts themselves."""
store_argument = click.argument("store", metavar="STORE", type=click.Path())
cluster_option = click.option("--cluster", metavar="NAME", help="Ask about this cluster alone.")
day_option = click.option("--as-of", "as_of", metavar="DAY", help="Ask about the end of this day (2026-11-29), UTC; a store alone knows.")
engine_option = click.option(
    "--engine", default="duckdb", show_default=True, metavar="ENGINE", shell_complete=choices.engines,
    help="What answers from a store: duckdb, or for a NAME.parquet spark, where its own settings say, or spark:MASTER "
    "(pip install 'vcpuid[spark]').",
)  # fmt: skip
software = stack_options("what_if")


def end_of_day(text: str | None, option: str = "--as-of") -> int | None:
    """Return the last second of a day; None where no day is named."""
    if text is None:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InputError(f"{option} {text[:40]!r} is no day such as 2026-11-29") from None
    return int(day.timestamp()) + 86399


def moment(seconds: int) -> str:
    """Write a time, in seconds since 1970, as people do."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def opened(store: str | tuple[str, ...], engine: str = "duckdb") -> Fleet:
    """Open the fleet that STORE names, or that of several HOSTs, for an engine to answer from; raises InputError as `vcpuid.fleet.open`."""
    from vcpuid import fleet
    from vcpuid.formats.absent import or_near

    places = (store,) if isinstance(store, str) else store
    for place in places:
        if not (os.path.exists(place) or place.endswith(STORES)):
            cause = "no such file or folder" if len(places) > 1 else f"no such folder, and a store's name ends in {' or '.join(STORES)}"
            raise InputError(or_near(cause, place), source=place)
        if len(places) > 1 and place.endswith(STORES):
            raise InputError("a store is asked about alone", source=place)
    if len(places) > 1:
        return fleet.open(places)
    (store,) = places
    if engine == "duckdb":
        return fleet.open(store, told=so_far)
    name, colon, master = engine.partition(":")
    if name != "spark" or (colon and not master):
        raise InputError(f"--engine {engine[:40]!r} is none of duckdb, spark and spark:MASTER")
    from vcpuid.fleet.engines import spark_session

    return fleet.open(store, spark_session(master if master[:2] != "//" else engine) if colon else spark_session())


def so_far(number: int) -> None:
    """Say how many files are read."""
    tell(f"{number} files read")


def stack_of(asked: Asked) -> Stack:
    """Name the software: kernel and QEMU are each host's own, unless the command line says otherwise.

    Nobody knows of all hosts whether they ran with a parameter that is named: it is asked what would be with it.
    """
    return Stack(asked.kernel, asked.qemu, asked.machine, asked.smp, asked.params, bool(asked.params), asked.globals)


def short(names: Iterable[str]) -> str:
    """Name the first, and count the rest."""
    given = list(names)
    more = len(given) - SHOWN
    return " ".join(given[:SHOWN]) + (f" and {more} more" if more > 0 else "")


LAYER = {"party": "layer"}
"""What people read in place of the name that a column has for programs."""

NOT_TOLD = "not told"
"""What stands in a table and in CSV for what is null in JSON: a blank says nothing of why it is one."""


def same_cpu(alike: bool | None, differs: Iterable[str]) -> str:
    """Say whether a guest's CPU is the same on all."""
    if alike is None:
        return "whether it is the same CPU on all is not told"
    return "the same CPU on all" if alike else f"not the same CPU on all: {short(differs)}"


def absent(census: Census) -> list[str]:
    """Say in a line who is a member and could not be read, and why; none where all could."""
    return [f"{so_many(len(census.unread), 'host')} could not be read: {census.who_is_missing}"] if census.unread else []


def all_hosts(hosts: int) -> str:
    """Say that it is about all hosts."""
    return "the one host" if hosts == 1 else f"all {hosts} hosts"
