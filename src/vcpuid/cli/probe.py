"""vcpuid probe: advertised against what works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from vcpuid.cli import choices, streams
from vcpuid.cli.demands import demand
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import STACK, Asked, has_no_effect, host_option, print_warnings, read_host, stack_options, table_for_guest
from vcpuid.cli.short import Cut, first, some
from vcpuid.cli.swapped import no_feature
from vcpuid.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from vcpuid.cpuid import CpuidTable
    from vcpuid.probe import Instruction, Outcome

_MATTER = frozenset({"hazard", "hidden, yet works"})
"""Verdicts of instructions that do otherwise than CPUID shows."""
_NAMED = 8
"""Instructions that a sentence names before it counts the rest."""

TITLES = {"process_advertised": "here", "process_result": "works here", "guest_advertised": "guest", "guest_result": "works in guest"}
"""What the table calls the columns of both places."""


def _one_guest(params: Mapping[str, Any]) -> None:
    table, of_qemu = params["table_source"] is not None, params["cpu"] is not None or params["source"] is not None
    if table and of_qemu:
        raise click.UsageError("--table gives the guest's table; leave --cpu and --host out")
    if params["no_guest"] and (table or of_qemu or params["force"] or params["hide"]):
        raise click.UsageError("--no-guest starts no guest: leave --table, --cpu, --host, --force and --hide out")


@click.command(name="probe")
@click.argument("features", nargs=-1, metavar="[FEATURE]...", shell_complete=choices.features_tried)
@click.option("--cpu", metavar="CPU", shell_complete=choices.cpus, help="The guest's CPU, as QEMU's -cpu takes it.  [default: host]")
@host_option
@click.option(
    "--table",
    "table_source",
    metavar="TABLE",
    shell_complete=choices.hosts,
    help="Give the guest this CPUID table, unchanged, instead of QEMU's for --cpu.",
)
@click.option(
    "--force", multiple=True, metavar="FEATURE", shell_complete=choices.features_of_cpuid,
    help="Force a feature on in the guest's table, or 'all'; may be repeated.",
)  # fmt: skip
@click.option(
    "--hide", multiple=True, metavar="FEATURE", shell_complete=choices.features_of_cpuid,
    help="Hide a feature from the guest's table, or 'all'; may be repeated.",
)  # fmt: skip
@click.option("--no-guest", is_flag=True, help="Try instructions in this process only.")
@all_option
@stack_options()
@format_option
@demand(_one_guest)
def command(
    features: tuple[str, ...], cpu: str | None, source: str | None, table_source: str | None, force: tuple[str, ...],
    hide: tuple[str, ...], no_guest: bool, everything: bool, asked: Asked, form: str,
) -> None:  # fmt: skip
    """Run instructions, here and in a guest, and compare with CPUID.

    Each instruction runs in a process of its own, and in a tiny real guest, so that a fault does no harm. FEATURE limits the test to some
    features. "Hazard" is a feature that CPUID shows and whose instruction faults; "hidden, yet works" one that CPUID does not show and
    that programs can use all the same.

    Exit status 1 where there is a hazard.
    """
    from vcpuid import probe

    if no_guest:
        has_no_effect("--no-guest tries this process only", *STACK)
    try:
        tried = probe.instructions_of(features)
    except InputError as error:
        raise no_feature(error) from None
    here = probe.process(tried)
    inside = [] if no_guest else _guest(lambda: _table(cpu or "host", source, table_source, asked), force, hide, tried)
    emit(_sheet(here, inside, everything=everything or bool(features) or form != "table"), form)
    sys.exit(1 if any(outcome.verdict == probe.HAZARD for outcome in (*here, *inside)) else 0)


def _guest(table: Callable[[], CpuidTable], force: Sequence[str], hide: Sequence[str], tried: Sequence[Instruction]) -> list[Outcome]:
    """Try the guest; without a /dev/kvm that runs one, say so and leave it at the process."""
    from vcpuid import probe
    from vcpuid.live.kvm_device import Kvm

    try:
        Kvm().close()
        return probe.guest(probe.override(table(), force, hide), tried)
    except UnavailableError as lacking:
        streams.tell(f"{lacking}; trying this process only")
        return []


def _table(cpu: str, source: str | None, table_source: str | None, asked: Asked) -> CpuidTable:
    """Return the table that the guest is to get, before bits are forced or hidden."""
    from vcpuid.answers.handed import handed
    from vcpuid.vmm.qemu import QEMU

    if table_source is not None:
        has_no_effect("--table gives the table, so no QEMU makes one", *STACK)
        return table_for_guest(read_host(table_source).snapshot, table_source)
    host = read_host(source)
    setup = asked.setup(host)
    found = handed(cpu, setup, QEMU)
    print_warnings((*setup.remarks, *found.warned.said(QEMU)))
    return found.table


def _sheet(here: Sequence[Outcome], inside: Sequence[Outcome], *, everything: bool) -> Sheet:
    """Join both places, a row for each instruction."""
    from vcpuid.probe import report

    by_place = [{(outcome.feature, outcome.instruction): outcome for outcome in place} for place in (here, inside)]
    rows = [_row(*key, *(place.get(key) for place in by_place)) for key in dict.fromkeys((*by_place[1], *by_place[0]))]
    machine = report.machine()
    shown = rows if everything else [row for row in rows if row["verdict"] in _MATTER]
    answers = (*_summary("this process", here, everything), *_summary("the guest", inside, everything))
    return Sheet(
        columns=["feature", "instruction", *TITLES, "verdict", "note"],
        rows=shown,
        records=rows,
        data=report.report(machine, here, inside),
        titles=TITLES,
        head=[*answers, machine, ""],
        foot=["", *remarks] if (remarks := [*_table_remarks(inside, everything)]) else [],
        styles={"feature": "bold"},
        cut=None if everything else Cut(of=len(rows), what="instructions"),
    )


def _row(feature: str, instruction: str, here: Outcome | None, inside: Outcome | None) -> dict[str, object]:
    from vcpuid.probe import VERDICTS

    known = [outcome for outcome in (here, inside) if outcome is not None]
    return {
        "feature": feature,
        "instruction": instruction,
        "process_advertised": here and here.advertised,
        "process_result": here and here.result,
        "guest_advertised": inside and inside.advertised,
        "guest_result": inside and inside.result,
        "verdict": min((outcome.verdict for outcome in known), key=VERDICTS.index),
        "note": "; ".join(dict.fromkeys(note for note in (*(outcome.detail for outcome in known), _emulated(here, inside)) if note)),
    }


def _emulated(here: Outcome | None, inside: Outcome | None) -> str:
    """Say so where a guest's user code gets on with bytes at which the processor faults: that is KVM's work then."""
    from vcpuid.probe import WORKS

    if here is None or inside is None or here.result != "#UD" or inside.result != WORKS:
        return ""
    return "the processor lacks it; KVM executes it"


def _summary(place: str, outcomes: Sequence[Outcome], everything: bool) -> Iterator[str]:
    from vcpuid.probe import HAZARD, HIDDEN

    def named(verdict: str) -> str:
        found = [f"{outcome.feature} ({outcome.instruction})" for outcome in outcomes if outcome.verdict == verdict]
        shown = first(found, everything, _NAMED)
        return ", ".join(shown) + (f" and {len(found) - len(shown)} more" if len(shown) < len(found) else "")

    if hazards := named(HAZARD):
        yield f"Hazards in {place}: shown by CPUID, yet they fault: {hazards}"
    elif outcomes:
        yield f"No hazard in {place}: of the features that CPUID shows, none that was tried faults"
    if hidden := named(HIDDEN):
        yield f"Hidden in {place}, yet they work: {hidden}"


def _table_remarks(inside: Sequence[Outcome], everything: bool) -> Iterator[str]:
    """Say where the guest's CPUID is not the table that was asked for."""
    shown, user = [o for o in inside if o.advertised], [o for o in inside if o.to_user]
    for meaning, found in (
        ("Asked for, but not shown by this KVM", [o for o in inside if o.asked and o not in shown]),
        ("Not asked for, but shown by this KVM", [o for o in shown if not o.asked]),
        ("Shown to the guest's user code, but not to its kernel", [o for o in user if o not in shown]),
        ("Shown to the guest's kernel, but not to its user code", [o for o in shown if o not in user]),
    ):
        if found:
            names = [outcome.feature for outcome in found]
            yield f"{meaning}: {' '.join(dict.fromkeys(names)) if everything else some(names)}"
