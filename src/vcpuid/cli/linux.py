"""vcpuid linux: what a kernel, the host's or the guest's, makes of its CPU."""

from __future__ import annotations

from collections.abc import Callable

import click

from vcpuid.cli import choices
from vcpuid.cli.common import Host, cpu_option, host_argument, parse_params, print_warnings, read_host, stack_options
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.setup import Stack


@click.group(name="linux")
def command() -> None:
    """Linux's part: the flags of /proc/cpuinfo."""


@command.command()
@host_argument
@click.option("--guest", is_flag=True, help="Those that a guest of HOST shows instead, with --cpu.")
@cpu_option
@click.option("--guest-kernel", metavar="RELEASE", shell_complete=choices.kernels, help="The guest's kernel.  [default: the host's]")
@click.option("--guest-cmdline", default="", metavar="TEXT", help="The guest kernel's command line, such as mitigations=off.")
@stack_options
@format_option
def flags(
    source: str | None, guest: bool, cpu: str, guest_kernel: str | None, guest_cmdline: str, stack: Callable[[Host], Stack], form: str
) -> None:
    """Print the flags, bugs and VMX flags that /proc/cpuinfo shows on HOST, by the rules of its kernel and in that kernel's order."""
    from vcpuid.kvm.params import split
    from vcpuid.linux import cpuinfo
    from vcpuid.path.pipeline import guest_snapshot, resolve

    host = read_host(source, kvm=guest)
    chosen = stack(host)
    if guest:
        path = resolve(cpu, host=host.snapshot, stack=chosen)
        print_warnings((*path.remarks, *path.warnings))
        info = cpuinfo(guest_snapshot(path), guest_kernel or chosen.kernel, parse_params((f"cmdline={guest_cmdline}",)))
    else:
        info = cpuinfo(host.snapshot, chosen.kernel, split(chosen.params)[1])
    data = {"flags": list(info.flags), "bugs": list(info.bugs), "vmx flags": list(info.vmx_flags)}
    rows: list[dict[str, object]] = [{"line": line, "names": " ".join(names)} for line, names in data.items()]
    emit(Sheet(["line", "names"], rows, data, lines=[f"{line}: {' '.join(names)}" for line, names in data.items()]), form)
