from __future__ import annotations

import errno

import pytest

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Snapshot, Word, vendors
from vcpuid.errors import InputError, KvmError
from vcpuid.kvm import vcpu_rules as rules
from vcpuid.kvm.vcpu import MAX_ENTRIES, get_cpuid, set_again, set_cpuid
from vcpuid.kvm.vcpu_state import VcpuState
from vcpuid.kvm.xsave import area_size
from vcpuid.reasons import Action, Decision, replay
from vcpuid.releases import KERNELS, code_of

XSAVE, OSXSAVE, APIC, MWAIT, PKU, OSPKE = 1 << 26, 1 << 27, 1 << 9, 1 << 3, 1 << 3, 1 << 4
CR4_OSXSAVE, CR4_PKE = 1 << 18, 1 << 22
LEAF1, LEAF7 = Entry(1, 0, 0, 0, 0, XSAVE, APIC), Entry(7, 0, 1, 0, 0, PKU, 0)
KVM_LEAVES = [Entry(0x40000000, 0, 0, 0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D), Entry(0x40000001, 0, 0, 0xFF, 0, 0, 0)]
LAYOUT = CpuidTable(
    [
        Entry(0xD, 2, 1, 0x100, 0x240, 0, 0),
        Entry(0xD, 9, 1, 8, 0xA80, 0, 0),
        Entry(0xD, 11, 1, 0x10, 0, 1, 0),
        Entry(0xD, 18, 1, 0x2000, 0xB00, 6, 0),
    ]
)
HOST = Snapshot(supported=CpuidTable([LEAF1, LEAF7]), raw=CpuidTable([LEAF1, LEAF7, *LAYOUT]))
OLD = ["5.10", "5.15"]
NEWER, WITH_XSS = (KERNELS[KERNELS.index(first) :] for first in ("6.14", "6.18"))
STALE = ("4.18", "5.14-el9_1", "5.14-el9_2", "5.14-el9_3", "5.14-el9_4", "6.1", "6.6", "6.8")
"""Kernels that look for KVM's leaves in the table before this one."""


def word(function: int, index: int, register: str) -> Word:
    return CpuidWord(function, index, register)  # type: ignore[arg-type]


