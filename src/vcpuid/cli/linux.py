"""vcpuid linux: what a kernel, the host's or the guest's, makes of its CPU."""

from __future__ import annotations

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import AskedCpu, domain_options
from vcpuid.cli.lazy import VerbGroup
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import Asked, cpu_option, has_no_effect, host_argument, print_warnings, read_host, stack_options


@click.group(name="linux", cls=VerbGroup)
def command() -> None:
    """Linux's part: the flags in /proc/cpuinfo."""


@command.command()
@host_argument
@click.option("--guest", is_flag=True, help="Print those that a guest of HOST with --cpu shows.")
@cpu_option
@domain_options
@click.option("--guest-kernel", metavar="RELEASE", shell_complete=choices.kernels, help="The guest's kernel.  [default: the host's]")
@click.option("--guest-cmdline", default="", metavar="TEXT", help="The guest kernel's command line, such as mitigations=off.")
@stack_options()
@format_option
def flags(source: str | None, guest: bool, cpu: AskedCpu, guest_kernel: str | None, guest_cmdline: str, asked: Asked, form: str) -> None:
    """Print the flags, bugs and VMX flags of /proc/cpuinfo.

    They are HOST's, or with --guest those of a guest with --cpu on it, as its kernel prints them and in that kernel's order.
    """
    from vcpuid.answers.certainty import followed
    from vcpuid.answers.flags import flags_inside, told
    from vcpuid.setup import Stack
    from vcpuid.told.assumptions import granted
    from vcpuid.told.facts import sentences

    host = read_host(source, kvm=guest)
    if guest:
        argument, setup = cpu.on(host, asked)
        path = followed(argument, host=setup)
        kernel = Stack(guest_kernel or path.setup.kernel.asked, params={"cmdline": guest_cmdline})
        found, inside = flags_inside(path, kernel)
        print_warnings(dict.fromkeys((*path.said, *inside.remarks)))
        data = found.as_dict(inside, path.as_dict())
    else:
        guests = ("--cpu", "--domain", "--libvirt", "--qemu", "--machine", "--smp", "--global", "--guest-kernel", "--guest-cmdline")
        has_no_effect("these are the host's own flags; --guest asks for a guest's", *guests)
        setup = asked.setup(host)
        print_warnings((*setup.remarks, *(f"the parameter {name} is KVM's, and changes no flag of the host" for name in setup.params.kvm)))
        found = told(setup)
        data = found.as_dict(setup)
    shown = {line.replace("_", " "): list(names) for line, names in found.info._asdict().items()}
    rows: list[dict[str, object]] = [{"line": line, "names": names} for line, names in shown.items()]
    if found.not_told:
        rows.append({"line": "not told", "names": [open_.what for open_ in found.not_told]})
    open_lines = [*sentences(found.not_told), *granted(found.assumes)]
    lines = [*(f"{line}: {' '.join(names)}" for line, names in shown.items()), *(f"# {line}" for line in open_lines)]
    emit(Sheet(["line", "names"], rows, data, lines=lines, foot=["", *open_lines] if open_lines else []), form)
