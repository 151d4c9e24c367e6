"""A decoded table as a document for programs, and what people read above and below its fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from vcpuid.cpuid.registers import CpuidTable
from vcpuid.cpuid.words import leaf_keys, parse_leaf
from vcpuid.decode.caches import Cache, tlbs
from vcpuid.decode.diff import Spread
from vcpuid.decode.drawing import draw_topology, draw_xsave
from vcpuid.decode.facts import facts, frequencies
from vcpuid.decode.identity import identity
from vcpuid.decode.leaves import Leaf, leaves
from vcpuid.decode.topology import Cpus, Topology
from vcpuid.decode.xsave import xsave

SCHEMA = "vcpuid/decode/2"
"""The form of the documents: `decoded` with this name before it, a list of those, and `differences`."""


def decoded(part: str, table: CpuidTable, cpus: Cpus, wanted: Sequence[tuple[int, int | None]] | None = None) -> dict[str, object]:
    """Decode a table, which is the `part` of a snapshot, for JSON: its fields and, without `wanted` leaves, what they say together.

    `cpus` are those of its machine, of which the topology may need more than one.
    """
    together = {} if wanted else _summary(table, cpus)
    return {"part": part, **together, "leaves": [_leaf(leaf) for leaf in leaves(table, wanted)]}


def _leaf(leaf: Leaf) -> dict[str, object]:
    fields = [
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
    ]
    return {**leaf_keys(leaf.function, leaf.index), "title": leaf.title, "who": leaf.who, "fields": fields}


def _summary(table: CpuidTable, cpus: Cpus) -> dict[str, object]:
    who, area, clocks = identity(table), xsave(table), frequencies(table)
    hypervisors = [{"function": f"{base:08x}", "name": name} for base, name in who.hypervisors.items()]
    package = cpus.topology(table)
    signature = None if who.signature is None else f"{who.signature:08x}"
    masks = {"user": f"{area.user:x}", "supervisor": f"{area.supervisor:x}"}
    return {
        "identity": {**who._asdict(), "signature": signature, "hypervisors": hypervisors},
        "caches": [_sourced(cache._asdict()) for cache in package.caches],
        "tlbs": [_sourced(tlb._asdict()) for tlb in tlbs(table)],
        "topology": _topology(package),
        "xsave": {**area._asdict(), **masks, "components": [component._asdict() for component in area.components]},
        "frequencies": _sourced(clocks._asdict()),
        "facts": [{"topic": topic, "text": text} for topic, text in facts(table).items()],
    }


def _topology(package: Topology) -> dict[str, object]:
    known = package.members or not package.mixed
    counts = [{"name": name, "count": count} for name, count in package.counts().items()] if known else None
    levels = [level._asdict() for level in package.levels]
    told = {"apic_id": package.apic_id, "levels": levels, "mixed": package.mixed, "counts": counts}
    return _sourced({"source": package.source, **told})


def _sourced(told: Mapping[str, object]) -> dict[str, object]:
    """Spell the leaves of a `source` as a snapshot's lines do: a list of `00000004.1`, or `80000005` for one without sub-leaves."""
    return {**told, "source": [_place(text) for text in str(told["source"]).split(", ") if text]}


def _place(text: str) -> str:
    function, index = parse_leaf(text)
    return f"{function:08x}" if index is None else ".".join(leaf_keys(function, index).values())


def grouped(spread: Spread) -> Iterator[tuple[str, list[int]]]:
    """Give each value of a field that differs among CPUs, and the CPUs that have it, by their place in the dump."""
    by_value: dict[str, list[int]] = {}
    for cpu, text in enumerate(spread.texts()):
        by_value.setdefault(text, []).append(cpu)
    yield from by_value.items()


def differences(part: str, count: int, found: Iterable[Spread]) -> dict[str, object]:
    """Put the fields in which `count` CPUs of a dump differ into a document."""
    rows = [
        {
            **leaf_keys(spread.function, spread.index),
            "register": spread.register,
            "bits": spread.field.bits,
            "name": spread.field.name,
            "values": [{"text": text, "cpus": cpus} for text, cpus in grouped(spread)],
        }
        for spread in found
    ]
    return {"schema": SCHEMA, "part": part, "count": count, "differences": rows}


def head(table: CpuidTable) -> list[str]:
    """Say in lines who a processor is, and what its fields tell by topic."""
    who = identity(table)
    made = (
        f"{who.design} ({who.microarchitecture})" if who.design and who.design != who.microarchitecture else who.design or "unknown design"
    )
    lines = [f"{who.vendor}  {who.brand}".strip()]
    if who.family is not None:
        lines.append(f"family {who.family:#x}, model {who.model:#x}, stepping {who.stepping:#x}: {made}")
    lines += [f"hypervisor {name or '(no name)'} at {base:#x}" for base, name in who.hypervisors.items()]
    lines += [f"{topic}: {text}" for topic, text in facts(table).items()]
    said = [line for line in lines if line]
    return [*said, ""] if said else []


def foot(table: CpuidTable, cpus: Cpus, width: int) -> list[str]:
    """List caches and TLBs, and draw the topology and the XSAVE area, in lines of `width` characters where that is enough."""
    package, area = cpus.topology(table), xsave(table)
    lines = ["", *map(_cache, package.caches)]
    for tlb in tlbs(table):
        ways = f", ways: {tlb.ways}" if tlb.ways else ""
        lines.append(f"TLB {tlb.kind}: {tlb.pages} pages, {tlb.entries} entries{ways}  [{tlb.source}]")
    lines += ["", *draw_topology(package, width)]
    return [*lines, "", *draw_xsave(area, width)] if area.components else lines


def _cache(cache: Cache) -> str:
    ways = f"{cache.ways}-way" if cache.ways.isdigit() else cache.ways and f"{cache.ways} ways"
    line = f"{cache.line} bytes a line" if cache.line else ""
    shared = f"shared by up to {cache.shared} threads" if cache.shared and cache.shared > 1 else ""
    return f"{', '.join(filter(None, (f'{cache.name} {cache.amount}', ways, line, shared)))}  [{cache.source}]"
