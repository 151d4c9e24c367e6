"""vcpuid check of several hosts: a row, or for programs a document, each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vcpuid.cli.check_rows import NOT_TRIED, word
from vcpuid.cli.checked import Checked, unread_document
from vcpuid.cli.folder import files
from vcpuid.cli.output import Sheet, emit
from vcpuid.cli.setup import print_warnings
from vcpuid.cli.standing import software
from vcpuid.cli.streams import reader_left, tell
from vcpuid.errors import InputError, VcpuidError

if TYPE_CHECKING:
    from vcpuid.cli.domain import AskedCpu
    from vcpuid.cli.setup import Asked

_COLUMNS = ["host", "what", "number", "lacks"]
_FIELDS = ["host", "what", "asked", "lacks", "why", "proposal", "nearest", "nearest_keeps"]
_TITLES = {"what": "answer", "number": "lacks", "lacks": "features", "proposal": "recommended"}
_NAMES = 8
"""Missing features of a host that people are shown unless they ask for all."""

_SAID = {
    "runs": "start it with every requested feature",
    "lacks": "start it without some of them",
    "refused": "refuse it",
    "aborts": "abort",
    "depends": "do not tell enough to say",
    "unknown": "have a QEMU of which it is not known",
    "not tried": "have a KVM on which it was not tried",
    "error": "could not be read",
}
"""What hosts do, by the word of their verdict."""


class _Row(NamedTuple):
    """A host's answer, or why there is none."""

    host: str
    checked: Checked | None
    error: VcpuidError | None

    @property
    def status(self) -> int:
        return self.checked.status if self.checked is not None else self.error.exit_status if self.error is not None else 0

    def as_row(self) -> dict[str, object]:
        """For JSON lines and CSV."""
        if self.checked is None:
            refused = self.error is not None and self.error.exit_status == 1
            return {
                **dict.fromkeys(_FIELDS),
                "host": self.host,
                "what": "refused" if refused else "error",
                "lacks": [],
                "why": str(self.error),
            }
        answer, order = self.checked.answer, self.checked.order
        counts, told = answer.counts, word(answer, order)
        breaks = "; ".join(hazard.rule.consequence for hazard in self.checked.hazards if hazard.breaks)
        objection = None if order is None else order.objection
        why = answer.refusal or objection or answer.not_known or (NOT_TRIED if told == "not tried" else breaks) or None
        return {
            "host": self.host,
            "what": told,
            "asked": len(counts.asked),
            "lacks": list(counts.lacks),
            "why": why,
            "proposal": answer.proposal,
            "nearest": answer.nearest,
            "nearest_keeps": counts.nearest_keeps,
        }

    def as_dict(self) -> dict[str, object]:
        """For JSON: the document of a single host."""
        if self.checked is not None:
            return self.checked.as_dict()
        return unread_document(self.host, self.error) if self.error is not None else {}


def on_hosts(wanted: AskedCpu, cpu: str, sources: Sequence[str], asked: Asked, form: str, *, everything: bool, probe: bool) -> int:
    """Print the answers about all hosts, and return the highest of their exit statuses."""
    damaged: list[_Row] = []

    def unlisted(error: InputError) -> None:
        damaged.append(_Row(error.source or "", None, error))

    named = [name for source in sources for name in files(source, unlisted)]
    if not named and not damaged:
        raise InputError("there is no file in it", source=sources[0])
    rows = [*_judged(wanted, named, asked, probe), *damaged]
    misspelled = next((row.checked for row in rows if row.checked is not None and row.checked.status == InputError.exit_status), None)
    for row in rows:
        if row.error is not None:
            tell(str(row.error))
    print_warnings(dict.fromkeys(remark for row in rows if row.checked is not None for remark in row.checked.answer.remarks))
    emit(_sheet(rows, wanted, cpu, asked, everything, misspelled), form)
    return max(row.status for row in rows)


def _judged(wanted: AskedCpu, sources: Sequence[str], asked: Asked, probe: bool) -> Iterator[_Row]:
    for source in sources:
        if reader_left():
            return
        try:
            yield _Row(source, Checked.of(wanted, source, asked, probe=probe), None)
        except VcpuidError as error:
            yield _Row(source, None, error)


def _sheet(rows: Sequence[_Row], wanted: AskedCpu, cpu: str, asked: Asked, everything: bool, misspelled: Checked | None) -> Sheet:
    from vcpuid.hazards.report import SCHEMA

    records = [row.as_row() for row in rows]
    counted = Counter(str(record["what"]) for record in records)
    setup = next((row.checked.answer.setup for row in rows if row.checked is not None), None)
    runs, others = counted.pop("runs", 0), [f"{number} {_SAID[told]}" for told, number in counted.items()]
    subject = f"-cpu {cpu}" if wanted.domain is None else cpu
    head = f"{subject} starts with every requested feature on {runs} of {len(rows)} hosts"
    basis = [] if setup is None else [f"{software(setup, asked)}, the kernel of each host"]
    above = [head, "; ".join([*basis, *others])] if misspelled is None else [str(misspelled.answer), *basis]
    ends = [os.path.basename(row.host) for row in rows]
    names = ends if len(set(ends)) == len(ends) else [row.host for row in rows]
    shown = [{**record, **_shown(record, everything), "host": name} for record, name in zip(records, names, strict=True)]
    return Sheet(
        [*_COLUMNS, "proposal"] if everything else _COLUMNS,
        [] if misspelled is not None else shown,
        {"schema": SCHEMA, "cpu": cpu, "hosts": [row.as_dict() for row in rows]},
        records=records,
        fields=_FIELDS,
        titles=_TITLES,
        lines=[f"{record['host']} {record['what']}" for record in records],
        head=[*above, ""],
    )


def _shown(record: dict[str, object], everything: bool) -> dict[str, object]:
    """Lay a row out for people: what is missing cut, or in its place why there is no answer."""
    names = record["lacks"]
    if not isinstance(names, list) or not names:
        return {"number": "", "lacks": record["why"] or ""}
    cut = names if everything or len(names) <= _NAMES + 1 else [*names[:_NAMES], f"and {len(names) - _NAMES} more (--all)"]
    return {"number": f"{len(names)} of {record['asked']}", "lacks": " ".join(cut)}
