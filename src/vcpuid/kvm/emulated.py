"""KVM_GET_EMULATED_CPUID: what KVM's instruction emulator does though the CPU may not (cpuid_func_emulated, arch/x86/kvm/cpuid.c)."""

from __future__ import annotations

from vcpuid.cpuid import SIGNIFICANT_INDEX, CpuidTable, CpuidWord, Entry, Snapshot, bits
from vcpuid.kvm.caps import loaded
from vcpuid.params import Given
from vcpuid.reasons import Ledger, Result, Rule
from vcpuid.releases import Release
from vcpuid.setup import Setup, settled

_SOURCE = "cpuid_func_emulated, arch/x86/kvm/cpuid.c"
_LIMIT = Rule("kvm.emulated.limit", "the last leaf in which KVM emulates anything", _SOURCE)
_MOVBE = Rule("kvm.emulated.movbe", "KVM's emulator executes MOVBE for guests on a CPU without it", _SOURCE)
_RDPID = Rule("kvm.emulated.rdpid", "KVM's emulator executes RDPID wherever RDTSCP is there", _SOURCE)

_LAST = 7


def emulated(host: Snapshot | Setup, kernel: str | Release | None = None, params: Given | None = None) -> Result:
    """Return what KVM_GET_EMULATED_CPUID answers on a host; the decisions start from words that are all 0.

    Parameters and errors are those of `vcpuid.kvm.supported`.
    """
    ledger = Ledger()
    last = ledger.compute(CpuidWord(0, 0, "eax"), 0, _LAST, _LIMIT)
    movbe = ledger.set(CpuidWord(1, 0, "ecx"), 0, bits.MOVBE.mask, _MOVBE)
    offers_rdtscp = loaded(settled(host, kernel=kernel, params=params)).has("RDTSCP")
    rdpid = ledger.set(CpuidWord(7, 0, "ecx"), 0, bits.RDPID.mask, _RDPID) if offers_rdtscp else 0
    table = CpuidTable((Entry(0, 0, 0, last, 0, 0, 0), Entry(1, 0, 0, 0, 0, movbe, 0), Entry(7, 0, SIGNIFICANT_INDEX, 0, 0, rdpid, 0)))
    return Result(table, tuple(ledger.decisions))
