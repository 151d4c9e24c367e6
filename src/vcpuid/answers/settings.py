"""What stands behind the model in a -cpu argument, setting by setting; and what was said wrongly there, set right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vcpuid.qemu.catalog import Catalog
from vcpuid.qemu.hyperv import needed
from vcpuid.qemu.unknown import guesses
from vcpuid.qemu.values import BOOLEANS

NO_PART = ("x-force-features", "+x-force-features")
"""A proposal does not force: what the host lacks is not asked for."""


@dataclass(frozen=True, slots=True)
class Amendment:
    """One thing in which a proposed -cpu is other than the one asked for, and why.

    `what` is the new text of a "name" (of another one's CPU type), of a "version" of the model, of what is "corrected" or "added", and the
    old one of a setting "left-out".
    """

    kind: str
    what: str
    why: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"kind": self.kind, "what": self.what, "why": self.why}


def joined(name: str, settings: Iterable[str], missing: Iterable[str] = ()) -> str:
    """Make a -cpu argument of a model, settings, and features to leave out."""
    return ",".join([name, *settings, *(f"-{feature}" for feature in missing)])


def switch(setting: str) -> tuple[str, bool | None]:
    """Read a setting: the property, and whether it is switched on or off; None for another value."""
    if setting[0] in "+-":
        return setting[1:], setting[0] == "+"
    name, equals, value = setting.partition("=")
    return name.replace("_", "-"), BOOLEANS.get(value) if equals else True


def repaired(cpu: str, tables: Catalog) -> tuple[str, list[str], list[Amendment]]:
    """Take a -cpu argument apart into model and settings, what a person can only have meant otherwise set right and needs added.

    That is a CPU type that a manager of guests has made up, the name that others have for a feature, and enlightenments that others need.
    """
    name, *settings = cpu.split(",")
    forcing = [setting for setting in settings if setting.startswith(NO_PART)]
    amendments = [Amendment("left-out", setting, "it would hide what the host lacks") for setting in forcing]
    settings = _last([setting for setting in settings if setting and not setting.startswith(NO_PART)])
    for guess in guesses(cpu, tables.release):
        if not guess.sure:
            continue
        if guess.said == name:
            name, *more = guess.meant[0].split(",")
            settings = [*more, *settings]
            amendments.append(Amendment("name", guess.meant[0], guess.why))
        else:
            for at, setting in enumerate(settings):
                if switch(setting)[0] == guess.said:
                    settings[at] = _renamed(setting, guess.meant[0])
                    amendments.append(Amendment("corrected", settings[at], guess.why))
    for need, by in needs(settings, tables):
        settings = [*(setting for setting in settings if _property(setting, tables) != need), need]
        amendments.append(Amendment("added", need, f"{by} needs it"))
    return name, settings, amendments


def _renamed(setting: str, name: str) -> str:
    """Say the same of a property of another name."""
    if setting[0] in "+-":
        return setting[0] + name
    _, equals, value = setting.partition("=")
    return f"{name}{equals}{value}"


def _last(settings: list[str]) -> list[str]:
    """Leave out the settings that a later one of the same property, said in the same way, overrides."""
    places = {(setting[0] if setting[0] in "+-" else "", switch(setting)[0]): at for at, setting in enumerate(settings)}
    return [settings[at] for at in sorted(places.values())]


def needs(settings: Iterable[str], tables: Catalog) -> Iterator[tuple[str, str]]:
    """Pair enlightenments that are not asked for with those among the settings that need them."""
    asked = [_property(setting, tables) for setting in settings if switch(setting)[1]]
    yield from ((need, by) for need, by in needed(asked) if need in tables.properties)


def _property(setting: str, tables: Catalog) -> str:
    name = switch(setting)[0]
    return tables.aliases.get(name, name)
