"""vcpuid decode: every leaf as fields."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.output import Sheet, emit, emit_each, format_option
from vcpuid.cli.setup import read_cpus
from vcpuid.cli.tables import kind
from vcpuid.cpuid.parts import TABLES, pick
from vcpuid.cpuid.words import parse_leaf
from vcpuid.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vcpuid.cpuid import CpuidTable, Snapshot
    from vcpuid.decode import Cpus, Leaf, Value


@click.command(name="decode")
@click.argument("source", metavar="SOURCE", default="live", shell_complete=choices.hosts)
@click.argument("wanted", metavar="[LEAF]...", nargs=-1, shell_complete=choices.leaves)
@click.option(
    "--part", type=click.Choice(list(TABLES)), shell_complete=choices.parts,
    help="Which of a snapshot's tables to decode.  [default: the first it has, in this order]",
)  # fmt: skip
@click.option("--full", is_flag=True, help="Show every field with its bits, the ones that are 0 too, and what it is about.")
@click.option("--all-cpus", is_flag=True, help="Show the fields in which the CPUs of a dump differ, and their values.")
@click.option("--each", is_flag=True, help="Decode every CPU of a dump, or of every dump in a folder and those in it.")
@format_option
def command(source: str, wanted: tuple[str, ...], part: str | None, full: bool, all_cpus: bool, each: bool, form: str) -> None:
    """Decode CPUID: every field of every leaf by name, with its value, unit and meaning.

    SOURCE is a snapshot or dump, or 'live' (the default) for this machine's processor; with --each, a folder of them too. LEAF is a leaf,
    7 or 0x80000008, or a sub-leaf, 7.1 or d.2, in hexadecimal; without one all are shown, between the processor's names, caches and
    topology and a map of its XSAVE area. Flags that are set stand in one row a register, and what is 0 is left out; --full gives each
    field a row. With --each, what cannot be read is told, and the exit status is 3.

    What a snapshot holds may be KVM's and not a processor's own CPUID: then the first line says so, and `of` in JSON.
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
        damaged: list[int] = []
        emit_each(_each(source, part, picked, full, form, damaged), form)
        sys.exit(max(damaged, default=0))
    cpus = read_cpus(source)
    name, table = pick(cpus[0], part, source)
    sheet = _sheet(name, table, picked, full, form, _alike(name, cpus))
    if sheet is None:
        raise InputError("it has none of these leaves", source=source)
    emit(sheet, form)


def _each(source: str, part: str | None, wanted: Wanted, full: bool, form: str, damaged: list[int]) -> Iterator[tuple[str, Sheet]]:
    """Decode a pile of dumps, with one of them in memory at a time; what is damaged is told, its status put into `damaged`, and left out.

    Raises InputError where there is nothing to decode: no file, or the leaves in none.
    """
    from vcpuid import sources

    def tell(error: InputError) -> None:
        damaged.append(error.exit_status)  # not the error, which would keep the dump
        print(f"vcpuid: {error}", file=sys.stderr)

    found = shown = False
    for file in _files(source, tell):
        found = True
        try:
            dump = sources.read_dump(file)
            tables = [pick(cpu, part, file) for cpu in dump.meant]
        except InputError as error:
            tell(error)
            continue
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


def _files(source: str, tell: Callable[[InputError], None]) -> Iterator[str]:
    """Give the files of a folder and of those in it, by name; of anything else, itself. What cannot be listed is told.

    So is a link to a folder, which may lead in a circle or to everything there is. Pipes and the like are left out: reading one may never
    end.
    """
    if not os.path.isdir(source):
        yield source
        return
    for folder, folders, names in os.walk(source, onerror=lambda error: tell(InputError(str(error.strerror), source=str(error.filename)))):
        folders.sort()
        for path in (os.path.join(folder, name) for name in folders):
            if os.path.islink(path):
                tell(InputError("links to folders are not followed", source=path))
        for path in (os.path.join(folder, name) for name in sorted(names)):
            if os.path.isfile(path) or not os.path.exists(path):
                yield path


def _sheet(part: str, table: CpuidTable, wanted: Wanted, full: bool, form: str, cpus: Cpus) -> Sheet | None:
    """Lay out the leaves that are wanted, or None where the table has none of them; only what `form` prints is worked out.

    `cpus` are all CPUs of the machine, of which the topology may need more than one.
    """
    from vcpuid import decode

    if full and form == "lines":
        text = decode.spell(table, wanted)
        return Sheet([], [], lines=text) if text else None
    leaves = list(decode.leaves(table, wanted))
    if not leaves:
        return None
    if form == "json":
        return Sheet([], [], data={"of": part, **({} if wanted else _summary(table, cpus)), "leaves": [_as_data(leaf) for leaf in leaves]})
    return Sheet(
        columns=[*COLUMNS, "about"] if full else COLUMNS,
        rows=[row for leaf in leaves for row in (_full(leaf) if full else _compact(leaf))],
        head=[*kind(part), *([] if wanted else _head(table))],
        foot=[] if wanted else _foot(table, cpus),
        styles={"field": "bold"},
    )


