"""Names of a kernel's addresses: out of /proc/kallsyms, of this host or of a guest, or out of a System.map.

A System.map has the addresses at which the kernel was linked. One that randomizes its place (KASLR) runs some multiple of 2 MiB further up,
within 1 GiB. Which, the CPUIDs that were seen tell: a kernel built with paravirtualization, as distributions build it, executes CPUID in
`native_cpuid` (arch/x86/include/asm/processor.h, pv_ops.cpu.cpuid), so there at least one of them must lie.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress

from vcpuid.errors import InputError
from vcpuid.numbers import U64, digits

_IMAGE, _LINKED_AT = 0xFFFFFFFF80000000, 0xFFFFFFFF81000000
"""Where kernels may run, and where `_text` of a System.map stands (CONFIG_PHYSICAL_START of 16 MiB)."""
_STEP, _RANGE = 1 << 21, 1 << 30
_EXECUTES_CPUID = "native_cpuid"
_FAR = 1 << 20
"""Bytes behind a symbol at which an address is no longer taken to be the symbol's."""
_MOST = 64 << 20


class Symbols:
    """A kernel's functions by address; `slide` is what is added to those of the file."""

    def __init__(self, found: Iterable[tuple[int, str]], slide: int = 0) -> None:
        self._rows = sorted(found)
        self._addresses = [address for address, _ in self._rows]
        self.slide = slide

    def name(self, address: int) -> str | None:
        """Spell an address as a symbol and the bytes behind it, `native_cpuid+0x1b`; None where no symbol is near."""
        found = self._find(address - self.slide)
        if found is None:
            return None
        name, offset = found
        return f"{name}+{offset:#x}" if offset else name

    def moved(self, seen: Iterable[int]) -> Symbols | None:
        """Return the symbols where the kernel runs whose CPUIDs were seen at these addresses; None where the addresses do not tell.

        Symbols that stand elsewhere than where kernels are linked are those of a running kernel, and stay.
        """
        if next((address for address, name in self._rows if name == "_text"), _LINKED_AT) != _LINKED_AT:
            return self
        places = self._executing()
        slides = {
            behind - behind % _STEP
            for address in seen
            for start, size in places
            if address >= _IMAGE and 0 <= (behind := address - start) < _RANGE and behind % _STEP < size
        }
        return Symbols(self._rows, slides.pop()) if len(slides) == 1 else None

    def _executing(self) -> list[tuple[int, int]]:
        """Give where `native_cpuid` stands, each copy of it with its size: a guest may have been seen at very many addresses."""
        ends = [*self._addresses[1:], (1 << 64) - 1]
        return [(start, min(end - start, _FAR)) for (start, name), end in zip(self._rows, ends, strict=True) if name == _EXECUTES_CPUID]

    def _find(self, address: int) -> tuple[str, int] | None:
        at = bisect_right(self._addresses, address) - 1
        if at < 0 or address - self._addresses[at] >= _FAR:
            return None
        return self._rows[at][1], address - self._addresses[at]


def read_symbols(path: str) -> Symbols:
    """Read a System.map, or a copy of a guest's /proc/kallsyms. Raises InputError where it is neither, or hides its addresses."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(_MOST + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=path) from None
    if len(text) > _MOST:
        raise InputError(f"more than {_MOST >> 20} MiB: no System.map or kallsyms is as long", source=path)
    found = list(_parsed(text.splitlines(), path))
    if not found:
        raise InputError("no functions in it: a System.map or a guest's /proc/kallsyms has them", source=path)
    if not any(address for address, _ in found):
        raise InputError("all of its addresses are 0: read /proc/kallsyms as root", source=path)
    return Symbols(found)


def host_symbols() -> Symbols:
    """Read this kernel's symbols; there are none where it hides them (kernel.kptr_restrict)."""
    with suppress(OSError), open("/proc/kallsyms", encoding="ascii", errors="replace") as file:
        return Symbols((address, name) for address, name in _parsed(file, "/proc/kallsyms") if address)
    return Symbols(())


def _parsed(lines: Iterable[str], source: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        address = digits(words[0], 16, U64)
        if address is None or len(words) < 3 or len(words[1]) != 1:
            raise InputError("no line of an address, a letter and a name", source=source, line=number)
        if words[1] in "tTwW":
            yield address, words[2]
