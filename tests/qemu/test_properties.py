"""-cpu is read and refused as three real QEMUs do it: the lines they printed for arguments good and bad, on one captured host."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpuid.cpuid.registers import Snapshot
from vcpuid.errors import QemuError
from vcpuid.formats.lines import parse_snapshot
from vcpuid.qemu import KvmHost, guest_tables
from vcpuid.qemu.properties import parse
from vcpuid.qemu.realize import realize

MACHINE = KvmHost(tsc_khz=2596144, tsc_scaling=False)
CAPTURES = Path(__file__).parents[1] / "captures" / "qemu"


def rows() -> list[Any]:
    with gzip.open(CAPTURES / "options.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return [pytest.param(row, id=f"{row['qemu']} {row['cpu']}") for row in found]


@cache
def host(name: str) -> Snapshot:
    with gzip.open(CAPTURES / "hosts.json.gz", "rt", encoding="utf-8") as file:
        return parse_snapshot(json.load(file)[name], name)


def origin(row: dict[str, Any]) -> dict[str, str | None]:
    return {"kernel": row["host"].partition("@")[2], "qemu": row["qemu"], "vendor": host(row["host"]).vendor}


def printed(row: dict[str, Any]) -> list[str]:
    return [re.sub(r"^qemu-system-x86_64: (warning: )?", "", line) for line in row["stderr"]]


@pytest.mark.conformance("QEMU arguments", origin)
@pytest.mark.parametrize("row", rows())
def test_arguments_are_taken_and_refused_as_by_the_real_qemu(row: dict[str, Any]) -> None:
    try:
        said = guest_tables(row["cpu"], host=host(row["host"]), qemu=row["qemu"], machine=row["machine"], kvm=MACHINE).warnings
    except QemuError as error:
        said = [*error.warnings, *error.message.splitlines()]
    assert said == printed(row)


def test_signs_come_last_whatever_their_place() -> None:
    found = host("tcg/EPYC-Genoa-v1@7.3")
    for cpu, on in (("EPYC,-avx2,avx2=on", False), ("EPYC,+avx2,avx2=off", True), ("EPYC,+avx2,-avx2", False), ("EPYC,-avx2,+avx2", False)):
        assert bool(realize(cpu, found).features["FEAT_7_0_EBX"] & 1 << 5) is on, cpu


def test_the_last_setting_holds() -> None:
    found = host("tcg/EPYC-Genoa-v1@7.3")
    assert realize("EPYC,level=5,level=0x10", found).level == 0x10
    assert not realize("EPYC,avx2=on,avx2=off", found).features["FEAT_7_0_EBX"] & 1 << 5


def test_the_frequency_takes_metric_suffixes() -> None:
    assert parse("EPYC,tsc-freq=2.5G").settings == (("tsc-frequency", "2500000000"),)
    assert parse("EPYC,tsc_freq=1k").settings == (("tsc-frequency", "1000"),)


@given(st.text(alphabet="abc+-=,_ 1", max_size=40))
def test_taking_apart_loses_nothing(text: str) -> None:
    option = parse(f"EPYC,{text}")
    parts = [part for part in text.split(",") if part]
    assert len(option.plus) + len(option.minus) + len(option.settings) == len(parts)
    assert option.plus == tuple(part[1:] for part in parts if part[0] == "+")
    assert option.minus == tuple(part[1:] for part in parts if part[0] == "-")
    assert all("_" not in name for name, _ in option.settings)
