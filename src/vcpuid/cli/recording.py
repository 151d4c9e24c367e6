"""--recording: a file of vcpuid record as the host and the guest of a verb."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.setup import Asked, Host, print_warnings, read_host, typed
from vcpuid.errors import InputError
from vcpuid.vmm.qemu_line import QemuLine

if TYPE_CHECKING:
    from vcpuid.formats.recorded_calls import Recording
    from vcpuid.setup import Setup
    from vcpuid.vmm.observed import Observed, ShownGuest

recording_option = click.option(
    "--recording", metavar="FILE", shell_complete=choices.hosts,
    help="What vcpuid record saw of a VMM: the guest's table, and the host's KVM where no HOST is given.",
)  # fmt: skip


@dataclass(frozen=True)
class RecordedGuest:
    """A guest that a recording shows: its VMM, what was asked of it, and the software that its command line names."""

    recording: Recording
    shown: ShownGuest
    vmm: Observed
    asked: str
    line: QemuLine | None
    release: str | None

    def host(self, source: str | None) -> Host:
        """Read HOST; without one, the recording tells of it. Raises InputError where it does not."""
        if source is not None:
            return read_host(source)
        if not self.tells_host:
            raise InputError("it has no snapshot of the host: give HOST (or --host)", source=self.recording.source)
        return Host(self.recording.host, here=False)

    @property
    def tells_host(self) -> bool:
        """Whether the recording tells what KVM supports, or what the processor has."""
        told = self.recording.host
        return told.supported is not None or bool(told.raw)

    def on(self, host: Host, asked: Asked) -> tuple[str, Setup]:
        """Return what was asked of the VMM, and the software, settled: QEMU's as its command line has it, unless it is given otherwise."""
        line = self.line
        if line is None:
            return self.asked, asked.setup(host, self.vmm.release(None))
        given = {
            "machine": asked.machine if typed("--machine") else line.machine,
            "smp": asked.smp if typed("--smp") else line.smp,
            "globals": asked.globals if typed("--global") else line.globals,
            "qemu": asked.qemu or self.release,
        }
        return self.asked, replace(asked, **given).setup(host)  # type: ignore[arg-type]  # of the fields' own types


def recorded(source: str) -> RecordedGuest:
    """Read a recording and choose its guest: the first, or that of the vCPU named as in `file#3`. Says what there is to say of it."""
    from vcpuid.formats.files import read_text
    from vcpuid.formats.recording import FORMAT, read_recording
    from vcpuid.sources import numbered
    from vcpuid.vmm.observed import Observed, ShownGuest, observed

    file, number = numbered(source)
    name, text = read_text(file)
    if not FORMAT.recognises(text):
        raise InputError("it is no recording of vcpuid record", source=name)
    recording = read_recording(text, name)
    if number is not None and number >= len(recording.vcpus):
        raise InputError(f"it has no vCPU {number}: there are {len(recording.vcpus)}, counted from 0", source=name)
    shown = ShownGuest.of(recording, number)
    said = [f"{name}: {note}" for note in recording.notes]
    if len(recording.guests) > 1 and number is None:
        said.append(f"{name}: the first of {len(recording.guests)} guests: append #1 and so on to its name for another vCPU and its guest")
    vmm, line, release = observed(shown), shown.line, shown.release
    if line is not None and release is None and not typed("--qemu"):
        said.append(f"{name}: it does not name QEMU's release; with --qemu, the table is compared with the model of that release")
        vmm, line = Observed.shown(shown), None
    if line is not None:
        said += [f"{name}: {option} is not read, so what it does to the CPU is not known" for option in line.unread]
    print_warnings(said)
    return RecordedGuest(recording, shown, vmm, source if line is None else line.cpu, line, release)
