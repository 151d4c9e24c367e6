"""vcpuid fleet collect: snapshots of many hosts, asked for by ssh."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from vcpuid.cli.examples import lacking
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import print_warnings
from vcpuid.cli.short import so_many
from vcpuid.cli.streams import tell
from vcpuid.errors import InputError

if TYPE_CHECKING:
    from vcpuid.fleet.collect import Collected, HostAnswer
    from vcpuid.fleet.targets import Target

_EVERY = 2.0
"""Seconds between two words on how far it has come."""


@click.command(name="collect")
@click.argument("store", metavar="STORE", type=click.Path())
@click.argument("hosts", metavar="HOST|@FILE…", nargs=-1)
@click.option("--inventory", metavar="FILE", type=click.Path(), help="Ask the hosts of this inventory of Ansible's; a group is a cluster.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Of the inventory ask this group alone, with those within it.")
@click.option("--cluster", metavar="NAME", help="The cluster that all of them are in.  [default: the inventory's group]")
@click.option("--jobs", type=click.IntRange(1, 256), default=16, show_default=True, metavar="N", help="Hosts that are asked at a time.")
@click.option(
    "--timeout", type=click.IntRange(1, 86400), default=60, show_default=True, metavar="SECONDS",
    help="How long a host may take, from the connection to the last line.",
)  # fmt: skip
@click.option("--ssh", default="ssh", show_default=True, metavar="COMMAND", help="The command that reaches a host, with its options.")
@click.option("--sudo", is_flag=True, help="Be root there (sudo -n), who alone may read the hardware's MSRs.")
@format_option
def command(
    store: str, hosts: tuple[str, ...], inventory: str | None, groups: tuple[str, ...], cluster: str | None, jobs: int, timeout: int,
    ssh: str, sudo: bool, form: str,
) -> None:  # fmt: skip
    """Ask hosts for a snapshot each, by your own ssh, and keep what comes in STORE.

    HOST is what ssh takes: user@host, a name of ~/.ssh/config, ssh://user@host:port; @FILE lists such, one a line. A host runs the
    stand-alone collector with its python3 (3.8 or newer), and nothing is installed there. ssh asks nothing (BatchMode): keys and known
    hosts are to be in order.

    --inventory reads the INI form, and what `ansible-inventory --list` prints, which is how YAML and inventories of programs come in. A
    host's cluster is the first group that lists it, or the --group.

    In a folder, which is made where there is none, a host is CLUSTER/HOST.txt, there as soon as it has answered. A store NAME.duckdb takes
    all that came at the end, in one transaction; after a Ctrl-C too.

    Who did not answer is told at the end, with ssh's or the collector's last line, and then the exit status is 1.
    """
    if groups and inventory is None:
        raise click.UsageError("--group is about an --inventory")
    if not hosts and inventory is None:
        raise lacking("name a HOST, an @FILE or an --inventory")
    from vcpuid.fleet.collect import collect
    from vcpuid.fleet.remote import Way
    from vcpuid.fleet.targets import distinct

    asked = distinct(_targets(hosts, inventory, groups, cluster))
    if not asked:
        raise InputError("there is nobody to ask: no host is listed")
    progress = _Progress(len(asked))
    found = collect(store, asked, Way(ssh, sudo, jobs, timeout), progress.hear)
    print_warnings(found.remarks)
    print_warnings(f"{_of_hosts(names)}: {note}" for note, names in found.notes.items())
    emit(_sheet(found), form)
    sys.exit(1 if found.unanswered else 0)


def _targets(hosts: Iterable[str], inventory: str | None, groups: tuple[str, ...], cluster: str | None) -> Iterable[Target]:
    from vcpuid.fleet.inventory import read_inventory
    from vcpuid.fleet.targets import checked, targets

    yield from targets(hosts, cluster or "")
    if inventory is not None:
        found = read_inventory(inventory)
        print_warnings(found.remarks())
        yield from (one if cluster is None else checked(one._replace(cluster=cluster)) for one in found.targets(groups))


class _Progress:
    """Tells at once who did not answer, and now and then how many have."""

    def __init__(self, asked: int) -> None:
        self._asked, self._heard, self._silent = asked, 0, 0
        self._told = time.monotonic()

    def hear(self, answer: HostAnswer) -> None:
        self._heard += 1
        if answer.why:
            self._silent += 1
            tell(f"{self._heard} of {self._asked}: {answer.target.spoken} did not answer: {answer.why}")
        elif time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            tell(f"{self._heard} of {self._asked}, {self._silent} of them without an answer")


def _of_hosts(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} hosts ({min(names)} and others)"


def _sheet(found: Collected) -> Sheet:
    silent = found.unanswered
    rows = [
        {"name": one.target.name, "cluster": one.target.cluster, "address": one.target.address, "why": one.why} for one in silent
    ]  # fmt: skip
    answered = [answer.kind.id for answer in found.answers if answer.kind is not None]
    head = [f"{len(answered)} of {len(found.answers)} hosts answered; they are of {so_many(len(set(answered)), 'class')}."]
    if found.added is not None and found.added.changed:
        head.append(f"{len(found.added.changed)} of them are of another class than before: {' '.join(found.added.changed[:8])}")
    if silent:
        head += ["", f"{len(silent)} did not answer:"]
    columns = ["name", "cluster", "address", "why"]
    return Sheet(columns, rows, found.as_dict(), lines=[one.target.address for one in silent], head=head)
