"""vcpuid check of several hosts: a row, or for programs a document, each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vcpuid.cli import safe
from vcpuid.cli.check_rows import NOT_TRIED, failed, word
from vcpuid.cli.checked import HostChecked, unread_document
from vcpuid.cli.fleet_options import short
from vcpuid.cli.folder import files
from vcpuid.cli.output import Sheet, emit
from vcpuid.cli.setup import print_warnings
from vcpuid.cli.short import ROWS, Cut, some
from vcpuid.cli.standing import software
from vcpuid.cli.streams import hushed, reader_left, tell
from vcpuid.errors import InputError, VcpuidError

if TYPE_CHECKING:
    from vcpuid.cli.domain import AskedCpu
    from vcpuid.cli.setup import Asked

_COLUMNS = ["host", "what", "fails", "number", "lacks"]
_FIELDS = ["host", "what", "asked", "lacks", "why", "proposal", "nearest", "nearest_keeps", "breaks"]
_TITLES = {"what": "answer", "fails": "fails at", "number": "lacks", "lacks": "features", "proposal": "recommended"}
_NAMES = 8
"""Missing features of a host, where there are few hosts, that people are shown unless they ask for all; of many the number alone."""

_SAID = {
    "lacks": ("starts", "start", "it without some of them"),
    "refused": ("refuses", "refuse", "it"),
    "aborts": ("aborts", "abort", ""),
    "depends": ("does", "do", "not tell enough to say"),
    "unknown": ("has", "have", "a QEMU of which it is not known"),
    "not tried": ("has", "have", "a KVM on which it was not tried"),
    "error": ("could", "could", "not be read"),
}
"""What one host does, or several do, by the word of their verdict."""
_WORST = ("runs", "lacks", "breaks", "not tried", "unknown", "depends", "error", "refused", "aborts")
"""Words of verdicts, and a guest that starts and fails, the worst last."""

_SUBJECTS = 3
"""Things that break a guest of which the second line tells."""


class _Row(NamedTuple):
    """What is kept of a host's answer, which with its path takes a megabyte: of many there are only these.

    `record` is its row, `document` its JSON where that is asked for, `said` the verdict in a sentence, `software` what it stands on and
    `breaks` the things at which a guest would fail. `error` says why there is no answer.
    """

    host: str
    status: int
    record: dict[str, object]
    document: dict[str, object]
    said: str = ""
    software: str | None = None
    remarks: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    error: str | None = None

    @property
    def weight(self) -> tuple[int, int]:
        """How bad it is: by the word, and by how much a guest lacks."""
        lacks, place = self.record["lacks"], _WORST.index(str(self.record["what"]))
        worst = max(place, _WORST.index("breaks")) if self.breaks else place
        return worst, len(lacks) if isinstance(lacks, list) else 0


def _answered(found: HostChecked, asked: Asked, form: str) -> _Row:
    answer, order = found.answer, found.order
    counts, told = answer.counts, word(answer, order)
    breaks = "; ".join(hazard.rule.consequence for hazard in found.hazards if hazard.breaks)
    objection = None if order is None else order.objection
    subjects = tuple(subject for hazard in found.hazards if hazard.breaks for subject in hazard.subjects)
    record = {
        "host": found.host,
        "what": told,
        "asked": len(counts.asked),
        "lacks": list(counts.lacks),
        "why": answer.refusal or objection or answer.not_known or (NOT_TRIED if told == "not tried" else breaks) or None,
        "proposal": answer.proposal,
        "nearest": answer.nearest,
        "nearest_keeps": counts.nearest_keeps,
        "breaks": list(subjects),
    }
    document = found.as_dict() if form == "json" else {}
    on = software(answer.setup)
    return _Row(found.host, found.status, record, document, str(answer), on, answer.remarks, subjects)


def _unanswered(host: str, error: VcpuidError) -> _Row:
    record: dict[str, object] = {
        **dict.fromkeys(_FIELDS),
        "host": host,
        "what": failed(error),
        "lacks": [],
        "why": str(error),
        "breaks": [],
    }
    return _Row(host, error.exit_status, record, unread_document(host, error), error=str(error))


def on_hosts(wanted: AskedCpu, cpu: str, sources: Sequence[str], asked: Asked, form: str, *, everything: bool, probe: bool) -> int:
    """Print the answers about all hosts, and return the highest of their exit statuses.

    Raises InputError where there are many files and hardly a snapshot among them.
    """
    damaged: list[_Row] = []
    named = (name for source in dict.fromkeys(sources) for name in _files(source, damaged))
    within = " ".join(dict.fromkeys(sources))[:200]
    rows = [*_judged(wanted, named, within, asked, form, probe), *damaged]
    for row in rows:
        if row.error is not None:
            tell(row.error, error=True)
    if hushed() and (misspelled := _misspelled(rows)) is not None:
        tell(misspelled, error=True)
    print_warnings(_remarks([row for row in rows if row.error is None]))
    emit(_sheet(rows, cpu if wanted.domain is not None else f"-cpu {cpu}", cpu, everything), form)
    return max((row.status for row in rows), default=0)


def _files(source: str, damaged: list[_Row]) -> Iterator[str]:
    """Give what a source names; of a folder, or a part of it, in which nothing can be read, a row is put into `damaged`."""
    wrong: list[InputError] = []
    empty = True
    for name in files(source, wrong.append):
        empty = False
        yield name
    if empty and not wrong:
        wrong.append(InputError("there is no file in it", source=source))
    damaged += [_unanswered(error.source or source, error) for error in wrong]


def _judged(wanted: AskedCpu, sources: Iterable[str], within: str, asked: Asked, form: str, probe: bool) -> Iterator[_Row]:
    from vcpuid.sources.folders import Patience

    seen: set[str] = set()
    patience = Patience(within)
    for source in sources:
        if reader_left():
            return
        if source in seen:
            continue
        seen.add(source)
        try:
            row = _answered(HostChecked.of(wanted, source, asked, probe=probe), asked, form)
        except VcpuidError as error:
            row = _unanswered(source, error)
        yield row
        patience.count(read=row.error is None)


def _remarks(rows: Sequence[_Row]) -> list[str]:
    """Give what is to be said of the answers, each remark once, and of which hosts it is where not of all."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for remark in dict.fromkeys(row.remarks):
            found.setdefault(remark, []).append(row.host)
    return [remark if len(hosts) == len(rows) else f"{short(hosts)}: {remark}" for remark, hosts in found.items()]


