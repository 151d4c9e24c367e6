"""What glibc picks, against the real one: under ptrace on other CPUs (tools/glibc_capture.py), and here under GLIBC_TUNABLES."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from support.captures import CAPTURES, rows
from vcpuid.cpuid import CpuidTable, Entry, vendor_name
from vcpuid.data import load
from vcpuid.errors import InputError
from vcpuid.software import SoftwareCpu, software_cpu
from vcpuid.software.glibc import RELEASES, Glibc, glibc
from vcpuid.software.psabi import level
from vcpuid.software.tuning import KNOWN

ROWS = rows(CAPTURES / "glibc" / "glibc.jsonl.gz")
LINKER = Path("/lib64/ld-linux-x86-64.so.2")
HERE = platform.libc_ver()[1]
REGISTERS = ("eax", "ebx", "ecx", "edx")

MASKS = (
    "",
    "-AVX2",
    "-AVX512VL",
    "-AVX512VL,-AVX2",
    "-ERMS",
    "-AVX512F,-ERMS",
    "-AVX2,-ERMS,-AVX512VL,-AVX",
    "-SSSE3,-AVX,-AVX2,-AVX512VL",
    "-OSXSAVE",
    "-XSAVE,-XSAVEC",
    "-BMI2",
    "-MOVBE,-AVX512VL",
    "-LZCNT",
    "-SSE4_2,-AVX2",
    "Prefer_No_AVX512",
    "Prefer_No_VZEROUPPER,-AVX512VL",
    "Prefer_ERMS",
    "Fast_Unaligned_Load,-AVX2",
    "Fast_Unaligned_Copy,-AVX_Fast_Unaligned_Load,-AVX512F",
    "Slow_BSF,-AVX2",
    "Slow_SSE4_2,-AVX2",
)


def table_of(leaves: dict[str, str]) -> CpuidTable:
    places = {tuple(int(part, 16) for part in place.split(".")): registers for place, registers in leaves.items()}
    return CpuidTable(Entry(*place, 1, *(int(r, 16) for r in registers.split())) for place, registers in places.items())


@cache
def model(number: int) -> Glibc:
    row = ROWS[number]
    table = table_of(row["cpuid"])
    return glibc(SoftwareCpu(table, int(row["xcr0"], 16), software_cpu(table).linux), row["glibc"])


def origin(number: int) -> dict[str, str | None]:
    leaf0 = table_of(ROWS[number]["cpuid"]).registers(0)
    return {"kernel": None, "qemu": None, "vendor": vendor_name(leaf0)}


def active_words(told: Glibc) -> list[int]:
    """The words of usable features as glibc keeps them: four registers a leaf."""
    table = load(f"glibc-{told.release}")
    words = [0] * 4 * len(table["leaves"])
    places = table["features"] | table["others"]
    for feature in told.usable:
        leaf, index, register, bit = places[feature].split(".")
        words[4 * table["leaves"].index(f"{leaf}.{index}") + REGISTERS.index(register)] |= 1 << int(bit)
    return words


@pytest.mark.parametrize("release", RELEASES)
def test_there_are_captures_of_every_release(release: str) -> None:
    assert sum(row["glibc"] == release for row in ROWS) > 300


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda n: f"{ROWS[n]['glibc']}-{n}")
@pytest.mark.conformance("glibc", origin)
def test_captured(number: int) -> None:
    row, told = ROWS[number], model(number)
    assert 2**told.isa - 1 == int(row["isa_1"], 16)
    assert active_words(told) == [int(word, 16) for word in row["active"]]
    assert told.preferred == set(row["preferred"])
    assert told.starts == bool(row["variants"])
    if told.starts:
        assert {pick.function: pick.variant for pick in told.picks}.items() <= row["variants"].items()


def test_the_captures_reach_most_variants() -> None:
    for release in RELEASES:
        resolvers = load(f"glibc-{release}")["resolvers"]
        seen = {variant for row in ROWS if row["glibc"] == release for variant in row["variants"].values()}
        known = {variant for rows in resolvers.values() for _, variant in rows}
        assert len(known & seen) > 0.6 * len(known)


def test_the_documentation_has_these_figures() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "worth.md").read_text(encoding="utf-8").split())
    (each,) = {sum(row["glibc"] == release for row in ROWS) for release in RELEASES}
    assert f"All {len(ROWS)} captures, {each} CPUs for each release, are exact" in page
    assert f"under {len(MASKS)} settings of `GLIBC_TUNABLES`" in page


def test_every_function_with_variants_is_in_the_tables() -> None:
    for release in RELEASES:
        captured = {name for row in ROWS if row["glibc"] == release for name in row["variants"]}
        checked = {name for name in captured if name.endswith("_chk")} | {"strcasecmp_l", "strncasecmp_l"}
        assert captured - checked == set(load(f"glibc-{release}")["functions"])


def test_a_processor_of_an_unknown_vendor_has_no_baseline_for_glibc() -> None:
    row = next(row for row in ROWS if row["isa_1"] == "0xf")
    leaf0 = {"0.0": "20 11111111 11111111 11111111"}
    stranger = SoftwareCpu(table_of(row["cpuid"] | leaf0), int(row["xcr0"], 16), software_cpu(table_of(row["cpuid"])).linux)
    assert not glibc(stranger).starts


def test_the_psabis_levels_are_glibcs() -> None:
    """Where glibc knows the vendor, and SYSCALL is there, for which glibc does not ask."""
    compared = 0
    for row in ROWS:
        table = table_of(row["cpuid"])
        cpu = SoftwareCpu(table, int(row["xcr0"], 16), software_cpu(table).linux)
        if cpu.vendor in KNOWN and cpu.leaf(0x80000001).edx >> 11 & 1:
            assert 2 ** level(cpu) - 1 == int(row["isa_1"], 16), row["name"]
            compared += 1
    assert compared > 0.8 * len(ROWS)


@pytest.mark.long
def test_what_would_be_better_names_what_lacks() -> None:
    for number, row in enumerate(ROWS):
        for pick in model(number).picks:
            known = model(number).usable | model(number).preferred
            for term in pick.needs:
                assert (term.lstrip("!") in known) != term.startswith("!")
            if pick.better:
                assert all((term.lstrip("!") in known) == term.startswith("!") for term in pick.better[1]), row["name"]


@pytest.mark.parametrize("word", ["AVX2", "-FSRM", "-", "nonsense"])
def test_a_tunable_that_glibc_does_not_take_is_refused(word: str) -> None:
    table = table_of(ROWS[0]["cpuid"])
    with pytest.raises(InputError, match="hwcaps"):
        glibc(software_cpu(table), hwcaps=word)


def test_a_release_without_tables_is_refused() -> None:
    with pytest.raises(InputError, match=r"2\.5"):
        glibc(software_cpu(table_of(ROWS[0]["cpuid"])), "2.5")


# Against the glibc of this machine.

real = pytest.mark.skipif(not LINKER.exists() or HERE not in RELEASES, reason=f"no tables of this machine's libc, {HERE or 'none of GNU'}")

POINTERS = """
import ctypes, sys
libc = ctypes.CDLL("libc.so.6")
for name in sys.argv[1:]:
    print(name, ctypes.cast(getattr(libc, name), ctypes.c_void_p).value - ctypes.cast(libc.abort, ctypes.c_void_p).value)
