"""A feature: one bit and what Linux, KVM, QEMU, libvirt and the manuals call it.

`vcpuid.cpuid.names` finds features by any of these names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.cpuid.words import Bit, CpuidWord, LinuxWord, MsrWord

SYMBOL_PREFIXES = ("X86_FEATURE_", "X86_BUG_", "VMX_FEATURE_", "KVM_FEATURE_", "KVM_HINTS_", "ARCH_CAP_", "MSR_IA32_CORE_CAPS_")
"""How the symbols of Linux' headers begin; the rest of a symbol is a spelling of its own."""

BUG_WORDS = "BUGS"
"""`LinuxWord` of X86_BUG_ bits: BUGS_1 for the first 32, BUGS_2 for the rest. Linux stores them behind its feature words."""

VMX_WORDS = "VMX_WORD"
"""`LinuxWord` of VMX_FEATURE_ bits: VMX_WORD_0 and so on, as in asm/vmxfeatures.h."""


class LinuxName(NamedTuple):
    """A symbol of Linux' headers, in those kernels where it stood at the same number and had the same name in /proc/cpuinfo.

    `number` is the value in the header, word * 32 + bit; None for symbols that are no number in one of Linux' arrays: those of KVM
    alone, and bits of MSRs. `cpuinfo` None: /proc/cpuinfo does not show it. `word` is the name of the array's word in the newest of
    `kernels`.
    """

    symbol: str
    number: int | None
    cpuinfo: str | None
    kernels: tuple[str, ...]
    word: str | None

    @property
    def place(self) -> Bit | None:
        """The bit in Linux' own array; None where it is in none."""
        return None if self.word is None or self.number is None else Bit(LinuxWord(self.word), self.number % 32)


class QemuName(NamedTuple):
    """A property of QEMU's CPUs, in those releases where it had the same aliases."""

    name: str
    aliases: tuple[str, ...]
    releases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Feature:
    """One bit and all its names.

    `bit` is the place in CPUID or in a feature MSR; None for what Linux keeps in its own words only. Controls of VMX are counted as
    QEMU does, in the allowed-1 half of their MSR: bit 1 of MSR(48BH) is bit 33 of the register. `linux_names` and `qemu_names` go from
    the newest release to the oldest; more than one of a release are several symbols, or several properties, for one bit. `manual` and
    `description` are those of kcpuid's table, of Hyper-V's leaves the name in QEMU's header. `copy_of`: the bit of leaf 1 that AMD's
    processors repeat here. `others`: what compilers, Xen and the newest manuals call it.
    """

    bit: Bit | None
    linux_names: tuple[LinuxName, ...] = ()
    qemu_names: tuple[QemuName, ...] = ()
    libvirt: str | None = None
    manual: str | None = None
    description: str | None = None
    copy_of: Feature | None = None
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The best short name: /proc/cpuinfo's, else QEMU's, else Linux' symbol in lower case, else the manuals', else the place.

        Of VMX' controls QEMU's comes first: it begins with vmx-, where /proc/cpuinfo says no more than `ept`.
        """
        shown = self.cpuinfo if self.linux is None or not self.linux.startswith("VMX_FEATURE_") else None
        return (
            shown
            or self.qemu
            or self.cpuinfo
            or (short_symbol(self.linux) if self.linux else None)
            or self.libvirt
            or (self.copy_of.name if self.copy_of else None)
            or self.manual
            or short_place(self.place)
        )

    @property
    def place(self) -> Bit:
        """The place in hardware, or else in Linux' own words."""
        place = self.bit or self.linux_bit
        assert place is not None, "a feature has one of the two"
        return place

    @property
    def linux(self) -> str | None:
        """Linux' symbol in the newest kernel that has one, for example X86_FEATURE_AVX2; X86_BUG_ for bugs, KVM_FEATURE_ for KVM's own."""
        return self.linux_names[0].symbol if self.linux_names else None

    @property
    def linux_bit(self) -> Bit | None:
        """The bit in the words of Linux' own array, in the newest kernel that has it."""
        return self.linux_names[0].place if self.linux_names else None

    @property
    def cpuinfo(self) -> str | None:
        """The name in /proc/cpuinfo of the newest kernel that has a symbol for it; None where that kernel does not show it."""
        return self.linux_names[0].cpuinfo if self.linux_names else None

    @property
    def hidden(self) -> bool:
        """Whether Linux has a symbol for it, and yet the newest kernel that has one does not show it in /proc/cpuinfo."""
        return bool(self.linux_names) and self.cpuinfo is None

    @property
    def qemu(self) -> str | None:
        """The property of the newest QEMU that has one."""
        return self.qemu_names[0].name if self.qemu_names else None

    @property
    def qemu_aliases(self) -> tuple[str, ...]:
        """Other spellings of that property that QEMU takes."""
        return self.qemu_names[0].aliases if self.qemu_names else ()

    @property
    def is_bug(self) -> bool:
        """Whether it is a bug that Linux works around, not a feature."""
        return self.linux is not None and self.linux.startswith("X86_BUG_")

    def in_linux(self, kernel: str) -> LinuxName | None:
        """Return its symbol in one of `releases.KERNELS`; None where that kernel has none."""
        return next((name for name in self.linux_names if kernel in name.kernels), None)

    def in_qemu(self, release: str) -> QemuName | None:
        """Return its property in one of `releases.QEMUS`; None where that release has none."""
        return next((name for name in self.qemu_names if release in name.releases), None)

    def __str__(self) -> str:
        return self.name


def short_symbol(symbol: str) -> str:
    """Give a symbol without its prefix, in lower case."""
    for prefix in SYMBOL_PREFIXES:
        if symbol.startswith(prefix):
            return symbol[len(prefix) :].lower()
    return symbol.lower()


def short_place(bit: Bit) -> str:
    """Give a place in the short form, `7.0.ebx.5`, `msr.10a.0` or `CPUID_LNX_1.8`."""
    word, position = bit
    if isinstance(word, CpuidWord):
        return f"{word.function:x}.{word.index:x}.{word.register}.{position}"
    return f"msr.{word.msr:x}.{position}" if isinstance(word, MsrWord) else f"{word}.{position}"
