"""vcpuid diagnose: from what people paste to the features, who took them, and what to do."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.check_text import written
from vcpuid.cli.domain import AskedCpu, domain_options
from vcpuid.cli.examples import lacking
from vcpuid.cli.fleet_options import short
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import (
    STACK,
    Asked,
    Host,
    has_no_effect,
    host_option,
    print_warnings,
    probe_for,
    read_host,
    stack_options,
    trial_for,
    words_option,
)
from vcpuid.cli.short import Cut
from vcpuid.cli.streams import tell
from vcpuid.errors import LibvirtError
from vcpuid.setup import Setup

if TYPE_CHECKING:
    from vcpuid.diagnosis import Diagnosis, Finding
    from vcpuid.diagnosis.recognise import Recognised

COLUMNS = ["feature", "state", "party", "why"]
FIELDS = ["message", "text", "feature", "bit", "state", "party", "why", "remedy", "cpu"]
_ON_THIS_HOST = "on this host, with -cpu {}, the guest sees it"
_PUT_BACK = "QEMU leaves it out and says so, and this host's KVM shows it to the guest against QEMU's table"
_TEXTS = 3
"""Texts of one form of message that people are shown."""
_PARTS = 2
"""Causes that the first line names."""
_CAUSES = 3
"""Possible causes of one feature that people are shown; programs get all."""


@click.command(name="diagnose")
@click.argument("pastes", metavar="[TEXT|FILE|-]...", nargs=-1)
@host_option
@click.option("--cpu", default="", metavar="CPU", shell_complete=choices.cpus, help="The guest's CPU.  [default: as the text has it]")
@domain_options
@words_option
@all_option
@stack_options()
@format_option
def command(
    pastes: tuple[str, ...], source: str | None, cpu: AskedCpu, manager: str | None, everything: bool, asked: Asked, form: str
) -> None:  # fmt: skip
    """Say what an error or a log means for CPU features; what helps.

    TEXT is what QEMU, libvirt, KVM, Linux, or a manager of guests printed, as it was pasted: with times, quoting, several messages. FILE
    holds it; without any it is read from standard input. With --host, a snapshot of the machine that it comes from, each feature's fate
    there is told, for the guest of --cpu or of --domain, whose XML libvirt turns into a -cpu; without, the rules that can have taken it.

    Exit status 0 where something in the text is known, 1 where nothing is; then the forms of messages nearest to it are named.
    """
    from vcpuid.diagnosis import diagnose

    text = _paste(pastes)
    if source is None:
        has_no_effect("without --host nothing is worked out", *STACK, "--domain", "--libvirt", "--for")
        found = diagnose(text, cpu=cpu.cpu or None)
    else:
        host = read_host(source)
        argument, setup = _guest(cpu, host, asked)
        kvm = trial_for(host, setup)
        found = diagnose(text, setup, argument, probe=None if kvm is None else probe_for(host), kvm=kvm)
    print_warnings(found.remarks)
    emit(sheet(found, source, manager, text, everything=everything), form)
    sys.exit(0 if found.recognised else 1)


def _guest(cpu: AskedCpu, host: Host, asked: Asked) -> tuple[str | None, Setup]:
    """Return the -cpu and the setup; of a domain that libvirt does not start, the features' fate on the host is told, and why not."""
    try:
        argument, setup = cpu.on(host, asked)
    except LibvirtError as error:
        print_warnings([error.message])
        return None, asked.setup(host)
    return argument or None, setup


def _paste(texts: tuple[str, ...]) -> str:
    """Read what the arguments mean: files, standard input, or text itself. Raises InputError for a path at which there is no file."""
    from vcpuid.formats.files import read_text

    if texts in ((), ("-",)):
        if not texts and sys.stdin is not None and sys.stdin.isatty():
            tell("paste the text, then press Ctrl-D")
        text = read_text("-", colours=True)[1]
        if not texts and not text.strip():
            raise lacking("missing TEXT")
        return text
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


