"""What a field's value says: a number with its unit, a word, or text.

Each meaning is a small function from the field's bits to a `Reading`, registered under leaf and name of the field. A field without one is
the number that it is. The rules are from the Intel SDM vol. 2A (CPUID), the AMD APM vol. 3 appendix E, and the TLFS for Hyper-V.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from vcpuid.cpuid.text import up_to_zero
from vcpuid.decode.descriptors import describe


class Reading(NamedTuple):
    """What a value says: `value` in `unit`, or `text` where a word says more."""

    value: int | str
    unit: str = ""
    text: str = ""

    def __str__(self) -> str:
        return self.text or (f"{self.value} {self.unit}" if self.unit else str(self.value))


NO, YES = Reading(0, "", "no"), Reading(1, "", "yes")

Meaning = Callable[[int], Reading]

_MEANINGS: dict[tuple[int, str, str], Meaning] = {}


def meaning_of(function: int, name: str, who: str = "") -> Meaning | None:
    """Return the meaning that a field of a leaf has with vendor `who`, None where its value is just a number."""
    return _MEANINGS.get((function, name, who)) or _MEANINGS.get((function, name, ""))


def register(functions: int | Iterable[int], names: str, meaning: Meaning, who: str = "") -> None:
    """Register a meaning for fields (names separated by blanks) of one or several leaves, of one vendor or of all."""
    for function in (functions,) if isinstance(functions, int) else functions:
        for name in names.split():
            _MEANINGS[function, name, who] = meaning


def amount(unit: str, scale: int = 1, plus: int = 0) -> Meaning:
    """Mean raw * scale + plus, in `unit`."""
    return lambda raw: Reading(raw * scale + plus, unit)


def power_of_two(unit: str, nothing: int | None = None) -> Meaning:
    """Mean 2 to the power of raw; `nothing` is the value that stands for none."""
    return lambda raw: Reading(0) if raw == nothing else Reading(1 << raw, unit)


def choice(words: Mapping[int, str], otherwise: str = "reserved") -> Meaning:
    """Mean one of some words."""
    return lambda raw: Reading(raw, "", words.get(raw, otherwise))


def hexadecimal(raw: int) -> Reading:
    """Mean a number of which the digits count."""
    return Reading(raw, "", f"{raw:#x}")


def ascii_text(raw: int) -> Reading:
    """Mean four characters of a string; the first one is lowest."""
    return Reading(text(raw))


def numbers(first: int = 0, step: int = 1, unit: str = "") -> Meaning:
    """Mean a set: bit n stands for first + n * step."""

    def read(raw: int) -> Reading:
        members = " ".join(str(first + n * step) for n in range(raw.bit_length()) if raw >> n & 1)
        return Reading(raw, "", f"{members} {unit}".strip() if members else "none")

    return read


def text(*registers: int) -> str:
    """Spell registers as the string that they hold, up to its end."""
    return up_to_zero(*registers)


CACHE_TYPES = {0: "no more", 1: "data", 2: "code", 3: "unified"}
DOMAINS = {0: "no more", 1: "thread", 2: "core", 3: "module", 4: "tile", 5: "die", 6: "die group"}
AMD_DOMAINS = {0: "no more", 1: "core", 2: "complex", 3: "die", 4: "socket"}
CORES = {0x20: "Atom", 0x40: "Core"}
TLB_TYPES = {0: "no more", 1: "data", 2: "code", 3: "unified", 4: "load only", 5: "store only"}
ISOLATION = {0: "none", 1: "VBS", 2: "SEV-SNP", 3: "TDX"}
TSC_MODES = {0: "default", 1: "always emulated", 2: "never emulated", 3: "PVRDTSCP"}
WAYS = {0: "off", 1: "direct mapped", 2: "2", 3: "3", 4: "4 to 5", 5: "6 to 7", 6: "8 to 15", 8: "16 to 31", 9: "see leaf 0x8000001d",
        10: "32 to 47", 11: "48 to 63", 12: "64 to 95", 13: "96 to 127", 14: "128 or more", 15: "full"}  # fmt: skip
"""Associativity in AMD's leaves 0x80000006 and 0x80000019."""

INTEL_WAYS = {0: "off", 1: "direct mapped", 2: "2", 4: "4", 6: "8", 7: "see leaf 4", 8: "16", 10: "32", 11: "48", 12: "64", 13: "96",
              14: "128", 15: "full"}  # fmt: skip
"""Associativity in leaf 0x80000006 where Intel has it (SDM vol. 2A)."""

L1_WAYS = {0: "reserved", 1: "direct mapped", 255: "full"}
TOPOLOGY = (0xB, 0x1F, 0x80000026)
CACHES = (0x4, 0x8000001D)


def _l1_ways(raw: int) -> Reading:
    return Reading(raw, "" if raw in L1_WAYS else "ways", L1_WAYS.get(raw, ""))


def _spinlock_retries(raw: int) -> Reading:
    return Reading(raw, "", "never" if raw == 0xFFFFFFFF else str(raw))


