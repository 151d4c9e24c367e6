"""What Cloud Hypervisor can say of a guest's CPU, and what a guest of its finds on each host.

It has no models: a guest gets what KVM answers on the host, but for what `--cpus` settles: the width of addresses, hypervisors in the
guest, AMX. Its one profile is `host`, which is what a guest has without one; releases before 53 refuse the word, those before 50 `nested`.
From CpusConfig::parse in vmm/src/config.rs, and generate_common_cpuid,
required_common_cpuid_updates and configure_vcpu in arch/src/x86_64/mod.rs, read at v53.0 and at ae44c2971c83 behind it.
"""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Entry, MsrWord, Word, bits
from vcpuid.errors import InputError
from vcpuid.fleet.outcome import Table, seen
from vcpuid.kvm.answers import Answers
from vcpuid.numbers import decimal

_WIDTHS = 46
"""Bits of addresses that a guest has unless it says so (DEFAULT_MAX_PHYS_BITS), or the host's where these are fewer."""
_OPTIONS = frozenset(
    ("boot", "max", "topology", "kvm_hyperv", "max_phys_bits", "affinity", "features", "nested", "core_scheduling", "profile")
)
_ON = (bits.HYPERVISOR, bits.MTRR, bits.TSC_DEADLINE_TIMER)
_NESTED = (bits.VMX, bits.SVM)
_AMX = (bits.AMX_BF16, bits.AMX_TILE, bits.AMX_INT8, bits.AMX_FP16, bits.AMX_COMPLEX)
_TILES = (0x1D, 0x1E)
_OF_TOPOLOGY = (0xB, 0x1F, 0x8000001E)
_MSI_EXT_DEST_ID = 1 << 15
_VMX = range(0x480, 0x492)
_TOLD_BY = {0xCF: bits.CORE_CAPABILITIES, 0x10A: bits.ARCH_CAPABILITIES, 0x345: bits.PDCM}
_NAME = range(0x80000002, 0x80000005)
_CACHES = (0x80000005, 0x80000006)


class CpusOption(NamedTuple):
    """What --cpus says of the CPU."""

    max_phys_bits: int = _WIDTHS
    nested: bool = True
    amx: bool = False

    def __str__(self) -> str:
        parts = ["boot=1", f"max_phys_bits={self.max_phys_bits}", f"nested={'on' if self.nested else 'off'}"]
        return "--cpus " + ",".join((*parts, *(["features=amx"] if self.amx else [])))


def read(text: str) -> CpusOption:
    """Read what --cpus says; raises InputError for what is none, as a feature or a profile that the source does not have."""
    said = dict(part.partition("=")[::2] for part in text.removeprefix("--cpus ").split(","))
    width = decimal(said.get("max_phys_bits", str(_WIDTHS)), 255)
    features = set(said.get("features", "").strip("[]").split(",")) - {""}
    known = {*said} <= _OPTIONS and features <= {"amx"} and said.get("profile", "host") == "host"
    if width is None or not known or said.get("nested", "on") not in ("on", "off"):
        raise InputError(f"{text[:60]!r} is not what Cloud Hypervisor's --cpus takes")
    return CpusOption(width, said.get("nested", "on") == "on", "amx" in features)


def finds(cpus: CpusOption, kvm: Answers) -> Table:
    """Return what a guest finds, as `proof.seen`, but for its topology, which is the same on all hosts, and for the clock's frequency."""
    host, supported = kvm.raw, kvm.supported
    width = min(cpus.max_phys_bits, host.registers(0x80000008).eax & 0xFF)
    entries = []
    for entry in supported:
        registers = list(entry.registers)
        if entry.function in _NAME or (entry.function in _CACHES and not any(registers)):
            registers = list(host.registers(entry.function))
        elif entry.function in _TILES and not cpus.amx:
            registers = [0, 0, 0, 0]
        elif entry.function == 1:
            registers[1] &= 0xFFFF
        elif entry.function == 4:
            registers[0] &= 0x3FFF
        elif entry.function == 0x80000008:
            registers[0] = registers[0] & 0xFF00FF00 | width | width << 16
        elif entry.function == 0x40000001:
            registers[0] |= _MSI_EXT_DEST_ID
        if entry.function not in _OF_TOPOLOGY:
            entries.append(Entry(*entry[:3], *registers))
    gone = (*(() if cpus.nested else _NESTED), *(() if cpus.amx else _AMX))
    table = _with(CpuidTable(entries), _ON, gone)
    return seen(table, {word: value for word, value in kvm.msr_words.items() if _shown(word, table)})


def _shown(word: Word, table: CpuidTable) -> bool:
    """Whether a guest is told of a feature MSR; of those that CPUID says nothing of it reads what KVM keeps, and no feature."""
    assert isinstance(word, MsrWord)
    teller = _TOLD_BY.get(word.msr, bits.VMX if word.msr in _VMX else None)
    return teller is not None and table.has(teller)


def _with(table: CpuidTable, on: tuple[Bit, ...], off: tuple[Bit, ...]) -> CpuidTable:
    def value(word: CpuidWord, before: int) -> int:
        more = sum(1 << feature.position for feature in on if feature.word == word)
        less = sum(1 << feature.position for feature in off if feature.word == word)
        return (before | more) & ~less

    return CpuidTable(
        entry._replace(
            eax=value(CpuidWord(*entry[:2], "eax"), entry.eax),
            ebx=value(CpuidWord(*entry[:2], "ebx"), entry.ebx),
            ecx=value(CpuidWord(*entry[:2], "ecx"), entry.ecx),
            edx=value(CpuidWord(*entry[:2], "edx"), entry.edx),
        )
        for entry in table
    )
