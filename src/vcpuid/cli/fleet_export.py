"""vcpuid fleet export: a fleet's CPU in the form of whoever starts the guests, and its metrics."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import libvirt_option
from vcpuid.cli.fleet_options import (
    absent,
    cluster_option,
    day_option,
    end_of_day,
    engine_option,
    opened,
    software,
    stack_of,
    store_argument,
)
from vcpuid.cli.layout import Verbatim
from vcpuid.cli.output import Sheet, emit, format_option, output_option
from vcpuid.cli.setup import Asked, has_no_effect, print_warnings
from vcpuid.cli.streams import replaced

if TYPE_CHECKING:
    from vcpuid.fleet.baseline import Baseline
    from vcpuid.fleet.store import Changed

FORMS = (
    "libvirt", "qemu", "kubevirt", "proxmox", "incus", "lxd", "nova", "cloud-hypervisor", "firecracker", "prometheus",
)  # fmt: skip
_OF_LIBVIRT = ("libvirt", "kubevirt", "nova")
_WITHOUT_QEMU = ("cloud-hypervisor", "firecracker", "prometheus")
"""Forms that have no model of QEMU's in them."""


@click.command()
@store_argument
@click.option("--to", required=True, type=click.Choice(FORMS), help="The form to write.")
@cluster_option
@day_option
@engine_option
@click.option("--require", multiple=True, metavar="FEATURE", shell_complete=choices.features, help="A feature that the guest must have.")
@libvirt_option
@click.option(
    "--firecracker", metavar="RELEASE", shell_complete=choices.firecrackers,
    help="Firecracker's release, for a template.  [default: the newest that is released]",
)  # fmt: skip
@click.option("--since", metavar="DAY", help="For prometheus: count the hosts that are of another class than at the end of this day.")
@output_option
@software
@format_option
def export(
    store: str,
    to: str,
    cluster: str | None,
    as_of: str | None,
    engine: str,
    require: tuple[str, ...],
    libvirt_release: str | None,
    firecracker: str | None,
    since: str | None,
    path: str,
    asked: Asked,
    form: str,
) -> None:
    """Write the CPU of all hosts in the form of whoever starts the guests, and read it back on every class.

    The CPU is the best baseline that the form can hold, for Firecracker a template of what KVM gives on all hosts. What a form cannot hold
    is named on standard error, and so is each class on which the guest that comes of it is another one. Exit status 0 where nothing is lost
    and the guest is the one that was meant on all hosts, else 1.

    prometheus are the fleet's metrics for node exporter's textfile collector: hosts by class, what each class is, whether it runs the
    baseline, and, of a store with --since, how many hosts have changed since. A file that --output names is replaced as a whole.
    """
    from vcpuid.answers.in_words import MANAGERS
    from vcpuid.fleet.export import export as exported
    from vcpuid.fleet.prometheus import prometheus
    from vcpuid.fleet.software import on_which, remarks

    if to not in _OF_LIBVIRT:
        has_no_effect(f"no libvirt reads what is written for {to}", "--libvirt")
    if to != "firecracker":
        has_no_effect(f"no Firecracker reads what is written for {to}", "--firecracker")
    if to != "prometheus":
        has_no_effect(f"{to} has no place for who has changed", "--since")
    fleet, day = opened(store, engine), end_of_day(as_of)
    manager = to if to in MANAGERS else None
    baseline = fleet.baseline(stack_of(asked), cluster=cluster, as_of=day, require=require, manager=manager)
    if to == "prometheus":
        before = end_of_day(since)
        found = prometheus(baseline, None if before is None else _drifted(baseline, fleet.changes(before, day, cluster)))
    else:
        found = exported(baseline, to, libvirt=libvirt_release, firecracker=firecracker)
    print_warnings(remarks(baseline.census, baseline.setups))
    if to not in _WITHOUT_QEMU:
        print_warnings([f"the CPU models are those of {on_which(baseline.setups)}"])
    print_warnings(found.notes)
    print_warnings(f"{to} loses something: {what}" for what in found.lost)
    print_warnings(f"{one.group.spoken}: {_said(one.same)}: {one.why}" for one in found.read_back if not one.same)
    print_warnings(absent(found.census))
    lines: list[str] = list(map(Verbatim, found.lines))
    if path != "-":
        with replaced(path) as output:
            for line in lines:
                print(line, file=output)
        lines = []
    columns = ["class", "hosts", "who", "same", "why"]
    emit(
        Sheet(columns, [], found.as_dict(), records=[one.as_dict() for one in found.read_back], fields=columns, lines=lines, head=lines),
        form,
    )
    sys.exit(0 if found.whole else 1)


def _drifted(baseline: Baseline, changes: Iterable[Changed]) -> dict[str, int]:
    """Count by cluster the hosts that are of another class than they were; one that was no member then has not changed."""
    found = {count.cluster: 0 for count in baseline.census.counts}
    for changed in changes:
        if changed.before is not None and changed.after is not None:
            found[changed.cluster] = found.get(changed.cluster, 0) + 1
    return found


def _said(same: bool | None) -> str:
    return "not told" if same is None else "not the guest that was meant"