def _signed(raw: int) -> Reading:
    return Reading(raw - (1 << 32) if raw >> 31 else raw)


register((0, 0x80000000, 0x40000000, 0x40000080, 0xC0000000, 0x80860000, 0x20000000), "max_std_leaf max_ext_leaf max_hyp_leaf", hexadecimal)
register((0xC0000000, 0x80860000, 0x20000000), "max_cntr_leaf max_tra_leaf max_phi_leaf", hexadecimal)
register((0, 0x80000000, 0x80860000), "cpu_vendorid_0 cpu_vendorid_1 cpu_vendorid_2", ascii_text)
register((0x40000000, 0x40000080), "hypervisor_id_0 hypervisor_id_1 hypervisor_id_2", ascii_text)
register(0x21, "tdx_vendorid_0 tdx_vendorid_1 tdx_vendorid_2", ascii_text)
register(0x17, "vendor_brand_a vendor_brand_b vendor_brand_c vendor_brand_d", ascii_text)
register((0x80000002, 0x80000003, 0x80000004), " ".join(f"cpu_brandid_{n}" for n in range(12)), ascii_text)
register((0x80860003, 0x80860004, 0x80860005, 0x80860006), " ".join(f"cpu_info_{n}" for n in range(16)), ascii_text)
register((0x40000001, 0x40000081), "hv_interface hv_syndbg_interface", ascii_text)

register(1, "cpu_type", choice({0: "original", 1: "OverDrive", 2: "dual"}))
register(1, "clflush_size", amount("bytes", 8))
for _who in ("", "cyrix"):
    register(2, " ".join(f"desc{n}" for n in range(1, 16)), lambda raw, who=_who: Reading(raw, "", describe(raw, who)), _who)  # type: ignore[misc]
register(3, "psn_0 psn_1 psn_2 psn_3 psn_low psn_middle", hexadecimal)

register(CACHES, "cache_type", choice(CACHE_TYPES))
register(CACHES, "cache_linesize", amount("bytes", plus=1))
register(CACHES, "cache_npartitions cache_nsets", amount("", plus=1))
register(CACHES, "cache_nways", amount("ways", plus=1))
register(CACHES, "num_threads_sharing num_cores_on_die", amount("", plus=1))

register(5, "min_mon_size max_mon_size", amount("bytes"))
register(6, "feedback_sz", amount("bytes", 4096, 4096))
register(0xA, "bit_width_gp bitwidth_fixed events_mask_len", amount("bits"))
register(0xA, "pmu_fcounters_bitmap", numbers())
register(0x23, "gp_counters fixed_counters acr_gp_reload acr_fixed_reload acr_gp_trigger acr_fixed_trigger", numbers())
register(0x23, "pebs_gp pebs_pdist_gp pebs_fixed pebs_pdist_fixed", numbers())
register((0xB, 0x1F), "domain_type", choice(DOMAINS))
register(0x80000026, "domain_type", choice(AMD_DOMAINS))
register(TOPOLOGY, "x2apic_id", hexadecimal)
register(TOPOLOGY, "x2apic_id_shift", amount("bits"))
register(0xD, "xsave_sz_xcr0 xsave_sz_max xsave_sz_xcr0_xss xsave_sz xsave_offset", amount("bytes"))
register(0xF, "l3c_qm_bitwidth", amount("bits", plus=24))
register(0xF, "l3c_qm_conver_factor", amount("bytes"))
register(0x10, "cat_cbm_len mba_max_delay", amount("", plus=1))
register(0x10, "cat_units_bitmap", hexadecimal)
register(0x10, "cba_max_level", amount("", plus=1))
register(0x12, "max_enclave_sz_not64 max_enclave_sz_64", power_of_two("bytes"))
register(0x12, "subleaf_type", choice({0: "no more", 1: "EPC section"}))
register(0x12, "epc_sec_type", choice({0: "invalid", 1: "confidentiality, integrity, replay protection", 2: "confidentiality"}))
register(0x12, "epc_sec_base_addr_0 epc_sec_base_addr_1 epc_sec_size_0 epc_sec_size_1", hexadecimal)
register(0x14, "mtc_periods_bmp cycle_thresholds_bmp psb_periods_bmp", numbers())
register(0x15, "cpu_crystal_hz", amount("Hz"))
register(0x16, "cpu_base_mhz cpu_max_mhz bus_mhz", amount("MHz"))
register(0x17, "soc_vendor_id soc_proj_id soc_stepping_id", hexadecimal)
register(0x18, "tlb_type", choice(TLB_TYPES))
register(0x18, "tlb_max_addressable_ids", amount("", plus=1))
register(0x18, "n_way_associative", amount("ways"))
register(0x1A, "core_type", choice(CORES, ""))
register(0x1A, "core_native_model", hexadecimal)
register(0x1B, "pconfig_subleaf_type", choice({0: "no more", 1: "target identifiers"}))
register(0x1C, "lbr_depth_mask", numbers(8, 8, "entries"))
register(0x1C, "lbr_events_gpc_bmp", numbers())
register(0x1D, "amx_palette_size amx_tile_size amx_tile_row_size", amount("bytes"))
register(0x1E, "tmul_maxn", amount("bytes"))