def refused(*entries: Entry, **how: object) -> tuple[int, str]:
    with pytest.raises(KvmError) as refusal:
        set_cpuid(CpuidTable(entries), **how)  # type: ignore[arg-type]
    return refusal.value.errno, refusal.value.reason


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_bits_that_kvm_rules(kernel: str) -> None:
    table = CpuidTable([LEAF1._replace(ecx=XSAVE | MWAIT), LEAF7])
    result = set_cpuid(table, kernel=kernel, cr4=CR4_OSXSAVE | CR4_PKE, apic=False)
    assert list(result.table) == [LEAF1._replace(ecx=XSAVE | OSXSAVE | MWAIT, edx=0), LEAF7._replace(ecx=PKU | OSPKE)]
    assert result.decisions == (
        Decision(word(1, 0, "ecx"), OSXSAVE, OSXSAVE, Action.SET, rules.OSXSAVE),
        Decision(word(1, 0, "edx"), APIC, 0, Action.CLEARED, rules.APIC),
        Decision(word(7, 0, "ecx"), OSPKE, OSPKE, Action.SET, rules.OSPKE),
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lacking", ["cpuinfo", "raw", "supported"])
def test_before_6_14_what_the_host_lacks_is_let_be(kernel: str, lacking: str) -> None:
    told = {
        "cpuinfo": Snapshot(raw=HOST.raw, cpuinfo={"flags": "fpu apic"}),
        "raw": Snapshot(raw=CpuidTable([Entry(1, 0, 0, 0, 0, 0, 0)])),
        "supported": Snapshot(supported=CpuidTable([Entry(1, 0, 0, 0, 0, 0, 0)])),
    }
    table = CpuidTable([LEAF1._replace(ecx=OSXSAVE), LEAF7._replace(ecx=OSPKE)])
    kept = set_cpuid(table, host=told[lacking], kernel=kernel).table
    assert [entry.ecx for entry in kept] == ([0, 0] if kernel in NEWER else [OSXSAVE, OSPKE])
    assert [entry.ecx for entry in set_cpuid(table, host=HOST, kernel=kernel).table] == [0, 0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_mwait_follows_its_msr_without_the_quirk(kernel: str) -> None:
    table, with_mwait = CpuidTable([LEAF1]), CpuidTable([LEAF1._replace(ecx=XSAVE | MWAIT)])
    off, on = VcpuState(mwait_quirk=False), VcpuState(mwait_quirk=False, mwait_enabled=True)
    assert set_cpuid(with_mwait, kernel=kernel, state=off).table == table
    assert set_cpuid(table, kernel=kernel, state=on).table == with_mwait
    assert set_cpuid(with_mwait, kernel=kernel, state=VcpuState()).table == with_mwait
    assert [d.rule for d in set_cpuid(table, kernel=kernel, state=on).decisions] == [rules.MWAIT]


@pytest.mark.parametrize("kernel", KERNELS)
def test_pv_unhalt_goes_where_hlt_does_not_exit(kernel: str) -> None:
    table, state = CpuidTable([LEAF1, *KVM_LEAVES]), VcpuState(hlt_in_guest=True)
    kept = set_cpuid(table, kernel=kernel, state=state).table
    assert kept.registers(0x40000001).eax == (0xFF if kernel in STALE else 0x7F)
    assert set_cpuid(table, kernel=kernel, state=state, apic=False).table.registers(0x40000001).eax == 0x7F
    assert set_cpuid(table, kernel=kernel).table == table
    elsewhere = CpuidTable([KVM_LEAVES[0]._replace(function=0x40000300), KVM_LEAVES[1]._replace(function=0x40000301)])
    found = set_cpuid(elsewhere, kernel=kernel, state=state, apic=False).table.registers(0x40000301).eax
    assert found == (0xFF if kernel in OLD else 0x7F), "before 5.17 KVM looks in one place only"


def test_linux_up_to_6_8_does_not_take_the_same_table_back_where_hlt_does_not_exit() -> None:
    table, state = CpuidTable([LEAF1, *KVM_LEAVES]), VcpuState(hlt_in_guest=True)
    for kernel in KERNELS:
        kept = set_cpuid(table, kernel=kernel, state=state).table
        if kernel in STALE:
            with pytest.raises(KvmError, match=r"entry 40000001\.0"):
                set_again(kept, table, kernel=kernel, state=state)
        else:
            assert set_again(kept, table, kernel=kernel, state=state).table == kept


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_size_of_the_xsave_area(kernel: str) -> None:
    sizes = CpuidTable([Entry(0xD, 0, 1, 7, 1, 0xB00, 0), Entry(0xD, 1, 1, 0xA, 1, 0x800, 0)])
    state = VcpuState(xcr0=0x207, xss=0x800)
    kept = set_cpuid(sizes, host=HOST, kernel=kernel, state=state).table
    assert [entry.ebx for entry in kept] == [0xA88, 0x358 if kernel in WITH_XSS else 0x348]
    aligned = set_cpuid(sizes, host=HOST, kernel=kernel, state=VcpuState(xcr0=0x40207)).table
    assert aligned[1].ebx == (0x2348 if kernel in OLD else 0x2380), "before 5.17 KVM knows no alignment"
    assert [entry.ebx for entry in set_cpuid(sizes, host=HOST, kernel=kernel).table] == [0x240, 0x240]
    own = CpuidTable([*sizes, *LAYOUT])
    assert [entry.ebx for entry in set_cpuid(own, kernel=kernel, state=state).table][:2] == [entry.ebx for entry in kept]
    uncompacted = CpuidTable([Entry(0xD, 1, 1, 5, 1, 0, 0)])
    assert set_cpuid(uncompacted, host=HOST, kernel=kernel, state=state).table == uncompacted


@pytest.mark.parametrize(
    ("features", "compacted", "size"),
    [
        (0, False, 576),
        (3, True, 576),
        (1 << 63, False, 576),
        (0x204, False, 0xA88),
        (0x204, True, 0x348),
        (0x40204, True, 0x2380),
        (0x40004, False, 0x2B00),
    ],
)
def test_area_size(features: int, compacted: bool, size: int) -> None:
    assert area_size(LAYOUT, features, compacted=compacted) == size


def test_sgx_follows_xcr0_from_5_15_to_6_1() -> None:
    host = Snapshot(supported=CpuidTable([Entry(0xD, 0, 1, 0x2E7, 0, 0, 0)]))
    table = CpuidTable([Entry(0x12, 1, 1, 0x36, 0, 0xFFFFFFFF, 0x1F), Entry(0xD, 0, 1, 0x1F, 0x240, 0, 1)])
    with_rule = ("4.18", "5.14-el9_1", "5.14-el9_2", "5.15", "6.1")
    for kernel in KERNELS:
        result = set_cpuid(table, host=host, kernel=kernel)
        assert result.table[0][3:] == ((0x36, 0, 7, 0) if kernel in with_rule else table[0][3:])
        assert {d.rule for d in result.decisions} == ({rules.SGX_XFRM} if kernel in with_rule else set())
    assert set_cpuid(CpuidTable([Entry(0x12, 1, 1, 0, 0, 0, 0)]), kernel="6.1").table[0].ecx == 3


def test_before_5_16_a_vcpu_that_ran_takes_any_table() -> None:
    kept = set_cpuid(CpuidTable([LEAF1, LEAF7])).table
    other = CpuidTable([LEAF1._replace(eax=1)])
    for kernel in KERNELS:
        if kernel in OLD:
            assert set_again(kept, other, kernel=kernel).table == other
            with pytest.raises(KvmError, match="virtual address"):
                set_again(kept, CpuidTable([Entry(0x80000008, 0, 0, 32 << 8, 0, 0, 0)]), kernel=kernel)
        else:
            with pytest.raises(KvmError, match="has run"):
                set_again(kept, other, kernel=kernel)


def test_before_5_17_nobody_asks_for_permission_to_use_amx() -> None:
    amx = Entry(0xD, 0, 1, 0x60007, 0, 0, 0)
    for kernel in KERNELS:
        if kernel in OLD:
            assert set_cpuid(CpuidTable([amx]), kernel=kernel, params={"amx_permission": False}).table[0].eax == 0x60007
        else:
            assert refused(amx, kernel=kernel, params={"amx_permission": False})[0] == errno.EPERM


def test_before_6_0_a_leaf_that_is_bound_to_another_sub_leaf_is_not_found() -> None:
    bound = LEAF1._replace(index=3, flags=1)
    for kernel in KERNELS:
        kept = set_cpuid(CpuidTable([bound]), kernel=kernel, apic=False).table
        assert kept[0].edx == (APIC if kernel in ("4.18", "5.14-el9_1", *OLD) else 0)


def test_kvm_intel_of_5_10_takes_invpcid_from_a_guest_without_pcid() -> None:
    lone, whole = (CpuidTable([LEAF1._replace(ecx=ecx), LEAF7._replace(ebx=1 << 10)]) for ecx in (0, 1 << 17))
    others = [
        Entry(function, 0, 0, 0, 0, 0, 0) for function in (2, 3, 4, 5, 6, 0x80000000, 0x40000000)
    ]  # of which every KVM's list has one
    intel, amd = (
        Snapshot(supported=CpuidTable([Entry(0, 0, 0, 7, ebx, ecx, edx), *lone, *others]))
        for ebx, edx, ecx in map(vendors.twelve, ("GenuineIntel", "AuthenticAMD"))
    )
    for kernel in KERNELS:
        assert set_cpuid(whole, host=intel, kernel=kernel).table == whole
        assert set_cpuid(lone, host=amd, kernel=kernel).table == lone
        kept = set_cpuid(lone, host=intel, kernel=kernel)
        assert kept.table[1].ebx == (0 if kernel == "5.10" else 1 << 10)
        assert [d.rule for d in kept.decisions] == ([rules.INVPCID_WITHOUT_PCID] if kernel == "5.10" else [])


def test_too_many_entries() -> None:
    entries = [Entry(n, 0, 0, 0, 0, 0, 0) for n in range(0x100, 0x100 + MAX_ENTRIES + 1)]
    assert len(set_cpuid(CpuidTable(entries[:-1])).table) == MAX_ENTRIES
    assert refused(*entries)[0] == errno.E2BIG
    with pytest.raises(KvmError) as refusal:
        set_again(CpuidTable(), CpuidTable(entries))
    assert refusal.value.errno == errno.E2BIG


@pytest.mark.parametrize(("bits", "taken"), [(0, True), (48, True), (57, True), (47, False), (52, False), (64, False), (255, False)])
def test_widths_of_virtual_addresses(bits: int, taken: bool) -> None:
    entry = Entry(0x80000008, 0, 0, 0x30 | bits << 8, 0, 0, 0)
    if taken:
        assert list(set_cpuid(CpuidTable([entry])).table) == [entry]
    else:
        number, reason = refused(entry)
        assert number == errno.EINVAL
        assert f"{bits} bits" in reason


def test_amx_needs_the_processs_permission() -> None:
    offers = Entry(0xD, 0, 1, 0x602E7, 0x240, 0x2B00, 0)
    has = Snapshot(raw=CpuidTable([offers]))
    for accepted in (None, has):
        assert list(set_cpuid(CpuidTable([offers]), host=accepted).table) == [offers]
    assert refused(offers, host=HOST)[0] == errno.EPERM
    assert refused(offers, host=has, params={"amx_permission": "off"})[0] == errno.EPERM
    assert refused(offers, host=HOST, params={"amx_permission": 1})[0] == errno.EPERM
    config_only = offers._replace(eax=0x202E7)
    assert list(set_cpuid(CpuidTable([config_only]), host=HOST).table) == [config_only]


@pytest.mark.parametrize(
    ("cr4", "entry", "since"),
    [
        (1 << 11, Entry(7, 0, 1, 0, 0, 1 << 2, 0), "5.10"),
        (1 << 12, Entry(7, 0, 1, 0, 0, 1 << 16, 0), "5.10"),
        (1 << 13, Entry(1, 0, 0, 0, 0, 1 << 5, 0), "5.10"),
        (1 << 16, Entry(7, 0, 1, 0, 1, 0, 0), "5.10"),
        (1 << 17, Entry(1, 0, 0, 0, 0, 1 << 17, 0), "5.10"),
        (1 << 20, Entry(7, 0, 1, 0, 1 << 7, 0, 0), "5.10"),
        (1 << 21, Entry(7, 0, 1, 0, 1 << 20, 0, 0), "5.10"),
        (1 << 28, Entry(7, 1, 1, 1 << 26, 0, 0, 0), "6.8"),
        (1 << 23, Entry(7, 0, 1, 0, 0, 1 << 7, 0), "6.18"),
        (1 << 23, Entry(7, 0, 1, 0, 0, 0, 1 << 20), "6.18"),
    ],
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_cr4_needs_the_guests_feature_and_kvms(cr4: int, entry: Entry, since: str, kernel: str) -> None:
    table, has = CpuidTable([entry]), Snapshot(supported=CpuidTable([entry]))
    if KERNELS.index(code_of(kernel)) < KERNELS.index(since):
        assert "reserved" in refused(entry, kernel=kernel, cr4=cr4)[1]
        return
    assert set_cpuid(table, kernel=kernel, cr4=cr4).table.get(*entry[:2]) is not None
    assert set_cpuid(table, host=has, kernel=kernel, cr4=cr4 | 0x7FF).table.get(*entry[:2]) is not None
    assert refused(kernel=kernel, cr4=cr4)[0] == errno.EINVAL
    assert "the guest's table has no" in refused(kernel=kernel, cr4=cr4)[1]
    assert "KVM has no" in refused(entry, host=Snapshot(supported=CpuidTable()), kernel=kernel, cr4=cr4)[1]


@pytest.mark.parametrize("bit", [14, 15, 19, 24, 31, 32, 63])
def test_reserved_bits_of_cr4(bit: int) -> None:
    assert refused(*HOST.raw, cr4=1 << bit, kernel="7.3") == (errno.EINVAL, f"CR4 bits {1 << bit:#x} are reserved for KVM of Linux 7.3")


def test_a_table_set_again() -> None:
    kept = set_cpuid(CpuidTable([LEAF1, LEAF7]), cr4=CR4_OSXSAVE).table
    given = CpuidTable([LEAF1._replace(edx=0), LEAF7._replace(ecx=PKU | OSPKE)])
    assert set_again(kept, given, cr4=CR4_OSXSAVE).table == kept
    for other, reason in (
        ([LEAF1], "1 entries where 2"),
        ([LEAF7, LEAF1], "entry 00000007.0"),
        ([LEAF1._replace(flags=1), LEAF7], "kept as 00000001.0 f0"),
        ([LEAF1._replace(eax=1), LEAF7], "has run"),
    ):
        with pytest.raises(KvmError, match=reason) as refusal:
            set_again(kept, CpuidTable(other), cr4=CR4_OSXSAVE)
        assert refusal.value.errno == errno.EINVAL


def test_what_a_buffer_holds_after_get() -> None:
    kept = CpuidTable([LEAF1, LEAF7])
    assert get_cpuid(kept, 2, kernel="6.1") == get_cpuid(kept, 2, kernel="7.3") == get_cpuid(kept) == kept
    padded = get_cpuid(kept, 4, kernel="6.1")
    assert list(padded) == [LEAF1, LEAF7, Entry(0, 0, 0, 0, 0, 0, 0), Entry(0, 0, 0, 0, 0, 0, 0)]
    for kernel in KERNELS:
        with pytest.raises(KvmError) as refusal:
            get_cpuid(kept, 1, kernel=kernel)
        assert refusal.value.errno == errno.E2BIG


def test_an_entry_behind_a_duplicate_changes_unseen() -> None:
    table = CpuidTable([Entry(7, 5, 1, 0, 0, 0, 0), Entry(7, 5, 0, 0, 0, PKU, 0)])
    result = set_cpuid(table, cr4=0)
    assert result.table == table
    result = set_cpuid(CpuidTable([*table]), cr4=CR4_PKE)
    assert result.table[1].ecx == PKU | OSPKE
    assert result.decisions == ()
    assert replay(table.words(), result.decisions) == result.table.words()


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(InputError, match="not a release number"):
        set_cpuid(CpuidTable(), kernel="newest")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bits", [0, 31, 32, 52])
def test_the_apic_that_is_switched_off_must_lie_where_the_guest_has_addresses(bits: int, kernel: str) -> None:
    entries = [Entry(0x80000000, 0, 0, 0x80000008, 0, 0, 0), Entry(0x80000008, 0, 0, bits, 0, 0, 0)]
    assert list(set_cpuid(CpuidTable(entries), kernel=kernel).table) == entries
    assert list(set_cpuid(CpuidTable(entries[1:]), kernel=kernel, apic=False).table) == entries[1:]  # 36 bits count as said
    if bits < 32:
        assert refused(*entries, kernel=kernel, apic=False)[0] == errno.EINVAL
    else:
        assert list(set_cpuid(CpuidTable(entries), kernel=kernel, apic=False).table) == entries
