"""vcpuid guest: the whole guest CPU."""

from __future__ import annotations

import click

from vcpuid.cli.domain import domain_options, unrefused
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import Asked, cpu_option, host_option, print_warnings, probe_for, stack_options, trial_for
from vcpuid.cli.vmm import AskedGuest, vmm_options


@click.command(name="guest")
@cpu_option
@domain_options
@host_option
@vmm_options
@click.option("--no-probe", is_flag=True, help="Do not ask this machine's KVM what a vCPU keeps of the table: model it.")
@stack_options()
@format_option
def command(guest: AskedGuest, source: str | None, no_probe: bool, asked: Asked, form: str) -> None:
    """Show the guest's CPU as a whole: flags gained and lost against the host, by party.

    Besides, those that a KVM shows though the VMM left them out, and those of which HOST does not tell enough.

    With --format lines, a snapshot of the guest: what its CPUID returns (RAW), the table set (TAB) and kept (GOT). vcpuid reads it back
    as a HOST, for a guest within the guest, and as a TABLE.
    """
    from vcpuid.answers.certainty import followed
    from vcpuid.answers.starting import remarked
    from vcpuid.answers.survey import NOT_TOLD_CHANGE, survey
    from vcpuid.formats.lines import format_snapshot
    from vcpuid.path.pipeline import guest_snapshot
    from vcpuid.told.assumptions import granted
    from vcpuid.told.facts import sentences

    host = guest.host(source)
    cpu, setup, order = guest.ordered(host, asked, refusable=False)
    path = followed(cpu, host=setup, probe=None if no_probe or guest.partial else probe_for(host), vmm=guest.vmm)
    path = remarked(path, None if no_probe else trial_for(host, setup))
    print_warnings(unrefused(path.said, order, form))
    found = survey(path, order)
    changes = found.changes()
    sheet = Sheet(
        columns=["change", "party", "feature", "why"],
        rows=[row for row in changes if row["change"] != NOT_TOLD_CHANGE],  # people read what is not told below, by what it depends on
        records=changes,
        data=found.as_dict(),
        lines=[*(f"# {line}" for line in (*found.unknown(), *sentences(found.open()))), *format_snapshot(guest_snapshot(path))],
        head=[*([] if order is None else order.head()), path.headline(), ""],
        foot=[
            "",
            f"The guest sees {len(found.seen)} features: " + " ".join(f.name for f in found.seen),
            *found.unknown(),
            *sentences(found.open()),
            *granted(found.assumes()),
        ],
        styles={"feature": "bold"},
    )
    emit(sheet, form)
