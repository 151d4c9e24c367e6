"""Hyper-V's leaves, 0x40000000 to 0x40000082: their bits by name, and which of them each enlightenment of QEMU's stands for.

The bits' names follow the "Hypervisor Top Level Functional Specification" (feature discovery), as hyperv-proto.h of QEMU and hyperv-tlfs.h
of Linux shorten them.
"""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.cpuid.text import registers_of
from vcpuid.cpuid.words import Bit, CpuidWord

VENDOR, INTERFACE, VERSION, FEATURES, RECOMMENDATIONS, LIMITS, NESTED = (*range(0x40000000, 0x40000006), 0x4000000A)
DEBUG_VENDOR, DEBUG_INTERFACE, DEBUG_PLATFORM = 0x40000080, 0x40000081, 0x40000082

(HV_1,) = registers_of("Hv#1")
"""EAX of INTERFACE: what follows is Hyper-V's interface, whoever the vendor is."""
(VS_1,) = registers_of("VS#1")
"""EAX of DEBUG_INTERFACE."""
EVMCS_VERSIONS = 0x0101
"""NESTED EAX: the lowest version of enlightened VMCSs and, eight bits up, the highest."""
NO_SPINLOCKS = 0xFFFFFFFF
"""RECOMMENDATIONS EBX, how often to spin before the hypervisor is told of it: never."""

_FEATURES_EAX = CpuidWord(FEATURES, 0, "eax")
VP_RUNTIME = Bit(_FEATURES_EAX, 0)
REFERENCE_COUNTER = Bit(_FEATURES_EAX, 1)
SYNIC = Bit(_FEATURES_EAX, 2)
SYNTIMERS = Bit(_FEATURES_EAX, 3)
APIC_ACCESS = Bit(_FEATURES_EAX, 4)
HYPERCALL = Bit(_FEATURES_EAX, 5)
VP_INDEX = Bit(_FEATURES_EAX, 6)
RESET = Bit(_FEATURES_EAX, 7)
REFERENCE_TSC = Bit(_FEATURES_EAX, 9)
ACCESS_FREQUENCY_MSRS = Bit(_FEATURES_EAX, 11)
ACCESS_REENLIGHTENMENT = Bit(_FEATURES_EAX, 13)
TSC_INVARIANT = Bit(_FEATURES_EAX, 15)

_FEATURES_EBX = CpuidWord(FEATURES, 0, "ebx")
POST_MESSAGES = Bit(_FEATURES_EBX, 4)
SIGNAL_EVENTS = Bit(_FEATURES_EBX, 5)
DEBUGGING = Bit(_FEATURES_EBX, 11)  # as Linux has it; QEMU's header says 12, and does not use it
EXTENDED_HYPERCALLS = Bit(_FEATURES_EBX, 20)

_FEATURES_EDX = CpuidWord(FEATURES, 0, "edx")
GUEST_DEBUGGING = Bit(_FEATURES_EDX, 1)
DYNAMIC_PARTITIONING = Bit(_FEATURES_EDX, 3)
XMM_INPUT = Bit(_FEATURES_EDX, 4)
FREQUENCY_MSRS = Bit(_FEATURES_EDX, 8)
CRASH_MSRS = Bit(_FEATURES_EDX, 10)
DEBUG_MSRS = Bit(_FEATURES_EDX, 11)
EXT_GVA_RANGES_FLUSH = Bit(_FEATURES_EDX, 14)
STIMER_DIRECT_MODE = Bit(_FEATURES_EDX, 19)

_RECOMMENDATIONS_EAX = CpuidWord(RECOMMENDATIONS, 0, "eax")
REMOTE_TLB_FLUSH_RECOMMENDED = Bit(_RECOMMENDATIONS_EAX, 2)
APIC_ACCESS_RECOMMENDED = Bit(_RECOMMENDATIONS_EAX, 3)
RELAXED_TIMING_RECOMMENDED = Bit(_RECOMMENDATIONS_EAX, 5)
DEPRECATING_AEOI_RECOMMENDED = Bit(_RECOMMENDATIONS_EAX, 9)
CLUSTER_IPI_RECOMMENDED = Bit(_RECOMMENDATIONS_EAX, 10)
EX_PROCESSOR_MASKS_RECOMMENDED = Bit(_RECOMMENDATIONS_EAX, 11)
ENLIGHTENED_VMCS_RECOMMENDED = Bit(_RECOMMENDATIONS_EAX, 14)
NO_NONARCH_CORESHARING = Bit(_RECOMMENDATIONS_EAX, 18)

_NESTED_EAX = CpuidWord(NESTED, 0, "eax")
NESTED_DIRECT_FLUSH = Bit(_NESTED_EAX, 17)
NESTED_MSR_BITMAP = Bit(_NESTED_EAX, 19)
NESTED_PERF_GLOBAL_CTRL = Bit(CpuidWord(NESTED, 0, "ebx"), 0)

ALLOW_KERNEL_DEBUGGING = Bit(CpuidWord(DEBUG_PLATFORM, 0, "eax"), 1)


class Enlightenment(NamedTuple):
    """What an hv-* flag of QEMU's stands for: the bits it sets, and the flags it needs."""

    bits: tuple[Bit, ...]
    needs: tuple[str, ...] = ()


# In QEMU's order (HYPERV_FEAT_*), which decides what is complained about first; so is the order of `needs`.
ENLIGHTENMENTS: dict[str, Enlightenment] = {
    "hv-relaxed": Enlightenment((RELAXED_TIMING_RECOMMENDED,)),
    "hv-vapic": Enlightenment((APIC_ACCESS,)),
    "hv-time": Enlightenment((REFERENCE_COUNTER, REFERENCE_TSC)),
    "hv-crash": Enlightenment((CRASH_MSRS,)),
    "hv-reset": Enlightenment((RESET,)),
    "hv-vpindex": Enlightenment((VP_INDEX,)),
    "hv-runtime": Enlightenment((VP_RUNTIME,)),
    "hv-synic": Enlightenment((SYNIC,)),
    "hv-stimer": Enlightenment((SYNTIMERS,), ("hv-time", "hv-synic")),
    "hv-frequencies": Enlightenment((ACCESS_FREQUENCY_MSRS, FREQUENCY_MSRS)),
    "hv-reenlightenment": Enlightenment((ACCESS_REENLIGHTENMENT,)),
    "hv-tlbflush": Enlightenment((REMOTE_TLB_FLUSH_RECOMMENDED, EX_PROCESSOR_MASKS_RECOMMENDED), ("hv-vpindex",)),
    "hv-evmcs": Enlightenment((ENLIGHTENED_VMCS_RECOMMENDED,), ("hv-vapic",)),
    "hv-ipi": Enlightenment((CLUSTER_IPI_RECOMMENDED, EX_PROCESSOR_MASKS_RECOMMENDED), ("hv-vpindex",)),
    "hv-stimer-direct": Enlightenment((STIMER_DIRECT_MODE,), ("hv-stimer",)),
    "hv-avic": Enlightenment((DEPRECATING_AEOI_RECOMMENDED,)),
    "hv-syndbg": Enlightenment((DEBUG_MSRS,), ("hv-relaxed", "hv-synic")),
    "hv-emsr-bitmap": Enlightenment((NESTED_MSR_BITMAP,)),
    "hv-xmm-input": Enlightenment((XMM_INPUT,)),
    "hv-tlbflush-ext": Enlightenment((EXT_GVA_RANGES_FLUSH,), ("hv-tlbflush",)),
    "hv-tlbflush-direct": Enlightenment((NESTED_DIRECT_FLUSH,), ("hv-vapic",)),
}
