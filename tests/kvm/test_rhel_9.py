"""What changed between the updates of RHEL 9, and is otherwise in RHEL 8.10 and 10.0, as the sources of these kernels have it.

Nothing of them was captured: what is held here is the update of each change.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vcpuid import kvm, linux
from vcpuid.cpuid import MsrTable, Snapshot, hyperv, vendors
from vcpuid.kvm.feature_msrs import feature_msrs
from vcpuid.linux.arch_cap import ArchCap
from vcpuid.linux.boot import BootCpu
from vcpuid.setup import settled

Machine = Callable[[str], Snapshot]
Edit = Callable[..., Snapshot]

UPDATES = {"8.10": "4.18", **{f"9.{update}": f"5.14-el9_{update}" for update in range(1, 6)}, "9.6": "5.14", "10.0": "6.12-el10"}
ALL = " ".join(UPDATES)
TURIN, MILAN, DHYANA = "kvm-amd.EPYC-Turin-v1@7.3", "kvm-amd.EPYC-Milan-v2@6.12", "kvm-amd.Dhyana-v2@6.12"
SKYLAKE, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-dmr@7.3"
IVY_BRIDGE = "kvm-intel.corei7_ivy_bridge_3770k@6.12"


def where(holds: Callable[[str], bool]) -> str:
    """Name the updates of which something holds."""
    return " ".join(update for update, kernel in UPDATES.items() if holds(kernel))


def boot(host: Snapshot, kernel: str, **params: int | str) -> BootCpu:
    return linux.boot_cpu(settled(host, kernel=kernel, params=params))


def bare(edited: Edit, host: Snapshot, registers: dict[str, int | Callable[[int], int]] | None = None) -> Snapshot:
    """A host of which neither /proc/cpuinfo nor KVM's MSRs are told."""
    return edited(host, registers, cpuinfo={}, msrs=MsrTable({}))


@pytest.mark.parametrize(
    ("host", "registers", "params", "feature", "updates"),
    [
        (TURIN, {"8000000a.0.edx": 1 << 16}, {}, "VGIF", "9.2 9.3 9.4 9.5 9.6 10.0"),
        (TURIN, {"8000000a.0.edx": 1 << 10}, {}, "PAUSEFILTER", "8.10 9.2 9.3 9.4 9.5 9.6 10.0"),
        (TURIN, {"8000000a.0.edx": 1 << 12}, {}, "PFTHRESHOLD", "8.10 9.2 9.3 9.4 9.5 9.6 10.0"),
        (TURIN, {"8000000a.0.edx": 1 << 15}, {}, "V_VMSAVE_VMLOAD", ALL),
        (SAPPHIRE, {"1.0.ecx": 1 << 15}, {"enable_pmu": 0}, "PDCM", "8.10 9.1"),
        (SAPPHIRE, {"1.0.edx": 1 << 21}, {"pmu": 1, "pebs_ept": 1, "msr.1a0": 0}, "DS", "9.2 9.3 9.4 9.5 9.6 10.0"),
        (SAPPHIRE, {"7.0.edx": 1 << 28}, {}, "FLUSH_L1D", "8.10 9.3 9.4 9.5 9.6 10.0"),
        (SAPPHIRE, {"7.1.eax": 1 << 21}, {}, "AMX_FP16", "9.3 9.4 9.5 9.6 10.0"),
    ],
)
def test_what_kvm_began_to_offer(
    host: str, registers: dict[str, int], params: dict[str, int | str], feature: str, updates: str, machine: Machine, edited: Edit
) -> None:
    whole = bare(edited, machine(host), {place: lambda told, bit=bit: told | bit for place, bit in registers.items()})
    assert where(lambda kernel: kvm.caps(settled(whole, kernel=kernel, params=params)).has(feature)) == updates


