"""Leaves as people write them, by every verb that takes one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vcpuid.cli import kvm
from vcpuid.cpuid.words import parse_leaf
from vcpuid.decode import Ignored
from vcpuid.errors import InputError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("7", (7, None)),
        ("d.2", (0xD, 2)),
        ("0x80000008", (0x80000008, None)),
        ("0XD.0x3F", (0xD, 0x3F)),
        ("FFFFFFFF.ffffffff", (0xFFFFFFFF, 0xFFFFFFFF)),
        ("00000007.0", (7, 0)),
    ],
)
def test_leaves_are_hexadecimal(text: str, place: tuple[int, int | None]) -> None:
    assert parse_leaf(text) == place
    assert kvm.parse_leaf(text) == (place[0], place[1] or 0)
    Ignored([text], [])


BAD = ["", "seven", "-1", "1_0", "+7", " 7", "7 ", "\t7", "7\n", "100000007", "7.", ".7", "7.-1", "7.1_0", "7.0.0", "0x", "0x0x7", "٧"]


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("read", [parse_leaf, kvm.parse_leaf, lambda text: Ignored([text], [])])
def test_what_int_takes_besides_is_no_leaf(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(InputError, match="is no leaf"):
        read(text)