"""


def here() -> SoftwareCpu:
    from vcpuid import sources

    return software_cpu(sources.read("live").raw)


@pytest.mark.x86
@real
@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: mask or "none")
def test_this_machines_glibc_says_the_same(mask: str) -> None:
    told = glibc(here(), HERE, mask)
    env = {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={mask}"} if mask else {}
    output = subprocess.run([LINKER, "--list-diagnostics"], env=env, capture_output=True, text=True, check=True).stdout
    lines = dict(re.findall(r"^x86\.cpu_features\.(\S+?)=(\S+)$", output, re.M))
    assert 2**told.isa - 1 == int(lines["isa_1"], 16)
    assert active_words(told) == [int(value, 16) for name, value in lines.items() if ".active[" in name]
    preferred = {name.removeprefix("preferred.") for name, value in lines.items() if name.startswith("preferred.") and value != "0x0"}
    assert told.preferred == preferred


@pytest.mark.x86
@real
def test_this_machines_glibc_takes_another_variant_exactly_when_the_tables_say_so() -> None:
    functions = sorted(load(f"glibc-{HERE}")["functions"])
    cpu = here()
    addresses: dict[tuple[str, str], set[int]] = {}
    for mask in MASKS:
        env = {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={mask}"} if mask else {}
        command = [sys.executable, "-S", "-c", POINTERS, *functions]
        output = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
        told = glibc(cpu, HERE, mask)
        for name, address in (line.split() for line in output.splitlines()):
            addresses.setdefault((name, told.variant(name)), set()).add(int(address))
    assert all(len(found) == 1 for found in addresses.values()), "one variant, one address"
    for function in functions:
        found = [next(iter(places)) for (name, _), places in addresses.items() if name == function]
        assert len(set(found)) == len(found), f"{function}: two variants at one address"
    assert len(addresses) > 2 * len(functions)
