"""What a CPU is worth to software, all of it together: psABI levels, glibc's choices, crypto drivers, clocks, each with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.software.clock import Clocks, clocks
from vcpuid.software.cpu import SoftwareCpu
from vcpuid.software.crypto import Driver, drivers
from vcpuid.software.glibc import RELEASES, Glibc, Pick, glibc, is_preference
from vcpuid.software.psabi import PsabiLevel, levels
from vcpuid.software.start import ASSUMED, ExitCost, ProgramStart, starts
from vcpuid.told.assumptions import Assumption, as_dicts
from vcpuid.told.facts import Fact, NotTold, listed

SCHEMA = "vcpuid/worth/2"
"""The form of `Worth.as_dict`."""

LIBC = "libc.so.6"
"""The item that says whether programs start at all."""

NOT_TOLD = "not told"

Item = tuple[str, str]
"""What an answer is about: topic and item."""

DOES_NOT_START = "CPU ISA level is lower than required: the CPU lacks the baseline, or glibc does not know its vendor"


@dataclass(frozen=True, slots=True)
class Function:
    """A string function of glibc's. `absent` are the features that its variant executes and the host's processor lacks."""

    pick: Pick
    absent: tuple[str, ...]

    @property
    def why(self) -> str:
        """Say what goes wrong with the variant, else what keeps glibc from the next better one."""
        if self.absent == ("LZCNT",):
            return "WRONG RESULTS: the host lacks LZCNT and executes it as BSR"
        if self.absent:
            return f"FAULTS: the host lacks {' '.join(self.absent)}"
        if self.pick.better is None:
            return ""
        variant, lacking = self.pick.better
        missing = [name for name in lacking if not is_preference(name)]
        against = [name for name in lacking if is_preference(name)]
        parts = [f"lacking {' '.join(missing)}"] if missing else []
        parts += [f"by glibc's tuning for this model ({' '.join(against)})"] if against else []
        return f"not {variant}: {', '.join(parts)}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        better = None if self.pick.better is None else {"variant": self.pick.better[0], "lacking": list(self.pick.better[1])}
        return {
            "function": self.pick.function,
            "variant": self.pick.variant,
            "better": better,
            "absent": list(self.absent),
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Library:
    """A glibc on the CPU, and its string functions, none where it does not start."""

    glibc: Glibc
    functions: tuple[Function, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        functions = [function.as_dict() for function in self.functions]
        return {"release": self.glibc.release, "starts": self.glibc.starts, "isa_level": self.glibc.isa, "functions": functions}


@dataclass(frozen=True, slots=True)
class Worth:
    """All that a guest's CPU is worth, each part by the function of its name in this package.

    `hanging` are the answers that are not told, each with the facts on which it depends; `resting` the settings that are taken for granted,
    each with the answers that would be others. `host` is the same of the processor below, where that is known.
    """

    guest: SoftwareCpu
    levels: tuple[PsabiLevel, ...]
    libraries: tuple[Library, ...]
    drivers: tuple[Driver, ...]
    clocks: Clocks
    starts: tuple[ProgramStart, ...] = ()
    hanging: Mapping[Item, tuple[Fact, ...]] = field(default_factory=FrozenMap)
    resting: Mapping[Assumption, tuple[Item, ...]] = field(default_factory=FrozenMap)
    host: Worth | None = None

    @property
    def not_told(self) -> tuple[NotTold, ...]:
        """The answers that depend on facts which the host does not tell, by topic and item."""
        return tuple(NotTold(" ".join(item), facts) for item, facts in self.hanging.items())

    @property
    def assumes(self) -> dict[Assumption, tuple[str, ...]]:
        """The settings that are taken for granted, each with the answers that hang on it, by topic and item."""
        return {taken: tuple(map(" ".join, items)) for taken, items in self.resting.items()}

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Give topic, item, value and why of each answer."""
        for topic, item, value, why in self.answers():
            facts = self.hanging.get((topic, item))
            yield (topic, item, value, why) if facts is None else (topic, item, NOT_TOLD, f"depends on {listed(facts)}")

    def answers(self) -> Iterator[tuple[str, str, str, str]]:
        """Give them as they are where nothing is there that is not told."""
        for level in self.levels:
            yield "level", level.name, "yes" if level.reached else "no", why_not(level)
        for library in self.libraries:
            topic = f"glibc {library.glibc.release}"
            if not library.glibc.starts:
                yield topic, LIBC, "does not start", DOES_NOT_START
            for function in library.functions:
                yield topic, function.pick.function, function.pick.variant, function.why
        for start in self.starts:
            yield "start", f"glibc {start.release}", f"{start.least} to {start.most} CPUIDs", start.why
        for one in self.drivers:
            yield "crypto", one.algorithm, one.driver, why_driver(one)
        for clock in self.clocks.sources:
            value = "unused" if clock.rating is None else "chosen" if clock == self.clocks.chosen else f"rated {clock.rating}"
            yield "clock", clock.name, value, clock.why
        yield "clock", "tick", self.clocks.timer.name, self.clocks.timer.why

    @property
    def faults(self) -> bool:
        """Whether some function executes what the host's processor lacks, and faults."""
        return any(function.why.startswith("FAULTS") for library in self.libraries for function in library.functions)

    def as_dict(self, path: Mapping[str, object] | None = None) -> dict[str, object]:
        """For JSON; `path` is the path that led to the guest, None for a table that somebody gave."""
        return {
            "schema": SCHEMA,
            "path": path,
            "guest_kernel": self.guest.linux.tables.release,
            "xcr0": f"{self.guest.xcr0:x}",
            "levels": [_told(_level(level), "reached", ("level", level.name) in self.hanging) for level in self.levels],
            "glibc": [self._library(library) for library in self.libraries],
            "starts": [_told(start.as_dict(), "most", ("start", f"glibc {start.release}") in self.hanging) for start in self.starts],
            "crypto": [_told(_driver(driver), "driver", ("crypto", driver.algorithm) in self.hanging) for driver in self.drivers],
            "clocks": _clocks(self.clocks),
            "not_told": [found.as_dict() for found in self.not_told],
            "assumes": as_dicts(self.assumes),
        }

    def _library(self, library: Library) -> dict[str, object]:
        topic = f"glibc {library.glibc.release}"
        functions = [
            _told(function.as_dict(), "variant", (topic, function.pick.function) in self.hanging) for function in library.functions
        ]
        return {**_told(library.as_dict(), "starts", (topic, LIBC) in self.hanging), "functions": functions}


