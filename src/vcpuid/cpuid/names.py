"""One feature, many spellings: what Linux, KVM, QEMU, libvirt, Xen, compilers and the manuals call a bit.

`find("avx2")`, `find("X86_FEATURE_XMM3")`, `find("sse4_1")`, `find("CPUID.07H:EBX.avx2 [bit 5]")` and `find("7.0.ebx.5")` all give a
`Feature`; `by_bit` gives the one at a place. Spellings don't care for case, nor for `-` against `_`, nor for a leading `+` or `-`.

A spelling that several features share (QEMU's `ibpb` is AMD's CPUID bit, Linux' `ibpb` is a flag of its own) means, in this order:
a name that Linux, KVM, QEMU or libvirt give before all others; a bit of hardware before a flag of Linux' own before a bug; then by
who says it, QEMU, /proc/cpuinfo, libvirt, Linux' symbol, QEMU's alias; then the lower place. A spelling that begins with X86_FEATURE_
and the like means Linux' symbol alone. `find_all` gives all of them, in that order.

The table is data/features.json, written by tools/features.py, with data/aliases.json, written by tools/aliases.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from vcpuid.cpuid.feature_table import Who, key_of, names_of, table
from vcpuid.cpuid.features import Feature, LinuxName, QemuName, short_place
from vcpuid.cpuid.words import Bit, CpuidWord, LinuxWord, msr_bit, parse_bit
from vcpuid.errors import InputError
from vcpuid.numbers import decimal

__all__ = [
    "COLLECTIVE", "Feature", "LinuxName", "QemuName", "all_features", "by_bit", "by_word", "find", "find_all", "meant", "near",
    "parse_place", "short_place", "spellings",
]  # fmt: skip


COLLECTIVE = {
    "tsx": ("hle", "rtm"),
    "sse4": ("sse4.1", "sse4.2"),
    "avx512": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    "amx": ("amx-tile", "amx-int8", "amx-bf16"),
    "cet": ("cet-ss", "cet-ibt"),
    "bmi": ("bmi1", "bmi2"),
    "vt-x": ("vmx",),
    "vtx": ("vmx",),
    "amd-v": ("svm",),
    "nested-virt": ("vmx", "svm"),
    "slat": ("vmx-ept", "npt"),
    "urg": ("vmx-unrestricted-guest",),
    "np": ("npt",),
    "dep": ("nx",),
    "spectre": ("spectre_v1", "spectre_v2"),
    "rdwrfsgsbase": ("fsgsbase",),
}
"""What people call features that have names of their own, or several together; QEMU's names of these, of vulnerabilities Linux's.

The last five are Windows': of Sysinternals' coreinfo, systeminfo and IsProcessorFeaturePresent.
"""


def find(text: str) -> Feature:
    """Find the feature that a spelling means; raises InputError, with names that look alike, where there is none.

    A place without any name gives a Feature without names.
    """
    return find_all(text)[0]


def find_all(text: str) -> tuple[Feature, ...]:
    """Find all features of a spelling, the one that `find` gives first; raises InputError where there is none."""
    if found := meant(text):
        return found
    bare = text.strip().lstrip("+-")
    key = key_of(bare)
    if key in table().switches:
        raise InputError(f"{bare} is a property of QEMU's CPUs that stands for no feature bit")
    alike = " or ".join(near(bare))
    raise InputError(f"no CPU feature is called {text!r}" + (f"; did you mean {alike}?" if alike else ""))


def meant(text: str) -> tuple[Feature, ...]:
    """Give all features of a spelling, as `find_all` does, and none where there is none: nothing that looks alike is looked for."""
    bare = text.strip().lstrip("+-")
    key = key_of(bare)
    if found := table().called(key):
        return found if len(found) == 1 else tuple(sorted(found, key=lambda feature: _rank(feature, key)))
    if (bit := parse_place(bare)) is not None:
        return (by_bit(bit) or Feature(bit),)
    return ()


def by_bit(bit: Bit) -> Feature | None:
    """Return the feature at a place, None where no party names it; in Linux' own words, the feature that the newest kernel has there."""
    return table().at(short_place(bit))


def by_word(word: CpuidWord) -> tuple[Feature, ...]:
    """Return the features of one register of a leaf that any party names, from the table's first to its last."""
    return table().of_word(short_place(Bit(word, 0)).rpartition(".")[0])


def all_features() -> tuple[Feature, ...]:
    """Give all of them: CPUID by leaf, feature MSRs, then what only Linux has, by symbol."""
    return table().features()


