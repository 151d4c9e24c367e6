"""Features as people name them on the command line: a spelling each, a list, a line of a log, all of it from standard input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vcpuid.cli.swapped import no_feature
from vcpuid.errors import InputError

if TYPE_CHECKING:
    from vcpuid.cpuid.names import Feature


def features(texts: Sequence[str], kernel: str | None = None) -> tuple[Feature, ...]:
    """Return the features that arguments name, each once, in their order; `-` is standard input. Raises InputError where one names none.

    With a `kernel`, a name of its /proc/cpuinfo means the flag that it shows there.
    """
    from vcpuid.answers.shown import as_printed
    from vcpuid.answers.sysfs import bug_of
    from vcpuid.cpuid.names import find

    found: list[Feature] = []
    for text in unparted(texts):
        try:
            found.append(find(text) if kernel is None else as_printed(text, kernel))
        except InputError:
            bug = bug_of(text)
            found.extend(_in_text(text) if bug is None else [bug])
    return tuple(dict.fromkeys(found))


def unparted(texts: Sequence[str]) -> Iterator[str]:
    """Put the arguments together that a shell made of one label of QEMU's without quotes, as `CPUID.07H:EBX.avx2 [bit 5]`."""
    label: list[str] = []
    for text in texts:
        if label and not (text == "[bit" or (label[-1] == "[bit" and text.endswith("]"))):
            yield " ".join(label)
            label = []
        label.append(text)
    if label:
        yield " ".join(label)


def collective(texts: Sequence[str]) -> Iterator[str]:
    """Say of each argument that is a name of several features for which of them it is taken, and which have names that begin alike."""
    from vcpuid.cpuid.feature_table import key_of
    from vcpuid.cpuid.names import COLLECTIVE, all_features, find, meant

    for text in dict.fromkeys(texts):
        taken = [find(name).name for name in COLLECTIVE.get(key_of(text), ())]
        if len(taken) < 2 or meant(text):
            continue
        alike = {feature.name for feature in all_features() if key_of(feature.name).startswith(key_of(text))}
        others = sorted(alike.difference(taken))
        more = f"; others, to be named by themselves: {' '.join(others)}" if others else ""
        yield f"{text} is taken for {' '.join(taken)}{_WHOSE.get(key_of(text), '')}{more}"


_WHOSE = {"avx512": ", those that x86-64-v4 asks for"}
"""Who puts these features together, of a name that others take for more."""


def _in_text(text: str) -> tuple[Feature, ...]:
    from vcpuid import diagnosis
    from vcpuid.formats.files import read_text

    try:
        return diagnosis.features(read_text("-", colours=True)[1] if text == "-" else text)
    except InputError as error:
        raise no_feature(error) from None
