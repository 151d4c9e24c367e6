"""Names in what real kernels and real QEMUs printed: every one is known, and where its bit is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest

from support.captures import MACHINES, host
from support.qemu_captures import qemu_rows
from vcpuid.cpuid.names import find, find_all
from vcpuid.cpuid.words import CpuidWord
from vcpuid.releases import linux

ASKED = ("7.2", "10.0", "11.1")
"""QEMUs whose programs were asked."""

LINES = {"flags": "X86_FEATURE_", "bugs": "X86_BUG_", "vmx_flags": "VMX_FEATURE_"}

FORCED = {"3dnowprefetch", "cpb", "vnmi"}
"""Flags that these kernels show though the bit of that name is clear (init_amd, init_amd_zen1, init_vmx_capabilities)."""


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_every_flag_that_linux_shows(name: str) -> None:
    snapshot = host(name)
    assert snapshot.kernel is not None
    release = linux(snapshot.kernel).tables
    for line, prefix in LINES.items():
        for flag in snapshot.cpuinfo.get(line, "").split():
            found = [
                feature
                for feature in find_all(flag)
                if any(n.cpuinfo == flag and release in n.kernels and n.symbol.startswith(prefix) for n in feature.linux_names)
            ]
            assert len(found) == 1, flag
            bit = found[0].bit
            if line == "flags" and bit is not None and isinstance(bit.word, CpuidWord) and flag not in FORCED:
                assert snapshot.raw.word(bit.word) & bit.mask, f"{flag} is shown, its bit {bit} is clear"


@cache
def warnings() -> dict[str, list[tuple[str, str, int]]]:
    found: dict[str, dict[tuple[str, str, int], None]] = {release: {} for release in ASKED}
    for row in qemu_rows("sets"):
        for text, name, bit in _features(row["stderr"]):
            found[row["qemu"]][text, name, bit] = None
    return {release: list(texts) for release, texts in found.items()}


def _features(lines: list[str]) -> Iterator[tuple[str, str, int]]:
    for line in lines:
        if match := re.search(r"(?:CPUID(?:\.\w+:E.X|\[[^]]*\]\.E.X)|MSR\(\w+\))(?:\.([\w.-]+))? \[bit (\d+)\]", line):
            yield match[0], match[1] or "", int(match[2])


@pytest.mark.parametrize("release", ASKED)
def test_every_feature_that_qemu_logs(release: str) -> None:
    logged = warnings()[release]
    assert len(logged) > 150
    for text, name, position in logged:
        feature = find(text)
        assert feature.bit is not None
        assert feature.bit.position == position
        qemu = feature.in_qemu(release)
        assert (qemu.name if qemu else "") == name, text
