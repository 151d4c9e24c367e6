"""What Firecracker makes of every guest's CPUID, after the template: topology, caches, the name, and what it never gives.

From Cpuid::normalize in src/vmm/src/cpu_config/x86_64/cpuid/normalize.rs, and intel/normalize.rs and amd/normalize.rs beside it; which
release has what was read off the tags. The order is Firecracker's, since the first leaf that is missing names the error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from vcpuid.cpuid import CpuidWord, bits
from vcpuid.cpuid.registers import SIGNIFICANT_INDEX, vendor_name
from vcpuid.cpuid.text import characters, registers_of
from vcpuid.cpuid.vendors import AMD, INTEL
from vcpuid.errors import FirecrackerError
from vcpuid.reasons import Rule
from vcpuid.vmm.firecracker import rules
from vcpuid.vmm.firecracker.silicon import Silicon
from vcpuid.vmm.patching import MissingLeaf, Patch, TableDraft, VcpuPlace, bit, leaf

MAX_VCPUS = 32
"""MAX_SUPPORTED_VCPUS of src/vmm/src/vmm_config/machine_config.rs."""

Release = tuple[int, int]

_ALL = 0xFFFFFFFF
_PACKAGE_SHIFT = (MAX_VCPUS - 1).bit_length()
_OLD_PACKAGE_SHIFT = 7
_BRAND = range(0x80000002, 0x80000005)
_BRAND_SIZE = 48
_XEON = b"Intel(R) Xeon(R) Processor"

_EBX1 = CpuidWord(1, 0, "ebx")
_FEATURES = (
    Patch(_EBX1, 8, 15, 8, rules.CLFLUSH),
    Patch(_EBX1, 16, 23, lambda vcpu: 1 << (vcpu.count - 1).bit_length(), rules.PACKAGE_IDS),
    Patch(_EBX1, 24, 31, lambda vcpu: vcpu.number, rules.APIC_ID),
    bit(bits.PDCM, 0, rules.PDCM),
    bit(bits.TSC_DEADLINE_TIMER, 1, rules.TSC_DEADLINE),
    bit(bits.HYPERVISOR, 1, rules.HYPERVISOR),
    bit(bits.HT, lambda vcpu: int(vcpu.count > 1), rules.HTT),
)
_POWER = (bit(bits.IDA, 0, rules.TURBO), bit(bits.EPB, 0, rules.EPB))
_FEATURES7 = (bit(bits.FDP_EXCPTN_ONLY, 1, rules.FDP_EXCPTN_ONLY), bit(bits.ZERO_FCS_FDS, 1, rules.ZERO_FCS_FDS))
_WAITPKG = (bit(bits.WAITPKG, 0, rules.WAITPKG),)
_PMU = tuple(Patch(word, 0, 31, 0, rules.PMU) for word in leaf(0xA))
_ARCH_CAPABILITIES = (bit(bits.ARCH_CAPABILITIES, 0, rules.ARCH_CAPABILITIES),)
_LAST_EXTENDED = (Patch(CpuidWord(0x80000000, 0, "eax"), 0, 31, 0x8000001F, rules.LAST_EXTENDED),)
_TOPOEXT = (bit(bits.TOPOEXT, 1, rules.TOPOEXT),)
_THREADS = (
    Patch(CpuidWord(0x80000008, 0, "ecx"), 12, 15, 7, rules.THREADS_AMD),
    Patch(CpuidWord(0x80000008, 0, "ecx"), 0, 7, lambda vcpu: vcpu.count - 1, rules.THREADS_AMD),
)
_EXTENDED_ID = (
    Patch(CpuidWord(0x8000001E, 0, "eax"), 0, 31, lambda vcpu: vcpu.number, rules.EXTENDED_ID),
    Patch(CpuidWord(0x8000001E, 0, "ebx"), 0, 7, lambda vcpu: vcpu.number // vcpu.threads, rules.EXTENDED_ID),
    Patch(CpuidWord(0x8000001E, 0, "ebx"), 8, 15, lambda vcpu: vcpu.threads - 1, rules.EXTENDED_ID),
    Patch(CpuidWord(0x8000001E, 0, "ecx"), 0, 10, 0, rules.EXTENDED_ID),
)


def normalize(draft: TableDraft, vendor: str, vcpu: VcpuPlace, silicon: Silicon, release: Release, log: list[str]) -> None:
    """Change a draft as Firecracker does for one vCPU; what it logs is added to `log`.

    `vendor` is that of the table, INTEL or AMD. Raises FirecrackerError with Firecracker's message where a leaf that it changes is missing.
    """
    _vendor(draft, silicon)
    with _missing("Failed to set feature information leaf: Leaf 0x1 is missing from CPUID."):
        draft.apply(_FEATURES, vcpu)
    _topology(draft, vcpu, release, log)
    _legacy_caches(draft, silicon)
    if vendor == INTEL:
        _intel(draft, vcpu, silicon, release)
    else:
        _amd(draft, vcpu, silicon, release)


@contextmanager
def _missing(message: str) -> Iterator[None]:
    """Turn a missing leaf into Firecracker's words for it."""
    try:
        yield
    except MissingLeaf:
        raise FirecrackerError(message) from None


