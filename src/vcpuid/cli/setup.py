"""What several verbs share: the options that name a host and a stack, and their defaults for this machine."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vcpuid import numbers
from vcpuid.cli import choices
from vcpuid.cli.streams import tell
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.errors import UnavailableError
from vcpuid.params import Given, given
from vcpuid.releases import KERNELS, QEMUS, Release
from vcpuid.setup import Setup, Stack

if TYPE_CHECKING:
    from vcpuid.path.probing import Probe
    from vcpuid.qemu.startup import RunningKvm

F = TypeVar("F", bound=Callable[..., Any])

cpu_option = click.option(
    "--cpu", default="host", show_default=True, metavar="CPU", shell_complete=choices.cpus,
    help="The guest's CPU, as QEMU's -cpu takes it.",
)  # fmt: skip
host_option = click.option(
    "--host",
    "source",
    metavar="HOST",
    shell_complete=choices.hosts,
    help="The host: a snapshot or dump, live or kvm.  [default: this machine]",
)
guest_kernel_option = click.option(
    "--guest-kernel", metavar="RELEASE", shell_complete=choices.kernels, help="The guest's kernel.  [default: the host's]"
)
words_option = click.option(
    "--for", "manager", type=click.Choice(["qemu", "libvirt", "kubevirt", "nova", "proxmox", "incus", "lxd"]),
    help="Write the -cpu that runs in the words of this manager of guests.",
)  # fmt: skip
host_argument = click.argument("source", metavar="[HOST]", required=False, shell_complete=choices.hosts)


def number(value: str | int) -> int:
    """Read an option that is a register, decimal or with 0x in front; click answers a ValueError with a usage error."""
    found = value if isinstance(value, int) else numbers.number(value, numbers.U64)
    if found is None:
        raise ValueError(value)
    return found


@dataclass(frozen=True)
class Host:
    """A host as the command line named it. `here` says that it is the machine we run on, whose KVM can be asked."""

    snapshot: Snapshot
    here: bool


def read_cpus(source: str, *, every: bool = False, given: tuple[str, str] | None = None) -> list[Snapshot]:
    """Read a dump, and print on standard error what bears on an answer about its first CPU: that there are others, say.

    Returns the CPU that `source` means before the others of its dump. With `every`, the answer is about all that it means: these are
    returned in the dump's order, and what bears on any of them is printed. `given` is as in `vcpuid.sources.read_dump`.
    """
    from vcpuid import sources

    dump = sources.read_dump(source, given)
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
        tell(f"{lacking}; KVM's answer is computed from this processor's CPUID")
        return Host(sources.read("live"), True)


def table_for_guest(snapshot: Snapshot, source: str) -> CpuidTable:
    """Give the table that a guest is to get (`cpuid.parts.for_guest`), and print what in it is not the dump's own."""
    from vcpuid.cpuid.parts import for_guest

    remark_on_table(snapshot, source)
    return for_guest(snapshot, source)


def take_for_host(snapshot: Snapshot, table: str, other: str | None) -> None:
    """Say that what stands in a guest's place is taken for a host where it is both, and how to ask about the guest.

    Raises click.UsageError where another host is named besides.
    """
    from vcpuid.software.hyperv import present

    if other is not None:
        raise click.UsageError(f"{table} is a host's snapshot, and --host names a host as well")
    if present(snapshot.raw):
        verb = click.get_current_context().command_path
        as_guest = f"vcpuid convert {shlex.quote(table)} --to cpuid | {verb} -"
        print_warnings([f"{table}: taken for a host, since its KVM answers; as a guest: {as_guest}"])


def remark_on_table(snapshot: Snapshot, source: str) -> None:
    """Print what in the table that a guest is to get is not the dump's own."""
    from vcpuid.cpuid.long_mode import REMARK, of_32_bit_program
    from vcpuid.cpuid.parts import alone, dumped
    from vcpuid.cpuid.whole import remarks

    if dumped(snapshot):
        told = alone(snapshot)
        said = [*([REMARK] if of_32_bit_program(told) else []), *remarks(told)]
        print_warnings(f"{'standard input' if source == '-' else source}: {remark}" for remark in said)


def probe_for(host: Host) -> Probe | None:
    """Return the real guest as a probe where the host is this machine and /dev/kvm may be used, else None: the model answers."""
    if not host.here or host.snapshot.supported is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return None
    from vcpuid.live.tiny_guest import read_cpuid

    return read_cpuid


def trial_for(host: Host, setup: Setup) -> RunningKvm | None:
    """Return this machine's KVM, to try on it what QEMU sets at start, where it may be used and is the one that is asked about."""
    if setup.host.supported is None or probe_for(host) is None:
        return None
    from vcpuid.live.trial import Trial

    return Trial()