def _told(answer: dict[str, object], key: str, hanging: bool) -> dict[str, object]:
    """Leave an answer open that depends on what is not told."""
    return {**answer, key: None} if hanging else answer


def worth(
    guest: SoftwareCpu, host: SoftwareCpu | None = None, releases: Sequence[str] = RELEASES, hwcaps: str = "", cost: ExitCost = ASSUMED
) -> Worth:
    """Say what a guest's CPU is worth to its software.

    `host` is the processor that it runs on, as far as that is known, `releases` are glibc's, and `hwcaps` is as in `glibc`; `cost` is
    that of an exit. Raises
    InputError as that does.
    """
    return Worth(
        guest,
        levels(guest),
        tuple(_library(guest, host, release, hwcaps) for release in releases),
        drivers(guest),
        clocks(guest),
        tuple(starts(guest, releases, cost)),
        host=None if host is None else worth(host, None, releases),
    )


def _library(guest: SoftwareCpu, host: SoftwareCpu | None, release: str, hwcaps: str) -> Library:
    found = glibc(guest, release, hwcaps)
    silicon = None if host is None else glibc(host, release).usable
    functions = (Function(pick, () if silicon is None else _absent(pick, silicon)) for pick in found.picks)
    return Library(found, tuple(functions) if found.starts else ())


def _absent(pick: Pick, silicon: frozenset[str]) -> tuple[str, ...]:
    """Name the features whose instructions a variant executes and a processor lacks.

    REP MOVSB needs none, whatever ERMS says, and memcpy's AVX variants need AVX.
    """
    executed = dict.fromkeys("AVX" if name == "AVX_Fast_Unaligned_Load" else name for name in pick.needs if name != "ERMS")
    return tuple(name for name in executed if not is_preference(name) and name not in silicon)


def why_not(level: PsabiLevel) -> str:
    """Say why a psABI level is not reached; nothing where it is."""
    lacking = [f"lacks {' '.join(level.missing)}"] if level.missing else []
    lacking += [f"XCR0 lacks the states of {' '.join(level.disabled)}"] if level.disabled else []
    return "" if level.reached else "; ".join(lacking) or "a level below is not reached"


def why_driver(driver: Driver) -> str:
    """Say what keeps the kernel from the next better driver; nothing where there is none."""
    return f"not {driver.better[-1][0]}: lacking {' '.join(driver.better[-1][1])}" if driver.better else ""


def _level(level: PsabiLevel) -> dict[str, object]:
    return {**level._asdict(), "missing": list(level.missing), "disabled": list(level.disabled), "why": why_not(level)}


def _driver(driver: Driver) -> dict[str, object]:
    better = [{"driver": name, "lacking": list(lacking)} for name, lacking in driver.better]
    return {"algorithm": driver.algorithm, "driver": driver.driver, "better": better, "why": why_driver(driver)}


def _clocks(found: Clocks) -> dict[str, object]:
    sources = [clock._asdict() for clock in found.sources]
    return {"hypervisor": found.hypervisor, "chosen": found.chosen.name, "sources": sources, "timer": found.timer._asdict()}
