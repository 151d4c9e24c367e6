#!/usr/bin/env python3
"""Print how the tables and rules of one release differ from those of the release before it.

    python tools/release_difference.py linux 6.8
    python tools/release_difference.py qemu 10.1 9.2
    python tools/release_difference.py linux 6.8 --wide

The second release is the one to compare with, by default the next older one with tables; where there is none older, the next newer. A row
says what part of the tables it is of, the name, and what either release has; a dash stands for nothing. Rows of rules say which hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from vcpuid import data
from vcpuid.errors import InputError
from vcpuid.kvm.rules import NOT_YET, ROWS
from vcpuid.reasons.history import party_of
from vcpuid.reasons.registry import entered
from vcpuid.reasons.rule import Rule
from vcpuid.releases import KERNELS, QEMUS, UPSTREAM, code_of, number
from vcpuid.rulebook import all_rules

NOTHING = "-"
ANY_STEPPING = 0xFFFF
WIDTH = 60
"""Longer values are cut, unless they are asked for whole."""

Named = Mapping[str, str]


class Row(NamedTuple):
    """A difference: the part of the tables, the name, what the older and the newer release have."""

    part: str
    name: str
    before: str
    after: str


def compared(part: str, before: Named, after: Named) -> Iterator[Row]:
    """Yield a row for every name that the two do not have alike, in the order of the newer one, then of the older."""
    for name in dict.fromkeys((*after, *before)):
        old, new = before.get(name, NOTHING), after.get(name, NOTHING)
        if old != new:
            yield Row(part, name, old, new)


def neighbour(release: str, known: Iterable[str]) -> str:
    """Return the release with tables to compare with; raises InputError where there is no other."""
    others = [other for other in known if other != release]
    if not others:
        raise InputError(f"there are no other tables to compare those of {release} with")
    older = [other for other in others if number(other) < number(release)]
    return older[-1] if older else others[0]


def in_force(rule: Rule, release: str, known: tuple[str, ...]) -> bool:
    """Whether a release with tables has a rule."""
    if release in rule.lacking or release in rule.also:
        return release in rule.also
    at = known.index(code_of(release))
    since, until = rule.since, rule.until
    return (since is None or known.index(since) <= at) and (until is None or at <= known.index(until))


def rules(parties: tuple[str, ...], release: str, known: tuple[str, ...]) -> dict[str, str]:
    """Name the rules of a release, each with the function that it was read from."""
    all_rules()
    return {
        rule.id: rule.source
        for rule in entered()
        if isinstance(rule, Rule) and party_of(rule.id) in parties and rule not in NOT_YET.values() and in_force(rule, release, known)
    }


def capability_rows(release: str) -> dict[str, str]:
    """Name the conditional changes of KVM's capabilities: rule and features, with the action and its condition."""
    return {
        f"{row.rule.id} {row.features}": f"{row.action} {row.when}".rstrip()
        for rows in ROWS.values() for row in rows if row.in_force(release)
    }  # fmt: skip


def linux_tables(release: str) -> dict[str, dict[str, str]]:
    """Lay out the tables of a Linux release by part."""
    table, caps = data.load(f"linux-{release}"), data.load("kvm-caps")
    column = 3 + caps["kernels"].index(release)
    return {
        "word": {name: NOTHING if place is None else " ".join(map(str, place)) for name, place in table["words"]},
        "feature": {name: f"{word}*32+{bit} {shown or ''}".rstrip() for name, word, bit, shown in table["features"]},
        "bug": {name: f"{word}*32+{bit} {shown or ''}".rstrip() for name, word, bit, shown in table["bugs"]},
        "VMX feature": {name: f"{word}*32+{bit} {shown or ''}".rstrip() for name, word, bit, shown in table["vmx"]},
        "scattered bit": {f"{name} {leaf:x}.{index:x}": f"{register} {bit}" for name, leaf, index, register, bit in table["scattered"]},
        "dependency": {f"{name} on {cause}": "yes" for name, cause in table["deps"]},
        "list of models": models(table["models"]),
        "KVM": {f"{name} ({word})": kind for word, _, name, *kinds in caps["features"] if (kind := (None, None, None, *kinds)[column])},
    }


