"""Releases of Linux and of VMMs: which of those that vcpuid has tables of stands for the one asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from vcpuid import data
from vcpuid.errors import InputError, warn_caller
from vcpuid.numbers import decimal

KERNELS = (
    "4.18", "5.10", "5.14", "5.14-el9_1", "5.14-el9_2", "5.14-el9_3", "5.14-el9_4", "5.14-el9_5", "5.15", "6.1", "6.6", "6.8", "6.12",
    "6.12-el10", "6.14", "6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2", "7.3",
)  # fmt: skip
"""Linux releases with tables, oldest first; each stands for its stable series, as Debian built that where it did (data/ names the very
release)."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A distribution's kernel, which has the code of an upstream release, `code`, by which its rules are chosen, whatever its own number.

    `release` is how the kernel whose tables they are calls itself: the number that it goes by, its build, the distribution's mark and the
    update. `of` names the distribution and the update.
    """

    code: str
    release: str
    of: str

    @property
    def mark(self) -> Mark:
        """What the release says."""
        found = _mark(self.release)
        assert found is not None
        return found


class Mark(NamedTuple):
    """What a distribution's kernel says of itself: the number that it goes by, the distribution, its build and, if told, the update.

    A build is a number; whose is larger is of a later day.
    """

    number: tuple[int, int]
    of: str
    build: int
    update: int | None


_REBUILDS = "AlmaLinux's build of it"
REBUILT = {
    "4.18": Rebuilt("6.1", "4.18.0-553.66.1.el8_10", f"Red Hat Enterprise Linux 8.10 ({_REBUILDS})"),
    "5.14-el9_1": Rebuilt("6.1", "5.14.0-162.23.1.el9_1", f"Red Hat Enterprise Linux 9.1 ({_REBUILDS})"),
    "5.14-el9_2": Rebuilt("6.1", "5.14.0-284.30.1.el9_2", f"Red Hat Enterprise Linux 9.2 ({_REBUILDS})"),
    "5.14-el9_3": Rebuilt("6.6", "5.14.0-362.24.2.el9_3", f"Red Hat Enterprise Linux 9.3 ({_REBUILDS})"),
    "5.14-el9_4": Rebuilt("6.6", "5.14.0-427.42.1.el9_4", f"Red Hat Enterprise Linux 9.4 ({_REBUILDS})"),
    "5.14-el9_5": Rebuilt("6.8", "5.14.0-503.40.1.el9_5", f"Red Hat Enterprise Linux 9.5 ({_REBUILDS})"),
    "5.14": Rebuilt("6.12", "5.14.0-570.32.1.el9_6", f"Red Hat Enterprise Linux 9.6 ({_REBUILDS})"),
    "6.12-el10": Rebuilt("6.12", "6.12.0-55.24.1.el10_0", f"Red Hat Enterprise Linux 10.0 ({_REBUILDS})"),
}
"""Of KERNELS, those that are a distribution's, by distribution and build. Upstream's 4.18 and 5.14 have no tables."""

RHEL_9 = ("5.14-el9_1", "5.14-el9_2", "5.14-el9_3", "5.14-el9_4", "5.14-el9_5", "5.14")
"""Of these RHEL 9's, by update."""

BEFORE_RHEL_9_2, BEFORE_RHEL_9_3, BEFORE_RHEL_9_4 = (RHEL_9[: RHEL_9.index(f"5.14-el9_{update}")] for update in (2, 3, 4))
BEFORE_RHEL_9_5 = ("4.18", *BEFORE_RHEL_9_4, "5.14-el9_4")
"""Of these the older ones, which lack what came to RHEL 9's with that update; RHEL 8's lacks what came with 9.5's."""

BEFORE_ITS = ("6.8", "6.14", *REBUILT)
"""Kernels of an earlier day than the mends of indirect target selection, of May 2025, or without these: they lack, too, what the stable
updates of other releases took over until then."""

UPSTREAM = tuple(kernel for kernel in KERNELS if kernel not in REBUILT)
"""The others of KERNELS: of two of them the later one has what the earlier one had."""

QEMUS = ("5.2", "6.0", "6.1", "6.2", "7.0", "7.1", "7.2", "8.0", "8.1", "8.2", "9.0", "9.1", "9.2", "10.0", "10.1", "10.2", "11.0", "11.1")
"""QEMU releases with tables, oldest first."""

LIBVIRTS = ("9.0", "11.3", "12.9")
"""libvirt releases with tables, oldest first."""


