"""Addresses get the names of a kernel's functions, and a System.map is moved to where its kernel runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcpuid.errors import InputError
from vcpuid.trace.symbols import Symbols, read_symbols

MAP = """\
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff810a1340 t native_cpuid
ffffffff810a1370 t native_halt
ffffffff82000000 D some_data
"""
CPUID = 0xFFFFFFFF810A134B


STOCK = """\
0000000000000000 A fixed_percpu_data
000000000002c000 A irq_stack_backing_store
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000c43 T startup_64
ffffffff8103c325 T secondary_startup_64_no_verify
ffffffff8103c33f t common_startup_64
ffffffff8103c480 t __pfx_verify_cpu
ffffffff8103c490 t verify_cpu
ffffffff8103c590 T __pfx_sev_verify_cbit
ffffffff81095d00 t __pfx_native_cpuid
ffffffff81095d10 t native_cpuid
ffffffff81095d40 t __pfx_native_halt
ffffffff82000000 T _etext
ffffffff8334ccc0 T __pfx_microcode_loader_disabled
ffffffff8334ccd0 T microcode_loader_disabled
ffffffff8334cd40 t __pfx_microcode_init
"""
"""Of the symbols of Debian's 6.12.117+deb13-cloud-amd64, booted without KASLR."""
SEEN = {
    0xFFFFFFFF9183C43B: "common_startup_64+0xfc",
    0xFFFFFFFF9183C49D: "verify_cpu+0xd",
    0xFFFFFFFF9183C553: "verify_cpu+0xc3",
    0xFFFFFFFF91895D23: "native_cpuid+0x13",
    0xFFFFFFFF93B4CCEB: "microcode_loader_disabled+0x1b",
    0x4018EE: None,
    0xE98EA: None,
}
"""Where a guest with that kernel, booted with KASLR, executed CPUID."""


def test_a_stock_kernels_addresses_are_those_of_its_functions(tmp_path: Path) -> None:
    file = tmp_path / "System.map"
    file.write_text(STOCK, encoding="ascii")
    moved = read_symbols(str(file)).moved(SEEN)
    assert moved is not None
    assert (moved.slide, {address: moved.name(address) for address in SEEN}) == (0x10800000, SEEN)


@pytest.fixture
def system_map(tmp_path: Path) -> Symbols:
    file = tmp_path / "System.map"
    file.write_text(MAP, encoding="ascii")
    return read_symbols(str(file))


def test_an_address_is_a_function_and_the_bytes_behind_it(system_map: Symbols) -> None:
    assert system_map.name(0xFFFFFFFF810A1340) == "native_cpuid"
    assert system_map.name(CPUID) == "native_cpuid+0xb"
    assert system_map.name(0xFFFFFFFF80FFFFFF) is None
    assert system_map.name(0xFFFFFFFF82000010) is None  # far behind the last function
    assert system_map.name(0x1000) is None


@pytest.mark.parametrize("slide", [0, 1 << 21, 0x1A200000, (1 << 30) - (1 << 21)])
def test_the_slide_is_the_one_by_which_a_cpuid_lies_in_native_cpuid(system_map: Symbols, slide: int) -> None:
    seen = [CPUID + slide, 0xFFFFFFFF81234567 + slide, 0x7F0000001000, 0xF0000]
    if seen[0] > (1 << 64) - 1:
        pytest.skip("no kernel runs there")
    moved = system_map.moved(seen)
    assert moved is not None
    assert moved.slide == slide
    assert moved.name(CPUID + slide) == "native_cpuid+0xb"


@pytest.mark.parametrize("seen", [[], [0x7F0000001000], [0xFFFFFFFF81234567], [CPUID + (1 << 20)], [CPUID, CPUID + (1 << 21)]])
def test_addresses_that_do_not_tell_the_slide_leave_it_open(system_map: Symbols, seen: list[int]) -> None:
    assert system_map.moved(seen) is None


def test_a_running_kernels_symbols_stay() -> None:
    running = Symbols([(0xFFFFFFFF9B000000, "_text"), (0xFFFFFFFF9B0A1340, "native_cpuid")])
    assert running.moved([]) is running


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no functions in it"),
        ("hello\n", ":1: no line of an address, a letter and a name"),
        ("ffffffff81000000 T _text\nffffffff810 Tx y\n", ":2: no line of"),
        ("0000000000000000 T _text\n0000000000000000 t native_cpuid\n", "all of its addresses are 0: read /proc/kallsyms as root"),
        ("ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n", "no functions in it"),
        ("fffffffffffffffff T too_long\n", ":1: no line of"),
        ("\x7fELF\x02\x01\x01\0\0", "no line of"),
    ],
)
def test_what_is_no_symbols_is_refused_with_its_cause(tmp_path: Path, text: str, cause: str) -> None:
    file = tmp_path / "map"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=cause):
        read_symbols(str(file))


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: cannot be read: No such file"):
        read_symbols(str(tmp_path / "none"))
