"""A distribution's kernel that goes by an old number and has a later release's code: whose tables stand for what, and what its code is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.captures import host
from vcpuid import Setup, Stack, kvm, linux
from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.fleet.classes import HostClass
from vcpuid.kvm.feature_msrs import feature_msrs
from vcpuid.kvm.rules import ROWS
from vcpuid.releases import BEFORE_RHEL_9_3, KERNELS, REBUILT, UPSTREAM, code_of, following, series
from vcpuid.releases import linux as chosen

MILAN, SPR = "kvm-amd.EPYC-Milan-v2@6.12", "kvm-intel.sapphire_rapids-xfd@6.12"
SKX = "kvm-intel.corei7_skylake_x@6.12"
DMR, TURIN = "kvm-intel.sapphire_rapids-dmr@7.3", "kvm-amd.EPYC-Turin-v1@7.3"


@pytest.mark.parametrize("asked", ["5.14", "5.14.0", "v5.14", "5.14.0-570.32.1.el9_6.x86_64", "5.14.0-570.12.1.el9_6.x86_64"])
def test_red_hat_s_tables_stand_for_its_kernel_and_for_the_bare_number(asked: str) -> None:
    release = chosen(asked)
    assert (release.tables, release.number, release.remark) == ("5.14", (6, 12), None)


@pytest.mark.parametrize(
    ("asked", "tables", "code"),
    [
        ("4.18", "4.18", (6, 1)),
        ("4.18.0-553.5.1.el8_10.x86_64", "4.18", (6, 1)),
        ("4.18.0-553.el8_10", "4.18", (6, 1)),
        ("5.14.0-162.6.1.el9_1.x86_64", "5.14-el9_1", (6, 1)),
        ("5.14.0-284.30.1.el9_2.x86_64", "5.14-el9_2", (6, 1)),
        ("5.14.0-362.8.1.el9_3.x86_64", "5.14-el9_3", (6, 6)),
        ("5.14-el9_4", "5.14-el9_4", (6, 6)),
        ("5.14.0-427.13.1.el9_4.x86_64", "5.14-el9_4", (6, 6)),
        ("5.14.0-427.el9", "5.14-el9_4", (6, 6)),
        ("5.14.0-503.11.1.el9_5", "5.14-el9_5", (6, 8)),
        ("6.12.0-55.9.1.el10_0.x86_64_v2", "6.12-el10", (6, 12)),
    ],
)
def test_each_update_has_its_own(asked: str, tables: str, code: tuple[int, int]) -> None:
    release = chosen(asked)
    assert (release.tables, release.number, release.remark, release.newer) == (tables, code, None, None)


def test_between_two_updates_it_could_be_as_either() -> None:
    release = chosen("5.14.0-480.el9.x86_64")
    assert (release.tables, release.newer) == ("5.14-el9_4", "5.14-el9_5")
    assert "Linux 9.4" in str(release.remark)
    assert "Linux 9.5" in str(release.remark)
    assert str(release.remark).endswith(" is not told")
    newer = following(release)
    assert newer is not None
    assert (newer.asked, newer.tables, newer.number) == (release.asked, "5.14-el9_5", (6, 8))


@pytest.mark.parametrize(
    ("asked", "tables"),
    [
        ("4.18.0-477.10.1.el8_8.x86_64", "4.18"),
        ("5.14.0-70.30.1.el9_0.x86_64", "5.14-el9_1"),
        ("5.14.0-620.el9.x86_64", "5.14"),
        ("5.14.0-611.9.1.el9_7.x86_64", "5.14"),
        ("6.12.0-124.8.1.el10_1.x86_64", "6.12-el10"),
    ],
)
def test_an_update_before_all_or_after_all_is_said_to_be_none_of_them(asked: str, tables: str) -> None:
    release = chosen(asked)
    assert (release.tables, release.newer) == (tables, None)
    assert str(release.remark).startswith(f"no tables of Linux {asked}: ")
    assert "not known here" in str(release.remark)


def test_a_fleet_s_classes_keep_what_the_tables_are_chosen_by() -> None:
    assert series("5.14.0-427.13.1.el9_4.x86_64") == "5.14.0-427.el9_4"
    assert series("4.18.0-553.5.1.el8_10.x86_64") == "4.18.0-553.el8_10"
    assert series("6.12.0-55.24.1.el10_0.x86_64") == "6.12.0-55.el10_0"
    assert series("6.12.107+deb13-cloud-amd64") == "6.12"
    for asked in ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-480.el9", "6.12.0-55.24.1.el10_0.x86_64", "6.13.7", "5.15.0-205.149.el9uek"):
        kept, whole = chosen(series(asked)), chosen(asked)
        assert (kept.tables, kept.number, kept.newer) == (whole.tables, whole.number, whole.newer)
    assert HostClass.of(replace(host(MILAN), kernel="5.14.0-427.13.1.el9_4.x86_64")).facts.kernel == "5.14.0-427.el9_4"


@pytest.mark.parametrize(
    ("asked", "tables"),
    [
        ("5.14.21-150500.55.19-default", "5.10"),
        ("5.14.2", "5.10"),
        ("5.13", "5.10"),
        ("5.15.0-205.149.el9uek.x86_64", "5.15"),
        ("5.15", "5.15"),
    ],
)
def test_they_stand_for_nobody_else_s(asked: str, tables: str) -> None:
    release = chosen(asked)
    assert release.tables == tables
    assert (release.remark is None) is (tables == "5.15")


def test_its_rules_are_those_of_the_code_that_it_has() -> None:
    for kernel, rebuilt in REBUILT.items():
        assert kernel in KERNELS
        assert kernel not in UPSTREAM
        assert code_of(kernel) == rebuilt.code
        assert rebuilt.code in UPSTREAM
        for rows in ROWS.values():
            for row in rows:
                other = kernel in row.lacking or kernel in row.also
                assert (row.in_force(kernel) is row.in_force(rebuilt.code)) is not other


def offers(kernel: str, name: str, feature: str) -> bool:
    return kvm.caps(Setup.of(host(name), Stack(kernel=kernel))).has(feature)


@pytest.mark.parametrize(
    ("name", "feature", "having"),
    [
        (DMR, "SHA512", "5.14 6.12-el10"),  # 9.6 and 10.0
        (DMR, "AVX10", "5.14 6.12-el10"),
        (DMR, "AMX_COMPLEX", "5.14-el9_4 5.14-el9_5 5.14 6.12-el10"),
        (TURIN, "FLUSHBYASID", "5.14-el9_5 5.14 6.12-el10"),
    ],
)
def test_what_each_update_s_kvm_began_to_offer(name: str, feature: str, having: str) -> None:
    assert " ".join(kernel for kernel in REBUILT if offers(kernel, name, feature)) == having


def test_what_linux_makes_of_amd_s_processors_by_update() -> None:
    """9.4 knows no generations, and leaves XSAVES to Zen 2; 9.5 clears it there whatever the microcode."""
    rome = replace(host("kvm-amd.EPYC-Rome-v4@6.12"), cpuinfo={})
    has = {kernel: linux.boot_cpu(Setup.of(rome, Stack(kernel=kernel))) for kernel in ("5.14-el9_4", "5.14-el9_5", "5.14")}
    assert [kernel for kernel, boot in has.items() if boot.has("ZEN2")] == ["5.14-el9_5", "5.14"]
    assert all(boot.has("ZEN") for boot in has.values())
    assert not any("VMSCAPE" in boot.bugs or "TSA" in boot.bugs for boot in has.values())


def by_update(name: str, **params: str) -> dict[str, Setup]:
    bare = replace(host(name), cpuinfo={}, msrs=MsrTable({}))
    return {kernel: Setup.of(bare, Stack(kernel=kernel, params=dict(params))) for kernel in ("5.14-el9_3", "5.14-el9_4")}


def test_what_rhel_9_3_s_kvm_does_not_tell_yet() -> None:
    """Neither the third sub-leaf of leaf 7 nor the caches of leaf 0x80000005; of IA32_ARCH_CAPABILITIES no bit of RFDS and of BHI."""
    tables = {kernel: kvm.supported(setup).table for kernel, setup in by_update(DMR).items()}
    assert {kernel: [entry.index for entry in table.leaf(7)] for kernel, table in tables.items()} == {
        "5.14-el9_3": [0, 1],
        "5.14-el9_4": [0, 1, 2],
    }
    tables = {kernel: kvm.supported(setup).table for kernel, setup in by_update(MILAN).items()}
    assert tables["5.14-el9_3"].registers(0x80000005) == (0, 0, 0, 0)
    assert tables["5.14-el9_4"].registers(0x80000005) == host(MILAN).raw.registers(0x80000005)
    given = {"msr.0x10a": hex(1 << 19 | 1 << 20 | 1 << 27 | 1 << 28)}  # RRSBA, BHI_NO, RFDS_NO and RFDS_CLEAR
    told = {kernel: feature_msrs(setup).table[0x10A] for kernel, setup in by_update(SPR, **given).items()}
    assert told["5.14-el9_4"] & ~told["5.14-el9_3"] == 1 << 20 | 1 << 27 | 1 << 28


def test_what_rhel_9_3_s_linux_makes_of_processors() -> None:
    intel = {kernel: linux.boot_cpu(setup) for kernel, setup in by_update(SPR).items()}
    assert {*intel["5.14-el9_4"].bugs} - {*intel["5.14-el9_3"].bugs} == {"BHI"}
    assert [kernel for kernel, boot in intel.items() if boot.has("INVPCID_SINGLE")] == ["5.14-el9_3"]
    raw = host(MILAN).raw
    short = CpuidTable([e._replace(edx=e.edx | 1 << 4) if (e.function, e.index) == (7, 0) else e for e in raw])
    setups = {kernel: replace(setup, host=replace(setup.host, raw=short)) for kernel, setup in by_update(MILAN).items()}
    assert [kernel for kernel, setup in setups.items() if linux.boot_cpu(setup).has("FSRS")] == ["5.14-el9_4"]


def test_how_rhel_9_3_words_the_files_of_vulnerabilities() -> None:
    """Commas in spectre_v2, before BHI had its part in it; VERW's clearing without a flag of its own."""
    skylake = {kernel: linux.vulnerabilities(setup) for kernel, setup in by_update(SKX).items()}
    assert "; " not in skylake["5.14-el9_3"]["spectre_v2"]
    assert "; BHI: " in skylake["5.14-el9_4"]["spectre_v2"]
    assert skylake["5.14-el9_4"].keys() - skylake["5.14-el9_3"].keys() == {"reg_file_data_sampling"}
    for name in ("mds", "tsx_async_abort", "mmio_stale_data"):
        assert skylake["5.14-el9_3"][name] == skylake["5.14-el9_4"][name]
    for option in ("mitigations=off", "mds=off tsx_async_abort=off mmio_stale_data=off"):
        off = {kernel: linux.vulnerabilities(setup)["mds"] for kernel, setup in by_update(SKX, cmdline=option).items()}
        assert off["5.14-el9_3"] == off["5.14-el9_4"]