def _vendor(draft: TableDraft, silicon: Silicon) -> None:
    with _missing("Failed to set vendor ID in leaf 0x0: Leaf 0x0 is missing from CPUID."):
        last, *_ = draft.registers(0)
    draft.copy(0, 0, (last, *silicon.registers(0)[1:]), rules.VENDOR)


def _topology(draft: TableDraft, vcpu: VcpuPlace, release: Release, log: list[str]) -> None:
    """Fill leaf 0xB: since Linux 6.2, and kernels with that change, KVM gives only sub-leaf 0, and none of it is filled."""
    if (0xB, 1) not in draft:
        draft.insert(0xB, 1, SIGNIFICANT_INDEX)
    shift = _PACKAGE_SHIFT if release >= (1, 12) else _OLD_PACKAGE_SHIFT
    levels = ((vcpu.threads - 1, vcpu.threads, 0x100), (shift, vcpu.count, 0x201))
    for index in draft.subleaves(0xB):
        if index >= len(levels):
            if release == (1, 12):
                raise FirecrackerError(f"Failed to set extended topology leaf: Unexpected subleaf: {index}")
            if release > (1, 12):
                log.append(f"Subleaf {index} not expected for CPUID leaf 0xB.")
        registers = levels[index] if index < len(levels) else (0, 0, index)
        draft.insert(0xB, index, SIGNIFICANT_INDEX)
        for word, value in zip(leaf(0xB, index), (*registers, vcpu.number), strict=True):
            draft.assign(word, _ALL, value, rules.TOPOLOGY)


def _legacy_caches(draft: TableDraft, silicon: Silicon) -> None:
    for function, dropped, rule in ((0x80000005, 0, rules.FIRST_LEVEL), (0x80000006, 0x30000, rules.SECOND_LEVEL)):
        with _missing(f"Failed to set extended cache features leaf: Leaf {function:#x} is missing from CPUID."):
            draft.registers(function)
        *registers, last = silicon.registers(function)
        draft.copy(function, 0, (*registers, last & ~dropped), rule)


def _intel(draft: TableDraft, vcpu: VcpuPlace, silicon: Silicon, release: Release) -> None:
    failed = "Failed to apply modifications to Intel CPUID: "
    for index in draft.subleaves(4):
        if not any(draft.registers(4, index)):
            break
        draft.apply((*_sharing(draft, 4, index, rules.CACHE_SHARING), _cores(index)), vcpu)
    with _missing(f"{failed}Leaf 0x6 is missing from CPUID."):
        draft.apply(_POWER, vcpu)
    with _missing(f"{failed}Leaf 0x7 / subleaf 0 is missing from CPUID."):
        draft.apply((*_FEATURES7, *_WAITPKG) if release >= (1, 12) else _FEATURES7, vcpu)
    with _missing(f"{failed}Leaf 0xA is missing from CPUID."):
        draft.apply(_PMU, vcpu)
    if release >= (1, 12) and (0x1F, 0) in draft:
        for index in draft.subleaves(0xB):
            draft.insert(0x1F, index, draft.flags(0xB, index))
            draft.copy(0x1F, index, draft.registers(0xB, index), rules.TOPOLOGY_V2)
    host = characters(*(value for function in _BRAND for value in silicon.registers(function)))
    _brand(draft, xeon(host.encode("latin-1")), rules.BRAND_INTEL, failed)


