"""Where snapshots come from and go to: this machine's processor and KVM, and files."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NamedTuple

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError
from vcpuid.numbers import decimal

__all__ = ["Dump", "collector_script", "read", "read_all", "read_dump", "this_machine"]

_LAST_CPU = 999_999_999
"""No CPU has a number of more digits."""

_MOST_REMARKS = 8
"""Of a dump whose CPUs each lack something else, the first are told and the others counted."""

_DEVICE = ("/dev/cpu/", "/cpuid")


def read(source: str | os.PathLike[str]) -> Snapshot:
    """Read what one machine tells of its CPU.

    `source` is one of

    * the path of a file, plain or gzip (a path object always is one), or `-` for standard input: a snapshot, or a dump in one of the
      forms of `formats`, told by its content. Of a dump with several CPUs the first is read, and a note says so; `dump.txt#3` is the one
      with number 3, counted from 0 in the dump's order;
    * `live`: the CPUID instruction on this machine, with its /proc/cpuinfo, the parameters of its KVM and, as root with the kernel module
      msr, those MSRs of the hardware that rules ask for;
    * `kvm`: `live`, and what /dev/kvm answers;
    * `cpu`: as `live`, with CPUID read from the kernel's device; the path `/dev/cpu/3/cpuid` is the same as `cpu:3`.

    The three machine sources take a CPU's number after a colon, `live:3`; without one it is the first that this process may run on.
    A file whose name is one of these words is read as `./live`, and one whose name ends in `#3` by that name where it exists. Raises
    InputError for what makes no sense (the file and the line are named), UnavailableError where the machine lacks something.
    """
    return read_dump(source).first


def read_all(source: str | os.PathLike[str]) -> list[Snapshot]:
    """Read every CPU that `source` means, each as a snapshot: all of a dump; of `dump.txt#3`, and of what is no dump, there is one.

    Errors are as in `read`.
    """
    return read_dump(source).meant


class Dump(NamedTuple):
    """All that a source holds: `cpus` in its order, of which `number` is meant where the source names one.

    `noted` says that the snapshots' notes are those of a reader of another program's form.
    """

    cpus: list[Snapshot]
    number: int | None = None
    noted: bool = False

    @property
    def meant(self) -> list[Snapshot]:
        """The CPUs that the source means."""
        return self.cpus if self.number is None else [self.cpus[self.number]]

    @property
    def first(self) -> Snapshot:
        """The first of them; that there are others is among its notes."""
        cpu, more = self.meant[0], self._others()
        return replace(cpu, notes=(*cpu.notes, *more)) if more else cpu

    @property
    def others(self) -> list[Snapshot]:
        """The CPUs of the dump but that one."""
        return [cpu for number, cpu in enumerate(self.cpus) if number != (self.number or 0)]

    def remarks(self, *, every: bool = False) -> tuple[str, ...]:
        """Give the notes on which every answer about the first depends, or with `every` about any that is meant, each once.

        That is which of several CPUs was taken, that a file is an excerpt, and of another program's dump all notes, since its reader made
        them. What a machine did not tell, and what stands in a file of vcpuid's own, is no such remark.
        """
        from vcpuid.cpuid.excerpt import missing

        cpus = self.meant if every else self.meant[:1]
        said = [text for cpu in cpus for text in (*(cpu.notes if self.noted else ()), *(missing(cpu.raw, cpu.kept) if cpu.raw else ()))]
        texts = tuple(dict.fromkeys(said if every else [*said, *self._others()]))
        more = len(texts) - _MOST_REMARKS
        return (*texts[:_MOST_REMARKS], f"{more} more remarks like these, on other CPUs of it") if more > 0 else texts

    def _others(self) -> list[str]:
        count = len(self.meant)
        return [f"the first of {count} CPUs in the dump: append #1 and so on to its name for another"] if count > 1 else []


def is_machine(source: str) -> bool:
    """Whether a source is a machine, and not a file."""
    return source.partition(":")[0] in ("live", "kvm", "cpu") or (source.startswith(_DEVICE[0]) and source.endswith(_DEVICE[1]))


def read_dump(source: str | os.PathLike[str], given: tuple[str, str] | None = None) -> Dump:
    """Read all that a source holds; `source` and errors as in `read`. `given` are its file's name and text where they were read before."""
    if isinstance(source, str):
        way, _, cpu = source.partition(":")
        if way in ("live", "kvm", "cpu"):
            return Dump([_observe(way, cpu if way != source else None, source)])
    path, (head, tail) = os.fspath(source), _DEVICE
    if path.startswith(head) and path.endswith(tail):
        return Dump([_observe("cpu", path[len(head) : -len(tail)], path)])
    from vcpuid.formats import identify
    from vcpuid.formats.files import read_text

    file, number = numbered(source)
    name, text = read_text(file) if given is None else given
    form, cpus = identify(text, name)
    if number is not None and number >= len(cpus):
        raise InputError(f"it has no CPU {number}: there are {len(cpus)}, counted from 0", source=name)
    return Dump(cpus, number, noted="notes" not in form.holds)


def numbered(source: str | os.PathLike[str]) -> tuple[str | os.PathLike[str], int | None]:
    """Take the number off `dump.txt#3`; None where there is none."""
    if isinstance(source, str):
        path, _, number = source.rpartition("#")
        found = decimal(number, _LAST_CPU)
        if path and found is not None and not os.path.exists(source):
            return path, found
    return source, None


def _observe(way: str, number: str | None, source: str) -> Snapshot:
    from vcpuid.live.observe import observe

    cpu = None if number is None else decimal(number, _LAST_CPU)
    if number is not None and cpu is None:
        raise InputError(f"{number[:40]!r} is not the number of a CPU", source=source[:80])
    return observe(cpu, device=way == "cpu", kvm=way == "kvm")


def this_machine(cpu: int | None = None) -> Snapshot:
    """Take a snapshot of this machine with all that it tells, on CPU `cpu` or else the first that this process may run on.

    What it does not tell (no usable /dev/kvm, say) is missing, and the snapshot's notes say why. Raises UnavailableError where there is
    no CPUID to be had at all.
    """
    from vcpuid.live.observe import observe
    from vcpuid.live.qemu_version import with_qemu

    return with_qemu(observe(cpu))


def collector_script() -> str:
    """Return the source of the stand-alone collector: `this_machine` for hosts where vcpuid is not installed."""
    from vcpuid import data

    return data.packaged("data/collector/vcpuid_collect.py.txt").decode()