@pytest.mark.parametrize("kernel", ["4.18", "5.14-el9_3", "5.14-el9_4", "5.14-el9_5", "5.14"])
def test_red_hat_s_kernels_word_srso_as_upstream_s_of_6_8(kernel: str) -> None:
    setup = Setup.of(replace(host(MILAN), cpuinfo={}), Stack(kernel=kernel))
    assert linux.vulnerabilities(setup)["spec_rstack_overflow"] in ("Mitigation: Safe RET", "Vulnerable: Safe RET, no microcode")
    off = Setup.of(replace(host(MILAN), cpuinfo={}), Stack(kernel=kernel, params={"cmdline": "spec_rstack_overflow=off"}))
    assert linux.vulnerabilities(off)["spec_rstack_overflow"] == "Vulnerable: No microcode", "which is looked for before the option"


@pytest.mark.parametrize(("kernel", "high"), [("5.14-el9_4", 0), ("5.14-el9_5", 40), ("5.14", 40)])
def test_the_guest_s_physical_bits_came_with_9_5(kernel: str, high: int) -> None:
    """GuestPhysAddrSize, which upstream's KVM tells since 6.10."""
    leaf = kvm.supported(Setup.of(host(TURIN), Stack(kernel=kernel))).table.registers(0x80000008)
    assert (leaf.eax >> 16 & 0xFF > 0) is (high > 0)


