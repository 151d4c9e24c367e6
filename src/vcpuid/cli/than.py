"""vcpuid diff of two guests on one host: what the second has in the place of what the first has, and in what they differ."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from vcpuid.cli import choices
from vcpuid.cli.counting import counted, foot
from vcpuid.cli.domain import AskedCpu
from vcpuid.cli.output import Sheet, cell
from vcpuid.cli.setup import Asked, Host, print_warnings

F = TypeVar("F", bound=Callable[..., Any])
COLUMNS = ["what", "one", "other", "party", "why"]


@dataclass(frozen=True)
class Than:
    """What the other guest has of its own; None is what the first has."""

    cpu: str | None = None
    domain: str | None = None
    libvirt: str | None = None
    qemu: str | None = None
    kernel: str | None = None

    def of(self, cpu: AskedCpu, asked: Asked) -> tuple[AskedCpu, Asked]:
        """Return the other guest's CPU and software."""
        if self.cpu is not None:
            cpu = AskedCpu(self.cpu)
        elif self.domain is not None:
            cpu = AskedCpu("host", self.domain, cpu.release)
        if self.libvirt is not None:
            if cpu.domain is None:
                raise click.UsageError("--to-libvirt is for a domain: give --domain or --to-domain")
            cpu = replace(cpu, release=self.libvirt)
        return cpu, replace(asked, qemu=self.qemu or asked.qemu, kernel=self.kernel or asked.kernel)


def than_options(command: F) -> F:
    """Add the options; they reach the verb as one argument `than`, None where none is given."""

    @click.option("--to-cpu", metavar="CPU", shell_complete=choices.cpus, help="Hold the guest against another one on HOST, of this CPU.")
    @click.option("--to-domain", metavar="FILE", type=click.Path(), help="The same, of this domain of libvirt's.")
    @click.option("--to-libvirt", metavar="RELEASE", shell_complete=choices.libvirts, help="The same, by this libvirt.")
    @click.option("--to-qemu", metavar="RELEASE", shell_complete=choices.qemus, help="The same, by this QEMU.")
    @click.option("--to-kernel", metavar="RELEASE", shell_complete=choices.kernels, help="The same, on this kernel.")
    @functools.wraps(command)
    def wrapped(
        *args: Any, to_cpu: str | None, to_domain: str | None, to_libvirt: str | None, to_qemu: str | None, to_kernel: str | None,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        if to_cpu is not None and to_domain is not None:
            raise click.UsageError("--to-cpu and --to-domain both name the other guest's CPU")
        than = Than(to_cpu, to_domain, to_libvirt, to_qemu, to_kernel)
        return command(*args, than=None if than == Than() else than, **kwargs)

    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the look of the command, not its type


def two_guests(host: Host, first: tuple[AskedCpu, Asked], than: Than, ignore: Sequence[str]) -> tuple[Sheet, bool]:
    """Lay out in which features two guests of a host differ, and at which party they part; say whether libvirt refuses one."""
    from vcpuid.answers.between import OnHost, between, report
    from vcpuid.answers.compare_report import Counts

    guests: list[OnHost] = []
    for cpu, asked in (first, than.of(*first)):
        guests.append(OnHost.of(*cpu.ordered(host, asked)))
    said = [guest.path.remarks for guest in guests]
    print_warnings(dict.fromkeys((*said[0], *said[1])))
    found, compared = between(*guests)
    kept = counted(found, tuple(ignore), [guest.path.kept for guest in guests])
    counts = Counts.of(kept, len(found), compared)
    rows = [difference.as_dict() for difference in kept]
    sheet = Sheet(
        COLUMNS,
        rows,
        data=report(guests, kept, ignore, counts),
        fields=[*COLUMNS, "place", "rules"],
        lines=[" ".join(map(cell, (row[column] for column in COLUMNS[:4]))) for row in rows],
        head=[*(line for name, guest in zip(COLUMNS[1:3], guests, strict=True) for line in guest.head(name)), ""],
        foot=foot("features", counts, tuple(ignore)),
        styles={"what": "bold"},
    )
    return sheet, any(guest.order is not None and guest.order.refusal is not None for guest in guests)
