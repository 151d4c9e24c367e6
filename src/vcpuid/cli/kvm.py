"""vcpuid kvm: what KVM supports, keeps and answers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

from vcpuid.cli import choices
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import Asked, host_argument, kernel_options, number, print_warnings, read_host, stack_options, table_for_guest
from vcpuid.cli.short import Cut
from vcpuid.cli.tables import print_table
from vcpuid.cpuid import CpuidTable, Entry, Snapshot, words
from vcpuid.cpuid.parts import for_guest
from vcpuid.errors import InputError
from vcpuid.reasons import Basis
from vcpuid.setup import Setup

if TYPE_CHECKING:
    from vcpuid.told.facts import NotTold

_SHOWN = 12
MODES: dict[str, Literal[16, 32, 64]] = {"16": 16, "32": 32, "64": 64}

table_argument = click.argument("source", metavar="TABLE", shell_complete=choices.hosts)


@click.group(name="kvm")
def command() -> None:
    """KVM's part: what it supports, keeps and answers."""


@command.command()
@host_argument
@click.option("--check", is_flag=True, help="Compare the host's own KVM with the model, and name every bit that differs.")
@all_option
@kernel_options
@format_option
def supported(source: str | None, check: bool, everything: bool, asked: Asked, form: str) -> None:
    """Print KVM_GET_SUPPORTED_CPUID's answer on HOST.

    It is the one in HOST's snapshot; where that has none, or with --kernel or --param, it is modelled. What --check finds is cut to a
    screen; --all prints all of it.
    """
    from vcpuid import kvm
    from vcpuid.kvm.report import SUPPORTED, report
    from vcpuid.told.tables import of_kvm

    host = read_host(source)
    setup = asked.setup(host)
    print_warnings(setup.remarks)
    if check:
        _check(host.snapshot, setup, form, everything=everything)
    else:
        observed = None if asked.given else setup.host.supported

        def answer(other: Setup) -> CpuidTable:
            told = None if observed is None else other.host.supported
            return kvm.supported(other).table if told is None else told

        table, open_ = answer(setup), of_kvm(setup, answer)
        print_table(table, "SUP", form, report(SUPPORTED, table, setup, basis=_basis(observed), not_told=_dicts(open_)), open_)


def _dicts(not_told: Sequence[NotTold]) -> list[dict[str, object]]:
    return [found.as_dict() for found in not_told]


def _basis(observed: CpuidTable | None) -> str:
    basis = Basis.MODELLED if observed is None else Basis.OBSERVED
    return basis.value


def _check(snapshot: Snapshot, setup: Setup, form: str, *, everything: bool) -> None:
    from vcpuid.answers.patched import differences, report
    from vcpuid.kvm.answers import kvm_says

    if snapshot.supported is None:
        raise InputError("HOST's snapshot does not have its KVM's answer (no SUP lines): nothing to check")
    found = differences(snapshot, setup)
    columns, records = ["bit", "feature", "machine", "model", "rule", "reason"], [difference.as_dict() for difference in found]
    kernel = setup.kernel.asked
    differ = "1 bit differs" if len(found) == 1 else f"{len(found)} bits differ"
    verdict = (
        f"{differ} from what stock Linux {kernel}'s KVM would answer"
        if found
        else f"KVM answers as stock Linux {kernel} would, bit for bit"
    )
    rows = [{**row, "machine": int(bit.machine), "model": int(bit.model)} for row, bit in zip(records, found, strict=True)]
    modules = [f"This host's KVM is {module}, which is none of Linux's own modules." for module in kvm_says(setup).odd_modules]
    sheet = Sheet(
        columns,
        rows,
        data=report(found, setup),
        records=records,
        titles={"machine": "here", "model": "stock", "reason": "why stock Linux has it so"},
        head=[verdict, *modules, *([""] if found else [])],
        cut=None if everything else Cut(_SHOWN, what="bits"),
    )
    emit(sheet, form)
    sys.exit(1 if found else 0)


@command.command()
@host_argument
@kernel_options
@format_option
def emulated(source: str | None, asked: Asked, form: str) -> None:
    """Print KVM_GET_EMULATED_CPUID's answer on HOST.

    It is the one in HOST's snapshot; where that has none, or with --kernel or --param, it is modelled.
    """
    from vcpuid import kvm
    from vcpuid.kvm.report import EMULATED, report
    from vcpuid.told.tables import of_kvm

    host = read_host(source)
    setup = asked.setup(host)
    print_warnings(setup.remarks)
    observed = None if asked.given else setup.host.emulated
    table = kvm.emulated(setup).table if observed is None else observed
    open_ = of_kvm(setup, lambda other: kvm.emulated(other).table) if observed is None else ()
    print_table(table, "EMU", form, report(EMULATED, table, setup, basis=_basis(observed), not_told=_dicts(open_)), open_)