@pytest.mark.parametrize("kernel", [kernel for kernel in REBUILT if kernel not in ("4.18", *BEFORE_RHEL_9_3)])  # whose KVM has no such leaf
def test_leaf_0x80000022_is_not_mended_in_any(kernel: str) -> None:
    """Without counters of the second version EAX is EBX there, since the mend of March 2025 is in none of them (cpuid.c)."""
    machine = host(TURIN)
    raw = CpuidTable([*(e for e in machine.raw if e.function != 0x80000022), Entry(0x80000022, 0, 0, 1, 0x123, 0, 0)])
    setup = Setup.of(replace(machine, raw=raw), Stack(kernel=kernel, params={"enable_pmu": "0"}))
    assert kvm.supported(setup).table.registers(0x80000022)[:2] == (0x123, 0x123)
    later = Setup.of(replace(machine, raw=raw), Stack(kernel="6.12", params={"enable_pmu": "0"}))
    assert kvm.supported(later).table.registers(0x80000022)[:2] == (0, 0)


def rhel_8(name: str, **params: str) -> Setup:
    return Setup.of(with_more(name), Stack(kernel="4.18", params=dict(params)))


def with_more(name: str) -> Snapshot:
    """A captured host with features that QEMU's emulator does not have: PERFCTR_CORE, LBRV and VGIF, AUTOIBRS."""
    more = {0x80000001: ("ecx", 1 << 23), 0x8000000A: ("edx", 1 << 1 | 1 << 16), 0x80000021: ("eax", 1 << 8)}
    entries = []
    for entry in host(name).raw:
        register, bits = more.get(entry.function, ("eax", 0)) if "amd" in name else ("eax", 0)
        entries.append(entry._replace(**{register: getattr(entry, register) | bits}))
    return replace(host(name), raw=CpuidTable(entries), cpuinfo={})