def models(lists: Mapping[str, list[list[Any]]]) -> dict[str, str]:
    """Lay out the lists of processor models, a row a processor; what several rows say of one is joined in their order."""
    found: dict[str, str] = {}
    for name, rows in lists.items():
        for vendor, family, model, steppings, core, platforms, told in rows:
            numbers = "/".join("any" if part is None else f"{part:x}" for part in (family, model))
            of = [name, vendor or "any", numbers, *([] if steppings == ANY_STEPPING else [f"steppings {steppings:x}"])]
            who = " ".join([*of, *([core] if core else []), *([f"platforms {platforms:x}"] if platforms else [])])
            what = " ".join(told) if isinstance(told, list) else "listed" if told is None else f"{told:#x}"
            found[who] = f"{found[who]}; {what}" if who in found else what
    return found


def qemu_tables(release: str) -> dict[str, dict[str, str]]:
    """Lay out the tables of a QEMU release by part."""
    table = data.load(f"qemu-{release}")
    models = {model["name"]: model for model in table["models"]}
    return {
        "word": {word["name"]: place(word) for word in table["words"]},
        "feature": {name: f"{word['name']} {bit}" for word in table["words"] for bit, name in word["bits"].items()},
        "not migratable": {
            name: "yes" for word in table["words"] for bit, name in word["bits"].items() if not word["migratable"] >> int(bit) & 1
        },
        "property": {name: " ".join(map(str, told)) for name, told in table["properties"].items()},
        "alias": dict(table["aliases"].items()),
        "model": {name: parts(model) for name, model in models.items()},
        "alias of a model": {name: str(of) for name, of in table["model_aliases"].items()},
        "dependency": {" ".join(map(str, row)): "yes" for row in table["dependencies"]},
        "XSAVE area": {" ".join(map(str, row[:3])): str(row[3]) for row in table["xsave"]},
        "default under KVM": dict(table["kvm_defaults"]),
        "machine type": {name: parts(machine) for name, machine in table["machines"].items()},
    }


def place(word: Mapping[str, Any]) -> str:
    """Name the place of a feature word."""
    return f"msr {word['msr']:x}" if "msr" in word else f"{word['leaf']:x}.{word['index']:x} {word['register']}"


def parts(row: Mapping[str, Any]) -> str:
    """Lay out an object in one line."""
    return " ".join(f"{key}={value}" for key, value in row.items() if key != "name" and value not in (None, [], {}))


def linux(before: str, after: str) -> Iterator[Row]:
    """Yield what differs between two Linux releases."""
    yield from of_parts(linux_tables, before, after)
    yield from compared("change of KVM's features", capability_rows(before), capability_rows(after))
    yield from compared("rule", *(rules(("linux", "kvm"), release, UPSTREAM) for release in (before, after)))


def qemu(before: str, after: str) -> Iterator[Row]:
    """Yield what differs between two QEMU releases."""
    yield from of_parts(qemu_tables, before, after)
    yield from compared("rule", rules(("qemu",), before, QEMUS), rules(("qemu",), after, QEMUS))


def of_parts(tables: Callable[[str], dict[str, dict[str, str]]], before: str, after: str) -> Iterator[Row]:
    """Yield what differs in the tables, part by part."""
    old = tables(before)
    for part, rows in tables(after).items():
        yield from compared(part, old[part], rows)


def laid_out(rows: Iterable[Row], before: str, after: str, width: int | None = WIDTH) -> Iterator[str]:
    """Lay rows out as a table, a line a row; values longer than `width` are cut."""
    cells = [Row("part", "name", before, after), *rows]
    if width is not None:
        cells = [Row(*(cell if len(cell) <= width else cell[: width - 1] + "…" for cell in row)) for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    for at, row in enumerate(cells):
        yield "  ".join([*(cell.ljust(size) for cell, size in zip(row, widths, strict=False)), row[3]]).rstrip()
        if at == 0:
            yield "─" * (sum(widths) + 6 + len(after))


PROGRAMS: dict[str, tuple[Callable[[str, str], Iterator[Row]], tuple[str, ...]]] = {"linux": (linux, KERNELS), "qemu": (qemu, QEMUS)}


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("release")
    parser.add_argument("other", nargs="?")
    parser.add_argument("--wide", action="store_true", help="cut nothing")
    options = parser.parse_args(arguments)
    differences, known = PROGRAMS[options.program]
    try:
        for release in filter(None, (options.release, options.other)):
            if release not in known:
                raise InputError(f"there are no tables of {options.program} {release}")
        other = options.other or neighbour(options.release, known)
    except InputError as error:
        print(f"release_difference.py: {error}", file=sys.stderr)
        return 3
    before, after = sorted((options.release, other), key=number)
    print("\n".join(laid_out(differences(before, after), before, after, None if options.wide else WIDTH)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
