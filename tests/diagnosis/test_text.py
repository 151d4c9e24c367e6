"""A paste is made plain, and what stands in it is found again in the paste as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpuid.diagnosis.recognise import LIMIT, recognise
from vcpuid.diagnosis.text import plain, unwrapped
from vcpuid.errors import InputError

MISSING = "guest CPU doesn't match specification: missing features: fma,movbe"

PASTES = {
    "as it is": MISSING,
    "a terminal's edge": "operation failed: guest CPU doesn't\n  match specification: missing\nfeatures: fma,movbe",
    "a list's lines": "guest CPU doesn't match specification: missing features: fma,\n    movbe",
    "mail": "> > guest CPU doesn't match specification: missing features: fma,movbe",
    "mail, wrapped": "> guest CPU doesn't match\n> specification: missing features: fma,movbe",
    "YAML": "message: 'operation failed: guest CPU doesn''t match specification: missing features: fma,movbe'",
    "JSON": '{"message": "guest CPU doesn\\\'t match specification: missing features: fma,movbe\\nnext"}',
    "JSON in JSON": '"{\\"message\\": \\"guest CPU doesn\\\\\'t match specification: missing features: fma,movbe\\"}"',
    "a word processor": "guest CPU doesn\u2019t match specification: missing features: fma,movbe",
    "HTML": "guest CPU doesn&#39;t match specification: missing features: fma,movbe",
    "a journal": f"Nov 29 10:00:00 node7 libvirtd[812]: operation failed: {MISSING}",
    "libvirt's log": f"2024-11-09 10:00:00.123+0000: 1234: error : virCPUx86Compare:123 : operation failed: {MISSING}",
    "the kernel's log": f"<4>[   12.345678] {MISSING}",
    "colours": f"\x1b[31merror:\x1b[0m {MISSING}",
    "blanks of no width": "guest CPU doesn't match specification: missing\u00a0features: fma,\u200bmovbe",
    "Windows' line ends": f"first\r\n{MISSING}\r\nlast\r\n",
}


@pytest.mark.parametrize("paste", PASTES.values(), ids=PASTES)
def test_it_is_found_however_it_was_pasted(paste: str) -> None:
    (match,) = recognise(paste)
    assert match.message.id == "libvirt.live.missing"
    assert [name.strip() for name in match.groups["features"].split(",")] == ["fma", "movbe"]
    within = paste[match.start : match.end]
    assert within.startswith("guest CPU")
    assert within.endswith("movbe")


def test_two_lines_are_two_messages_and_a_broken_one_is_not_found_twice() -> None:
    lines = [f"host doesn't support requested feature: CPUID.01H:ECX.{name} [bit {bit}]" for name, bit in (("pcid", 17), ("fma", 12))]
    assert [match.groups["feature"] for match in recognise("\n".join(lines))] == ["pcid", "fma"]


def test_what_stands_within_another_message_of_its_layer_is_not_told_besides() -> None:
    text = "error: the CPU is incompatible with host CPU: Host CPU does not provide required features: hle, rtm"
    assert [match.message.id for match in recognise(text)] == ["libvirt.incompatible"]


def test_a_paste_has_a_limit() -> None:
    assert recognise("x" * LIMIT) == ()
    with pytest.raises(InputError, match="characters"):
        recognise("x" * (LIMIT + 1))


@given(st.text(st.sampled_from("ab ,\n\t'\\\"n\x1b[31m>&;#9\u2019\u200b\x00`"), max_size=60))
def test_each_character_that_is_kept_has_its_place_in_the_paste(paste: str) -> None:
    made = plain(paste)
    for position, character in enumerate(made.text):
        origin = made.origin(position)
        assert 0 <= origin < len(paste)
        if character in "ab[31m>#9" and paste[origin] not in "&\\":
            assert paste[origin] == character
    flat = unwrapped(made)
    assert "\n" not in flat.text
    places = [flat.origin(position) for position in range(len(flat.text))]
    assert places == sorted(places)
