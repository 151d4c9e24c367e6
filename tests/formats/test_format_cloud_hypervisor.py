"""state.json as Cloud Hypervisor writes it: one line, with the whole state of every vCPU, whatever the order of its keys."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from support.captures import some
from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.errors import InputError
from vcpuid.formats import documents, files, parse
from vcpuid.formats.lines import ENTRY_LIMIT
from vcpuid.sources import read_all

FIELDS = ("function", "index", "flags", "eax", "ebx", "ecx", "edx")


def table(vcpu: int) -> CpuidTable:
    return CpuidTable(Entry(number, 0, 1, 0xFFFFFFFF, 0x756E6547, number * 0x1234567, vcpu) for number in range(90))


def state(vcpu: int) -> dict[str, Any]:
    """All that VcpuKvmState holds, of the sizes that KVM has: 1 KiB of local APIC, 4 KiB of XSAVE, and 8 KiB of a nested guest."""
    return {
        "cpuid": [dict(zip(FIELDS, entry, strict=True)) for entry in table(vcpu)],
        "msrs": [{"index": 0xC0000080 + number, "data": 0xFFFFFFFF80000000 + number} for number in range(120)],
        "lapic_state": {"regs": [number % 256 - 128 for number in range(1024)]},
        "xsave": {"region": [number * 0x1234567 % (1 << 32) for number in range(1024)], "extra": []},
        "nested_state": {"flags": 0, "data": [number % 256 for number in range(8192)]},
        "tsc_khz": 2_000_000,
    }


def document(vcpus: dict[str, Any], as_bytes: bool = False) -> dict[str, Any]:
    def node(state: Any, **snapshots: Any) -> dict[str, Any]:
        told = json.dumps(state, separators=(",", ":"))
        return {"snapshots": snapshots, "snapshot_data": list(told.encode()) if as_bytes else {"state": told}}

    cpus = {name: node({"Kvm": state}) for name, state in vcpus.items()}
    return node({}, **{"cpu-manager": node(None, **cpus), "device-manager": node({"device_tree": {}})})


@pytest.mark.bounds
@pytest.mark.parametrize("as_bytes", [False, True], ids=["since 39.0", "since 29.0"])
def test_one_line_of_64_vcpus(as_bytes: bool, tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text(
        json.dumps(document({str(number): state(number) for number in range(64)}, as_bytes), separators=(",", ":")), encoding="utf-8"
    )
    assert documents.LIMIT < file.stat().st_size < files.SIZE_LIMIT
    cpus = read_all(file)
    assert [cpu.table for cpu in cpus] == [table(number) for number in range(64)]


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: {"id": "vm", **whole},
        lambda whole: dict(reversed(whole.items())),
        lambda whole: {"snapshot_data": None, "a": {"snapshots": 5}, "snapshots": whole["snapshots"]},
    ],
    ids=["id", "reversed", "others first"],
)
@pytest.mark.parametrize("indent", [None, 4])
def test_keys_stand_in_any_order(change: Any, indent: int | None) -> None:
    text = json.dumps(change(document({"0": state(0)})), indent=indent)
    assert [cpu.table for cpu in parse("\n" * 200 + text, "state.json")] == [table(0)]


@pytest.mark.bounds
@pytest.mark.parametrize(
    ("whole", "cause"),
    [
        (document({"0": {"cpuid": state(0)["cpuid"] * (ENTRY_LIMIT // 90 + 1)}}), f"vCPU 0 has more than {ENTRY_LIMIT} entries"),
        (document({"0": {"cpuid": [], "more": "x" * documents.LIMIT}}), "vCPU 0 has no CPUID"),
        (document({"0": {"cpuid": [], "more": [{}] * documents.LIMIT}}), "more than 2 MiB"),
        ({"more": [{}] * (documents.LIMIT // 4), **document({"0": state(0)})}, "more than 2 MiB"),
    ],
    ids=["entries", "a long text", "a state of many parts", "many parts"],
)
def test_what_no_vm_has_is_refused(whole: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=f"^state.json: {cause}"):
        parse(json.dumps(whole), "state.json")


@pytest.mark.bounds
@pytest.mark.parametrize("piece", some(['"ab",', '"', "[{},", "123,", '\\"', "1", "1234,"], 2))
def test_memory_is_bounded_whatever_the_document(piece: str) -> None:
    text = '{"snapshots": {"cpu-manager": [' + piece * (2 * documents.LIMIT // len(piece))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"more than 2 MiB|damaged or cut JSON|endless number"):
            parse(text, "state.json")
        assert tracemalloc.get_traced_memory()[1] < 10 * len(text)
    finally:
        tracemalloc.stop()
