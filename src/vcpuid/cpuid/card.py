"""All that is known of a feature's names on one card: what `vcpuid names` prints."""

from __future__ import annotations

from collections.abc import Iterable

from vcpuid.cpuid.feature_words import in_word, parse_word
from vcpuid.cpuid.features import Feature, LinuxName
from vcpuid.cpuid.names import find_all, spellings
from vcpuid.cpuid.notes import notes
from vcpuid.errors import InputError
from vcpuid.releases import KERNELS, Release

SCHEMA = "vcpuid/names/1"
"""The form of `report`."""


def look_up(text: str, kernel: str = KERNELS[-1]) -> tuple[Feature, ...]:
    """Find what a text means: the features of that spelling, else those of the word that it names.

    Of Linux' own words, the features are those that `kernel` has there. Raises InputError where the text is neither.
    """
    try:
        return find_all(text)
    except InputError as unknown:
        try:
            word = parse_word(text)
        except InputError:
            raise unknown from None
        return in_word(word, kernel)


def card(feature: Feature, kernel: str = KERNELS[-1]) -> dict[str, object]:
    """Give a feature's card, fit for JSON; the notes are about `kernel`."""
    return {
        "name": feature.name,
        "place": str(feature.place),
        "description": feature.description,
        "linux": [_linux(name) for name in feature.linux_names],
        "hidden": feature.hidden,
        "qemu": [{"property": name.name, "aliases": list(name.aliases), "releases": list(name.releases)} for name in feature.qemu_names],
        "libvirt": feature.libvirt,
        "manual": feature.manual,
        "others": list(feature.others),
        "copy_of": str(feature.copy_of.bit) if feature.copy_of else None,
        "spellings": list(spellings(feature)),
        "notes": [note._asdict() for note in notes(feature, kernel)],
    }


def report(features: Iterable[Feature], kernel: Release) -> dict[str, object]:
    """Put the cards of features into a document; the notes are about the tables that stand for `kernel`."""
    return {"schema": SCHEMA, "kernel": kernel.as_dict(), "features": [card(feature, kernel.tables) for feature in features]}


def _linux(name: LinuxName) -> dict[str, object]:
    return {
        "symbol": name.symbol,
        "number": None if name.number is None else f"{name.number // 32}*32+{name.number % 32}",
        "word": name.word,
        "cpuinfo": name.cpuinfo,
        "kernels": list(name.kernels),
    }
