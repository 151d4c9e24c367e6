"""KVM_GET_SUPPORTED_HV_CPUID: the Hyper-V that KVM can play for Windows guests (kvm_get_hv_cpuid, Linux arch/x86/kvm/hyperv.c).

Before Linux 5.11 only a vCPU answers it. What is told of such a kernel is what a vCPU answers that has an APIC in the kernel and, on Intel,
was told to use enlightened VMCSs: a VMM that wants these asks in that order.
"""

from __future__ import annotations

from functools import lru_cache

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Snapshot, hyperv, vendors
from vcpuid.cpuid.words import REGISTERS
from vcpuid.kvm.caps import caps
from vcpuid.kvm.hardware import module_of
from vcpuid.kvm.module_params import ModuleParams
from vcpuid.linux.smt import several_threads
from vcpuid.params import CMDLINE, Given
from vcpuid.reasons import Ledger, Result, Rule
from vcpuid.releases import BEFORE_RHEL_9_3, Release
from vcpuid.setup import Setup, settled

_SOURCE = "kvm_get_hv_cpuid, arch/x86/kvm/hyperv.c"
_ALWAYS = Rule("kvm.hyperv", "KVM can play Hyper-V to the guest; a VMM that wants it puts these leaves in the guest's table", _SOURCE)
_EVMCS = Rule(
    "kvm.hyperv.evmcs",
    "kvm_intel offers VMX to guests, and lets a nested Hyper-V use enlightened VMCSs",
    f"{_SOURCE}; nested_get_evmcs_version, arch/x86/kvm/vmx/hyperv.c (evmcs.c before 6.2)",
)
_CORES = Rule("kvm.hyperv.core-sharing", "the host runs one thread a core, so virtual processors never share one by surprise", _SOURCE)
_LIMITS = Rule("kvm.hyperv.limits", "as many virtual processors as this KVM was built for", _SOURCE)

_SIGNATURE = vendors.twelve("Linux KVM Hv")

_FEATURES_EAX = (
    hyperv.VP_RUNTIME.mask
    | hyperv.REFERENCE_COUNTER.mask
    | hyperv.SYNIC.mask
    | hyperv.SYNTIMERS.mask
    | hyperv.APIC_ACCESS.mask
    | hyperv.HYPERCALL.mask
    | hyperv.VP_INDEX.mask
    | hyperv.RESET.mask
    | hyperv.REFERENCE_TSC.mask
    | hyperv.ACCESS_FREQUENCY_MSRS.mask
    | hyperv.ACCESS_REENLIGHTENMENT.mask
)
_FEATURES_EBX = hyperv.POST_MESSAGES.mask | hyperv.SIGNAL_EVENTS.mask | hyperv.DEBUGGING.mask
_FEATURES_EDX = (
    hyperv.GUEST_DEBUGGING.mask
    | hyperv.FREQUENCY_MSRS.mask
    | hyperv.CRASH_MSRS.mask
    | hyperv.DEBUG_MSRS.mask
    | hyperv.STIMER_DIRECT_MODE.mask
)
_HINTS_EAX = (
    hyperv.REMOTE_TLB_FLUSH_RECOMMENDED.mask
    | hyperv.APIC_ACCESS_RECOMMENDED.mask
    | hyperv.RELAXED_TIMING_RECOMMENDED.mask
    | hyperv.CLUSTER_IPI_RECOMMENDED.mask
    | hyperv.EX_PROCESSOR_MASKS_RECOMMENDED.mask
)
_SPINLOCK_RETRIES = 0xFFF
_MAX_VCPUS = ((6, 8), 4096), ((5, 15), 1024), ((5, 10), 288)
"""By the first kernel with tables that is so: 4096 as Debian and Ubuntu configure it (CONFIG_KVM_MAX_NR_VCPUS), the others before there was
a choice."""
_MOST_VCPUS = {"4.18": 2048, "5.14-el9_4": 4096}
"""Distributions' kernels that have another, or took the choice over."""