def _differences(part: str, tables: list[CpuidTable], wanted: Wanted) -> Sheet:
    from vcpuid import decode

    rows = []
    for found in decode.spread(tables):
        if wanted and not {(found.function, found.index), (found.function, None)} & set(wanted):
            continue
        by_value: dict[str, list[int]] = {}
        for cpu, text in enumerate(found.texts()):
            by_value.setdefault(text, []).append(cpu)
        values = "; ".join(f"{text}: CPU {_ranges(cpus)}" for text, cpus in by_value.items())
        place = {"leaf": f"{found.function:#x}.{found.index:x}", "register": found.register, "bits": found.field.bits}
        rows.append({**place, "field": found.field.name, "value": values})
    return Sheet(
        COLUMNS, rows, head=[*kind(part), f"{len(tables)} CPUs, {len(rows)} fields that differ among them", ""], styles={"field": "bold"}
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
COLUMNS = ["leaf", "register", "bits", "field", "value"]


def _full(leaf: Leaf) -> Iterator[dict[str, object]]:
    for value in leaf.values():
        yield {**_row(leaf, value), "about": value.field.description}


def _compact(leaf: Leaf) -> Iterator[dict[str, object]]:
    from itertools import groupby

    for register, values in groupby((value for value in leaf.values() if value.raw), key=lambda value: value.register):
        flags = []
        for value in values:
            if value.field.flag:
                flags.append(value.field.name)
            else:
                yield _row(leaf, value)
        if flags:
            yield {"leaf": str(leaf), "register": register, "bits": "", "field": "flags", "value": " ".join(flags)}


def _row(leaf: Leaf, value: Value) -> dict[str, object]:
    return {
        "leaf": str(leaf),
        "register": value.register,
        "bits": value.field.bits,
        "field": value.field.name,
        "value": str(value.reading),
    }


def _as_data(leaf: Leaf) -> dict[str, object]:
    return {
        "function": leaf.function,
        "index": leaf.index,
        "title": leaf.title,
        "of": leaf.who,
        "fields": [
            {
                "register": value.register,
                "bits": value.field.bits,
                "name": value.field.name,
                "raw": value.raw,
                "value": value.reading.value,
                "unit": value.reading.unit,
                "text": value.reading.text,
                "description": value.field.description,
            }
            for value in leaf.values()
        ],
    }


def _summary(table: CpuidTable, cpus: Cpus) -> dict[str, object]:
    from vcpuid import decode

    who, package, area = decode.identity(table), cpus.topology(table), decode.xsave(table)
    return {
        "identity": {**who._asdict(), "hypervisors": {f"{base:#x}": name for base, name in who.hypervisors.items()}},
        "caches": [cache._asdict() for cache in package.caches],
        "tlbs": [tlb._asdict() for tlb in decode.tlbs(table)],
        "topology": {
            "source": package.source,
            "apic_id": package.apic_id,
            "levels": [level._asdict() for level in package.levels],
            "mixed": package.mixed,
            "counts": package.counts() if package.members or not package.mixed else None,
        },
        "xsave": {**area._asdict(), "components": [component._asdict() for component in area.components]},
        "frequencies": decode.frequencies(table)._asdict(),
        "facts": decode.facts(table),
    }


def _head(table: CpuidTable) -> list[str]:
    from vcpuid import decode

    who = decode.identity(table)
    made = (
        f"{who.design} ({who.microarchitecture})" if who.design and who.design != who.microarchitecture else who.design or "unknown design"
    )
    lines = [f"{who.vendor}  {who.brand}".rstrip()]
    lines.append(f"family {who.family:#x}, model {who.model:#x}, stepping {who.stepping:#x}: {made}")
    lines += [f"hypervisor {name or '(no name)'} at {base:#x}" for base, name in who.hypervisors.items()]
    return [*lines, *(f"{topic}: {text}" for topic, text in decode.facts(table).items()), ""]


def _foot(table: CpuidTable, cpus: Cpus) -> list[str]:
    import shutil

    from vcpuid import decode
    from vcpuid.decode.drawing import WIDTH

    package, area = cpus.topology(table), decode.xsave(table)
    width = shutil.get_terminal_size((WIDTH, 0)).columns
    lines = [""]
    for cache in package.caches:
        ways = f"{cache.ways}-way" if cache.ways.isdigit() else cache.ways and f"{cache.ways} ways"
        line = f"{cache.line} bytes a line" if cache.line else ""
        shared = f"shared by up to {cache.shared} threads" if cache.shared and cache.shared > 1 else ""
        lines.append(f"{', '.join(filter(None, (f'{cache.name} {cache.amount}', ways, line, shared)))}  [{cache.source}]")
    for tlb in decode.tlbs(table):
        ways = f", ways: {tlb.ways}" if tlb.ways else ""
        lines.append(f"TLB {tlb.kind}: {tlb.pages} pages, {tlb.entries} entries{ways}  [{tlb.source}]")
    lines += ["", *decode.draw_topology(package, width)]
    return [*lines, "", *decode.draw_xsave(area, width)] if area.components else lines
