"""vcpuid record: what VMMs say to KVM about CPUID."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from vcpuid.cli.examples import lacking
from vcpuid.cli.interrupted import interrupted
from vcpuid.cli.setup import typed
from vcpuid.cli.streams import heard, opened, tell
from vcpuid.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from vcpuid.cpuid import Snapshot
    from vcpuid.formats.recording_rows import RecordingWriter

FILE = "recording.jsonl.gz"
"""Where a command's is written, whose own output standard output is."""
_PAUSE = 0.1
_UNREAD = "its memory could not be read, or it has too many entries"


@click.command(name="record", context_settings={"allow_interspersed_args": False})
@click.argument("program", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--output", "-o", "path", type=click.Path(),
    help=f"File to write, gzipped where its name ends in .gz.  [default: {FILE}; with --pid, --vm and --host, standard output]",
)  # fmt: skip
@click.option("--pid", type=click.IntRange(1, 1 << 22), metavar="PID", help="Read the tables that this process's vCPUs keep.")
@click.option("--vm", "name", metavar="NAME", help="The same for the guest of this name: QEMU's -name, else the program's.")
@click.option("--inject", is_flag=True, help="With --pid or --vm: stop the VMM for some milliseconds and ask KVM in its place.")
@click.option("--host", "everybody", is_flag=True, help="Record every KVM_SET_CPUID2 call on this machine, of any process.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 1 << 22),
    metavar="N",
    help="Stop after N seconds.  [default: as COMMAND ends, else at Ctrl-C]",
)
@click.option("--no-snapshot", is_flag=True, help="Do not put a snapshot of this machine into the recording.")
def command(
    program: tuple[str, ...], path: str | None, pid: int | None, name: str | None, inject: bool, everybody: bool, seconds: float | None,
    no_snapshot: bool,
) -> None:  # fmt: skip
    """Record what a VMM says to KVM about CPUID, or what a guest has.

    COMMAND is any program that uses /dev/kvm; whoever may run it may record it. It runs as it would alone, and vcpuid ends with its exit
    status. The recording serves as HOST and as TABLE, and as --recording of explain, guest, check and diff.

    A running guest is not disturbed: --pid and --vm read what its vCPUs keep from the kernel's memory, with BPF and BTF, as root. Where
    that is not possible, --inject asks KVM in the VMM's place, and stops the VMM for that moment.
    """
    _check(program, pid, name, everybody, inject)
    machine = None if no_snapshot else _machine()
    if program:
        sys.exit(_command(program, path or FILE, seconds, machine))
    if everybody:
        _everybody(path or "-", seconds, machine)
    else:
        _running(_process(pid, name), path or "-", machine, inject=inject)


def _check(program: tuple[str, ...], pid: int | None, name: str | None, everybody: bool, inject: bool) -> None:
    """Raise UsageError for options that do not go together."""
    ways = [way for way, wanted in (("COMMAND", program), ("--pid", pid), ("--vm", name), ("--host", everybody)) if wanted]
    if not ways:
        raise lacking("give one of COMMAND, --pid, --vm and --host")
    if len(ways) > 1:
        raise click.UsageError(f"give one of COMMAND, --pid, --vm and --host, not {ways[0]} and {ways[1]}")
    if inject and ways[0] not in ("--pid", "--vm"):
        raise click.UsageError("--inject is for --pid and --vm")
    if typed("--seconds") and ways[0] in ("--pid", "--vm"):
        raise click.UsageError("--seconds is for COMMAND and --host: a running guest's tables are read at once")


def _machine() -> Snapshot | None:
    """Take a snapshot of this machine to go with the recording; without one there is less that it tells."""
    from vcpuid.sources import this_machine

    try:
        return this_machine()
    except UnavailableError as error:
        tell(f"the recording has no snapshot of this machine: {error}")
        return None


def _command(program: tuple[str, ...], path: str, seconds: float | None, machine: Snapshot | None) -> int:
    """Run a command, and return its exit status."""
    from vcpuid.formats.recording_rows import RecordingWriter
    from vcpuid.live.installed import kernel_release
    from vcpuid.live.recorder import Recorder

    if shutil.which(program[0]) is None:
        raise InputError("there is no such program", source=program[0])
    sys.stdout.flush()
    with opened(path) as output:
        writer = RecordingWriter(output, "ptrace", program, kernel_release(), machine)
        try:
            status = Recorder(writer).run(program, seconds)
        finally:
            writer.end()
    _summary(path, writer, "nothing in it set or asked for CPUID at KVM")
    return status


