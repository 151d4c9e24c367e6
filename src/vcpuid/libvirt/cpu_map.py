"""libvirt's CPU map: features, models and makers of one release, and sets of features as numbers.

libvirt, src/cpu_map/*.xml and src/cpu/cpu_x86.c (virCPUx86LoadMap). A set of features is an integer whose bit N is the map's Nth feature:
every feature is one bit of one register, so this says what libvirt's virCPUx86Data does, and in the order in which libvirt walks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

from vcpuid import data
from vcpuid.cpuid.words import Bit, CpuidWord, MsrWord, positions
from vcpuid.releases import number

INTEL = "Intel"
_SIGNATURE = 0x0FFF3FFF
"""What libvirt looks at of leaf 1 EAX: not the reserved bits (SIGNATURE_MASK)."""


class MapModel(NamedTuple):
    """A CPU model. `features` are its base's, but for those that were removed there, and its own.

    `signatures` are (family, model, steppings or None for all), `removed` the features that it once had, `added` those that QEMU always
    gave it and libvirt did not know of. `compat` tells that check='partial' compares bits, `canonical` is the name of which it is an alias.
    """

    name: str
    features: int
    vendor: str | None
    signatures: tuple[tuple[int, int, frozenset[int] | None], ...]
    of_hosts: bool
    of_guests: bool
    removed: tuple[str, ...]
    added: int
    compat: bool
    canonical: str | None

    def fits(self, signature: tuple[int, int, int]) -> bool:
        """Tell whether a processor of that family, model and stepping is one of these (virCPUx86SignaturesMatch)."""
        family, model, stepping = signature
        return any(f == family and m == model and (steps is None or stepping in steps) for f, m, steps in self.signatures)


class CpuMap:
    """The map of one release."""

    def __init__(self, release: str) -> None:
        rows = data.load(f"libvirt-{release}")
        self.release = number(release)
        self.vendors: tuple[tuple[str, str], ...] = tuple((name, text) for name, text in rows["vendors"])
        self.names: tuple[str, ...] = tuple(row[0] for row in rows["features"])
        self.numbers: dict[str, int] = {name: place for place, name in enumerate(self.names)}
        self.bits: tuple[Bit, ...] = tuple(_bit(*row[1:5]) for row in rows["features"])
        self.stuck: frozenset[str] = frozenset(row[0] for row in rows["features"] if row[5:] == ["no"])
        self.models: dict[str, MapModel] = _models(rows["models"], self.numbers)

    def mask(self, name: str) -> int:
        """Return a feature as a set; empty for a name that the map does not know."""
        place = self.numbers.get(name)
        return 0 if place is None else 1 << place

    def masks(self, names: Iterable[str]) -> int:
        """Return the set of those names that the map knows."""
        found = 0
        for name in names:
            found |= self.mask(name)
        return found

    def named(self, features: int) -> list[str]:
        """Name the features of a set, in the map's order."""
        names, found = self.names, []
        while features:
            lowest = features & -features
            found.append(names[lowest.bit_length() - 1])
            features ^= lowest
        return found

    def vendor(self, text: str) -> str | None:
        """Return libvirt's name for the maker whose twelve characters these are."""
        return next((name for name, known in self.vendors if known == text), None)

    def by_signature(self, signature: tuple[int, int, int]) -> tuple[tuple[MapModel, ...], ...]:
        """Give the models that have a processor's signature, then the others; all at once where it has none (zeros)."""
        if not any(signature):
            return (tuple(self.models.values()),)
        return _by_signature(self, signature)

    @cached_property
    def words(self) -> tuple[tuple[CpuidWord | MsrWord, tuple[tuple[int, int], ...]], ...]:
        """The registers that have features, each with pairs of a bit's mask and the feature's set."""
        found: dict[CpuidWord | MsrWord, list[tuple[int, int]]] = {}
        for place, bit in enumerate(self.bits):
            assert isinstance(bit.word, CpuidWord | MsrWord)
            found.setdefault(bit.word, []).append((bit.mask, 1 << place))
        return tuple((word, tuple(pairs)) for word, pairs in found.items())

    @cached_property
    def msrs(self) -> frozenset[int]:
        """The MSRs that have features."""
        return frozenset(word.msr for word, _ in self.words if isinstance(word, MsrWord))

    @cached_property
    def broken_tsx(self) -> int:
        """What libvirt takes from Haswells whose TSX is broken."""
        return self.masks(("hle", "rtm"))


@lru_cache(maxsize=64)
def _by_signature(known: CpuMap, signature: tuple[int, int, int]) -> tuple[tuple[MapModel, ...], tuple[MapModel, ...]]:
    fitting = tuple(model for model in known.models.values() if model.fits(signature))
    return fitting, tuple(model for model in known.models.values() if not model.fits(signature))


@cache
def cpu_map(release: str) -> CpuMap:
    """Return a release's map, read once a process."""
    return CpuMap(release)


def signature_of(eax: int) -> tuple[int, int, int]:
    """Split leaf 1 EAX into family, model and stepping (virCPUx86SignatureFromCPUID): the extended ones count in every family."""
    eax &= _SIGNATURE
    return (eax >> 20 & 0xFF) + (eax >> 8 & 0xF), eax >> 12 & 0xF0 | eax >> 4 & 0xF, eax & 0xF


def tsx_is_broken(vendor: str | None, signature: tuple[int, int, int]) -> bool:
    """Tell the Haswells of which libvirt drops hle and rtm (x86DataFilterTSX)."""
    family, model, stepping = signature
    return vendor == INTEL and family == 6 and ((model == 63 and stepping < 4) or model in (60, 69, 70))


def _bit(place: int | str, index: int, register: Any, position: int) -> Bit:
    """Return the bit of a row; an MSR's edx are its upper 32 bits."""
    if place == "msr":
        return Bit(MsrWord(index), position + (32 if register == "edx" else 0))
    return Bit(CpuidWord(int(place), index, register), position)


def _models(rows: list[dict[str, Any]], numbers: dict[str, int]) -> dict[str, MapModel]:
    found: dict[str, MapModel] = {}
    for row in rows:
        base = found.get(row.get("base", ""))
        features = int(row.get("features", "0"), 16)
        signatures = tuple(
            (family, model, None if steps is None else frozenset(steps)) for family, model, steps in row.get("signatures", ())
        )
        vendor = row.get("vendor")
        if base is not None:
            lost = sum(1 << numbers[name] for name in base.removed if name in numbers)
            features |= base.features & ~lost
            if not {"features", "signatures", "vendor", "added", "removed"} & row.keys():
                found[base.name] = base._replace(canonical=row["name"])
            signatures, vendor = signatures or base.signatures, vendor or base.vendor
        found[row["name"]] = MapModel(
            name=row["name"],
            features=features,
            vendor=vendor,
            signatures=signatures,
            of_hosts="host" in row.get("decode", ()),
            of_guests="guest" in row.get("decode", ()),
            removed=tuple(row.get("removed", ())),
            added=int(row.get("added", "0"), 16),
            compat=row.get("compat", False),
            canonical=None,
        )
    return found


def bits_of(features: int, known: CpuMap) -> Iterator[Bit]:
    """Give the bits of CPUID and of MSRs that a set stands for."""
    for place in positions(features):
        yield known.bits[place]
