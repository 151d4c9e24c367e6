"""What XenServer's and XCP-ng's `xe host-cpu-info` prints: whole registers of a host, joined by `-`, in the order of Xen's feature sets.

        features: 7ffafbff-bfebfbff-00000021-2c100800
    features_hvm: 1fcbfbff-f7fa3223-2c100800-00000121-0000000f-219c07ab-…

The order is that of xen/include/public/arch-x86/cpufeatureset.h. The first line is of XenServer 5.6 and has an order of its own (xapi's
design of heterogeneous pools: base_ecx, base_edx, ext_ecx, ext_edx). No leaf is whole: what is read is the features that are on, and
those that are off.
"""

from __future__ import annotations

import re

from vcpuid.cpuid import Bit, CpuidWord, MsrWord, Snapshot
from vcpuid.cpuid.names import by_bit, short_place
from vcpuid.cpuid.words import Word
from vcpuid.errors import InputError
from vcpuid.formats.dump import words
from vcpuid.formats.form import Format

_WORDS: tuple[tuple[Word, int], ...] = (
    (CpuidWord(1, 0, "edx"), 0), (CpuidWord(1, 0, "ecx"), 0), (CpuidWord(0x80000001, 0, "edx"), 0), (CpuidWord(0x80000001, 0, "ecx"), 0),
    (CpuidWord(0xD, 1, "eax"), 0), (CpuidWord(7, 0, "ebx"), 0), (CpuidWord(7, 0, "ecx"), 0), (CpuidWord(0x80000007, 0, "edx"), 0),
    (CpuidWord(0x80000008, 0, "ebx"), 0), (CpuidWord(7, 0, "edx"), 0), (CpuidWord(7, 1, "eax"), 0), (CpuidWord(0x80000021, 0, "eax"), 0),
    (CpuidWord(7, 1, "ebx"), 0), (CpuidWord(7, 2, "edx"), 0), (CpuidWord(7, 1, "ecx"), 0), (CpuidWord(7, 1, "edx"), 0),
    (MsrWord(0x10A), 0), (MsrWord(0x10A), 32), (CpuidWord(0x80000021, 0, "ecx"), 0),
)  # fmt: skip
"""The words of a feature set, each a register, or 32 bits of an MSR from the given one on."""

_OLD = tuple(_WORDS[number] for number in (1, 0, 3, 2))
"""The words of XenServer 5.6's."""

_LINE = re.compile(
    r"features(?<!\wfeatures)(_hvm|_hvm_host|_pv|_pv_host)?[ \t]*:[ \t]*([0-9a-f]{8}(?:-[0-9a-f]{8}){1,40})\s*(?:;|$)", re.MULTILINE
)

_BEGINS = re.compile(r"features(?<!\wfeatures)(?:_hvm|_pv)?(?:_host)?[ \t]*:[ \t]*[0-9a-f]{1,8}(?:-|\s*(?:;|$))", re.MULTILINE)

_LINES = {"vendor": "vendor_id", "family": "cpu_family", "model": "model", "stepping": "stepping"}
_IDENTITY = re.compile(rf"\b({'|'.join(_LINES)})[ \t]*:[ \t]*([0-9]{{1,9}}|[A-Za-z]{{12}})\s*(?:;|$)", re.MULTILINE)
"""The lines that /proc/cpuinfo has too."""


def read(text: str, source: str) -> list[Snapshot]:
    """Read the host's features; raises InputError for a set that is cut, told twice, or of more words than Xen's newest has."""
    found: dict[str, str] = {}
    for line in _BEGINS.finditer(text):
        told = _LINE.match(text, line.start())
        if told is None:
            raise InputError("a feature set that is cut or damaged", source=source, line=text.count("\n", 0, line.start()) + 1)
        if found.setdefault(told[1] or "", told[2]) != told[2]:
            raise InputError("a second, different feature set", source=source, line=text.count("\n", 0, line.start()) + 1)
    name = next(name for name in ("_hvm_host", "_hvm", "", "_pv_host", "_pv") if name in found)
    sets, known = found[name].split("-"), _WORDS if name else _OLD
    if len(sets) > len(known):
        raise InputError(f"a feature set of {len(sets)} words: {len(known)} are known", source=source)
    named: dict[str, bool] = {}
    for value, (word, first) in zip(words(sets), known, strict=False):
        for position in range(32):
            bit = Bit(word, first + position)
            if by_bit(bit) is not None:
                named[short_place(bit)] = bool(value >> position & 1)
    return [Snapshot(named=named, cpuinfo={_LINES[name]: value for name, value in _IDENTITY.findall(text)})]


FORMAT = Format("xenserver", "xe host-cpu-info", lambda text: bool(_LINE.search(text)), read, holds=("named",))
