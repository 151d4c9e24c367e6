"""What became of a feature on a path, told of what its name means: a bit, a flag of /proc/cpuinfo, or a vulnerability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vcpuid.answers.explanation import MIRRORS, Explanation, sentence
from vcpuid.answers.fate import followed, not_told
from vcpuid.answers.protection import parts, reported
from vcpuid.answers.shown import ShownFlag, decided, maker, printed, sources
from vcpuid.answers.sysfs import file_of, served
from vcpuid.cpuid.names import Feature
from vcpuid.cpuid.vendors import design_of
from vcpuid.path.pipeline import Path
from vcpuid.reasons import Decision
from vcpuid.reasons.lazy import LazySequence
from vcpuid.told.facts import remedy as to_be_told


def explain(feature: Feature, path: Path) -> Explanation:
    """Tell what each party of a resolved path did to a feature, and why.

    Of a flag of Linux' own, and of a vulnerability, it is told what the guest's Linux says; of a feature that is there for mitigations,
    what it says of the vulnerabilities as well.
    """
    told, files = _told(feature, path), served(feature)
    return replace(told, serves=LazySequence(lambda: reported(path, files))) if files and not told.refused else told


def _told(feature: Feature, path: Path) -> Explanation:
    told = followed(feature, path)
    if feature.is_bug:
        return _vulnerability(told)
    if (maker_ := maker(feature)) is not None and told.visible is False and not told.refused and _others(maker_, path):
        return _unlisted(_foreign(told, maker_))
    if feature.bit is not None:
        return _unlisted(told)
    return told if told.shown is None else _flag(told, told.shown)


_MAKERS = {"intel": "Intel", "amd": "AMD"}


def _others(vendor: str, path: Path) -> bool:
    """Tell whether the guest's processor is another vendor's that is known."""
    own = None if path.inside is None else design_of(path.inside.vendor)
    return own in _MAKERS and own != vendor


def _foreign(told: Explanation, vendor: str) -> Explanation:
    """Tell of a bit that only another vendor's processors have: that is no lack, and nothing helps."""
    assert told.path.inside is not None, "its vendor is known"
    own = _MAKERS[design_of(told.path.inside.vendor)]
    verdict = f"{told.verdict} Only {_MAKERS[vendor]}'s processors have it: this guest's CPU is {own}'s and does not need it."
    return replace(told, verdict=verdict, remedy=None)


def _unlisted(told: Explanation) -> Explanation:
    """Say so where the guest's kernel shows another thing in /proc/cpuinfo than CPUID.

    On what that hangs is weighed only where it does: on a host that does not tell all, its kernel starts once for all that this could be.
    """
    if told.visible is None or told.feature.bit in MIRRORS or printed(told.feature, told.path) in (None, told.visible):
        return told
    found = told.shown
    if found is None or found.value is None:
        return told
    does = "shows it" if found.value else "does not show it"
    why = _decided(decided(told.feature, told.path))
    return replace(told, verdict=f"{told.verdict} Yet the guest's /proc/cpuinfo {does}{why}.")


def _flag(told: Explanation, found: ShownFlag) -> Explanation:
    """Tell of a flag that the guest's Linux makes up, out of which bits of its CPU; what helps is what gives it one of its vendor's."""
    assert told.path.inside is not None, "it shows the flag, or does not"
    vendor = design_of(told.path.inside.vendor)
    parts = tuple(followed(other, told.path) for other in sources(told.feature, vendor))
    own = [part for part in parts if maker(part.feature) in (None, vendor)]
    told = replace(told, sources=parts)
    if found.value is None:
        return replace(told, verdict=not_told(told.feature, found.depends), remedy=to_be_told(found.depends))
    if found.value:
        making = next((part for part in parts if part.visible), None)
        why = _made_of(making) if making is not None else _decided(decided(told.feature, told.path))
        return replace(told, verdict=f"The guest's /proc/cpuinfo shows {found.name}{why}.", chain=(), remedy=None)
    verdict = f"The guest's /proc/cpuinfo does not show {found.name}"
    if own and not any(part.visible for part in own):
        return replace(told, verdict=f"{verdict}: {_without(own)}, of which Linux makes it.", chain=own[0].chain, remedy=own[0].remedy)
    made = decided(told.feature, told.path)
    helps = next((one.rule.remedy for one in reversed(made) if one.rule.remedy), None)
    return replace(told, verdict=f"{verdict}{_decided(made)}.", chain=(), remedy=helps)


def _made_of(part: Explanation) -> str:
    return f": its Linux makes it of {spelled(part.feature)}, which the guest sees"


def _decided(made: Sequence[Decision]) -> str:
    """Give the rule by which the guest's Linux decided, in brackets: a sentence of its own."""
    return f" ({sentence(made[-1])})" if made else ""


def spelled(feature: Feature) -> str:
    """Name a bit so that it is taken for no other: what Linux or QEMU calls it, and its place."""
    return f"{feature.qemu or feature.name} ({feature.bit})"


def _without(parts: Sequence[Explanation]) -> str:
    names = [spelled(part.feature) for part in parts]
    return f"its CPU lacks {names[0]}" if len(names) == 1 else f"its CPU has neither {' nor '.join(names)}"


def _vulnerability(told: Explanation) -> Explanation:
    """Tell of a vulnerability what the host's kernel and the guest's say in sysfs, and of the bits on which that hangs."""
    file = file_of(told.feature)
    if file is None:
        return told
    (found,) = reported(told.path, [file])
    return replace(told, sysfs=found, sources=parts(found, told.path), verdict=found.sentence(), chain=(), remedy=found.remedy)
