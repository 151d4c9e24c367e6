"""Every table that four real QEMUs handed to KVM_SET_CPUID2, and everything they printed.

The hosts are files: QEMU saw their RAW, SUP, MSR and HV lines instead of the machine's own. What else it saw was that machine's: two
processors, a TSC that KVM could not scale, no local machine checks, a KVM that knew neither enlightened VMCS nor enforced Hyper-V leaves,
and, for a host without leaf 0xD, its own XSAVE components up to AVX-512's. Of captures/qemu, sets.jsonl.gz varies what users set,
random.jsonl.gz draws features, machine types, topologies and properties at random, more.jsonl.gz combines properties that are rare in
both, and machines.jsonl.gz varies the machine, its options, -global, and what a machine asks of a CPU. early.jsonl.gz does all of that with
QEMU 5.2, and varies enlightenments, -smp and -machine as it reads them. VCPUID_PEERS names a folder with tables on real CPUs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support import qemu_captures
from support.peers import PEERS
from support.qemu_captures import qemu_host, qemu_origin, qemu_rows
from vcpuid import Setup, Stack
from vcpuid.cpuid.registers import CpuidTable, Snapshot
from vcpuid.cpuid.words import CpuidWord, Word
from vcpuid.errors import QemuError
from vcpuid.qemu import KvmHost, QemuResult, guest_tables
from vcpuid.reasons import Decision, replay

QEMU, REAL = qemu_captures.FOLDER, PEERS / "qemu-on-real-cpus"
AVX512_XCR0 = 0xE7


class Set(NamedTuple):
    """Captures of one run: their folder and file there, and the TSC of the machine in kHz."""

    folder: Path
    file: str
    tsc_khz: int


SETS = {
    "chosen": Set(QEMU, "sets", 2596100),
    "random": Set(QEMU, "random", 2596144),
    "more": Set(QEMU, "more", 2596144),
    "machines": Set(QEMU, "machines", 2596130),
    "early": Set(QEMU, "early", 2445434),
    "real CPUs": Set(REAL, "sets", 2596100),
}
MACHINE = KvmHost(recommended_vcpus=2, tsc_scaling=False, lmce=False, refused=frozenset({"hv-evmcs", "hv-enforce-cpuid"}))
OUTSIDE = {
    "Failed to set KVM type registers": "its tables set, QEMU 11.1 writes a shadow stack pointer that the machine's kernel knows none of",
    "kvm_init_xsave: Assertion": "its table set, QEMU finds SUP to claim more XSAVE state than the machine's KVM_CAP_XSAVE2 holds",
    "kvm_cpu_xsave_init: Assertion": "the dump has a state component of a size that QEMU takes for impossible",
    "prctl(ARCH_REQ_XCOMP_GUEST_PERM) failure": "the machine has no AMX to permit",
}
"""Complaints whose cause lies outside QEMU and the host file, with the reason; the tables before them count all the same."""


def rows(name: str) -> list[Any]:
    found = qemu_rows(SETS[name].file, SETS[name].folder)
    return [pytest.param(name, row, id=f"{name} {number}") for number, row in enumerate(found)]


ROWS = rows("chosen") + rows("random") + rows("more") + rows("machines") + rows("early")


def host(name: str, row: dict[str, Any]) -> Snapshot:
    found = qemu_host(row["host"], SETS[name].folder)
    # That machine's KVM had no Hyper-V but for what the host file told.
    return found if found.hyperv is not None else replace(found, hyperv=CpuidTable())


def origin(name: str, row: dict[str, Any]) -> dict[str, str | None]:
    """Whose answer a row is; KVM's part on real processors was made up for the purpose, so no kernel had one."""
    return qemu_origin(row, SETS[name].folder)


def result_of(name: str, row: dict[str, Any]) -> QemuResult:
    found = host(name, row)
    assert found.supported is not None
    xcr0 = None if found.supported.get(0xD) else AVX512_XCR0
    kvm = replace(MACHINE, tsc_khz=SETS[name].tsc_khz, xcr0=xcr0)
    more = row.get("more", [])
    given = tuple(value for option, value in zip(more[::2], more[1::2], strict=True) if option == "-global")
    stack = Stack(qemu=row["qemu"], machine=row["machine"], smp=row["smp"], globals=given)
    return guest_tables(row["cpu"], host=Setup.of(found, stack), kvm=kvm)


