"""What three real QEMUs answered about CPU models in their monitor, on hosts that were files, as in tests/qemu/test_guest_captures.py.

A row of captures/qemu/qmp.jsonl.gz is one QEMU on a machine type and a host: `definitions` is query-cpu-definitions (name, alias-of,
deprecated, unavailable-features), `expansions` query-cpu-model-expansion of type full (which booleans are on, and all other values), and
`realized` the features that are on in the CPU object of a guest, feature MSRs included. Left out are properties of any device
(realized, memory, start-powered-off).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from support.qemu_captures import qemu_host, qemu_origin, qemu_rows
from vcpuid.cpuid import Snapshot
from vcpuid.qemu import models, realize
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.expansion import expansion
from vcpuid.reasons import Decision

AVX512_XCR0 = 0xE7
"""The machine's own XSAVE components, which QEMU asked KVM for where the host file has no leaf 0xD."""


def host(name: str) -> tuple[Snapshot, int | None]:
    found = qemu_host(name)
    assert found.supported is not None
    return found, None if found.supported.get(0xD) else AVX512_XCR0


ROWS = [pytest.param(row, id=f"{row['qemu']} {row['machine']} {row['host']}") for row in qemu_rows("qmp")]


@pytest.mark.conformance("QEMU models", qemu_origin)
@pytest.mark.parametrize("row", ROWS)
def test_models_are_those_that_qemu_lists(row: dict[str, Any]) -> None:
    snapshot, xcr0 = host(row["host"])
    ours = models(snapshot, row["qemu"], row["machine"], xcr0=xcr0)
    listed = [[model.name, model.alias_of, model.deprecated, list(model.unavailable_features)] for model in ours]
    assert sorted(listed) == sorted(row["definitions"])


@pytest.mark.conformance("QEMU expansions", qemu_origin)
@pytest.mark.parametrize("row", ROWS)
def test_models_expand_as_in_qemu(row: dict[str, Any]) -> None:
    snapshot, xcr0 = host(row["host"])
    for cpu, theirs in row["expansions"].items():
        ours = expansion(cpu, snapshot, row["qemu"], row["machine"], xcr0=xcr0)
        assert sorted(name for name, value in ours.items() if value is True) == theirs["on"], cpu
        assert {name: value for name, value in ours.items() if not isinstance(value, bool)} == theirs["other"], cpu


@pytest.mark.conformance("QEMU realized", qemu_origin)
@pytest.mark.parametrize("row", ROWS)
def test_realized_features_are_those_of_the_cpu_object(row: dict[str, Any], fired: Callable[[str, Iterable[Decision]], None]) -> None:
    snapshot, xcr0 = host(row["host"])
    flags = catalog(row["qemu"]).flags
    for cpu, theirs in row["realized"].items():
        state = realize(cpu, snapshot, row["qemu"], row["machine"], xcr0=xcr0)
        features = state.features
        assert sorted(name for name, flag in flags.items() if features[flag.word] & flag.mask == flag.mask) == theirs, cpu
        fired(f"qemu/qmp.jsonl.gz: QEMU {row['qemu']} -cpu {cpu} on {row['host']}", state.decisions)


def test_the_documentation_has_these_figures() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8").split())
    listed, expanded, realized = (sum(len(row.values[0][what]) for row in ROWS) for what in ("definitions", "expansions", "realized"))
    assert f"The lists of models have {listed:,} rows" in page
    assert f"the expansions are those of {expanded} CPUs, and {realized} CPUs were realized" in page
