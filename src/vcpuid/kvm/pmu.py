"""The PMU that perf offers to KVM (kvm_init_pmu_capability, Linux arch/x86/kvm/pmu.h, since 6.18 pmu.c; perf's side in arch/x86/events).

perf finds its counters with MSRs that no snapshot holds. Whether it has any at all is told by the first of:

* the parameters `enable_pmu` of kvm and `pmu`;
* Intel: bit 13 (full-width writes) of feature MSR 0x345, which KVM sets if and only if it has a PMU (vmx_get_perf_capabilities), under
  another kernel too where that knows the model no otherwise;
* a host that is itself a guest of QEMU without KVM, which has no counters;
* else CPUID: leaf 0xA with ARCH_PERFMON (Intel), any AMD processor.
"""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.cpuid import Snapshot, bits, hypervisor_name
from vcpuid.cpuid.vendors import TCG, design_of
from vcpuid.kvm.module_params import ModuleParams
from vcpuid.linux import BootCpu
from vcpuid.linux.boot import booted
from vcpuid.releases import BEFORE_RHEL_9_2, BEFORE_RHEL_9_3, number
from vcpuid.setup import Setup

_PERF_CAPABILITIES = 0x345
_FULL_WIDTH_WRITES = bits.FULL_WIDTH_WRITE.mask
_VERSION_LIMIT = 2
_FIXED_LIMIT = 3
_INTEL_LIMIT = 8
_AMD_LEGACY = 4
_AMD_CORE = 6

_NEHALEM = ((6, 0x1A), (6, 0x1E), (6, 0x2E))
"""Family and model of Nehalem-EP, Nehalem and Nehalem-EX."""
_NO_BRANCH_MISSES = 1 << 6
"""Leaf 0xA EBX: the event of mispredicted branches is not available. Nehalem says so (erratum AAJ80), and perf counts another event in its
place and takes the bit away (intel_nehalem_quirk, arch/x86/events/intel/core.c)."""

_HYBRID = frozenset((6, model) for model in (0x97, 0x9A, 0xAA, 0xAC, 0xB5, 0xB7, 0xBA, 0xBD, 0xBF, 0xC5, 0xC6, 0xCC))
"""Processors of two kinds of cores, Alder Lake to Panther Lake: a kernel that knows the model has no counters for KVM, whatever CPUID says
of hybrids (perf_get_x86_pmu_capability); one that does not takes it for any other."""

_PEBS_EPT = (
    ((6, 0x6A), "6.1"),  # Ice Lake-X
    ((6, 0x6C), "6.1"),  # Ice Lake-D
    ((6, 0x8F), "6.6"),  # Sapphire Rapids
    ((6, 0xCF), "6.6"),  # Emerald Rapids
    ((6, 0xAD), "6.6"),  # Granite Rapids
    ((6, 0xAE), "6.6"),  # Granite Rapids-D
    ((19, 0x01), "7.1"),  # Diamond Rapids
)
"""Family and model of processors whose PEBS writes through EPT, and the kernel since which intel_pmu_init says so."""


class Pmu(NamedTuple):
    """struct x86_pmu_capability after KVM's limits: version, counters and their width in bits, unavailable events and their number."""

    version: int = 0
    counters: int = 0
    fixed: int = 0
    width: int = 0
    events: int = 0
    events_length: int = 0


NONE = Pmu()
"""What is left where KVM offers no PMU (enable_pmu off)."""


def asks_perf(number: tuple[int, int], tables: str) -> bool:
    """Whether KVM asks perf, when it is loaded, whether there is a PMU and what of it guests may have: since 5.17, and RHEL 9.2."""
    return number >= (5, 17) and tables not in ("4.18", *BEFORE_RHEL_9_2)


