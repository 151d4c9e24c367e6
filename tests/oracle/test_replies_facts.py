"""oracle/replies.py: the facts in a dialogue between libvirt and a QEMU, and in what libvirt made of one."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Oracle = Callable[[str], ModuleType]

TALK = """
{ "execute": "query-kvm", "id": "1" }
{ "return": { "enabled": true, "present": true }, "id": "1" }
{ "execute": "qom-list-properties", "arguments": { "typename": "isa-serial" } }
{ "return": [ { "name": "index", "type": "uint32" } ] }
{ "execute": "query-cpu-definitions" }
{ "return": [ { "name": "Haswell", "typename": "Haswell-x86_64-cpu", "unavailable-features": ["hle"], "static": false } ] }
{ "execute": "query-cpu-model-expansion", "arguments": { "type": "full", "model": { "name": "host" } } }
{ "error": { "class": "GenericError", "desc": "no" } }
"""

SUMMARY = """<qemuCaps>
  <flag name='kvm'/>
  <version>10001000</version>
  <hostCPU type='kvm' model='base' migratability='yes'>
    <property name='aes' type='boolean' value='true' migratable='yes'/>
    <property name='hle' type='boolean' value='false'/>
    <property name='family' type='number' value='23'/>
    <property name='invtsc' type='boolean' value='true' migratable='no'/>
    <property name='vendor' type='string' value='AuthenticAMD'/>
  </hostCPU>
  <cpu type='kvm' name='base' typename='base-x86_64-cpu' usable='yes'/>
  <cpu type='kvm' name='Haswell' typename='Haswell-x86_64-cpu' usable='no' deprecated='yes'>
    <blocker name='hle'/>
  </cpu>
  <machine type='kvm' name='pc-q35-10.1' alias='q35' hotplugCpus='yes' maxCpus='4096' acpi='yes'/>
  <machine type='kvm' name='x-remote' maxCpus='1' acpi='no'/>
  <hostCPU type='tcg' model='base' migratability='yes'>
    <property name='hle' type='boolean' value='false'/>
  </hostCPU>
  <cpu type='tcg' name='max' typename='max-x86_64-cpu' usable='yes'/>
</qemuCaps>
"""


def test_what_is_compared_is_kept_and_nothing_else(oracle: Oracle) -> None:
    assert oracle("replies").facts(TALK) == [
        ["query-kvm", {}, {"enabled": True}],
        ["query-cpu-definitions", {}, [{"name": "Haswell", "unavailable-features": ["hle"]}]],
    ]


def test_a_summary_tells_what_the_dialogue_would_have(oracle: Oracle) -> None:
    ask, all_of_it = "query-cpu-model-expansion", {"props": {"migratable": False}}
    told = {"aes": True, "hle": False, "family": 23, "vendor": "AuthenticAMD"}
    assert oracle("replies").facts(SUMMARY) == [
        ["query-kvm", {}, {"enabled": True}],
        ["query-machines", {}, [{"name": "pc-q35-10.1", "alias": "q35", "cpu-max": 4096}, {"name": "x-remote", "cpu-max": 1}]],
        [
            "query-cpu-definitions",
            {},
            [
                {"name": "base", "deprecated": False, "unavailable-features": []},
                {"name": "Haswell", "deprecated": True, "unavailable-features": ["hle"]},
            ],
        ],
        [ask, {"type": "static", "model": {"name": "host"}}, {"model": {"props": told | {"invtsc": False}}}],
        [ask, {"type": "static", "model": {"name": "host", **all_of_it}}, {"model": {"props": told | {"invtsc": True}}}],
        ["query-machines", {}, []],
        ["query-cpu-definitions", {}, [{"name": "max", "deprecated": False, "unavailable-features": []}]],
        [ask, {"type": "static", "model": {"name": "max"}}, {"model": {"props": {"hle": False}}}],
        [ask, {"type": "static", "model": {"name": "max", **all_of_it}}, {"model": {"props": {"hle": False}}}],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "<qemuCaps",
        "<qemuCaps/>",
        "<capabilities><cpu/></capabilities>",
        '{"return": {}}',
        '{"execute": "query-version"} {"return": {}}',
        '{"execute"',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_neither_is_refused(
    oracle: Oracle, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "caps.replies"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["replies.py", str(file), "--origin", "test", "-o", str(tmp_path / "made.gz")])
    assert oracle("replies").main() == 3
    told = capsys.readouterr().err
    assert str(file) in told
    assert told.count("\n") == 1


def test_the_facts_are_written_with_their_origin(oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, made = tmp_path / "caps.replies", tmp_path / "made.gz"
    file.write_text(TALK, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["replies.py", str(file), "--origin", "libvirt 9.0.0", "-o", str(made)])
    assert oracle("replies").main() == 0
    told = json.loads(gzip.decompress(made.read_bytes()))
    assert told["origin"] == "libvirt 9.0.0"
    assert list(told["replies"]) == ["caps.replies"]
