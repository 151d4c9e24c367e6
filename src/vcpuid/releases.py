"""Releases of Linux and QEMU: which of those that vcpuid has tables of stands for the one asked for."""

from __future__ import annotations

import re
from typing import NamedTuple

from vcpuid import data
from vcpuid.errors import InputError

KERNELS = ("6.1", "6.12", "6.18", "7.1", "7.3")
"""Linux releases with tables, oldest first; each stands for that stable series as Debian built it (data/ names the exact release)."""

QEMUS = ("7.2", "10.0", "11.1")
"""QEMU releases with tables, oldest first."""


class Chosen(NamedTuple):
    """A release with tables, and a remark where it is not the one asked for."""

    release: str
    remark: str | None


def number(text: str) -> tuple[int, int]:
    """Read major and minor of a release such as `6.18.44-fc-v669` or `11.1`; raises InputError."""
    match = re.match(r"v?(\d+)\.(\d+)", text)
    if match is None:
        raise InputError(f"{text!r} is not a release number such as 6.12 or 11.1")
    return int(match[1]), int(match[2])


def choose(asked: str, known: tuple[str, ...], what: str) -> Chosen:
    """Take the newest known release that is not newer than the one asked for; the oldest where all are newer."""
    if asked in known:
        return Chosen(asked, None)
    wanted = number(asked)
    older = [release for release in known if number(release) <= wanted]
    release = older[-1] if older else known[0]
    if number(release) == wanted:
        return Chosen(release, None)
    return Chosen(release, f"no tables of {what} {wanted[0]}.{wanted[1]}: those of {release} are used")


def kernel(asked: str) -> str:
    """Choose the kernel tables for a release."""
    return choose(asked, KERNELS, "Linux").release


def choose_qemu(asked: str) -> Chosen:
    """Choose the QEMU tables for a release, or for the name of an imported QEMU."""
    if asked in QEMUS or asked not in data.imported():
        return choose(asked, QEMUS, "QEMU")
    return Chosen(asked, None)


def qemu(asked: str) -> str:
    """Choose the QEMU tables for a release, or for the name of an imported QEMU."""
    return choose_qemu(asked).release
