"""Why a register of QEMU's table is what it is, where no feature word decides it; and the pass that accounts for each of them."""

from __future__ import annotations

from collections.abc import Iterable

from vcpuid.cpuid.registers import CpuidTable
from vcpuid.cpuid.words import REGISTERS, CpuidWord, Register, Word
from vcpuid.qemu.state import CpuState
from vcpuid.reasons import Decision, Ledger, Rule, replay

_CPUID = "cpu_x86_cpuid, target/i386/cpu.c"
_BUILD = "kvm_x86_build_cpuid, target/i386/kvm/kvm.c"
_INIT = "kvm_arch_init_vcpu, target/i386/kvm/kvm.c"

ABSENT = Rule(
    "qemu.leaf.absent", "QEMU gives the guest no such leaf", _BUILD, remedy="set a higher level or xlevel, where QEMU knows the leaf"
)
RANGE = Rule(
    "qemu.leaf.range",
    "the CPU model, the features in force and the properties level and xlevel decide which leaf is the last",
    _CPUID,
    remedy="set level=…, xlevel=… or min-level=…",
)
VENDOR = Rule("qemu.leaf.vendor", "the CPU model, or the property vendor, names the maker", _CPUID, remedy="set vendor=…")
SIGNATURE = Rule(
    "qemu.leaf.signature",
    "family, model and stepping are the CPU model's, or those given as properties",
    _CPUID,
    remedy="set family=…, model=… and stepping=…",
)
UNKNOWN = Rule("qemu.leaf.unknown", "this QEMU knows no feature of this register and leaves it zero", _CPUID, remedy="use a newer QEMU")
MODEL_ID = Rule("qemu.leaf.model-id", "the name is the CPU model's, or the property model-id", _CPUID, remedy="set model-id=…")
TOPOLOGY = Rule(
    "qemu.leaf.topology",
    "-smp decides which threads, cores and packages the guest sees",
    "x86_topo_ids_from_idx, include/hw/i386/topology.h",
    remedy="set -smp sockets=…,cores=…,threads=…",
)
CACHE = Rule(
    "qemu.leaf.cache",
    "caches are the CPU model's, legacy ones, or with host-cache-info the host's",
    f"x86_cpu_realizefn and {_CPUID}",
    remedy="set host-cache-info=on with -cpu host or max",
)
XSAVE = Rule(
    "qemu.leaf.xsave",
    "the state components follow from the features in force, sizes and offsets from the host",
    f"xsave_area_size and {_CPUID}",
)
MWAIT = Rule("qemu.leaf.mwait", "QEMU says of MWAIT only that it wakes on interrupts", _CPUID)
PMU = Rule("qemu.leaf.pmu", "performance counters are KVM's with pmu=on, else none", _CPUID, remedy="set pmu=on")
SGX = Rule("qemu.leaf.sgx", "SGX is KVM's, less what the feature words lack; there is no EPC section", _CPUID)
PT = Rule("qemu.leaf.processor-trace", "QEMU offers one fixed Processor Trace, so that guests can be migrated", _CPUID)
AMX = Rule("qemu.leaf.amx", "QEMU offers the tiles of a Sapphire Rapids, whatever the host has", _CPUID)
AVX10 = Rule("qemu.leaf.avx10", "AVX10's version is the CPU model's or the host's, whichever is lower", _CPUID)
ADDRESSES = Rule(
    "qemu.leaf.address-bits", "phys-bits, host-phys-bits and la57 decide the address widths", _CPUID, remedy="set host-phys-bits=on"
)
SVM = Rule("qemu.leaf.svm", "QEMU gives nested guests 16 address space ids", _CPUID)
HYPERV = Rule(
    "qemu.leaf.hyper-v",
    "hv-* properties make the guest see Hyper-V, with KVM's own leaves moved to 0x40000100",
    "hyperv_fill_cpuids, target/i386/kvm/kvm.c",
)
KVM = Rule("qemu.leaf.kvm", "QEMU writes KVM's signature itself, none with kvm=off", _INIT, remedy="set kvm=on")
FREQUENCY = Rule(
    "qemu.leaf.tsc-frequency", "the guest is told a TSC frequency that is known and does not change", _INIT, remedy="add +invtsc"
)