register(0x80000001, "ext_signature", hexadecimal)
register(0x80000005, "l1_itlb_2m_4m_assoc l1_dtlb_2m_4m_assoc l1_itlb_4k_assoc l1_dtlb_4k_assoc l1_dcache_assoc l1_icache_assoc", _l1_ways)
register(0x80000005, "l1_itlb_2m_4m_nentries l1_dtlb_2m_4m_nentries l1_itlb_4k_nentries l1_dtlb_4k_nentries", amount("entries"))
register(0x80000005, "l1_dcache_line_size l1_icache_line_size", amount("bytes"))
register(0x80000005, "l1_dcache_size_kb l1_icache_size_kb", amount("KiB"))
register(0x80000006, "l2_itlb_2m_4m_assoc l2_dtlb_2m_4m_assoc l2_itlb_4k_assoc l2_dtlb_4k_assoc l2_assoc l3_assoc", choice(WAYS))
register(0x80000006, "l2_assoc", choice(INTEL_WAYS), "intel")
register(0x80000006, "l2_itlb_2m_4m_nentries l2_dtlb_2m_4m_nentries l2_itlb_4k_nentries l2_dtlb_4k_nentries", amount("entries"))
register(0x80000006, "l2_line_size l3_line_size", amount("bytes"))
register(0x80000006, "l2_size_kb", amount("KiB"))
register(0x80000006, "l3_size_range", amount("KiB", 512))
register(0x80000019, "l1_itlb_1g_assoc l1_dtlb_1g_assoc l2_itlb_1g_assoc l2_dtlb_1g_assoc", choice(WAYS))
register(0x80000019, "l1_itlb_1g_nentries l1_dtlb_1g_nentries l2_itlb_1g_nentries l2_dtlb_1g_nentries", amount("entries"))
register(0x80000008, "phys_addr_bits virt_addr_bits guest_phys_addr_bits apicid_coreid_len", amount("bits"))
register(0x80000008, "cpu_nthreads", amount("", plus=1))
register(0x80000008, "perf_tsc_len", amount("bits", 8, 40))
register(0x80000008, "invlpgb_max_pages", amount("pages"))
register(0x8000001C, "lwp_lwpcb_sz", amount("bytes", 8))
register(0x8000001C, "lwp_event_sz", amount("bytes"))
register(0x8000001E, "core_nthreads nnodes_per_socket", amount("", plus=1))
register(0x8000001E, "ext_apic_id", hexadecimal)
register(0x8FFFFFFF, "greeting_0 greeting_1 greeting_2 greeting_3", ascii_text)
register(0x80000020, "abmc_counter_len", amount("bits", plus=24))
register(0x80000020, "mba_limit_len smba_limit_len", amount("bits"))
register(0x80000021, "microcode_patch_size", amount("bytes", 16))
register(0x80000021, "rap_size", amount("entries", 8))
register(0x80000022, "active_umc_bitmask", numbers())
register(0x80000025, "rmp_segment_min rmp_segment_max", power_of_two("bytes", nothing=0))
register(0x80000026, "core_type", choice({0: "performance", 1: "efficiency"}, ""))

register(0x80860001, "cpu_base_mhz", amount("MHz"))
register(0x80860007, "cpu_cur_mhz", amount("MHz"))
register(0x80860007, "cpu_cur_voltage", amount("mV"))
register(0x80860007, "cpu_cur_perf_pctg", amount("%"))
register(0x80860007, "cpu_cur_gate_delay", amount("fs"))
register(0xC0000002, "cpu_cur_temperature", lambda raw: Reading(raw >> 8, "degrees Celsius", f"{raw / 256:g} degrees Celsius"))
register(
    0xC0000004, "cpu_cur_multiplier highest_multiplier lowest_multiplier least_multiplier", lambda raw: Reading(raw, "", f"{raw / 2:g}")
)
register((0xC0000002, 0xC0000004), "cpu_cur_voltage highest_voltage lowest_voltage", amount("mV", 16, 700))
register(0xC0000004, "thermal_monitor_temperature", amount("degrees Celsius"))
register(9, "platform_dca_cap", hexadecimal)

register(0x40000004, "hv_spinlock_retries", _spinlock_retries)
register(0x40000004, "hv_physical_address_bits", amount("bits"))
register(0x4000000C, "hv_isolation_type", choice(ISOLATION))
register(0x40000010, "tsc_khz apic_khz", amount("kHz"))
register(0x40000002, "xen_msr_base", hexadecimal)
register(0x40000003, "xen_tsc_mode", choice(TSC_MODES))
register(0x40000003, "xen_guest_tsc_khz xen_host_tsc_khz", amount("kHz"))
register(0x40000003, "xen_vtsc_shift", _signed)
