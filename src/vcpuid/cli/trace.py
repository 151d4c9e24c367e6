"""vcpuid trace: CPUID exits of guests as they run, and the CPUIDs of a program."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.interrupted import interrupted
from vcpuid.cli.output import Sheet, cell, emit, format_option
from vcpuid.cli.screen import screen
from vcpuid.cli.setup import print_warnings, read_cpus
from vcpuid.cli.streams import tell
from vcpuid.errors import UnavailableError

if TYPE_CHECKING:
    from vcpuid.trace.answer import Traced
    from vcpuid.trace.checking import Checked
    from vcpuid.trace.tables import Tables

PARTS = ("vm", "vcpu", "leaf", "rip", "stack")
COLUMNS = {
    "vm": ["vm", "pid"],
    "vcpu": ["vm", "pid", "vcpu", "thread"],
    "leaf": ["function", "index"],
    "rip": ["rip", "symbol", "place"],
    "stack": ["stack"],
}
"""The columns of a table by the parts that are asked for."""
ALL = ["pid", "vm", "vcpu", "thread", "function", "index", "rip", "place", "symbol", "stack", "count", "rate"]
CHECKED = ["vm", "vcpu", "function", "index", "register", "got", "modelled", "features", "count", "why"]


def parts(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    """Read --by."""
    found = tuple(dict.fromkeys(value.split(",")))
    if unknown := [part for part in found if part not in PARTS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return found


@click.command(name="trace", context_settings={"allow_interspersed_args": False})
@click.argument("program", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--pid", type=click.IntRange(1, 1 << 22), metavar="PID", help="Trace the guest of this process alone.")
@click.option("--vm", "name", metavar="NAME", help="Trace the guest of this name alone: QEMU's -name, else the program's name.")
@click.option("--seconds", type=click.FloatRange(0.1, 1 << 22), metavar="N", help="End after so many seconds.  [default: at Ctrl-C]")
@click.option("--live", is_flag=True, help="Show what happens now, every second, until Ctrl-C; then the answer.")
@click.option("--by", callback=parts, default="vm,leaf", show_default=True, metavar="LIST", help=f"What is told apart: {', '.join(PARTS)}.")
@click.option("--check", is_flag=True, help="Hold the registers that guests got against the model, and name every difference.")
@click.option("--table", "table_source", metavar="TABLE", shell_complete=choices.hosts, help="What the vCPUs keep, for --check.")
@click.option(
    "--symbols", "symbols_file", metavar="FILE", type=click.Path(), help="The guest's System.map, or a copy of its /proc/kallsyms."
)
@click.option("--way", type=click.Choice(("bpf", "perf", "tracefs")), help="How exits are counted.  [default: the first that may be]")
@format_option
def command(
    program: tuple[str, ...], pid: int | None, name: str | None, seconds: float | None, live: bool, by: tuple[str, ...], check: bool,
    table_source: str | None, symbols_file: str | None, way: str | None, form: str,
) -> None:  # fmt: skip
    """Count the CPUIDs that guests execute: each is an exit to KVM. By guest, vCPU, leaf, address and back-trace, with their rate.

    It counts until Ctrl-C, which ends it with the answer, and needs root, or CAP_BPF, CAP_PERFMON and the right to read tracefs. Guests
    are not touched. With --check, exit status 1 where a guest got what the model did not foresee.
    """
    if program:
        _program(program, form)
        return
    _guests(pid, name, seconds, by, table_source, symbols_file, way, form, live=live, check=check)


def _guests(
    pid: int | None, name: str | None, seconds: float | None, by: tuple[str, ...], table_source: str | None, symbols_file: str | None,
    way: str | None, form: str, *, live: bool, check: bool,
) -> None:  # fmt: skip
    """Count, and answer."""
    from vcpuid.trace import guests
    from vcpuid.trace.counting import Counting
    from vcpuid.trace.symbols import read_symbols
    from vcpuid.trace.ways import WAYS

    if pid is not None and name is not None:
        raise click.UsageError("--pid and --vm both name the guest: give one")
    if table_source is not None and not check:
        raise click.UsageError("--table is what --check holds answers against")
    if symbols_file is not None and pid is None and name is None:
        raise click.UsageError("--symbols are one guest's: name it, with --vm or --pid")
    if live and not (form == "table" and sys.stdout.isatty()):
        raise click.UsageError("--live is for a terminal: elsewhere take --seconds, and run it again")
    if (pid is not None or name is not None) and not guests.numbers_are_ours():
        raise UnavailableError("--pid and --vm need the host's process numbers, which a container's PID namespace does not show")
    counting = Counting(
        guests.named(name) if name is not None else pid,
        by if symbols_file is None or "rip" in by else (*by, "rip"),
        WAYS if way is None else (way,),
        None if symbols_file is None else read_symbols(symbols_file),
        _tables(table_source) if check else None,
    )
    if not live:
        _say_what_goes_on(seconds)
    with interrupted() as stopped, screen() if live else nullcontext() as show:
        found = counting.run(seconds, stopped=stopped, shown=None if show is None else lambda so_far: show(_counted(so_far)))
    print_warnings(found.remarks)
    emit(_counted(found) if found.checked is None else _held(found, found.checked), form)
    sys.exit(1 if found.checked is not None and not found.checked.agrees else 0)


def _tables(source: str | None) -> Tables:
    """Give what answers are held against: a file's tables, else those that the kernel keeps."""
    from vcpuid.cpuid.parts import pick
    from vcpuid.trace.tables import GivenTables

    assert source is not None
    return GivenTables([pick(snapshot, None, source, native="kept")[1] for snapshot in read_cpus(source, every=True)])


