"""A CPU written as a -cpu argument makes QEMU build the same CPU again."""

from __future__ import annotations

import pytest

from support.qemu_captures import host_lines, qemu_host
from vcpuid import qemu
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.formats.writing import losses, write

CACHES = {2, 4, 0x80000005, 0x80000006, 0x8000001D}
"""Leaves that a model may fill with caches of its own; no property of QEMU's sets them."""


NAME = {0x80000002, 0x80000003, 0x80000004}
"""Leaves with the CPU's name; one with a comma cannot be written, since QEMU cuts the argument at every comma."""


def table(cpu: str, host: Snapshot) -> CpuidTable:
    return qemu.guest_tables(cpu, host=host, qemu="11.1", machine="q35").tables[0]


@pytest.mark.parametrize("model", ["host", "max", "Haswell", "Skylake-Server", "EPYC", "EPYC-Milan", "qemu64", "Opteron_G1"])
@pytest.mark.parametrize("name", sorted(host_lines())[::12])
def test_the_argument_makes_the_same_table(name: str, model: str) -> None:
    host = qemu_host(name)
    wanted = table(model, host)
    (argument,) = write([Snapshot(table=wanted)], "qemu")
    made = table(argument, host)
    differ = {entry.function for entry in wanted if made.get(entry.function, entry.index) != entry}
    unwritten = NAME if "the name, since it has a comma" in losses([Snapshot(table=wanted)], "qemu") else set()
    assert differ <= CACHES | unwritten
    assert {entry[:2] for entry in made} == {entry[:2] for entry in wanted} or differ


def test_a_part_of_cpuid_gives_what_it_has() -> None:
    (argument,) = write([Snapshot(named={"avx2": True, "fpu": False, "sse4.1": True})], "qemu")
    assert argument == "base,+avx2,+sse4.1"