def _amd(draft: TableDraft, vcpu: VcpuPlace, silicon: Silicon, release: Release) -> None:
    failed = "Failed to apply modifications to AMD CPUID: "
    if vendor_name(silicon.registers(0)) != AMD:
        raise FirecrackerError(f"{failed}Failed to passthrough cache topology: The host vendor id does not match AMD.")
    draft.insert(0x8000001E, 0, 0)
    draft.copy(0x8000001E, 0, silicon.registers(0x8000001E), rules.EXTENDED_ID_HOST)
    index = 0
    while (registers := silicon.registers(0x8000001D, index)).eax & 0xF:
        draft.insert(0x8000001D, index, SIGNIFICANT_INDEX)
        draft.copy(0x8000001D, index, registers, rules.CACHE_AMD)
        index += 1
    with _missing(f"{failed}Missing leaf 0x7 / subleaf 0."):
        draft.apply(_ARCH_CAPABILITIES, vcpu)
    if release <= (1, 10):
        with _missing(f"{failed}Missing leaf 0x80000000."):
            draft.apply(_LAST_EXTENDED, vcpu)
    with _missing(f"{failed}Missing leaf 0x80000001."):
        draft.apply(_TOPOEXT, vcpu)
    with _missing(f"{failed}Failed to set feature entry leaf: Missing leaf 0x80000008."):
        draft.apply(_THREADS, vcpu)
    for index in draft.subleaves(0x8000001D):
        draft.apply(_sharing(draft, 0x8000001D, index, rules.CACHE_SHARING_AMD), vcpu)
    draft.apply(_EXTENDED_ID, vcpu)
    _brand(draft, b"AMD EPYC", rules.BRAND_AMD, failed)


def _sharing(draft: TableDraft, function: int, index: int, rule: Rule) -> Iterable[Patch]:
    """Say which vCPUs share a cache, by its level."""
    word = CpuidWord(function, index, "eax")
    level = draft.word(word) >> 5 & 7
    if level in (1, 2):
        yield Patch(word, 14, 25, lambda vcpu: vcpu.threads - 1, rule)
    elif level == 3:
        yield Patch(word, 14, 25, lambda vcpu: vcpu.count - 1, rule)


def _cores(index: int) -> Patch:
    return Patch(CpuidWord(4, index, "eax"), 26, 31, lambda vcpu: vcpu.count // vcpu.threads - 1, rules.CACHE_SHARING)


def xeon(host: bytes) -> bytes:
    """Name a processor as Firecracker does: the name of `host` (48 bytes) is dropped but for its frequency, if one ends in Hz."""
    units = [host.find(unit) for unit in (b"THz", b"GHz", b"MHz")]
    unit = min((place for place in units if place >= 0), default=None)
    if unit is None:
        return _XEON
    start = unit
    while start and host[start - 1 : start] in (b".", *(b"%d" % digit for digit in range(10))):
        start -= 1
    if not start or host[start - 1 : start] != b" ":
        return _XEON
    name = _XEON + b" @" + host[start - 1 :]
    return name if len(name) <= _BRAND_SIZE else _XEON


def _brand(draft: TableDraft, name: bytes, rule: Rule, failed: str) -> None:
    words = [word for function in _BRAND for word in leaf(function)]
    values = registers_of(name.ljust(_BRAND_SIZE, b"\0").decode("latin-1"))
    with _missing(f"{failed}Failed to set brand string: Missing brand string leaves 0x80000002, 0x80000003 and 0x80000004."):
        for word, value in zip(words, values, strict=True):
            draft.assign(word, _ALL, value, rule)
