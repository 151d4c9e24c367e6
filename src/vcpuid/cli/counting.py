"""What the verb diff has in common for all that it compares: what is left out, and the line that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from vcpuid.answers.between import Parting
    from vcpuid.answers.compare import Difference
    from vcpuid.answers.compare_report import Counts
    from vcpuid.cpuid import CpuidTable
    from vcpuid.decode import FieldChange

D = TypeVar("D", "Difference", "FieldChange", "Parting")


def counted(found: list[D], ignore: tuple[str, ...], tables: list[CpuidTable]) -> list[D]:
    """Give the differences that --ignore does not leave out."""
    from vcpuid.decode import Ignored

    ignored = Ignored(ignore, tables)
    return [difference for difference in found if difference.word is None or ignored.counts(difference.word, difference.mask)]


def foot(what: str, counts: Counts, ignore: tuple[str, ...]) -> list[str]:
    """Say how many differ, are the same and are not told, and how many more are left out."""
    told = [f"The {what} are the same"]
    if counts.differ or counts.not_told:
        differ = f"{counts.differ} {what} differ" if counts.differ else f"No {what} are known to differ"
        told = [differ, f"{counts.same} are the same"]
    told += [f"{counts.not_told} {'is' if counts.not_told == 1 else 'are'} not told"] if counts.not_told else []
    told += [f"{counts.left_out} left out ({' '.join(f'--ignore {text}' for text in ignore)})"] if counts.left_out else []
    return ["", f"{', '.join(told)}."]