def outside(line: str) -> str | None:
    """Return why a line has its cause outside, None where it has not."""
    return next((reason for complaint, reason in OUTSIDE.items() if complaint in line), None)


def refused(row: dict[str, Any]) -> bool:
    """Whether QEMU ended by its own will; tables that it had set by then were those of its first vCPUs, or of a machine not yet whole."""
    return bool(row["rc"]) and not any(outside(line) for line in row["stderr"])


def wanted(row: dict[str, Any]) -> list[list[str]]:
    """Return the tables that count."""
    return [] if refused(row) else row["vcpus"] or []


def printed(row: dict[str, Any]) -> list[str]:
    """Return what QEMU printed, without the program's name and the word "warning"; a warning's second line counts as one more.

    That a machine type is deprecated says nothing of the CPU.
    """
    start = re.compile(r"qemu-system-x86_64: (-accel kvm: )?(warning: )?")
    lines = (start.sub("", line, count=1) for line in row["stderr"] if not outside(line))
    return [line for line in lines if not line.startswith("Machine type ")]


def answer(name: str, row: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    """Return what we say, as far as QEMU got: the tables that were kept of the capture, and the lines printed."""
    try:
        result = result_of(name, row)
    except QemuError as error:
        return [], [*error.warnings, *error.message.splitlines()]
    tables, lines = result.tables, list(result.warnings)
    if row.get("vcpus_kept") == "first,last":
        tables = (tables[0], tables[-1])
    if any(outside(line) for line in row["stderr"]):
        tables, lines = tables[: len(row["vcpus"])], lines[: len(printed(row))]
    return [[str(entry) for entry in table] for table in tables], lines


@pytest.mark.conformance("QEMU tables", origin)
@pytest.mark.parametrize(("name", "row"), ROWS)
def test_tables_and_messages_are_those_of_the_real_qemu(name: str, row: dict[str, Any]) -> None:
    tables, lines = answer(name, row)
    assert tables == wanted(row)
    assert lines == printed(row)


@pytest.mark.skipif(not rows("real CPUs"), reason="VCPUID_PEERS names no tables on real processors")
@pytest.mark.conformance("QEMU on real CPUs", origin)
@pytest.mark.parametrize(("name", "row"), rows("real CPUs"))
def test_tables_on_real_processors_are_those_of_the_real_qemu(name: str, row: dict[str, Any]) -> None:
    if not row["vcpus"] and (reasons := [reason for line in row["stderr"] if (reason := outside(line))]):
        pytest.skip(reasons[0])
    tables, lines = answer(name, row)
    assert tables == wanted(row)
    assert lines == printed(row)


def test_the_documentation_has_these_figures() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8").split())
    chosen, drawn, more, machines, early = (len(rows(name)) for name in ("chosen", "random", "more", "machines", "early"))
    refusals = sum(not wanted(row.values[1]) for row in ROWS)
    assert f"Of the {len(ROWS):,} rows {chosen:,} vary what users set, {drawn} are drawn at random, {more} combine" in page
    assert f"{machines} vary the machine" in page
    assert f"and {early} are QEMU 5.2's" in page
    assert f"{refusals} of them are refusals" in page


def test_complaints_from_outside_are_few_and_known() -> None:
    assert sum(any(outside(line) for line in row.values[1]["stderr"]) for row in rows("chosen")) == 8


@pytest.mark.long
@pytest.mark.parametrize(("name", "row"), [row for row in ROWS if wanted(row.values[1])])
def test_decisions_lead_from_what_kvm_supports_to_the_table(
    name: str, row: dict[str, Any], fired: Callable[[str, Iterable[Decision]], None]
) -> None:
    result = result_of(name, row)
    given: dict[Word, int] = dict(result.supported.words().items())
    replayed = replay(given, result.decisions)
    expected = {word: value for word, value in result.tables[0].words().items() if value}
    assert {word: value for word, value in replayed.items() if value and isinstance(word, CpuidWord)} == expected
    fired(
        f"qemu/{SETS[name].file}.jsonl.gz: QEMU {row['qemu']} -cpu {row['cpu']} on {row['host']}",
        (decision for decision in result.decisions if isinstance(decision.word, CpuidWord)),
    )
