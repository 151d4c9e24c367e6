"""vcpuid linux: what a kernel, the host's or the guest's, makes of its CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vcpuid.cli.domain import AskedCpu, domain_options
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import (
    Asked,
    cpu_option,
    guest_kernel_option,
    has_no_effect,
    host_argument,
    print_warnings,
    probe_for,
    read_host,
    stack_options,
)
from vcpuid.cli.short import Cut, folded

if TYPE_CHECKING:
    from vcpuid.answers.file_verdict import FileVerdict
    from vcpuid.answers.vulnerabilities import Verdicts
    from vcpuid.path.pipeline import Path
    from vcpuid.setup import Setup

F = TypeVar("F", bound=Callable[..., Any])


@click.group(name="linux")
def command() -> None:
    """Linux's part: flags in /proc/cpuinfo, and vulnerabilities."""


GUESTS = ("--cpu", "--domain", "--libvirt", "--qemu", "--machine", "--smp", "--global", "--guest-kernel", "--guest-cmdline", "--no-probe")


def of_host_or_guest(verb: F) -> F:
    """Add the options of a verb that asks a kernel, the host's or with --guest a guest's."""
    for option in reversed(
        (
            host_argument,
            click.option("--guest", is_flag=True, help="Answer for a guest of HOST instead, with --cpu."),
            cpu_option,
            domain_options,
            guest_kernel_option,
            click.option("--no-probe", is_flag=True, help="Model what a guest's vCPU keeps; do not ask this machine's KVM."),
            click.option("--guest-cmdline", default="", metavar="TEXT", help="The guest kernel's command line, such as mitigations=off."),
            stack_options(),
            format_option,
        )
    ):
        verb = option(verb)
    return verb


def settled(source: str | None, asked: Asked) -> Setup:
    """Settle a host whose own kernel is asked, and print what is to be said of that."""
    setup = asked.setup(read_host(source))
    print_warnings((*setup.remarks, *(f"the parameter {name} is KVM's: it changes no flag of the host" for name in setup.params.kvm)))
    return setup


def guest_of(source: str | None, cpu: AskedCpu, asked: Asked, *, probe: bool) -> Path:
    """Follow a guest; where the host is this machine, its KVM is asked what a vCPU keeps, as explain and guest ask it."""
    from vcpuid.answers.certainty import followed

    host = read_host(source, kvm=True)
    argument, setup = cpu.on(host, asked)
    return followed(argument, host=setup, probe=probe_for(host) if probe else None)


@command.command()
@of_host_or_guest
@all_option
def flags(
    source: str | None,
    guest: bool,
    cpu: AskedCpu,
    guest_kernel: str | None,
    guest_cmdline: str,
    no_probe: bool,
    asked: Asked,
    form: str,
    everything: bool,
) -> None:
    """Print the flags, bugs and VMX flags of /proc/cpuinfo.

    They are HOST's, or with --guest those of a guest with --cpu on it, as its kernel prints them and in that kernel's order.
    """
    from vcpuid.answers.flags import flags_inside, told
    from vcpuid.setup import Stack
    from vcpuid.told.assumptions import granted
    from vcpuid.told.facts import sentences

    if guest:
        path = guest_of(source, cpu, asked, probe=not no_probe)
        kernel = Stack(guest_kernel or path.setup.kernel.asked, params={"cmdline": guest_cmdline})
        found, inside = flags_inside(path, kernel)
        print_warnings(dict.fromkeys((*(folded(path) if form == "table" and not everything else path.said), *inside.remarks)))
        data = found.as_dict(inside, path.as_dict())
    else:
        has_no_effect("these are the host's own flags; --guest asks for a guest's", *GUESTS)
        setup = settled(source, asked)
        found = told(setup)
        data = found.as_dict(setup)
    shown = {line.replace("_", " "): list(names) for line, names in found.info._asdict().items()}
    rows: list[dict[str, object]] = [{"line": line, "names": names} for line, names in shown.items()]
    if found.not_told:
        rows.append({"line": "not told", "names": [open_.what for open_ in found.not_told]})
    open_lines = [*sentences(found.not_told), *granted(found.assumes)]
    lines = [*(f"{line}: {' '.join(names)}" for line, names in shown.items()), *(f"# {line}" for line in open_lines)]
    emit(Sheet(["line", "names"], rows, data, lines=lines, foot=["", *open_lines] if open_lines else []), form)