@command.command(name="set")
@table_argument
@click.option("--cr4", type=number, default=0, metavar="VALUE", help="The vCPU's CR4: OSXSAVE is 0x40000, PKE 0x400000.")
@click.option("--no-apic", is_flag=True, help="The vCPU's APIC is off in IA32_APIC_BASE.")
@kernel_options
@format_option
def set_(source: str, cr4: int, no_apic: bool, asked: Asked, form: str) -> None:
    """Print what a vCPU keeps of TABLE after KVM_SET_CPUID2.

    That is what KVM_GET_CPUID2 gives back. Exit status 1 where KVM refuses TABLE.
    """
    from vcpuid import kvm
    from vcpuid.kvm.report import SET, report

    host = read_host(source)
    table = for_guest(host.snapshot, source)
    setup = asked.setup(host)
    print_warnings(setup.remarks)
    kept = kvm.set_cpuid(table, host=setup, cr4=cr4, apic=not no_apic).table
    print_table(kept, "GOT", form, report(SET, kept, setup, cr4=f"{cr4:x}", apic=not no_apic))


@command.command()
@table_argument
@click.argument("leaves", metavar="LEAF[.INDEX]...", nargs=-1, required=True, shell_complete=choices.leaves)
@stack_options("qemu", "machine", "smp", "params", "what_if", "globals")
@format_option
def lookup(source: str, leaves: tuple[str, ...], asked: Asked, form: str) -> None:
    """Print what a guest's CPUID returns for leaves of TABLE.

    KVM's rules for missing and out-of-range leaves are followed.
    """
    from vcpuid import kvm
    from vcpuid.kvm.report import LOOKUP, report

    host = read_host(source)
    table = for_guest(host.snapshot, source)
    setup = asked.setup(host)
    print_warnings(setup.remarks)
    seen = CpuidTable(Entry(f, i, 0, *kvm.lookup(table, f, i, kernel=setup.kernel)) for f, i in map(parse_leaf, leaves))
    print_table(seen, "GUEST", form, report(LOOKUP, seen, setup))


@command.command()
@table_argument
@click.argument("leaves", metavar="[LEAF[.INDEX]]...", nargs=-1, shell_complete=choices.leaves)
@click.option("--mode", type=click.Choice(list(MODES)), default="64", show_default=True, help="The guest's mode, in bits.")
@click.option("--emulate", is_flag=True, help="Execute the CPUID in KVM's instruction emulator (needs kvm.force_emulation_prefix).")
@click.option("--time", "timed", is_flag=True, help="Measure the cost of one CPUID in the guest instead.")
@format_option
def run(source: str, leaves: tuple[str, ...], mode: str, emulate: bool, timed: bool, form: str) -> None:
    """Run a tiny guest with TABLE on this machine's KVM.

    Each leaf is shown as asked, as kept (KVM_GET_CPUID2), and as the guest's CPUID sees it.
    """
    from vcpuid.live import report
    from vcpuid.live.tiny_guest import read_cpuid, time_exit

    table = table_for_guest(read_host(source).snapshot, source)
    if timed:
        data = report.time_report(time_exit(table, mode=MODES[mode]), MODES[mode])
        columns = ["cycles", "ns", "rounds"]
        row = {column: data[column] for column in columns}
        emit(Sheet(columns, [row], data, foot=["The median cost of one CPUID in the guest."]), form)
        return
    wanted = [parse_leaf(leaf) for leaf in leaves] or list(dict.fromkeys((entry.function, entry.index) for entry in table))
    rows = list(report.registers(table, read_cpuid(table, wanted, mode=MODES[mode], emulate=emulate), wanted))
    columns = ["function", "index", "register", "asked", "kept", "seen", "note"]
    emit(Sheet(columns, rows, report.report(rows, MODES[mode], emulate=emulate), titles={"note": ""}), form)


def parse_leaf(text: str) -> tuple[int, int]:
    """Read LEAF or LEAF.INDEX; without an index it is 0."""
    function, index = words.parse_leaf(text)
    return function, index or 0
