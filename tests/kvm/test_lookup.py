from __future__ import annotations

import pytest

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Registers, Word
from vcpuid.errors import InputError
from vcpuid.kvm import vcpu_rules as rules
from vcpuid.kvm.lookup import lookup, lookup_entry, seen, signature_base, time_scale
from vcpuid.kvm.vcpu import set_cpuid
from vcpuid.kvm.vcpu_state import VcpuState
from vcpuid.reasons import Action, Decision, replay
from vcpuid.releases import KERNELS, REBUILT

OLD = ("5.10", "5.15")
FILLS = {"6.6", "6.8", "6.12", "6.14"}
"""Kernels that write Xen's time into the table, when it is given; Red Hat's are built without Xen's hypercalls."""
INTEL = Entry(0, 0, 0, 0x14, 0x756E6547, 0x6C65746E, 0x49656E69)
OLD_AMD = Entry(0, 0, 0, 0x14, 0x69444D41, 0x21726574, 0x74656273)
TOP = [Entry(0x14, 0, 1, 1, 2, 3, 4), Entry(0x14, 1, 1, 5, 6, 7, 8)]
HYPERV = [Entry(0x40000001, 0, 0, 0x31237648, 0, 0, 0), Entry(0x40000003, 0, 0, 1 << 15, 0, 0, 0)]
INVTSC = Entry(0x80000007, 0, 0, 0, 0, 0, 0x100)
TSX = Entry(7, 0, 1, 0, 0xFFFF, 0, 0)
XEN = [
    Entry(0x40000100, 0, 0, 0x40000103, *(int.from_bytes(part, "little") for part in (b"XenV", b"MMXe", b"nVMM"))),
    Entry(0x40000103, 0, 1, 1, 1, 1, 1),
    Entry(0x40000103, 1, 1, 1, 1, 1, 1),
    Entry(0x40000103, 2, 1, 1, 1, 1, 1),
]


def word(function: int, index: int, register: str) -> Word:
    return CpuidWord(function, index, register)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entries", "place", "answer"),
    [
        ([INTEL, *TOP], (0x14, 1), (5, 6, 7, 8)),
        ([INTEL, *TOP], (0x15, 1), (5, 6, 7, 8)),
        ([INTEL, *TOP], (0x15, 2), (0, 0, 0, 0)),
        ([INTEL, *TOP], (0x13, 0), (0, 0, 0, 0)),
        ([INTEL, *TOP], (0x40000000, 0), (1, 2, 3, 4)),
        ([INTEL, *TOP], (0x80000000, 0), (1, 2, 3, 4)),
        ([INTEL, *TOP], (0xC0000000, 0), (1, 2, 3, 4)),
        ([INTEL, *TOP], (0xDFFFFFFF, 0), (1, 2, 3, 4)),
        ([INTEL, *TOP, Entry(0xC0000000, 0, 0, 0xC0000004, 0, 0, 0)], (0xC0000004, 0), (0, 0, 0, 0)),
        ([INTEL, *TOP, Entry(0x40000200, 0, 0, 0x40000202, 0, 0, 0)], (0x40000201, 0), (0, 0, 0, 0)),
        ([INTEL, *TOP, Entry(0x40000200, 0, 0, 0x40000202, 0, 0, 0)], (0x40000301, 0), (1, 2, 3, 4)),
        ([OLD_AMD, *TOP], (0x15, 0), (0, 0, 0, 0)),
        (TOP, (0x15, 0), (0, 0, 0, 0)),
        ([Entry(0xB, 1, 1, 1, 2, 3, 77)], (0xB, 0x1234), (0, 0, 0x34, 77)),
        ([Entry(0xB, 2, 1, 1, 2, 3, 77)], (0xB, 3), (0, 0, 0, 0)),
        ([INTEL._replace(eax=0x1F), Entry(0x1F, 1, 1, 1, 2, 3, 77)], (0x20, 9), (0, 0, 9, 77)),
        ([INTEL._replace(eax=0x1F), Entry(0x1F, 1, 1, 1, 2, 3, 77)], (0x20, 1), (1, 2, 3, 77)),
        ([Entry(5, 4, 0, 1, 1, 1, 1), Entry(5, 0, 1, 2, 2, 2, 2)], (5, 0), (1, 1, 1, 1)),
        ([Entry(5, 4, 1, 1, 1, 1, 1), Entry(5, 0, 0, 2, 2, 2, 2)], (5, 4), (1, 1, 1, 1)),
        ([Entry(5, 4, 1, 1, 1, 1, 1), Entry(5, 0, 0, 2, 2, 2, 2)], (5, 5), (2, 2, 2, 2)),
    ],
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_who_answers(entries: list[Entry], place: tuple[int, int], answer: tuple[int, ...], kernel: str) -> None:
    assert lookup(CpuidTable(entries), *place, kernel=kernel) == answer


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_leaf_0_that_is_bound_to_a_sub_leaf_answers_since_6_0(kernel: str) -> None:
    table = CpuidTable([Entry(0, 3, 1, *INTEL[3:]), *TOP])
    assert lookup(table, 0x15, 0, kernel=kernel) == ((0, 0, 0, 0) if kernel in ("4.18", "5.14-el9_1", *OLD) else (1, 2, 3, 4))


def test_the_answer_tells_where_it_comes_from() -> None:
    table = CpuidTable([INTEL, *TOP])
    assert lookup_entry(table, 0x14, 1) == (Registers(5, 6, 7, 8), TOP[1], True, ())
    assert lookup_entry(table, 0x15, 1) == (Registers(5, 6, 7, 8), TOP[1], False, ())
    assert lookup_entry(table, 0x13) == (Registers(), None, False, ())


