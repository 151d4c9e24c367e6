"""KVM_GET_SUPPORTED_HV_CPUID: the Hyper-V that KVM can play for Windows guests (kvm_get_hv_cpuid, Linux arch/x86/kvm/hyperv.c).

The names of the bits are those of the "Hypervisor Top Level Functional Specification".
"""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Snapshot, vendors
from vcpuid.cpuid.words import REGISTERS
from vcpuid.kvm.hardware import module_of
from vcpuid.kvm.module_params import ModuleParams
from vcpuid.params import CMDLINE, Given
from vcpuid.reasons import Ledger, Result, Rule
from vcpuid.releases import Release
from vcpuid.setup import Setup, settled

_SOURCE = "kvm_get_hv_cpuid, arch/x86/kvm/hyperv.c"
_ALWAYS = Rule("kvm.hyperv", "KVM can play Hyper-V to the guest; a VMM that wants it puts these leaves in the guest's table", _SOURCE)
_EVMCS = Rule("kvm.hyperv.evmcs", "kvm_intel lets a nested Hyper-V use enlightened VMCSs", _SOURCE)
_CORES = Rule("kvm.hyperv.core-sharing", "the host runs one thread a core, so virtual processors never share one by surprise", _SOURCE)
_LIMITS = Rule("kvm.hyperv.limits", "as many virtual processors as this KVM was built for", _SOURCE)

_SIGNATURE = vendors.twelve("Linux KVM Hv")
_INTERFACE = int.from_bytes(b"Hv#1", "little")
_DEBUG_INTERFACE = int.from_bytes(b"VS#1", "little")

_FEATURES_EAX = (
    1 << 0  # VP run time
    | 1 << 1  # reference counter
    | 1 << 2  # synthetic interrupt controller
    | 1 << 3  # synthetic timers
    | 1 << 4  # APIC registers
    | 1 << 5  # hypercalls
    | 1 << 6  # VP index
    | 1 << 7  # reset
    | 1 << 9  # reference TSC
    | 1 << 11  # frequencies
    | 1 << 13  # re-enlightenment
)
_TSC_INVARIANT = 1 << 15
_FEATURES_EBX = 1 << 4 | 1 << 5 | 1 << 11  # post messages, signal events, debugging
_EXTENDED_HYPERCALLS = 1 << 20
_FEATURES_EDX = (
    1 << 1  # guest debugging
    | 1 << 4  # hypercall input in XMM registers
    | 1 << 8  # frequency MSRs
    | 1 << 10  # crash MSRs
    | 1 << 11  # debug MSRs
    | 1 << 19  # timers in direct mode
)
_GVA_RANGES_FLUSH = 1 << 14
_HINTS_EAX = (
    1 << 2  # flush remote TLBs by hypercall
    | 1 << 3  # MSRs for the APIC
    | 1 << 5  # relaxed timing
    | 1 << 9  # no automatic end of interrupt
    | 1 << 10  # IPIs by hypercall
    | 1 << 11  # sparse processor sets
)
_HINT_EVMCS = 1 << 14
_HINT_NO_CORE_SHARING = 1 << 18
_SPINLOCK_RETRIES = 0xFFF
_EVMCS_VERSIONS = 0x0101
_NESTED_EAX = 1 << 19  # MSR bitmap
_NESTED_DIRECT_FLUSH = 1 << 17
_NESTED_EBX = 1 << 0  # IA32_PERF_GLOBAL_CTRL in enlightened VMCSs
_MAX_VCPUS_61, _MAX_VCPUS = 1024, 4096


def hyperv_supported(host: Snapshot | Setup, kernel: str | Release | None = None, params: Given | None = None) -> Result:
    """Return what KVM_GET_SUPPORTED_HV_CPUID answers on /dev/kvm; the decisions start from words that are all 0.

    Parameters and errors are those of `vcpuid.kvm.supported`.
    """
    setup = settled(host, kernel=kernel, params=params)
    module = module_of(vendors.linux_kind(setup.host.vendor))
    given = ModuleParams(module, setup)
    release = setup.kernel.number
    newer = release > (6, 1)
    evmcs = module == "kvm_intel" and (release < (7, 3) or bool(given.parameter("nested")))
    smt = given.fact("smt")
    if smt is None:
        smt = _several_threads(setup.host) and "nosmt=force" not in str(setup.params.linux.get(CMDLINE, "")).split()
    limit = given.fact("max_vcpus") or (_MAX_VCPUS if newer else _MAX_VCPUS_61)
    ledger = Ledger()
    rows: dict[int, list[int]] = {
        0x40000000: [0x40000082, *_SIGNATURE],
        0x40000001: [_INTERFACE, 0, 0, 0],
        0x40000002: [0x3839, 0xA0000, 0, 0],
        0x40000003: [
            _FEATURES_EAX | (_TSC_INVARIANT if newer else 0),
            _FEATURES_EBX | (_EXTENDED_HYPERCALLS if newer else 0),
            0,
            _FEATURES_EDX | (_GVA_RANGES_FLUSH if newer else 0),
        ],
        0x40000004: [_HINTS_EAX, _SPINLOCK_RETRIES, 0, 0],
        0x40000005: [0, 64, 0, 0],
        0x40000080: [0, *_SIGNATURE],
        0x40000081: [_DEBUG_INTERFACE, 0, 0, 0],
        0x40000082: [1 << 1, 0, 0, 0],
        0x4000000A: [_NESTED_EAX | (_NESTED_DIRECT_FLUSH if newer else 0), _NESTED_EBX, 0, 0],
    }
    for function, registers in rows.items():
        for register, value in zip(REGISTERS, registers, strict=True):
            ledger.compute(CpuidWord(function, 0, register), 0, value, _ALWAYS)
    hints, nested = CpuidWord(0x40000004, 0, "eax"), CpuidWord(0x4000000A, 0, "eax")
    if evmcs:
        rows[0x40000004][0] = ledger.set(hints, rows[0x40000004][0], _HINT_EVMCS, _EVMCS)
        rows[0x4000000A][0] = ledger.set(nested, rows[0x4000000A][0], _EVMCS_VERSIONS, _EVMCS)
    if not smt:
        rows[0x40000004][0] = ledger.set(hints, rows[0x40000004][0], _HINT_NO_CORE_SHARING, _CORES)
    rows[0x40000005][0] = ledger.compute(CpuidWord(0x40000005, 0, "eax"), 0, limit, _LIMITS)
    table = CpuidTable(Entry(function, 0, 0, *registers) for function, registers in rows.items())
    return Result(table, tuple(ledger.decisions))


def _several_threads(host: Snapshot) -> bool:
    """Whether CPUID tells of several threads on a core, as Linux counts them (leaf 0xB, AMD's 0x8000001E)."""
    raw = host.raw
    if raw.registers(0xB, 1).ebx:
        return raw.registers(0xB, 0).ebx > 1
    if raw.registers(0x80000000).eax >= 0x8000001E and host.vendor in vendors.AMD_AND_HYGON:
        return bool(raw.registers(0x8000001E).ebx >> 8 & 0xFF)
    return False
