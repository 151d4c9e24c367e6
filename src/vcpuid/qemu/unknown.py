"""Names in -cpu and -machine that a QEMU's tables lack: what was likely meant, and whether the QEMU asked for may have them all the same.

Tables of an older release stand for one that has none of its own (`vcpuid.releases`). What came between the two QEMU knows and they do not:
that is not known here, and no reason to say that QEMU refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from vcpuid.cpuid import Bit
from vcpuid.cpuid.names import COLLECTIVE, meant
from vcpuid.cpuid.words import positions
from vcpuid.errors import MisnamedError, NotKnownError, QemuError
from vcpuid.qemu.catalog import HOST_MODELS, Catalog, catalog, upstream_name
from vcpuid.qemu.expand import NOT_MIGRATABLE
from vcpuid.qemu.managers import manager_cpu, worked_out
from vcpuid.qemu.rules import ABSENT as NO_LEAF
from vcpuid.reasons import Decision
from vcpuid.releases import QEMUS, Release, distributed, named_type, number
from vcpuid.setup import Setup

_LONGEST = 60
"""Characters of a name that is compared with others: no name of QEMU's is longer."""
_SHORTEST, _MOST = 3, 3
"""Characters that may be the beginning of a name, and guesses that are given."""
_ANSWERED = 16
"""Unknown properties of one -cpu argument about which a guess is made: a guess compares a name with every one that QEMU has."""

_VERSIONED = re.compile(r"-v\d+$", re.IGNORECASE)
_FOREIGN = re.compile(r"pc-(?:q35|i440fx)-(?:[a-z][\w.+-]{0,60}|[0-9]{1,9}(?:\.[0-9]{1,9})+[-+][\w.+-]{1,60})", re.ASCII)
"""Machine types that upstream does not name so: of a distribution (noble, rhel9.4.0), or of a number with something behind it."""
_OF_RELEASE = re.compile(r"pc-(?:q35|i440fx)-([0-9]{1,9}\.[0-9]{1,9})")


_SPECIAL = re.compile(r"none|xenpv|xenpvh|xenfv(?:-[0-9.]{1,9})?|x-remote|nitro-enclave")
_NUMBERED = re.compile(r"pc-[01]\.[0-9]{1,2}")
"""Machine types that QEMU lists and the tables leave out; the second kind, older than pc-i440fx, went with 6.0."""


class Guess(NamedTuple):
    """What a name that a QEMU does not have may stand for.

    `meant` are names that it has, the likeliest first, or for a model a whole -cpu argument. `why` tells who calls them so, or which newer
    QEMU has the name itself; it is empty where the names look alike and no more. `sure` says that the first of `meant` is what was meant.
    """

    said: str
    meant: tuple[str, ...]
    why: str = ""
    sure: bool = False

    def __str__(self) -> str:
        return f"{spelled(self.said)}: {self.about}"

    @property
    def about(self) -> str:
        """The same without the name: who calls what so, else the question whether what looks alike is meant."""
        return self.why or f"did you mean {' or '.join(self.meant)}?"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"said": self.said, "meant": list(self.meant), "why": self.why or None}


@lru_cache(maxsize=64)
def guesses(cpu: str, tables: str) -> tuple[Guess, ...]:
    """Guess what the unknown model and the unknown properties of a -cpu argument stand for in a QEMU's tables; those without an idea go.

    QEMU stops at the first of them: of more than `_ANSWERED` properties that it does not have the others are left.
    """
    known, model = catalog(tables), cpu.partition(",")[0]
    unknown = islice((name for name in _settings(cpu) if not has_property(known, name)), _ANSWERED)
    found = [guess for name in unknown if (guess := _property(known, name)) is not None]
    if cpu and not has_model(known, model) and (guess := _model(known, model)) is not None:
        found.insert(0, guess)
    return tuple(found)


def spelled(name: str) -> str:
    """Give a name as it can be read in a sentence: with quotes around one that begins or ends with a blank."""
    return name if name == name.strip() else repr(name)


def lacking(cpu: str, tables: str) -> str | None:
    """Return the first name in a -cpu argument that a QEMU's tables lack: its model, else a property; None where they have all."""
    known, model = catalog(tables), cpu.partition(",")[0]
    if cpu and not has_model(known, model):
        return model
    return next((name for name in _settings(cpu) if not has_property(known, name)), None)