@dataclass(frozen=True, slots=True)
class Release:
    """A program's release, and the tables that stand for it.

    `asked` is the release as somebody wrote it ("6.18.44-fc", "11.1"), `tables` the one of KERNELS or QEMUS whose tables are used, or the
    name of an imported QEMU, and `number` its major and minor, which rules compare. `remark` says so where the two differ. `newer` are the
    next tables, where the kernel asked for lies between two that have some.
    """

    program: str
    asked: str
    tables: str
    number: tuple[int, int]
    remark: str | None = None
    newer: str | None = None

    def __str__(self) -> str:
        return self.asked

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"program": self.program, "release": self.asked, "tables": self.tables}


_RELEASE = re.compile(r"v?([0-9]{1,9})\.([0-9]{1,9})(?![0-9])[ -~]{0,100}")
"""What follows the numbers is the builder's own: a patch level, a distribution's mark."""


@lru_cache(maxsize=256)
def number(text: str) -> tuple[int, int]:
    """Read major and minor of a release such as `6.18.44-fc-v669` or `11.1`; raises InputError."""
    match = _RELEASE.fullmatch(text)
    major, minor = (decimal(match[1]), decimal(match[2])) if match else (None, None)
    if major is None or minor is None:
        raise InputError(f"{text[:40]!r} is not a release number such as 6.12 or 11.1")
    return major, minor


def _number_of(text: str, known: tuple[str, ...], program: str) -> tuple[int, int]:
    """Read a release that somebody asks for; of one without its minor number, InputError says which are known."""
    if (major := decimal(text)) is None:
        return number(text)
    minors = [release for release in known if number(release)[0] == major]
    if minors:
        hint = f"say {' or '.join(minors)}"
    elif major > number(known[-1])[0]:
        hint = f"it is newer than all that are known, and {known[-1]} is the newest"
    else:
        hint = f"{known[0]} to {known[-1]} are known"
    raise InputError(f"{text[:40]!r} is not a release number of {program}: {hint}")


@lru_cache(maxsize=256)
def choose(asked: str, known: tuple[str, ...], program: str) -> Release:
    """Take the newest known release that is not newer than the one asked for; the oldest where all are newer. Raises InputError."""
    wanted = _number_of(asked, known, program)
    older = [release for release in known if number(release) <= wanted]
    tables = older[-1] if older else known[0]
    same = number(tables) == wanted
    remark = (
        None
        if same
        else f"no tables of {program} {wanted[0]}.{wanted[1]}: those of {tables} are used; what changed between the two is not known here"
    )
    return Release(program, asked, tables, number(tables), remark)


_DISTRIBUTED = re.compile("pc-(?:q35|i440fx)-[a-z]")


def option_parts(text: str) -> list[str]:
    """Split an argument of options at its commas, two of which are one in a value (QEMU, util/keyval.c)."""
    return [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]


def named_type(machine: str) -> str:
    """Return the type that a -machine argument names: its first word, or its option `type`, wherever that stands; the last one counts."""
    first, *more = option_parts(machine)
    named = [part.removeprefix("type=") for part in (first, *more) if part.startswith("type=")]
    return named[-1] if named else first


def distributed(machine: str) -> str | None:
    """Say of a QEMU machine type that a distribution added what is known of it; None of any other. `machine` is a -machine argument."""
    name = named_type(machine)
    row = data.load("qemu-distributions")["machines"].get(name) if _DISTRIBUTED.match(name) else None
    if row is None:
        return None
    return (
        f"{name} is of {row[0]}, QEMU {row[1]}: what it sets on CPUs is known, what else that build changes is not known here; "
        "vcpuid qemu import reads a QEMU of your own"
    )


def linux(asked: str | Release | None = None) -> Release:
    """Choose the tables for a release of Linux; of None, the newest. Raises InputError where it is no release.

    A distribution's (REBUILT) stand for its own kernels, by their builds, and for the bare number; for nobody else's kernel of that number.
    """
    return asked if isinstance(asked, Release) else _linux(KERNELS[-1] if asked is None else asked)


@lru_cache(maxsize=256)
def _linux(asked: str) -> Release:
    if asked in REBUILT:
        return _rebuilt(asked, asked)
    mark = _mark(asked)
    own = [tables for tables, kernel in REBUILT.items() if mark is not None and kernel.mark[:2] == mark[:2]]
    if mark is None or not own:
        if (bare := _BARE.fullmatch(asked)) is not None and bare[1] in REBUILT:
            return _rebuilt(bare[1], asked)
        return _upstream(asked)
    marks = [REBUILT[tables].mark for tables in own]
    at = max((at for at, known in enumerate(marks) if known.build <= mark.build), default=0)
    same = marks[at].build == mark.build or (mark.update is not None and mark.update == marks[at].update)
    newer = own[at + 1] if not same and marks[at].build < mark.build and at + 1 < len(own) else None
    of = REBUILT[own[at]].of
    if same:
        return _rebuilt(own[at], asked)
    if newer is not None:
        other = f"by those of {REBUILT[newer].of} is not told"
        remark = f"no tables of Linux {asked}: those of {of} are used, and an answer that is another {other}"
    else:
        remark = f"no tables of Linux {asked}: those of {of}, {REBUILT[own[at]].release}, are used; what it has otherwise is not known here"
    return _rebuilt(own[at], asked, remark, newer)


