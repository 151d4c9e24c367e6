"""Where snapshots come from and go to: this machine's processor and KVM, and files."""

from __future__ import annotations

import io
import os

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError

__all__ = ["collector_script", "read", "this_machine"]

_DEVICE = ("/dev/cpu/", "/cpuid")


def read(source: str | os.PathLike[str]) -> Snapshot:
    """Read what one machine tells of its CPU.

    `source` is one of

    * the path of a snapshot file, plain or gzip (a path object always is one), or `-` for standard input;
    * `live`: the CPUID instruction on this machine, with its /proc/cpuinfo and the parameters of its KVM;
    * `kvm`: `live`, and what /dev/kvm answers;
    * `cpu`: as `live`, with CPUID read from the kernel's device; the path `/dev/cpu/3/cpuid` is the same as `cpu:3`.

    The three machine sources take a CPU's number after a colon, `live:3`; without one it is the first that this process may run on.
    A file whose name is one of these words is read as `./live`. Raises InputError for what makes no sense (the file and the line are
    named), UnavailableError where the machine lacks something.
    """
    if isinstance(source, str):
        way, _, number = source.partition(":")
        if way in ("live", "kvm", "cpu"):
            return _observe(way, number if way != source else None, source)
    path, (head, tail) = os.fspath(source), _DEVICE
    if path.startswith(head) and path.endswith(tail):
        return _observe("cpu", path[len(head) : -len(tail)], path)
    from vcpuid.sources.files import read_text
    from vcpuid.sources.formats import sniff

    name, text = read_text(source)
    return sniff(text).parse(io.StringIO(text, newline="\n"), name)


def _observe(way: str, number: str | None, source: str) -> Snapshot:
    from vcpuid.sources.machine import observe

    if number is not None and not (number.isascii() and number.isdigit() and len(number) < 10):
        raise InputError(f"{number[:40]!r} is not the number of a CPU", source=source[:80])
    return observe(None if number is None else int(number), device=way == "cpu", kvm=way == "kvm")


def this_machine(cpu: int | None = None) -> Snapshot:
    """Take a snapshot of this machine with all that it tells, on CPU `cpu` or else the first that this process may run on.

    What it does not tell (no usable /dev/kvm, say) is missing, and the snapshot's notes say why. Raises UnavailableError where there is
    no CPUID to be had at all.
    """
    from vcpuid.sources.machine import observe

    return observe(cpu)


def collector_script() -> str:
    """Return the source of the stand-alone collector: `this_machine` for hosts where vcpuid is not installed."""
    from importlib.resources import files

    return files(__name__).joinpath("vcpuid_collect.py").read_text(encoding="utf-8")
