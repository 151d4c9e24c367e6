"""Firecracker's published fingerprints: guests of one vCPU without a template, on the real hosts of its own tests.

A fingerprint is what KVM_GET_CPUID2 gave back, not what KVM offered there. Three things are held against it:

* Firecracker's table is a fixed point: made from a fingerprint, it is the fingerprint, whatever the bits were that Firecracker's own
  documentation says it overwrites;
* the whole path, KVM's answer and what the vCPU keeps included, on a host with the guest's own CPUID and what no guest of Firecracker's
  shows (`host_of`), for the kernels that have tables;
* the same path from dumps of such processors by others, read in place (VCPUID_PEERS).
"""

from __future__ import annotations

import dataclasses
import random
from functools import cache
from typing import Any

import pytest

from support.captures import CAPTURES, rows
from support.peers import INSTLATX64, members
from vcpuid import kvm
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, MsrTable, MsrWord, Snapshot
from vcpuid.cpuid.long_mode import in_64_bit_mode
from vcpuid.cpuid.registers import vendor_name
from vcpuid.cpuid.words import REGISTERS
from vcpuid.formats import parse
from vcpuid.formats.firecracker_template import template_of
from vcpuid.releases import KERNELS, number
from vcpuid.vmm.firecracker import guest


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """A guest: the processor's code name, the host's kernel, the releases whose tags have the file, its CPUID and its MSRs."""

    codename: str
    kernel: str
    releases: tuple[str, ...]
    table: CpuidTable
    msrs: dict[int, int]

    def __str__(self) -> str:
        return f"{self.codename}-{self.kernel.split('-')[0]}-{self.releases[0]}"

    @property
    def vendor(self) -> str:
        return vendor_name(self.table.registers(0))


def fingerprint(row: dict[str, Any]) -> Fingerprint:
    template = template_of(row["file"]["guest_cpu_config"], row["name"])
    entries = (Entry(m.leaf, m.subleaf, m.flags, *(bits.value for _, bits in m.registers)) for m in template.cpuid)
    codename = row["name"].removeprefix("fingerprint_").rpartition("_")[0]
    msrs = {msr: bits.value for msr, bits in template.msrs}
    return Fingerprint(codename, row["file"]["kernel_version"], tuple(row["releases"]), CpuidTable(entries), msrs)


ALL = [fingerprint(row) for row in rows(CAPTURES / "firecracker" / "fingerprints.jsonl.gz")]
WITH_KERNEL = [told for told in ALL if ".".join(map(str, number(told.kernel))) in KERNELS]


def origin(told: Fingerprint) -> dict[str, str | None]:
    return {"kernel": told.kernel, "qemu": None, "vendor": told.vendor}


def test_there_are_fingerprints_of_seven_processors_three_kernels_and_eight_releases() -> None:
    assert len(ALL) == 55
    assert (len(WITH_KERNEL), len(OLDER), len(NEWER)) == (55, 7, 6)
    assert {told.codename.partition("_")[2] for told in ALL} == {
        "SKYLAKE", "CASCADELAKE", "ICELAKE", "SAPPHIRE_RAPIDS", "GRANITE_RAPIDS", "MILAN", "GENOA",
    }  # fmt: skip
    assert {number(told.kernel) for told in ALL} == {(5, 10), (6, 1), (6, 18)}
    assert len({release for told in ALL for release in told.releases}) == 8


