"""What several verbs share: the options that name a host and a stack, and their defaults for this machine."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vcpuid.cli import choices
from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError, UnavailableError
from vcpuid.releases import KERNELS, QEMUS
from vcpuid.setup import Params, Stack, settle

if TYPE_CHECKING:
    from vcpuid.path.pipeline import Probe

F = TypeVar("F", bound=Callable[..., Any])

cpu_option = click.option(
    "--cpu", default="host", show_default=True, metavar="CPU", shell_complete=choices.cpus,
    help="The guest's CPU, as QEMU's -cpu takes it.",
)  # fmt: skip
host_option = click.option(
    "--host", "source", metavar="HOST", shell_complete=choices.hosts, help="Where the host's CPUID comes from.  [default: this machine]"
)
host_argument = click.argument("source", metavar="[HOST]", required=False, shell_complete=choices.hosts)


def number(value: str | int) -> int:
    """Read an option that is a number, decimal or with 0x in front; click answers a ValueError with a usage error."""
    return value if isinstance(value, int) else int(value, 0)


@dataclass
class Host:
    """A host as the command line named it. `here` says that it is the machine we run on, whose KVM can be asked.

    Once a stack is chosen for it, `snapshot` keeps only the observations that hold for that stack.
    """

    snapshot: Snapshot
    here: bool


def read_cpus(source: str, *, every: bool = False) -> list[Snapshot]:
    """Read a dump, and print on standard error what bears on an answer about its first CPU: that there are others, say.

    Returns the CPU that `source` means before the others of its dump. With `every`, the answer is about all that it means: these are
    returned in the dump's order, and what bears on any of them is printed.
    """
    from vcpuid import sources

    dump = sources.read_dump(source)
    print_warnings(tuple(f"{'standard input' if source == '-' else source}: {remark}" for remark in dump.remarks(every=every)))
    return dump.meant if every else [dump.first, *dump.others]


def read_host(source: str | None, *, kvm: bool = True) -> Host:
    """Read HOST; without one, this machine: its processor and, where there is a usable /dev/kvm and `kvm` is wanted, its KVM."""
    from vcpuid import sources

    if source is not None:
        return Host(read_cpus(source)[0], source.partition(":")[0] in ("kvm", "live", "cpu"))
    if not kvm:
        return Host(sources.read("live"), True)
    try:
        return Host(sources.read("kvm"), True)
    except UnavailableError as lacking:
        print(f"vcpuid: {lacking}; KVM's answer is modelled from this processor's CPUID", file=sys.stderr)
        return Host(sources.read("live"), True)


def probe_for(host: Host) -> Probe | None:
    """Return the real guest as a probe where the host is this machine and /dev/kvm may be used, else None: the model answers."""
    if not host.here or host.snapshot.supported is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return None
    from vcpuid.live.tiny_guest import read_cpuid

    return read_cpuid


def stack_options(command: F) -> F:
    """Add the options that describe the software: they reach the verb as one argument `stack`, a function of the host."""

    @click.option(
        "--kernel", metavar="RELEASE", shell_complete=choices.kernels,
        help=f"Host kernel's release ({KERNELS[0]} to {KERNELS[-1]}).  [default: the host's]",
    )  # fmt: skip
    @click.option(
        "--qemu", "qemu_release", metavar="RELEASE", shell_complete=choices.qemus,
        help=f"QEMU's release ({QEMUS[0]} to {QEMUS[-1]}).  [default: installed, else newest]",
    )  # fmt: skip
    @click.option("--machine", default="q35", show_default=True, shell_complete=choices.machines, help="QEMU's machine type (-M).")
    @click.option("--smp", default="1", show_default=True, shell_complete=choices.topologies, help="QEMU's -smp.")
    @click.option(
        "--param", "params", multiple=True, metavar="NAME=VALUE", shell_complete=choices.params,
        help="A parameter of KVM's modules or the kernel; may be repeated.",
    )  # fmt: skip
    @click.option("--what-if", is_flag=True, help="HOST did not run so: model its KVM for --kernel and --param, whatever it told.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        kernel: str | None,
        qemu_release: str | None,
        machine: str,
        smp: str,
        params: tuple[str, ...],
        what_if: bool,
        **kwargs: Any,
    ) -> Any:
        def stack(host: Host) -> Stack:
            from vcpuid.live.installed import default_qemu

            chosen = Stack(kernel or kernel_of(host), qemu_release or default_qemu(), machine, smp, parse_params(params), what_if)
            host.snapshot = settle(host.snapshot, chosen)
            return chosen

        return command(*args, stack=stack, **kwargs)

    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the look of the command, not its type


def kernel_of(host: Host) -> str:
    """Return the release of the host's kernel; where the snapshot has none and is not of this machine, the newest that has tables."""
    from vcpuid.live.installed import kernel_release

    if host.snapshot.kernel:
        return host.snapshot.kernel
    return kernel_release() if host.here else KERNELS[-1]


def parse_params(params: tuple[str, ...]) -> Params:
    """Read NAME=VALUE options; numbers become integers."""
    parsed: dict[str, int | str | bool] = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not name or not equals:
            raise InputError(f"--param {param!r} is not of the form NAME=VALUE")
        parsed[name] = int(value, 0) if value.lstrip("-").isdigit() or value[:2] == "0x" else value
    return parsed


def print_warnings(warnings: tuple[str, ...]) -> None:
    """Print remarks on standard error, each as one line."""
    for warning in warnings:
        print(f"vcpuid: {warning}", file=sys.stderr)
