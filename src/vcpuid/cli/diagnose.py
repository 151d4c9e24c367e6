"""vcpuid diagnose: from what people paste to the features, who took them, and what to do."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.check import written
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import STACK, Asked, has_no_effect, host_option, print_warnings, read_host, stack_options, words_option
from vcpuid.cli.streams import tell

if TYPE_CHECKING:
    from vcpuid.diagnosis import Diagnosis, Finding

COLUMNS = ["feature", "state", "party", "why"]
FIELDS = ["message", "text", "feature", "bit", "state", "party", "why", "remedy"]
_ON_THIS_HOST = "on this host, with -cpu {}, the guest sees it"
_CAUSES = 3
"""Possible causes of one feature that people are shown; programs get all."""


@click.command(name="diagnose")
@click.argument("pastes", metavar="[TEXT|FILE|-]...", nargs=-1)
@host_option
@click.option("--cpu", metavar="CPU", shell_complete=choices.cpus, help="The guest's CPU.  [default: as the text has it]")
@words_option
@stack_options()
@format_option
def command(pastes: tuple[str, ...], source: str | None, cpu: str | None, manager: str | None, asked: Asked, form: str) -> None:
    """Tell what an error text or a log says of CPU features: which, who took them, why, and what to do.

    TEXT is what QEMU, libvirt, KVM, Linux, or a manager of guests printed, as it was pasted: with times, quoting, several messages. FILE
    holds it; without any it is read from standard input. With --host, a snapshot of the machine that it comes from, each feature's fate
    there is told; without, the rules that can have taken it.

    Exit status 0 where something in the text is known, 1 where nothing is; then the forms of messages nearest to it are named.
    """
    from vcpuid.diagnosis import diagnose

    text = _paste(pastes)
    host = None if source is None else read_host(source)
    if host is None:
        has_no_effect("without --host nothing is worked out", *STACK)
    found = diagnose(text, None if host is None else asked.setup(host), cpu)
    print_warnings(found.remarks)
    emit(sheet(found, source, manager, text), form)
    sys.exit(0 if found.recognised else 1)


def _paste(texts: tuple[str, ...]) -> str:
    """Read what the arguments mean: files, standard input, or text itself. Raises InputError for a path at which there is no file."""
    from vcpuid.formats.files import read_text

    if texts in ((), ("-",)):
        if not texts and sys.stdin is not None and sys.stdin.isatty():
            tell("paste the text, then press Ctrl-D")
        return read_text("-", colours=True)[1]
    return "\n".join(read_text(text, colours=True)[1] if _is_path(text) else text for text in texts)


def _is_path(text: str) -> bool:
    """Whether an argument is the path of a file: there is one, or it looks like nothing else."""
    if len(text) >= 4096 or "\n" in text:
        return False
    return os.path.isfile(text) or (text.startswith(("/", "./", "../", "~/")) and " " not in text)


def _form(paste: str) -> str | None:
    """Name the form of a text that tells of a CPU and is no message; None where it is none."""
    from vcpuid.errors import InputError
    from vcpuid.formats import identify

    try:
        return identify(paste, "the text")[0].title
    except InputError:
        return None


def sheet(found: Diagnosis, host: str | None = None, manager: str | None = None, paste: str | None = None) -> Sheet:
    """Lay a diagnosis of a paste out; `host` is what the user called the host, `manager` whose words the -cpu that runs is written in."""
    words = [] if manager is None or found.verdict is None else written(found.verdict, manager)
    return Sheet(
        columns=COLUMNS,
        rows=_rows(found),
        data=found.as_dict(manager),
        records=list(_records(found)),
        fields=FIELDS,
        lines=[" ".join(filter(None, (finding.named.name, finding.named.state))) for finding in found.findings],
        head=[*_head(found, paste), ""] if found.findings else list(_head(found, paste)),
        foot=["", *_foot(found, host), *words] if found.findings else list(_foot(found, host)),
        styles={"feature": "bold"},
    )


def _head(found: Diagnosis, paste: str | None) -> Iterator[str]:
    deepest = found.deepest
    if deepest is not None:
        count = sum(match.message is deepest.message for match in found.matches)
        yield f"{deepest.message.program}: {_short(deepest.text)}" + (f"  ({count} such messages)" if count > 1 else "")
        yield f"{deepest.message.meaning}  [{deepest.message.id}]"
    if found.wrappers:
        yield "Around it: " + ", ".join(f"{match.message.program} [{match.message.id}]" for match in found.wrappers)
    if found.instruction is not None:
        yield f"The instruction at which it died: {found.instruction.text}"
    if not found.recognised:
        form = None if paste is None else _form(paste)
        if form is None:
            yield "Nothing in this text is a message that vcpuid knows."
        else:
            yield f"This is no message but a CPU ({form}): --host takes it."


def _query(found: Diagnosis, query: str, host: str | None) -> str:
    """Put into a command line what is known of its words in capitals."""
    first = next((one.named.name for one in found.findings), None)
    known = {"FEATURE": first, "NAME": first, "PROPERTY": first, "CPU": found.cpu, "HOST": host}
    return " ".join(shlex.quote(told) if (told := known.get(word)) else word for word in query.split())


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 160 else flat[:159] + "…"


def _rows(found: Diagnosis) -> list[dict[str, object]]:
    """One row for each cause, with all features that it took or can have taken."""
    grouped: dict[tuple[object, ...], list[str]] = {}
    for finding in found.findings:
        told = _told(finding)
        for row in told[:_CAUSES]:
            grouped.setdefault((finding.named.state, row["party"], row["why"]), []).append(finding.named.name)
        if len(told) > _CAUSES:
            more = "further rules that can clear it: vcpuid diagnose --format json lists them"
            grouped.setdefault((finding.named.state, "", more), []).append(finding.named.name)
    rows = [{"feature": names, "state": state, "party": party, "why": why} for (state, party, why), names in grouped.items()]
    return sorted(rows, key=lambda row: not row["party"])


def _told(finding: Finding) -> list[dict[str, object]]:
    """Give what is known of one feature: its fate, or each possible cause."""
    named = finding.named
    if finding.explanation is not None:
        told = finding.explanation
        party = "not told" if told.visible is None else "" if told.visible else told.chain[-1].party if told.chain else ""
        why = _ON_THIS_HOST.format(told.path.cpu) if told.visible else told.chain[-1].text if told.chain else told.verdict
        return [{"party": party, "why": why, "remedy": told.remedy}]
    if named.feature is None:
        near = f"; did you mean {' or '.join(named.near)}?" if named.near else ""
        return [{"party": "", "why": "" if named.text.startswith("hv-") else f"no feature of that name is known{near}", "remedy": None}]
    if finding.match is not None and finding.match.groups.get("who") == "TCG":
        return [{"party": "qemu", "why": "QEMU's TCG does not emulate it, whatever the host has", "remedy": None}]
    if not finding.causes:
        why = "vcpuid has seen no rule of Linux or KVM clear it: mostly the processor, or -cpu, does not have it"
        return [{"party": "", "why": why, "remedy": None}]
    return [
        {
            "party": f"{cause.party}?",
            "why": cause.text + ("" if len(cause.vendors) > 1 else f" ({cause.vendors[0]})"),
            "remedy": cause.rule.remedy,
        }
        for cause in finding.causes
    ]


def _records(found: Diagnosis) -> Iterator[dict[str, object]]:
    """Give a row for each cause of each feature, then one for each message that names none."""
    for finding in found.findings:
        feature = finding.named.feature
        named = {
            "message": None if finding.match is None else finding.match.message.id,
            "text": finding.named.text,
            "feature": None if feature is None else feature.name,
            "bit": None if feature is None else str(feature.place),
            "state": finding.named.state,
        }
        yield from ({**named, **told} for told in _told(finding))
    naming = {finding.match for finding in found.findings}
    for match in found.matches:
        if match not in naming:
            row = match.message
            told = {"party": "", "why": row.meaning, "remedy": row.fix}
            yield {**dict.fromkeys(FIELDS), "message": row.id, "text": match.text, **told}


def _foot(found: Diagnosis, host: str | None) -> Iterator[str]:
    for number, remedy in enumerate(found.remedies):
        yield f"{'What you can do' if number == 0 else '             or'}: {remedy}"
    if found.deepest is not None and found.deepest.message.query:
        yield f"See also: vcpuid {_query(found, found.deepest.message.query, host)}"
    for message in found.near:
        yield f"It looks like: {_short(message.example)}  [{message.id}]"
