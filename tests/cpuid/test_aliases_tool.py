"""tools/aliases.py: what it reads of Xen's header, and what it leaves out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.tools import load_tool

HEADER = """
/* Intel-defined CPU features, CPUID level 0x00000001.ecx, word 1 */
XEN_CPUFEATURE(SSE3,          1*32+ 0) /*A  Streaming SIMD Extensions-3 */
XEN_CPUFEATURE(EIST,          1*32+ 7) /*   Enhanced SpeedStep */
XEN_CPUFEATURE(NOBODYS,       1*32+16) /*   A bit without a feature */
/* Intel-defined CPU features, CPUID level 0x0000000D:1.eax, word 4 */
XEN_CPUFEATURE(XSAVEOPT,      4*32+ 0) /*A  XSAVEOPT instruction */
/* Intel-defined CPU features, MSR_ARCH_CAPS 0x10a.eax, word 16 */
XEN_CPUFEATURE(RDCL_NO,      16*32+ 0) /*A  No Rogue Data Cache Load (Meltdown) */
XEN_CPUFEATURE(ITS_NO,       16*32+62) /*!A No Indirect Target Selection */
"""


@pytest.fixture
def tool() -> ModuleType:
    return load_tool("aliases")


def test_xens_words_are_registers_and_msrs(tool: ModuleType) -> None:
    assert list(tool.xen(HEADER))[3:] == [("d.1.eax.0", "xsaveopt"), ("msr.10a.0", "rdcl_no"), ("msr.10a.62", "its_no")]


def test_names_that_are_known_and_bits_that_are_not_are_left_out(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header = tmp_path / "xen/include/public/arch-x86/cpufeatureset.h"
    header.parent.mkdir(parents=True)
    header.write_text(HEADER, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["aliases.py", "--xen", f"9={tmp_path}"])
    tool.main()
    told = json.loads(capsys.readouterr().out)
    assert told["source"]["rows"][-1] == "Xen 9, xen/include/public/arch-x86/cpufeatureset.h"
    names = {name for _, name in told["rows"]}
    assert {"eist", "rdcl_no", "lzcnt"} <= names
    assert names.isdisjoint({"sse3", "nobodys", "xsaveopt", "its_no"})
