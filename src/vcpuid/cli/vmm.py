"""The options that say which VMM makes the guest's table: QEMU of -cpu, or one whose table somebody has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vcpuid.cli import choices
from vcpuid.cli.setup import has_no_effect, read_cpus, typed

if TYPE_CHECKING:
    from vcpuid.vmm import Vmm

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Guest:
    """The VMM, and what is asked of it."""

    vmm: Vmm
    asked: str


def vmm_options(command: F) -> F:
    """Add the options; with the verb's own --cpu, they reach it as one argument `guest`."""

    @click.option(
        "--table", "table_source", metavar="TABLE", shell_complete=choices.hosts,
        help="A table that some VMM handed to KVM_SET_CPUID2, instead of the one that QEMU makes of --cpu.",
    )  # fmt: skip
    @functools.wraps(command)
    def wrapped(*args: Any, cpu: str | None, table_source: str | None, **kwargs: Any) -> Any:
        return command(*args, guest=_guest(cpu, table_source), **kwargs)

    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the look of the command, not its type


def _guest(cpu: str | None, table_source: str | None) -> Guest:
    from vcpuid.cpuid.parts import for_guest
    from vcpuid.vmm.known import named
    from vcpuid.vmm.recorded import Recorded

    if table_source is None:
        return Guest(named(), cpu or "host")
    if typed("--cpu"):
        raise click.UsageError("--table is the guest's table as it is; --cpu makes one")
    has_no_effect("the table is given, and no QEMU makes it", "--qemu", "--machine", "--smp")
    return Guest(Recorded(tuple(for_guest(cpu, table_source) for cpu in read_cpus(table_source, every=True))), table_source)