def _sheet(rows: Sequence[_Row], subject: str, cpu: str, everything: bool) -> Sheet:
    from vcpuid.hazards.report import SCHEMA

    records = [row.record for row in rows]
    counted = Counter(str(record["what"]) for record in records)
    runs, others = counted.pop("runs", 0), [_said(told, number) for told, number in counted.items()]
    ends = [os.path.basename(row.host) for row in rows]
    names = [safe.line(name) for name in (ends if len(set(ends)) == len(ends) else (row.host for row in rows))]
    others += _failing([(name, row.breaks) for name, row in zip(names, rows, strict=True) if row.breaks])
    basis = next(([f"{row.software}, the kernel of each host"] for row in rows if row.software is not None), [])
    misspelled = _misspelled(rows)
    head = f"{subject} starts with every requested feature on {runs} of {len(rows)} {'host' if len(rows) == 1 else 'hosts'}"
    above = [head, "; ".join([*basis, *others])] if misspelled is None else [misspelled, *basis]
    every = list(zip(rows, names, strict=True))
    by_weight = every if everything else sorted(every, key=lambda one: one[0].weight, reverse=True)
    named = None if everything else _NAMES if len(rows) <= ROWS + 1 else 0
    shown = [{**row.record, **_shown(row, named), "host": name} for row, name in by_weight]
    whole = [_shown(row, named) for row in rows] == [_shown(row, None) for row in rows]
    return Sheet(
        [*_COLUMNS, "proposal"] if everything else _COLUMNS,
        [] if misspelled is not None else shown,
        {"schema": SCHEMA, "cpu": cpu, "hosts": [row.document for row in rows]},
        records=records,
        fields=_FIELDS,
        titles=_TITLES,
        lines=[f"{record['host']} {record['what']}" for record in records],
        head=[*above, ""],
        cut=None if everything else Cut(len(rows), what="hosts", more="" if whole else "every name"),
    )


def _misspelled(rows: Sequence[_Row]) -> str | None:
    """Say of a name that no QEMU has what may be meant, whichever the host."""
    return next((row.said for row in rows if row.error is None and row.status == InputError.exit_status), None)


def _said(told: str, number: int) -> str:
    one, several, what = _SAID[told]
    return f"{number} {one if number == 1 else several} {what}".rstrip()


def _failing(hosts: Sequence[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Say on how many hosts a guest that starts fails, at what on most of them, and which host to ask about for the rest."""
    if not hosts:
        return []
    counted = Counter(subject for _, subjects in hosts for subject in dict.fromkeys(subjects))
    more = len(counted) - _SUBJECTS
    what = ", ".join(subject for subject, _ in counted.most_common(_SUBJECTS)) + (f" and {more} more" if more > 0 else "")
    return [f"on {len(hosts)} a guest that starts fails at {what}: check of {hosts[0][0]} alone tells why"]


def _shown(row: _Row, named: int | None) -> dict[str, object]:
    """Lay a row out for people: so many of the features that are missing, or in their place why there is no answer, and what breaks."""
    names = row.record["lacks"]
    more = len(row.breaks) - 1
    fails = ", ".join(row.breaks) if named is None or more < 1 else f"{row.breaks[0]} and {more} more"
    if not isinstance(names, list) or not names:
        return {"fails": fails, "number": "", "lacks": "" if row.breaks else safe.line(str(row.record["why"] or ""))}
    lacks = " ".join(names) if named is None else some(names, named) if named else ""
    return {"fails": fails, "number": f"{len(names)} of {row.record['asked']}", "lacks": lacks}
