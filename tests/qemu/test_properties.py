"""-cpu is read and refused as three real QEMUs do it: the lines they printed for arguments good and bad, on one captured host."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.qemu_captures import qemu_host, qemu_origin, qemu_rows
from vcpuid.errors import QemuError
from vcpuid.qemu import KvmHost, guest_tables
from vcpuid.qemu.properties import parse
from vcpuid.qemu.realize import realize

MACHINE = KvmHost(tsc_khz=2596144, tsc_scaling=False)


def printed(row: dict[str, Any]) -> list[str]:
    return [re.sub(r"^qemu-system-x86_64: (warning: )?", "", line) for line in row["stderr"]]


@pytest.mark.conformance("QEMU arguments", qemu_origin)
@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row['qemu']} {row['cpu']}") for row in qemu_rows("options")])
def test_arguments_are_taken_and_refused_as_by_the_real_qemu(row: dict[str, Any]) -> None:
    try:
        asked = {"qemu": row["qemu"], "machine": row["machine"]}
        said = [*guest_tables(row["cpu"], host=qemu_host(row["host"]), **asked, kvm=MACHINE).warnings]
    except QemuError as error:
        said = [*error.warnings, *error.message.splitlines()]
    assert said == printed(row)


def test_signs_come_last_whatever_their_place() -> None:
    found = qemu_host("tcg/EPYC-Genoa-v1@7.3")
    for cpu, on in (("EPYC,-avx2,avx2=on", False), ("EPYC,+avx2,avx2=off", True), ("EPYC,+avx2,-avx2", False), ("EPYC,-avx2,+avx2", False)):
        assert bool(realize(cpu, found).features["FEAT_7_0_EBX"] & 1 << 5) is on, cpu


def test_the_last_setting_holds() -> None:
    found = qemu_host("tcg/EPYC-Genoa-v1@7.3")
    assert realize("EPYC,level=5,level=0x10", found).level == 0x10
    assert not realize("EPYC,avx2=on,avx2=off", found).features["FEAT_7_0_EBX"] & 1 << 5


def test_the_frequency_takes_metric_suffixes() -> None:
    assert parse("EPYC,tsc-freq=2.5G", (10, 0)).settings == (("tsc-frequency", "2500000000"),)
    assert parse("EPYC,tsc_freq=1k", (10, 0)).settings == (("tsc-frequency", "1000"),)


@given(st.text(alphabet="abc+-=,_ 1", max_size=40))
@example("-,-")
@example("+a,+a,a=1,a=2")
def test_taking_apart_loses_nothing_but_what_is_said_again(text: str) -> None:
    option = parse(f"EPYC,{text}", (10, 0))
    parts = [part for part in text.split(",") if part]
    assert option.plus == tuple(dict.fromkeys(part[1:] for part in parts if part[0] == "+"))
    assert option.minus == tuple(dict.fromkeys(part[1:] for part in parts if part[0] == "-"))
    rest = [part.partition("=")[0].replace("_", "-") for part in parts if part[0] not in "+-"]
    assert {name for name, _ in option.settings} == set(rest)
    assert all("_" not in name for name, _ in option.settings)