_BARE = re.compile(r"v?([0-9]{1,9}\.[0-9]{1,9})(?:\.0)?")
_MARK = re.compile(r"([0-9]{1,9}\.[0-9]{1,9})\.[0-9]{1,9}-([0-9]{1,9})[0-9.]{0,40}\.(el[0-9]{1,3})(?:_([0-9]{1,3}))?(?![0-9a-z_])")


def _mark(release: str) -> Mark | None:
    """Read what a kernel's release says of its distribution; None where it names none that is known by such a mark."""
    found = _MARK.match(release)
    return None if found is None else Mark(number(found[1]), found[3], decimal(found[2]) or 0, decimal(found[4] or ""))


def _rebuilt(tables: str, asked: str, remark: str | None = None, newer: str | None = None) -> Release:
    return Release("Linux", asked, tables, number(REBUILT[tables].code), remark, newer)


def _upstream(asked: str) -> Release:
    chosen = choose(asked, UPSTREAM, "Linux")
    newer = _next(chosen, UPSTREAM)
    if newer is None:
        return chosen
    return replace(chosen, remark=f"{chosen.remark}, and an answer that is another by those of {newer} is not told", newer=newer)


def series(kernel: str) -> str:
    """Return what of a kernel's release its tables are chosen by: major and minor, of a distribution's build and update, too.

    Raises InputError where it is no release.
    """
    mark = _mark(kernel)
    major, minor = number(kernel)
    if mark is None or all(known.mark[:2] != mark[:2] for known in REBUILT.values()):
        return f"{major}.{minor}"
    return f"{major}.{minor}.0-{mark.build}.{mark.of}{'' if mark.update is None else f'_{mark.update}'}"


def _next(chosen: Release, known: tuple[str, ...]) -> str | None:
    """Give the first release with tables after the one asked for, where older tables stand for that; None where they do not, or none is."""
    asked = number(chosen.asked)
    if chosen.remark is None or chosen.number > asked:
        return None
    return next((release for release in known if number(release) > asked), None)


def following(release: Release) -> Release | None:
    """Give the release asked for with the tables of the next one that has some, where it lies between two; None else."""
    if release.newer is None:
        return None
    return replace(release, tables=release.newer, number=number(code_of(release.newer)), newer=None)


def code_of(kernel: str) -> str:
    """Give the release by which the rules of one of KERNELS are chosen: its own, but for a distribution's that goes by an old number."""
    return REBUILT[kernel].code if kernel in REBUILT else kernel


def asked_linux(asked: str | Release | None) -> Release:
    """Do the same for a public function: where other tables than the release's own stand for it, its caller gets a RemarkWarning."""
    if isinstance(asked, Release):
        return asked
    release = linux(asked)
    if release.remark is not None:
        warn_caller(release.remark)
    return release


def libvirt(asked: str | Release | None = None) -> Release:
    """Choose the tables for a release of libvirt; of None, the newest. Raises InputError where it is no release."""
    return asked if isinstance(asked, Release) else choose(LIBVIRTS[-1] if asked is None else asked, LIBVIRTS, "libvirt")


def qemu(asked: str | Release | None = None) -> Release:
    """Choose the tables for a release of QEMU, or for the name of an imported one; of None, the newest. Raises InputError.

    Names of imported ones are RELEASE-LABEL: for a mere release nobody's list is read, which may be out of reach.
    """
    if isinstance(asked, Release):
        return asked
    if asked is not None and "-" in asked and asked in data.imported():
        return Release("QEMU", asked, asked, number(asked))
    chosen = choose(QEMUS[-1] if asked is None else asked, QEMUS, "QEMU")
    newer = _next(chosen, QEMUS)
    if newer is None:
        return chosen
    return replace(chosen, remark=f"{chosen.remark}, nor which of these of {newer} it has: {' '.join(_added(chosen.tables, newer))}")


@lru_cache(maxsize=16)
def _added(older: str, newer: str) -> tuple[str, ...]:
    """Name the CPU models and the features that a QEMU has and an older one has not."""

    def names(release: str) -> dict[str, None]:
        table = data.load(f"qemu-{release}")
        features = (name for word in table["words"] for name in word["bits"].values())
        return dict.fromkeys((*(model["base"] for model in table["models"]), *features))

    before = names(older)
    return tuple(name for name in names(newer) if name not in before)
