"""The texts are looked up in the programs that are installed: a row that a program no longer prints is named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from re import _constants as code  # type: ignore[attr-defined]  # as tools/messages.py
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from vcpuid.diagnosis.messages import messages
from vcpuid.live.installed import default_qemu
from vcpuid.releases import qemu

LIBVIRT = ("libvirt.so.0", "libvirt/connection-driver/libvirt_driver_qemu.so")
OTHERS = {"qemu.init_vcpu", "qemu.msr.assert", "qemu.phys.assert", "qemu.topology.assert", "qemu.machine.option", "qemu.property.value"}
"""Texts that the C library makes, and rows of many texts."""


def runs(parsed: Any) -> Iterator[str]:
    """Give the texts of a pattern that stand in it letter by letter."""
    run = ""
    for op, argument in [*parsed, (None, None)]:
        if op is code.LITERAL:
            run += chr(argument)
            continue
        if run:
            yield run
            run = ""
        if op is code.SUBPATTERN:
            yield from runs(argument[3])
        elif op in (code.MAX_REPEAT, code.MIN_REPEAT):
            yield from runs(argument[2])
        elif op is code.BRANCH:
            for branch in argument[1]:
                yield from runs(branch)


def printed(pattern: str, strings: str) -> bool:
    """Tell whether a program holds three words of a pattern in a row, since formats part them: "%s doesn't support …"."""
    for run in runs(parser.parse(pattern)):
        words = re.findall(r"[\w'.-]+", run)
        parts = [words[at : at + 3] for at in range(max(1, len(words) - 2))]
        if any(part and len(" ".join(part)) > 8 and " ".join(part) in strings for part in parts):
            return True
    return False


def strings_of(*files: Path) -> str:
    return "\n".join(file.read_bytes().decode("latin-1") for file in files)


@pytest.mark.qemu
def test_the_installed_qemu_prints_what_is_said_of_its_release() -> None:
    binary = shutil.which("qemu-system-x86_64")
    assert binary is not None
    release, strings = qemu(default_qemu()).tables, strings_of(Path(binary))
    rows = [row for row in messages() if row.program == "QEMU" and re.search(rf"\b{re.escape(release)}\b", row.evidence)]
    assert len(rows) > 30
    assert not {row.id for row in rows if not printed(row.pattern, strings)} - OTHERS


def test_the_installed_libvirt_prints_what_is_said_of_it() -> None:
    files = [file for name in LIBVIRT for file in Path("/usr/lib").glob(f"*/{name}")]
    if len(files) < len(LIBVIRT):
        pytest.skip("libvirt's library and its driver for QEMU are not installed")
    strings = strings_of(*files)
    rows = [row for row in messages() if row.program == "libvirt" and "found in libvirt" in row.evidence]
    assert len(rows) > 15
    assert not {row.id for row in rows if not printed(row.pattern, strings)}


def test_a_text_that_a_program_does_not_hold_is_missed() -> None:
    assert printed(r"host doesn't support requested feature: (?P<bit>x+)", "…%s doesn't support requested feature: %s…")
    assert not printed(r"host doesn't support requested feature: (?P<bit>x+)", "…%s does not support this feature: %s…")
