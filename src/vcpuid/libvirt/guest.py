"""A domain as libvirt starts it: its CPU, QEMU's arguments, and what becomes of both once QEMU runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vcpuid.errors import LibvirtError, QemuError
from vcpuid.libvirt import refusal
from vcpuid.libvirt.argv import cpu_argument, machine_argument, smp_argument
from vcpuid.libvirt.definition import CpuDef
from vcpuid.libvirt.domain import Domain
from vcpuid.libvirt.host_models import HostModels
from vcpuid.libvirt.journal import Journal
from vcpuid.libvirt.live import Running, migratable, update_live, verify
from vcpuid.libvirt.update import update
from vcpuid.libvirt.validate import DEFAULT_MODEL, check_names, complete, validate
from vcpuid.qemu import messages

_PROGRAM = "qemu-system-x86_64"
_REPORTED = frozenset((messages.VPMU(), messages.AMD_PMU()))
"""What QEMU prints with error_report, and goes on: no "warning" stands before it."""

_MOST = 1024
_TIME = len("2026-01-01T00:00:00.000000Z ")

Realize = Callable[[str, str], tuple[Running, tuple[str, ...]]]
"""QEMU: takes the arguments of -cpu and -smp, and returns what it made of them and its warnings. Raises QemuError."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A domain before QEMU runs: the CPU that was asked for, the one to start, and the arguments."""

    domain: Domain
    asked: CpuDef
    cpu: CpuDef
    machine: str
    argument: str | None
    smp: str
    journal: Journal

    @property
    def started(self) -> str:
        """What QEMU starts: the argument of -cpu, without one the model that QEMU takes by itself."""
        return self.argument or DEFAULT_MODEL

    def arguments(self, release: tuple[int, int]) -> dict[str, str]:
        """Return QEMU's arguments, as captures have them."""
        found = {"-machine": machine_argument(self.domain, self.machine, release), "-accel": "tcg" if self.domain.virt == "qemu" else "kvm"}
        if self.argument is not None:
            found["-cpu"] = self.argument
        return {**found, "-smp": self.smp}


@dataclass(frozen=True, slots=True)
class Started:
    """A domain whose QEMU runs: its CPU in the live XML and in that for a migration, and QEMU's warnings."""

    planned: Planned
    live: CpuDef
    migratable: CpuDef
    log: tuple[str, ...]


def plan(
    domain: Domain, hosts: HostModels, machine: str, address_bits: int, running: CpuDef | None = None, *, unchecked: bool = False
) -> Planned:  # fmt: skip
    """Work out how libvirt would start a domain, on a machine type by its full name, or how it would take one that runs elsewhere, where
    it has the CPU `running`. `unchecked` says how it would start one with check='none' that is the same otherwise. Raises LibvirtError
    where it would not.
    """
    known, journal = hosts.known, Journal()
    complete(domain)
    validate(domain, address_bits, known.release)
    asked = domain.cpu
    assert asked is not None
    check_names(asked, known)
    cpu = (running or asked).copy()
    if unchecked:
        cpu.check = "none"
    update(cpu, hosts, tcg=domain.virt == "qemu", journal=journal, incoming=running is not None)
    argument = cpu_argument(domain, cpu, hosts, journal)
    return Planned(domain, asked, cpu, machine, argument, smp_argument(domain, cpu, known.release), journal)


def start(planned: Planned, hosts: HostModels, realize: Realize) -> Started:
    """Start it; raises LibvirtError, with the argument of -cpu and what QEMU printed, where that fails.

    The plan is left as it is: others may start from it, too.
    """
    known, argument, live = hosts.known, planned.argument or "", planned.cpu.copy()
    planned = replace(planned, journal=planned.journal.copy())
    log: tuple[str, ...] = ()
    try:
        running, warnings = realize(argument, planned.smp)
        log = _log(warnings)
        verify(planned.domain, live, running, known)
        update_live(live, running, known, planned.journal)
    except QemuError as error:
        log = (*_log(error.warnings), *(f"{_PROGRAM}: {line}" for line in error.message.splitlines()))
        raise LibvirtError(1, refusal.QEMU, _closed(log, known.release), argument, log) from error
    except LibvirtError as error:
        raise LibvirtError(error.code, error.domain, error.message, argument, log, error.causes) from error
    if known.release >= (11, 0):
        kept = migratable(planned.asked)
    else:
        unchanged = live.features == planned.cpu.features
        kept = migratable(live if unchanged else planned.cpu)
    return Started(planned, live, kept, log)


def _log(warnings: Iterable[str]) -> tuple[str, ...]:
    """Return QEMU's warnings as its log has them."""
    return tuple(f"{_PROGRAM}: {'' if warning in _REPORTED else 'warning: '}{warning}" for warning in warnings)


def _closed(log: tuple[str, ...], release: tuple[int, int]) -> str:
    """Say that QEMU ended (qemuProcessReportLogError): with the last lines that it printed, as many as make up 1,024 characters.

    Whether libvirt finds the monitor closed or the process gone is chance; in the latter case it says "process exited while connecting to
    monitor" instead.
    """
    begins = "QEMU unexpectedly closed the monitor (vm='t')" if release >= (11, 0) else "qemu unexpectedly closed the monitor"
    return f"internal error: {begins}: " + "\n".join(_tail(log))


def _tail(log: Sequence[str]) -> Sequence[str]:
    """Return the last lines of a log that libvirt repeats; in the log there is a time before each."""
    sizes = [_TIME + len(line) for line in log]
    surplus = sum(sizes) + len(log) - 1 - _MOST
    first = 0
    while surplus > 0 and first < len(log) - 1:
        surplus -= sizes[first] + 1
        first += 1
    return log[first:]
