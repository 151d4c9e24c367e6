"""vcpuid qemu: models, and the table that QEMU hands to KVM."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import AskedCpu, libvirt_option
from vcpuid.cli.output import Sheet, all_option, cell, emit, format_option
from vcpuid.cli.safe import message
from vcpuid.cli.setup import Asked, host_argument, print_warnings, read_host, stack_options
from vcpuid.cli.short import Cut, left_open
from vcpuid.cli.standing import standing
from vcpuid.cli.streams import styled
from vcpuid.cli.tables import print_table
from vcpuid.setup import overruled

if TYPE_CHECKING:
    from vcpuid.answers.usable import Models


@click.group(name="qemu")
def command() -> None:
    """QEMU's part: its CPU models, and the table that it gives to KVM."""


@command.command()
@host_argument
@all_option
@stack_options("smp")
@format_option
def models(source: str | None, everything: bool, asked: Asked, form: str) -> None:
    """List QEMU's CPU models, and which run on HOST.

    Those that run without warnings come first, the best at the top; --all also shows what each of the others lacks.

    The best are of the host's own maker and keep the most of the features that -cpu host gives. JSON and the other formats for programs
    have all models under all their names.
    """
    from vcpuid import qemu
    from vcpuid.answers.usable import usable
    from vcpuid.kvm.answers import kvm_says
    from vcpuid.qemu.models import assumes, report
    from vcpuid.told.assumptions import granted
    from vcpuid.told.facts import NotTold, sentences

    host = read_host(source)
    setup = asked.setup(host)
    print_warnings((*setup.remarks, *overruled(setup)))
    xcr0 = kvm_says(setup).xcr0
    found = qemu.models(setup, xcr0=xcr0)
    taken = assumes(found, setup, xcr0)
    records = [{**model.as_dict(), "runs": "not told" if model.usable is None else model.usable} for model in found]
    open_ = sentences(NotTold(model.name, model.depends) for model in found if model.depends)
    fields = ["model", "alias_of", "runs", "deprecated", "missing", *(["not_told"] if open_ else [])]
    data = report(found, setup, taken)
    if form != "table":
        emit(Sheet(fields, records, data), form)
        return
    here = usable(found, setup)
    rows: list[dict[str, object]] = [
        {"model": one.model.name, "also_called": " ".join(one.called), "keeps": one.keeps, "deprecated": one.model.deprecated}
        for one in here.usable
    ]
    columns = ["model", "also_called", "keeps", *(["deprecated"] if any(row["deprecated"] for row in rows) else [])]
    if everything:
        rows, columns, cut, foot = records, fields, None, [*open_, *granted(taken)]
    else:
        cut = Cut(_ROWS, here.number, "models", "the rest, and what each lacks")
        foot = list(left_open((model.name for model in found if model.depends), open_, taken))
    titles = {"not_told": "not told", "keeps": "keeps" if here.features is None else f"keeps of the {here.features} features of -cpu host"}
    head = [_answer(here), standing(setup, host, source), ""]
    emit(Sheet(columns, rows, data, titles=titles, head=head, foot=["", *foot] if foot else [], cut=cut), form)


_ROWS = 15
"""Models that run and are listed unless all are asked for."""


def _answer(here: Models) -> str:
    best = here.best
    runs = f"{len(here.usable)} of {here.number} models run here without warnings"
    if here.open:
        runs = f"{runs}, and of {here.open} that is not told"
    if best is None:
        if here.usable and all(one.narrow for one in here.usable):
            runs = f"{runs}, none of them 64-bit"
        return f"{runs}; take -cpu host"
    kept = "" if here.features is None else f" ({best.keeps} of {here.features})"
    return f"{runs}; the one that keeps the most is {min((best.model.name, *best.called), key=len)}{kept}"


