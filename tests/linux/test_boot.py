"""One behaviour a test: what Linux makes of a processor, and the reason it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.errors import InputError
from vcpuid.linux import BootCpu, boot_cpu, cpuinfo
from vcpuid.reasons import Decision

VENDORS = {
    "intel": (0x756E6547, 0x6C65746E, 0x49656E69),
    "amd": (0x68747541, 0x444D4163, 0x69746E65),
    "hygon": (0x6F677948, 0x656E6975, 0x6E65476E),
    "zhaoxin": (0x68532020, 0x20206961, 0x68676E61),
    "other": (0x72657641, 0x53656761, 0x43697320),
}
XSAVE, AVX, HYPERVISOR = 1 << 26, 1 << 28, 1 << 31
SKYLAKE, SKYLAKE_SERVER, ICE_LAKE_SERVER, ALDER_LAKE = 0x506E3, 0x50654, 0x606A6, 0x90672
ZEN2, ZEN3, ZEN5 = 0x00830F10, 0x00A00F11, 0x00B00F21

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")
"""Many options change nothing on processors of two leaves, and that is remarked on."""


def host(
    vendor: str, signature: int, leaves: dict[tuple[int, int], tuple[int, int, int, int]] | None = None, level: int = 0x1F
) -> Snapshot:
    """Make a processor of that leaf 1 EAX; leaves are EAX, EBX, ECX, EDX by leaf and sub-leaf. All have SSE2, long mode and SYSCALL."""
    ebx, ecx, edx = VENDORS[vendor]
    table: dict[tuple[int, int], tuple[int, int, int, int]] = {
        (0, 0): (level, ebx, ecx, edx),
        (1, 0): (signature, 0, 0, 0x0783FBFF),
        (0xD, 0): (7, 0, 0, 0),
        (0x80000000, 0): (0x80000026, ebx, ecx, edx),
        (0x80000001, 0): (0, 0, 0, 1 << 29 | 1 << 11),
        (0x80000008, 0): (0x3028, 0, 0, 0),
    }
    for place, values in (leaves or {}).items():
        if place == (1, 0):
            values = (signature, values[1], values[2], values[3] or 0x0783FBFF)
        table[place] = values
    return Snapshot(raw=CpuidTable(Entry(*place, 0, *values) for place, values in table.items()))


def about(cpu: BootCpu, feature: str) -> Decision:
    """Return the last decision about a feature."""
    bit = cpu.tables.bits[feature]
    return [d for d in cpu.decisions if d.word == bit.word and d.mask & bit.mask][-1]


def with_msrs(snapshot: Snapshot, **msrs: int) -> Snapshot:
    return replace(snapshot, msrs=MsrTable({int(name.removeprefix("x"), 16): value for name, value in msrs.items()}))


def test_the_basics_are_read() -> None:
    cpu = boot_cpu(host("intel", ICE_LAKE_SERVER), "6.12")
    assert (cpu.vendor, cpu.family, cpu.model, cpu.stepping) == ("intel", 6, 0x6A, 6)
    assert (cpu.phys_bits, cpu.virt_bits, cpu.kernel) == (40, 48, "6.12")
    assert boot_cpu(host("amd", ZEN5)).family == 0x1A
    assert boot_cpu(host("other", SKYLAKE)).vendor == "unknown"


def test_leaves_beyond_the_highest_are_not_read() -> None:
    cpu = boot_cpu(host("intel", SKYLAKE, {(7, 0): (0, 1 << 5, 0, 0)}, level=6))
    assert not cpu.has("AVX2")
    assert about(cpu, "AVX2").rule.id == "linux.level"


def test_a_sub_leaf_beyond_the_highest_is_not_read() -> None:
    leaves = {(7, 0): (0, 0, 0, 0), (7, 1): (1 << 4, 0, 0, 0)}
    assert not boot_cpu(host("intel", SKYLAKE, leaves)).has("AVX_VNNI")
    assert boot_cpu(host("intel", SKYLAKE, leaves | {(7, 0): (1, 0, 0, 0)})).has("AVX_VNNI")


def test_words_have_the_kernels_names() -> None:
    cpu = boot_cpu(host("intel", SKYLAKE, {(7, 0): (0, 1 << 5, 0, 0)}))
    assert cpu.word("CPUID_7_0_EBX") == 1 << 5
    with pytest.raises(KeyError):
        cpu.word("CPUID_7_0_EDI")


@pytest.mark.parametrize(("option", "gone"), [("noxsave", {"XSAVE", "AVX", "AVX2"}), ("noxsaveopt", {"XSAVEOPT"}), ("nopcid", {"PCID"})])
def test_options_take_features_and_what_depends_on_them(option: str, gone: set[str]) -> None:
    machine = host("intel", SKYLAKE, {(1, 0): (0, 0, XSAVE | AVX | 1 << 17, 0), (7, 0): (0, 1 << 5, 0, 0), (0xD, 1): (1, 0, 0, 0)})
    before, after = boot_cpu(machine), boot_cpu(machine, params={"cmdline": f"quiet {option}"})
    everything = {"XSAVE", "AVX", "AVX2", "XSAVEOPT", "PCID"}
    assert all(map(before.has, everything))
    assert {name for name in everything if not after.has(name)} == gone | ({"XSAVEOPT"} if option == "noxsave" else set())


def test_a_dependency_names_its_cause() -> None:
    machine = host("intel", SKYLAKE, {(1, 0): (0, 0, XSAVE | AVX, 0), (7, 0): (0, 1 << 5, 0, 0)})
    cpu = boot_cpu(machine, params={"cmdline": "noxsave"})
    assert about(cpu, "XSAVE").rule.id == "linux.option.noxsave"
    assert about(cpu, "AVX").cause == cpu.tables.bits["XSAVE"]
    assert about(cpu, "AVX2").cause == cpu.tables.bits["AVX"]


def test_clearcpuid_takes_names_and_numbers() -> None:
    machine = host("intel", SKYLAKE, {(7, 0): (0, 1 << 5 | 1 << 8, 0, 0)})
    cpu = boot_cpu(machine, params={"cmdline": "clearcpuid=avx2,296"})  # 296 is word 9, bit 8: BMI2
    assert not cpu.has("AVX2")
    assert not cpu.has("BMI2")


def test_setcpuid_is_known_from_6_18_on() -> None:
    params = {"cmdline": "setcpuid=avx2"}
    assert not boot_cpu(host("intel", SKYLAKE), "6.12", params).has("AVX2")
    assert boot_cpu(host("intel", SKYLAKE), "6.18", params).has("AVX2")


@pytest.mark.parametrize(
    ("release", "cmdline", "used"),
    [("6.12", "", False), ("6.12", "fred=on", True), ("6.18", "", False), ("7.1", "", True), ("7.3", "fred=off", False)],
)
def test_fred_is_used_by_release_and_option(release: str, cmdline: str, used: bool) -> None:
    machine = host("intel", SKYLAKE, {(7, 0): (1, 0, 0, 1 << 29), (7, 1): (1 << 17 | 1 << 18, 0, 0, 0)})
    cpu = boot_cpu(machine, release, {"cmdline": cmdline})
    assert cpu.has("FRED") == used
    assert cpu.has("LKGS")


def test_page_table_isolation_rules_fred_out_since_7_1() -> None:
    machine = host("intel", SKYLAKE, {(7, 0): (1, 0, 0, 0), (7, 1): (1 << 17 | 1 << 18, 0, 0, 0)})
    cpu = boot_cpu(machine, "7.1")
    assert cpu.has("PTI")
    assert not cpu.has("FRED")
    assert about(cpu, "FRED").cause == cpu.tables.bits["PTI"]


def test_protection_keys_are_the_systems_unless_nopku() -> None:
    machine = host("intel", SKYLAKE, {(1, 0): (0, 0, XSAVE, 0), (7, 0): (0, 0, 1 << 3, 0)})
    assert boot_cpu(machine).has("OSPKE")
    cpu = boot_cpu(machine, params={"cmdline": "nopku"})
    assert cpu.has("PKU")
    assert not cpu.has("OSPKE")


def test_xsave_without_the_sse_state_is_not_used() -> None:
    cpu = boot_cpu(host("intel", SKYLAKE, {(1, 0): (0, 0, XSAVE | AVX, 0), (0xD, 0): (1, 0, 0, 0)}))
    assert not cpu.has("XSAVE")
    assert not cpu.has("AVX")


def test_broken_microcode_loses_speculation_control() -> None:
    machine = host("intel", SKYLAKE_SERVER, {(7, 0): (0, 0, 0, 1 << 26 | 1 << 27 | 1 << 31)})
    assert boot_cpu(machine, params={"msr.8b": 0x02000043 << 32}).has("SPEC_CTRL")
    cpu = boot_cpu(machine, params={"msr.8b": 0x0200003C << 32})
    for feature in ("SPEC_CTRL", "IBRS", "IBPB", "STIBP", "SSBD", "SPEC_CTRL_SSBD"):
        assert not cpu.has(feature)
    guest = host("intel", SKYLAKE_SERVER, {(1, 0): (0, 0, HYPERVISOR, 0), (7, 0): (0, 0, 0, 1 << 26)})
    assert boot_cpu(guest, params={"msr.8b": 0}).has("SPEC_CTRL")


def test_alder_lake_needs_microcode_for_pcid() -> None:
    machine = host("intel", ALDER_LAKE, {(1, 0): (0, 0, 1 << 17, 0)})
    assert boot_cpu(machine, params={"msr.8b": 0x2E << 32}).has("PCID")
    assert not boot_cpu(machine, params={"msr.8b": 0x2D << 32}).has("PCID")


def test_zen_5_needs_microcode_for_rdseed_since_6_12() -> None:
    machine = with_msrs(host("amd", ZEN5, {(7, 0): (0, 1 << 18, 0, 0)}), x8b=0x0B002159)
    assert boot_cpu(machine, "6.1").has("RDSEED")
    cpu = boot_cpu(machine, "6.12")
    assert not cpu.has("RDSEED")
    assert about(cpu, "RDSEED").rule.remedy == "update the microcode"
    assert boot_cpu(with_msrs(machine, x8b=0x0B00215A), "6.12").has("RDSEED")


@pytest.mark.parametrize(
    ("release", "revision", "kept"), [("6.1", 0x08301052, False), ("6.12", 0x08301051, False), ("6.12", 0x08301052, True)]
)
def test_zen_2_loses_xsaves_to_erratum_1386(release: str, revision: int, kept: bool) -> None:
    machine = host("amd", ZEN2, {(1, 0): (0, 0, XSAVE, 0), (0xD, 1): (0xF, 0, 0, 0)})
    assert boot_cpu(machine, release, {"msr.8b": revision}).has("XSAVES") == kept


def test_firmware_can_turn_virtualization_off() -> None:
    intel = host("intel", SKYLAKE, {(1, 0): (0, 0, 1 << 5, 0)})
    assert boot_cpu(intel).has("VMX")
    assert not boot_cpu(intel, params={"msr.3a": 1}).has("VMX")
    assert not boot_cpu(intel, params={"msr.3a": "absent"}).has("VMX")
    assert boot_cpu(intel, params={"msr.3a": 0}).has("VMX")  # unlocked: Linux turns it on itself
    amd = host("amd", ZEN3, {(0x80000001, 0): (0, 0, 1 << 2, 1 << 29)})
    assert not boot_cpu(amd, "6.12", {"msr.c0010114": 1 << 4}).has("SVM")
    assert boot_cpu(amd, "6.1", {"msr.c0010114": 1 << 4}).has("SVM")


def test_memory_encryption_takes_address_bits() -> None:
    machine = host("amd", ZEN3, {(0x8000001F, 0): (0b1011, 5 << 6 | 47, 509, 1)})
    off = boot_cpu(machine)
    assert not off.has("SEV")
    assert off.phys_bits == 40
    enabled = boot_cpu(machine, params={"msr.c0010010": 1 << 23})
    assert enabled.has("SEV")
    assert enabled.has("SEV_ES")
    assert not enabled.has("SME")
    assert enabled.phys_bits == 35
    assert not boot_cpu(machine, params={"msr.c0010010": 1 << 23, "msr.c0010015": 0}).has("SEV")


def test_tsx_goes_where_it_can_be_controlled_unless_asked_for() -> None:
    machine = host("intel", ICE_LAKE_SERVER, {(7, 0): (0, 1 << 4 | 1 << 11, 0, 1 << 29)})
    params = {"msr.10a": 1 << 7 | 0x2B}
    assert not boot_cpu(machine, params=params).has("RTM")
    assert boot_cpu(machine, params=params | {"cmdline": "tsx=on"}).has("RTM")
    assert boot_cpu(machine, params={"msr.10a": 0x2B}).has("RTM")


def test_how_the_kernel_was_built_counts_where_the_command_line_leaves_tsx_open() -> None:
    machine = host("intel", ICE_LAKE_SERVER, {(7, 0): (0, 1 << 4 | 1 << 11, 0, 1 << 29)})
    harmless, harmful = {"msr.10a": 1 << 8 | 1 << 7}, {"msr.10a": 1 << 7}  # TAA_NO
    assert boot_cpu(machine, params=harmful | {"tsx_mode": "on"}).has("RTM")
    assert boot_cpu(machine, params=harmless | {"tsx_mode": "auto"}).has("RTM")
    assert not boot_cpu(machine, params=harmful | {"tsx_mode": "auto"}).has("RTM")
    assert not boot_cpu(machine, params=harmless | {"tsx_mode": "off"}).has("RTM")
    assert not boot_cpu(machine, params=harmless | {"tsx_mode": "on", "cmdline": "tsx=off"}).has("RTM")
    assert [boot_cpu(machine, kernel, params=harmless).has("RTM") for kernel in ("6.19", "7.0")] == [False, True]
    with pytest.raises(InputError, match="tsx_mode: 'never' is none of off, on, auto"):
        boot_cpu(machine, params={"tsx_mode": "never"})


def test_the_hardwares_msrs_come_before_kvms_and_those_given_before_both() -> None:
    machine = host("intel", ICE_LAKE_SERVER, {(7, 0): (0, 1 << 11, 0, 1 << 29)})
    of_kvm = with_msrs(machine, x10a=1 << 7)
    of_both = replace(of_kvm, hardware_msrs=MsrTable({0x10A: 0}))
    assert boot_cpu(of_kvm).has("MSR_TSX_CTRL")
    assert not boot_cpu(of_both).has("MSR_TSX_CTRL")
    assert boot_cpu(of_both, params={"msr.10a": 1 << 7}).has("MSR_TSX_CTRL")
    assert of_both.fingerprint != of_kvm.fingerprint
    assert boot_cpu(machine).has("CPUID_FAULT")
    absent = replace(machine, hardware_msrs=MsrTable({}, [0x140]))
    assert not boot_cpu(absent).has("CPUID_FAULT")
    assert absent.fingerprint != machine.fingerprint


def test_the_microcode_is_the_one_that_proc_cpuinfo_prints() -> None:
    skylake = host("intel", 0x50654, {(7, 0): (0, 0, 0, 1 << 26 | 1 << 27)})
    for line, old in (("0x2000011", True), ("0x2007006", False), ("0xffffffffff", False), ("?", False)):
        assert ("OLD_MICROCODE" in boot_cpu(replace(skylake, cpuinfo={"microcode": line}), "6.18").bugs) is old, line
    measured = replace(skylake, cpuinfo={"microcode": "0x2000011"}, hardware_msrs=MsrTable({0x8B: 0x2007006 << 32}))
    assert "OLD_MICROCODE" not in boot_cpu(measured, "6.18").bugs


def test_self_snoop_is_not_trusted_on_old_models() -> None:
    machine = host("intel", 0x206A7, {(1, 0): (0, 0, 0, 0x0783FBFF | 1 << 27)})
    assert not boot_cpu(machine).has("SELFSNOOP")
    assert boot_cpu(replace(machine, raw=host("intel", SKYLAKE, {(1, 0): (0, 0, 0, 0x0783FBFF | 1 << 27)}).raw)).has("SELFSNOOP")


def test_amd_gets_the_flags_that_cpuid_does_not_tell() -> None:
    cpu = boot_cpu(host("amd", ZEN3), "6.12")
    for feature in ("K8", "VMMCALL", "REP_GOOD", "ARAT", "LFENCE_RDTSC", "3DNOWPREFETCH", "ZEN", "ZEN3", "BTC_NO", "SYSCALL32"):
        assert cpu.has(feature), feature
    assert not cpu.has("APIC_MSRS_FENCE")
    assert boot_cpu(host("intel", SKYLAKE)).has("APIC_MSRS_FENCE")


def test_hygon_is_not_treated_as_amd_throughout() -> None:
    cpu = boot_cpu(host("hygon", 0x00900F01), "6.12")
    assert cpu.has("ZEN")
    assert cpu.has("CPB")
    assert not cpu.has("ZEN1")
    assert "FXSAVE_LEAK" not in cpu.bugs


def test_zhaoxins_own_leaf_is_read_on_its_processors_only() -> None:
    leaves = {(0xC0000000, 0): (0xC0000001, 0, 0, 0), (0xC0000001, 0): (0, 0, 0, 0xCC)}
    assert boot_cpu(host("zhaoxin", 0x000707B0, leaves)).word("CPUID_C000_0001_EDX") == 0xCC
    assert boot_cpu(host("intel", SKYLAKE, leaves)).word("CPUID_C000_0001_EDX") == 0


def test_unknown_vendors_keep_what_cpuid_says() -> None:
    cpu = boot_cpu(host("other", SKYLAKE))
    assert cpu.word("CPUID_1_EDX") == 0x0783FBFF
    assert not cpu.has("REP_GOOD")


@pytest.mark.parametrize(
    ("vendor", "signature", "present"), [("intel", 0x306C3, True), ("intel", ICE_LAKE_SERVER, False), ("amd", ZEN3, False)]
)
def test_meltdown_and_its_mitigation(vendor: str, signature: int, present: bool) -> None:
    machine = host(vendor, signature, {(7, 0): (0, 0, 0, 1 << 29 if vendor == "intel" and not present else 0)})
    assert ("CPU_MELTDOWN" in boot_cpu(machine).bugs) == present
    assert boot_cpu(machine).has("PTI") == present
    assert not boot_cpu(machine, params={"cmdline": "mitigations=off"}).has("PTI")
    assert not boot_cpu(machine, params={"cmdline": "nopti"}).has("PTI")
    assert boot_cpu(machine, params={"cmdline": "pti=on"}).has("PTI")


@pytest.mark.parametrize(
    ("features", "chosen", "not_chosen"),
    [
        ({}, "RETPOLINE", "KERNEL_IBRS"),
        ({(7, 0): (0, 0, 0, 1 << 26)}, "KERNEL_IBRS", "RETPOLINE"),
        ({(7, 0): (0, 0, 0, 1 << 26 | 1 << 29)}, "RSB_VMEXIT_LITE", "RETPOLINE"),
    ],
)
def test_spectre_v2_is_mitigated_by_what_there_is(
    features: dict[tuple[int, int], tuple[int, int, int, int]], chosen: str, not_chosen: str
) -> None:
    cpu = boot_cpu(host("intel", SKYLAKE, features))
    assert cpu.has(chosen)
    assert not cpu.has(not_chosen)
    assert not boot_cpu(host("intel", SKYLAKE, features), params={"cmdline": "nospectre_v2"}).has(chosen)


def test_srso_picks_the_return_by_family() -> None:
    assert boot_cpu(host("amd", ZEN3)).has("SRSO_ALIAS")
    assert boot_cpu(host("amd", ZEN5)).has("SRSO")
    assert not boot_cpu(host("amd", ZEN3), params={"cmdline": "spec_rstack_overflow=off"}).has("SRSO_ALIAS")


def test_kvm_tells_its_guests_the_tscs_frequency() -> None:
    signature = (0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D)
    leaves = {(1, 0): (0, 0, HYPERVISOR, 0), (0x40000000, 0): signature, (0x40000001, 0): (1 << 3, 0, 0, 0)}
    guest = host("intel", SKYLAKE, leaves)
    assert boot_cpu(guest).has("TSC_KNOWN_FREQ")
    assert not boot_cpu(guest, params={"cmdline": "no-kvmclock"}).has("TSC_KNOWN_FREQ")
    assert not boot_cpu(host("intel", SKYLAKE)).has("TSC_KNOWN_FREQ")


def test_hyperv_tells_the_tscs_frequency_where_linux_takes_it_for_hyperv() -> None:
    """Without the MSRs for hypercalls and for the VP index (QEMU's hv-vpindex) Linux does not detect it."""
    signature = (0x40000005, 0x7263694D, 0x666F736F, 0x76482074)
    leaves = {(1, 0): (0, 0, HYPERVISOR, 0), (0x40000000, 0): signature}
    frequency, mandatory = 1 << 11, 1 << 5 | 1 << 6
    whole = host("intel", SKYLAKE, leaves | {(0x40000003, 0): (frequency | mandatory, 0, 0, 1 << 8)})
    assert boot_cpu(whole).has("TSC_KNOWN_FREQ")
    partial = host("intel", SKYLAKE, leaves | {(0x40000003, 0): (frequency | 1 << 5, 0, 0, 1 << 8)})
    assert not boot_cpu(partial).has("TSC_KNOWN_FREQ")


def test_kvm_gives_its_guests_no_ls_cfg() -> None:
    signature = (0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D)
    leaves = {(1, 0): (0, 0, HYPERVISOR, 0)}
    assert boot_cpu(host("amd", ZEN2, leaves)).has("LS_CFG_SSBD")
    assert not boot_cpu(host("amd", ZEN2, leaves | {(0x40000000, 0): signature})).has("LS_CFG_SSBD")


def test_observed_flags_win() -> None:
    machine = replace(host("intel", SKYLAKE, {(7, 0): (0, 1 << 5, 0, 0)}), cpuinfo={"flags": "fpu rtm no_such_flag", "bugs": "spectre_v1"})
    assert boot_cpu(machine).has("AVX2")
    cpu = boot_cpu(machine, "6.12", observed=True)
    assert not cpu.has("AVX2")
    assert cpu.has("RTM")
    assert cpu.bugs == ("SPECTRE_V1",)
    assert about(cpu, "AVX2").rule.id == about(cpu, "RTM").rule.id == "linux.observed"
    assert cpu.has("ALWAYS"), "hidden flags stay as they were worked out"
    assert cpuinfo(machine, observed=True).flags == ("fpu", "rtm")


def test_a_bug_that_a_kernel_that_is_not_told_did_not_print_is_none_that_it_denies() -> None:
    machine = replace(host("intel", SKYLAKE), cpuinfo={"flags": "fpu", "bugs": "spectre_v1 gds"})
    ruled, seen = boot_cpu(machine), boot_cpu(machine, observed=True)
    assert "MDS" in ruled.bugs
    assert set(seen.bugs) == {*ruled.bugs, "SPECTRE_V1", "GDS"}


@pytest.mark.parametrize("params", [{"msrs": 1}, {"msr.zz": 1}, {"msr.10a": "much"}])
def test_parameters_that_make_no_sense_are_refused(params: dict[str, str | int]) -> None:
    with pytest.raises(InputError):
        boot_cpu(host("intel", SKYLAKE), params=params)
