"""IA32_PERF_CAPABILITIES (0x345) as KVM offers it (vmx_get_perf_capabilities, Linux arch/x86/kvm/vmx/vmx.c)."""

from __future__ import annotations

from vcpuid.cpuid import MsrWord, bits
from vcpuid.kvm.hardware import Hardware
from vcpuid.kvm.pmu import asks_perf
from vcpuid.linux import BootCpu
from vcpuid.reasons import Ledger, Rule
from vcpuid.releases import BEFORE_RHEL_9_3, BEFORE_RHEL_9_5

WORD = MsrWord(0x345)

_SOURCE = "vmx_get_perf_capabilities, arch/x86/kvm/vmx/vmx.c"
NO_PMU = Rule(
    "kvm.perf-cap.no-pmu", "KVM has no PMU to offer, or on AMD none with this MSR", _SOURCE,
    "load kvm with enable_pmu=1, on a host with a PMU",
)  # fmt: skip
FULL_WIDTH = Rule("kvm.perf-cap.full-width", "KVM's counters take writes of their full width", _SOURCE)
NO_LBR = Rule("kvm.perf-cap.no-lbr", "perf cannot switch this processor's last branch records for guests", _SOURCE, since="6.1")
NO_PEBS = Rule("kvm.perf-cap.no-pebs", "perf cannot run a guest's PEBS on this processor", _SOURCE, since="6.1")
NOT_LISTED = Rule("kvm.perf-cap.not-listed", "KVM's PMU does not have it", _SOURCE)

_LBR_FORMAT = 0x3F
_PEBS_FORMAT = 0xF00
_PEBS = 1 << 6 | 1 << 7 | _PEBS_FORMAT  # what traps, which registers are recorded, the records' format
_PEBS_BASELINE = 1 << 14  # records of chosen parts, which guests may not have since a mend of April 2024
_PEBS_TIMING = 1 << 17

_LBR_WITH_CALLS = frozenset(
    {
        0x3C, 0x3F, 0x45, 0x46,  # Haswell
        0x3D, 0x47, 0x4F, 0x56,  # Broadwell
        0x4E, 0x55, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6,  # Skylake to Comet Lake
        0x6A, 0x6C, 0x7D, 0x7E, 0x8C, 0x8D, 0xA7,  # Ice Lake to Rocket Lake
        0x5C, 0x5F, 0x7A, 0x86, 0x96, 0x9C,  # Goldmont to Tremont
    }
)  # fmt: skip
"""Models of family 6 whose last branch records can follow calls (intel_pmu_lbr_init_hsw and _skl, called by intel_pmu_init)."""

_LBR_WITHOUT = frozenset(
    {
        0x0F, 0x16, 0x17, 0x1D,  # Core 2
        0x1A, 0x1E, 0x2E, 0x25, 0x2C, 0x2F,  # Nehalem, Westmere
        0x2A, 0x2D, 0x3A, 0x3E,  # Sandy Bridge, Ivy Bridge
        0x1C, 0x26, 0x27, 0x35, 0x36, 0x37, 0x4A, 0x4C, 0x4D, 0x5A,  # Atoms
        0x57, 0x85,  # Xeon Phi
    }
)  # fmt: skip
"""Models whose records cannot."""


def offered(boot: BootCpu, hardware: Hardware, hardware_value: int, ledger: Ledger) -> int:
    """Return the MSR that KVM offers where the hardware's is `hardware_value`, 0 where the processor has none.

    A KVM that does not ask perf what it may lend passes the records' format on as it is.
    """
    asks = asks_perf(boot.number, boot.kernel)
    wanted = "pmu" in hardware.on if asks else switched_on(boot, hardware)
    if hardware.module != "kvm_intel" or not wanted:
        return ledger.clear(WORD, hardware_value, hardware_value, NO_PMU)
    pebs = _PEBS | (_PEBS_TIMING if boot.number >= (6, 18) else 0)
    if boot.kernel in BEFORE_RHEL_9_5 and hardware_value & _PEBS_FORMAT:
        pebs |= _PEBS_BASELINE
    listed = (_LBR_FORMAT if boot.number > (5, 10) else 0) | (pebs if asks else 0) | bits.FULL_WIDTH_WRITE.mask
    value = hardware_value if boot.has("PDCM") else ledger.clear(WORD, hardware_value, hardware_value, NOT_LISTED, bits.PDCM)
    value = ledger.keep(WORD, value, listed, NOT_LISTED)
    value = ledger.set(WORD, value, bits.FULL_WIDTH_WRITE.mask, FULL_WIDTH)
    if not asks:
        return value
    if boot.kernel not in BEFORE_RHEL_9_3 and not _switches_lbr(boot, hardware):
        value = ledger.clear(WORD, value, _LBR_FORMAT, NO_LBR)
    if "pebs" not in hardware.on:
        value = ledger.clear(WORD, value, pebs, NO_PEBS)
    return value


def switched_on(boot: BootCpu, hardware: Hardware) -> bool:
    """Whether a KVM that does not ask perf offers the MSR: before 5.17 it has no parameter that would keep it away."""
    return boot.number < (5, 17) or bool(hardware.params.parameter("enable_pmu"))


def _switches_lbr(boot: BootCpu, hardware: Hardware) -> bool:
    """Whether perf has last branch records that KVM can lend: not the architectural ones, since 6.12 those that follow calls alone."""
    if boot.family != 6 or boot.has("ARCH_LBR") or hardware.params.parameter("enable_mediated_pmu"):
        return False
    callless = boot.number < (6, 12) and boot.kernel != "5.14-el9_5"
    return boot.model in _LBR_WITH_CALLS or (callless and boot.model in _LBR_WITHOUT)
