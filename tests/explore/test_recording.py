"""A recorded guest on the page: its host, its VMM and its calls, as explain and check say them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.captures import CAPTURES
from support.command import vcpuid
from support.packed import unpack

RECORDINGS = CAPTURES / "recordings"
HELD = re.compile(r'<script type="application/json" id="document">(.*?)</script>', re.DOTALL)


def told(*arguments: str) -> Any:
    """What a verb says, as JSON."""
    found = vcpuid(*arguments, "--format", "json")
    assert found.returncode in (0, 1), found.stderr
    return json.loads(found.stdout)


@pytest.mark.long
@pytest.mark.parametrize("name", ["microsandbox-0.7.11-libkrun-amd", "qemu-11.1.3-q35-haswell-smp2-amd", "qemu-7.2.22-q35-windows"])
def test_a_recording_is_shown_on_its_own_host_with_what_its_calls_show_wrong(tmp_path: Path, name: str) -> None:
    recording, file = str(RECORDINGS / f"{name}.jsonl.gz"), tmp_path / "page.html"
    found = vcpuid("explore", "--recording", recording, "--save", str(file))
    assert found.returncode == 0, found.stderr
    held = HELD.search(file.read_text(encoding="utf-8"))
    assert held is not None
    (subject,) = unpack(json.loads(held[1]))["subjects"]
    assert subject["path"]["host"] == f"{name}.jsonl.gz"
    assert subject["path"]["options"] == ["--recording", recording]
    features = {feature["feature"]: feature for feature in subject["path"]["features"]}
    for feature in ("avx2", "arch_capabilities"):
        explained = told("explain", feature, "--recording", recording)
        assert features[feature]["stages"] == explained["stages"]
        assert features[feature]["verdict"] == explained["verdict"]
    assert subject["hazards"]["hazards"] == told("check", "--recording", recording)["hazards"]
