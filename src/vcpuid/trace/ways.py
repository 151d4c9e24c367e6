"""The ways to count exits, the best first, and which of them this machine lets us go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from vcpuid.errors import UnavailableError
from vcpuid.trace.by_bpf import ByBpf
from vcpuid.trace.by_perf import ByPerf
from vcpuid.trace.by_tracefs import ByTracefs
from vcpuid.trace.exits import CountingWay, WantedExits
from vcpuid.trace.tracepoints import Events, tracefs

_WAYS: dict[str, Callable[[str, Events, WantedExits], CountingWay]] = {
    "bpf": lambda _, events, wanted: ByBpf(events, wanted),
    "perf": lambda _, events, wanted: ByPerf(events, wanted),
    "tracefs": ByTracefs,
}
WAYS = tuple(_WAYS)
"""Their names, the best first."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Counting under way, and what there is to say of how: which better way was refused, and why."""

    way: CountingWay
    remarks: tuple[str, ...]


@contextmanager
def watch(wanted: WantedExits, ways: Sequence[str] = WAYS) -> Iterator[Watch]:
    """Count exits from here to the end of the `with`, in the first of these ways that the machine allows.

    Raises UnavailableError with the best way's refusal where none is allowed: it takes root, or CAP_BPF, CAP_PERFMON and tracefs.
    """
    with tracefs() as path:
        events = Events.of_kvm(path)
        refused: list[UnavailableError] = []
        for name in ways:
            try:
                way = _WAYS[name](path, events, wanted)
            except UnavailableError as error:
                refused.append(error)
                continue
            with closing(way):
                yield Watch(way, tuple(f"{error}; exits are counted by {way.name} instead" for error in refused))
            return
        raise refused[0]
