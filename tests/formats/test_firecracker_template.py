"""The strict reader of Firecracker's CPU templates: what Firecracker takes is read to the same value, what it refuses is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpuid.errors import InputError
from vcpuid.formats.firecracker_template import Bitmap, CpuidModifier, Template, read_template

MODIFIER: dict[str, Any] = {"leaf": "0x7", "subleaf": "0b0", "flags": 1, "modifiers": [{"register": "ebx", "bitmap": "0bx1_0"}]}
MSR: dict[str, Any] = {"addr": "0x10a", "bitmap": "0b" + "1" * 64}


def cpuid(**changes: Any) -> str:
    return json.dumps({"cpuid_modifiers": [{key: value for key, value in {**MODIFIER, **changes}.items() if value is not None}]})


def register(**changes: Any) -> str:
    return cpuid(modifiers=[{**MODIFIER["modifiers"][0], **changes}])


def msr(**changes: Any) -> str:
    return json.dumps({"msr_modifiers": [{**MSR, **changes}]})


def test_each_part_of_a_template_is_read() -> None:
    text = json.dumps({"cpuid_modifiers": [MODIFIER], "msr_modifiers": [MSR], "kvm_capabilities": ["171", "!56"]})
    modifier = CpuidModifier(7, 0, 1, (("ebx", Bitmap(0b011, 0b010)),))
    assert read_template(text, "T.json") == Template((modifier,), ((0x10A, Bitmap((1 << 64) - 1, (1 << 64) - 1)),), ("171", "!56"))


def test_all_parts_may_be_missing() -> None:
    assert read_template("{}", "T.json") == Template()


def test_keys_that_firecracker_does_not_look_at_are_passed_over() -> None:
    assert read_template(cpuid(why="because"), "T.json") == read_template(cpuid(), "T.json")


def test_a_leaf_and_a_register_may_stand_twice() -> None:
    twice = {**MODIFIER, "modifiers": MODIFIER["modifiers"] * 2}
    read = read_template(json.dumps({"cpuid_modifiers": [twice, MODIFIER]}), "T.json")
    assert [len(modifier.registers) for modifier in read.cpuid] == [2, 1]


@given(st.text("01x", max_size=32), st.booleans(), st.data())
def test_a_bitmap_says_of_each_bit_what_its_character_says(bits: str, prefix: bool, data: st.DataObject) -> None:
    spaced = "".join(character + data.draw(st.sampled_from(["", "_"])) for character in bits)
    (modifier,) = read_template(register(bitmap="0b" * prefix + spaced), "T.json").cpuid
    ((_, (mask, value)),) = modifier.registers
    for place, character in enumerate(reversed(bits)):
        assert (mask >> place & 1, value >> place & 1) == {"x": (0, 0), "0": (1, 0), "1": (1, 1)}[character]
    assert mask >> len(bits) == value & ~mask == 0


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no JSON value"),
        ("{} {}", "more than one JSON value"),
        ("[]", "the template: not a JSON object"),
        ("{", "damaged or cut JSON"),
        ('{"reg_modifiers": []}', "'reg_modifiers' is for arm64"),
        ('{"cpuid": []}', "'cpuid' is no key of a CPU template: kvm_capabilities, cpuid_modifiers, msr_modifiers are"),
        ('{"msr_modifiers": [], "msr_modifiers": []}', "a second 'msr_modifiers' in one object"),
        ('{"msr_modifiers": null}', "msr_modifiers: not a list"),
        ('{"msr_modifiers": [5]}', r"msr_modifiers\[0\]: not a JSON object"),
        ('{"msr_modifiers": [' + ",".join(["{}"] * 4097) + "]}", "msr_modifiers: more than 4096 entries"),
        ('{"kvm_capabilities": [171]}', r"kvm_capabilities\[0\]: '171' is not the number of a KVM capability"),
        ('{"kvm_capabilities": ["!!5"]}', r"kvm_capabilities\[0\]: '!!5' is not the number"),
        ('{"kvm_capabilities": ["4294967296"]}', r"kvm_capabilities\[0\]: '4294967296' is not the number"),
        (cpuid(leaf=None), r"cpuid_modifiers\[0\]: leaf is missing"),
        (cpuid(flags=None), r"cpuid_modifiers\[0\]: flags is missing"),
        (cpuid(modifiers=None), r"cpuid_modifiers\[0\]: modifiers is missing"),
        (cpuid(leaf="7"), r"cpuid_modifiers\[0\].leaf: '7' is not a number of 32 bits"),
        (cpuid(leaf=7), r"cpuid_modifiers\[0\].leaf: '7' is not a number"),
        (cpuid(subleaf="0x"), r"cpuid_modifiers\[0\].subleaf: '0x' is not a number"),
        (cpuid(leaf="0x100000000"), r"cpuid_modifiers\[0\].leaf: '0x100000000' is not a number of 32 bits"),
        (cpuid(flags=True), r"cpuid_modifiers\[0\].flags: True is not a number of 32 bits"),
        (cpuid(flags=-1), r"cpuid_modifiers\[0\].flags: -1 is not a number"),
        (cpuid(flags=1.5), r"cpuid_modifiers\[0\].flags: 1.5 is not a number"),
        (register(register="EBX"), r"cpuid_modifiers\[0\].modifiers\[0\].register: 'EBX' is not one of eax, ebx, ecx, edx"),
        (register(bitmap="0b1?"), r"cpuid_modifiers\[0\].modifiers\[0\].bitmap: '0b1\?' is not a bitmap of at most 32"),
        (register(bitmap="0b" + "x" * 33), r"modifiers\[0\].bitmap: '0bx+' is not a bitmap"),
        (register(bitmap="0b_" + "x" * 32), r"modifiers\[0\].bitmap: '0b_x+' is not a bitmap"),
        (register(bitmap=1), r"modifiers\[0\].bitmap: '1' is not a bitmap"),
        (msr(addr="0jj0"), r"msr_modifiers\[0\].addr: '0jj0' is not a number"),
        (msr(bitmap="0b" + "x" * 65), r"msr_modifiers\[0\].bitmap: '0bx+' is not a bitmap of at most 64"),
        ("[" * 100_000, "nested too deep"),
    ],
)  # fmt: skip
def test_what_firecracker_would_not_take_is_refused_in_one_line(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=f"^T.json:(1: )? ?{cause}|{cause}") as refused:
        read_template(text, "T.json")
    assert str(refused.value).startswith("T.json:")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250