def hyperv_supported(host: Snapshot | Setup, kernel: str | Release | None = None, params: Given | None = None) -> Result:
    """Return what KVM_GET_SUPPORTED_HV_CPUID answers on /dev/kvm; the decisions start from words that are all 0.

    Parameters and errors are those of `vcpuid.kvm.supported`.
    """
    setup = settled(host, kernel=kernel, params=params)
    module = module_of(vendors.linux_kind(setup.host.vendor))
    given = ModuleParams.of(module, setup)
    release = setup.kernel.number
    evmcs = module == "kvm_intel" and caps(setup).has("VMX")
    smt = given.fact("smt")
    if smt is None:
        smt = several_threads(setup.host) and "nosmt=force" not in str(setup.params.linux.get(CMDLINE, "")).split()
    limit = given.fact("max_vcpus") or _MOST_VCPUS.get(setup.kernel.tables) or next(most for since, most in _MAX_VCPUS if release >= since)
    return _answer(release, setup.kernel.tables, limit, evmcs=evmcs, smt=bool(smt))


@lru_cache(maxsize=64)
def _answer(release: tuple[int, int], tables: str, limit: int, *, evmcs: bool, smt: bool) -> Result:
    """Answer by all that the answer hangs on."""
    newer, describes_nested = release > (6, 1), release >= (6, 1)
    ledger = Ledger()
    rows: dict[int, list[int]] = {
        hyperv.VENDOR: [hyperv.DEBUG_PLATFORM, *_SIGNATURE],
        hyperv.INTERFACE: [hyperv.HV_1, 0, 0, 0],
        hyperv.VERSION: [0x3839, 0xA0000, 0, 0],
        hyperv.FEATURES: [
            _FEATURES_EAX | (hyperv.TSC_INVARIANT.mask if newer else 0),
            _FEATURES_EBX | (hyperv.EXTENDED_HYPERCALLS.mask if newer else 0),
            0,
            _FEATURES_EDX
            | (hyperv.XMM_INPUT.mask if release > (5, 10) else 0)
            | (hyperv.EXT_GVA_RANGES_FLUSH.mask if newer or tables == "4.18" else 0),
        ],
        hyperv.RECOMMENDATIONS: [
            _HINTS_EAX | (hyperv.DEPRECATING_AEOI_RECOMMENDED.mask if release > (5, 10) else 0),
            _SPINLOCK_RETRIES,
            0,
            0,
        ],
        hyperv.LIMITS: [0, 64, 0, 0],
        hyperv.DEBUG_VENDOR: [0, *_SIGNATURE],
        hyperv.DEBUG_INTERFACE: [hyperv.VS_1, 0, 0, 0],
        hyperv.DEBUG_PLATFORM: [hyperv.ALLOW_KERNEL_DEBUGGING.mask, 0, 0, 0],
        hyperv.NESTED: [
            (hyperv.NESTED_MSR_BITMAP.mask if describes_nested else 0) | (hyperv.NESTED_DIRECT_FLUSH.mask if newer else 0),
            hyperv.NESTED_PERF_GLOBAL_CTRL.mask if describes_nested and tables not in ("4.18", *BEFORE_RHEL_9_3) else 0,
            0,
            0,
        ],
    }
    if not evmcs and not describes_nested:
        del rows[hyperv.NESTED]
    for function, registers in rows.items():
        for register, value in zip(REGISTERS, registers, strict=True):
            ledger.compute(CpuidWord(function, 0, register), 0, value, _ALWAYS)
    hints, nested = CpuidWord(hyperv.RECOMMENDATIONS, 0, "eax"), CpuidWord(hyperv.NESTED, 0, "eax")
    evmcs_hint, no_sharing_hint = hyperv.ENLIGHTENED_VMCS_RECOMMENDED.mask, hyperv.NO_NONARCH_CORESHARING.mask
    if evmcs:
        rows[hyperv.RECOMMENDATIONS][0] = ledger.set(hints, rows[hyperv.RECOMMENDATIONS][0], evmcs_hint, _EVMCS)
        rows[hyperv.NESTED][0] = ledger.set(nested, rows[hyperv.NESTED][0], hyperv.EVMCS_VERSIONS, _EVMCS)
    if not smt:
        rows[hyperv.RECOMMENDATIONS][0] = ledger.set(hints, rows[hyperv.RECOMMENDATIONS][0], no_sharing_hint, _CORES)
    rows[hyperv.LIMITS][0] = ledger.compute(CpuidWord(hyperv.LIMITS, 0, "eax"), 0, limit, _LIMITS)
    table = CpuidTable(Entry(function, 0, 0, *registers) for function, registers in rows.items())
    return Result(table, tuple(ledger.decisions))
