"""Firecracker's tables and templates, against what its own code made of them: tests/captures/firecracker, taken by oracle/firecracker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from support import captures
from vcpuid.cpuid import CpuidTable, Entry, MsrWord, Snapshot
from vcpuid.errors import FirecrackerError, InputError
from vcpuid.formats.firecracker_template import Bitmap, Template, read_template
from vcpuid.reasons import Decision, replay
from vcpuid.vmm.firecracker import RELEASES, Guest, guest

FOLDER = captures.CAPTURES / "firecracker"
ARCH_CAPABILITIES = MsrWord(0x10A)
OFFERED = 0x0FEDCBA987654321
"""What KVM has for it, in all captures."""

TABLES = captures.rows(FOLDER / "tables.jsonl.gz")
TEMPLATES = captures.rows(FOLDER / "templates.jsonl.gz")


def host(row: dict[str, Any]) -> Snapshot:
    return captures.host(row["host"].removesuffix(".txt.gz"))


def entry(text: str) -> Entry:
    place, flags, *registers = text.split()
    function, index = place.split(".")
    return Entry(int(function, 16), int(index, 16), int(flags[1:], 16), *(int(word, 16) for word in registers))


def given(row: dict[str, Any]) -> tuple[CpuidTable, CpuidTable]:
    """The host's CPUID and KVM's answer, with the row's changes."""
    machine = host(row)
    assert machine.supported is not None
    raw, supported = machine.raw.by_key(), machine.supported.by_key()
    if "signature" in row:
        raw[1, 0] = raw[1, 0]._replace(eax=row["signature"])
    if "name" in row:
        text = row["name"].encode().ljust(48, b"\0")
        words = [int.from_bytes(text[place : place + 4], "little") for place in range(0, 48, 4)]
        raw |= {(0x80000002 + leaf, 0): Entry(0x80000002 + leaf, 0, 0, *words[4 * leaf : 4 * leaf + 4]) for leaf in range(3)}
    supported = {place: found for place, found in supported.items() if place[0] not in row.get("without", ())}
    supported |= {found[:2]: found for found in map(entry, row.get("with", ()))}
    return CpuidTable(raw.values()), CpuidTable(supported.values())


def asked(row: dict[str, Any], release: str) -> Guest:
    raw, supported = given(row)
    template = row["template"]
    if isinstance(template, dict):
        template = read_template(json.dumps(template), "template")
    offered = {ARCH_CAPABILITIES.msr: OFFERED}
    machine = {"vcpus": row["vcpus"], "smt": row["smt"], "offered": offered}
    return guest(supported, host=raw, template=template, release=release, kernel="6.1", **machine)


def expected(supported: CpuidTable, changed: list[str]) -> CpuidTable:
    entries = supported.by_key() | {found[:2]: found for found in map(entry, changed)}
    return CpuidTable(entries[place] for place in sorted(entries))


def origin(number: int) -> dict[str, str | None]:
    machine = host(TABLES[number])
    return {"kernel": machine.kernel, "qemu": None, "vendor": machine.vendor}


def test_the_captures_have_refusals_and_templates_of_every_kind_and_most_releases() -> None:
    answers = [answer for row in TABLES for answer in row["answers"]]
    assert len(TABLES) > 700
    assert len([answer for answer in answers if "error" in answer]) > 200
    assert len({answer["error"] for answer in answers if "error" in answer}) > 30
    assert {row["template"] for row in TABLES if isinstance(row["template"], str)} == {"C3", "T2", "T2S", "T2CL", "T2A"}
    releases = {release for answer in answers for release in answer["releases"]}
    assert releases == set(RELEASES) - {"1.14", "1.15"}  # whose code is that of 1.13 and 1.16


@pytest.mark.long
@pytest.mark.conformance("Firecracker tables", origin)
@pytest.mark.parametrize("number", range(len(TABLES)))
def test_tables_and_messages_are_those_of_firecrackers_own_code(number: int, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    row = TABLES[number]
    _, supported = given(row)
    for answer in row["answers"]:
        for release in answer["releases"]:
            if "error" in answer:
                with pytest.raises(FirecrackerError) as refused:
                    asked(row, release)
                assert refused.value.message == answer["error"]
                assert list(refused.value.warnings) == answer.get("warnings", [])
                continue
            made = asked(row, release)
            first, last = answer["changed"]
            assert len(made.tables) == row["vcpus"]
            assert made.tables[0] == expected(supported, first)
            assert made.tables[-1] == expected(supported, last)
            assert list(made.warnings) == answer.get("warnings", [])
            if made.tables[0].registers(7).edx & 1 << 29:
                assert made.msrs == {ARCH_CAPABILITIES: int(answer.get("arch_capabilities", f"{OFFERED:x}"), 16)}
            else:
                assert made.msrs == {}
            fired(f"firecracker/tables row {number}", made.decisions)


@pytest.mark.long
@pytest.mark.parametrize("number", range(0, len(TABLES), 4))
def test_the_decisions_lead_from_what_kvm_supports_to_the_first_table(number: int) -> None:
    row = TABLES[number]
    _, supported = given(row)
    for release in ("1.10", "1.11", "1.12", "1.17"):
        try:
            made = asked(row, release)
        except FirecrackerError:
            continue
        before, after = {**supported.words(), ARCH_CAPABILITIES: OFFERED}, {**made.tables[0].words(), **made.msrs}
        replayed = replay(before, made.decisions)
        assert {word: value for word, value in replayed.items() if value} == {word: value for word, value in after.items() if value}
        last = {
            (decision.word, position): decision for decision in made.decisions for position in range(64) if decision.mask >> position & 1
        }
        for word, value in after.items():
            for position in range(word.width):
                mask = 1 << position
                if (before.get(word, 0) ^ value) & mask:
                    assert last[word, position].value & mask == value & mask
        for decision in made.decisions:
            assert (decision.rule.since or "1.10", decision.rule.until or RELEASES[-1]) == (
                min(decision.rule.since or "1.10", release, key=RELEASES.index),
                max(decision.rule.until or RELEASES[-1], release, key=RELEASES.index),
            )


def canonical(template: Template) -> dict[str, Any]:
    """Write a template as Firecracker writes it."""

    def text(bitmap: Bitmap, width: int) -> str:
        bits = ("x" if not bitmap.filter >> bit & 1 else str(bitmap.value >> bit & 1) for bit in reversed(range(width)))
        return "0b" + "".join(bits)

    return {
        "kvm_capabilities": [capability.replace("+", "") for capability in template.capabilities],
        "cpuid_modifiers": [
            {
                "leaf": f"{modifier.leaf:#x}",
                "subleaf": f"{modifier.subleaf:#x}",
                "flags": modifier.flags,
                "modifiers": [{"register": register, "bitmap": text(bitmap, 32)} for register, bitmap in modifier.registers],
            }
            for modifier in template.cpuid
        ],
        "msr_modifiers": [{"addr": f"{msr:#x}", "bitmap": text(bitmap, 64)} for msr, bitmap in template.msrs],
    }


@pytest.mark.conformance("Firecracker templates", lambda number: {"kernel": None, "qemu": None, "vendor": None})
@pytest.mark.parametrize("number", range(len(TEMPLATES)))
def test_what_firecracker_reads_is_read_alike_and_what_it_refuses_is_refused(number: int) -> None:
    row = TEMPLATES[number]
    if "error" in row:
        with pytest.raises(InputError, match=r"^T\.json:"):
            read_template(row["text"], "T.json")
    else:
        assert canonical(read_template(row["text"], "T.json")) == row["template"]