def test_a_signature_is_found_in_steps_of_256_leaves() -> None:
    assert signature_base(CpuidTable(XEN), "XenVMMXenVMM") == (0x40000100, 0x40000103)
    assert signature_base(CpuidTable([XEN[0]._replace(function=0x40000180)]), "XenVMMXenVMM") is None
    assert signature_base(CpuidTable([XEN[0]._replace(function=0x40010000)]), "XenVMMXenVMM") is None


@pytest.mark.parametrize(("kernel", "hides"), [("6.1", False), ("6.12", True), ("7.3", True)])
def test_the_invariant_tsc_waits_for_a_hyperv_guest(kernel: str, hides: bool) -> None:
    table = CpuidTable([*HYPERV, INVTSC])
    assert lookup(table, 0x80000007, kernel=kernel).edx == (0 if hides else 0x100)
    assert lookup(table, 0x80000007, kernel=kernel, state=VcpuState(invtsc_control=1)).edx == 0x100
    assert lookup(CpuidTable([HYPERV[1], INVTSC]), 0x80000007, kernel=kernel).edx == 0x100
    assert lookup(CpuidTable([HYPERV[0], INVTSC]), 0x80000007, kernel=kernel).edx == 0x100
    assert lookup(table, 0x80000007, kernel=kernel, state=VcpuState(constant_tsc=False)).edx == (0 if kernel == "7.3" else 0x100)
    decision = Decision(word(0x80000007, 0, "edx"), 0x100, 0, Action.COMPUTED, rules.INVTSC_HIDDEN)
    assert seen(table, kernel=kernel).decisions == ((decision,) if hides else ())


@pytest.mark.parametrize("kernel", KERNELS)
def test_tsx_ctrl_hides_tsx(kernel: str) -> None:
    table, hidden = CpuidTable([TSX, TSX._replace(index=1)]), VcpuState(tsx_ctrl=2)
    assert lookup(table, 7, kernel=kernel, state=VcpuState(tsx_ctrl=1)) == TSX.registers
    assert lookup(table, 7, kernel=kernel, state=hidden).ebx == 0xF7EF
    assert lookup(table, 7, 1, kernel=kernel, state=hidden) == TSX.registers
    result = seen(table, kernel=kernel, state=hidden)
    assert result.decisions == (Decision(word(7, 0, "ebx"), 0x810, 0, Action.COMPUTED, rules.TSX_HIDDEN),)
    assert result.table == CpuidTable([TSX._replace(ebx=0xF7EF), TSX._replace(index=1)])


@pytest.mark.parametrize("kernel", KERNELS)
def test_xens_time_leaf(kernel: str) -> None:
    table, state = CpuidTable(XEN), VcpuState(tsc_khz=2_000_000, xen_enabled=True)
    filled = kernel in KERNELS[KERNELS.index("6.16") :] and kernel != "7.3"
    answers = [lookup(table, 0x40000103, index, kernel=kernel, state=state) for index in range(4)]
    plain = Registers(1, 1, 1, 1)
    told = [Registers(1, 1, 1 << 31, 0), Registers(2_000_000, 1, 1, 1)] if filled else [plain, plain]
    assert answers == [plain, *told, Registers()]
    assert [d.rule for d in seen(table, kernel=kernel, state=state).decisions] == [rules.XEN_TIME] * (3 if filled else 0)
    below = CpuidTable([XEN[0]._replace(eax=0x40000102), *XEN[1:]])
    for other, how in ((table, VcpuState(tsc_khz=1)), (table, VcpuState(xen_enabled=True)), (below, state)):
        assert lookup(other, 0x40000103, 1, kernel=kernel, state=how) == plain
    kept = set_cpuid(table, kernel=kernel, state=state)
    assert [d.rule for d in kept.decisions] == [rules.XEN_TIME] * (3 if kernel in FILLS else 0)
    assert lookup(kept.table, 0x40000103, 2, kernel=kernel, state=state).eax == (
        1 if kernel in (*REBUILT, *OLD, "6.1", "7.3") else 2_000_000
    )


@pytest.mark.parametrize("khz", [1, 999, 32_768, 1_000_000, 1_000_001, 2_596_144, 4_294_967, 10_000_000, (1 << 32) - 1])
def test_the_time_scale_turns_ticks_into_nanoseconds(khz: int) -> None:
    multiplier, shift = time_scale(khz)
    assert 1 << 31 <= multiplier < 1 << 32
    nanoseconds = khz * 1000 * multiplier * 2.0**shift / 2**32
    assert nanoseconds == pytest.approx(1e9, rel=1e-7 if khz < 1e7 else 1e-3)


def test_a_clock_that_stands_still_has_no_scale() -> None:
    with pytest.raises(InputError, match="0 kHz"):
        time_scale(0)
    assert lookup(CpuidTable(XEN), 0x40000103, 1, kernel="6.18", state=VcpuState(tsc_khz=0, xen_enabled=True)) == (1, 1, 1, 1)


def test_an_entry_behind_another_is_never_read() -> None:
    table = CpuidTable([Entry(4, 4, 0, 1, 2, 3, 4), Entry(4, 0, 1, 9, 2, 3, 4)])
    result = seen(table)
    assert result.decisions == (Decision(word(4, 0, "eax"), 8, 0, Action.COPIED, rules.FIRST_MATCH),)
    assert replay(table.words(), result.decisions) == result.table.words()
