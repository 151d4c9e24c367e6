"""`-machine TYPE,name=value,…`: how QEMU reads it, and what of it bears on CPUs.

QEMU, util/keyval.c (the text), system/vl.c (qemu_apply_legacy_machine_options, qemu_apply_machine_options), hw/core/machine.c and
machine-smp.c (smp-cache), accel/kvm/kvm-all.c (kernel-irqchip). Of all options those that a kind of machine does not have are refused, and
values that are no boolean where one is expected; what bears on no CPU is then passed over, its value unread where it is of another type.
Up to 6.0 it is an option like others (`vcpuid.qemu.qemu_opts`), whose settings are made one after another, and none of them has parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vcpuid.errors import InputError, QemuError
from vcpuid.numbers import decimal
from vcpuid.qemu import messages, qemu_opts
from vcpuid.qemu.values import boolean, not_accepted, on_off_auto

CACHES = ("l1d", "l1i", "l2", "l3")
"""The caches that smp-cache names (CacheLevelAndType)."""

LEVELS = ("thread", "core", "module", "cluster", "die", "socket", "book", "drawer", "default")
"""Of which level a cache can be, lowest first (CpuTopologyLevel)."""

IRQCHIP = ("on", "off", "split")
"""Where the interrupt controllers are: in the kernel, in QEMU, or some here and some there (OnOffSplit)."""

KEYVAL = (6, 1)
"""Since when -machine and -smp are read by util/keyval.c."""

_ACCELERATOR = frozenset({"accel", "igd-passthru", "kernel-irqchip", "kvm-shadow-mem", "memory-backend"})
"""Options that are no properties of the machine."""
_UNMODELLED = frozenset({"confidential-guest-support", "memory-encryption", "sgx-epc"})
"""Options that give the guest another CPUID by rules that are not here."""
_NESTED = {"BootConfiguration": "object", "MemorySizeConfiguration": "object", "SMPConfiguration": "object", "SgxEPC": "array"}
_NESTED |= {"SmpCachePropertiesWrapper": "array", "CXLFixedMemoryWindow": "array"}
"""Types of options that have names below their own, by QEMU's names, and what they then are."""
_MEMBERS = {
    "BootConfiguration": ("order", "once", "menu", "splash", "splash-time", "reboot-timeout", "strict"),
    "MemorySizeConfiguration": ("size", "max-size", "slots"),
}
"""What there is below the name of such an option (qapi/machine.json)."""

_KEY_END, _VALUE = re.compile("[=,]"), re.compile("(?:[^,]|,,)*", re.DOTALL)
_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]*")
_LAST_INDEX = (1 << 31) - 1
_LONGEST = 128
"""Characters that a part of a key has not."""


class MachineKind(NamedTuple):
    """What a kind of machine takes: the type of each option, whether caches can be shared anew, the levels of -smp; and QEMU's release."""

    options: Mapping[str, str]
    shares_caches: bool
    levels: frozenset[str]
    release: tuple[int, int]


class MachineOptions(NamedTuple):
    """What of a -machine argument bears on CPUs: `irqchip` of `IRQCHIP` or None, `smp` as -smp has it, and caches with their levels."""

    irqchip: str | None = None
    smp: tuple[tuple[str, str], ...] = ()
    caches: tuple[tuple[str, str], ...] = ()


def split(text: str, release: tuple[int, int]) -> tuple[str | None, list[tuple[str, str]]]:
    """Take a -machine argument apart: the type, where one is named, and the other settings; raises QemuError."""
    if release >= KEYVAL:
        name, settings = _keyval(text)
        return name, list(settings.items())
    given = [(key, value) for key, value, _ in qemu_opts.read("M", text, "type", release)]
    types = [value for key, value in given if key == "type"]
    return (types[-1] if types else None), [setting for setting in given if setting[0] != "type"]


def _keyval(text: str) -> tuple[str | None, dict[str, str]]:
    settings: dict[str, str] = {}
    names: list[_Key] = []
    top = _Key("", None)
    at = 0
    while at < len(text):
        end = _KEY_END.search(text, at)
        stop = end.start() if end else len(text)
        key, equals = text[at:stop], text.startswith("=", stop)
        if at == 0 and key and not equals:
            key, value, at = "type", key, stop + 1
            top.part(key, names).set = True
        else:
            parts = _parts(text, key)
            if not equals:
                raise QemuError(messages.MACHINE_NO_EQUALS(text=text, key=key))
            place = top
            for part in parts[:-1]:
                place = place.part(part, names)
                if place.set:
                    raise QemuError(messages.MACHINE_MIXED(text=text, key=str(place)))
            place = place.part(parts[-1], names)
            if place.below:
                raise QemuError(messages.MACHINE_MIXED(text=text, key=key))
            place.set = True
            found = _VALUE.match(text, stop + 1)
            assert found is not None  # it matches nothing, too
            value, at = found[0].replace(",,", ","), found.end() + 1
        settings[key] = value
    _check_lists(text, names)
    name = settings.pop("type", None)
    for key in settings:
        if "_" in key and (dashed := _dashed(key)) in settings and dashed != key and "." not in key:
            raise QemuError(messages.CONFLICT(key=key, other=dashed))
    return name, {_dashed(key): value for key, value in settings.items()}


