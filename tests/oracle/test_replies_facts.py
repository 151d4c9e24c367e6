"""oracle/replies.py: the facts in a dialogue between libvirt and a QEMU."""

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


def test_what_is_compared_is_kept_and_nothing_else(oracle: Oracle) -> None:
    assert oracle("replies").facts(TALK) == [
        ["query-kvm", {}, {"enabled": True}],
        ["query-cpu-definitions", {}, [{"name": "Haswell", "unavailable-features": ["hle"]}]],
    ]


@pytest.mark.parametrize("text", ["", "[1]", '{"return": {}}', '{"execute": "query-version"} {"return": {}}', '{"execute"', "[" * 100_000])
def test_a_file_that_is_no_dialogue_is_refused(
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
