"""QEMU's texts: each template prints what QEMU printed, and finds again what stands in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest

from support.qemu_captures import qemu_rows
from vcpuid.cpuid import parse_bit
from vcpuid.qemu.messages import MESSAGES, Message, recognise

ROWS = ("early", "machines", "more", "options", "random", "sets")
PROGRAM = re.compile(r"qemu-system-x86_64: (?:-accel kvm: )?(?:warning: |info: )?")

FEATURES = {"HOST_LACKS", "NOT_REQUESTED", "CONFLICTS", "PT_NEEDS_LEVEL"}
"""Those whose field `feature` is a bit."""

NOT_OF_THE_CPU = (
    r"Machine type '.*' is deprecated: .*",
    r"Restoring resisters after init: Failed to set KVM type registers: Invalid argument",  # this machine's KVM refused other registers
)
"""Lines that say nothing of what the CPU is, and that no template has."""


@cache
def printed() -> dict[str, str]:
    """Every line that a captured QEMU printed, without the program's name, and a whole line that it came from."""
    found: dict[str, str] = {}
    for name in ROWS:
        for row in qemu_rows(name):
            for line in row["stderr"]:
                found.setdefault(PROGRAM.sub("", line, count=1), line)
    return found


def parts() -> Iterator[str]:
    """Every line of every template: QEMU prints some texts in two lines."""
    for message in MESSAGES.values():
        yield from message.template.split("\n")


LINES = [Message(part) for part in dict.fromkeys(parts())]


def test_the_captures_hold_what_they_held() -> None:
    assert len(printed()) > 500


def test_every_line_that_a_captured_qemu_printed_is_a_template() -> None:
    unknown = [line for text, line in printed().items() if not any(message.match(text) is not None for message in LINES)]
    assert not [line for line in unknown if not any(re.search(f"({pattern})$", line) for pattern in NOT_OF_THE_CPU)]


def test_what_is_found_prints_the_line_again() -> None:
    for text in printed():
        for name, fields in recognise(text):
            message = MESSAGES[name]
            specs = dict(re.findall(r"\{(\w+):(\w)\}", message.template))
            values = {k: int(v, 16) if specs.get(k) == "x" else int(v) if specs.get(k) == "d" else v for k, v in fields.items()}
            assert message(**values) == text


def test_a_feature_is_a_bit_that_can_be_read() -> None:
    seen = set()
    for text in printed():
        for name, fields in recognise(text):
            if name in FEATURES and not re.fullmatch(r"vPMU|avx10\..*", fields["feature"]):
                assert parse_bit(fields["feature"]) is not None, text
                seen.add(name)
    assert seen >= {"HOST_LACKS", "NOT_REQUESTED"}


def test_a_template_with_two_equal_fields_wants_them_equal() -> None:
    ambiguous = MESSAGES["AMBIGUOUS"]
    assert ambiguous.match('Ambiguous CPU model string. Don\'t mix both "+pmu" and "pmu=off"') == {
        "sign": "+",
        "name": "pmu",
        "value": "off",
    }
    assert ambiguous.match('Ambiguous CPU model string. Don\'t mix both "+pmu" and "mpu=off"') is None


@pytest.mark.parametrize("name", MESSAGES)
def test_each_finds_what_it_prints(name: str) -> None:
    message = MESSAGES[name]
    specs = dict(re.findall(r"\{(\w+)(?::(\w))?\}", message.template))
    fields: dict[str, object] = {field: 0x1F if spec == "x" else 17 if spec == "d" else f"<{field}>" for field, spec in specs.items()}
    found = message.match(message(**fields))
    assert found == {field: "1f" if specs[field] == "x" else str(value) for field, value in fields.items()}