ALL_BITS = 0xFFFFFFFF
DOCUMENTED: tuple[tuple[str, int, str, int, str, str], ...] = (
    # maker, leaf, registers, bits, first and last release; all sub-leaves
    ("", 0x0, "ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("", 0x1, "ebx", 0xFFFFFF00, "1.10", "1.17"),
    ("", 0x1, "ecx", 1 << 15 | 1 << 24 | 1 << 31, "1.10", "1.17"),
    ("", 0x1, "edx", 1 << 28, "1.10", "1.17"),
    ("", 0xB, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("", 0x80000005, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("", 0x80000006, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("GenuineIntel", 0x4, "eax", 0xFFFFC000, "1.10", "1.17"),
    ("GenuineIntel", 0x6, "eax", 1 << 1, "1.10", "1.17"),
    ("GenuineIntel", 0x6, "ecx", 1 << 3, "1.10", "1.17"),
    ("GenuineIntel", 0x7, "ebx", 1 << 6 | 1 << 13, "1.10", "1.17"),
    ("GenuineIntel", 0x7, "ecx", 1 << 5, "1.12", "1.17"),
    ("GenuineIntel", 0xA, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("GenuineIntel", 0x1F, "eax ebx ecx edx", ALL_BITS, "1.12", "1.17"),
    ("GenuineIntel", 0x80000002, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("GenuineIntel", 0x80000003, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("GenuineIntel", 0x80000004, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("AuthenticAMD", 0x7, "edx", 1 << 29, "1.10", "1.17"),
    ("AuthenticAMD", 0x80000000, "eax", ALL_BITS, "1.10", "1.10"),
    ("AuthenticAMD", 0x80000001, "ecx", 1 << 22, "1.10", "1.17"),
    ("AuthenticAMD", 0x80000002, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("AuthenticAMD", 0x80000003, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("AuthenticAMD", 0x80000004, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("AuthenticAMD", 0x80000008, "ecx", 0xF0FF, "1.10", "1.17"),
    ("AuthenticAMD", 0x8000001D, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
    ("AuthenticAMD", 0x8000001E, "eax ebx ecx edx", ALL_BITS, "1.10", "1.17"),
)
"""What Firecracker writes, as docs/cpu_templates/cpuid-normalization.md of its repository says; of leaf 7 sub-leaf 0 alone. The page leaves
out that 0x8000001E is the host's but for the IDs."""


def overwritten(told: Fingerprint, release: str) -> dict[CpuidWord, int]:
    """The bits that Firecracker writes of a fingerprint's table, whatever KVM says."""
    found: dict[CpuidWord, int] = {}
    for maker, function, registers, mask, since, until in DOCUMENTED:
        if maker in ("", told.vendor) and number(since) <= number(release) <= number(until):
            for entry in told.table.leaf(function):
                blank = function == 4 and not any(entry.registers)  # where the caches end
                end = function == 0x8000001D and not entry.eax & 0xF
                if not (blank or end or (function == 7 and entry.index)):
                    found |= {CpuidWord(function, entry.index, name): mask for name in REGISTERS if name in registers.split()}
    return found


@pytest.mark.parametrize("told", ALL, ids=str)
def test_every_documented_bit_is_firecrackers_and_every_other_kvms(told: Fingerprint) -> None:
    draw = random.Random(str(told))
    for release in told.releases:
        assert guest(told.table, host=told.table, release=release).tables == (told.table,)
        masks = overwritten(told, release)
        assert len(masks) > 30
        for _ in range(20):
            words = {word: value ^ draw.getrandbits(32) & masks.get(word, 0) for word, value in told.table.words().items()}
            words[CpuidWord(0, 0, "ebx")] = told.table.registers(0).ebx  # by the maker Firecracker chooses its code
            words[CpuidWord(0, 0, "ecx")], words[CpuidWord(0, 0, "edx")] = told.table.registers(0)[2:]
            dropped = {(0xB, 1)} if draw.random() < 0.5 else set()  # newer kernels' KVM does not give it
            supported = CpuidTable(
                Entry(*entry[:3], *(words[CpuidWord(*entry[:2], register)] for register in REGISTERS))
                for entry in told.table
                if entry[:2] not in dropped
            )
            assert guest(supported, host=told.table, release=release).tables == (told.table,)


VMX_CONTROLS = (0x481, 0x482, 0x483, 0x484, 0x48B, 0x48D, 0x48E, 0x48F, 0x490)
VMX = {0x480: 1 << 55 | 1 << 56, **dict.fromkeys(VMX_CONTROLS, ALL_BITS << 32), 0x48C: (1 << 64) - 1, 0x345: 1 << 13}
"""A processor that can all that VMX controls, and has performance counters."""

SVM = Entry(0x8000000A, 0, 0, 1, 0x8000, 0, 0x119B9CFF)
"""What an EPYC 7763 says of SVM."""

PERFMON_V2 = Entry(0x80000022, 0, 0, 1, 6, 0, 0)
PMU = Entry(0xA, 0, 0, 0x08300805, 0, 0xF, 0x8604)


MEMORY_ENCRYPTION = {"msr.c0010010": 1 << 23}
"""SYSCFG of an AMD host whose firmware enabled memory encryption, which KVM of 5.10 passes on in leaf 0x8000001F and later ones do not."""


def host_of(told: Fingerprint) -> tuple[Snapshot, dict[str, int]]:
    """Make a host with the guest's own CPUID, and say how its KVM was set up.

    Added is what a guest of Firecracker's does not show: that the host runs with XSAVE and protection keys on (OSXSAVE, OSPKE), its own
    virtualization, and performance counters. KVM was loaded with nested virtualization where the guest shows VMX or SVM.
    """
    entries = told.table.by_key()

    def add(function: int, **bits: int) -> None:
        entry = entries[function, 0]
        entries[function, 0] = entry._replace(**{register: getattr(entry, register) | mask for register, mask in bits.items()})

    add(1, ecx=1 << 27)
    add(7, ecx=1 << 4)
    msrs = {0x10A: told.msrs.get(0x10A, 0)}
    if told.vendor == "GenuineIntel":
        nested = told.table.registers(1).ecx & 1 << 5
        add(1, ecx=1 << 2 | 1 << 5, edx=1 << 21)
        entries[0xA, 0] = PMU
        msrs |= VMX
    else:
        nested = told.table.registers(0x80000001).ecx & 1 << 2
        add(0x80000001, ecx=1 << 2 | 1 << 23)
        entries[0x8000000A, 0] = SVM
        if told.codename == "AMD_GENOA":
            entries[0x80000022, 0] = PERFMON_V2
        entries[0x80000000, 0] = entries[0x80000000, 0]._replace(eax=0x80000023)
    raw = CpuidTable(entry._replace(flags=0) for entry in entries.values() if entry.function >> 28 != 4)
    params = {"amx_permission": 1, "nested": int(bool(nested))} | (MEMORY_ENCRYPTION if told.table.registers(0x8000001F).eax else {})
    return Snapshot(raw=raw, msrs=MsrTable(msrs), kernel=told.kernel), params


def kept(told: Fingerprint, release: str, host: Snapshot, params: dict[str, int]) -> tuple[CpuidTable, dict[MsrWord, int]]:
    """Work the path: what KVM offers on a host, what Firecracker makes of it, what the vCPU keeps."""
    supported = kvm.supported(host, told.kernel, params).table
    made = guest(supported, host=host.raw, offered=host.msrs, release=release, kernel=told.kernel)
    assert not made.remarks
    return kvm.set_cpuid(made.tables[0], host=host, kernel=told.kernel, params=params).table, dict(made.msrs)


def differing(real: CpuidTable, ours: CpuidTable) -> dict[str, int]:
    """The words in which two tables differ, and their bits; an entry that one of them lacks counts as empty."""
    left, right = real.words(), ours.words()
    return {str(word): left.get(word, 0) ^ right.get(word, 0) for word in left | right if left.get(word) != right.get(word)}


OLDER = [
    told
    for told in WITH_KERNEL
    if told.vendor == "AuthenticAMD" and number(told.kernel) == (6, 1) and int(told.kernel[4:7].strip(".-")) < 153
]
"""Hosts whose KVM does not yet offer NO_SMM_CTL_MSR, which 6.1's stable series brought between 6.1.141 and 6.1.153; the tables have it."""

NEWER = [
    told
    for told in WITH_KERNEL
    if told.vendor == "AuthenticAMD" and number(told.kernel) == (5, 10) and int(told.kernel.split(".")[2].split("-")[0]) >= 238
]
"""Hosts whose KVM knows leaf 0x80000021, which 5.10's stable series brought with what mends TSA, after the 5.10.223 of the tables."""


@pytest.mark.conformance("Firecracker fingerprints", origin)
@pytest.mark.parametrize("told", [told for told in WITH_KERNEL if told not in (*OLDER, *NEWER)], ids=str)
def test_the_whole_path_leads_to_the_fingerprint(told: Fingerprint) -> None:
    host, params = host_of(told)
    for release in told.releases:
        table, msrs = kept(told, release, host, params)
        assert table == told.table
        assert (MsrWord(0x10A) in msrs) == (told.vendor == "GenuineIntel")


@pytest.mark.parametrize("told", OLDER, ids=str)
def test_with_an_older_stable_kernel_one_bit_differs(told: Fingerprint) -> None:
    host, params = host_of(told)
    for release in told.releases:
        table, _ = kept(told, release, host, params)
        assert differing(told.table, table) == {"CPUID[eax=80000021h].EAX": 1 << 9}


@pytest.mark.parametrize("told", NEWER, ids=str)
def test_with_a_newer_stable_kernel_one_leaf_is_there(told: Fingerprint) -> None:
    host, params = host_of(told)
    for release in told.releases:
        table, _ = kept(told, release, host, params)
        leaf = told.table.registers(0x80000021)
        words = {"EAX": leaf.eax, "ECX": leaf.ecx}
        listed = {f"CPUID[eax=80000021h].{register}": value for register, value in words.items() if value}
        found = {word: bits for word, bits in differing(told.table, table).items() if bits}
        assert found == {"CPUID[eax=80000000h].EAX": 0x80000021 ^ 0x8000001F, **listed}


L3_INTEL, L3_AMD = "CPUID[eax=04h,ecx=03h].ECX", "CPUID[eax=80000006h].EDX"
FAST_STRINGS = {"CPUID[eax=07h,ecx=00h].EBX": 1 << 9, "CPUID[eax=07h,ecx=00h].EDX": 1 << 4}
"""Off on EC2's Milan, on in the dump: ERMS and FSRM."""

DUMPS: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("AMD_GENOA", "AuthenticAMD0A10F11_K19_Genoa_01_CPUID.txt", {}),
    ("AMD_GENOA", "AuthenticAMD0A10F11_K19_Genoa_02_CPUID.txt", {L3_AMD: 0xE000000, "CPUID[eax=8000001Dh,ecx=03h].ECX": 0x4000}),
    ("AMD_MILAN", "AuthenticAMD0A00F11_K19_Milan_02_CPUID.txt", {L3_AMD: 0xE000000, **FAST_STRINGS}),
    ("AMD_MILAN", "AuthenticAMD0A00F11_K19_Milan_CPUID2.txt", {L3_AMD: 0xE000000, **FAST_STRINGS}),
    ("INTEL_SAPPHIRE_RAPIDS", "GenuineIntel00806F8_SapphireRapids_06_CPUID.txt", {L3_INTEL: 0xE000}),
    ("INTEL_CASCADELAKE", "GenuineIntel0050657_CascadeLakeSP_CPUID1.txt", {L3_INTEL: 0x8000}),
    ("INTEL_CASCADELAKE", "GenuineIntel0050657_CascadeLakeSP_CPUID3.txt", {"CPUID[eax=80000003h].EDX": 0x1000000}),
)
"""Dumps of the same family, model and stepping, and all words in which the path from them ends elsewhere: the size of the L3 cache, the
clock in the name, and as above."""


@cache
def dump(name: str) -> Snapshot:
    return parse(members(INSTLATX64)[name], name)[0]


@pytest.mark.skipif(not INSTLATX64.is_file(), reason="needs InstLatx64's dumps in VCPUID_PEERS")
@pytest.mark.parametrize(("codename", "name", "own"), DUMPS, ids=[name.removesuffix(".txt") for _, name, _ in DUMPS])
def test_the_path_from_a_dump_of_such_a_processor_leads_to_the_fingerprint(codename: str, name: str, own: dict[str, int]) -> None:
    found = [told for told in WITH_KERNEL if told.codename == codename and told.releases[-1] == "1.17"]
    assert {number(told.kernel) for told in found} == {(5, 10), (6, 1), (6, 18)}
    for told in found:
        if told in NEWER:  # their KVM is newer than the tables, which is tested by itself
            continue
        raw = in_64_bit_mode(dump(name)).raw
        msrs = MsrTable({0x10A: told.msrs.get(0x10A, 0), **(VMX if told.vendor == "GenuineIntel" else {})})
        table, _ = kept(told, "1.17", Snapshot(raw=raw, msrs=msrs, kernel=told.kernel), {"amx_permission": 1, "nested": 0})
        assert differing(told.table, table) == own
