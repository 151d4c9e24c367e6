"""tools/features.py: the rules by which it reads its sources."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from support.tools import load_tool


@pytest.fixture
def tool() -> ModuleType:
    return load_tool("features")


def test_a_vmx_feature_is_where_an_msr_allows_it(tool: ModuleType) -> None:
    assert tool.vmx_place("VIRTUAL_NMIS", 5) == ("msr.48d", 5)  # pin-based controls
    assert tool.vmx_place("EPT_AD", 17) == ("msr.48c", 21)  # scattered: IA32_VMX_EPT_VPID_CAP
    assert tool.vmx_place("TSC_OFFSETTING", 1 * 32 + 3) == ("msr.48e", 3)
    assert tool.vmx_place("PML", 2 * 32 + 17) == ("msr.48b", 17)
    assert tool.vmx_place("UNKNOWN", 20) is None


def test_manual_names_come_from_free_tables_only(tool: ModuleType, tmp_path: Path) -> None:
    rows = "0x7, 0, ebx, 5, avx2, AVX2, and more\n0x7, 0, ebx, 31:8, field, A field\n0x8, 0, eax, 1, other, Another word\n"
    path = tmp_path / "cpuid.csv"
    path.write_text(rows, encoding="utf-8")
    with pytest.raises(SystemExit, match="not under CC0"):
        tool.manual_names(tool.Table(), path, {"7.0.ebx"})
    path.write_text(f"# SPDX-License-Identifier: CC0-1.0\n# Generator: some-db v1\n{rows}", encoding="utf-8")
    table = tool.Table()
    assert tool.manual_names(table, path, {"7.0.ebx"}) == "some-db v1"
    assert table.manual == {("7.0.ebx", 5): ("avx2", "AVX2, and more")}


def test_libvirt_names(tool: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "features.xml"
    path.write_text(
        "<cpus><feature name='a'><cpuid eax_in='0x07' ecx_in='0x01' eax='0x10'/></feature>"
        "<feature name='b'><alias name='c' source='qemu'/><cpuid eax_in='0x01' edx='0x80000000'/></feature>"
        "<feature name='d'><msr index='0x10a' edx='0x00000001' eax='0x00000000'/></feature></cpus>",
        encoding="utf-8",
    )
    table = tool.Table()
    tool.libvirt_names(table, path)
    assert table.libvirt == {("7.1.eax", 4): "a", ("1.0.edx", 31): "b", ("msr.10a", 32): "d"}


def test_rows_are_in_order_of_place(tool: ModuleType) -> None:
    keys = ["X86_BUG_A", ("msr.480", 54), ("80000001.0.ecx", 1), ("7.1.eax", 0), ("7.0.ebx", 10), ("7.0.ebx", 9), ("12.0.eax", 0)]
    assert sorted(keys, key=tool.order) == list(reversed([*keys[:3], keys[6], *keys[3:6]]))