def misnamed(cpu: str, tables: str) -> bool:
    """Tell whether a QEMU stops at a name in -cpu that no QEMU known has, and that nobody is known to give to a model or feature."""
    name = lacking(cpu, tables)
    if name is not None and name != name.strip():  # with its blank it is nobody's, whoever has the name without
        return True
    if name is None or any(guess.said == name and guess.sure for guess in guesses(cpu, tables)):
        return False
    known = map(catalog, QEMUS)
    return not (manager_cpu(name) or worked_out(name) or any(has_model(other, name) or has_property(other, name) for other in known))


@contextmanager
def hinting(cpu: str | None, setup: Setup) -> Iterator[None]:
    """Give a refusal a hint at what was meant, and make it a MisnamedError where nobody has the name.

    Raises NotKnownError instead where what is refused may be newer than the tables.
    """
    try:
        yield
    except QemuError as error:
        found = () if cpu is None else guesses(cpu, setup.vmm.tables)
        if (beyond := _beyond(cpu, setup)) is not None:
            raise NotKnownError("; ".join([beyond, *(str(guess) for guess in found if not guess.why)])) from None
        kind = MisnamedError if cpu is not None and misnamed(cpu, setup.vmm.tables) else QemuError
        raise kind(error.message, error.warnings, "; ".join(map(str, found)) or None) from None


def has_model(tables: Catalog, name: str) -> bool:
    """Tell whether a QEMU has a model of that name, or one of its versions."""
    return name in tables.models or name in tables.model_aliases or name in HOST_MODELS or name == "base"


def has_property(tables: Catalog, name: str) -> bool:
    """Tell whether any of a QEMU's CPUs has a property of that name."""
    return name in tables.flags or name in tables.aliases or name in tables.properties


def _newer(tables: Catalog) -> list[Catalog]:
    return [catalog(release) for release in QEMUS if number(release) > tables.number]


def _settings(cpu: str) -> Iterator[str]:
    """Name what a -cpu argument sets, each once."""
    parts = (part for part in cpu.split(",")[1:] if part)
    named = (part[1:] if part[0] in "+-" else part.partition("=")[0].replace("_", "-") for part in parts)
    yield from dict.fromkeys(name for name in named if name != "tsc-freq")


def _blank(name: str, known: bool) -> Guess | None:
    """Guess at a name with a blank before or behind it, which without that is `known`; QEMU's parser takes none away."""
    bare = name.strip()
    if bare == name or not known:
        return None
    side = "before" if name[0].isspace() else "behind"
    return Guess(name, (bare,), f"QEMU takes the blank {side} {bare} as part of the name", sure=True)


def _model(tables: Catalog, name: str) -> Guess | None:
    if (blank := _blank(name, has_model(tables, name.strip()))) is not None:
        return blank
    if (invented := manager_cpu(name)) is not None:
        manager, stands_for = invented
        return Guess(
            name, (stands_for,), f"no model of QEMU's but a CPU type of {manager}'s, which gives QEMU -cpu {stands_for}", sure=True
        )
    if (found := worked_out(name)) is not None:
        return Guess(name, ("host",), f"no model of QEMU's but a word of {found[0]}'s: {found[1]}")
    versions = tables.models if _VERSIONED.search(name) else ()
    near = _near(name, (*versions, *tables.model_aliases, *HOST_MODELS))
    return _guess(tables, name, near, has_model)


def _property(tables: Catalog, name: str) -> Guess | None:
    """Guess by a blank too many, by what others call a feature, then by what looks alike."""
    if (blank := _blank(name, has_property(tables, name.strip().lstrip("+-")))) is not None:
        return blank
    names = dict.fromkeys(own.name for feature in meant(name) for own in feature.qemu_names)
    known = [other for other in names if other in tables.flags and other != name]
    if known:
        return Guess(name, (known[0],), f"QEMU calls it {known[0]}", sure=True)
    together = [other for other in COLLECTIVE.get(name.lower(), ()) if other in tables.flags]
    if together:
        return Guess(name, tuple(together), f"QEMU has it in parts: {' and '.join(together)}")
    near = _near(name, (*tables.flags, *tables.aliases, *tables.properties))
    return _guess(tables, name, near, has_property)


