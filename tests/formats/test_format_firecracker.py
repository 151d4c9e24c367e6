"""Custom CPU templates, which set some bits and leave all others to the host, are never taken for a whole CPU."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Entry, Snapshot
from vcpuid.cpuid.names import all_features, find_all
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError
from vcpuid.formats import parse
from vcpuid.formats.lines import ENTRY_LIMIT
from vcpuid.formats.names import features, told_as
from vcpuid.formats.writing import losses, write

HOSTS = "x" * 32


def leaf(function: int, index: int = 0, flags: int = 0, **bitmaps: str) -> dict[str, Any]:
    modifiers = [{"register": register, "bitmap": "0b" + bitmap} for register, bitmap in bitmaps.items()]
    return {"leaf": f"{function:#x}", "subleaf": f"{index:#x}", "flags": flags, "modifiers": modifiers}


def template(*leaves: dict[str, Any]) -> str:
    return json.dumps({"cpuid_modifiers": leaves, "msr_modifiers": []}, indent=2)


ALL = dict.fromkeys(REGISTERS, f"{5:032b}")
SIGNATURE = "xxxx000000000011xx00011011110010"
TEMPLATE = template(
    leaf(1, eax=SIGNATURE, ecx="x" * 31 + "1", edx="xxx0" + "x" * 28),
    leaf(7, 0, 1, ebx="x" * 26 + "0xxxxx"),
    leaf(0x1D, 2, 1, **ALL),
)


def test_a_template_tells_of_every_bit_that_it_sets_and_of_no_other() -> None:
    (cpu,) = parse(TEMPLATE, "T2.json")
    signature = {f"1.0.eax.{31 - place}": bit == "1" for place, bit in enumerate(SIGNATURE) if bit != "x"}
    whole = {f"1d.2.{register}.{bit}": bool(5 >> bit & 1) for register in REGISTERS for bit in range(32)}
    assert dict(cpu.named) == {**signature, "pni": True, "ht": False, "avx2": False, **whole}
    note = "a template that leaves bits to the host: of CPUID only the 157 that it sets are told, by name"
    assert cpu == Snapshot(named=cpu.named, notes=(note,))


def test_a_whole_leaf_of_a_template_is_no_table() -> None:
    whole, part = leaf(0x1D, 2, 1, **ALL), leaf(0x1D, 1, 1, **{**ALL, "edx": "x" + "0" * 31})
    assert parse(template(whole), "T2.json") == [Snapshot(table=CpuidTable([Entry(0x1D, 2, 1, 5, 5, 5, 5)]))]
    (cpu,) = parse(template(whole, part), "T2.json")
    assert (cpu.raw, cpu.table, len(cpu.named)) == (CpuidTable(), None, 255)


@pytest.mark.parametrize("bitmap", ["0", "0_0", "x" * 30 + "0"])
def test_bits_that_a_bitmap_does_not_reach_are_the_hosts(bitmap: str) -> None:
    (cpu,) = parse(template(leaf(7, ebx="x" + bitmap)), "T2.json")
    assert set(cpu.named.values()) == {False}
    assert len(cpu.named) == bitmap.count("0")


def test_what_a_template_sets_goes_on_by_the_names_of_others() -> None:
    (cpu,) = parse(TEMPLATE, "T2.json")
    for form in ("snapshot", "json"):
        assert parse("\n".join(write([cpu], form)) + "\n", "again") == [cpu]
    assert list(write([cpu], "qemu")) == ["base,+pni"]
    assert "  <feature policy='require' name='pni'/>" in list(write([cpu], "libvirt"))
    assert any("without a name in QEMU: 1.0.eax.1 1.0.eax.4" in lost for lost in losses([cpu], "qemu"))
    with pytest.raises(InputError, match="nothing that"):
        list(write([cpu], "cpuid"))


def test_each_bit_of_cpuid_has_a_text_of_its_own() -> None:
    bits = [feature.bit for feature in all_features() if feature.bit is not None and isinstance(feature.bit.word, CpuidWord)]
    texts = [told_as(bit) for bit in bits]
    assert len(set(texts)) == len(bits) > 500
    for bit, text in zip(bits, texts, strict=True):
        assert find_all(text)[0].bit == bit
        asked = features(Snapshot(named={text: True}), lambda feature: str(feature.place))
        assert asked == {str(bit): True}


def test_a_bit_without_a_name_is_told_by_its_place() -> None:
    assert told_as(Bit(CpuidWord(0x1D, 2, "ecx"), 31)) == "1d.2.ecx.31"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (template(leaf(7, eax=HOSTS), leaf(7, ebx=HOSTS)), "a second entry of leaf 7.0"),
        (template(leaf(1, **ALL), leaf(7, 1, **ALL), leaf(7, 1, **ALL)), "a second entry of leaf 7.1"),
        (template({**leaf(7), "modifiers": leaf(7, eax="0")["modifiers"] * 2}), "a second bitmap for eax of leaf 7.0"),
        (template(leaf(7, eax=HOSTS)), "a template that leaves every bit of CPUID to the host"),
        (template(leaf(7)), "a template that leaves every bit of CPUID to the host"),
        (template(), "a template that leaves every bit of CPUID to the host"),
        (template(leaf(7, eax="1" * 33)), r"cpuid_modifiers\[0\].modifiers\[0\].bitmap: '0b1+' is not a bitmap of at most 32 characters"),
        (template(leaf(7, eax="")), "a template that leaves every bit of CPUID to the host"),
        (template(leaf(7, rax="1")), r"cpuid_modifiers\[0\].modifiers\[0\].register: 'rax' is not one of eax, ebx, ecx, edx"),
        pytest.param(
            template(*(leaf(number, **ALL) for number in range(ENTRY_LIMIT + 1))), f"cpuid_modifiers: more than {ENTRY_LIMIT} entries",
            id="many", marks=pytest.mark.bounds,
        ),
    ],
)  # fmt: skip
def test_a_template_that_contradicts_itself_is_refused(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=f"^T2.json: {cause}"):
        parse(text, "T2.json")


def test_blanks_hide_no_template() -> None:
    assert parse("\n" * 200 + TEMPLATE, "T2.json") == parse(TEMPLATE, "T2.json")