@pytest.mark.parametrize(
    ("name", "feature", "offered"),
    [
        (SPR, "FLUSH_L1D", True),  # as upstream's since 6.6
        (SPR, "AMX_TILE", True),
        (SPR, "DS", False),  # PEBS came to guests in 5.19
        (SPR, "AMX_FP16", False),
        (MILAN, "LBRV", True),
        (MILAN, "VGIF", False),  # as upstream's since 6.0
        (TURIN, "AUTOIBRS", True),
        (TURIN, "VNMI", False),
    ],
)
def test_what_rhel_8_s_kvm_offers(name: str, feature: str, offered: bool) -> None:
    assert kvm.caps(rhel_8(name)).has(feature) is offered


def test_rhel_8_s_kvm_takes_no_account_of_perf() -> None:
    without = rhel_8(SPR, enable_pmu="0")
    assert kvm.supported(without).table.registers(0xA) == (0, 0, 0, 0)
    assert kvm.caps(without).has("PDCM"), "which upstream's takes away since 6.1"
    assert kvm.caps(rhel_8(MILAN)).has("PERFCTR_CORE")
    assert not kvm.caps(rhel_8(MILAN, enable_pmu="0")).has("PERFCTR_CORE")


def test_rhel_8_s_kvm_tells_the_host_s_topology_and_reserved_bits() -> None:
    raw = host(MILAN).raw
    changes = {0x80000001: {"ebx": 0x0FFF0000}, 0x80000006: {"edx": 0x30000}, 0x80000008: {"ecx": 0x00000F00}, 0x8000001A: {"eax": 0x1F}}
    edited = CpuidTable([entry._replace(**changes.get(entry.function, {})) for entry in raw])
    ours, upstream = (kvm.supported(Setup.of(replace(host(MILAN), raw=edited), Stack(kernel=kernel))).table for kernel in ("4.18", "6.1"))
    assert [entry.index for entry in ours.leaf(0xB)] == [0, 1, 2]
    assert [entry.index for entry in upstream.leaf(0xB)] == [0]
    assert ours.registers(0x8000001E) == edited.registers(0x8000001E)
    assert upstream.registers(0x8000001E) == (0, 0, 0, 0)
    for function, registers in changes.items():
        for name, value in registers.items():
            assert getattr(ours.registers(function), name) & value == value
            assert getattr(upstream.registers(function), name) != getattr(ours.registers(function), name)