_BY_LEAF: dict[int, Rule] = {
    0x2: CACHE, 0x4: CACHE, 0x80000005: CACHE, 0x80000006: CACHE, 0x8000001D: CACHE,
    0x5: MWAIT, 0xA: PMU, 0x80000022: PMU, 0x1C: PMU, 0xB: TOPOLOGY, 0x1F: TOPOLOGY, 0x8000001E: TOPOLOGY,
    0xD: XSAVE, 0x12: SGX, 0x14: PT, 0x1D: AMX, 0x1E: AMX, 0x24: AVX10, 0x8000000A: SVM, 0x40000010: FREQUENCY,
    0x80000002: MODEL_ID, 0x80000003: MODEL_ID, 0x80000004: MODEL_ID, 0xC0000000: RANGE,
}  # fmt: skip
_BY_REGISTER: dict[tuple[int, Register], Rule] = {
    (0x0, "eax"): RANGE, (0x0, "ebx"): VENDOR, (0x0, "ecx"): VENDOR, (0x0, "edx"): VENDOR,
    (0x80000000, "eax"): RANGE, (0x80000000, "ebx"): VENDOR, (0x80000000, "ecx"): VENDOR, (0x80000000, "edx"): VENDOR,
    (0x1, "eax"): SIGNATURE, (0x80000001, "eax"): SIGNATURE, (0xC0000001, "eax"): SIGNATURE, (0x1, "ebx"): TOPOLOGY,
    (0x1, "ecx"): PMU, (0x1, "edx"): TOPOLOGY, (0x80000001, "ecx"): TOPOLOGY, (0x7, "ebx"): SGX, (0x7, "ecx"): SGX,
    (0x7, "eax"): RANGE, (0x80000008, "eax"): ADDRESSES, (0x80000008, "ecx"): TOPOLOGY,
}  # fmt: skip


def rule_for(word: CpuidWord, present: bool, hyperv: bool) -> Rule:
    """Name the rule behind a register that no feature word accounts for; `present` tells whether the table has the leaf at all."""
    if not present:
        return ABSENT
    if 0x40000000 <= word.function < 0x40000200 and word.function not in _BY_LEAF:
        return HYPERV if hyperv and word.function < 0x40000100 else KVM
    by_register = _BY_REGISTER.get((word.function, word.register)) if word.index == 0 else None
    return by_register or _BY_LEAF.get(word.function, UNKNOWN)


def account(supported: CpuidTable, state: CpuState, table: CpuidTable) -> tuple[Decision, ...]:
    """Extend the decisions on feature words so that they lead from what KVM supports to the table, register by register."""
    decided = replay(_given(supported, state.decisions), state.decisions)
    before, after = supported.by_key(), table.by_key()
    hyperv = (0x40000100, 0) in after or (0x40000002, 0) in after
    touched = {(word.function, word.index) for word in decided if isinstance(word, CpuidWord)}
    ledger = Ledger()
    for place in sorted(before.keys() | after.keys() | touched):
        had, has = before.get(place), after.get(place)
        if place not in touched and had is not None and has is not None and had[3:] == has[3:]:
            continue
        for number, register in enumerate(REGISTERS, 3):
            word = CpuidWord(*place, register)
            was = decided.get(word, had[number] if had else 0)
            now = has[number] if has else 0
            if was != now:
                ledger.compute(word, was, now, rule_for(word, has is not None, hyperv))
    return (*state.decisions, *ledger.decisions)


def _given(supported: CpuidTable, decisions: Iterable[Decision]) -> dict[Word, int]:
    """The words that decisions are about, as KVM supports them."""
    return {decision.word: supported.word(decision.word) for decision in decisions if isinstance(decision.word, CpuidWord)}
