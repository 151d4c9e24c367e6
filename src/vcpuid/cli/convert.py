"""vcpuid convert: a CPU's description from any form that vcpuid reads into any that it writes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import kvm_host, libvirt_option, named, refused, release_of
from vcpuid.cli.output import output_option, schema_option
from vcpuid.cli.setup import Asked, has_no_effect, print_warnings, read_cpus, read_host
from vcpuid.cli.streams import opened, tell
from vcpuid.cpuid.parts import TABLES
from vcpuid.formats.writing import WRITABLE, losses, write

if TYPE_CHECKING:
    from vcpuid.libvirt.conversion import GuestXml
    from vcpuid.libvirt.guest import Planned
    from vcpuid.releases import Release


@click.command(name="convert")
@click.argument("source", metavar="SOURCE", shell_complete=choices.hosts)
@click.option("--to", required=True, type=click.Choice(list(WRITABLE)), help="The form to write.")
@click.option(
    "--part", type=click.Choice(list(TABLES)), shell_complete=choices.parts,
    help="Which of a snapshot's tables, for forms that hold one.  [default: the first it has]",
)  # fmt: skip
@click.option(
    "--host",
    "host_source",
    metavar="HOST",
    shell_complete=choices.hosts,
    help="The host on which libvirt starts the guest of a <cpu>.",
)
@libvirt_option
@click.option(
    "--qemu",
    metavar="RELEASE",
    shell_complete=choices.qemus,
    help="QEMU's release, for a guest's <cpu> --to qemu.  [default: installed, else newest]",
)
@output_option
@schema_option("snapshot")
def command(
    source: str, to: str, part: str | None, host_source: str | None, libvirt_release: str | None, qemu: str | None, path: str
) -> None:  # fmt: skip
    """Convert a CPU's description to another form; say what is lost.

    SOURCE is a snapshot, another program's dump, 'live' or 'kvm', as HOST is elsewhere. Of a dump with several CPUs all are written where
    the form can hold them; SOURCE#3 is the CPU with number 3, counted from 0. What the form cannot hold is named on standard error. Exit
    status 0 where nothing is lost, 1 where something is.

    A guest's CPU in libvirt's XML, a <cpu> or a domain, is written --to libvirt as it is, and --to qemu as the -cpu that libvirt would
    start. Where that depends on the host, as with mode='host-model', --host names it.

    Forms: snapshot and json (vcpuid's own), cpuid (Todd Allen's cpuid -r), tycho (tycho's cpuid -d), instlatx64 (AIDA64's), cpudata and
    libvirt (libvirt's XML, of CPUID and of features), firecracker (a CPU template), qemu (a -cpu argument).
    """
    given = _text(source)
    guest = None if given is None else _guest(given[1])
    if guest is None or to != "qemu":
        has_no_effect("it is for a guest's <cpu> written --to qemu", "--host", "--libvirt", "--qemu")
    if guest is not None and to in ("libvirt", "qemu"):
        if part is not None:
            raise click.UsageError("--part names a table of a snapshot, and a guest's <cpu> has none")
        asked = Asked(qemu=qemu)
        lines, lost = _as_libvirt(guest) if to == "libvirt" else _as_qemu(guest, source, host_source, libvirt_release, asked)
    else:
        snapshots = read_cpus(source, every=True, given=given)
        lines, lost = list(write(snapshots, to, part)), losses(snapshots, to, part)
        lost += [] if guest is None else _unsaid(guest)
    for what in lost:
        tell(f"{to} cannot hold {what}")
    with opened(path) as output:
        for line in lines:
            print(line, file=output)
    if lost:
        sys.exit(1)


def _text(source: str) -> tuple[str, str] | None:
    """Read a file or a pipe that is there by this name, or standard input; None for a machine, or one CPU of a dump."""
    from vcpuid.cli.domain import read_file
    from vcpuid.sources import is_machine

    if is_machine(source) or (source != "-" and (os.path.isdir(source) or not os.path.exists(source))):
        return None
    return read_file(source)


def _guest(text: str) -> GuestXml | None:
    from vcpuid.libvirt.conversion import GuestXml

    return GuestXml.of(text)


def _unsaid(guest: GuestXml) -> list[str]:
    """Name what of a guest's <cpu> no form holds that is about CPUID, or names alone."""
    from vcpuid.libvirt.conversion import IN_SNAPSHOTS

    return [*guest.lost(IN_SNAPSHOTS), *guest.outside()]


def _as_libvirt(guest: GuestXml) -> tuple[list[str], list[str]]:
    return guest.lines(), list(guest.outside())


def _as_qemu(
    guest: GuestXml, source: str, host_source: str | None, libvirt_release: str | None, asked: Asked
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Give the -cpu that libvirt would start, on a host where one is given, and what it does not say."""
    from vcpuid import releases
    from vcpuid.libvirt.conversion import hostless, lost_in_qemu

    release = release_of(libvirt_release)
    with named("standard input" if source == "-" else source), refused(release):
        if host_source is None:
            program = releases.qemu(asked.qemu)
            print_warnings(remark for remark in (release.remark, program.remark) if remark is not None)
            planned = hostless(guest, release, program.tables)
        else:
            planned = _on(host_source, guest, release, asked)
    return [planned.started], lost_in_qemu(guest, planned)


def _on(host_source: str, guest: GuestXml, release: Release, asked: Asked) -> Planned:
    """Work out the start on a host; raises LibvirtError where libvirt refuses it there."""
    from vcpuid.answers.order import order

    host = read_host(host_source)
    setup = asked.setup(host)
    print_warnings(setup.remarks)
    found = order(guest.request, setup, release, kvm_host(host, setup))
    if found.refusal is not None:
        raise found.refusal
    print_warnings(found.remarks())
    return found.planned
