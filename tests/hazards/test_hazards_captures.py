"""No false alarms: what real kernels and real QEMUs gave breaks nothing, but where a reason is on record below."""

from __future__ import annotations

from typing import Any

import pytest

from support.captures import MACHINES, host, stack
from support.qemu_captures import qemu_host, qemu_rows
from vcpuid import hazards, resolve
from vcpuid.hazards import Severity

# Machines whose CPUID had features switched off at random, AVX or XSAVE among them: what needs these raises #UD there for real.
WITHOUT_AVX_OR_XSAVE = ("max-rnd08", "max-rnd15", "max-rnd17")
# KVM 6.1 reports XCR0's tile configuration without its data to a process without permission, and refuses XCR0 with one of them
# (__kvm_set_xcr, arch/x86/kvm/x86.c); later kernels leave out both.
HALF_OF_AMX = ("sapphire_rapids-", "@6.1")
# What the users of these guests asked for: no XSAVE, no AVX, or no leaf 0xD.
ASKED = (",-xsave", ",-avx", "level=7")


def real(machine: str, rule: str) -> bool:
    """Whether a hazard that breaks is on record for a machine."""
    if rule == "xsave.no-state":
        return any(name in machine for name in WITHOUT_AVX_OR_XSAVE)
    return rule == "xsave.impossible" and HALF_OF_AMX[0] in machine and machine.endswith(HALF_OF_AMX[1])


@pytest.mark.parametrize("machine", MACHINES)
def test_what_kvm_supports_breaks_no_guest(machine: str) -> None:
    supported = host(machine).supported
    assert supported is not None
    found = hazards.of_table(supported, host(machine), stack(machine))
    breaks = {hazard.rule.id for hazard in found if hazard.rule.severity is Severity.BREAKS}
    assert {rule for rule in breaks if not real(machine, rule)} == set()


def clean_runs() -> list[dict[str, Any]]:
    """Runs of real QEMUs that started and had nothing to say of features."""
    complaints = ("support requested feature", "depends on other features", "conflicts with")
    return [row for row in qemu_rows("sets") if row["vcpus"] and not any(text in line for line in row["stderr"] for text in complaints)]


@pytest.mark.long
def test_clean_tables_of_real_qemus_break_no_guest() -> None:
    rows = clean_runs()
    assert len(rows) > 200
    alarms = []
    for row in rows:
        asked = stack(row["host"], qemu=row["qemu"], machine=row["machine"], smp=row["smp"])
        path = resolve(row["cpu"], host=qemu_host(row["host"]), stack=asked)
        for hazard in hazards.of_path(path):
            expected = real(row["host"], hazard.rule.id) or any(text in row["cpu"] for text in ASKED)
            if hazard.rule.severity is Severity.BREAKS and not expected:
                alarms.append((row["qemu"], row["cpu"], row["host"], hazard.rule.id, hazard.subjects))
    assert alarms == []


@pytest.mark.long
def test_what_breaks_is_found_where_it_is_on_record() -> None:
    """The exceptions above are no blanket: each of those machines does have the hazard."""
    for machine in MACHINES:
        supported = host(machine).supported
        assert supported is not None
        found = {hazard.rule.id for hazard in hazards.of_table(supported, host(machine), stack(machine))}
        assert {rule for rule in ("xsave.no-state", "xsave.impossible") if real(machine, rule)} <= found, machine