@pytest.mark.parametrize(
    ("name", "place", "told", "updates"),
    [
        (SKYLAKE, "9.0.eax", 1, "9.1 9.2"),
        (MILAN, "b.0.ebx", 2, "8.10 9.1 9.2"),
        (MILAN, "8000001e.0.ebx", 0x101, "8.10 9.1 9.2"),
        (MILAN, "80000001.0.ebx", 0x20000000 | 1 << 16, "8.10 9.1 9.2"),
        (MILAN, "80000006.0.edx", 0x03039140, "8.10 9.1 9.2"),
        (MILAN, "8000001a.0.eax", 0x1F, "8.10 9.1 9.2"),
        (MILAN, "80000005.0.ecx", 0x20080140, "9.4 9.5 9.6 10.0"),
    ],
)
def test_what_kvm_passes_on_as_it_is(name: str, place: str, told: int, updates: str, machine: Machine, edited: Edit) -> None:
    function, index, register = place.split(".")
    leaves = {"0.0.eax": lambda eax: max(eax, 0xB), place: told}
    whole = bare(edited, machine(name), leaves)

    def same(kernel: str) -> bool:
        return bool(getattr(kvm.supported(whole, kernel).table.registers(int(function, 16), int(index)), register) == told)

    assert where(same) == updates


def test_how_far_leaf_7_goes_and_which_bits_are_kvm_s_own(machine: Machine, edited: Edit) -> None:
    intel = bare(edited, machine(SAPPHIRE), {"7.0.eax": 2})
    assert where(lambda kernel: kvm.supported(intel, kernel).table.registers(7).eax == 1) == "9.1 9.2 9.3"
    milan = bare(edited, machine(MILAN), {"80000021.0.eax": 0x45})
    assert where(lambda kernel: kvm.supported(milan, kernel).table.registers(0x80000021).eax == 0x45) == "9.1 9.2"
    assert where(lambda kernel: kvm.supported(milan, kernel).table.registers(0x80000021).eax == 0x245) == "8.10 9.3 9.4 9.5 9.6 10.0"


def test_the_guest_s_own_address_size_was_taken_for_the_host_s(machine: Machine, edited: Edit) -> None:
    host = bare(edited, machine(TURIN), {"80000008.0.eax": 52 | 57 << 8 | 48 << 16})
    assert where(lambda kernel: kvm.supported(host, kernel).table.registers(0x80000008).eax & 0xFF == 48) == "8.10 9.1 9.2 9.3 9.4"


def test_performance_capabilities(machine: Machine, edited: Edit) -> None:
    """Adaptive PEBS until 9.5; the format of last branch records whatever perf can lend until 9.3; without asking perf until 9.2."""
    pebs = {"pmu": 1, "pebs_ept": 1, "msr.345": 0x7FC5, "msr.1a0": 0}

    def value(host: Snapshot, kernel: str, params: dict[str, int | str]) -> int:
        return feature_msrs(settled(host, kernel=kernel, params=params)).table[0x345]

    plain = bare(edited, machine(SAPPHIRE), {"1.0.ecx": lambda ecx: ecx | 1 << 15, "1.0.edx": lambda edx: edx | 1 << 21})
    assert where(lambda kernel: bool(value(plain, kernel, pebs) & 1 << 14)) == "9.2 9.3 9.4"
    assert where(lambda kernel: bool(value(plain, kernel, pebs) & 0xF00)) == "9.2 9.3 9.4 9.5 9.6 10.0"
    assert where(lambda kernel: bool(value(plain, kernel, {**pebs, "msr.345": 0x60C5}) & 1 << 14)) == "", "which has no format"
    modern = edited(plain, {"7.0.edx": lambda edx: edx | 1 << 19, "1c.0.eax": 0x80, "0.0.eax": 0x20})
    assert where(lambda kernel: value(modern, kernel, pebs) & 0x3F == 5) == "8.10 9.1 9.2"
    callless = bare(edited, machine(IVY_BRIDGE), {"1.0.ecx": lambda ecx: ecx | 1 << 15})
    assert where(lambda kernel: value(callless, kernel, pebs) & 0x3F == 5) == "8.10 9.1 9.2 9.3 9.4"


