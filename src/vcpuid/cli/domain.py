"""Domains of libvirt's on the command line: --domain and --libvirt, and a domain's file wherever a CPU may stand.

libvirt says with which -cpu, -machine and -smp it starts QEMU; from there on, the verbs answer as if these had been typed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vcpuid.cli import choices
from vcpuid.cli.demands import demand
from vcpuid.cli.setup import Asked, Host, has_no_effect, typed
from vcpuid.cli.swapped import DOMAIN_ENDS
from vcpuid.errors import InputError, LibvirtError, VcpuidError
from vcpuid.releases import LIBVIRTS, Release
from vcpuid.setup import Setup

if TYPE_CHECKING:
    from vcpuid.answers.order import Order
    from vcpuid.qemu import KvmHost

F = TypeVar("F", bound=Callable[..., Any])

_DOMAIN = re.compile(r"<domain[\s>]")

libvirt_option = click.option(
    "--libvirt", "libvirt_release", metavar="RELEASE", shell_complete=choices.libvirts,
    help=f"libvirt's release ({LIBVIRTS[0]} to {LIBVIRTS[-1]}).  [default: installed, else newest]",
)  # fmt: skip
domain_option = click.option(
    "--domain", metavar="FILE", type=click.Path(), help="A domain of libvirt's: its XML, which leads to a -cpu, a -machine and an -smp."
)


def release_of(asked: str | None) -> Release:
    """Choose the tables of libvirt: of the release asked for, else of the one installed here, else the newest."""
    from vcpuid import releases
    from vcpuid.live.installed import default_libvirt

    return releases.libvirt(asked or default_libvirt())


def kvm_host(host: Host, setup: Setup) -> KvmHost:
    """Return what libvirt and QEMU ask of KVM besides CPUID; of this machine's, the TSC's frequency is asked for."""
    from vcpuid.cli.setup import probe_for
    from vcpuid.kvm.answers import kvm_says
    from vcpuid.qemu import KvmHost

    xcr0 = kvm_says(setup).xcr0
    if probe_for(host) is None:
        return KvmHost(xcr0=xcr0)
    from vcpuid.live.clock import tsc

    try:
        khz, scaling = tsc()
    except VcpuidError:  # a KVM that gives no vCPU: then nobody knows
        return KvmHost(xcr0=xcr0)
    return KvmHost(xcr0=xcr0, tsc_khz=khz, tsc_scaling=scaling)


@contextmanager
def named(source: str) -> Iterator[None]:
    """Name the file in errors about what is in it: they come from calls that get its text alone."""
    from vcpuid.libvirt.request import SOURCES

    try:
        yield
    except InputError as error:
        if error.source in SOURCES:
            raise InputError(error.cause, source=source, line=error.line) from None
        raise


def read_file(path: str) -> tuple[str, str]:
    """Return the name to call a file by, and its text; raises InputError."""
    from vcpuid.formats.files import read_text

    return read_text(path)


@dataclass(frozen=True)
class AskedCpu:
    """The guest's CPU as the command line has it: what QEMU's -cpu takes, or the file of a domain for a release of libvirt."""

    cpu: str
    domain: str | None = None
    release: str | None = None

    @classmethod
    def of(cls, argument: str, release: str | None) -> AskedCpu:
        """Take an argument for a domain's file where it ends as one does, else for a CPU."""
        if argument.endswith(DOMAIN_ENDS):
            return cls("host", argument, release)
        return cls(argument)

    def on(self, host: Host, asked: Asked) -> tuple[str, Setup]:
        """Return what QEMU's -cpu gets on a host, and the setup; raises LibvirtError where libvirt does not start the domain."""
        cpu, setup, _ = self.ordered(host, asked, refusable=False)
        return cpu, setup

    def ordered(self, host: Host, asked: Asked, *, refusable: bool = True, remark: bool = True) -> tuple[str, Setup, Order | None]:
        """Return the same, and how libvirt comes to it.

        Where libvirt's check of its CPU refuses the domain, the answer says so and is about what it would do unchecked; it raises
        LibvirtError instead where the verb does not tell of refusals (`refusable`). Unless the verb does so itself, it is said that
        --libvirt has no effect without a domain (`remark`).
        """
        from vcpuid.answers.order import order

        if self.domain is None:
            if remark:
                no_domain()
            return self.cpu, asked.setup(host), None
        has_no_effect("libvirt starts QEMU, and the domain says with what", "--smp", "--global")
        setup = replace(asked.setup(host), globals=())
        release = release_of(self.release)
        with named(self.domain), refused(release):
            found = order(self.request(), setup, release, kvm_host(host, setup))
        if found.planned.domain.virt != "kvm":
            raise InputError(f"a domain of type {found.planned.domain.virt}, whose CPU no KVM makes", source=self.domain)
        if found.unchecked and found.refusal is not None and not refusable:
            with refused(release):
                raise found.refusal
        started = found.on(setup)
        said = [remark for remark in (release.remark, found.objection) if remark is not None]
        remarks = (*started.remarks, *said, *found.remarks())
        return found.argument, replace(started, remarks=remarks), found

    def request(self) -> dict[str, str]:
        """Return what libvirt is asked: a file with a <cpu> alone stands for the domain that has nothing else."""
        assert self.domain is not None
        from vcpuid.libvirt.request import start

        return start(read_file(self.domain)[1])


@contextmanager
def refused(release: Release) -> Iterator[None]:
    """Say which program refuses: the verbs are about QEMU's and KVM's part."""
    try:
        yield
    except LibvirtError as error:
        message = f"libvirt {release} refuses: {error.message}"
        raise LibvirtError(error.code, error.domain, message, error.cpu, error.log, error.causes) from None


def unrefused(remarks: Sequence[str], order: Order | None, form: str) -> list[str]:
    """Give the remarks of a verb that tells people of libvirt's refusal above its table, and so need not do so besides."""
    told = order.objection if order is not None and form == "table" else None
    return [remark for remark in remarks if remark != told]


WITHOUT_DOMAIN = "there is no domain, so that no libvirt starts QEMU"


def no_domain() -> None:
    """Say that --libvirt was given in vain."""
    has_no_effect(WITHOUT_DOMAIN, "--libvirt")


def domain_for_table(table: str | None, cpu: AskedCpu) -> tuple[str | None, AskedCpu]:
    """Take a TABLE for a domain where it is the file of one: then there is no table."""
    if table is None or not table.endswith(DOMAIN_ENDS) or not _DOMAIN.search(read_file(table)[1]):
        return table, cpu
    if named := typed("--cpu", "--domain"):
        raise click.UsageError(f"{table} is a domain, and {named[0]} names the guest's CPU as well")
    return None, AskedCpu(cpu.cpu, table, cpu.release)


def one_cpu(params: Mapping[str, Any]) -> None:
    """Raise UsageError where --cpu and --domain are both given."""
    if params["domain"] is not None and typed("--cpu"):
        raise click.UsageError("--cpu and --domain both name the guest's CPU")


def domain_options(command: F) -> F:
    """Add --domain and --libvirt; with the verb's own --cpu they reach it as one argument `cpu`, an AskedCpu."""

    @libvirt_option
    @domain_option
    @demand(one_cpu)
    @functools.wraps(command)
    def wrapped(*args: Any, cpu: str, domain: str | None, libvirt_release: str | None, **kwargs: Any) -> Any:
        return command(*args, cpu=AskedCpu(cpu, domain, libvirt_release), **kwargs)

    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the look of the command, not its type
