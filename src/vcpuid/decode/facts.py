"""What several fields say together: frequencies, widths of addresses, PMU, and what encloses, traces, encrypts.

Each fact is a function of the table, registered under its topic; it gives nothing where the processor lacks the thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from vcpuid.cpuid import bits
from vcpuid.cpuid.registers import CpuidTable
from vcpuid.decode.parties import parties


class Frequencies(NamedTuple):
    """Frequencies in Hz, None where no leaf tells.

    Where leaf 0x15 leaves the crystal's out, `tsc` is the base frequency of leaf 0x16 and `about`: that leaf's are rounded to MHz.
    """

    tsc: int | None = None
    crystal: int | None = None
    base: int | None = None
    most: int | None = None
    bus: int | None = None
    source: str = ""
    about: bool = False


def frequencies(table: CpuidTable) -> Frequencies:
    """Return what leaves 0x15 and 0x16 (Intel), 0x40000010 (VMware, KVM) and 0x80860007 (Transmeta) tell."""
    ratio, clocks = table.registers(0x15), table.registers(0x16)
    base, most, bus = ((part & 0xFFFF) * 1_000_000 or None for part in clocks[:3])
    crystal = ratio.ecx or None
    tsc = None
    if ratio.eax and ratio.ebx:
        tsc = crystal * ratio.ebx // ratio.eax if crystal else base
    found = Frequencies(tsc, crystal, base, most, bus, "0x15, 0x16" if tsc or base else "", about=bool(tsc and not crystal))
    timing = next((base + 0x10 for base, who in parties(table).hypervisors.items() if who in ("kvm", "vmware")), 0)
    if timing and (told := table.registers(timing)).eax:
        return found._replace(tsc=told.eax * 1000, bus=told.ebx * 1000 or found.bus, source=f"{timing:#x}", about=False)
    if mhz := table.registers(0x80860007).eax:
        return found._replace(base=mhz * 1_000_000, source="0x80860007")
    return found


Fact = Callable[[CpuidTable], Iterator[str]]
_FACTS: dict[str, Fact] = {}


def facts(table: CpuidTable) -> dict[str, str]:
    """Return what a table tells by topic, as text; topics of which it tells nothing are left out."""
    told = {topic: "; ".join(fact(table)) for topic, fact in _FACTS.items()}
    return {topic: text for topic, text in told.items() if text}


def _topic(name: str) -> Callable[[Fact], Fact]:
    def add(fact: Fact) -> Fact:
        _FACTS[name] = fact
        return fact

    return add


@_topic("frequency")
def _frequency(table: CpuidTable) -> Iterator[str]:
    found = frequencies(table)
    tsc = "TSC about" if found.about else "TSC"
    for name, value in ((tsc, found.tsc), ("crystal", found.crystal), ("base", found.base), ("most", found.most), ("bus", found.bus)):
        if value:
            yield f"{name} {value / 1e6:.10g} MHz"


@_topic("addresses")
def _addresses(table: CpuidTable) -> Iterator[str]:
    widths = table.registers(0x80000008).eax
    if widths:
        yield f"{widths & 0xFF} bits physical, {widths >> 8 & 0xFF} bits linear"
        if widths >> 16 & 0xFF:
            yield f"{widths >> 16 & 0xFF} bits physical for guests"
    enclosed = table.registers(0x8000001F)
    if enclosed.eax & 3 and enclosed.ebx >> 6 & 0x3F:
        yield f"{enclosed.ebx >> 6 & 0x3F} bits less under memory encryption"


@_topic("power")
def _power(table: CpuidTable) -> Iterator[str]:
    leaf = table.registers(6)
    for bit, name in (
        (0, "digital thermometer"),
        (1, "Turbo Boost"),
        (2, "APIC timer always running"),
        (7, "HWP"),
        (19, "hardware feedback"),
    ):
        if leaf.eax >> bit & 1:
            yield name
    states = table.registers(5).edx
    if states:
        yield "MWAIT substates " + " ".join(f"C{n}:{states >> 4 * n & 0xF}" for n in range(8) if states >> 4 * n & 0xF)


@_topic("PMU")
def _pmu(table: CpuidTable) -> Iterator[str]:
    leaf = table.registers(0xA)
    if leaf.eax & 0xFF:
        counters, fixed = leaf.eax >> 8 & 0xFF, ((1 << (leaf.edx & 0x1F)) - 1 | leaf.ecx).bit_count()
        if table.has(bits.ARCH_PERFMON_EXT) and table.registers(0x23).eax & 2:  # sub-leaf 1 lists them: more than the first on some
            counters, fixed = (known.bit_count() for known in table.registers(0x23, 1)[:2])
        yield f"version {leaf.eax & 0xFF}: {counters} counters of {leaf.eax >> 16 & 0xFF} bits"
        if fixed:
            yield f"{fixed} fixed counters of {leaf.edx >> 5 & 0xFF} bits"
    second = table.registers(0x80000022)
    if second.eax & 1:
        yield f"AMD version 2: {second.ebx & 0xF} core, {second.ebx >> 10 & 0x3F} northbridge, {second.ebx >> 16 & 0x3F} UMC counters"


@_topic("SGX")
def _sgx(table: CpuidTable) -> Iterator[str]:
    leaf = table.registers(0x12)
    if leaf.eax & 1:
        yield "SGX2" if leaf.eax & 2 else "SGX1"
        yield f"enclaves up to 2^{leaf.edx >> 8 & 0xFF} bytes"
        for section in table.leaf(0x12):
            if section.index >= 2 and section.eax & 0xF == 1:
                start = (section.ebx & 0xFFFFF) << 32 | section.eax & 0xFFFFF000
                length = (section.edx & 0xFFFFF) << 32 | section.ecx & 0xFFFFF000
                yield f"EPC {start:#x} to {start + length - 1:#x}"


@_topic("Processor Trace")
def _trace(table: CpuidTable) -> Iterator[str]:
    leaf, ranges = table.registers(0x14), table.registers(0x14, 1)
    if table.has(bits.INTEL_PT):
        names = ("CR3 filter", "cycle-accurate mode", "IP filter", "MTC packets", "PTWRITE", "power events", "PSB preserved", "event trace")
        yield "tracing to memory" if leaf.ecx & 1 else "tracing"
        yield from (name for bit, name in enumerate(names) if leaf.ebx >> bit & 1)
        if ranges.eax & 7:
            yield f"{ranges.eax & 7} address ranges"


@_topic("AMX")
def _amx(table: CpuidTable) -> Iterator[str]:
    if table.has(bits.AMX_TILE):
        leaf, unit = table.registers(0x1D, 1), table.registers(0x1E)
        yield f"{leaf.ebx >> 16} tiles of {leaf.ecx & 0xFFFF} rows of {leaf.ebx & 0xFFFF} bytes"
        yield f"TMUL of up to {unit.ebx & 0xFF} rows, {unit.ebx >> 8 & 0xFFFF} bytes a column"


@_topic("AVX10")
def _avx10(table: CpuidTable) -> Iterator[str]:
    if table.has(bits.AVX10):
        leaf = table.registers(0x24)
        widths = " ".join(str(128 << n) for n in range(3) if leaf.ebx >> 16 + n & 1)
        yield f"version {leaf.ebx & 0xFF}" + (f", vectors of {widths} bits" if widths else "")


@_topic("SVM")
def _svm(table: CpuidTable) -> Iterator[str]:
    if table.has(bits.SVM):
        leaf = table.registers(0x8000000A)
        yield f"revision {leaf.eax & 0xFF}, {leaf.ebx} address space identifiers"


@_topic("memory encryption")
def _encryption(table: CpuidTable) -> Iterator[str]:
    leaf = table.registers(0x8000001F)
    kinds = [name for bit, name in ((0, "SME"), (1, "SEV"), (3, "SEV-ES"), (4, "SEV-SNP")) if leaf.eax >> bit & 1]
    if kinds:
        yield ", ".join(kinds)
        yield f"C-bit {leaf.ebx & 0x3F}"
        if leaf.eax & 2:
            yield f"{leaf.ecx} encrypted guests, ASIDs from {leaf.edx} on without SEV-ES"
    if table.has(bits.TME):
        yield "TME"
    keys = table.registers(0x80000023)
    if keys.eax & 1:
        yield f"MEM-HMK with {keys.ebx & 0xFFFF} keys"
