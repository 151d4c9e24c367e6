"""Whom to ask, as ssh takes it: hosts of a command line, and files that list them.

A host's name in the fleet is what it is called without the user's name and the port. It becomes a file's name, and a cluster a folder's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vcpuid.errors import InputError
from vcpuid.fleet.folder import host_name
from vcpuid.formats.files import read_text

MOST_HOSTS = 1 << 17
"""Hosts of a call: a range of an inventory, or a file, that has more is a slip."""

ENDING = ".txt"
_LONGEST = 255 - len(ENDING)
"""Bytes that a file system has for a name."""

_URI = "ssh://"


class Target(NamedTuple):
    """A host to ask: its name and cluster in the fleet, and its address as ssh takes it. `refused` says why it cannot be asked."""

    name: str
    address: str
    cluster: str = ""
    refused: str = ""

    @property
    def spoken(self) -> str:
        """The name as people and `fleet migrate` have it."""
        return f"{self.cluster}/{self.name}" if self.cluster else self.name


def targets(given: Iterable[str], cluster: str = "") -> Iterator[Target]:
    """Give the hosts that arguments name: `host`, `user@host`, an alias, `ssh://user@host:port`; `@FILE` lists such, one a line.

    In a file, `#` at the beginning of a line or after a blank begins a comment. Raises InputError for what cannot be a host.
    """
    for text in given:
        if not text.startswith("@"):
            yield target(text, cluster)
            continue
        name, listed = read_text(text[1:])
        for number, line in enumerate(listed.split("\n"), 1):
            host = _uncommented(line)
            if host:
                try:
                    yield target(host, cluster)
                except InputError as error:
                    raise InputError(error.cause, source=name, line=number) from None


def _uncommented(line: str) -> str:
    words = line.split()
    comment = next((place for place, word in enumerate(words) if word.startswith("#")), len(words))
    return " ".join(words[:comment])


def target(address: str, cluster: str = "") -> Target:
    """Read one host as ssh takes it; raises InputError."""
    return checked(Target(_name(address), address, cluster))


def _name(address: str) -> str:
    """Take a user's name off, and of a URI the port."""
    if not address.startswith(_URI):
        return address.rpartition("@")[2]
    host = address.removeprefix(_URI).partition("/")[0].rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def address(host: str, user: str | None, port: int | None) -> str:
    """Write a host as ssh takes it."""
    before = f"{user}@" if user else ""
    if port is None:
        return f"{before}{host}"
    return f"{_URI}{before}{f'[{host}]' if ':' in host else host}:{port}"


def checked(found: Target) -> Target:
    """Return the host if ssh cannot take it for an option, and its name and cluster can be those of files; else raise InputError."""
    if found.address.startswith("-"):
        raise InputError(f"{found.address[:60]!r} is no host: ssh would take it for an option")
    if not found.address or not found.address.isprintable() or " " in found.address:
        raise InputError(f"{found.address[:60]!r} is no host")
    if not _is_file_name(found.name) or host_name(Path(found.name + ENDING)) != found.name:
        raise InputError(f"{found.name[:60]!r} can be no host's name here, since it cannot be that of a file")
    if found.cluster and not all(map(_is_file_name, found.cluster.split("/"))):
        raise InputError(f"{found.cluster[:60]!r} can be no cluster's name here, since it cannot be that of a folder")
    return found


def _is_file_name(text: str) -> bool:
    """Whether a folder may have a file of this name that a fleet reads: hidden ones are none."""
    if not text or text.startswith(".") or "/" in text or not text.isprintable():
        return False
    return len(text.encode("utf-8", "surrogateescape")) <= _LONGEST


def distinct(given: Iterable[Target]) -> list[Target]:
    """Drop what is named twice; raises InputError where two addresses would be one host of the fleet, and for too many."""
    found: dict[tuple[str, str], Target] = {}
    for one in given:
        other = found.setdefault((one.cluster, one.name), one)
        if other != one:
            raise InputError(f"two hosts would be called {one.spoken[:60]}: {other.address[:60]} and {one.address[:60]}")
        if len(found) > MOST_HOSTS:
            raise InputError(f"more than {MOST_HOSTS} hosts")
    return list(found.values())
