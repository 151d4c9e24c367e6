"""`-global DRIVER.PROPERTY=VALUE`: what of it bears on CPUs.

QEMU, system/vl.c (qemu_global_option), hw/core/qdev-properties.c (qdev_prop_set_globals). A driver is a type of device: those of CPUs
count, in the order in which they are given and before -cpu's own settings, and the size of a PC's PCI hole, which the CPU has to address.
What is set of other devices, and whether there are such devices, is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from vcpuid.errors import InputError

_ANY_DEVICE = frozenset({"device", "object"})
"""Types that are every device's, so that properties of CPUs are refused by others."""
_PCI_HOSTS = {"pc-q35": "q35-pcihost", "pc-i440fx": "i440FX-pcihost"}
_HOLE = "pci-hole64-size"
_UNITS = "BKMGTPE"


class GlobalProperty(NamedTuple):
    """One -global, taken apart."""

    driver: str
    property: str
    value: str


@lru_cache(maxsize=256)
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


def pci_hole64(texts: Iterable[str], machine: str, default: int | None) -> int | None:
    """Return the bytes that a machine keeps above 4 GB for PCI devices; raises InputError for what is no size."""
    host = next((name for kind, name in _PCI_HOSTS.items() if machine.startswith(kind)), None)
    for found in map(parse, texts):
        if found.driver == host and found.property == _HOLE:
            default = _size(found)
    return default


def _size(found: GlobalProperty) -> int:
    """Read a size with its suffix, each of which stands for 1024 of the one before (qemu_strtosz)."""
    match = re.fullmatch(rf"(0[xX][0-9a-fA-F]{{1,32}}|[0-9]{{1,40}})(\.[0-9]{{0,40}})?([{_UNITS}]?)", found.value, re.IGNORECASE)
    if match is None:
        raise InputError(f"-global {found.driver}.{found.property}={found.value[:80]}: not a size such as 64G")
    unit = 1 << 10 * _UNITS.index(match[3].upper()) if match[3] else 1
    return int(match[1], 16 if match[1][:2].lower() == "0x" else 10) * unit + int(float("0" + (match[2] or ".0")) * unit)
