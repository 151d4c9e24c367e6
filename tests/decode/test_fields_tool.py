"""tools/fields.py: what it takes, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from support.tools import TOOLS, load_tool
from vcpuid import data

FREE = "# SPDX-License-Identifier: CC0-1.0\n# Generator: x86-cpuid-db v9\n"
ROWS = """
# Leaf 4H
# Caches

  0x4, 31:0, eax, 4:0, cache_type, Cache type
  0xb, 1:0, eax, 4:0, x2apic_id_shift, Bit width, of this level
  0x7, 0, ebx, 5, avx2, AVX2
"""


@pytest.fixture
def tool() -> ModuleType:
    return load_tool("fields")


def test_rows_titles_and_generator_are_read(tool: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "cpuid.csv"
    path.write_text(FREE + ROWS, encoding="utf-8")
    rows, titles, generator = tool.kcpuid(path)
    assert rows[0] == ["4.0-1f.eax", "4:0", "cache_type", "Cache type"]
    assert rows[1] == ["b.0-ff.eax", "4:0", "x2apic_id_shift", "Bit width, of this level"]
    assert (titles, generator) == ([["4", "Caches"]], "x86-cpuid-db v9")


def test_how_a_number_is_written_down_is_left_out_where_decoding_undoes_it(tool: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "cpuid.csv"
    rows = (
        "0x4, 31:0, ebx, 31:22, cache_nways, Ways of associativity (0-based)\n"
        "0xf, 0, ebx, 31:0, core_rmid_max, RMID max within this core (0-based)\n"
        "0x80000008, 0, ecx, 7:0, cpu_nthreads, Number of physical threads - 1\n"
        "0x6, 0, edx, 11:8, feedback_sz, Feedback interface structure size, in 4K pages\n"
    )
    path.write_text(FREE + rows, encoding="utf-8")
    assert [row[3] for row in tool.kcpuid(path)[0]] == [
        "Ways of associativity",
        "RMID max within this core (0-based)",
        "Number of physical threads",
        "Feedback interface structure size",
    ]


def test_no_description_says_how_a_number_is_written_down_beside_one_of_which_that_is_undone(tool: ModuleType) -> None:
    told = [row for row in data.load("fields")["rows"] if tool.converted(int(row[0].split(".")[0], 16), row[2])]
    assert len(told) > 25
    assert [row for row in told if re.search(r"-based|minus|- 1|log2|, in |above", row[3])] == []


@pytest.mark.parametrize(
    "licence", ["# SPDX-License-Identifier: GPL-2.0\n", "# SPDX-License-Identifier: CC0-1.0 OR GPL-2.0\n", "\n# CC0-1.0\n", ""]
)
def test_any_other_licence_is_refused(tool: ModuleType, tmp_path: Path, licence: str) -> None:
    path = tmp_path / "cpuid.csv"
    path.write_text(licence + ROWS, encoding="utf-8")
    with pytest.raises(SystemExit, match="licence"):
        tool.kcpuid(path)


def test_features_are_left_to_the_table_of_features(tool: ModuleType) -> None:
    assert tool.merge([], [["7.0.ebx", "5", "avx2", ""], ["7.0.eax", "31:0", "leaf7_n_subleaves", ""]]) == [
        ["7.0.eax", "31:0", "leaf7_n_subleaves", ""]
    ]


def test_an_added_row_stands_for_the_ones_whose_bits_it_has(tool: ModuleType) -> None:
    added, base = ["9.0.eax", "31:0", "new", ""], ["9.0.eax", "0", "old", ""]
    assert tool.merge([added], [base]) == [added]
    other = [*added, "amd"]
    assert tool.merge([other], [base]) == [other, base]


def test_a_model_of_intels_without_a_name_is_refused(tool: ModuleType) -> None:
    header = "#define INTEL_NEW IFM(6, 0xFE) /* New Lake */\n"
    with pytest.raises(SystemExit, match="NEW"):
        tool.processors("intel, 6, 1, , P6, Old", header)
    assert tool.processors("intel, 6, fe, , New Cove, New Lake", header) == [["intel", "6", "fe", "", "New Cove", "New Lake"]]


def test_descriptors_of_both_tables(tool: ModuleType) -> None:
    table = (
        "CACHE_ENTRY(0x0a, CACHE_L1_DATA,\tSZ_8K\t),\t/* 2 way set assoc, 32 byte line size */\n"
        "TLB_ENTRY(  0x02, TLB_INST_4M,\t2\t),\t/* TLB_INST 4 MByte pages, full associative */\n"
        "TLB_ENTRY(  0xc1, STLB_4K_2M,\t1024\t),\t/* STLB 4 KByte and 2 MByte pages, 8-way associative */\n"
    )
    assert tool.descriptors(table, "0x02, code TLB, 2M, , 7, ") == [
        ["02", "code TLB", "2M", None, 7],
        ["0a", "L1 data", 8192, 2, 32],
        ["c1", "shared TLB", "4K 2M", 8, 1024],
    ]


def test_the_table_in_the_package_has_what_lies_beside_the_tool(tool: ModuleType) -> None:
    table = data.load("fields")
    assert "CC0-1.0" in table["source"]["rows"][0]
    added, titles, sources = tool.extra((TOOLS / "fields-extra.csv").read_text(encoding="utf-8"))
    assert [row for row in added if row not in table["rows"]] == []
    assert [title for title in titles if title not in table["titles"]] == []
    assert table["source"]["rows"][1:] == sources
    assert table["microarchitectures"] == list(tool.cells((TOOLS / "microarchitectures.csv").read_text(encoding="utf-8"), 6))
