from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.errors import KvmError, UnavailableError
from vcpuid.live.kvm_device import Kvm
from vcpuid.probe import INSTRUCTIONS, Instruction, guest, override
from vcpuid.probe.instructions import Needs

pytestmark = pytest.mark.kvm


@pytest.fixture(scope="module")
def supported() -> CpuidTable:
    with Kvm() as kvm:
        return kvm.supported_cpuid()


def row(code: str, **more: object) -> Instruction:
    return Instruction("fpu", "trial", bytes.fromhex(code), **more)  # type: ignore[arg-type]


NOP = row("90")


def resources() -> tuple[int, int]:
    """Open descriptors, and mappings that belong to KVM or are shared memory as guests have it."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return len(os.listdir("/proc/self/fd")), sum("kvm" in line or "/dev/zero" in line for line in maps)


def test_every_instruction_has_an_outcome(supported: CpuidTable) -> None:
    before = resources()
    outcomes = guest(supported)
    assert [outcome.instruction for outcome in outcomes] == [instruction.name for instruction in INSTRUCTIONS]
    by_name = {outcome.instruction: outcome for outcome in outcomes}
    for name in ("fninit", "cmpxchg8b", "cmovne", "addps", "paddb"):
        assert (by_name[name].asked, by_name[name].advertised, by_name[name].result) == (True, True, "works")
    assert resources() == before


@pytest.mark.parametrize("table", [CpuidTable(), None], ids=["no table", "all hidden"])
def test_a_guest_with_everything_hidden(table: CpuidTable | None, supported: CpuidTable) -> None:
    """Hiding a bit stops what needs a kernel to switch it on, at the most: SSE runs all the same."""
    outcomes = guest(override(supported, hide=["all"]) if table is None else table)
    assert not any(outcome.asked for outcome in outcomes)
    sse = next(outcome for outcome in outcomes if outcome.instruction == "addps")
    assert sse.result == "works"


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("0f0b", "#UD"),
        ("8b042500000001", "#PF"),  # mov eax, [16 MiB], where there is no page
        ("48b80000000000000080 8b00", "#GP"),  # an address that is not canonical
        ("f7f0", "#DE"),
        ("fa", "#GP"),  # cli in ring 3
    ],
)
def test_faults_are_told_by_their_names(code: str, result: str, supported: CpuidTable) -> None:
    assert [outcome.result for outcome in guest(supported, [row(code), NOP])] == [result, "works"]


@pytest.mark.long
def test_a_guest_that_hangs_is_stopped_and_the_next_gets_a_new_one(supported: CpuidTable) -> None:
    before = resources()
    start = time.monotonic()
    outcomes = guest(supported, [row("ebfe"), NOP])
    assert [outcome.result for outcome in outcomes] == ["hangs", "works"]
    assert time.monotonic() - start < 10
    assert resources() == before


def test_a_guest_that_loses_its_handlers_is_no_more_than_an_outcome(supported: CpuidTable) -> None:
    """A kernel that gives away its IDT, and then faults, shuts down."""
    outcomes = guest(supported, [row("0f011f 0f0b", ring=0), NOP])
    assert outcomes[0].result not in ("works", "#UD")
    assert outcomes[1].result == "works"


def test_the_time_for_all_of_them_is_bounded(supported: CpuidTable) -> None:
    """What had less than its own time is not said to hang."""
    outcomes = guest(supported, [NOP, row("ebfe"), row("ebfe"), NOP], seconds=0.5)
    assert [outcome.result for outcome in outcomes] == ["works", "cannot tell", "cannot tell", "cannot tell"]
    with pytest.raises(UnavailableError, match="time"):
        guest(supported, seconds=0)


def test_what_cannot_be_switched_on_is_no_fault(supported: CpuidTable) -> None:
    reserved, nothing = row("90", needs=Needs(cr4=1 << 63)), row("90", needs=Needs(xcr0=1 << 62, cr4=1 << 18))
    outcomes = guest(supported, [reserved, nothing, NOP])
    assert [outcome.result for outcome in outcomes] == ["cannot enable", "cannot enable", "works"]
    assert all(outcome.detail for outcome in outcomes[:2])


def test_a_refused_table_is_kvms_error() -> None:
    before = resources()
    with pytest.raises(KvmError, match="KVM_SET_CPUID2"):
        guest(CpuidTable([Entry(0x80000008, 0, 0, 0x2030, 0, 0, 0)]))
    assert resources() == before
