"""The captured machines of tests/captures, by name: "kvm-intel.corei7_skylake_x@6.12" is a module, a processor and a kernel."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vcpuid import Stack, read
from vcpuid.cpuid import Snapshot

CAPTURES = Path(__file__).parents[1] / "captures"
MITIGATIONS_OFF = {"cmdline": "mitigations=off"}
"""What the machines of captures/kvm were booted with, and their files do not tell."""


def capture(name: str, folder: str = "kvm") -> Path:
    """The file of a capture."""
    return CAPTURES / folder / f"{name}.txt.gz"


def names(folder: str) -> list[str]:
    """The captures of a folder."""
    return sorted(path.name.removesuffix(".txt.gz") for path in (CAPTURES / folder).glob("*.txt.gz"))


MACHINES = names("kvm")


def lines(name: str, folder: str = "kvm") -> list[str]:
    """The lines of a capture."""
    return gzip.decompress(capture(name, folder).read_bytes()).decode().splitlines()


def rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a file that has one a line, as JSON; none where there is no such file."""
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()] if file.exists() else []


@cache
def host(name: str) -> Snapshot:
    """A machine of captures/kvm."""
    return read(capture(name))


def some(cases: Iterable[Any], every: int) -> list[Any]:
    """Cases of a law, of which one in `every` is tried by each run, and the rest with -m slow. What holds for captures is tried whole."""
    made = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=pytest.mark.slow if number % every else ()) for number, case in enumerate(made)]


def release(name: str) -> str:
    """The tables of the kernel that a capture names."""
    return name.rpartition("@")[2]


def stack(name: str, **asked: Any) -> Stack:
    """A machine's own kernel, and what else is asked."""
    return Stack(kernel=release(name), **asked)


def origin(name: str) -> dict[str, str | None]:
    """Whose answer a machine's is, for the marker `conformance`."""
    return {"kernel": host(name).kernel, "qemu": None, "vendor": host(name).vendor}
