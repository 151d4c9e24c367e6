"""The facts of oracle/facts and the tables in data/ agree: the tools make the latter of the former."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vcpuid import data

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "oracle" / "facts"
RELEASES = [path.name.removeprefix("linux-").removesuffix(".json.gz") for path in FACTS.glob("*.json.gz")]


def facts(release: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress((FACTS / f"linux-{release}.json.gz").read_bytes()))
    return found


def test_every_kernel_with_tables_has_facts() -> None:
    assert sorted(RELEASES) == sorted(data.load("kvm-caps")["kernels"])
    assert [facts(release)["kernel"] for release in data.load("features")["kernels"]] == data.load("features")["source"]["linux"]


def test_what_kvm_knows_comes_out_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tools" / "kvm_tables.py", *FACTS.glob("*.json.gz"), "-o", tmp_path / "kvm-caps.json"]
    subprocess.run(command, check=True)
    assert (tmp_path / "kvm-caps.json").read_bytes() == (ROOT / "src" / "vcpuid" / "data" / "kvm-caps.json").read_bytes()


@pytest.mark.parametrize("release", RELEASES)
def test_what_linux_knows_is_in_its_table(release: str) -> None:
    told, table = facts(release), data.load(f"linux-{release}")
    whose = f", {told['origin']}" if "origin" in told else ""
    assert table["source"] == f"Linux {told['kernel']}{whose}, read by tools/linux_tables.py"
    assert table["words"] == [[word, told["reverse_cpuid"].get(word)] for word in told["cpuid_leafs"][:-1]]
    assert table["features"] == [[name, row["word"], row["bit"], row["cpuinfo"]] for name, row in told["features"].items()]
    assert table["bugs"] == [[name, row["bit"] // 32, row["bit"] % 32, row["cpuinfo"]] for name, row in told["bugs"].items()]
    assert (table["scattered"], table["deps"]) == (told["scattered"], told["cpuid_deps"])
    assert table["vmx"] == [[name, row["word"], row["bit"], row["cpuinfo"]] for name, row in told["vmx_features"].items()]
