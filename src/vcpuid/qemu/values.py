"""How QEMU reads a boolean, wherever it stands (QEMU, qapi/qapi-util.c, qapi_bool_parse)."""

from __future__ import annotations

from vcpuid.errors import QemuError
from vcpuid.qemu import messages

BOOLEANS = {"on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False}
"""Spellings of a boolean."""

ON_OFF_AUTO = ("on", "off", "auto")
"""Spellings of an OnOffAuto."""


def boolean(name: str, text: str) -> bool:
    """Read a boolean; raises QemuError."""
    if text not in BOOLEANS:
        raise QemuError(messages.EXPECTS(name=name, what="'on' or 'off'"))
    return BOOLEANS[text]


def on_off_auto(name: str, text: str) -> str:
    """Read an OnOffAuto; raises QemuError."""
    if text not in ON_OFF_AUTO:
        raise QemuError(messages.NOT_ACCEPTED(name=name, value=text))
    return text
