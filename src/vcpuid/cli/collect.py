"""vcpuid collect: a snapshot of this machine."""

from __future__ import annotations

import sys
from typing import TextIO

import click

from vcpuid.cli import choices


@click.command(name="collect")
@click.option(
    "--cpu", type=click.IntRange(min=0), default=None, shell_complete=choices.cpu_numbers,
    help="The CPU whose answers are taken.  [default: the first one allowed]",
)  # fmt: skip
@click.option("--output", "-o", type=click.File("w", lazy=True), default="-", help="File to write.  [default: standard output]")
@click.option("--script", is_flag=True, help="Print the stand-alone collector instead, to run where vcpuid is not installed.")
def command(cpu: int | None, output: TextIO, script: bool) -> None:
    """Write a snapshot of this machine's CPU and KVM.

    The snapshot is a text file that every HOST argument takes. For a machine without vcpuid: vcpuid collect --script > collect.py,
    then python3 collect.py > host.txt there (Python 3.8 or newer, nothing else).
    """
    from vcpuid import sources
    from vcpuid.sources.snapshot import format_snapshot

    if script:
        print(sources.collector_script(), end="", file=output)
        return
    snapshot = sources.this_machine(cpu)
    for line in format_snapshot(snapshot):
        print(line, file=output)
    for note in snapshot.notes:
        print(f"vcpuid: {note}", file=sys.stderr)