def test_counters_on_a_processor_of_two_kinds_of_cores(machine: Machine, edited: Edit) -> None:
    hybrid = bare(edited, machine(SAPPHIRE), {"7.0.edx": lambda edx: edx | 1 << 15})
    counts = where(lambda kernel: bool(kvm.supported(hybrid, kernel, {"pmu": 1}).table.registers(0xA).eax))
    assert counts == "8.10 9.1 9.2"


def test_arch_capabilities(machine: Machine, edited: Edit) -> None:
    given = ArchCap.GDS_NO | ArchCap.FB_CLEAR_CTRL | 1 << 21

    def told(host: Snapshot, kernel: str, hardware: int) -> int:
        return feature_msrs(settled(host, kernel=kernel, params={"msr.10a": hex(hardware)})).table[0x10A]

    intel, amd = (bare(edited, machine(name)) for name in (SAPPHIRE, MILAN))
    assert where(lambda kernel: bool(told(intel, kernel, given) & 1 << 21)) == "8.10 9.1", "XAPIC_DISABLE, which KVM does not know"
    assert where(lambda kernel: bool(told(intel, kernel, given) & ArchCap.FB_CLEAR_CTRL)) == ""
    assert where(lambda kernel: bool(told(intel, kernel, given) & ArchCap.GDS_NO)) == "8.10 9.1 9.3 9.4 9.5 9.6 10.0"
    assert where(lambda kernel: bool(told(amd, kernel, 0) & ArchCap.GDS_NO)) == "8.10 9.3 9.4 9.5 9.6 10.0"
    assert where(lambda kernel: bool(told(amd, kernel, 0) & ArchCap.RFDS_NO)) == "8.10 9.4 9.5 9.6 10.0"


def test_hyper_v_s_nested_features(machine: Machine) -> None:
    leaf = hyperv.NESTED
    assert where(lambda kernel: bool(kvm.hyperv_supported(machine(SAPPHIRE), kernel).table.registers(leaf).ebx)) == "9.3 9.4 9.5 9.6 10.0"


def test_what_linux_makes_of_amd_s_and_hygon_s_processors(machine: Machine, edited: Edit) -> None:
    old = {"1.0.eax": 0x00000F4A, "0.0.eax": 1, "80000001.0.ecx": 1, "1.0.ecx": lambda ecx: ecx | 1 << 31}
    k8 = bare(edited, machine(MILAN), old)
    assert where(lambda kernel: not boot(k8, kernel).has("LAHF_LM")) == ALL, "also in a guest, which no firmware set up"
    assert boot(k8, "6.12").has("LAHF_LM")
    hygon = bare(edited, machine(DHYANA), {"d.1.eax": 0xF})
    assert where(lambda kernel: boot(hygon, kernel).has("XSAVES")) == ALL
    assert not boot(hygon, "6.1").has("XSAVES")


def test_hyper_v_gives_the_frequency_of_the_tsc_to_the_newest_only(machine: Machine, edited: Edit) -> None:
    signature = dict(zip(("ebx", "ecx", "edx"), vendors.twelve(vendors.HYPERV), strict=True))
    leaves = {f"40000000.0.{register}": value for register, value in signature.items()}
    features = hyperv.HYPERCALL.mask | hyperv.VP_INDEX.mask | hyperv.ACCESS_FREQUENCY_MSRS.mask
    more = {"40000000.0.eax": 0x40000006, "40000003.0.eax": features, "40000003.0.edx": hyperv.FREQUENCY_MSRS.mask}
    guest = bare(edited, machine(SKYLAKE), {**leaves, **more, "1.0.ecx": lambda ecx: ecx | 1 << 31})
    assert where(lambda kernel: boot(guest, kernel).has("TSC_KNOWN_FREQ")) == "10.0"