@command.command()
@click.argument("cpu", metavar="CPU", shell_complete=choices.cpus_or_files)
@host_argument
@libvirt_option
@stack_options("smp")
@format_option
def expand(cpu: str, source: str | None, libvirt_release: str | None, asked: Asked, form: str) -> None:
    """Print every property of CPU on HOST.

    They are what the monitor's query-cpu-model-expansion (full) gives.
    CPU is what -cpu takes, or the file of a domain (.xml), which leads libvirt to one.
    """
    from vcpuid.kvm.answers import kvm_says
    from vcpuid.qemu.catalog import catalog
    from vcpuid.qemu.expansion import expansion, not_told, report
    from vcpuid.qemu.managers import remarked
    from vcpuid.told.facts import NotTold, sentences

    host = read_host(source)
    cpu, setup = remarked(*AskedCpu.of(cpu, libvirt_release).on(host, asked))
    print_warnings((*setup.remarks, *overruled(setup)))
    found, open_ = expansion(cpu, setup, xcr0=kvm_says(setup).xcr0), not_told(cpu, setup)
    rows: list[dict[str, object]] = [{"property": name, "value": value} for name, value in found.items()]
    columns = ["property", "value"]
    if open_:
        columns.append("not_told")
        rows = [{**row, "not_told": row["property"] in open_} for row in rows]
    aliases = catalog(setup.vmm.tables).aliases
    said = sentences(NotTold(name, facts) for name, facts in open_.items() if name not in aliases)
    lines = [*(f"{name} {cell(value)}" for name, value in found.items()), *(f"# {line}" for line in said)]
    foot = ["", *said] if said else []
    emit(Sheet(columns, rows, report(cpu, found, setup, open_), titles={"not_told": "not told"}, lines=lines, foot=foot), form)


@command.command()
@click.argument("cpu", metavar="CPU", shell_complete=choices.cpus_or_files)
@host_argument
@click.option("--vcpu", type=click.IntRange(min=0), default=0, show_default=True, help="Which vCPU's table.")
@libvirt_option
@stack_options()
@format_option
def table(cpu: str, source: str | None, vcpu: int, libvirt_release: str | None, asked: Asked, form: str) -> None:
    """Print the CPUID table that QEMU gives to KVM.

    These are the entries for KVM_SET_CPUID2. Exit status 1, with QEMU's own message, where QEMU refuses CPU.
    CPU is what -cpu takes, or the file of a domain (.xml), which leads libvirt to one.
    """
    from vcpuid.answers.handed import handed
    from vcpuid.qemu.managers import remarked
    from vcpuid.vmm.qemu import QEMU

    host = read_host(source)
    cpu, setup = remarked(*AskedCpu.of(cpu, libvirt_release).on(host, asked))
    found = handed(cpu, setup, QEMU, vcpu)
    print_warnings((*setup.remarks, *overruled(setup), *found.warned.said(QEMU)))
    print_table(found.table, "TAB", form, found.as_dict(), found.not_told)


@command.command(name="import")
@click.argument("binary", type=click.Path(), metavar="BINARY")
@click.option("--label", default="imported", show_default=True, help="Ends the name under which --qemu finds it: RELEASE-LABEL.")
@format_option
def import_(binary: str, label: str, form: str) -> None:
    """Learn models and machine types from a QEMU of yours.

    They are kept, with all properties, for --qemu.
    No guest is started and no KVM is used. Where BINARY is the QEMU installed here, it is the default from then on.
    """
    from vcpuid.live.qemu_import import import_qemu

    made = import_qemu(binary, label, _progress if sys.stderr.isatty() else lambda *_: None)
    print_warnings(made.remarks)
    columns, data = ["name", "models", "new_models", "machines", "file"], made.as_dict()
    row = {column: data[column] for column in columns}
    emit(Sheet(columns, [row], data, head=[made.source, ""], foot=["", f"From now on: --qemu {made.name}"]), form)


def _progress(model: str, number: int, count: int) -> None:
    end = "\n" if number == count else ""
    with styled(sys.stderr):
        print(f"\r\x1b[Kasking for CPU models: {number} of {count}, {message(model)}", end=end, file=sys.stderr, flush=True)