def _say_what_goes_on(seconds: float | None) -> None:
    """Tell who waits at a terminal what for."""
    if sys.stderr.isatty():
        tell("counting until Ctrl-C" if seconds is None else f"counting for {seconds:g} s; Ctrl-C ends it before")


def _counted(found: Traced) -> Sheet:
    """Lay out what was counted."""
    rows = found.rows()
    columns = [*dict.fromkeys(column for part in found.by for column in COLUMNS[part]), "count", "rate"]
    shown = [column for column in columns if column != "symbol" or found.guest is not None]
    plain = [{**row, "stack": " < ".join(cell(row["stack"]).split())} for row in rows]
    return Sheet(
        shown, plain, found.as_dict(), records=rows, fields=ALL, titles={"rate": "a second"}, head=[found.machine, found.summary(), ""],
        styles={"count": "bold"},
    )  # fmt: skip


def _held(found: Traced, checked: Checked) -> Sheet:
    """Lay out what came of holding answers against the model."""
    rows = checked.rows()
    foot = ["", _verdict(checked)]
    columns = CHECKED if len({row["pid"] for row in rows}) > 1 else [column for column in CHECKED if column != "vm"]
    return Sheet(
        columns, rows, found.as_dict(), fields=["pid", "vm", "vcpu", "thread", *CHECKED[2:], "rule"],
        head=[found.machine, found.summary(), ""],
        foot=foot, titles={"got": "the guest got", "modelled": "the model says"},
    )  # fmt: skip


def _verdict(checked: Checked) -> str:
    """Say in words what came of it."""
    if not checked.held:
        return "nothing was held against the model: " + ("no table of a vCPU is told" if checked.not_told else "no guest executed CPUID")
    open_ = sum(difference.rule is None for difference in checked.differences)
    said = f"{checked.held} answers held against the model: "
    said += (
        "all are its own"
        if not checked.differences
        else f"{open_} differences that it did not foresee"
        if open_
        else "they differ where the guest's own registers rule alone"
    )
    return said + (f"; {checked.not_told} are of vCPUs whose table is not told" if checked.not_told else "")


def _program(program: tuple[str, ...], form: str) -> None:
    raise NotImplementedError
