"""vcpuid hyperv: what a Windows guest finds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import AskedCpu, domain_for_table, domain_options
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import STACK, Asked, has_no_effect, host_option, print_warnings, read_host, stack_options
from vcpuid.cpuid.parts import for_guest

if TYPE_CHECKING:
    from vcpuid.cpuid import CpuidTable
    from vcpuid.path.pipeline import Path


@click.command(name="hyperv")
@click.argument("table", metavar="[TABLE]", required=False, shell_complete=choices.hosts)
@click.option(
    "--cpu", default="host", show_default=True, metavar="CPU", shell_complete=choices.cpus,
    help="The guest's CPU with its hv-* flags, as -cpu takes it.",
)  # fmt: skip
@domain_options
@host_option
@click.option("--fields", "decoded", is_flag=True, help="Decode the leaves field by field instead.")
@stack_options()
@format_option
def command(table: str | None, cpu: AskedCpu, source: str | None, decoded: bool, asked: Asked, form: str) -> None:
    """Show which Hyper-V enlightenments Windows finds and lacks.

    With TABLE, that table's leaves 40000000 to 40000082; else those that QEMU makes of --cpu on --host. TABLE may
    be a domain's file as well, as for --domain. Exit status 0 where the table
    offers all that is recommended for Windows, 1 where something is missing.
    """
    from vcpuid.answers.inside import of_guest, of_table, resting
    from vcpuid.cpuid.frozen import FrozenMap
    from vcpuid.path.pipeline import guest_view
    from vcpuid.software.hyperv import fields, offered, offers, present, recommended_but_missing, report
    from vcpuid.told.assumptions import Assumption, granted
    from vcpuid.told.facts import NotTold, sentences

    def flags(of: CpuidTable) -> dict[str, bool]:
        return dict.fromkeys(offered(of), True)

    taken: dict[Assumption, tuple[str, ...]] = {}
    table, cpu = domain_for_table(table, cpu)
    if table is not None:
        has_no_effect("TABLE is given, and no QEMU makes it", *STACK, "--cpu", "--domain", "--libvirt", "--host")
        snapshot = read_host(table).snapshot
        subject, head, path = for_guest(snapshot, table), table, None
        hanging = FrozenMap(of_table(snapshot, flags))
    else:
        resolved = _path(cpu, source, asked)
        subject, head, path = guest_view(resolved), resolved.headline(), resolved.as_dict()
        hanging = FrozenMap(of_guest(resolved, flags))
        taken = resting(resolved, flags, hanging)
    missing = recommended_but_missing(subject, hanging)
    if decoded:
        found = fields(subject)
        sheet = Sheet(
            columns=["place", "name", "value", "flags"],
            rows=[field._asdict() for field in found],
            data=report(subject, path, hanging, taken),
            records=[field.as_dict() for field in found],
            fields=["function", "register", "bits", "name", "value", "flags"],
            head=[head, ""],
        )
    else:
        sheet = Sheet(
            columns=["flag", "offered", "needs", "windows", "means"],
            rows=[offer.as_dict() for offer in offers(subject, hanging)],
            data=report(subject, path, hanging, taken),
            titles={"windows": "for", "means": "what that means"},
            head=[head, ""],
            styles={"flag": "bold"},
        )
    open_ = sentences(NotTold(flag, facts) for flag, facts in hanging.items())
    sheet.foot = ["", *(open_ or [_verdict(present(subject), missing)]), *granted(taken)]
    emit(sheet, form)
    sys.exit(1 if missing or hanging or not present(subject) else 0)


def _path(asked_cpu: AskedCpu, source: str | None, asked: Asked) -> Path:
    from vcpuid.answers.certainty import followed

    host = read_host(source)
    cpu, setup = asked_cpu.on(host, asked)
    path = followed(cpu, host=setup)
    print_warnings(path.said)
    return path


def _verdict(found: bool, missing: tuple[str, ...]) -> str:
    if not found:
        return f"Windows finds no Hyper-V here. Recommended for Windows: {','.join(missing)}"
    if missing:
        return f"Missing of what is recommended for Windows: {','.join(missing)}"
    return "All that is recommended for Windows is offered."
