"""Which of the lists that a snapshot has of KVM's answers are whole, as they tell themselves: a file can be cut, and lines can be lost.

KVM answers every leaf of a range up to the one that EAX of the range's first names, and the range of its own comes last
(kvm_dev_ioctl_get_cpuid and get_cpuid_func, Linux arch/x86/kvm/cpuid.c). What it emulates it lists up to the leaf that EAX of the first
names, and of Hyper-V (kvm_get_hv_cpuid, arch/x86/kvm/hyperv.c) the leaf on nesting stands last, which old kernels may leave out. All
captures are so. What lacks only entries of which the processor's own are all zero, or that no Linux lists, is whole too: another KVM, or
who made a list up, may leave those out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from vcpuid.cpuid import hyperv
from vcpuid.cpuid.registers import CpuidTable, Registers, Snapshot
from vcpuid.cpuid.walk import SUBLEAVES, last_of_range
from vcpuid.cpuid.words import leaf_name, range_of

_Place = tuple[int, int]

_RANGES = (0, 0x80000000, 0xC0000000, 0x40000000)
_CENTAUR = 0xC0000000
_XSAVE = 0xD
_UNLISTED = range(0x80000023, 0x80010000)
"""Leaves that no Linux lists, though processors have some of them (__do_cpuid_func)."""
_WITHOUT_FEATURES = (0x4, 0xB, 0x1B, 0x8000001D)
"""Leaves of caches, topology and targets of PCONFIG, which dumps leave out where a processor has none, and the zeros that end them."""
_COMPONENTS = range(2, 32)
"""Those of XSAVE that any Linux lists: none has component 62, of LWP."""
_LISTED = (0x4, 0x7, 0xB, 0x14, 0x1D, 0x1F, 0x24, 0x8000001D)
"""Leaves of which KVM answers the sub-leaves that its own answer tells of, besides XSAVE's; of others it may leave some out."""


class Gap(NamedTuple):
    """A list that is not whole: the field of a snapshot, the first place that it should have and has not, and the last one that it has.

    `ends` says that all before that place is there and nothing after it: what a file is that was cut.
    """

    field: str
    missing: _Place
    last: _Place
    ends: bool

    def __str__(self) -> str:
        what, kind, _ = _WHAT[self.field]
        if self.ends:
            return f"the snapshot ends within {what} ({kind} lines), after {leaf_name(*self.last)}"
        return f"{what} ({kind} lines) lack {leaf_name(*self.missing)}"


_WHAT = {
    "supported": ("KVM's supported entries", "SUP", "what KVM supports"),
    "emulated": ("KVM's emulated entries", "EMU", "what KVM emulates"),
    "hyperv": ("KVM's Hyper-V entries", "HV", "what KVM has of Hyper-V"),
}


@lru_cache(maxsize=256)
def gaps(host: Snapshot) -> tuple[Gap, ...]:
    """Name the lists of KVM's that a snapshot has a part of; one without any entry is told to be empty, and is whole."""
    wanted = {"supported": _supported, "emulated": _emulated, "hyperv": _hyperv}
    found = []
    for field, places in wanted.items():
        table: CpuidTable | None = getattr(host, field)
        if table and (gap := _gap(field, table, places(table, bool(host.msrs)), host.raw)):
            found.append(gap)
    return tuple(found)


def partly_supported(host: Snapshot) -> bool:
    """Whether a snapshot has a part only of what KVM supports."""
    return any(gap.field == "supported" for gap in gaps(host))


def only_whole(host: Snapshot) -> Snapshot:
    """Return a snapshot without the lists of which it has a part only, nor what KVM kept of them: none of it was asked, as it were.

    What KVM supports stands for the processor's CPUID where that is not told, and is left there.
    """
    lost = dict.fromkeys(gap.field for gap in gaps(host) if gap.field != "supported" or host.raw)
    if "supported" in lost and host.table is None:
        lost |= dict.fromkeys(("kept", "set_result"))
    return replace(host, **lost) if lost else host  # type: ignore[arg-type]  # every value is None


def remarks(host: Snapshot) -> tuple[str, ...]:
    """Say in a sentence each which lists are not whole, and what stands for them."""
    return tuple(f"{gap}: {_instead(host, gap)}" for gap in gaps(host))


def _instead(host: Snapshot, gap: Gap) -> str:
    if gap.field == "supported" and not host.raw:
        return "what is missing of them is not told"
    return f"{_WHAT[gap.field][2]} is worked out instead"


def _gap(field: str, table: CpuidTable, wanted: Iterable[_Place], raw: CpuidTable) -> Gap | None:
    places = list(wanted)
    lacking = (number for number, place in enumerate(places) if table.get(*place) is None and not _is_empty(place, raw))
    missing = next(lacking, None)
    if missing is None:
        return None
    before, behind = {function for function, _ in places[:missing]}, places[missing:]
    ends = table[-1].function in before and all(table.get(*place) is None for place in behind)
    return Gap(field, places[missing], table[-1][:2], ends)


def _is_empty(place: _Place, raw: CpuidTable) -> bool:
    """Whether the processor's own entry is all zero, or one of no feature that it lacks; of KVM's own range no processor tells.

    What features its lines leave out is not told: they may have been lost there, too.
    """
    first = range_of(place[0])
    if first == hyperv.VENDOR or place[0] > last_of_range(first, raw.registers(first)) or any(raw.registers(*place)):
        return False
    return raw.get(*place) is not None or place[0] in _WITHOUT_FEATURES


def _supported(table: CpuidTable, _more: bool) -> Iterator[_Place]:
    """Where KVM begins, with leaf 0, is the least that a list tells of itself; what has not even that was put together by somebody."""
    for first in _RANGES if table.get(0) is not None else ():
        if first != _CENTAUR or table.get(first) is not None:
            for function in range(first, max(first, last_of_range(first, table.registers(first))) + 1):
                if function not in _UNLISTED:
                    yield function, 0
                    yield from ((function, index) for index in _sub_leaves(table, function))


def _sub_leaves(table: CpuidTable, function: int) -> Iterable[int]:
    def ask(index: int) -> Registers:
        return table.registers(function, index)

    if function == _XSAVE:
        components = (ask(0).edx | ask(1).edx) << 32 | ask(0).eax | ask(1).ecx
        return (index for index in _COMPONENTS if components >> index & 1)
    return (index for index in SUBLEAVES[function](ask) if index) if function in _LISTED else ()


def _emulated(table: CpuidTable, _more: bool) -> Iterator[_Place]:
    yield from ((0, 0), (1, 0), (table.registers(0).eax, 0))


def _hyperv(table: CpuidTable, more: bool) -> Iterator[_Place]:
    """With feature MSRs behind it, which KVM always has, a list without the leaf on nesting is an old kernel's."""
    yield from ((function, 0) for function in range(hyperv.VENDOR, hyperv.LIMITS + 1))
    last = table.registers(hyperv.VENDOR).eax
    yield from ((function, 0) for function in range(hyperv.DEBUG_VENDOR, min(last, hyperv.DEBUG_PLATFORM) + 1))
    if not more:
        yield hyperv.NESTED, 0
