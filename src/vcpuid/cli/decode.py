"""vcpuid decode: every leaf as fields."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices, streams
from vcpuid.cli.folder import files
from vcpuid.cli.output import Sheet, emit, emit_each, format_option
from vcpuid.cli.setup import read_cpus
from vcpuid.cli.tables import kind
from vcpuid.cpuid.parts import TABLES, pick
from vcpuid.cpuid.words import leaf_keys, parse_leaf
from vcpuid.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vcpuid.cpuid import CpuidTable, Snapshot
    from vcpuid.decode import Cpus, Leaf, Value


@click.command(name="decode")
@click.argument("source", metavar="SOURCE", default="live", shell_complete=choices.hosts)
@click.argument("wanted", metavar="[LEAF]...", nargs=-1, shell_complete=choices.leaves)
@click.option(
    "--part", type=click.Choice(list(TABLES)), shell_complete=choices.parts,
    help="Which of a snapshot's tables to decode.  [default: the first it has, in this order]",
)  # fmt: skip
@click.option("--full", is_flag=True, help="Show every field with its bits and description, also those that are 0.")
@click.option("--all-cpus", is_flag=True, help="Show only the fields in which the CPUs of a dump differ.")
@click.option("--each", is_flag=True, help="Decode every CPU of a dump, or of all dumps in a folder and its subfolders.")
@format_option
def command(source: str, wanted: tuple[str, ...], part: str | None, full: bool, all_cpus: bool, each: bool, form: str) -> None:
    """Decode CPUID: every field with its name, value and meaning.

    SOURCE is a snapshot or dump, or 'live' (the default) for this machine's processor; with --each, also a folder of them. LEAF is a leaf,
    7 or 0x80000008, or a sub-leaf, 7.1 or d.2, in hexadecimal. Without LEAF all are shown, with the processor's names, caches and topology
    above and a map of its XSAVE area below. The flags of a register share a row, and fields that are 0 are left out; --full gives each
    field a row. With --each, files that cannot be read are named, and the exit status is 3.

    A snapshot may hold KVM's table and not a processor's own CPUID: then the first line says so, and `of` in JSON.
    """
    if all_cpus and each:
        raise click.UsageError("--all-cpus compares the CPUs that --each shows one by one: give one of them")
    picked = [parse_leaf(text) for text in wanted] or None
    if all_cpus:
        cpus = read_cpus(source, every=True)
        part, _ = pick(cpus[0], part, source)
        emit(_differences(part, [pick(cpu, part, source)[1] for cpu in cpus], picked), form)
        return
    if each:
        from vcpuid.decode.report import SCHEMA

        damaged: list[int] = []
        emit_each(_each(source, part, picked, full, form, damaged), form, SCHEMA)
        sys.exit(max(damaged, default=0))
    cpus = read_cpus(source)
    name, table = pick(cpus[0], part, source)
    sheet = _sheet(name, table, picked, full, form, _alike(name, cpus))
    if sheet is None:
        raise InputError("it has none of these leaves", source=source)
    if sheet.data is not None:
        from vcpuid.decode.report import SCHEMA

        sheet.data = {"schema": SCHEMA, **sheet.data}
    emit(sheet, form)


def _each(source: str, part: str | None, wanted: Wanted, full: bool, form: str, damaged: list[int]) -> Iterator[tuple[str, Sheet]]:
    """Decode a pile of dumps, with one of them in memory at a time; what is damaged is told, its status put into `damaged`, and left out.

    Raises InputError where there is nothing to decode: no file, or the leaves in none.
    """
    from vcpuid import sources
    from vcpuid.sources.folders import Patience

    def tell(error: InputError) -> None:
        damaged.append(error.exit_status)  # not the error, which would keep the dump
        streams.tell(str(error), error=True)

    found = shown = False
    patience = Patience(source)
    for file in files(source, tell):
        found = True
        try:
            dump = sources.read_dump(file)
            tables = [pick(cpu, part, file) for cpu in dump.meant]
        except InputError as error:
            tell(error)
            try:
                patience.count(read=False)
            except InputError as hardly_any:
                tell(hardly_any)
                return
            continue
        patience.count(read=True)
        alike = {name: _alike(name, dump.cpus) for name in {name for name, _ in tables}}
        for number, (name, table) in enumerate(tables):
            sheet = _sheet(name, table, wanted, full, form, alike[name])
            if sheet is not None:
                shown = True
                yield (f"{file}#{number}" if len(tables) > 1 else file), sheet
    if not shown and not damaged:
        raise InputError("none of its CPUs has any of these leaves" if found else "there is no file in it", source=source)


def _alike(part: str, cpus: list[Snapshot]) -> Cpus:
    """Put together the tables of one kind."""
    from vcpuid import decode

    return decode.Cpus([table for cpu in cpus if (table := getattr(cpu, part))])


def _sheet(part: str, table: CpuidTable, wanted: Wanted, full: bool, form: str, cpus: Cpus) -> Sheet | None:
    """Lay out the leaves that are wanted, or None where the table has none of them; only what `form` prints is worked out.

    `cpus` are all CPUs of the machine, of which the topology may need more than one.
    """
    import shutil

    from vcpuid import decode
    from vcpuid.decode import report
    from vcpuid.decode.drawing import WIDTH

    if full and form == "lines":
        text = decode.spell(table, wanted)
        return Sheet([], [], lines=text) if text else None
    if form == "json":
        data = report.decoded(part, table, cpus, wanted)
        return Sheet([], [], data) if data["leaves"] else None
    leaves = list(decode.leaves(table, wanted))
    if not leaves:
        return None
    columns = FIELDS if form in FOR_PROGRAMS else COLUMNS
    return Sheet(
        columns=[*columns, "description"] if full else columns,
        rows=[{**_place(leaf, form), **row} for leaf in leaves for row in (_full(leaf) if full else _compact(leaf))],
        titles=TITLES,
        head=[*kind(part), *([] if wanted else report.head(table))],
        foot=[] if wanted else report.foot(table, cpus, shutil.get_terminal_size((WIDTH, 0)).columns),
        styles={"name": "bold"},
    )


def _differences(part: str, tables: list[CpuidTable], wanted: Wanted) -> Sheet:
    from vcpuid import decode
    from vcpuid.decode import report

    found = [
        spread for spread in decode.spread(tables) if not wanted or {(spread.function, spread.index), (spread.function, None)} & set(wanted)
    ]
    rows, records = [], []
    for spread in found:
        values = "; ".join(f"{text}: CPU {_ranges(cpus)}" for text, cpus in report.grouped(spread))
        row = {"register": spread.register, "bits": spread.field.bits, "name": spread.field.name, "value": values}
        rows.append({"leaf": f"{spread.function:#x}.{spread.index:x}", **row})
        records.append({**leaf_keys(spread.function, spread.index), **row})
    return Sheet(
        COLUMNS,
        rows,
        data=report.differences(part, len(tables), found),
        records=records,
        fields=FIELDS,
        titles=TITLES,
        head=[*kind(part), f"{len(tables)} CPUs, {len(rows)} fields that differ among them", ""],
        styles={"name": "bold"},
    )


def _ranges(numbers: list[int]) -> str:
    """Spell ascending numbers as 0-3,8."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