def sheet(
    found: Diagnosis, host: str | None = None, manager: str | None = None, paste: str | None = None, *, everything: bool = False
) -> Sheet:
    """Lay a diagnosis of a paste out; `host` is what the user called the host, `manager` whose words the -cpu that runs is written in.

    `everything` says that no list is cut for people.
    """
    words = [line for guest, _ in found.proposals if guest.verdict for line in written(guest.verdict, manager)] if manager else []
    head, rows, foot = list(_head(found, paste, everything)), _rows(found, everything), [*words, *_foot(found, host)]
    return Sheet(
        columns=COLUMNS if len(found.guests) == 1 else ["cpu", *COLUMNS],
        rows=rows,
        data=found.as_dict(manager),
        records=list(_records(found)),
        fields=FIELDS,
        lines=[" ".join(filter(None, (finding.named.name, finding.named.state))) for finding in found.findings],
        head=[*head, ""] if found.findings and head else head,
        foot=["", *foot] if found.findings and foot else foot,
        titles={"party": "layer"},
        styles={"feature": "bold"},
        cut=None if everything else Cut(len(rows)),
    )


def _head(found: Diagnosis, paste: str | None, everything: bool) -> Iterator[str]:
    first, ways = _first(found), _ways(found)
    if first:
        yield first
        yield from itertools.chain(*ways[:1])
        yield ""
    for number, answer in enumerate(found.answers):
        if number:
            yield ""
        matches = [match for match in found.matches if match.message is answer.message]
        yield from _said(answer, matches, everything, meaning=answer.message.meaning not in (first or ""))
        yield from _value(answer, everything)
    if found.wrappers:
        if len(found.answers) > 1:
            yield ""
        yield "Around it: " + ", ".join(f"{match.message.program} [{match.message.id}]" for match in found.wrappers)
    if found.instruction is not None:
        yield f"The instruction at which it died: {found.instruction.text}"
    yield from dict.fromkeys(one.named.remark for one in found.findings if one.named.remark and one.named.feature is not None)
    if not found.recognised:
        form = None if paste is None else _form(paste)
        if form is None:
            yield "Nothing in this text is a message that vcpuid knows."
        else:
            yield f"This is no message but a CPU ({form}): --host takes it."


def _first(found: Diagnosis) -> str | None:
    """Answer in a sentence: on a host what became of the features, else what the message means for those that it names."""
    explained = [finding for finding in found.findings if finding.explanation is not None]
    if explained:
        cpu = explained[0].cpu
        own = [finding for finding in explained if finding.cpu == cpu]
        told = dict.fromkeys(_fate(finding) for finding in sorted(own, key=_agrees))
        parts = [sentence.format(short([one.named.name for one in own if _fate(one) == sentence])) for sentence in told]
        left = len(parts) - _PARTS
        more = f"; and {left} more cause{'s' if left > 1 else ''} below" if left > 0 else ""
        guest = f"With -cpu {cpu} on this host" if cpu else "On this host"
        return f"{guest}, {'; '.join(parts[:_PARTS])}{more}"
    if found.deepest is None:
        return None
    names = [
        finding.named.name for finding in found.findings if finding.match is not None and finding.match.message is found.deepest.message
    ]
    return f"{short(names)}: {found.deepest.message.meaning}" if names else found.deepest.message.meaning


def _agrees(finding: Finding) -> bool:
    """Tell whether the host's guest has a feature that the message misses, or not one of those that it calls too many."""
    from vcpuid.diagnosis.vocabulary import EXTRA

    told = finding.explanation
    return told is not None and told.visible is (finding.named.state != EXTRA)


def _fate(finding: Finding) -> str:
    """Say what became of a feature on the host, with a place for the names of all that share it."""
    from vcpuid.diagnosis.vocabulary import EXTRA

    told = finding.explanation
    if told is None or told.visible is None:
        return "whether the guest sees {} is not told"
    extra, another = finding.named.state == EXTRA, "the message is of another host, -cpu or release"
    if told.put_back and not extra:
        return f"the guest sees {{}} all the same: {_PUT_BACK}"
    if told.visible:
        return "the guest sees {}, which the message calls too many" if extra else f"the guest sees {{}}: {another}"
    if extra:
        return f"the guest does not see {{}}: {another}"
    why = told.chain[-1].text if told.chain else told.verdict
    return "the guest lacks {}: " + why.replace("{", "{{").replace("}", "}}")


