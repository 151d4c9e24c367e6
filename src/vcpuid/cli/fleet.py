"""vcpuid fleet: one CPU for many hosts, who costs what, what moves where."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import domain_option, libvirt_option, named, read_file
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import Asked, print_warnings, stack_options, words_option
from vcpuid.cli.streams import tell
from vcpuid.errors import InputError, VcpuidError
from vcpuid.setup import Stack

if TYPE_CHECKING:
    from vcpuid.fleet import Fleet
    from vcpuid.fleet.baseline import Baseline
    from vcpuid.fleet.blame import Blame
    from vcpuid.fleet.members import Census
    from vcpuid.fleet.moves import Circles, Move

F = TypeVar("F", bound=Callable[..., Any])

_SHOWN = 8
"""Names that a cell of a table takes before it counts the rest."""

_EVERY = 500
"""Files between two words on how far `add` has come."""

store_argument = click.argument("store", metavar="STORE", type=click.Path())
cluster_option = click.option("--cluster", metavar="NAME", help="Ask about this cluster alone.")
day_option = click.option("--as-of", "as_of", metavar="DAY", help="Ask about the end of this day (2026-11-29), UTC; a store alone knows.")


def _day(text: str | None) -> int | None:
    """Return the last second of a day."""
    if text is None:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InputError(f"--as-of {text[:40]!r} is no day such as 2026-11-29") from None
    return int(day.timestamp()) + 86399


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _opened(store: str) -> Fleet:
    from vcpuid import fleet

    return fleet.open(store)


def _stack(asked: Asked) -> Stack:
    """Name the software: the kernel is each host's own, QEMU the newest, unless the command line says otherwise."""
    return Stack(asked.kernel, asked.qemu, asked.machine, asked.smp, asked.params, False, asked.globals)


software = stack_options("what_if")


