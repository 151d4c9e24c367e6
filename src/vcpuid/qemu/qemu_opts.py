"""`first,name=value,flag`: an option's text as QEMU reads -machine up to 6.0 and -smp up to 6.0, before it had keyval.

QEMU, util/qemu-option.c (opts_do_parse, get_opt_name_value). Two commas are one in a value, a name alone is switched on, or off where it
begins with "no". QEMU 6.0 warns of a name alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vcpuid.errors import QemuError
from vcpuid.qemu import messages
from vcpuid.qemu.values import integer, is_integer

WARNS_OF_FLAGS = (6, 0)
"""Since when a name alone is deprecated."""


class Setting(NamedTuple):
    """A name with its value; `alone` where the value was not written."""

    name: str
    value: str
    alone: bool = False


def split(text: str, first: str) -> Iterator[Setting]:
    """Take a text apart; what has no name at its beginning is of `first`."""
    at, implied = 0, True
    while at < len(text):
        end = at
        while end < len(text) and text[end] not in "=,":
            end += 1
        name = text[at:end]
        if text.startswith("=", end):
            value, at = _value(text, end + 1)
            yield Setting(name, value)
        elif implied:
            value, at = _value(text, at)
            yield Setting(first, value)
        else:
            at = end
            yield Setting(name[2:], "off", alone=True) if name.startswith("no") else Setting(name, "on", alone=True)
        at += 1  # the comma
        implied = False


def _value(text: str, at: int) -> tuple[str, int]:
    """Read a value, and return where it ends: at the first comma that is one alone."""
    found = ""
    while at < len(text):
        if text[at] == ",":
            if not text.startswith(",,", at):
                break
            at += 1
        found += text[at]
        at += 1
    return found, at


def read(option: str, text: str, first: str, release: tuple[int, int]) -> list[Setting]:
    """Take the text of an option apart that is there but once; raises QemuError.

    Such an option has no id: QEMU 5.2 takes one with an id for another, at which nobody looks, and 6.0 refuses it.
    """
    settings = list(split(text, first))
    if all(setting.name != "id" for setting in settings):
        return settings
    if release >= (6, 0):
        raise QemuError(messages.OPTION_UNKNOWN(option=option, text=text, name="id"))
    return []


def warnings(option: str, text: str, first: str, release: tuple[int, int]) -> tuple[str, ...]:
    """Say what a release prints of the names alone in an option's text."""
    said: list[str] = []
    for name, value, alone in split(text, first) if release >= WARNS_OF_FLAGS else ():
        if alone:
            shown = name if value == "on" else f"no{name}"
            said += [messages.FLAG_DEPRECATED(option=option, text=text, name=shown), messages.FLAG_INSTEAD(name=name, value=value)]
    return tuple(said)


def number(option: str, text: str, setting: Setting) -> int:
    """Read a setting's value as a number (parse_option_number); raises QemuError."""
    found = integer(setting.value, signed=False)
    if found is None:
        refusal = messages.OPTION_TOO_LARGE if is_integer(setting.value) else messages.OPTION_NO_NUMBER
        raise QemuError(refusal(option=option, text=text, name=setting.name, value=setting.value))
    return found
