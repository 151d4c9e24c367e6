"""A vulnerability by its name: what the host's kernel and the guest's say of it in sysfs."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.answers.vulnerabilities import FileVerdict
from vcpuid.cpuid.feature_table import key_of
from vcpuid.cpuid.names import Feature, find
from vcpuid.cpuid.registers import VULNERABILITIES
from vcpuid.linux.sysfs import FILES
from vcpuid.told.facts import remedy

_BUG = "X86_BUG_"
_PARTS = {"SPECTRE_V2_USER": "spectre_v2", "BHI": "spectre_v2", "EIBRS_PBRSB": "spectre_v2", "MSBDS_ONLY": "mds", "SWAPGS": "spectre_v1",
          "ITS_NATIVE_ONLY": "indirect_target_selection"}  # fmt: skip
"""Bugs that have no file of their own, and are told in another's."""


class Sysfs(NamedTuple):
    """What the kernels say in a file: the host's, and the guest's; None where that release has no such file."""

    file: str
    host: FileVerdict | None
    guest: FileVerdict | None

    def sentence(self) -> str:
        """Say it, the guest's first."""
        return f"{_said('guest', self.file, self.guest)} {_said('host', self.file, self.host)}"

    @property
    def state(self) -> str:
        """Say in a word what the guest's kernel makes of it: a verdict's state, or that this release has no such file."""
        return "not reported" if self.guest is None else self.guest.state

    @property
    def remedy(self) -> str | None:
        """Say what helps a guest that is vulnerable; None where nothing is known to."""
        if self.guest is None or self.guest.state not in ("vulnerable", "not told"):
            return None
        if self.guest.depends:
            return remedy(self.guest.depends)
        if not self.guest.needs:
            return None
        asked = ",".join(f"+{name}" for name in self.guest.needs)
        return f"give the guest {' and '.join(self.guest.needs)} ({asked} in -cpu), where the host's KVM offers it"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        told = {"host": self.host, "guest": self.guest}
        return {"file": self.file, **{who: None if verdict is None else verdict.as_dict() for who, verdict in told.items()}}


def bug_of(file: str) -> Feature | None:
    """Find the vulnerability that a file of sysfs is about; None where no file has that name."""
    key = key_of(file.strip())
    return next((find(_BUG + row.bugs[0]) for row in FILES if key_of(row.name) == key and row.bugs), None)


def file_of(feature: Feature) -> str | None:
    """Name the file of sysfs that tells of a bug; None for one of which none does."""
    for symbol in (name.symbol for name in feature.linux_names):
        bug = symbol.removeprefix(_BUG)
        if (file := _PARTS.get(bug) or next((file.name for file in FILES if bug in file.bugs), None)) is not None:
            return file
    return None


def _said(who: str, file: str, verdict: FileVerdict | None) -> str:
    where = f"The {who}'s {VULNERABILITIES}/{file}"
    if verdict is None:
        return f"{where} does not exist in this release."
    return f"{where} is {verdict.said}." if verdict.text is None else f"{where} says: {verdict.text}."