def pmu(setup: Setup, boot: BootCpu, params: ModuleParams) -> Pmu:
    """Return the PMU as KVM has it, NONE where it has none."""
    host = setup.host
    hybrid = boot.has("HYBRID_CPU") and asks_perf(boot.number, boot.kernel) and boot.kernel not in BEFORE_RHEL_9_3
    refused = boot.number >= (5, 17) and (not params.parameter("enable_pmu") or hybrid)
    if refused or not _present(setup, boot, params):
        return NONE
    found = _amd(host, boot, params) if design_of(boot.vendor) == "amd" else _intel(host, boot, params)
    if not found.counters or (boot.vendor == "intel" and not found.version):
        return NONE
    return found


def pebs_ept(boot: BootCpu, params: ModuleParams) -> bool:
    """Whether perf can run a guest's PEBS: the CPU writes its records through EPT."""
    given = params.fact("pebs_ept")
    if given is not None:
        return bool(given)
    model = (boot.family, boot.model)
    return any(model == known and boot.number >= number(since) for known, since in _PEBS_EPT)


def _present(setup: Setup, boot: BootCpu, params: ModuleParams) -> bool:
    given = params.fact("pmu")
    if given is not None:
        return bool(given)
    if boot.vendor == "intel":
        for told in (_told_as_it_ran(setup), _told(setup)):
            if told is not None:
                return bool(told & _FULL_WIDTH_WRITES)
    return not _under_tcg(setup.host)


def _told(setup: Setup) -> int | None:
    """Return the MSR as KVM told it; None where it told none, and of Linux before 5.17, whose KVM sets the bit without asking perf."""
    return setup.host.msrs.get(_PERF_CAPABILITIES) if asks_perf(setup.kernel.number, setup.kernel.tables) else None


def _told_as_it_ran(setup: Setup) -> int | None:
    """Return the MSR as KVM told it under another kernel; None where it told none, or where that says nothing of this one."""
    if setup.ran is None:
        return None
    boot = booted(setup.ran)
    told = _told(setup.ran)
    switched_off = not told and not ModuleParams.of("kvm_intel", setup.ran).parameter("enable_pmu")
    return None if switched_off or (boot.family, boot.model) in _HYBRID else told


def _under_tcg(host: Snapshot) -> bool:
    """Whether leaf 0x40000000 (EBX, ECX, EDX) names QEMU's own emulator, which has no counters."""
    return hypervisor_name(host.raw.registers(0x40000000)) == TCG


def _intel(host: Snapshot, boot: BootCpu, params: ModuleParams) -> Pmu:
    if not boot.has("ARCH_PERFMON"):
        return NONE
    eax, ebx, ecx, edx = host.raw.registers(0xA)
    version = eax & 0xFF
    fixed = 0
    if version > 1:
        named = edx & 0x1F
        fixed = ecx.bit_count() if version >= 5 and ecx and boot.number > (5, 10) else max(named, 0 if boot.has("HYPERVISOR") else 3)
    counters = params.fact("pmu_counters")
    if counters is None:
        counters = eax >> 8 & 0xFF
    if boot.number > (6, 1):
        counters = min(counters, _INTEL_LIMIT)
    if (boot.family, boot.model) in _NEHALEM:
        ebx &= ~_NO_BRANCH_MISSES
    return Pmu(min(version, _VERSION_LIMIT), counters, min(fixed, _FIXED_LIMIT), eax >> 16 & 0xFF, ebx, eax >> 24)


def _amd(host: Snapshot, boot: BootCpu, params: ModuleParams) -> Pmu:
    second = boot.has("PERFMON_V2")
    counters = params.fact("pmu_counters")
    if counters is None and second:
        counters = host.raw.registers(0x80000022).ebx & 0xF
    elif counters is None:
        counters = _AMD_CORE if boot.has("PERFCTR_CORE") else _AMD_LEGACY
    if boot.number > (6, 1):
        if counters < _AMD_LEGACY:
            return NONE
        counters = _AMD_LEGACY if counters < _AMD_CORE else _AMD_CORE
    return Pmu(version=2 if second else 0, counters=counters)
