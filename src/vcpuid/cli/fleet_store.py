"""vcpuid fleet add, remove, copy, classes, history, changes: what is kept of many hosts."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from vcpuid.cli.fleet_options import (
    NOT_TOLD,
    absent,
    cluster_option,
    day_option,
    end_of_day,
    engine_option,
    moment,
    opened,
    short,
    so_far,
    store_argument,
)
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.short import Cut, so_many
from vcpuid.cli.streams import tell
from vcpuid.errors import InputError, VcpuidError


@click.command()
@store_argument
@click.argument("sources", metavar="FILE|FOLDER…", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--cluster", metavar="NAME", help="The cluster that all of them are in.  [default: the folder within FOLDER]")
@click.option("--seen", metavar="TIME", help="When they were seen (2026-11-29, or 2026-11-29T14:30:00), UTC.  [default: the file's time]")
@format_option
def add(store: str, sources: tuple[str, ...], cluster: str | None, seen: str | None, form: str) -> None:
    """Add hosts to a store: a snapshot, or another program's dump, is a host, called like its file.

    All are added or none; what is there already is not added twice. Files that cannot be read are named, and are no reason to leave the
    others out; then the exit status is 1.
    """
    from vcpuid.fleet.adding import Visit
    from vcpuid.fleet.folder import cause, host_name, members
    from vcpuid.fleet.reading import readings

    when = _time(seen)
    visits, unread, seen_in = list[Visit](), list[dict[str, str]](), dict[tuple[str, str], Path]()
    for place, path, kind in readings(members(map(Path, sources)), " ".join(sources)[:60], so_far):
        if isinstance(kind, VcpuidError):
            unread.append({"file": str(path), "why": cause(kind)})
            continue
        host = (place if cluster is None else cluster, host_name(path))
        if host in seen_in:
            unread.append({"file": str(path), "why": f"{seen_in[host]} is of the same host"})
            continue
        try:
            time = int(path.stat().st_mtime) if when is None else when
        except OSError as error:  # it is gone by now
            unread.append({"file": str(path), "why": error.strerror or str(error)})
            continue
        seen_in[host] = path
        visits.append(Visit(*host, time, kind))
    for row in unread:
        tell(f"{row['file']}: {row['why']}", error=True)
    added = opened(store).add_all(visits)
    told = f"{so_many(added.hosts, 'host')} of {so_many(added.classes, 'class')}; {_new(len(added.new), added.classes)}."
    changes = f"Of another class than before: {so_many(len(added.changed), 'host')} ({short(added.changed)})." if added.changed else ""
    data = {
        "schema": "vcpuid/fleet-add/1",
        "hosts": added.hosts,
        "classes": added.classes,
        "new": list(added.new),
        "changed": list(added.changed),
        "unread": unread,
    }
    emit(
        Sheet(
            ["changed"],
            [],
            data,
            records=[{"changed": name} for name in added.changed],
            lines=list(added.changed),
            head=[told, *([changes] if changes else [])],
        ),
        form,
    )
    sys.exit(1 if unread else 0)


def _new(number: int, of: int) -> str:
    """Say how many of the classes are new."""
    if of == 1:
        return f"the store {'did not know it' if number else 'knows it already'}"
    every = {0: "the store knows all of them already", of: "all of them are new to the store"}
    return every.get(number, f"{number} of them {'is' if number == 1 else 'are'} new to the store")


def _time(text: str | None, option: str = "--seen") -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} {text[:40]!r} is no time such as 2026-11-29 or 2026-11-29T14:30:00") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not 1970 < moment.year < 9999:
        raise InputError(f"{option} {text[:40]!r} is no time at which a host with KVM was seen")
    return int(moment.timestamp())


@click.command()
@store_argument
@cluster_option
@day_option
@engine_option
@all_option
@format_option
def classes(store: str, cluster: str | None, as_of: str | None, engine: str, everything: bool, form: str) -> None:
    """List the classes of hosts: all in one are the same to every rule.

    Exit status 1 where a member cannot be read.
    """
    census = opened(store, engine).census(cluster, end_of_day(as_of))
    told = [group.as_dict() for group in census.groups]
    data = {"schema": "vcpuid/fleet-classes/1", **census.as_dict(), "classes": told}
    columns = ["class", "hosts", "who", "cpu", "microcode", "kernel", *(["qemu"] if any(row["qemu"] for row in told) else [])]
    head = [f"{so_many(census.hosts, 'host')} of {so_many(len(told), 'class')}.", *absent(census), ""]
    cut = None if everything else Cut(len(told), what="classes")
    emit(Sheet(columns, told, data, head=head, null=NOT_TOLD, cut=cut), form)
    sys.exit(1 if census.unread else 0)


@click.command()
@store_argument
@click.argument("host", metavar="HOST")
@engine_option
@all_option
@format_option
def history(store: str, host: str, engine: str, everything: bool, form: str) -> None:
    """Show the classes that a host of a store has had, and what changed from one to the next."""
    from vcpuid.fleet.history import of_host

    found = of_host(opened(store, engine), host)
    rows = [
        {"first_seen": moment(one.first), "last_seen": moment(one.last), "class": None if one.id is None else f"{one.id:016x}",
         "cluster": one.cluster,
         "changed": "; ".join(one.changes)}
        for one in found
    ]  # fmt: skip
    columns = ["first_seen", "last_seen", "cluster", "class", "changed"]
    data = {"schema": "vcpuid/fleet-history/2", "host": host, "observations": rows}
    emit(Sheet(columns, rows, data, null="-", cut=None if everything else Cut(len(rows))), form)


@click.command()
@store_argument
@click.option("--since", metavar="DAY", required=True, help="Compare the end of this day (2026-11-29), UTC, with that of --until.")
@click.option("--until", metavar="DAY", help="The other day.  [default: now]")
@cluster_option
@engine_option
@all_option
@format_option
def changes(store: str, since: str, until: str | None, cluster: str | None, engine: str, everything: bool, form: str) -> None:
    """Show what changed between two days: which hosts came, were removed, or are of another class, and what is new about them.

    Exit status 0 where nothing changed, else 1.
    """
    from vcpuid.fleet.history import between_days

    one, other = end_of_day(since, "--since"), end_of_day(until, "--until")
    assert one is not None
    if other is not None and other <= one:
        raise InputError("--until is no later than --since")
    found = between_days(opened(store, engine).changes(one, other, cluster))
    rows = [
        {"hosts": len(group.names), "who": short(group.names), "before": group.before, "after": group.after,
         "changed": "; ".join(group.changes)}
        for group in found
    ]  # fmt: skip
    document = [{**row, "names": list(group.names), "changed": list(group.changes)} for row, group in zip(rows, found, strict=True)]
    data = {"schema": "vcpuid/fleet-changes/1", "hosts": sum(len(group.names) for group in found), "changes": document}
    columns = ["hosts", "who", "before", "after", "changed"]
    head = [f"{so_many(sum(len(group.names) for group in found), 'host')} changed.", *([""] if rows else [])]
    emit(Sheet(columns, rows, data, head=head, null="-", cut=None if everything else Cut(len(rows))), form)
    sys.exit(1 if found else 0)


@click.command()
@store_argument
@click.argument("hosts", metavar="HOST…", nargs=-1, required=True)
@click.option("--since", metavar="TIME", help="Since when they are no members (2026-11-29, or 2026-11-29T14:30:00), UTC.  [default: now]")
@click.option("--forget", is_flag=True, help="They never were members: drop their history, too.")
@format_option
def remove(store: str, hosts: tuple[str, ...], since: str | None, forget: bool, form: str) -> None:
    """Remove hosts from a store: from now on they are no members. Their history stays, and days in the past have them still.

    HOST is NAME, or CLUSTER/NAME where several are called so. All are removed or none. With --forget it is as if they had never been added.
    """
    if forget and since is not None:
        raise click.UsageError("--since is about hosts that were members, and --forget says that they never were")
    removed = opened(store).remove(hosts, _time(since, "--since"), forget=forget)
    data = {"schema": "vcpuid/fleet-remove/1", "removed": list(removed), "forgotten": forget}
    rows = [{"removed": name} for name in removed]
    emit(Sheet(["removed"], [], data, records=rows, lines=list(removed), head=[f"{so_many(len(removed), 'host')} removed."]), form)


@click.command()
@store_argument
@click.argument("path", metavar="NEW", type=click.Path())
def copy(store: str, path: str) -> None:
    """Copy a store, history and all, to NEW, which ends in .duckdb or .parquet: Spark reads Parquet, and it takes less room."""
    opened(store).copy(path)
