"""Where members of the kernel's structures stand, as BTF tells it, a module's too, which counts on from the kernel's."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from vcpuid.errors import UnavailableError
from vcpuid.trace.btf import Btf, BtfKind

INT, POINTER, ARRAY, STRUCT, UNION, TYPEDEF, CONST, FUNCTION, PROTOTYPE = 1, 2, 3, 4, 5, 8, 10, 12, 13


class Written:
    """A file of BTF in the making."""

    def __init__(self, strings: int = 0, first: int = 1) -> None:
        self.strings, self.before, self.types, self.number = (b"" if strings else b"\0"), strings, b"", first

    def string(self, text: str) -> int:
        at = self.before + len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def type(self, name: int, kind: int, last: int, members: Sequence[tuple[int, int, int]] = (), more: bytes = b"", flag: int = 0) -> int:
        self.types += struct.pack("<III", name, flag << 31 | kind << 24 | len(members), last)
        self.types += b"".join(struct.pack("<III", *member) for member in members) + more
        self.number += 1
        return self.number - 1

    def data(self) -> bytes:
        head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings))
        return head + self.types + self.strings


@pytest.fixture
def kernel() -> Written:
    made = Written()
    number = made.type(made.string("int"), INT, 4, more=struct.pack("<I", 32))
    inner = made.type(0, UNION, 8, [(made.string("low"), number, 0), (made.string("high"), number, 32)])
    constant = made.type(0, CONST, number)
    entries = made.type(0, ARRAY, 0, more=struct.pack("<III", number, number, 4))
    pointer = made.type(0, POINTER, number)
    made.type(made.string("file"), STRUCT, 64, [
        (made.string("flags"), constant, 64), (0, inner, 128), (made.string("list"), entries, 256), (made.string("data"), pointer, 384),
    ])  # fmt: skip
    made.type(made.string("packed"), STRUCT, 8, [(made.string("bits"), number, 3 << 24 | 40)], flag=1)
    made.type(made.string("walk_files"), FUNCTION, number)
    return made


def test_a_members_place_is_found_also_in_a_union_without_a_name(kernel: Written) -> None:
    btf = Btf(kernel.data())
    assert [btf.offset("file", name) for name in ("flags", "low", "high", "list", "data")] == [8, 16, 20, 32, 48]
    assert btf.offset("packed", "bits") == 5
    assert btf.member("file", "list") == (32, BtfKind.ARRAY)
    assert btf.member("file", "data") == (48, BtfKind.POINTER)
    assert btf.find("walk_files", BtfKind.FUNCTION) == 8
    assert btf.find("walk_files", BtfKind.STRUCT) is None


def test_a_module_counts_on_from_the_kernel(kernel: Written) -> None:
    base = Btf(kernel.data())
    module = Written(strings=len(kernel.strings), first=kernel.number)
    inner = module.type(module.string("arch"), STRUCT, 16, [(module.string("count"), 1, 96)])
    module.type(module.string("vcpu"), STRUCT, 80, [(module.string("private"), 6, 64), (module.string("deep"), inner, 512)])
    flags = kernel.strings.index(b"flags")
    module.type(flags, STRUCT, 4, [(flags, 1, 32)])  # called by a string of the kernel's
    split = Btf(module.data(), base)
    assert split.offset("vcpu", "deep", "count") == 64 + 12
    assert split.offset("vcpu", "private", "high") == 8 + 20
    assert split.offset("file", "data") == 48
    assert split.offset("flags", "flags") == 4


def test_a_tracepoints_arguments_are_named_by_what_they_point_to(kernel: Written) -> None:
    nothing = kernel.type(0, POINTER, 0)
    file = kernel.type(0, POINTER, 6)
    prototype = kernel.type(0, PROTOTYPE, 0, more=struct.pack("<8I", 0, nothing, 0, 1, 0, file, 0, nothing))
    kernel.types = kernel.types.replace(struct.pack("<III", 0, PROTOTYPE << 24, 0), struct.pack("<III", 0, PROTOTYPE << 24 | 4, 0))
    kernel.type(kernel.string("btf_trace_opened"), TYPEDEF, kernel.type(0, POINTER, prototype))
    kernel.type(kernel.string("btf_trace_odd"), TYPEDEF, file)
    btf = Btf(kernel.data())
    assert btf.tracepoint("opened") == [None, "file", None]
    assert btf.tracepoint("odd") == btf.tracepoint("closed") == []


def test_what_is_not_there_is_said(kernel: Written) -> None:
    btf = Btf(kernel.data())
    assert btf.member("file", "nothing") is None
    assert btf.member("file", "flags", "further") is None
    with pytest.raises(UnavailableError, match=r"tells nothing of file\.nothing"):
        btf.offset("file", "nothing")


def test_what_is_no_btf_is_refused_and_takes_no_time(kernel: Written) -> None:
    whole = kernel.data()
    for cut in (0, 8, 23, 40, len(whole) - len(kernel.strings) - 4):
        with pytest.raises(UnavailableError, match="the kernel's BTF cannot be read"):
            Btf(whole[:cut])
    with pytest.raises(UnavailableError, match="no magic number"):
        Btf(b"\x7fELF" + whole[4:])


def test_types_that_lead_to_themselves_are_left() -> None:
    made = Written()
    made.type(made.string("loop"), CONST, 1)
    made.type(made.string("of"), STRUCT, 8, [(made.string("it"), 1, 0)])
    assert Btf(made.data()).member("of", "it", "more") is None