@command.command()
@of_host_or_guest
@all_option
def vulnerabilities(
    source: str | None,
    guest: bool,
    cpu: AskedCpu,
    guest_kernel: str | None,
    guest_cmdline: str,
    no_probe: bool,
    asked: Asked,
    form: str,
    everything: bool,
) -> None:
    """Print what sysfs says of Spectre and its kin.

    These are the files of /sys/devices/system/cpu/vulnerabilities on HOST or, with --guest, in a guest with --cpu on it. Of one of them,
    vcpuid explain NAME also says why the guest lacks what its kernel would need to do more.

    Exit status 1 where the kernel says that it is vulnerable to something, if in part alone, or cannot know, or where HOST does not tell
    enough; so where a guest's takes its processor for not affected by what the host's suffers from.
    """
    from vcpuid.answers.vulnerabilities import told, told_inside
    from vcpuid.setup import Stack

    warnings: list[str] = []
    if guest:
        path = guest_of(source, cpu, asked, probe=not no_probe)
        found, inside = told_inside(path, Stack(guest_kernel or path.setup.kernel.asked, params={"cmdline": guest_cmdline}))
        warnings = [*dict.fromkeys((*(folded(path, 1) if form == "table" and not everything else path.said), *inside.remarks))]
        print_warnings(warnings)
        head = [found.summary("The guest's kernel"), f"{inside.linux} in the guest of {path.headline()}"]
        data = found.as_dict(inside, path.as_dict())
    else:
        has_no_effect("this is what the host's own kernel says; --guest asks for a guest's", *GUESTS)
        setup = settled(source, asked)
        found = told(setup)
        head = [found.summary("The host's kernel"), f"{setup.linux} on {source or 'this machine'}{_READ if found.observed else ''}"]
        data = found.as_dict(setup)
    emit(replace(_sheet(found, head, data, everything), warnings=warnings), form)
    sys.exit(0 if found.protected else 1)


_READ = ", whose own files were read"


def _sheet(found: Verdicts, head: list[str], data: dict[str, object], everything: bool) -> Sheet:
    """Lay verdicts out: of those that people read only what the processor is affected by, unless all is asked for."""
    from vcpuid.answers.file_verdict import SEVERITY
    from vcpuid.told.assumptions import granted
    from vcpuid.told.facts import NotTold, sentences

    by_severity = sorted(found.files, key=lambda verdict: SEVERITY.index(verdict.protection))
    shown = [v for v in by_severity if everything or v.state != "not affected"]
    lacks = [_lacks(v) for v in shown]
    foot = ["", *([_LACKS] if any(lacks) else [])]
    foot += [*sentences([NotTold(v.file, v.depends) for v in found.files if v.depends]), *granted(found.assumes)]
    return Sheet(
        ["file", "says", *(["lacks"] if any(lacks) else [])],
        [{"file": v.file, "state": v.state, "says": v.said, "lacks": named} for v, named in zip(shown, lacks, strict=True)],
        data,
        records=[v.as_dict() for v in found.files],
        fields=["file", "state", "text", "needs", "observed"],
        lines=[f"{v.file}: {v.said}" for v in found.files],
        head=[*head, ""],
        foot=foot if len(foot) > 1 else [],
        styles={"file": "bold"},
        titles={"lacks": "the CPU lacks"},
        cut=None if everything else Cut(len(shown), len(found.files), "files"),
    )


_LACKS = "With what the CPU lacks this kernel would mitigate it, or say what is quoted; vcpuid explain FILE says why it lacks that."


def _lacks(verdict: FileVerdict) -> str:
    """Name what a processor lacks for a file, with what it would say besides."""
    return ", ".join([" and ".join(verdict.needs)] if verdict.needs else [f'{one.feature} "{one.says}"' for one in verdict.more])
