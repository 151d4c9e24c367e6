"""oracle/libvirt_capture.py: what it makes up of a host and of rows, and what its part in the root makes of answers, without a libvirt."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vcpuid.errors import InputError, UnavailableError

HOST = [
    "RAW 00000000.0 0000000d 756e6547 6c65746e 49656e69",
    "RAW 00000001.0 000906ea 00000800 00000000 00000040",
    "RAW 80000000.0 80000008 00000000 00000000 00000000",
    "RAW 80000002.0 20555043 00000041 00000000 00000000",
    "RAW 80000008.0 00003027 00000000 00000000 00000000",
    "MSR 8b 1 de00000000",
]

DOMCAPABILITIES = """<domainCapabilities><machine>pc-q35-11.1</machine>
 <cpu>
  <mode name='host-model' supported='yes'><model fallback='forbid'>Haswell</model>
   <feature policy='require' name='ss'/><feature policy='disable' name='hle'/></mode>
  <mode name='custom' supported='yes'><model usable='yes'>qemu64</model><model usable='no'>EPYC</model>
   <blockers model='EPYC'><feature name='svm'/></blockers></mode>
 </cpu></domainCapabilities>"""


@pytest.fixture
def tool(oracle: Callable[[str], ModuleType]) -> ModuleType:
    return oracle("libvirt_capture")


@pytest.fixture
def inside(oracle: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "libvirt", SimpleNamespace(libvirtError=RuntimeError))
    return oracle("libvirt_inside")


def test_proc_cpuinfo_is_made_of_the_hosts_cpuid(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool.os, "cpu_count", lambda: 2)
    first, second, rest = tool.cpuinfo(HOST).split("\n\n")
    assert first.splitlines() == [
        "processor\t: 0",
        "vendor_id\t: GenuineIntel",
        "cpu family\t: 6",
        "model\t\t: 158",
        "model name\t: CPU A",
        "stepping\t: 10",
        "microcode\t: 0xde",
        "cpu MHz\t\t: 2500.000",
        "address sizes\t: 39 bits physical, 48 bits virtual",
    ]
    assert second.splitlines()[0] == "processor\t: 1"
    assert rest == ""


def test_without_leaf_80000008_linux_goes_by_pae(tool: ModuleType) -> None:
    for edx, bits in ((1 << 6, 36), (1 << 17, 36), (0, 32)):
        lines = [HOST[0], f"RAW 00000001.0 00000663 00000000 00000000 {edx:08x}"]
        assert f"address sizes\t: {bits} bits physical, 48 bits virtual" in tool.cpuinfo(lines)
    with pytest.raises(InputError, match="leaves 0 and 1"):
        tool.cpuinfo(HOST[1:])


@pytest.mark.parametrize(
    ("eax", "expected"), [(0x000906EA, (6, 0x9E)), (0x00A20F12, (0x19, 0x21)), (0x00000543, (5, 4)), (0x00020F12, (15, 0x21))]
)
def test_family_and_model(tool: ModuleType, eax: int, expected: tuple[int, int]) -> None:
    assert tool.signature(eax) == expected


def test_rows_are_shortened(tool: ModuleType) -> None:
    def row(cpu: str, **request: str) -> dict[str, Any]:
        return {"request": {"do": "domcapabilities", **request}, "answer": {"cpu": cpu, "hyperv": "h"}}

    refused = {"request": {"do": "domcapabilities"}, "error": {"code": 8}}
    found = tool.shorten([refused, row("a"), row("a"), row("b", virt="qemu")], True)
    assert [each.get("answer") for each in found] == [None, {"cpu": "a", "hyperv": "h"}, {"cpu": "same", "hyperv": "h"}, {"cpu": "b"}]
    assert tool.shorten([row("a")], False)[0]["answer"] == {"cpu": "a"}


def test_a_root_without_qemu_is_refused(tool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no QEMU in"):
        tool.prepare(tmp_path)


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"cpu": ""}]', "no"])
def test_what_are_no_requests_is_refused(tool: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "requests.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        tool.requests_of(str(tmp_path / "requests.json"))


def test_a_domain_has_what_was_asked_and_little_else(inside: ModuleType) -> None:
    xml = inside.domain_xml({"do": "argv", "machine": "q35", "cpu": "<cpu mode='host-model'/>", "vcpus": 4}, "t1")
    assert "<name>t1</name>" in xml
    assert "<vcpu>4</vcpu>" in xml
    assert "machine='q35'>hvm" in xml
    assert "<features><acpi/><apic/></features><cpu mode='host-model'/><clock offset='utc'/>" in xml


def test_messages_lose_what_differs_from_run_to_run(inside: ModuleType) -> None:
    text = "2026-01-02T03:04:05.678901Z qemu-system-x86_64.real: bad (vm='t12')"
    assert inside.plain(text) == "qemu-system-x86_64: bad (vm='t')"


def test_tokens_become_what_fits_the_host(inside: ModuleType) -> None:
    connection = SimpleNamespace(
        getDomainCapabilities=lambda *_: DOMCAPABILITIES,
        getCapabilities=lambda: "<c><host><cpu><model>Haswell</model><topology sockets='1'/></cpu></host></c>",
    )
    answers = inside.Answers(connection)
    filled = answers.fill({"do": "argv", "cpu": "@USABLE1@ @UNUSABLE1@ @HOSTMODEL@ @HOSTCPU@"}, "host@6.1")
    assert filled["cpu"] == "qemu64 EPYC Haswell <cpu><model>Haswell</model></cpu>"
    lacking = {answers.fill({"cpu": f"@LACKS{number}@"}, "host@6.1")["cpu"] for number in range(40)}
    assert lacking == {"3dnow", "hle", "svm", "xop"}
    assert answers.fill({"cpu": "@LACKS1@"}, "host@6.1") == answers.fill({"cpu": "@LACKS1@"}, "host@7.3")
    assert answers.fill({"cpu": "@HOSTMODELCPU@"}, "host")["cpu"].startswith(
        '<cpu mode="custom" match="exact"><model fallback="forbid">Haswell'
    )
    plain = {"cpu": "<cpu/>"}
    assert answers.fill(plain, "host") is plain