def test_how_spectre_v2_is_worded(machine: Machine, edited: Edit) -> None:
    """The return stack is filled with enhanced IBRS, too; 9.1 takes plain IBRS to keep siblings apart."""
    enhanced = {update: linux.vulnerabilities(settled(bare(edited, machine(SAPPHIRE)), kernel=kernel, params={"msr.10a": "0x2b"}))
                for update, kernel in UPDATES.items()}  # fmt: skip
    assert all("RSB filling" in files["spectre_v2"] for files in enhanced.values())
    assert " ".join(update for update, files in enhanced.items() if "Enhanced IBRS" in files["spectre_v2"]) == "9.1 9.2"
    assert " ".join(update for update, files in enhanced.items() if "gather_data_sampling" not in files) == "9.1 9.2"
    several = {"7.0.edx": lambda edx: edx | 0x8C000000, "b.0.ebx": 2}
    plain = {update: linux.vulnerabilities(settled(bare(edited, machine(SKYLAKE), several), kernel=kernel))
             for update, kernel in UPDATES.items()}  # fmt: skip
    assert all("Mitigation: IBRS" in files["spectre_v2"] for files in plain.values())
    assert " ".join(update for update, files in plain.items() if "STIBP" not in files["spectre_v2"]) == "9.1"


def test_who_follows_the_wish_for_ibrs(machine: Machine, edited: Edit) -> None:
    """On Intel's processors everyone, on those with the enhanced kind, too; on AMD's only RHEL 8."""
    wish = {"cmdline": "spectre_v2=ibrs", "msr.10a": "0x2b"}

    def texts(host: Snapshot) -> dict[str, str]:
        files = {update: linux.vulnerabilities(settled(host, kernel=kernel, params=wish)) for update, kernel in UPDATES.items()}
        return {update: told["spectre_v2"] for update, told in files.items()}

    assert all(text.startswith("Mitigation: IBRS") for text in texts(bare(edited, machine(SAPPHIRE))).values())
    amd = texts(bare(edited, machine(MILAN), {"80000008.0.ebx": lambda ebx: ebx | 1 << 12 | 1 << 14}))
    assert [update for update, text in amd.items() if text.startswith("Mitigation: IBRS")] == ["8.10"]
    assert [update for update, text in amd.items() if "IBRS_FW" not in text] == ["8.10"], "firmware needs none of its own there"
    assert [boot(bare(edited, machine(MILAN)), "4.18", **wish).has(feature) for feature in ("KERNEL_IBRS", "RETPOLINE")] == [False, True]


@pytest.mark.parametrize(
    ("wish", "told", "retbleed", "forced"),
    [
        ("ibrs_always", "IBRS (kernel and user space)", "Mitigation: IBRS", "KERNEL_IBRS IBRS_EXIT_SKIP"),
        ("retpoline,ibrs_user", "Full retpoline and IBRS (user space)", "Vulnerable", "RETPOLINE KERNEL_IBRS IBRS_EXIT_SET USE_IBRS_FW"),
    ],
)
def test_rhel_8_has_wishes_of_its_own(wish: str, told: str, retbleed: str, forced: str, machine: Machine, edited: Edit) -> None:
    host = bare(edited, machine(SKYLAKE), {"7.0.edx": lambda edx: edx | 0x8C000000, "b.0.ebx": 2})
    flags = ("RETPOLINE", "KERNEL_IBRS", "IBRS_EXIT_SET", "IBRS_EXIT_SKIP", "USE_IBRS_FW")
    params = {"cmdline": f"spectre_v2={wish}"}
    files = {kernel: linux.vulnerabilities(settled(host, kernel=kernel, params=params)) for kernel in UPDATES.values()}
    assert [kernel for kernel, of in files.items() if f"Mitigation: {told}" in of["spectre_v2"]] == ["4.18"]
    assert files["4.18"]["retbleed"] == retbleed
    assert ("IBRS_FW" in files["4.18"]["spectre_v2"]) == ("USE_IBRS_FW" in forced)
    assert {flag for flag in flags if boot(host, "4.18", **params).has(flag)} == set(forced.split())
    others = [of["spectre_v2"] for kernel, of in files.items() if kernel != "4.18"]
    assert all(text.startswith(("Mitigation: IBRS, ", "Mitigation: IBRS; ")) for text in others)
    without = bare(edited, machine(SKYLAKE), {"7.0.edx": lambda edx: edx & ~0x8C000000})
    assert linux.vulnerabilities(settled(without, kernel="4.18", params=params))["spectre_v2"].startswith("Mitigation: Retpolines")
