"""What inputs start from: the captures, and the samples of every form that the tests of the forms hold."""

from __future__ import annotations

import ast
import gzip
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fuzz.samples import samples
from vcpuid import sources
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.errors import InputError, VcpuidError
from vcpuid.formats import identify
from vcpuid.formats.writing import WRITABLE, write

TESTS = Path(__file__).parents[1] / "tests"
CAPTURES = TESTS / "captures"

_HEAD = 24
"""Entries of a capture's table in a text: to read all of them takes ten times as long, and tells nothing more of a reader."""

_SHORTEST = 40
"""Letters of a sample; shorter texts in the tests are parts of some."""


@cache
def machines() -> tuple[str, ...]:
    """The names of the captured hosts, in order."""
    return tuple(path.name.removesuffix(".txt.gz") for path in sorted((CAPTURES / "kvm").glob("*.txt.gz")))


@cache
def host_lines(name: str) -> tuple[str, ...]:
    """The lines of a captured host."""
    return tuple(gzip.decompress((CAPTURES / "kvm" / f"{name}.txt.gz").read_bytes()).decode().splitlines())


@cache
def host(name: str) -> Snapshot:
    """A captured host."""
    return sources.read(CAPTURES / "kvm" / f"{name}.txt.gz")


@cache
def texts() -> dict[str, tuple[str, ...]]:
    """Texts to start from, by form: of several captured hosts in every form, and what the tests have."""
    found: dict[str, list[str]] = {}
    for text in (*_written(), *_in_tests()):
        try:
            form, _ = identify(text, "a sample")
        except InputError:
            continue
        found.setdefault(form.name, []).append(text)
    return {name: tuple(dict.fromkeys(of)) for name, of in sorted(found.items())}


def _written() -> Iterator[str]:
    for path in sorted(path for folder in ("reports", "vmm", "recordings") for path in (CAPTURES / folder).glob("*.gz")):
        yield gzip.decompress(path.read_bytes()).decode()
    for name in machines()[:: max(1, len(machines()) // 6)]:
        yield "\n".join(host_lines(name)) + "\n"
        whole = host(name)
        short = Snapshot(raw=CpuidTable(whole.raw[:_HEAD]), supported=CpuidTable((whole.supported or ())[:_HEAD]), msrs=whole.msrs)
        yield from samples(CpuidTable(whole.raw[:_HEAD]))
        for form in WRITABLE:
            for snapshot in (whole, short):
                try:
                    yield "\n".join(write([snapshot], form)) + "\n"
                except VcpuidError:
                    continue


def _in_tests() -> Iterator[str]:
    """Give every long text in the tests of the forms; what is none of the forms' is sorted out by who asks."""
    for path in sorted((TESTS / "formats").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > _SHORTEST:
                yield node.value
