"""vcpuid trace: CPUID exits of guests as they run, and the CPUIDs of a program."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.interrupted import interrupted
from vcpuid.cli.output import Sheet, all_option, cell, emit, format_option
from vcpuid.cli.screen import screen
from vcpuid.cli.setup import print_warnings, read_cpus, typed
from vcpuid.cli.short import Cut
from vcpuid.cli.streams import tell
from vcpuid.errors import UnavailableError

if TYPE_CHECKING:
    from vcpuid.trace.answer import Traced
    from vcpuid.trace.checking import Checked
    from vcpuid.trace.tables import VcpuTables

_SHOWN = 15
PARTS = ("vm", "vcpu", "leaf", "rip", "stack")
PROGRAM_PARTS = ("program", "object", "offset", "leaf")
PROGRAM_COLUMNS = ["program", "object", "offset", "function", "index", "count"]
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


@click.command(name="trace", context_settings={"allow_interspersed_args": False})
@click.argument("program", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--pid", type=click.IntRange(1, 1 << 22), metavar="PID", help="Trace only the guest of this process.")
@click.option("--vm", "name", metavar="NAME", help="Trace only the guest of this name: QEMU's -name, else the program's.")
@click.option("--seconds", type=click.FloatRange(0.1, 1 << 22), metavar="N", help="Stop after N seconds.  [default: at Ctrl-C]")
@click.option("--live", is_flag=True, help="Show a table that is updated every second, until Ctrl-C.")
@click.option(
    "--by", metavar="LIST", shell_complete=choices.traced,
    help=f"Count by these: {', '.join(PARTS)}; for a command {', '.join(PROGRAM_PARTS)}.  [default: vm,leaf; object,leaf]",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Compare the registers that guests got with the model, and name every difference.")
@click.option(
    "--table",
    "table_source",
    metavar="TABLE",
    shell_complete=choices.hosts,
    help="Compare with this table.  [default: what each vCPU keeps, asked of the kernel]",
)
@click.option(
    "--symbols", "symbols_file", metavar="FILE", type=click.Path(), help="The guest's System.map, or a copy of its /proc/kallsyms."
)
@click.option("--way", type=click.Choice(("bpf", "perf", "tracefs")), help="How to count exits.  [default: the first that works]")
@all_option
@click.option(
    "--step",
    is_flag=True,
    help="Single-step COMMAND, on any processor: some ten thousand instructions a second, of which true(1) has 110,000.",
)
@format_option
def command(
    program: tuple[str, ...], pid: int | None, name: str | None, seconds: float | None, live: bool, by: str | None, check: bool,
    table_source: str | None, symbols_file: str | None, way: str | None, everything: bool, step: bool, form: str,
) -> None:  # fmt: skip
    """Count the CPUIDs that running guests, or a program, execute.

    It shows which leaves are asked for, from where, and how often. Each CPUID of a guest is an exit to KVM; they are counted until Ctrl-C,
    which prints the answer. That needs root, or CAP_BPF, CAP_PERFMON and the right to read tracefs. Guests are not disturbed. With --check,
    exit status 1 where a guest got other registers than the model gives, or where there was nothing to compare.

    With COMMAND, count those of that program and of all that it starts, as any user and without a guest, and say what they would cost in a
    guest. That needs a processor that can make CPUID fault, or --step. What COMMAND prints goes to standard error. vcpuid ends when COMMAND
    does, with its exit status, and lets go what that left running.
    """
    if program:
        _refuse("it is for guests, and COMMAND is a program", "--pid", "--vm", "--live", "--check", "--table", "--symbols", "--way")
        parts = _parts("object,leaf" if by is None else by, PROGRAM_PARTS)
        sys.exit(_program(program, parts, seconds, form, step=step, everything=everything))
    _refuse("it is for a COMMAND", "--step")
    _guests(
        pid,
        name,
        seconds,
        _parts("vm,leaf" if by is None else by, PARTS),
        table_source,
        symbols_file,
        way,
        form,
        live=live,
        check=check,
        everything=everything,
    )


def _parts(by: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Read --by."""
    found = tuple(dict.fromkeys(by.split(",")))
    if unknown := [part for part in found if part not in known]:
        raise click.UsageError(f"--by: {unknown[0]!r} is none of {', '.join(known)}")
    return found


def _refuse(because: str, *names: str) -> None:
    """Refuse options that make no sense here."""
    if given := typed(*names):
        raise click.UsageError(f"{given[0]}: {because}")


