"""`-global DRIVER.PROPERTY=VALUE`: what of it bears on CPUs.

QEMU, system/vl.c (qemu_global_option), hw/core/qdev-properties.c (qdev_prop_set_globals). A driver is a type of device: those of CPUs
count, in the order in which they are given and before -cpu's own settings, and the size of a PC's PCI hole, which the CPU has to address.
What is set of other devices, and whether there are such devices, is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vcpuid.errors import InputError, QemuError
from vcpuid.qemu import messages
from vcpuid.qemu.kept import kept
from vcpuid.qemu.values import TOO_LARGE, size

_ANY_DEVICE = frozenset({"device", "object"})
"""Types that are every device's, so that properties of CPUs are refused by others."""
_PCI_HOSTS = {"pc-q35": "q35-pcihost", "pc-i440fx": "i440FX-pcihost"}
_HOLE = "pci-hole64-size"
_UNIT = 1024


class GlobalProperty(NamedTuple):
    """One -global, taken apart."""

    driver: str
    property: str
    value: str


@kept(256)
def parse(text: str) -> GlobalProperty:
    """Take one apart; raises InputError."""
    if match := re.fullmatch(r"([^.=]{1,63})\.([^=]{1,63})=(.*)", text, re.DOTALL):
        found = GlobalProperty(match[1], match[2], match[3])
    else:
        parts = {key: value for key, equals, value in (part.partition("=") for part in text.split(",")) if equals}
        if parts.keys() != {"driver", "property", "value"}:
            raise InputError(f"-global {text}: DRIVER.PROPERTY=VALUE, or driver=…,property=…,value=…")
        found = GlobalProperty(parts["driver"], parts["property"], parts["value"])
    if found.driver in _ANY_DEVICE:
        raise InputError(f"-global {text}: what it makes of other devices than CPUs is not modelled")
    return found


def of_cpu(texts: Iterable[str], types: Iterable[str]) -> Iterator[GlobalProperty]:
    """Give those that are set on a CPU of these types; raises InputError."""
    for found in map(parse, texts):
        if found.driver == "cpu" or found.driver in types:
            yield found


def pci_hole64(texts: Iterable[str], machine: str, default: int | None, release: tuple[int, int]) -> int | None:
    """Return the bytes that a machine keeps above 4 GB for PCI devices; raises QemuError for what is no size to this release."""
    host = next((name for kind, name in _PCI_HOSTS.items() if machine.startswith(kind)), None)
    for found in map(parse, texts):
        if found.driver == host and found.property == _HOLE:
            default = _size(found, release)
    return default


def _size(found: GlobalProperty, release: tuple[int, int]) -> int:
    """Read a size (parse_option_size, util/qemu-option.c); what else QEMU prints of a wrong one is a hint on suffixes."""
    number = size(found.value, _UNIT, release)
    if number is not None and number != TOO_LARGE:
        return number
    if number is None:
        cause = messages.EXPECTS(name=found.property, what="a non-negative number below 2^64")
    else:
        cause = messages.OUT_OF_RANGE(name=found.property, value=found.value)
    raise QemuError(messages.GLOBAL(type=found.driver, property=found.property, value=found.value, cause=cause))
