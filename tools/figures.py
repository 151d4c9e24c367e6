"""The figures of a conformance run, and the tables of them that stand in the documentation.

    pytest --figures=FIGURES.json
    python tools/figures.py write FIGURES.json FILE.md…   put the run's figures below each marker of these files
    python tools/figures.py check FIGURES.json FILE.md…   1 where a table is not what the run found

A marker is a line `<!-- figures: kernel program -->`: the table below it is of the parties that are verified so. Parties,
what is compared and how it is verified come from tests/parties.json.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from vcpuid.cpuid.vendors import KINDS
from vcpuid.errors import InputError
from vcpuid.releases import number as release_number

MARKER = re.compile(r"(<!-- figures: (.+) -->\n\n)((?:\|.*\n)*)")


class Party(NamedTuple):
    """A row of tests/parties.json: which part of the path, how it is verified (a key), what is compared."""

    group: str
    how: str
    what: str


_TOLD: dict[str, Any] = json.loads((Path(__file__).parents[1] / "tests" / "parties.json").read_text(encoding="utf-8"))
HOW: dict[str, str] = _TOLD["how"]
PARTIES = {name: Party(*row) for name, row in _TOLD["parties"].items()}


class Figure(NamedTuple):
    """What a run counted of one party for one origin; releases are as captured, None for what had no part in it."""

    party: str
    how: str
    kernel: str | None
    qemu: str | None
    vendor: str | None
    test: str
    exact: int
    tried: int
    skipped: int

    @property
    def linux(self) -> str | None:
        """The series of the kernel's release: `6.12`."""
        return self.kernel and series(self.kernel)

    @property
    def maker(self) -> str | None:
        """The vendor's name as people write it."""
        return self.vendor and name_of(self.vendor)


def series(release: str) -> str:
    """Cut a release to major and minor."""
    return "{}.{}".format(*release_number(release))


def name_of(vendor: str) -> str:
    """Name the vendor that leaf 0 spells; one that nobody knows is spelled as it is."""
    known = KINDS.get(vendor, vendor.strip())
    return known.upper() if len(known) < 4 else known[:1].upper() + known[1:]


def read_figures(path: Path) -> list[Figure]:
    """Read a run's figures; raises InputError for what is none, or is of a party that tests/parties.json does not know."""
    try:
        figures = [Figure(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"not the figures of a run: {error}", source=str(path)) from None
    if unknown := {figure.party for figure in figures} - set(PARTIES):
        raise InputError(f"tests/parties.json has no {', '.join(sorted(unknown))}", source=str(path))
    return figures


def listed(items: Iterable[str]) -> str:
    """Join as a sentence does: a, b and c."""
    *head, last = items
    return f"{', '.join(head)} and {last}" if head else last


def told(figures: Iterable[Figure], nothing: str = "–") -> str:
    """Sum figures up: how many are exact of how many tried, and how many were skipped; in bold where they are not all exact."""
    counted = list(figures)
    if not counted:
        return nothing
    exact, tried, skipped = (sum(getattr(figure, what) for figure in counted) for what in ("exact", "tried", "skipped"))
    text = f"{exact:,} of {tried:,}" if tried else "not run"
    return (text if exact == tried else f"**{text}**") + (f", {skipped:,} skipped" if skipped else "")


def row(*parts: str) -> str:
    """Lay out a row of a Markdown table."""
    return f"| {' | '.join(parts)} |"


def table(heads: list[str], rows: Iterable[list[str]]) -> str:
    """Lay out a Markdown table."""
    return "\n".join([row(*heads), row(*["---"] * len(heads)), *(row(*parts) for parts in rows)])


def of_groups(groups: Iterable[str]) -> list[str]:
    """Give the parties of these groups, in the order of tests/parties.json."""
    return [name for name, party in PARTIES.items() if party.group in groups]


def totals(figures: Iterable[Figure], party: str) -> tuple[str, str]:
    """Sum a party up, and name its tests."""
    measured = [figure for figure in figures if figure.party == party]
    return told(measured, "not run"), ", ".join(f"`{test}`" for test in sorted({figure.test.removeprefix("tests/") for figure in measured}))


def releases(figures: Iterable[Figure]) -> str:
    """Name the releases that answered: `Linux 6.1 and 6.12; QEMU 7.2`."""
    measured = list(figures)
    columns = {"Linux": {f.linux for f in measured if f.linux}, "QEMU": {f.qemu for f in measured if f.qemu}}
    return "; ".join(f"{name} {listed(sorted(found, key=release_number))}" for name, found in columns.items() if found)


def summary(figures: list[Figure], hows: list[str], present: str) -> str:
    """Lay out the table of parties verified so; of a party that this run did not try, the line of the table `present` is kept."""
    lines = [table(["party", "what is compared", "releases", "exact", "in tests/"], [])]
    for party in (party for party, row in PARTIES.items() if row.how in hows):
        measured = [figure for figure in figures if figure.party == party]
        old = next((line for line in present.splitlines() if line.startswith(f"| {party} |")), None)
        new = row(party, PARTIES[party].what, releases(measured), *totals(measured, party))
        lines.append(new if old is None or any(figure.tried for figure in measured) else old)
    return "\n".join(lines) + "\n"


def rewritten(text: str, figures: list[Figure]) -> str:
    """Put the run's figures below each marker of a text."""
    return MARKER.sub(lambda found: found[1] + summary(figures, found[2].split(), found[3]), text)


def main(act: str, source: Path, *files: Path) -> int:
    """Write or check the tables of files; raises InputError for another wish or a file without a marker."""
    figures = read_figures(source)
    status = 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        if act not in ("write", "check") or not MARKER.search(text):
            raise InputError(f"nothing to {act}", source=str(file))
        new = rewritten(text, figures)
        if act == "write":
            file.write_text(new, encoding="utf-8")
        elif new != text:
            print(f"{file}: not what the run found: python tools/figures.py write {source} {file}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], *map(Path, sys.argv[2:])))
    except InputError as error:
        sys.exit(str(error))