Wanted = list[tuple[int, int | None]] | None
COLUMNS = ["leaf", "register", "bits", "name", "value"]
FIELDS = ["function", "index", *COLUMNS[1:]]
TITLES = {"name": "field", "description": "about"}
FOR_PROGRAMS = ("jsonl", "csv")
"""The formats whose rows have the leaf's numbers, as JSON has them, where the others have one word for people."""


def _place(leaf: Leaf, form: str) -> dict[str, str]:
    return leaf_keys(leaf.function, leaf.index) if form in FOR_PROGRAMS else {"leaf": str(leaf)}


def _full(leaf: Leaf) -> Iterator[dict[str, object]]:
    for value in leaf.values():
        yield {**_row(value), "description": value.field.description}


def _compact(leaf: Leaf) -> Iterator[dict[str, object]]:
    from itertools import groupby

    for register, values in groupby((value for value in leaf.values() if value.raw), key=lambda value: value.register):
        flags = []
        for value in values:
            if value.field.flag:
                flags.append(value.field.name)
            else:
                yield _row(value)
        if flags:
            yield {"register": register, "bits": "", "name": "flags", "value": " ".join(flags)}


def _row(value: Value) -> dict[str, object]:
    return {"register": value.register, "bits": value.field.bits, "name": value.field.name, "value": str(value.reading)}
