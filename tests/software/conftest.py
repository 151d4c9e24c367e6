"""CPUs out of the captures."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from vcpuid.cpuid import Snapshot
from vcpuid.formats.lines import parse_snapshot

KVM = Path(__file__).parents[1] / "captures" / "kvm"


@pytest.fixture(scope="session")
def host() -> Callable[[str], Snapshot]:
    def read(name: str) -> Snapshot:
        return parse_snapshot(gzip.decompress((KVM / f"{name}@6.12.txt.gz").read_bytes()).decode().splitlines())

    return read
