"""vcpuid check: whether a CPU runs on a host, and what in it will hurt."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.check_rows import COLUMNS, hazard_rows, rows, unread
from vcpuid.cli.checked import HostChecked, unread_document
from vcpuid.cli.domain import AskedCpu, libvirt_option, no_domain, unrefused
from vcpuid.cli.examples import lacking
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.recording import recorded, recording_option
from vcpuid.cli.setup import (
    Asked,
    has_no_effect,
    print_warnings,
    read_host,
    remark_on_table,
    stack_options,
    words_option,
)
from vcpuid.cli.standing import HERE
from vcpuid.cli.streams import hushed, tell
from vcpuid.errors import InputError, KvmError, VcpuidError

if TYPE_CHECKING:
    from vcpuid.hazards.rule import Hazard

_NO = 1


@click.command(name="check")
@click.argument(
    "arguments",
    metavar="CPU|DOMAIN.xml [HOST|FOLDER]... | --table TABLE [HOST] | --recording FILE [HOST]",
    nargs=-1,
    shell_complete=choices.cpus_then_hosts,
)
@click.option(
    "--table", "table_source", metavar="TABLE", shell_complete=choices.hosts, help="Look for hazards in this table, or snapshot of a guest."
)
@recording_option
@words_option
@libvirt_option
@click.option("--no-probe", is_flag=True, help="Do not try CPU on this machine's KVM: model what that makes of it.")
@all_option
@stack_options()
@format_option
def command(
    arguments: tuple[str, ...], table_source: str | None, recording: str | None, manager: str | None, libvirt_release: str | None,
    no_probe: bool, everything: bool, asked: Asked, form: str,
) -> None:  # fmt: skip
    """Check whether CPU runs on HOST: what is missing, what helps.

    CPU is what QEMU's -cpu takes, or the file of a domain (.xml), which leads libvirt to one. Where HOST is this machine, its KVM is asked
    whether it takes what QEMU sets at start. With several HOSTs, or a FOLDER of them, each has a row, or in JSON a document.

    The guest's CPUID is looked through for hazards, of three kinds: "breaks" (a guest that believes its CPUID fails), "risk" and "note". A
    TABLE without a HOST is checked for contradictions within it; a recording also for what its calls did wrong.

    Exit status 0 where the CPU runs and nothing breaks; 1 where not, or where that is not known; 3 where no QEMU has a model or property of
    that name, or a file cannot be read. Of several hosts, the highest of theirs.
    """
    if recording is not None and table_source is not None:
        raise click.UsageError("--recording has the guest's table; --table gives another")
    if table_source is not None or recording is not None:
        if len(arguments) > 1:
            raise click.UsageError("--table and --recording are compared with one HOST at the most")
        no_domain()
        source = arguments[0] if arguments else None
        found = (
            _hazards_of_table(table_source, source, asked) if table_source is not None else _of_recording(recording or "", source, asked)
        )
        has_no_effect("a table is checked, and no -cpu is proposed", "--for")
        emit(_sheet_of_table(found, everything), form)
        sys.exit(_NO if any(hazard.breaks for hazard in found) else 0)
    if not arguments:
        raise lacking("missing CPU")
    cpu, *sources = arguments
    wanted = AskedCpu.of(cpu, libvirt_release)
    if len(sources) > 1 or any(map(os.path.isdir, sources)):
        from vcpuid.cli.check_hosts import on_hosts

        has_no_effect("of several hosts, no -cpu is written for a manager", "--for")
        sys.exit(on_hosts(wanted, cpu, sources, asked, form, everything=everything, probe=not no_probe))
    _on_one(wanted, sources[0] if sources else None, asked, form, manager, everything=everything, probe=not no_probe)


def _on_one(
    wanted: AskedCpu, source: str | None, asked: Asked, form: str, manager: str | None, *, everything: bool, probe: bool
) -> None:  # fmt: skip
    """Answer about one host, and end with the status; an error of what is read is a document for programs, too."""
    try:
        found = HostChecked.of(wanted, source, asked, probe=probe)
    except VcpuidError as error:
        if form in ("json", "jsonl", "csv"):
            row = unread(wanted.domain or wanted.cpu, error)
            emit(Sheet(COLUMNS, [row], unread_document(source or HERE, error)), form)
        raise
    print_warnings(unrefused(found.answer.remarks, found.order, form))
    emit(_sheet(found, form, manager, everything), form)
    if found.status == InputError.exit_status and hushed():  # else the answer says what is wrong with the input
        tell(str(found.answer), error=True)
    sys.exit(found.status)


def _of_recording(recording: str, source: str | None, asked: Asked) -> tuple[Hazard, ...]:
    from vcpuid import hazards
    from vcpuid.answers.certainty import followed

    found = recorded(recording)
    if source is None and not found.tells_host:
        print_warnings([f"{found.recording.source}: it tells nothing of the host, and the table is checked by itself"])
        return hazards.of_recording(found.shown)
    cpu, setup = found.on(found.host(source), asked)
    try:
        path = followed(cpu, host=setup, vmm=found.vmm)
    except KvmError:  # a table that KVM refuses, which is among what is told
        return hazards.of_recording(found.shown)
    print_warnings(path.remarks)
    return hazards.of_recording(found.shown, path)


def _hazards_of_table(table_source: str, source: str | None, asked: Asked) -> tuple[Hazard, ...]:
    from vcpuid import hazards

    guest = read_host(table_source)
    remark_on_table(guest.snapshot, table_source)
    if source is None:
        has_no_effect("the table is checked by itself, on no host", "--smp", "--param", "--what-if", "--machine", "--global")
        return hazards.of_guest(guest.snapshot, stack=asked.stack(guest), source=table_source)
    has_no_effect("the table is given, and no QEMU makes it", "--smp", "--global")
    setup = asked.setup(read_host(source))
    print_warnings(setup.remarks)
    return hazards.of_guest(guest.snapshot, setup, source=table_source)


def _sheet_of_table(found: Sequence[Hazard], everything: bool) -> Sheet:
    from vcpuid.cli.check_text import CheckText, summary
    from vcpuid.hazards.report import report

    told, text = hazard_rows(found), CheckText(everything)
    above = summary(found)
    below = list(text.hazards(found))
    head = [above] if above else []
    return Sheet(COLUMNS, [], report(found), records=told, fields=COLUMNS, lines=_lines(told), head=head, foot=["", *below], cut=text.cut())


def _sheet(found: HostChecked, form: str, manager: str | None, everything: bool) -> Sheet:
    """Lay the answer out: rows for programs, lines for people."""
    from vcpuid.cli.check_text import CheckText, by_qemu, written

    answer, order = found.answer, found.order
    if form != "table":
        told = rows(answer, found.hazards, order)
        return Sheet(COLUMNS, told, found.as_dict(manager), lines=_lines(told))
    text = CheckText(everything)
    head = [*text.verdict(answer, found.basis, order, sum(hazard.breaks for hazard in found.hazards))]
    if manager is not None:
        head += written(answer, manager)
    foot = [f"Taken for granted: {assumption}" for assumption in answer.assumes]
    if answer.path is not None and answer.refusal is None:
        foot += ["", *text.hazards(by_qemu(found.hazards))]
    return Sheet(COLUMNS, [], head=head, foot=foot, cut=text.cut())


def _lines(told: Sequence[dict[str, str]]) -> list[str]:
    return [" ".join(row[column] for column in COLUMNS[:3]) for row in told]