def spellings(feature: Feature) -> tuple[str, ...]:
    """Give every text for which `find_all` gives the feature: its names, the best first, and its place."""
    names = [text for _, text in sorted(_names(feature))]
    return tuple(dict.fromkeys([feature.name, *names, short_place(feature.place), str(feature.place)]))


_IN_PLACES = frozenset(".[*")
"""Characters of which every spelling of a place has one."""


def parse_place(text: str) -> Bit | None:
    """Read a place: all that `words.parse_bit` takes, `msr.10a.0`, `CPUID_LNX_4.6`, and Linux' numbers as `11*32+6` (of the newest kernel).

    QEMU 7.2 and 10.0 log no sub-leaf. Where such a log names the feature, the name tells which sub-leaf it was.
    """
    if _IN_PLACES.isdisjoint(text):  # as most names are, of which an input may have tens of thousands
        return None
    import re

    if match := re.fullmatch(r"msr\.(?:0x)?([0-9a-f]+)\.([0-9]+)", text, re.IGNORECASE):
        return msr_bit(match[1], match[2])
    if match := re.fullmatch(r"\(?\s*([0-9]+)\s*\*\s*32\s*\+\s*([0-9]+)\s*\)?", text):
        words, rest = decimal(match[1]), decimal(match[2])
        word, position = (0, None) if words is None or rest is None else divmod(words * 32 + rest, 32)
        return None if position is None or word >= len(table().words) else Bit(LinuxWord(table().words[word]), position)
    if match := re.fullmatch(r"(\w+)(?:\.([0-9]+)|\s*\[bit ([0-9]+)\])", text):
        position = decimal(match[2] or match[3], 31)
        own = None if position is None else Bit(LinuxWord(match[1].upper()), position)
        return own if own is not None and by_bit(own) else None
    place = parse_bit(text)
    if place is None:
        return _by_label(text)
    named = re.fullmatch(r"CPUID\.[0-9a-f]+h:e[abcd]x\.([\w.-]+)\s*\[bit [0-9]+\]", text, re.IGNORECASE)
    if named is not None:
        for feature in table().called(key_of(named[1])):
            if feature.bit is not None and _without_index(feature.bit) == _without_index(place):
                return feature.bit
    return place


def _by_label(text: str) -> Bit | None:
    """Read a label of QEMU's that was pasted without its "[bit N]": its name says which bit of the register or MSR it is."""
    import re

    label = re.fullmatch(
        r"((?:CPUID\.[0-9a-f]+h:|CPUID\[[^\]]{1,40}\]\.)e[abcd]x|MSR\([0-9a-f]+h\))\.([\w.-]+)", text.strip(), re.IGNORECASE
    )
    if label is None:
        return None
    for feature in table().called(key_of(label[2])):
        bit = feature.bit
        at = None if bit is None else parse_bit(f"{label[1]} [bit {bit.position}]")
        if bit is not None and at is not None and (bit == at or ("[" not in text and _without_index(bit) == _without_index(at))):
            return bit
    return None


def _without_index(bit: Bit) -> tuple[object, ...]:
    word = bit.word
    return (word.function, word.register, bit.position) if isinstance(word, CpuidWord) else bit


_Rank = tuple[bool, int, Who]


def _names(feature: Feature) -> Iterator[tuple[_Rank, str]]:
    """Give the names of a feature, each with the rank it has among features of the same name: the lower the better."""
    kind = 2 if feature.is_bug else 1 if feature.bit is None else 0
    for who, text in names_of(feature.linux_names, feature.qemu_names, feature.libvirt, feature.manual, feature.copy_of, feature.others):
        if who is Who.FULL_SYMBOL:
            # In full, a symbol means the bit that Linux' own array has, before one that KVM alone gives the same name.
            yield (False, not any(name.symbol == text and name.number is not None for name in feature.linux_names), who), text
        else:
            yield (who >= Who.MANUAL, kind, who), text


def _rank(feature: Feature, key: str) -> _Rank:
    return min(rank for rank, text in _names(feature) if key_of(text) == key)


_LONGEST = 200
"""Letters of a name that are looked at: no name of a feature is half as long, and none looks like one that is."""


def near(text: str) -> tuple[str, ...]:
    """Give the names that look like a text, the likeliest first: to ask whether one of them is meant, never to take it for meant."""
    import difflib

    key = key_of(text)
    return COLLECTIVE.get(key) or tuple(difflib.get_close_matches(key[:_LONGEST], table().keys(), n=3, cutoff=0.7))
