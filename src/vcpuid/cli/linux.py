"""vcpuid linux: what the host's kernel makes of its CPU."""

from __future__ import annotations

import click

from vcpuid.cli.common import kernel_of, parse_params, read_host
from vcpuid.cli.output import Sheet, emit, format_option


@click.group(name="linux")
def command() -> None:
    """Linux's part: the flags of /proc/cpuinfo."""


@command.command()
@click.argument("source", metavar="[HOST]", required=False)
@click.option("--kernel", metavar="RELEASE", help="The kernel's release.  [default: the host's]")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A boot parameter or setting of the kernel; may be repeated.")
@format_option
def flags(source: str | None, kernel: str | None, params: tuple[str, ...], form: str) -> None:
    """Print the flags, bugs and VMX flags that /proc/cpuinfo shows on HOST, in the kernel's order."""
    from vcpuid.linux import cpuinfo

    host = read_host(source, kvm=False)
    info = cpuinfo(host.snapshot, kernel or kernel_of(host), parse_params(params))
    data = {"flags": list(info.flags), "bugs": list(info.bugs), "vmx flags": list(info.vmx_flags)}
    rows = [{"line": line, "names": " ".join(names)} for line, names in data.items()]
    emit(Sheet(["line", "names"], rows, data, lines=[f"{line}: {' '.join(names)}" for line, names in data.items()]), form)
