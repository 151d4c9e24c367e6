"""What a leaf's answer is worked out from."""

from __future__ import annotations

from struct import unpack_from
from typing import Any

from vcpuid.cpuid.registers import CpuidTable
from vcpuid.qemu import caches
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.topology import GuestTopology
from vcpuid.releases import number

Regs = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX."""

ZERO: Regs = (0, 0, 0, 0)


class RealizedCpu:
    """The realized CPU, its place among the others, and the host below it.

    `apic_id` is that of the vCPU whose leaves are asked for; all else is the same for every vCPU. `tsc_khz` is the guest's TSC
    frequency, 0 where it is not known. `xcr0` and `xss` are the guest's XSAVE components.
    """

    __slots__ = (
        "apic_id",
        "caches",
        "features",
        "model_id_words",
        "props",
        "raw",
        "release",
        "signature",
        "state",
        "supported",
        "topology",
        "tsc_khz",
        "vendor_words",
        "xcr0",
        "xss",
    )

    def __init__(self, state: CpuState, topology: GuestTopology, raw: CpuidTable, supported: CpuidTable, tsc_khz: int = 0) -> None:
        self.state, self.topology, self.supported, self.raw, self.tsc_khz = state, topology, supported, raw, tsc_khz
        self.release = number(state.release)
        self.features, self.props = state.features, state.props
        self.apic_id = 0
        self.signature = _signature(state)
        self.vendor_words = _words(state.vendor, 12)[0][:3]
        self.model_id_words = _words(state.model_id, 48)
        self.caches = caches.shown(state)
        self.xcr0 = self.word("FEAT_XSAVE_XCR0_HI") << 32 | self.word("FEAT_XSAVE_XCR0_LO")
        self.xss = self.word("FEAT_XSAVE_XSS_HI") << 32 | self.word("FEAT_XSAVE_XSS_LO")

    @property
    def threads(self) -> int:
        """How many threads the leaves tell of: a package's, and up to QEMU 8.1 a die's (cs->nr_cores * cs->nr_threads)."""
        return self.topology.threads_per_package if self.release >= (8, 2) else self.topology.threads_per_die

    def word(self, name: str) -> int:
        """Return a feature word by QEMU's name; 0 where this release has none of that name."""
        return self.features.get(name, 0)

    def on(self, name: str) -> bool:
        """Tell whether a boolean property is on; off where this release has none of that name."""
        return bool(self.props.get(name))

    def integer(self, name: str) -> int:
        """Return a number property."""
        value: Any = self.props.get(name, 0)
        return int(value)

    def host_supports(self, function: int, index: int) -> Regs:
        """Return what KVM_GET_SUPPORTED_CPUID says of a leaf (x86_cpu_get_supported_cpuid)."""
        entry = self.supported.get(function, index)
        return ZERO if entry is None else entry[3:]

    def host_cpuid(self, function: int, index: int) -> Regs:
        """Return what the host's processor answers, nothing for leaves past its last (host_cpuid, x86_cpu_get_cache_cpuid)."""
        if function > self.raw.registers(function & 0x80000000).eax:
            return ZERO
        entry = self.raw.get(function, index)
        return ZERO if entry is None else entry[3:]


def _words(text: str, length: int) -> list[Regs]:
    """Cut text into registers, four characters each."""
    padded = text.encode("latin-1")[:length].ljust((length + 15) // 16 * 16, b"\0")
    return [unpack_from("<4I", padded, at) for at in range(0, length, 16)]


def _signature(state: CpuState) -> int:
    """Pack family, model and stepping as EAX of leaf 1 has them; families over 15 need the extended field."""
    family, extended = (state.family, 0) if state.family <= 0xF else (0xF, state.family - 0xF)
    model = state.model_number
    return extended << 20 | model >> 4 << 16 | family << 8 | (model & 0xF) << 4 | state.stepping
