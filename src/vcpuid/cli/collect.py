"""vcpuid collect: a snapshot of this machine."""

from __future__ import annotations

import click

from vcpuid.cli import choices
from vcpuid.cli.output import output_option
from vcpuid.cli.streams import opened, tell


@click.command(name="collect")
@click.option(
    "--cpu", type=click.IntRange(min=0), default=None, shell_complete=choices.cpu_numbers,
    help="The CPU to ask.  [default: the first that this process may run on]",
)  # fmt: skip
@output_option
@click.option("--script", is_flag=True, help="Print the stand-alone collector instead, to run where vcpuid is not installed.")
def command(cpu: int | None, path: str, script: bool) -> None:
    """Write a snapshot of this machine's CPU and KVM.

    The snapshot is a text file that vcpuid takes wherever it wants a HOST. For a machine without vcpuid: vcpuid collect --script >
    collect.py, and there python3 collect.py > host.txt (Python 3.8 or newer, nothing else).
    """
    from vcpuid import sources
    from vcpuid.formats.lines import format_snapshot

    if script:
        with opened(path) as output:
            print(sources.collector_script(), end="", file=output)
        return
    snapshot = sources.this_machine(cpu)
    with opened(path) as output:
        for line in format_snapshot(snapshot):
            print(line, file=output)
    for note in snapshot.notes:
        tell(note)
