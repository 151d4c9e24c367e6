"""Made-up tables against the real KVM_SET_CPUID2: which of them it takes, what it keeps, what CPUID then answers in a guest.

A KVM that is not one of Linux's own modules may rewrite leaves as it likes (kvm_pvm does). Which ones, it is asked at the start, with
tables of one entry; they are left out when what is kept is compared. Answers in the guest are held to what was really kept.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

from fuzz import hosts
from fuzz.seeds import host, machines
from fuzz.target import Case, Target, hold
from vcpuid import kvm, sources
from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import KvmError, UnavailableError
from vcpuid.live import tiny_guest
from vcpuid.live.kvm_device import Kvm

_OWN_MODULES = ("kvm_intel", "kvm_amd")
_FLAGS = (0, 0, 1, 1, 2, 4, 6, 7)


def missing() -> str | None:
    """Say why there is no KVM to ask."""
    try:
        Kvm().close()
    except UnavailableError as lack:
        return str(lack)
    return None


@cache
def _here() -> Snapshot:
    return sources.read("kvm")


@cache
def _rewritten() -> frozenset[int]:
    """Leaves that this KVM changes by rules of its own: none of Linux's does."""
    if any(Path("/sys/module", module).exists() for module in _OWN_MODULES):
        return frozenset()
    return frozenset(function for function in hosts.FUNCTIONS if any(_changes(function, value) for value in (0, 1, 0xFFFFFFFF)))


def _changes(function: int, value: int) -> bool:
    told = 0x3030 if function == 0x80000008 else value
    table = CpuidTable([Entry(function, 0, 1, told, value, value, value)])
    try:
        return _set(table)[1] != kvm.set_cpuid(table, host=_here()).table
    except KvmError:
        return True


def _set(table: CpuidTable) -> tuple[int, CpuidTable]:
    """Give a table to a real vCPU; returns errno, 0 where it was taken, and what is kept."""
    with Kvm() as device, device.create_vm() as machine, machine.create_vcpu() as vcpu:
        try:
            vcpu.set_cpuid(table)
        except KvmError as refusal:
            return refusal.errno, CpuidTable()
        return 0, vcpu.get_cpuid()


def _modelled(table: CpuidTable, apic: bool = True) -> tuple[int, CpuidTable]:
    try:
        return 0, kvm.set_cpuid(table, host=_here(), apic=apic).table
    except KvmError as refusal:
        return refusal.errno, CpuidTable()


def _register(random: Random) -> int:
    return random.choice((0, 0xFFFFFFFF, random.getrandbits(32), random.getrandbits(8), 1 << random.randrange(32)))


def _table(random: Random) -> list[Entry]:
    if random.random() < 0.5:
        count = random.choice((0, 1, 2, 5, 20, 60, 120, 255, 256, 257, 300, 4096))
        return [_entry(random) for _ in range(count)]
    entries = list(host(random.choice(machines())).supported or ())
    for _ in range(random.choice((0, 1, 3, 10)) if entries else 0):
        place, kind = random.randrange(len(entries)), random.randrange(6)
        entry = entries[place]
        if kind == 0 and len(entries) > 1:
            del entries[place]
        elif kind == 1:
            entries[place] = entry._replace(**{random.choice(("eax", "ebx", "ecx", "edx")): _register(random)})
        elif kind == 2:
            entries.insert(random.randrange(len(entries) + 1), entry)
        elif kind == 3:
            entries[place] = entry._replace(flags=random.choice((*_FLAGS, 0xFFFFFFFF)))
        elif kind == 4:
            entries[place] = entry._replace(index=random.getrandbits(random.choice((1, 3, 32))))
        else:
            entries[place] = entry._replace(function=random.choice(hosts.FUNCTIONS))
    if random.random() < 0.2:
        random.shuffle(entries)
    return entries


def _entry(random: Random) -> Entry:
    function = random.choice(hosts.FUNCTIONS) if random.random() < 0.8 else random.getrandbits(32)
    index = random.choice((0, 0, 1, 2, 3, random.getrandbits(32)))
    return Entry(function, index, random.choice((*_FLAGS, random.getrandbits(32))), *(_register(random) for _ in range(4)))


def make(random: Random) -> Case:
    """Make a table, and the leaves that a guest with it asks for; every fourth is asked, since a guest takes time."""
    table = _table(random)
    asked: list[list[int]] = []
    if random.random() < 0.25:
        asked = [[entry.function, entry.index] for entry in table[:40]]
        asked += [[random.choice(hosts.FUNCTIONS), random.choice((0, 1, 2, 5))] for _ in range(10)]
        asked += [[random.getrandbits(32), random.getrandbits(3)] for _ in range(5)]
    return {"table": [list(entry) for entry in table], "asked": asked, "mode": random.choice((16, 32)), "apic": random.random() < 0.8}


def check(case: Case) -> str:
    """Hold the real vCPU and the modelled one side by side."""
    table = CpuidTable(Entry(*entry) for entry in case["table"])
    (modelled, expected), (errno, kept) = _modelled(table), _set(table)
    hold(errno == modelled, "KVM_SET_CPUID2 takes what the model takes", f"errno {errno}, modelled {modelled}")
    if errno:
        return f"errno {errno}"
    left_out = _rewritten()
    held = [[entry for entry in side if entry.function not in left_out] for side in (kept, expected)]
    hold(held[0] == held[1], "KVM keeps what the model keeps", _difference(*held))
    if not case.get("asked"):
        return "kept"
    leaves = [(function, index) for function, index in case["asked"]]
    if (errno := _modelled(table, case["apic"])[0]) != 0:
        return _refused_state(table, errno, case)
    reading = tiny_guest.read_cpuid(table, leaves, case["mode"], apic=case["apic"])
    for place, registers in reading.seen.items():
        answer = kvm.lookup(reading.kept, *place, kernel=_here().kernel)
        hold(answer == registers, "CPUID answers as the model looks it up", f"{place[0]:x}.{place[1]:x}: {registers}, modelled {answer}")
    return "kept and asked"


def _refused_state(table: CpuidTable, errno: int, case: Case) -> str:
    """KVM refuses a vCPU's registers where the model does."""
    real = 0
    try:
        tiny_guest.read_cpuid(table, [(0, 0)], case["mode"], apic=case["apic"])
    except KvmError as refusal:
        real = refusal.errno
    hold(real == errno, "KVM takes the registers that the model takes", f"errno {real}, modelled {errno}")
    return f"kept, registers refused with errno {real}"


def _difference(real: list[Entry], modelled: list[Entry]) -> str:
    if len(real) != len(modelled):
        return f"{len(real)} entries, modelled {len(modelled)}"
    return next((f"{one}, modelled {other}" for one, other in zip(real, modelled, strict=True) if one != other), "")


TARGET = Target("vcpu", "made-up tables for the real KVM_SET_CPUID2", make, check, missing, share=1.0)
