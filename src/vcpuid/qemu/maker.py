"""Whose processor a guest's CPU is to QEMU: told by the vendor alone (QEMU, target/i386/cpu.h)."""

from __future__ import annotations

from vcpuid.cpuid import vendors


class Maker:
    """A CPU with a vendor, and QEMU's questions about it."""

    __slots__ = ()

    @property
    def vendor(self) -> str:
        """The twelve characters of leaf 0."""
        raise NotImplementedError

    @property
    def is_intel(self) -> bool:
        """IS_INTEL_CPU of QEMU."""
        return self.vendor == vendors.INTEL

    @property
    def is_amd(self) -> bool:
        """IS_AMD_CPU of QEMU."""
        return self.vendor == vendors.AMD

    @property
    def is_zhaoxin(self) -> bool:
        """IS_ZHAOXIN_CPU of QEMU, since 10.0."""
        return self.vendor in (vendors.ZHAOXIN, vendors.CENTAUR)
