"""vcpuid convert: a CPU's description from any form that vcpuid reads into any that it writes."""

from __future__ import annotations

import click

from vcpuid.cli import choices
from vcpuid.cli.output import output_option, schema_option
from vcpuid.cli.setup import read_cpus
from vcpuid.cli.streams import opened, tell
from vcpuid.cpuid.parts import TABLES
from vcpuid.formats.writing import WRITABLE, losses, write


@click.command(name="convert")
@click.argument("source", metavar="SOURCE", shell_complete=choices.hosts)
@click.option("--to", required=True, type=click.Choice(list(WRITABLE)), help="The form to write.")
@click.option(
    "--part", type=click.Choice(list(TABLES)), shell_complete=choices.parts,
    help="Which of a snapshot's tables, for forms that hold one.  [default: the first it has]",
)  # fmt: skip
@output_option
@schema_option("snapshot")
def command(source: str, to: str, part: str | None, path: str) -> None:
    """Write a CPU's description in another form, and say what that form cannot hold.

    SOURCE is what every HOST is: a snapshot, a dump of another program, 'live' or 'kvm'. Of a dump with several CPUs all are written where
    the form has room, and SOURCE#3 is the one with number 3, counted from 0. What is lost is named on standard error.

    Forms: snapshot and json (vcpuid's own), cpuid (Todd Allen's cpuid -r), tycho (tycho's cpuid -d), instlatx64 (AIDA64's), cpudata and
    libvirt (libvirt's XML, of CPUID and of features), firecracker (a CPU template), qemu (a -cpu argument).
    """
    snapshots = read_cpus(source, every=True)
    lines = list(write(snapshots, to, part))
    for lost in losses(snapshots, to, part):
        tell(f"{to} does not hold {lost}")
    with opened(path) as output:
        for line in lines:
            print(line, file=output)