def _everybody(path: str, seconds: float | None, machine: Snapshot | None) -> None:
    from vcpuid.formats.recording_rows import RecordingWriter, entries
    from vcpuid.live.installed import kernel_release
    from vcpuid.live.processes import describe
    from vcpuid.trace.set_calls import SetCalls

    described: set[int] = set()
    with SetCalls() as calls, opened(path) as output, interrupted() as came:
        begin = time.monotonic_ns()
        writer = RecordingWriter(output, "bpf", (), kernel_release(), machine)
        over = False
        while not over:  # what came up to the end is looked at once more
            over = came() or (seconds is not None and time.monotonic_ns() - begin >= seconds * 1e9) or (path == "-" and not heard())
            if not over:
                time.sleep(_PAUSE)
            for call in calls.take():
                row: dict[str, object] = {"t": round(max(0, call.time - begin) / 1e9, 6), "pid": call.pid, "tid": call.tid}
                row |= {"call": "KVM_SET_CPUID2", "fd": call.descriptor, "ret": call.result, "nent": call.count}
                row |= {"unread": _UNREAD} if call.table is None else {"entries": entries(call.table)}
                row |= {} if call.pid in described else describe(call.pid)
                described.add(call.pid)
                writer(row)
        writer.end()
        missed = calls.missed
    if missed:
        tell(f"{missed} calls are missing: more came at once than there was room for")
    _summary(path, writer, "no process called KVM_SET_CPUID2 in that time")


def _process(pid: int | None, name: str | None) -> int:
    from vcpuid.trace.guests import named

    return named(name or "") if pid is None else pid


def _running(pid: int, path: str, machine: Snapshot | None, *, inject: bool) -> None:
    from vcpuid.formats.recording_rows import RecordingWriter
    from vcpuid.live.installed import kernel_release
    from vcpuid.live.processes import describe, vcpu_files

    try:
        if not vcpu_files(pid):
            raise UnavailableError(f"process {pid} has no vCPU")
        rows = _asked(pid) if inject else _kept(pid)
    except ProcessLookupError:
        raise UnavailableError(f"there is no process {pid}") from None
    with opened(path) as output:
        writer = RecordingWriter(output, "inject" if inject else "bpf", (), kernel_release(), machine)
        for row in rows:
            writer({"t": 0, "pid": pid, "tid": pid, **row, **({} if writer.calls else describe(pid))})
        writer.end()
    if path != "-":
        _summary(path, writer, "its vCPUs have no table")


def _kept(pid: int) -> list[dict[str, object]]:
    """Read the tables out of the kernel."""
    from vcpuid.formats.recording_rows import entries
    from vcpuid.trace.vcpus import vcpu_tables

    try:
        found = vcpu_tables([pid])
    except UnavailableError as error:
        raise UnavailableError(f"{error}; --inject asks KVM in the VMM's place instead, and stops the VMM for some milliseconds") from None
    return [
        {
            "call": "kept", "fd": told.descriptor, "ret": 0, "vcpu": told.number, "vm": told.vm,
            "nent": len(told.table), "entries": entries(told.table),
        }
        for told in found
    ]  # fmt: skip


def _asked(pid: int) -> list[dict[str, object]]:
    """Ask KVM in the VMM's name."""
    from vcpuid.formats.recording_rows import entries
    from vcpuid.live.inject import ask_vcpus
    from vcpuid.live.processes import vcpu_files

    numbers = vcpu_files(pid)
    rows: list[dict[str, object]] = []
    for descriptor, table in ask_vcpus(pid).items():
        number = numbers.get(descriptor)
        row: dict[str, object] = {"call": "KVM_GET_CPUID2", "fd": descriptor, "ret": 0}
        rows.append(row | ({} if number is None else {"vcpu": number}) | {"nent": len(table), "entries": entries(table)})
    return rows


def _summary(path: str, writer: RecordingWriter, nothing: str) -> None:
    """Say what came of it."""
    if path == "-" and writer.calls:
        return
    tell(f"{path}: {writer.calls} calls" if writer.calls else nothing)