def test_rhel_8_s_kvm_passes_arch_capabilities_on_but_one_bit() -> None:
    own_bits = 1 << 18 | 1 << 21 | 1 << 62  # FB_CLEAR_CTRL, XAPIC_DISABLE, ITS_NO
    given = {"msr.0x10a": hex(own_bits)}
    value = feature_msrs(Setup.of(replace(host(SPR), msrs=MsrTable({})), Stack(kernel="4.18", params=given))).table[0x10A]
    assert value & own_bits == 1 << 21 | 1 << 62
    none = feature_msrs(Setup.of(replace(host(MILAN), msrs=MsrTable({})), Stack(kernel="4.18"))).table[0x10A]
    assert not none >> 62, "it knows nothing of ITS"


def test_what_rhel_8_s_linux_makes_of_processors() -> None:
    assert "TSA" not in linux.boot_cpu(rhel_8(MILAN)).bugs
    with_mpx = [entry._replace(ebx=entry.ebx & ~(1 << 7) | 1 << 14) if entry.function == 7 else entry for entry in host(SKX).raw]
    erratum = replace(host(SKX), raw=CpuidTable(with_mpx), cpuinfo={})
    assert not linux.boot_cpu(Setup.of(erratum, Stack(kernel="4.18"))).has("MPX")
    assert linux.boot_cpu(Setup.of(erratum, Stack(kernel="6.1"))).has("MPX")
    hygon = replace(host("kvm-amd.Dhyana-v2@6.12"), cpuinfo={})
    assert linux.boot_cpu(Setup.of(hygon, Stack(kernel="6.1"))).vendor == "hygon"
    assert linux.boot_cpu(Setup.of(hygon, Stack(kernel="4.18"))).vendor == "unknown"


def test_rhel_8_words_the_files_of_vulnerabilities_as_its_source_has_them() -> None:
    told = {kernel: linux.vulnerabilities(Setup.of(host(MILAN), Stack(kernel=kernel))) for kernel in ("4.18", "6.1")}
    assert told["4.18"]["spec_rstack_overflow"] in ("Mitigation: Safe RET", "Vulnerable: Safe RET, no microcode")
    assert told["6.1"]["spec_rstack_overflow"].startswith("Mitigation: safe RET")
    assert told["6.1"].keys() - told["4.18"].keys() == {"indirect_target_selection", "tsa", "vmscape"}


def test_a_host_that_ran_it_is_asked_as_it_ran() -> None:
    setup = Setup.of(replace(host(MILAN), kernel="5.14.0-570.32.1.el9_6.x86_64"), Stack())
    assert setup.kernel.tables == "5.14"
    assert setup.remarks == ()


def test_what_red_hat_has_of_later_kernels_and_lacks_of_its_own() -> None:
    ours, theirs = (Setup.of(host(SPR), Stack(kernel=kernel)) for kernel in ("5.14", "6.12"))
    assert linux.boot_cpu(theirs).has("USER_SHSTK")
    assert not linux.boot_cpu(ours).has("USER_SHSTK"), "CONFIG_X86_USER_SHADOW_STACK is off"
    assert "VMSCAPE" in linux.boot_cpu(theirs).bugs
    assert "VMSCAPE" not in linux.boot_cpu(ours).bugs
    assert kvm.caps(ours).plan.places.keys() == kvm.caps(theirs).plan.places.keys()
    assert {word.name: word.known for word in kvm.caps(ours).plan.words}["CPUID_7_1_EAX"] >> 0 & 7 == 7, "SHA512, SM3, SM4"
    assert {word.name: word.known for word in kvm.caps(theirs).plan.words}["CPUID_7_1_EAX"] & 7 == 0