def of_flags(text: str, release: tuple[int, int]) -> tuple[str, ...]:
    """Return what a release prints of options without a value, where it takes them."""
    return qemu_opts.warnings("M", text, "type", release) if release < KEYVAL else ()


class _Key:
    """A name in the keys of a -machine argument, of those that are below it; `set` where it has a value itself."""

    __slots__ = ("above", "below", "last", "set")

    def __init__(self, last: str, above: _Key | None) -> None:
        self.last, self.above, self.set = last, above, False
        self.below: dict[str, _Key] = {}

    def part(self, last: str, names: list[_Key]) -> _Key:
        """Give the name below with this last part, a new one where there is none; new ones are put on a list."""
        if (found := self.below.get(last)) is None:
            found = self.below[last] = _Key(last, self)
            names.append(found)
        return found

    def __str__(self) -> str:
        parts, name = [self.last], self.above
        while name is not None and name.above is not None:
            parts.append(name.last)
            name = name.above
        return ".".join(reversed(parts))


def _parts(text: str, key: str) -> list[str]:
    """Take a key apart at its dots; raises QemuError where it is none."""
    parts = key.split(".")
    named = _NAME.fullmatch(parts[0]) and all(_index(part) is not None or _NAME.fullmatch(part) for part in parts[1:])
    if not named or not key.isascii():
        raise QemuError(messages.MACHINE_PARAMETER(text=text, key=key))
    for part in parts:
        if len(part) >= _LONGEST:
            raise QemuError(messages.MACHINE_LONG(text=text, part=" fragment" if len(parts) > 1 else "", key=part))
    return parts


def _index(part: str) -> int | None:
    """Read a place in a list; beyond what an int of C holds, it is that (key_to_index, util/keyval.c). None where it is no number."""
    if not part.isascii() or part.strip("0123456789") or not part:
        return None
    found = decimal(part, _LAST_INDEX)
    return _LAST_INDEX if found is None else found


def _check_lists(text: str, names: Iterable[_Key]) -> None:
    """Refuse numbers below a name that do not count from 0 on, and numbers beside names (keyval_listify); raises QemuError."""
    for name in names:
        indices = [_index(part) for part in name.below]
        numbers = {index for index in indices if index is not None}
        if numbers and None in indices:
            raise QemuError(messages.MACHINE_MIXED(text=text, key=str(name)))
        missing = next(count for count in range(len(numbers) + 1) if count not in numbers)
        if missing < len(numbers):
            raise QemuError(messages.MACHINE_MISSING(text=text, key=f"{name}.{missing}"))


def _dashed(key: str) -> str:
    """Spell the name of an option with dashes, and leave what is below it."""
    name, dot, below = key.partition(".")
    return name.replace("_", "-") + dot + below


def read(settings: Iterable[tuple[str, str]], machine: str, kind: MachineKind) -> MachineOptions:
    """Read the settings of a machine type by its full name; raises QemuError where QEMU refuses, InputError for what is not modelled."""
    if kind.release < KEYVAL:
        return _of_accelerator(_in_turn(settings, machine, kind), kind.release)
    given: dict[str, dict[str, str]] = {}
    for key, value in settings:
        name, _, below = key.partition(".")
        given.setdefault(name, {})[below] = value
    caches: tuple[tuple[str, str], ...] = ()
    for name in sorted((name for name in reversed(given) if name not in _ACCELERATOR), key=_bucket):
        _check_name(name, machine, kind)
        for below, value in given[name].items():
            _check(name, below, value, kind)
        if name == "smp-cache":
            caches = _caches(given[name], kind)
    found = _of_accelerator(dict(settings), kind.release)
    return found._replace(smp=tuple(given.get("smp", {}).items()), caches=caches)


def _in_turn(settings: Iterable[tuple[str, str]], machine: str, kind: MachineKind) -> dict[str, str]:
    """Make settings one after another; return those of the accelerator, which may be spelled with an underscore. Raises QemuError."""
    of_accelerator: dict[str, str] = {}
    for name, value in settings:
        if (dashed := name.replace("_", "-")) in _ACCELERATOR - {"memory-backend"}:
            of_accelerator[dashed] = value
        elif name != "memory-backend":
            _check_name(name, machine, kind)
            _check(name, "", value, kind)
    return of_accelerator


def _check_name(name: str, machine: str, kind: MachineKind) -> None:
    if name not in kind.options:
        raise QemuError(messages.NO_PROPERTY(type=f"{machine}-machine", name=name))
    if name in _UNMODELLED:
        raise InputError(f"-machine {name}: what it makes of a guest's CPUID is not modelled")