def _guests(
    pid: int | None, name: str | None, seconds: float | None, by: tuple[str, ...], table_source: str | None, symbols_file: str | None,
    way: str | None, form: str, *, live: bool, check: bool, everything: bool,
) -> None:  # fmt: skip
    """Count, and answer."""
    from vcpuid.trace import guests
    from vcpuid.trace.counting import Counting
    from vcpuid.trace.symbols import read_symbols
    from vcpuid.trace.ways import WAYS

    if pid is not None and name is not None:
        raise click.UsageError("--pid and --vm both name the guest: give one")
    if table_source is not None and not check:
        raise click.UsageError("--table is for --check: what to compare with")
    if symbols_file is not None and pid is None and name is None:
        raise click.UsageError("--symbols belong to one guest: name it with --vm or --pid")
    if live and not (form == "table" and sys.stdout.isatty()):
        raise click.UsageError("--live needs a terminal; elsewhere use --seconds")
    if (pid is not None or name is not None) and not guests.numbers_are_ours():
        raise UnavailableError("--pid and --vm need the host's process numbers, which a container's PID namespace does not show")
    if pid is not None:
        guests.require(pid)
    if name is not None:
        pid = guests.named(name)
    counting = Counting(
        pid,
        by if symbols_file is None or "rip" in by else (*by, "rip"),
        WAYS if way is None else (way,),
        None if symbols_file is None else read_symbols(symbols_file),
        _tables(table_source, pid) if check else None,
    )
    if not live:
        _say_what_goes_on(seconds)
    with interrupted() as stopped, screen() if live else nullcontext() as show:
        found = counting.run(seconds, stopped=stopped, shown=None if show is None else lambda so_far: show(_counted(so_far)))
    print_warnings(found.remarks)
    sheet = _counted(found) if found.checked is None else _held(found, found.checked)
    emit(sheet if everything else replace(sheet, cut=Cut(_SHOWN)), form)
    sys.exit(0 if found.checked is None or (found.checked.held and found.checked.agrees) else 1)


def _tables(source: str | None, pid: int | None) -> VcpuTables:
    """Give what answers are compared with: a file's tables, else those that the kernel keeps for a process, or for all."""
    from vcpuid.cpuid.parts import pick
    from vcpuid.trace.tables import GivenTables, KernelTables

    if source is None:
        return KernelTables(pid)
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
        shown, plain, found.as_dict(), records=rows, fields=ALL, titles={"rate": "a second"}, head=[found.summary(), found.machine, ""],
        styles={"count": "bold"},
    )  # fmt: skip


def _held(found: Traced, checked: Checked) -> Sheet:
    """Lay out what came of holding answers against the model."""
    rows = checked.rows()
    several = len({exit_.pid for exit_ in found.tally.exits}) > 1
    columns = [column for column in CHECKED if several or column != "vm"]
    return Sheet(
        columns, rows, found.as_dict(), fields=["pid", "vm", "vcpu", "thread", *CHECKED[2:], "rule"],
        head=[_verdict(checked), found.summary(), found.machine, *([""] if rows else [])],
        titles={"got": "the guest got", "modelled": "the model says"},
    )  # fmt: skip


def _verdict(checked: Checked) -> str:
    """Say in words what came of it."""
    if not checked.held:
        return "nothing to compare with the model: " + ("no vCPU's table is known" if checked.not_told else "no guest executed CPUID")
    open_ = sum(difference.rule is None for difference in checked.differences)
    said = f"{checked.held} answers compared with the model: "
    said += (
        "all are the same"
        if not checked.differences
        else f"{open_} differences that it does not explain"
        if open_
        else "they differ only in bits that follow the guest's own registers"
    )
    return said + (f"; {checked.not_told} are of vCPUs whose table is not known" if checked.not_told else "")


def _program(program: tuple[str, ...], by: tuple[str, ...], seconds: float | None, form: str, *, step: bool, everything: bool) -> int:
    """Run a command, answer, and return its exit status. What it prints goes to standard error, so that the answer stands alone."""
    from vcpuid.live.faulting import NoFaultError
    from vcpuid.probe.report import machine
    from vcpuid.trace import cost
    from vcpuid.trace.program import faulting, stepping
    from vcpuid.trace.program_answer import ProgramAnswer

    price = cost.here()
    try:
        with _output_aside():
            found = stepping(program, seconds) if step else faulting(program, seconds)
    except NoFaultError as error:
        options = {"--by": ",".join(by), "--seconds": f"{seconds or 0:g}", "--format": form}
        named = [text for option in typed(*options) for text in (option, options[option])]
        again = shlex.join(["vcpuid", "trace", "--step", *(["--all"] if everything else []), *named, "--", *program])
        raise UnavailableError(f"{error}; --step looks at every instruction instead{f': {again}' if again.isprintable() else ''}") from None
    answer = ProgramAnswer(machine(), found, price, by)
    rows = answer.rows()
    columns = [column for column in PROGRAM_COLUMNS if column == "count" or any(row[column] is not None for row in rows)]
    head = [*answer.summary(), answer.machine, ""]
    sheet = Sheet(columns, rows, answer.as_dict(), fields=PROGRAM_COLUMNS, head=head, styles={"count": "bold"})
    emit(sheet if everything else replace(sheet, cut=Cut(_SHOWN)), form)
    return found.status


@contextmanager
def _output_aside() -> Iterator[None]:
    """Let what is started meanwhile have standard error for its standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
