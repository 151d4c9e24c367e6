"""Exits as a host could have seen them: two vCPUs of a guest, a guest that is gone, addresses in all places, a back-trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vcpuid.cpuid import CpuidTable, Entry, Registers
from vcpuid.software.start import ExitCost
from vcpuid.trace.answer import Traced
from vcpuid.trace.checking import check
from vcpuid.trace.counting import Counting
from vcpuid.trace.exits import Exit, Tally
from vcpuid.trace.guests import Guests, RunningGuest
from vcpuid.trace.objects import CodePlace
from vcpuid.trace.program import ProgramCpuid, ProgramTrace
from vcpuid.trace.symbols import Symbols
from vcpuid.trace.tables import GivenTables

MACHINE = "Some CPU, Linux 6.12, kvm_intel"
LEAF_0, LEAF_1, LEAF_7 = (
    (0, 0, 0, 7, 0x756E6547, 0x6C65746E, 0x49656E69),
    (1, 0, 0, 0x50654, 0x800, 0x77FAF3FF, 0xF8BFBFF),
    (7, 0, 1, 0, 0x20, 0, 0),
)
TABLE = CpuidTable(Entry(*entry) for entry in (LEAF_0, LEAF_1, LEAF_7))
STACK = (0xFFFFFFFF81000010, 0xFFFFFFFF81000120)
HOST = Symbols([(0xFFFFFFFF81000000, "kvm_emulate_cpuid"), (0xFFFFFFFF81000100, "vmx_handle_exit")])
GUEST = Symbols([(0xFFFFFFFF81000000, "_text"), (0xFFFFFFFF81000040, "native_cpuid")])

EXITS = {
    Exit(100, 101, 0, 0, Registers(*LEAF_0[3:]), 0xFFFFFFFF8100005B, STACK): 40,
    Exit(100, 102, 0, 0, Registers(*LEAF_0[3:]), 0x7F0012345678, STACK): 30,
    Exit(100, 101, 1, 0, Registers(0x50654, 0x800, 0x7FFAF3FF, 0xF8BFBFF), 0xF0000, STACK): 20,  # with OSXSAVE
    Exit(100, 102, 7, 0, Registers(0, 0x820, 0, 0)): 10,  # with RTM, which is in no table
    Exit(7, 7, 0x40000000, 0xFF, Registers()): 1,
}
COMMS = {(100, 101): "CPU 0/KVM", (100, 102): "CPU 1/KVM", (7, 7): "\x1b[31mfc_vcpu"}


def guests() -> Guests:
    """Names as they would have been looked up."""
    found = Guests()
    found._guests = {100: RunningGuest(100, "web1"), 7: RunningGuest(7, COMMS[7, 7])}
    found._vcpus = {(100, 101): 0, (100, 102): 1, (7, 7): None}
    return found


def traced(counting: Counting, *_: object, **__: object) -> Traced:
    """Answer in place of `Counting.run`."""
    names = guests()
    checked = None if counting.tables is None else check(EXITS, GivenTables([TABLE, TABLE]), names, "6.12")
    tally = Tally(EXITS, missed=3, lost=2, comms=COMMS)
    return Traced(MACHINE, "BPF", 2.0, tally, counting.by, names, HOST, GUEST, checked, ("a remark",))


def program_trace(command: Sequence[str]) -> ProgramTrace:
    """Answer in place of `stepping`."""
    loader, generated = CodePlace("ld-linux-x86-64.so.2", 0x14644), CodePlace("generated code", 0x10)
    counts = {
        ProgramCpuid("true", loader, 2, 0x44454D41): 12,
        ProgramCpuid("true", loader, 2, 1): 2,
        ProgramCpuid("true", loader, 4, 1): 5,
        ProgramCpuid("java", generated, 0x80000000, 0): 1,
    }
    return ProgramTrace(tuple(command), Counter(counts), execs=2, threads=3, steps=111_641, seconds=1.5)


COST = ExitCost(1000.0, "assumed", "on some machine")