@dataclass(frozen=True)
class Asked:
    """The software that the command line names; `given` tells whether it names any."""

    kernel: str | None = None
    qemu: str | None = None
    machine: str = "q35"
    smp: str = "1"
    params: Given = field(default_factory=dict)
    what_if: bool = False
    globals: tuple[str, ...] = ()
    given: bool = False

    def setup(self, host: Host, vmm: Release | None = None) -> Setup:
        """Settle it on a host.

        What is not named is the host's own; of this machine, where it does not tell that, the running kernel and the installed QEMU; else
        the newest known.
        `vmm` is the VMM's release where that is not QEMU. Raises InputError for a wrong release or parameter.
        """
        from vcpuid.kvm.effect import advised

        return advised(Setup.of(host.snapshot, self.stack(host, with_qemu=vmm is None), vmm=vmm))

    def stack(self, host: Host, *, with_qemu: bool = True) -> Stack:
        """Name the software on a host."""
        kernel = self._running(host) if self.kernel is None else self.kernel
        qemu = self._installed(host) if self.qemu is None and with_qemu else self.qemu
        return Stack(kernel, qemu, self.machine, self.smp, self.params, self.what_if, self.globals)

    @staticmethod
    def _running(host: Host) -> str | None:
        from vcpuid.live.installed import kernel_release

        return kernel_release() if host.here and not host.snapshot.kernel else None

    @staticmethod
    def _installed(host: Host) -> str | None:
        from vcpuid.live.installed import qemu_release

        return qemu_release() if host.here and host.snapshot.qemu is None else None


_STACK = {
    "kernel": click.option(
        "--kernel", metavar="RELEASE", shell_complete=choices.kernels,
        help=f"Host kernel's release ({KERNELS[0]} to {KERNELS[-1]}).  [default: the host's]",
    ),
    "qemu": click.option(
        "--qemu", metavar="RELEASE", shell_complete=choices.qemus,
        help=f"QEMU's release ({QEMUS[0]} to {QEMUS[-1]}).  [default: the host's; of this machine the installed; else the newest]",
    ),
    "machine": click.option(
        "--machine", default="q35", show_default=True, shell_complete=choices.machines, help="QEMU's machine type and its options (-M)."
    ),
    "smp": click.option("--smp", default="1", show_default=True, shell_complete=choices.topologies, help="QEMU's -smp."),
    "params": click.option(
        "--param", "params", multiple=True, metavar="NAME=VALUE", shell_complete=choices.params,
        help="A parameter of KVM's modules or the kernel; may be repeated.",
    ),
    "what_if": click.option(
        "--what-if", is_flag=True, help="Ignore what HOST's KVM answered; compute it for --kernel and --param instead."
    ),
    "globals": click.option(
        "--global", "globals", multiple=True, metavar="DRIVER.PROP=VALUE", shell_complete=choices.global_properties,
        help="QEMU's -global; may be repeated."
    ),
}  # fmt: skip
"""The options that name the software, by the fields of Asked."""


STACK = ("--kernel", "--qemu", "--machine", "--smp", "--param", "--what-if", "--global")
"""All of them."""


def typed(*names: str) -> list[str]:
    """Give those of these options that stand on the command line."""
    context = click.get_current_context()
    spelled = {parameter.opts[0]: parameter.name for parameter in context.command.params}
    source = click.core.ParameterSource.COMMANDLINE
    return [name for name in names if name in spelled and context.get_parameter_source(spelled[name] or "") is source]


def has_no_effect(because: str, *names: str) -> None:
    """Say on standard error which of these options were given in vain, and why."""
    print_warnings(f"{name} has no effect: {because}" for name in typed(*names))


def stack_options(*without: str) -> Callable[[F], F]:
    """Add the options that name the software, but for those that the verb has no use for; they reach it as one argument `asked`."""

    def decorate(command: F) -> F:
        names = [name for name in _STACK if name not in without]

        @functools.wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            found = {name: kwargs.pop(name) for name in names}
            if "params" in found:
                found["params"] = given(found["params"])
            return command(*args, asked=Asked(**found, given=bool(typed(*STACK))), **kwargs)

        result: Any = wrapped
        for name in reversed(names):
            result = _STACK[name](result)
        return result  # type: ignore[no-any-return]  # functools.wraps keeps the look of the command, not its type

    return decorate


kernel_options = stack_options("qemu", "machine", "smp", "what_if", "globals")
"""The options of verbs that ask KVM's part alone."""


def print_warnings(warnings: Iterable[str]) -> None:
    """Print remarks on standard error, each as one line."""
    for warning in warnings:
        tell(warning)
