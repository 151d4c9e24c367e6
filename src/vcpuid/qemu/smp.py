"""-smp: from its text to the guest's topology.

QEMU, hw/core/machine-smp.c (machine_parse_smp_config); the text is parsed as the machine property `smp`, hence the form of its errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from vcpuid.errors import QemuError
from vcpuid.numbers import U32
from vcpuid.qemu import catalog, messages, qemu_opts
from vcpuid.qemu.kept import kept
from vcpuid.qemu.machine_option import KEYVAL, up_to_smp
from vcpuid.qemu.topology import GuestTopology
from vcpuid.qemu.values import integer
from vcpuid.releases import number

_HIERARCHY = ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")
"""Levels, largest first; drawers, books and clusters exist on other architectures only, yet are understood."""

_NEW_KEYS = {"clusters": (7, 0), "drawers": (8, 2), "books": (8, 2), "modules": (9, 1)}
"""Since which release QEMU knows a key, of those that not all know."""

_ONE_FOR_ALL = (6, 2)
"""Since when all machine types complete -smp in one way; before, PCs had their own (pc_smp_parse, hw/i386/pc.c)."""

_UNSUPPORTED_ORDER = ("modules", "clusters", "dies", "books", "drawers")
"""In which order QEMU complains; up to 8.2 it has dies before clusters."""

NONE = "1"
"""What QEMU makes of no -smp at all."""

_UNSIGNED = U32
"""QEMU counts in unsigned int, whatever sign was given."""


_CRASH = "Floating point exception"
"""What the shell says of a QEMU that divided by zero, and that said nothing itself (7.2.22, with -smp 1,cores=65536,threads=65536)."""


@kept(1024)
def parse(text: str, release: str, machine_text: str) -> tuple[GuestTopology, tuple[str, ...]]:
    """Read -smp for a machine type of a QEMU release; return the topology and what QEMU warns of.

    What -machine sets of it (smp.cpus=…) holds where -smp does not set it again; -smp 1 is taken for none. Raises QemuError with QEMU's
    message where it refuses.
    """
    if number(release) < KEYVAL:
        _keys(text, release)  # a mistake in the text comes before all else
    try:
        described = catalog.machine(release, machine_text)
    except QemuError as error:
        # A mistake in -smp may come first: QEMU reads it as an option of the machine, among the others.
        try:
            described = catalog.machine(release, up_to_smp(machine_text, number(release)))
        except QemuError:
            raise error from None
        _, warnings = _parse(text, release, described)
        raise QemuError(error.message, warnings) from None
    return _parse(text, release, described)


def _parse(text: str, release: str, described: catalog.MachineType) -> tuple[GuestTopology, tuple[str, ...]]:
    machine = described.name
    first = _known(described.smp, release)
    given = first if first and text == NONE else first | _keys(text, release)
    supported = catalog.topology_levels(number(release), machine)
    if number(release) < _ONE_FOR_ALL:
        warnings = qemu_opts.warnings("smp", text, "cpus", number(release)) if number(release) < KEYVAL else ()
        counts, cpus, max_cpus = _complete_by_itself(given, catalog.is_pc(machine), number(release))
    else:
        warnings = _reject_zero(given, release) + _reject_unsupported(given, supported, release)
        counts, cpus, max_cpus = _complete(given, described.prefers_sockets)
        layout = _layout(counts, supported)
        if prod(counts.values()) & _UNSIGNED != max_cpus:
            raise QemuError(messages.SMP_PRODUCT(layout=layout, most=max_cpus))
        if max_cpus < cpus:
            raise QemuError(messages.SMP_TOO_MANY(layout=layout, most=max_cpus, cpus=cpus))
    if not cpus:
        raise QemuError(messages.SMP_LEAST(machine=machine))
    if max_cpus > (limit := described.max_cpus):
        shown = max_cpus if max_cpus <= _UNSIGNED // 2 else max_cpus - _UNSIGNED - 1  # printed as if it had a sign
        raise QemuError(messages.SMP_LIMIT(cpus=shown, machine=machine, most=limit))
    levels = {level: counts[level] for level in ("sockets", "dies", "modules", "cores", "threads")}
    return GuestTopology(cpus=cpus, max_cpus=max_cpus, **levels), warnings


def _layout(counts: dict[str, int], levels: Iterable[str]) -> str:
    return " * ".join(f"{level} ({counts[level]})" for level in _HIERARCHY if level in levels)


def keys(release: str) -> tuple[str, ...]:
    """Give the keys that a release knows, those of other architectures among them."""
    return tuple(key for key in ("cpus", "maxcpus", *_HIERARCHY) if number(release) >= _NEW_KEYS.get(key, (0, 0)))


def _keys(text: str, release: str) -> dict[str, int]:
    """Read `key=number,…`; the first value may lack its key, which is `cpus`."""
    if number(release) < KEYVAL:
        return _options(text, release)
    given: list[tuple[str, str]] = []
    for position, part in enumerate(text.split(",") if text else ()):
        key, equals, value = part.partition("=")
        if not equals:
            if position:
                raise QemuError(messages.SMP_NO_EQUALS(text=text, key=key))
            key, value = "cpus", key
        given.append((key, value))
    return _known(given, release)


def _options(text: str, release: str) -> dict[str, int]:
    """Read -smp as QEMU up to 6.0 does, where it is an option of its own; raises QemuError."""
    given: dict[str, int] = {}
    for setting in qemu_opts.read("smp", text, "cpus", number(release)):
        if setting.name not in keys(release):
            raise QemuError(messages.OPTION_UNKNOWN(option="smp", text=text, name=setting.name))
        given[setting.name] = qemu_opts.number("smp", text, setting) & _UNSIGNED
    return given


def _known(settings: Iterable[tuple[str, str]], release: str) -> dict[str, int]:
    """Read settings, of which the last of a key holds; raises QemuError."""
    known = keys(release)
    given: dict[str, int] = {}
    for key, value in settings:
        if key not in known:
            raise QemuError(messages.SMP_UNEXPECTED(key=key))
        number_ = integer(value, signed=False)
        if number_ is None:
            raise QemuError(messages.SMP_INTEGER(key=key))
        given[key] = number_ & _UNSIGNED
    return given


def _reject_zero(given: dict[str, int], release: str) -> tuple[str, ...]:
    if all(given.values()):
        return ()
    if number(release) < (9, 0):
        return (messages.SMP_ZERO_DEPRECATED(),)
    raise QemuError(messages.SMP_ZERO())


def _reject_unsupported(given: dict[str, int], supported: frozenset[str], release: str) -> tuple[str, ...]:
    """Refuse levels that the machine type does not have; QEMU 9.0 warns of those that are given as one."""
    asked = number(release)
    order = ("dies", "clusters", *_UNSUPPORTED_ORDER[3:]) if asked < (9, 0) else _UNSUPPORTED_ORDER
    warnings: list[str] = []
    for level in order:
        if level in supported or level not in given:
            continue
        if given[level] > 1:
            raise QemuError((messages.SMP_LEVEL if asked < (9, 1) else messages.SMP_LEVEL_COUNT)(level=level), warnings)
        if asked == (9, 0):
            warnings.append(messages.SMP_LEVEL_DEPRECATED(level=level))
    return tuple(warnings)


def _complete(given: dict[str, int], prefer_sockets: bool) -> tuple[dict[str, int], int, int]:
    """Work out what was left open; return the count of each level, the CPUs present and the CPUs possible."""
    counts = {level: given.get(level, 0) for level in _HIERARCHY}
    for level in ("drawers", "books", "dies", "clusters", "modules"):
        counts[level] = counts[level] or 1
    cpus, max_cpus = given.get("cpus", 0), given.get("maxcpus", 0) or given.get("cpus", 0)
    if max_cpus:
        # Two of sockets, cores and threads default to 1, the preferred one takes the rest.
        first, second = ("sockets", "cores") if prefer_sockets else ("cores", "sockets")
        wanted = first if not counts[first] else second if not counts[second] else "threads"
        others = {first: (second, "threads"), second: ("threads",), "threads": ()}[wanted]
        for level in others:
            counts[level] = counts[level] or 1
        if not counts[wanted]:
            others_product = prod(count for level, count in counts.items() if level != wanted) & _UNSIGNED
            if not others_product:
                raise QemuError(_CRASH)
            counts[wanted] = max_cpus // others_product
    for level in ("sockets", "cores", "threads"):
        if not max_cpus:
            counts[level] = counts[level] or 1
    max_cpus = max_cpus or prod(counts.values()) & _UNSIGNED
    return counts, cpus or max_cpus, max_cpus


def _complete_by_itself(given: dict[str, int], is_pc: bool, release: tuple[int, int]) -> tuple[dict[str, int], int, int]:
    """Do what `_complete` does as QEMU up to 6.1 did, and check it; raises QemuError.

    Only PCs have dies: of other machine types 6.1 refuses them, and 6.0 does not look.
    """
    cpus, sockets, cores, threads = (given.get(name, 0) for name in ("cpus", "sockets", "cores", "threads"))
    dies = given.get("dies", 1) if is_pc else 1
    if not is_pc and release >= KEYVAL and given.get("dies", 1) > 1:
        raise QemuError(messages.SMP_LEVEL(level="dies"))
    max_cpus = given.get("maxcpus", cpus)
    if not cpus or not sockets:
        cores, threads = cores or 1, threads or 1
        if not cpus:
            sockets = sockets or 1
            cpus = cores * threads * dies * sockets & _UNSIGNED
        else:
            sockets = _divided(max_cpus, cores * threads * dies)
    elif not cores:
        threads = threads or 1
        cores = _divided(cpus, sockets * dies * threads) or 1
    elif not threads:
        threads = _divided(cpus, cores * dies * sockets) or 1
    counts = dict.fromkeys(_HIERARCHY, 1) | {"sockets": sockets, "dies": dies, "cores": cores, "threads": threads}
    layout = _layout(counts, ("sockets", *(("dies",) if is_pc else ()), "cores", "threads"))
    product = prod(counts.values()) & _UNSIGNED
    if all(given.get(name) for name in ("cpus", "sockets", "cores", "threads")) and product < cpus:
        raise QemuError(messages.SMP_FEW(layout=layout, cpus=cpus))
    max_cpus = given.get("maxcpus", cpus)
    if max_cpus < cpus:
        raise QemuError(messages.SMP_MAXCPUS())
    if product != max_cpus:
        raise QemuError((messages.SMP_NOT_ALL_DEPRECATED if is_pc else messages.SMP_NOT_ALL)(layout=layout, most=max_cpus))
    return counts, cpus, max_cpus


def _divided(count: int, product: int) -> int:
    """Divide as unsigned int; raises QemuError where the product is zero in 32 bits, of which QEMU dies."""
    if not product & _UNSIGNED:
        raise QemuError(_CRASH)
    return count // (product & _UNSIGNED)
