"""A CPU's worth in a few lines: its level, what its software loses against the host's, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from vcpuid.software.crypto import Driver
from vcpuid.software.glibc import is_preference
from vcpuid.software.report import DOES_NOT_START, LIBC, NOT_TOLD, Function, Library, Worth, why_not
from vcpuid.told.facts import listed

Row = tuple[str, str, str, str]

WITHOUT_AVX2 = (
    "What that costs: without AVX2 and AVX-512, memcpy, memcmp, memchr and strlen took 1.2 to 2.0 times as long "
    "for 1 to 16 KiB (measured on an AMD EPYC 9004)."
)
"""The ratios of docs/strings.json."""

_NAMED = 4
_LACKING = 5
_BEST_TIMER = "lapic-deadline"
_FAULTS, _WRONG, _DOES_NOT_START = "FAULTS", "WRONG RESULTS", "does not start"
_FAILS = frozenset({_FAULTS, _WRONG, _DOES_NOT_START})


def verdict(found: Worth) -> str:
    """Say in a sentence which level the guest reaches, and why not the next."""
    if open_ := [level for level in found.levels if ("level", level.name) in found.hanging]:
        facts = listed(found.hanging["level", open_[0].name])
        return f"Whether the guest reaches {open_[0].name} is not told: that depends on {facts}."
    reached = [level for level in found.levels if level.reached]
    above = found.levels[len(reached) :]
    lacking = f": for {above[0].name} {_without(why_not(above[0]))}" if above else ""
    if not reached:
        return f"The guest does not reach {found.levels[0].name}, which every 64-bit distribution needs{lacking}."
    host = "" if found.host is None else _of_host([level.name for level in found.host.levels if level.reached], len(reached))
    return f"The guest reaches {reached[-1].name}{host}{lacking}."


def _without(why: str) -> str:
    return f"it {why}" if why.startswith("lacks") else why


def _of_host(levels: Sequence[str], reached: int) -> str:
    if not levels or len(levels) < reached:
        return ""
    return ", as its host does" if len(levels) == reached else f", its host {levels[-1]}"


def costs(found: Worth) -> Iterator[str]:
    """Say what it costs that glibc cannot use AVX2, where the host has it or no host is known: a sentence, or none."""
    if any("AVX2" in _lacking(*_behind_the_host(found, library)) for library in found.libraries):
        yield WITHOUT_AVX2


def rows(found: Worth) -> Iterator[Row]:
    """Give topic, item, value and why of what matters: what faults, what is not as good as on the host, what a start costs, the clock."""
    for library in found.libraries:
        yield from _library(found, library)
    for start in found.starts:
        for topic, item, value, why in _as_they_are(found, ("start", f"glibc {start.release}")):
            yield topic, item, value, why if value == NOT_TOLD else start.price
    yield from _crypto(found)
    yield from _as_they_are(found, ("clock", found.clocks.chosen.name))
    if found.clocks.timer.name != _BEST_TIMER:
        yield from _as_they_are(found, ("clock", "tick"))


def weight(row: Row) -> int:
    """Say how much a row matters: most what makes programs fail, least what is so on every CPU."""
    topic, _, value, _ = row
    return 2 if value in _FAILS else topic not in ("start", "clock")


def _as_they_are(found: Worth, item: tuple[str, str]) -> Iterator[Row]:
    return (row for row in found.rows() if row[:2] == item)


def _library(found: Worth, library: Library) -> Iterator[Row]:
    topic = f"glibc {library.glibc.release}"
    if not library.glibc.starts or (topic, LIBC) in found.hanging:
        facts = found.hanging.get((topic, LIBC))
        yield (topic, LIBC, _DOES_NOT_START, DOES_NOT_START) if facts is None else (topic, LIBC, NOT_TOLD, f"depends on {listed(facts)}")
        return
    open_ = [function for function in library.functions if (topic, function.pick.function) in found.hanging]
    settled = [function for function in library.functions if function not in open_]
    total = f"{{}} of {len(library.functions)} functions"
    if harmful := [function for function in settled if function.absent]:
        absent = dict.fromkeys(name for function in harmful for name in function.absent)
        why = f"the host lacks {' '.join(absent)}: {_some(harmful)}"
        yield topic, total.format(len(harmful)), _FAULTS if absent.keys() - {"LZCNT"} else _WRONG, why
    behind, best = _behind_the_host(found, library)
    if behind:
        lacking = _lacking(behind, best)
        cause = f"for lack of {_most(lacking)}" if lacking else "by glibc's tuning for this model"
        few = f": {_some(behind)}" if len(behind) <= _NAMED else ""
        yield topic, total.format(len(behind)), _value(found), f"{cause}{few}"
    if open_:
        facts = tuple(dict.fromkeys(fact for function in open_ for fact in found.hanging[topic, function.pick.function]))
        yield topic, total.format(len(open_)), NOT_TOLD, f"depends on {listed(facts)}: {_some(open_)}"


def _value(found: Worth) -> str:
    return "not the best" if found.host is None else "not as on the host"


def _behind_the_host(found: Worth, library: Library) -> tuple[list[Function], dict[str, Function]]:
    """Give the functions whose variant is not the host's, or not the best where no host is known, and the host's own."""
    topic = f"glibc {library.glibc.release}"
    best = {} if found.host is None else _picks(found.host, library.glibc.release)
    settled = [function for function in library.functions if (topic, function.pick.function) not in found.hanging]
    return [function for function in settled if _behind(function, best, of_host=found.host is not None)], best


def _picks(host: Worth, release: str) -> dict[str, Function]:
    return {f.pick.function: f for library in host.libraries if library.glibc.release == release for f in library.functions}


def _behind(function: Function, best: dict[str, Function], *, of_host: bool) -> bool:
    if not of_host:
        return function.pick.better is not None
    there = best.get(function.pick.function)
    return there is not None and there.pick.variant != function.pick.variant


def _lacking(functions: Iterable[Function], best: dict[str, Function]) -> list[str]:
    """Name what keeps glibc from better variants and is not lacking on the host as well, what most functions miss first."""
    counted: Counter[str] = Counter()
    for function in functions:
        there = best.get(function.pick.function)
        same = set() if there is None or there.pick.better is None else set(there.pick.better[1])
        lacking = () if function.pick.better is None else function.pick.better[1]
        counted.update(name for name in lacking if not is_preference(name) and name not in same)
    return [name for name, _ in counted.most_common()]


def _some(functions: Sequence[Function]) -> str:
    names = [function.pick.function for function in functions]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return " ".join(names[:_NAMED]) + more


def _most(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LACKING} more" if len(names) > _LACKING + 1 else ""
    return " ".join(names[:_LACKING] if more else names) + more


def _crypto(found: Worth) -> Iterator[Row]:
    there = {} if found.host is None else {driver.algorithm: driver for driver in found.host.drivers}
    settled = [driver for driver in found.drivers if ("crypto", driver.algorithm) not in found.hanging]
    behind = [driver for driver in settled if (there[driver.algorithm].driver != driver.driver if there else driver.better)]
    if behind:
        lacking = dict.fromkeys(name for driver in behind for name in _missing(driver, there.get(driver.algorithm)))
        why = f"for lack of {_most(list(lacking))}: {' '.join(driver.algorithm for driver in behind)}"
        yield "crypto", f"{len(behind)} of {len(found.drivers)} algorithms", _value(found), why
    if open_ := [driver.algorithm for driver in found.drivers if driver not in settled]:
        facts = tuple(dict.fromkeys(fact for name in open_ for fact in found.hanging["crypto", name]))
        yield "crypto", f"{len(open_)} of {len(found.drivers)} algorithms", NOT_TOLD, f"depends on {listed(facts)}: {' '.join(open_)}"


def _missing(driver: Driver, there: Driver | None) -> Iterable[str]:
    """Name what the host's driver takes and this CPU lacks; without a host, what the next better one does."""
    taken = {} if there is None else dict(driver.better)
    if there is not None and there.driver in taken:
        return taken[there.driver]
    return driver.better[-1][1] if driver.better else ()