def _said(answer: Recognised, matches: list[Recognised], everything: bool, *, meaning: bool) -> Iterator[str]:
    """Give a message as it stands in the text, first that which is answered, and what it means unless that is said above."""
    texts = list(dict.fromkeys(_short(match.text) for match in (answer, *matches)))
    count = f"  ({len(matches)} such messages)" if len(matches) > 1 else ""
    for number, text in enumerate(texts if everything else texts[:_TEXTS]):
        known = "" if number or meaning else f"  [{answer.message.id}]"
        yield f"{answer.message.program}: {text}{'' if number else count}{known}"
    if meaning:
        yield f"{answer.message.meaning}  [{answer.message.id}]"


def _value(answer: Recognised, everything: bool) -> Iterator[str]:
    """Name the bits of a feature MSR's value that a message has, lowest first."""
    from vcpuid.diagnosis import msrs
    from vcpuid.numbers import U64, hexadecimal

    msr, value = (hexadecimal(answer.groups.get(group) or "x", U64) for group in ("msr", "value"))
    if msr is None or value is None:
        return
    known = msrs.bits(msr, value)
    if known:
        names = [f"{feature.name} ({feature.place.position})" for feature in known]
        listed = " ".join(names) if everything else short(names)
        called = f" ({name})" if (name := msrs.name(msr)) else ""
        yield f"Bits of MSR {msr:x}h{called} in this value, each with its number: {listed}"


def _query(found: Diagnosis, answer: Recognised, host: str | None) -> str:
    """Put into a message's command line what is known of its words in capitals."""
    own = next((one for one in found.findings if one.match is not None and one.match.message is answer.message), None)
    about = own or next(iter(found.findings), None)
    first = None if about is None else about.named.name
    cpu = found.cpu if own is None else own.cpu
    known = {"FEATURE": first, "NAME": first, "PROPERTY": first, "CPU": cpu, "HOST": host}
    return " ".join(shlex.quote(told) if (told := known.get(word)) else word for word in answer.message.query.split())


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 160 else flat[:159] + "…"


def _rows(found: Diagnosis, everything: bool) -> list[dict[str, object]]:
    """One row for each cause, with all features that it took or can have taken."""
    grouped: dict[tuple[object, ...], list[str]] = {}
    for finding in found.findings:
        told = _told(finding)
        for row in told if everything else told[:_CAUSES]:
            grouped.setdefault((finding.cpu, finding.named.state, row["party"], row["why"]), []).append(finding.named.name)
        if len(told) > _CAUSES and not everything:
            more = "further rules that can clear it: --all lists them"
            grouped.setdefault((finding.cpu, finding.named.state, "", more), []).append(finding.named.name)
    rows = [
        {"cpu": cpu, "feature": names, "state": state, "party": party, "why": why} for (cpu, state, party, why), names in grouped.items()
    ]
    order: list[object] = [guest.cpu for guest in found.guests]
    return sorted(rows, key=lambda row: (order.index(row["cpu"]), not row["party"]))


def _told(finding: Finding) -> list[dict[str, object]]:
    """Give what is known of one feature: its fate, or each possible cause."""
    from vcpuid.diagnosis.vocabulary import unknown

    named = finding.named
    if finding.explanation is not None:
        told = finding.explanation
        party = told.chain[-1].party if told.chain and told.visible is False else ""
        if told.visible is None:
            party = "not told" if told.known else "not known"
        seen = _PUT_BACK if told.put_back else _ON_THIS_HOST.format(told.path.cpu)
        why = seen if told.visible else told.chain[-1].text if told.chain else told.verdict
        return [{"party": party, "why": why, "remedy": told.remedy}]
    if named.feature is None:
        return [{"party": "", "why": (unknown(named) or "").removeprefix(f"{named.text}: "), "remedy": None}]
    if finding.match is not None and finding.match.emulated:
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
            "cpu": finding.cpu,
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


def _ways(found: Diagnosis) -> list[list[str]]:
    """Say what to do: ways of which one is enough, each with all that it takes."""
    return [
        [f"{'And' if part else 'Or' if number else 'What you can do'}: {remedy}" for part, remedy in enumerate(way)]
        for number, way in enumerate(found.advice)
    ]


def _foot(found: Diagnosis, host: str | None) -> Iterator[str]:
    ways = _ways(found)
    yield from itertools.chain(*(ways[1:] if _first(found) else ways))
    for query in dict.fromkeys(_query(found, answer, host) for answer in found.answers if answer.message.query):
        yield f"See also: vcpuid {query}"
    for message in found.near:
        yield f"It looks like: {_short(message.example)}  [{message.id}]"
