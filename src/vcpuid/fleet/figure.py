"""A fleet as a picture: how many hosts each class has, and how many features the others' guests lose by it. SVG, light and dark.

Every colour is a class of its style sheet, so that whoever shows the picture in a page may give it others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from xml.sax.saxutils import escape

from vcpuid.fleet.blame import Blame
from vcpuid.fleet.members import spoken

_ROW, _TOP, _BAR = 44, 78, 18
_LABELS, _HOSTS, _LOST, _GAP = 300, 130, 250, 46
"""Widths of the three columns and of what is between them, in pixels."""
_MOST = 24
"""Classes that have a row of their own; those of the fewest hosts are put together."""
_LONGEST = 40

_STYLE = """
.ground { fill: #ffffff; }
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.small { font-size: 11.5px; fill: #59636e; }
.head { font-weight: 600; }
.hosts { fill: #57789c; }
.alone { fill: #b3502f; }
.shared { fill: #e3b59f; }
.line { stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; }
  text { fill: #f0f6fc; }
  .small { fill: #9198a1; }
  .hosts { fill: #7ea6d3; }
  .alone { fill: #e0764f; }
  .shared { fill: #7d4a37; }
  .line { stroke: #3d444d; }
}
"""


class ClassRow(NamedTuple):
    """A class: what it is, who its hosts are and how many, the features that are lost by it alone, and those by it and others."""

    cpu: str
    who: str
    hosts: int
    alone: int
    shared: int


def rows(found: Blame) -> list[ClassRow]:
    """Count by class, the largest first: a feature is lost by it alone where the others could have it without it."""
    made = []
    for group in found.census.groups:
        id_ = group.kind.id
        by_it = [loss for loss in found.losses if id_ in {culprit.kind.id for culprit in loss.culprits}]
        alone = {name for loss in by_it if {culprit.kind.id for culprit in loss.culprits} == {id_} for name in loss.features}
        others = {name for loss in by_it for name in loss.features} - alone
        made.append(ClassRow(group.kind.cpu, spoken([group]), group.hosts, len(alone), len(others)))
    kept, rest = made[:_MOST], made[_MOST:]
    if rest:
        named = f"{len(rest)} classes more"
        kept.append(ClassRow(named, "", sum(row.hosts for row in rest), max(row.alone for row in rest), max(row.shared for row in rest)))
    return kept


def svg(found: Blame) -> Iterator[str]:
    """Draw a fleet's blame, line by line."""
    drawn = rows(found)
    width, height = _LABELS + _HOSTS + _LOST + 3 * _GAP, _TOP + _ROW * len(drawn) + 12
    most_hosts = max(row.hosts for row in drawn)
    most_lost = max(1, *(row.alone + row.shared for row in drawn))
    first, second = _LABELS + _GAP // 2, _LABELS + _HOSTS + _GAP * 3 // 2
    title = f"{found.census.hosts} hosts by class, and the features that are lost by each"
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    yield f"<title>{escape(title)}</title>"
    yield f"<style>{_STYLE}</style>"
    yield f'<rect class="ground" width="{width}" height="{height}" rx="6"/>'
    yield _text(12, 24, f"All can give {found.shared} features, any of them {found.offered}", "head")
    yield _text(first, 62, "hosts", "small")
    yield f'<rect class="alone" x="{second}" y="52" width="10" height="10"/>' + _text(second + 15, 62, "lost by it alone", "small")
    yield f'<rect class="shared" x="{second + 118}" y="52" width="10" height="10"/>' + _text(second + 133, 62, "by it and others", "small")
    for number, row in enumerate(drawn):
        top = _TOP + number * _ROW
        bar = top + (_ROW - _BAR) // 2
        yield f'<line class="line" x1="12" x2="{width - 12}" y1="{top}" y2="{top}"/>'
        yield _text(12, top + 19, _cut(row.cpu), "")
        yield _text(12, top + 35, _cut(row.who), "small")
        yield from _bar(first, bar, ((row.hosts, "hosts"),), _HOSTS / most_hosts, str(row.hosts))
        told = f"{row.alone} + {row.shared}" if row.alone and row.shared else str(row.alone or row.shared)
        yield from _bar(second, bar, ((row.alone, "alone"), (row.shared, "shared")), _LOST / most_lost, told)
    yield "</svg>"


def _bar(left: float, top: int, parts: tuple[tuple[int, str], ...], scale: float, told: str) -> Iterator[str]:
    for number, style in parts:
        if number:
            wide = max(number * scale, 1.5)
            yield f'<rect class="{style}" x="{left:.1f}" y="{top}" width="{wide:.1f}" height="{_BAR}"/>'
            left += wide
    yield _text(left + 6, top + _BAR - 5, told, "small")


def _text(left: float, top: int, text: str, style: str) -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{left:.1f}" y="{top}">{escape(text)}</text>'


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
