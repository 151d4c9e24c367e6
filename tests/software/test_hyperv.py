"""What Windows finds: the decoder against real QEMU's tables, and against what their -cpu asked for."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.qemu_captures import RUNS, qemu_origin, qemu_rows
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry
from vcpuid.cpuid.hyperv import ENLIGHTENMENTS, FEATURES, INTERFACE, NO_SPINLOCKS, RECOMMENDATIONS, VENDOR
from vcpuid.cpuid.words import REGISTERS
from vcpuid.data import load
from vcpuid.software.hyperv import SPINLOCKS, fields, idles, offered, offers, present, recommended_but_missing


def entry(line: str) -> Entry:
    place, flags, *registers = line.split()
    function, _, index = place.partition(".")
    return Entry(int(function, 16), int(index, 16), int(flags[1:], 16), *(int(register, 16) for register in registers))


@cache
def rows() -> list[dict[str, Any]]:
    return [row for name in RUNS for row in qemu_rows(name) if row.get("vcpus") and asked(row["cpu"]) is not None]


def origin(number: int) -> dict[str, str | None]:
    return qemu_origin(rows()[number])


def asked(cpu: str) -> frozenset[str] | None:
    """The enlightenments that a -cpu asks for by name; None where it has none, or leaves it to the host (hv-passthrough)."""
    flags = [part.replace("_", "-").lstrip("+") for part in cpu.split(",")]
    last = {name: value in ("", "on") for name, _, value in (part.partition("=") for part in flags)}
    if last.get("hv-passthrough"):
        return None
    found = {"hv-avic" if name == "hv-apicv" else name for name, on in last.items() if on} & set(ENLIGHTENMENTS)
    retries = [int(part.partition("=")[2], 0) for part in flags if part.startswith("hv-spinlocks=")]
    spinlocks = any(number != NO_SPINLOCKS for number in retries[-1:])
    return frozenset(found | ({SPINLOCKS} if spinlocks else set())) or None


def test_enough_captured_tables_have_hyperv() -> None:
    assert len(rows()) >= 90


@pytest.mark.parametrize("number", range(len(rows())), ids=lambda n: rows()[n]["cpu"])
@pytest.mark.conformance("enlightenments", origin)
def test_what_is_decoded_is_what_the_flags_asked_for(number: int) -> None:
    row = rows()[number]
    table = CpuidTable(map(entry, row["vcpus"][0]))
    wanted = asked(row["cpu"])
    if table.get(VENDOR) is None or table.registers(INTERFACE).eax == 0:
        # KVM there has no Hyper-V, and QEMU then ignores the flags: it says so by leaving the leaves to KVM's own.
        assert not offered(table)
        return
    assert offered(table) == wanted
    assert present(table) == bool(table.registers(1).ecx >> 31)  # -cpu can take the hypervisor bit away, and Windows does not look then


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(rows())), ids=lambda n: rows()[n]["cpu"])
def test_every_set_bit_is_decoded_and_named(number: int) -> None:
    table = CpuidTable(map(entry, rows()[number]["vcpus"][0]))
    named = [field for field in fields(table) if field.place.count(".") == 2]
    eax, ebx, _, edx = table.registers(FEATURES)
    words = [eax, ebx, edx, table.registers(RECOMMENDATIONS).eax]
    in_words = [field for field in named if field.place.startswith((f"{FEATURES:x}", f"{RECOMMENDATIONS:x}"))]
    assert len(in_words) == sum(word.bit_count() for word in words)
    assert all(field.name != "?" for field in named)


def table(*flags: str, spinlocks: int = NO_SPINLOCKS) -> CpuidTable:
    """A table with the bits of some flags, put together by hand: dependencies do not count."""
    interface = [int.from_bytes(b"Hv#1", "little"), 0, 0, 0]
    leaves: dict[int, list[int]] = {1: [0, 0, 1 << 31, 0], INTERFACE: interface, RECOMMENDATIONS: [0, spinlocks, 0, 0]}
    for flag in flags:
        for bit in ENLIGHTENMENTS[flag].bits:
            assert isinstance(bit.word, CpuidWord)
            leaves.setdefault(bit.word.function, [0, 0, 0, 0])[REGISTERS.index(bit.word.register)] |= bit.mask
    return CpuidTable(Entry(leaf, 0, 0, *registers) for leaf, registers in sorted(leaves.items()))


def test_every_flag_alone_is_decoded_as_itself() -> None:
    for flag in ENLIGHTENMENTS:
        assert offered(table(flag)) == {flag}
    assert offered(table(spinlocks=0x1FFF)) == {SPINLOCKS}


def test_an_enlightenment_without_those_it_needs_says_so() -> None:
    found = {one.flag: one for one in offers(table("hv-stimer", "hv-time"))}
    assert found["hv-stimer"].offered
    assert found["hv-stimer"].lacks == ("hv-synic",)


def test_what_to_add_comes_with_what_it_needs_and_is_enough() -> None:
    missing = recommended_but_missing(table("hv-relaxed"))
    assert "hv-relaxed" not in missing
    for flag in missing:
        needs = ENLIGHTENMENTS[flag].needs
        assert all(need in ("hv-relaxed", *missing[: missing.index(flag)]) for need in needs)
    assert missing.index("hv-vpindex") < missing.index("hv-synic") < missing.index("hv-stimer")
    assert recommended_but_missing(table("hv-relaxed", *missing)) == ()


def test_without_the_interface_there_is_no_hyperv() -> None:
    bare = CpuidTable([Entry(1, 0, 0, 0, 0, 1 << 31, 0), Entry(0x40000000, 0, 0, 0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D)])
    assert not present(bare)
    assert not offered(bare)
    assert not present(CpuidTable(one for one in table("hv-time") if one.function != 1))


def test_there_is_a_word_on_every_enlightenment() -> None:
    facts = load("hyperv")["enlightenments"]
    assert set(facts) == {*ENLIGHTENMENTS, SPINLOCKS}
    assert {kind for kind, _, _ in facts.values()} == {"recommended", "nested", "special"}


def test_the_documentation_has_the_same_words() -> None:
    page = (Path(__file__).parents[2] / "docs" / "windows.md").read_text(encoding="utf-8")
    for flag, (kind, use, without) in load("hyperv")["enlightenments"].items():
        assert f"| `{flag}` | {kind} | {use} | {without} |" in page
    recommended = [flag for flag, (kind, _, _) in load("hyperv")["enlightenments"].items() if kind == "recommended"]
    said = {frozenset(found.split(",")) for found in re.findall(r"`-cpu host,(hv-[^`]+)`", page)}
    assert {frozenset(recommended), frozenset(idles())} <= said