def _of_accelerator(settings: Mapping[str, str], release: tuple[int, int]) -> MachineOptions:
    """Read what the accelerator takes of the settings; raises QemuError and InputError."""
    accelerator = settings.get("accel", "kvm")
    if accelerator.partition(":")[0] != "kvm":
        raise InputError(f"-machine accel={accelerator}: only guests of KVM are modelled")
    irqchip = settings.get("kernel-irqchip")
    if irqchip is not None and irqchip not in IRQCHIP:
        cause = not_accepted("kernel-irqchip", irqchip, release)
        raise QemuError(messages.GLOBAL(type="kvm-accel", property="kernel-irqchip", value=irqchip, cause=cause))
    return MachineOptions(irqchip)


def up_to_smp(text: str, release: tuple[int, int]) -> str:
    """Give a -machine argument without the options that QEMU comes to after those of -smp; raises QemuError."""
    name, settings = split(text, release)
    first = _comes_first if release >= KEYVAL else _never
    kept = (f"{key}={value.replace(',', ',,')}" for key, value in settings if first(key.partition(".")[0]))
    return ",".join([*(() if name is None else (f"type={name.replace(',', ',,')}",)), *kept])


def _comes_first(name: str) -> bool:
    # Of one place what is added last comes first, and -smp is added after -machine.
    return name not in _ACCELERATOR and (name == "smp" or _bucket(name) < _bucket("smp"))


def _never(name: str) -> bool:
    return False


def _bucket(name: str) -> int:
    """Return where an option is among others in QEMU's dictionary, which is gone through in this order (qobject/qdict.c)."""
    value = 0x238F13AF * len(name)
    for place, char in enumerate(name):
        value += ord(char) << place * 5 % 24
    return (1103515243 * value + 12345) % 512


def _check(name: str, below: str, value: str, machine: MachineKind) -> None:
    """Refuse a value that cannot be of its type; raises QemuError."""
    kind = machine.options[name]
    if kind in _NESTED:
        if not below:
            raise QemuError(messages.EXPECTED_TYPE(name=name, what=_NESTED[kind]))
        known = _MEMBERS.get(kind)
        if known is not None and below.partition(".")[0] not in known:
            raise QemuError(messages.PARAMETER_UNEXPECTED(key=f"{name}.{below}"))
    elif below:
        raise QemuError(messages.PARAMETERS_UNEXPECTED(key=name))
    elif kind == "bool":
        boolean(name, value)
    elif kind == "OnOffAuto":
        on_off_auto(name, value, machine.release)


def _caches(given: Mapping[str, str], kind: MachineKind) -> tuple[tuple[str, str], ...]:
    """Read smp-cache: of which level each cache is that is given one (machine_parse_smp_cache); raises QemuError."""
    found: dict[str, str] = {}
    by_place: dict[int, dict[str, str]] = {}
    for key, value in given.items():
        place, _, field = key.partition(".")
        number = _index(place)
        if number is None:
            raise QemuError(messages.EXPECTED_TYPE(name="smp-cache", what="array"))
        if not field:
            raise QemuError(messages.EXPECTED_TYPE(name=f"smp-cache.{place}", what="object"))
        if "." in field:
            raise QemuError(messages.PARAMETERS_UNEXPECTED(key=f"smp-cache.{place}.{field.partition('.')[0]}"))
        by_place.setdefault(number, {})[field] = value
    rows = [row for _, row in sorted(by_place.items())]
    for number, row in enumerate(rows):
        for field, known in (("cache", CACHES), ("topology", LEVELS)):
            if field not in row:
                raise QemuError(messages.PARAMETER_MISSING(key=f"smp-cache.{number}.{field}"))
            if row[field] not in known:
                raise QemuError(messages.NOT_ACCEPTED(name=field, value=row[field]))
        if unknown := next((field for field in row if field not in ("cache", "topology")), None):
            raise QemuError(messages.PARAMETER_UNEXPECTED(key=f"smp-cache.{number}.{unknown}"))
    for row in rows:
        if row["cache"] in found:
            raise QemuError(messages.SMP_CACHE_TWICE(cache=row["cache"]))
        found[row["cache"]] = row["topology"]
    levels = [(cache, found[cache]) for cache in CACHES if found.get(cache, "default") != "default"]
    for cache, level in levels:
        if not kind.shares_caches:
            raise QemuError(messages.SMP_CACHE_UNSUPPORTED(cache=cache))
        if level == "thread":
            raise QemuError(messages.SMP_CACHE_THREAD(level=level))
        if f"{level}s" not in kind.levels:
            raise QemuError(messages.SMP_CACHE_LEVEL(level=level))
    return tuple(levels)


def check_caches(levels: Iterable[str]) -> None:
    """Refuse caches, from L1D to L3, of which one is of a lower level than those before it (machine_check_smp_cache); raises QemuError."""
    l1d, l1i, l2, l3 = (LEVELS.index(level) for level in levels)
    if max(l1d, l1i) > l2:
        raise QemuError(messages.SMP_CACHE_ORDER(upper="L2", lower="L1"))
    if l2 > l3:
        raise QemuError(messages.SMP_CACHE_ORDER(upper="L3", lower="L2"))
