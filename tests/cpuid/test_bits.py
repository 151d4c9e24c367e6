"""Names of single bits: tools/bits.py, and the modules that hold them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vcpuid.cpuid import Bit, bits, xfeatures
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.words import positions
from vcpuid.qemu.catalog import catalog
from vcpuid.releases import QEMUS

ROOT = Path(__file__).parents[2]
NAMED = {name: bit for name, bit in vars(bits).items() if isinstance(bit, Bit)}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "bits", raising=False)
    import bits as tool

    return tool


@pytest.fixture(scope="module")
def rows() -> list[list[Any]]:
    found: list[list[Any]] = json.loads((ROOT / "src" / "vcpuid" / "data" / "features.json").read_text(encoding="utf-8"))["rows"]
    return found


@pytest.mark.long
def test_the_module_is_what_the_tool_makes_of_the_table(tool: ModuleType, rows: list[list[Any]]) -> None:
    """Fails where a rule asks for a new bit: run tools/bits.py."""
    made = tool.source(rows, tool.wanted(ROOT / "src" / "vcpuid"))
    assert (ROOT / "src" / "vcpuid" / "cpuid" / "bits.py").read_text(encoding="utf-8") == made


@pytest.mark.parametrize("name", NAMED)
def test_each_name_is_one_of_the_features_at_its_place(name: str) -> None:
    feature = by_bit(NAMED[name])
    assert feature is not None
    symbols = {linux.symbol.removeprefix("X86_FEATURE_") for linux in feature.linux_names}
    others = {qemu.name for qemu in feature.qemu_names} | {feature.libvirt, feature.manual}
    assert name in symbols | {other.upper().replace("-", "_") for other in others if other}


def test_every_name_of_the_table_is_one_name_and_a_place_of_its_own(tool: ModuleType, rows: list[list[Any]]) -> None:
    found = list(tool.constants(rows))
    assert len({name for name, _, _ in found}) == len({place for _, place, _ in found}) == len(found)
    assert all(name.isidentifier() and name.isupper() for name, _, _ in found)


def test_a_name_that_no_feature_has_is_refused(tool: ModuleType, rows: list[list[Any]]) -> None:
    with pytest.raises(SystemExit, match="AVX11"):
        tool.source(rows, {"AVX10", "AVX11"})


def test_only_what_is_asked_for_of_the_vocabulary_counts(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("from vcpuid.cpuid import Bit, bits\nX = bits.AVX10.mask\n", encoding="utf-8")
    (tmp_path / "two.py").write_text("bits = row\nX = bits.other\n", encoding="utf-8")
    assert tool.wanted(tmp_path) == {"AVX10"}


XCR0_NAMES = {
    "xcr0_x87": xfeatures.X87, "xcr0_sse": xfeatures.SSE, "xcr0_avx": xfeatures.AVX, "xcr0_mpx_bndregs": xfeatures.BNDREGS,
    "xcr0_mpx_bndcsr": xfeatures.BNDCSR, "xcr0_avx512_opmask": xfeatures.OPMASK, "xcr0_avx512_zmm_hi256": xfeatures.ZMM_HI256,
    "xcr0_avx512_hi16_zmm": xfeatures.HI16_ZMM, "xcr0_pkru": xfeatures.PKRU, "xcr0_cet_u": xfeatures.CET_USER,
    "xcr0_cet_s": xfeatures.CET_KERNEL, "xcr0_tileconfig": xfeatures.TILE_CONFIG, "xcr0_tiledata": xfeatures.TILE_DATA,
    "xcr0_lwp": xfeatures.LWP, "xss_pt": xfeatures.PT, "xss_pasid": xfeatures.PASID, "xss_cet_u": xfeatures.CET_USER,
    "xss_cet_s": xfeatures.CET_KERNEL, "xss_hdc": xfeatures.HDC, "xss_uintr": xfeatures.UINTR, "xss_lbr": xfeatures.LBR,
    "xss_hwp": xfeatures.HWP,
}  # fmt: skip


def test_components_are_those_of_the_manuals(rows: list[list[Any]]) -> None:
    named = {}
    for place, _, _, _, manual, *_ in rows:
        if place and place.startswith(("d.0.", "d.1.ecx")):
            *_, register, bit = place.split(".")
            named[manual] = 1 << int(bit) + (32 if register == "edx" else 0)
    assert named == XCR0_NAMES


@pytest.mark.parametrize("release", QEMUS)
def test_components_that_qemu_knows_have_names(release: str) -> None:
    known = {value for name, value in vars(xfeatures).items() if name.isupper() and isinstance(value, int)}
    assert {1 << component.number for component in catalog(release).components} <= known


def test_apx_is_another_bit_as_a_feature_than_as_a_component() -> None:
    rows = {(component.number, component.word, component.mask) for component in catalog("11.1").components}
    assert (xfeatures.APX.bit_length() - 1, "FEAT_7_1_EDX", bits.APX.mask) in rows
    assert bits.APX.mask != xfeatures.APX


def test_positions_of_a_mask() -> None:
    assert list(positions(0b1001_0010)) == [1, 4, 7]
    assert not list(positions(0))