def _guess(tables: Catalog, name: str, near: tuple[str, ...], has: Callable[[Catalog, str], bool]) -> Guess | None:
    """Name the oldest newer QEMU that has the name, else those that look alike."""
    newer = next((other.release for other in _newer(tables) if has(other, name)), None)
    if newer is not None:
        return Guess(name, near, f"QEMU {newer} has it")
    return Guess(name, near) if near else None


def _near(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Give up to three names that are this one in other letters, begin with it, or look alike."""
    import difflib

    by_key, key = {other.lower(): other for other in known}, name.lower()[:_LONGEST]
    begun = sorted((other for other in by_key if other.startswith(key)), key=len) if len(key) >= _SHORTEST else []
    found = begun[:_MOST] or difflib.get_close_matches(key, by_key, n=_MOST, cutoff=0.7)
    return tuple(by_key[other] for other in found)


def _beyond(cpu: str | None, setup: Setup) -> str | None:
    """Say what of a -cpu and a machine type may be newer than the tables, and in the release asked for; None where they tell enough."""
    release = setup.vmm
    if (strange := _of_a_distribution(setup) or _left_out(setup)) is not None:
        return strange
    asked = number(release.asked)
    if release.remark is None or asked <= release.number:
        return None
    own = catalog(release.tables)
    newer = _newer(own)
    machine = setup.machine
    if not _has_machine(own, machine):
        match = _OF_RELEASE.fullmatch(machine)
        if match is None or not release.number < number(match[1]) <= asked:
            return None
        return _untold(release, f"the machine type {machine}", [tables for tables in newer if _has_machine(tables, machine)])
    if not cpu:
        return None
    model = cpu.partition(",")[0]
    if not has_model(own, model):
        if manager_cpu(model) is not None:
            return None
        having = [tables for tables in newer if has_model(tables, model)]
        return _untold(release, f"the CPU model {model}", having) if having or not newer else None
    for name in _settings(cpu):
        if not has_property(own, name):
            having = [tables for tables in newer if has_property(tables, name)]
            if having or not newer:
                return _untold(release, f"the property {name} of CPUs", having)
    return None


def unnamed(model: str, decisions: Iterable[Decision], release: Release) -> dict[Bit, str]:
    """Name the bits that -cpu host and max lose for want of a name in an older release's tables: the one asked for may have it."""
    if model not in HOST_MODELS or release.remark is None or number(release.asked) <= release.number:
        return {}
    own = catalog(release.tables)
    newer = _newer(own)
    found = {}
    dropped = ((decision.word, decision.mask) for decision in decisions if decision.rule in (NOT_MIGRATABLE, NO_LEAF))
    for bit in (Bit(word, position) for word, mask in dropped for position in positions(mask)):
        having = [tables for tables in newer if _names(tables, bit)]
        if not _names(own, bit) and (having or not newer):
            found[bit] = _untold(release, "a name for it", having)
    return found


def _names(tables: Catalog, bit: Bit) -> bool:
    return any(row.word == bit.word and bit.position in row.names for row in tables.words)


def _of_a_distribution(setup: Setup) -> str | None:
    """Say that a machine type is nobody's whose QEMU is known here, where its name is none that upstream gives; None for any other."""
    name = upstream_name(named_type(setup.machine))
    match = _FOREIGN.fullmatch(name)
    if match is None or _has_machine(catalog(setup.vmm.tables), name) or distributed(name) is not None:
        return None
    return (
        f"not known here: the machine type {name[:100]}, which is a distribution's own; "
        "vcpuid qemu import reads the machine types of a QEMU of your own, for --qemu"
    )


def _left_out(setup: Setup) -> str | None:
    """Say of a machine type that QEMU lists that the tables do not tell of it; None for any other, and where they do."""
    name = named_type(setup.machine)
    listed = _SPECIAL.fullmatch(name) or (setup.vmm.number < (6, 0) and _NUMBERED.fullmatch(name))
    if not listed or _has_machine(catalog(setup.vmm.tables), name):
        return None
    return f"not known here: the machine type {name}, which QEMU may have and whose CPUs the tables do not tell of"


def _has_machine(tables: Catalog, name: str) -> bool:
    upstream = upstream_name(name)
    return any(upstream in pair for pair in tables.machine_names.items())


def _untold(release: Release, what: str, having: list[Catalog]) -> str:
    ask = f"; --qemu {having[0].release} has it" if having else ""
    return f"not known here: whether QEMU {release} has {what[:100]}, which the tables of {release.tables} lack{ask}"
