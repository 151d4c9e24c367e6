"""Where a feature lives: words, and bits of words.

A word of CPUID is one register of one leaf. Linux adds words of its own, which no hardware has, and QEMU treats feature MSRs as words
of 64 bits. Feature sets are integers on words everywhere inside the path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from vcpuid.errors import InputError
from vcpuid.numbers import decimal, hexadecimal

Register = Literal["eax", "ebx", "ecx", "edx"]
REGISTERS: tuple[Register, ...] = ("eax", "ebx", "ecx", "edx")

INDEXED_FUNCTIONS = frozenset(
    {
        *(0x4, 0x7, 0xB, 0xD, 0xF, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1B, 0x1D, 0x1E, 0x1F, 0x20, 0x23, 0x24, 0x29),
        *(0x8000001D, 0x80000020, 0x80000026),
    }
)
"""Leaves of which the manuals (Intel SDM vol. 2A CPUID, AMD APM vol. 3 appendix E) define sub-leaves."""


def range_of(function: int) -> int:
    """Return the first leaf of a leaf's range, whose EAX names the last: 0, 0x80000000, 0xC0000000, or 0x40000000 and each 0x100 on."""
    return function & 0xFFFFFF00 if function >> 28 == 4 else function & 0xC0000000


def leaf_name(function: int, index: int) -> str:
    """Spell a leaf as QEMU 11.1 logs it, the sub-leaf only where the leaf has any."""
    subleaf = f",ecx={index:02X}h" if function in INDEXED_FUNCTIONS else ""
    return f"CPUID[eax={function:02X}h{subleaf}]"


class CpuidWord(NamedTuple):
    """One register of one leaf; prints as QEMU 11.1 logs it."""

    function: int
    index: int  # type: ignore[assignment]  # the field's own name; hides tuple.index, which nobody asks of a word
    register: Register

    @property
    def width(self) -> int:
        """Bits in the word."""
        return 32

    def __str__(self) -> str:
        return f"{leaf_name(self.function, self.index)}.{self.register.upper()}"


class MsrWord(NamedTuple):
    """One 64-bit feature MSR; prints as QEMU 11.1 logs it."""

    msr: int

    @property
    def width(self) -> int:
        """Bits in the word."""
        return 64

    def __str__(self) -> str:
        return f"MSR({self.msr:02X}h)"


class LinuxWord(NamedTuple):
    """A word that Linux defines for its own bookkeeping (CPUID_LNX_1 and so on); no register holds it."""

    name: str

    @property
    def width(self) -> int:
        """Bits in the word."""
        return 32

    def __str__(self) -> str:
        return self.name


Word = CpuidWord | MsrWord | LinuxWord


class Bit(NamedTuple):
    """One bit of a word, counted from 0."""

    word: Word
    position: int

    @property
    def mask(self) -> int:
        """The bit as an integer on its word."""
        return 1 << self.position

    def __str__(self) -> str:
        return f"{self.word} [bit {self.position}]"


def positions(mask: int) -> Iterator[int]:
    """Yield the positions of a mask's bits, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def leaf_keys(function: int, index: int) -> dict[str, str]:
    """Spell a leaf's numbers as JSON, CSV and snapshots have them: hexadecimal without 0x, the function in eight digits."""
    return {"function": f"{function:08x}", "index": f"{index:x}"}


def parse_leaf(text: str) -> tuple[int, int | None]:
    """Read a leaf, `7` or `0x80000008`, or a sub-leaf, `d.2`: hexadecimal numbers of at most 8 digits. A leaf has None for an index.

    Raises InputError where the text is neither.
    """
    function, dot, index = text.partition(".")
    found = hexadecimal(function), hexadecimal(index) if dot else 0
    if found[0] is None or found[1] is None:
        raise InputError(f"{text[:80]!r} is no leaf: 7, 0x80000008 or d.2 is")
    return found[0], found[1] if dot else None


def msr_bit(msr: str, position: str) -> Bit | None:
    """Read a bit of an MSR, its index hexadecimal; None where there is no such place."""
    index, bit = hexadecimal(msr), decimal(position, 63)
    return None if index is None or bit is None else Bit(MsrWord(index), bit)


def parse_bit(text: str) -> Bit | None:
    """Read a bit in QEMU's log spellings, old and new; None where the text is not one.

    Takes `CPUID.07H:EBX.avx2 [bit 5]`, `CPUID[eax=07h,ecx=00h].EBX [bit 5]`, `MSR(10AH).rdctl-no [bit 0]` and the short `7.0.ebx.5`.
    The old spelling has no sub-leaf: QEMU 7.2 and 10.0 leave it out, and it is taken as 0.
    """
    import re

    for pattern in (
        r"CPUID\[eax=(?P<f>[0-9a-f]+)h(?:,ecx=(?P<i>[0-9a-f]+)h)?\]\.(?P<r>e[abcd]x)(?:\.[\w.-]+)?\s*\[bit (?P<b>[0-9]+)\]",
        r"CPUID\.(?P<f>[0-9a-f]+)h:(?P<r>e[abcd]x)(?:\.[\w.-]+)?\s*\[bit (?P<b>[0-9]+)\]",
        r"(?:0x)?(?P<f>[0-9a-f]+)(?:\.(?P<i>[0-9a-f]+))?\.(?P<r>e[abcd]x)\.(?P<b>[0-9]+)",
        r"MSR\((?P<m>[0-9a-f]+)h\)(?:\.[\w.-]+)?\s*\[bit (?P<b>[0-9]+)\]",
    ):
        match = re.fullmatch(pattern, text.strip(), re.IGNORECASE)
        if match is None:
            continue
        found = match.groupdict()
        if "m" in found:
            return msr_bit(found["m"], found["b"])
        register: Register = next(r for r in REGISTERS if r == found["r"].lower())
        function, index, position = hexadecimal(found["f"]), hexadecimal(found.get("i") or "0"), decimal(found["b"], 31)
        return None if function is None or index is None or position is None else Bit(CpuidWord(function, index, register), position)
    return None
