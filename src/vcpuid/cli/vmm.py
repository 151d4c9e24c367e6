"""The options that say which VMM makes the guest's table: QEMU of -cpu, another one, or one whose table somebody has."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vcpuid.cli import choices
from vcpuid.cli.demands import demand
from vcpuid.cli.domain import AskedCpu
from vcpuid.cli.recording import RecordedGuest, recorded, recording_option
from vcpuid.cli.setup import Asked, Host, has_no_effect, read_cpus, read_host, remark_on_table, typed
from vcpuid.errors import InputError
from vcpuid.setup import Setup

if TYPE_CHECKING:
    from vcpuid.answers.order import Order
    from vcpuid.vmm import Vmm

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class AskedGuest:
    """The VMM, what is asked of it, and its release where one was given."""

    vmm: Vmm
    asked: str | AskedCpu
    release: str | None = None
    recorded: RecordedGuest | None = None

    def host(self, source: str | None) -> Host:
        """Read HOST; without one, what a recording tells of it, else this machine."""
        return read_host(source) if self.recorded is None else self.recorded.host(source)

    @property
    def partial(self) -> bool:
        """Whether a part of the table is all that is known of it: what a real vCPU makes of that is no answer."""
        from vcpuid.path.possible import partial

        return partial(self.vmm)

    def on(self, host: Host, asked: Asked) -> tuple[str, Setup]:
        """Return what the VMM is asked for on a host, and the software there that the command line names, settled."""
        if self.recorded is not None:
            return self.recorded.on(host, asked)
        if isinstance(self.asked, AskedCpu):
            return self.asked.on(host, asked)
        return self.asked, asked.setup(host, None if self.vmm.name == "qemu" else self.vmm.release(self.release))

    def ordered(self, host: Host, asked: Asked, *, refusable: bool = True) -> tuple[str, Setup, Order | None]:
        """Return the same, and how libvirt comes to it, where a domain is given; `refusable` is as there."""
        return self.asked.ordered(host, asked, refusable=refusable) if isinstance(self.asked, AskedCpu) else (*self.on(host, asked), None)


def _one_guest(params: Mapping[str, Any]) -> None:
    if params["recording"] is not None:
        if in_vain := typed("--cpu", "--domain", "--libvirt", "--vmm", "--template", "--table"):
            raise click.UsageError(f"--recording shows a guest as it ran; leave {in_vain[0]} out")
    elif params["table_source"] is not None and (in_vain := typed("--cpu", "--domain", "--vmm", "--template")):
        raise click.UsageError(f"--table gives the guest's table; leave {in_vain[0]} out")


def vmm_options(command: F) -> F:
    """Add the options; with the verb's own --cpu and --domain, they reach it as one argument `guest`."""

    @click.option(
        "--vmm", metavar="NAME[:RELEASE]", shell_complete=choices.vmms,
        help="Who makes the guest's table: qemu, or firecracker, as firecracker:1.14.  [default: qemu]",
    )  # fmt: skip
    @click.option(
        "--template", metavar="TEMPLATE", shell_complete=choices.templates,
        help="Firecracker's CPU template: the name of a static one (T2, C3), or a custom one's JSON file.  [default: none]",
    )  # fmt: skip
    @click.option(
        "--table", "table_source", metavar="TABLE", shell_complete=choices.hosts,
        help="A table that a VMM gave to KVM_SET_CPUID2, instead of QEMU's for --cpu.",
    )  # fmt: skip
    @recording_option
    @demand(_one_guest)
    @functools.wraps(command)
    def wrapped(
        *args: Any, cpu: AskedCpu, vmm: str | None, template: str | None, table_source: str | None, recording: str | None, **kwargs: Any
    ) -> Any:
        if recording is not None:
            guest = observed_guest(recording)
        elif table_source is not None:
            guest = _recorded(table_source)
        elif template is not None or (vmm or "").partition(":")[0] == "firecracker":
            guest = _firecracker(vmm, template)
        else:
            guest = _qemu(vmm, cpu, kwargs)
        return command(*args, guest=guest, **kwargs)

    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the look of the command, not its type


def observed_guest(source: str) -> AskedGuest:
    """Return the guest of a recording."""
    found = recorded(source)
    return AskedGuest(found.vmm, found.asked, recorded=found)


def _recorded(source: str) -> AskedGuest:
    from vcpuid.vmm.recorded import Recorded

    has_no_effect("--table gives the table, so no QEMU makes one", "--qemu", "--libvirt", "--machine", "--smp", "--global")
    first, *others = read_cpus(source, every=True)
    remark_on_table(first, source)
    return AskedGuest(Recorded.of((first, *others), source), source)


def _firecracker(vmm: str | None, template: str | None) -> AskedGuest:
    from vcpuid.formats.files import read_text
    from vcpuid.formats.firecracker_template import read_template
    from vcpuid.vmm.firecracker import FIRECRACKER, Firecracker, names

    name, colon, release = ("firecracker" if vmm is None else vmm).partition(":")
    if name != "firecracker":
        raise click.UsageError(f"--template is Firecracker's; --vmm says {name}")
    has_no_effect("Firecracker makes the guest's table by its --template", "--cpu", "--domain", "--libvirt")
    has_no_effect("Firecracker makes the guest's table, and no QEMU does", "--qemu", "--machine", "--global")
    if template is None or template.lower() == "none":
        return AskedGuest(FIRECRACKER, "none", release if colon else None)
    if template != "-" and not os.path.exists(template):
        if template not in names():
            raise InputError(f"{template[:80]!r} is neither a static template ({', '.join(names())}) nor a file")
        return AskedGuest(FIRECRACKER, template, release if colon else None)
    source, text = read_text(template)
    return AskedGuest(Firecracker(custom=read_template(text, source)), template, release if colon else None)


def _qemu(vmm: str | None, cpu: AskedCpu, options: dict[str, Any]) -> AskedGuest:
    from vcpuid.vmm.known import named

    name, colon, release = ("qemu" if vmm is None else vmm).partition(":")
    if colon and typed("--qemu"):
        raise click.UsageError("--vmm and --qemu both name a release")
    if colon:
        options["qemu"] = release  # as if --qemu said so: the options of the software are read behind these
    return AskedGuest(named(name), cpu)