def _short(names: Iterable[str]) -> str:
    given = list(names)
    more = len(given) - _SHOWN
    return " ".join(given[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _absent(census: Census) -> list[str]:
    return [f"Not asked, since there is no snapshot of them that can be read: {census.who_is_missing}"] if census.unread else []


@click.group(name="fleet")
def command() -> None:
    """Many hosts, one CPU: which -cpu runs on all, who costs what, what moves where.

    STORE is a folder of snapshots, where a file is a host and a folder within it a cluster, or a file NAME.duckdb that `fleet add` makes
    and that keeps the history (pip install 'vcpuid[fleet]').
    """


@command.command()
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
    from vcpuid.fleet.classes import HostClass
    from vcpuid.fleet.folder import cause, files, host_name
    from vcpuid.fleet.store import Visit
    from vcpuid.sources import read

    when = _time(seen)
    visits, unread = [], []
    for number, (path, place) in enumerate(_all(sources, files), 1):
        try:
            kind = HostClass.of(read(path))
        except VcpuidError as error:
            unread.append({"file": str(path), "why": cause(error)})
            continue
        visits.append(Visit(place if cluster is None else cluster, host_name(path), when or int(path.stat().st_mtime), kind))
        if number % _EVERY == 0:
            tell(f"{number} files read")
    print_warnings(f"{row['file']}: {row['why']}" for row in unread)
    added = _opened(store).add_all(visits)
    told = f"{added.hosts} hosts of {added.classes} classes, {len(added.new)} of them new to the store."
    changes = f"{len(added.changed)} hosts are of another class than before: {_short(added.changed)}." if added.changed else ""
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


def _all(sources: Iterable[str], files: Callable[[Path], Iterable[Path]]) -> Iterable[tuple[Path, str]]:
    """Give each file with the cluster that its folder names."""
    for source in map(Path, sources):
        if not source.is_dir():
            yield source, ""
            continue
        for path in files(source):
            place = path.parent.relative_to(source).as_posix()
            yield path, "" if place == "." else place


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--seen {text[:40]!r} is no time such as 2026-11-29 or 2026-11-29T14:30:00") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp())


@command.command()
@store_argument
@cluster_option
@day_option
@format_option
def classes(store: str, cluster: str | None, as_of: str | None, form: str) -> None:
    """List the classes of hosts: all in one are the same to every rule.

    Exit status 1 where a member cannot be read.
    """
    census = _opened(store).census(cluster, _day(as_of))
    told = [group.as_dict() for group in census.groups]
    rows = [{name: "" if value is None else value for name, value in row.items()} for row in told]
    data = {"schema": "vcpuid/fleet-classes/1", **census.as_dict(), "classes": told}
    columns = ["class", "hosts", "example", "cpu", "microcode", "kernel"]
    head = [f"{census.hosts} hosts of {len(rows)} classes.", ""]
    absent = _absent(census)
    emit(Sheet(columns, rows, data, records=told, head=head, foot=["", *absent] if absent else []), form)
    sys.exit(1 if census.unread else 0)


@command.command()
@store_argument
@cluster_option
@day_option
@click.option("--require", multiple=True, metavar="FEATURE", shell_complete=choices.features, help="A feature that the guest must have.")
@words_option
@software
@format_option
def baseline(
    store: str, cluster: str | None, as_of: str | None, require: tuple[str, ...], manager: str | None, asked: Asked, form: str
) -> None:
    """Find the best -cpu that runs on every host and is the same CPU on all, so that guests move freely.

    QEMU and machine type are the same on all hosts (the newest QEMU unless --qemu says another); the kernel is each host's own. Each class
    proves it: QEMU gives all that is asked for, without a warning, and the guest's table is the same. Exit status 0 where all do, else 1,
    also where that is not told of some host or one cannot be read.
    """
    from vcpuid.fleet.baseline import remarks

    found = _opened(store).baseline(_stack(asked), cluster=cluster, as_of=_day(as_of), require=require)
    print_warnings(remarks(found.setups))
    emit(_baseline_sheet(found, manager), form)
    sys.exit(0 if found.runs and not found.differs else 1)


def _baseline_sheet(found: Baseline, manager: str | None) -> Sheet:
    setup = found.setups[0]
    rows = [
        {
            "runs": {True: "yes", False: "no", None: "not told"}[proof.runs],
            "hosts": proof.group.hosts,
            "example": proof.group.example,
            "cpu": proof.group.kind.cpu,
            "why": proof.why or "",
            "costs": " ".join(found.costs.get(proof.group.kind.name, ())),
            "class": proof.group.kind.name,
        }
        for proof in found.proofs
    ]
    shown = [{**row, "costs": _short(str(row["costs"]).split())} for row in rows]
    running = sum(proof.group.hosts for proof in found.proofs if proof.runs)
    same = "the same CPU on all" if not found.differs else f"not the same CPU on all: {_short(found.differs)}"
    if found.cpu is None:
        head = [f"No model of QEMU {setup.vmm} can be made to run on all {found.census.hosts} hosts."]
    else:
        level = f", x86-64-v{found.level}" if found.level > 1 else ""
        head = [
            f"-cpu {found.cpu}",
            f"runs on {running} of {found.census.hosts} hosts with QEMU {setup.vmm}, {setup.machine}; {same}{level}",
        ]
    foot = [*_absent(found.census), *(f"else: -cpu {other.cpu}" for other in found.alternatives)]
    data = found.as_dict()
    lines = [found.cpu] if found.cpu else []
    if manager is not None and found.cpu is not None:
        from vcpuid.answers.in_words import in_words
        from vcpuid.qemu.catalog import catalog

        words = in_words(found.cpu, manager, catalog(setup.vmm.tables))
        lines = list(words.lines)
        foot += ["", *words.lines, *words.remarks]
        data["words"] = words.as_dict()
    columns = ["runs", "hosts", "example", "cpu", "why", "costs"]
    return Sheet(
        columns, shown, data, records=rows, fields=[*columns, "class"], lines=lines, head=[*head, ""], foot=["", *foot] if foot else []
    )


@command.command()
@store_argument
@cluster_option
@day_option
@click.option("--all", "every", is_flag=True, help="Print all rows, and not those of the fewest hosts alone.")
@software
@format_option
def blame(store: str, cluster: str | None, as_of: str | None, every: bool, asked: Asked, form: str) -> None:
    """Tell who costs which features: those that some hosts could give their guests and others lack, with the cause.

    A row's hosts are all that lack its features: were they mended, or did they leave, a baseline could have them. Exit status 0 where all
    hosts can give the same, else 1.
    """
    from vcpuid.fleet.baseline import remarks

    found = _opened(store).blame(_stack(asked), cluster=cluster, as_of=_day(as_of))
    print_warnings(remarks(found.setups))
    emit(_blame_sheet(found, every), form)
    sys.exit(1 if found.losses or found.census.unread else 0)


_ROWS = 20


def _blame_sheet(found: Blame, every: bool) -> Sheet:
    rows = [
        {
            "hosts": loss.hosts,
            "who": loss.who,
            "features": " ".join(loss.features),
            "party": loss.party or "",
            "why": loss.why or "",
        }
        for loss in found.losses
    ]
    shown = rows if every else rows[:_ROWS]
    head = [f"All {found.census.hosts} hosts can give {found.shared} features, any of them {found.offered}.", ""]
    more = len(rows) - len(shown)
    foot = [*([f"{more} more rows, of more hosts each: --all"] if more else []), *_absent(found.census)]
    columns = ["hosts", "who", "features", "party", "why"]
    return Sheet(columns, shown, found.as_dict(), records=rows, fields=columns, head=head, foot=["", *foot] if foot else [])


@command.command()
@store_argument
@click.argument("origin", metavar="[A", required=False)
@click.argument("target", metavar="B]", required=False)
@click.option(
    "--cpu", default="host", show_default=True, metavar="CPU", shell_complete=choices.cpus, help="The guest's CPU, as QEMU's -cpu takes it."
)
@domain_option
@libvirt_option
@cluster_option
@day_option
@software
@format_option
def migrate(
    store: str,
    origin: str | None,
    target: str | None,
    cpu: str,
    domain: str | None,
    libvirt_release: str | None,
    cluster: str | None,
    as_of: str | None,
    asked: Asked,
    form: str,
) -> None:
    """Tell whether a guest can move from host A to host B; without them, between which hosts it moves freely.

    QEMU compares nothing when a guest arrives. So there are three answers: yes, where the guest's CPU is the same on both; refused, by
    whom and in which words; unsafe, where it is accepted and is another CPU from then on. libvirt, which is asked of a --domain, wants the
    features to be the same, and looks at no numbers such as XSAVE's offsets. Exit status 0 for yes, else 1.
    """
    if (origin is None) is not (target is None):
        raise click.UsageError("give both hosts, or neither to ask about all")
    fleet, stack = _opened(store), _stack(asked)
    if origin is not None and target is not None:
        if domain is None:
            found = fleet.migrate(origin, target, cpu, stack, as_of=_day(as_of))
        else:
            name, xml = read_file(domain)
            with named(name):
                found = fleet.migrate_domain(origin, target, xml, stack, libvirt=libvirt_release, as_of=_day(as_of))
        print_warnings(found.remarks)
        emit(_move_sheet(found, cpu if domain is None else None, origin, target), form)
        sys.exit(0 if found.outcome == "yes" else 1)
    if domain is not None:
        raise click.UsageError("--domain is asked of two hosts: give both")
    parted = fleet.circles(cpu, stack, cluster=cluster, as_of=_day(as_of))
    print_warnings(parted.remarks)
    emit(_circles_sheet(parted, cpu), form)
    sys.exit(0 if len(parted.circles) == 1 and not parted.refused and not parted.not_told and not parted.census.unread else 1)


def _move_sheet(found: Move, cpu: str | None, a: str, b: str) -> Sheet:
    told = {
        "yes": f"yes: the guest's CPU is the same on {a} and on {b}",
        "refused": f"refused: {found.by} says: {found.words}",
        "unsafe": f"unsafe: {b} takes the guest, and it has another CPU there",
        "not told": "not told: it hangs on what the hosts do not tell",
    }[found.outcome]
    rows = [{"what": one.kind, "differs": " ".join(one.names), "harm": one.harm} for one in found.differences]
    shown = [{**row, "differs": _short(one.names)} for row, one in zip(rows, found.differences, strict=True)]
    open_ = [f"Not told: {one.what}: depends on {', '.join(map(str, one.depends[:4]))}" for one in found.not_told[:_SHOWN]]
    data = {"schema": "vcpuid/fleet-migrate/1", "cpu": cpu, "move": {"from": a, "to": b, **found.as_dict()}, "all": None}
    lines = [found.outcome, *(f"{row['what']}: {row['differs']}" for row in rows)]
    columns = ["what", "differs", "harm"]
    return Sheet(
        columns,
        shown,
        data,
        records=rows,
        fields=columns,
        lines=lines,
        head=[*([] if cpu is None else [f"-cpu {cpu}"]), told, *([""] if rows else [])],
        foot=open_,
    )


def _circles_sheet(found: Circles, cpu: str) -> Sheet:
    rows = [
        {"circle": number, "hosts": circle.hosts, "example": circle.groups[0].example, "cpu": circle.groups[0].kind.cpu, "why": ""}
        for number, circle in enumerate(found.circles, 1)
    ]
    for what, groups in (("refused", found.refused), ("not told", found.not_told)):
        rows += [
            {"circle": what, "hosts": group.hosts, "example": group.example, "cpu": group.kind.cpu, "why": words} for group, words in groups
        ]
    columns = ["circle", "hosts", "example", "cpu", "why"]
    head = [f"-cpu {cpu}: a guest moves freely within a circle; from one to another QEMU takes it, and it has another CPU there.", ""]
    data = {"schema": "vcpuid/fleet-migrate/1", "cpu": cpu, "move": None, "all": found.as_dict()}
    return Sheet(columns, rows, data, head=head, foot=_absent(found.census))


@command.command()
@store_argument
@click.argument("host", metavar="HOST")
@format_option
def history(store: str, host: str, form: str) -> None:
    """Show the classes that a host of a store has had, and what changed from one to the next."""
    from vcpuid.fleet.history import of_host

    found = of_host(_opened(store), host)
    rows = [
        {"first_seen": _moment(one.first), "last_seen": _moment(one.last), "class": f"{one.id:016x}", "cluster": one.cluster,
         "changed": "; ".join(one.changes)}
        for one in found
    ]  # fmt: skip
    columns = ["first_seen", "last_seen", "cluster", "class", "changed"]
    emit(Sheet(columns, rows, {"schema": "vcpuid/fleet-history/1", "host": host, "observations": rows}), form)
