"""vcpuid hyperv: what a Windows guest finds, and the -cpu with which it finds what is recommended."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import AskedCpu, domain_for_table, domain_options
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import (
    STACK,
    Asked,
    has_no_effect,
    host_option,
    print_warnings,
    read_host,
    stack_options,
    table_for_guest,
    take_for_host,
    trial_for,
)
from vcpuid.cli.short import Cut, folded
from vcpuid.cli.standing import standing
from vcpuid.cpuid.parts import of_host

if TYPE_CHECKING:
    from vcpuid.answers.windows import Enlightened
    from vcpuid.cpuid import CpuidTable
    from vcpuid.path.pipeline import Path
    from vcpuid.setup import Setup
    from vcpuid.software.hyperv import Offer


@click.command(name="hyperv")
@click.argument("table", metavar="[TABLE]", required=False, shell_complete=choices.hosts)
@click.option(
    "--cpu", default="host", show_default=True, metavar="CPU", shell_complete=choices.cpus,
    help="The guest's CPU with its hv-* flags, as -cpu takes it.",
)  # fmt: skip
@domain_options
@host_option
@all_option
@click.option("--fields", "decoded", is_flag=True, help="Decode the leaves field by field instead.")
@stack_options()
@format_option
def command(table: str | None, cpu: AskedCpu, source: str | None, everything: bool, decoded: bool, asked: Asked, form: str) -> None:
    """Show which Hyper-V enlightenments Windows finds and lacks.

    It prints the whole -cpu that has all that are recommended.

    With TABLE, that table's leaves 40000000 to 40000082 are read; else those that QEMU makes of --cpu on --host. TABLE may be a domain's
    file as well, as for --domain, or a host's snapshot, as for --host. On this machine its KVM is asked whether it takes what QEMU sets for
    them. What keeps an idle guest from burning time is marked "idle". --all lists the other enlightenments, too.

    Exit status 0 where the guest starts and finds all that is recommended for Windows, else 1.
    """
    from vcpuid.answers.inside import of_guest, of_table, resting
    from vcpuid.answers.windows import NOTHING, enlightened
    from vcpuid.cpuid.frozen import FrozenMap
    from vcpuid.path.pipeline import guest_view
    from vcpuid.software.hyperv import fields, offered, offers, present, recommended_but_missing, report
    from vcpuid.told.assumptions import Assumption, granted
    from vcpuid.told.facts import NotTold, sentences

    def flags(of: CpuidTable) -> dict[str, bool]:
        return dict.fromkeys(offered(of), True)

    taken: dict[Assumption, tuple[str, ...]] = {}
    table, cpu = domain_for_table(table, cpu)
    named = None if table is None else read_host(table)
    if table is not None and named is not None and of_host(named.snapshot):
        take_for_host(named.snapshot, table, source)
        table, source = None, table
    resolved, kvm = None, None
    if table is not None and named is not None:
        has_no_effect("TABLE is given, and no QEMU makes it", *STACK, "--cpu", "--domain", "--libvirt", "--host")
        snapshot = named.snapshot
        subject, basis, path = table_for_guest(snapshot, table), table, None
        hanging = FrozenMap(of_table(snapshot, flags))
    else:
        host = named or read_host(source)
        resolved = _path(*cpu.on(host, asked), brief=form == "table" and not everything)
        kvm = trial_for(host, resolved.setup)
        subject, basis, path = guest_view(resolved), standing(resolved.setup, host, source), resolved.as_dict()
        hanging = FrozenMap(of_guest(resolved, flags))
        taken = resting(resolved, flags, hanging)
    missing = recommended_but_missing(subject, hanging)
    better = NOTHING if resolved is None else enlightened(resolved, missing, kvm)
    data = report(subject, path, hanging, taken, better.as_dict())
    every = offers(subject, hanging)
    open_ = sentences(NotTold(flag, facts) for flag, facts in hanging.items())
    first = open_[0] if open_ else _verdict(resolved, every, present(subject), better)
    if decoded:
        found = fields(subject)
        sheet = Sheet(
            columns=["place", "name", "value", "flags"],
            rows=[field._asdict() for field in found],
            data=data,
            records=[field.as_dict() for field in found],
            fields=["function", "register", "bits", "name", "value", "flags"],
            head=[first, basis, *open_[1:], ""],
            foot=["", *granted(taken)],
        )
    else:
        sheet = Sheet(
            columns=["flag", "offered", "idle", "windows", "means"] if everything else ["flag", "idle", "means"],
            rows=[_shown(offer) for offer in every if everything or (offer.windows == "recommended" and not offer.offered)],
            data=data,
            records=[offer.as_dict() for offer in every],
            fields=["flag", "offered", "needs", "windows", "means", "idle"],
            titles={"windows": "for", "means": "what that means" if everything else "without it"},
            lines=[_line(offer) for offer in every],
            head=[first, basis, *open_[1:], *_to_paste(better, missing, resolved), ""],
            styles={"flag": "bold"},
        )
        sheet.foot = ["", *granted(taken)]
        sheet.cut = None if everything else _cut(sheet.rows, len(every))
    emit(sheet, form)
    refused = better.start is not None and better.start.message is not None
    sys.exit(1 if missing or hanging or refused or not present(subject) else 0)


def _path(cpu: str, setup: Setup, *, brief: bool) -> Path:
    from vcpuid.answers.certainty import followed

    path = followed(cpu, host=setup)
    print_warnings(folded(path) if brief else path.said)
    return path


def _shown(offer: Offer) -> dict[str, object]:
    """Lay a row out for people: what a flag needs stands with what it means, for names in a narrow column would be cut."""
    needs = f" (needs {' and '.join(offer.needs)})" if offer.needs else ""
    return {**offer.as_dict(), "idle": "idle" if offer.idle else "", "means": f"{offer.means}{needs}"}


def _cut(rows: Sequence[Mapping[str, object]], of: int) -> Cut:
    """Show as many as fit a screen of those that are missing, first what an idle guest burns time without."""
    idle = [bool(row["idle"]) for row in rows]
    return Cut(len(rows), what="that are missing", rest=f"all {of}", more=f"all {of} enlightenments", weights=idle)


def _line(offer: Offer) -> str:
    offered = "" if offer.depends else "yes" if offer.offered else "no"
    return f"{offer.flag} {offered} {' '.join(offer.needs)} {offer.windows} {offer.means}"


def _verdict(path: Path | None, every: Sequence[Offer], found: bool, better: Enlightened) -> str:
    """Say in a sentence what Windows lacks, or that there is no such guest."""
    guest = "of this table" if path is None else f"with -cpu {path.cpu}"
    if better.start is not None and better.start.message is not None and path is not None:
        said = "; ".join(better.start.message.splitlines())
        return f"QEMU {path.setup.vmm} {better.start.outcome} with -cpu {path.cpu} since this KVM does not take what QEMU sets: {said}"
    if better.none_here and path is not None:
        return "A Windows guest finds no Hyper-V on this host: its KVM offers none, so QEMU ignores every hv-* property"
    recommended = [offer for offer in every if offer.windows == "recommended"]
    lacking = [offer for offer in recommended if not offer.offered]
    if not lacking:
        return f"A Windows guest {guest} finds all {len(recommended)} recommended Hyper-V enlightenments"
    idle = sum(offer.idle for offer in lacking)
    burns = f"; {idle} of them keep{'s' if idle == 1 else ''} an idle guest quiet" if idle else ""
    if not found:
        return f"A Windows guest {guest} finds no Hyper-V: {len(lacking)} recommended enlightenments are missing{burns}"
    return f"A Windows guest {guest} lacks {len(lacking)} of the {len(recommended)} recommended enlightenments{burns}"


def _to_paste(better: Enlightened, missing: Sequence[str], path: Path | None) -> Iterator[str]:
    """Give the whole -cpu; of a table, whose -cpu nobody knows, what to add."""
    from vcpuid.software.hyperv import idles

    if better.none_here and better.start is not None and better.start.message is not None:
        yield "Leave the hv-* properties out: this host's KVM offers no Hyper-V, whatever -cpu asks for."
    if path is None:
        if missing:
            yield f"Add to its -cpu: {','.join(missing)}"
        return
    if better.cpu is not None:
        how = {"observed": "tried on this KVM", "not tried": "not tried on this host's KVM, which is not stock Linux's"}
        known = how.get(better.start.basis.value, "") if better.start is not None else ""
        yield f"Recommended{f' ({known})' if known else ''}: -cpu {better.cpu}"
        quiet = [flag for flag in missing if flag in idles() and f",{flag}" in better.cpu]
        if quiet and len(quiet) < len(missing):
            yield f"For a quiet idle guest, at least: {','.join(quiet)}"
    elif not better.none_here and (missing or (better.start is not None and better.start.message is not None)):
        yield "No -cpu with the recommended enlightenments starts here."
    yield from (f"    {amendment.what} is left out: {amendment.why}" for amendment in better.left_out)
