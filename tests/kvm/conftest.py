"""Hosts for the tests of KVM's part: captured machines, as they were or with bits of their CPUID changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from support import captures
from vcpuid.cpuid import CpuidTable, Entry, Snapshot

Edit = Callable[..., Snapshot]


@pytest.fixture(scope="session")
def machine() -> Callable[[str], Snapshot]:
    """A captured machine by its file's name, for example kvm-amd.EPYC-Turin-v1@7.3."""
    return captures.host


@pytest.fixture(scope="session")
def edited() -> Edit:
    """A host with registers replaced: edited(host, {"7.0.edx": 0x10}); a value that is callable is given what is there.

    Entries that do not exist are added. Keywords replace fields of the snapshot.
    """

    def edit(host: Snapshot, registers: dict[str, int | Callable[[int], int]] | None = None, **fields: object) -> Snapshot:
        entries = {entry[:2]: entry for entry in host.raw}
        for place, value in (registers or {}).items():
            function, index, register = place.split(".")
            key = (int(function, 16), int(index, 16))
            entry = entries.get(key, Entry(*key, 0, 0, 0, 0, 0))
            new = value(getattr(entry, register)) if callable(value) else value
            entries[key] = entry._replace(**{register: new})
        return dataclasses.replace(host, raw=CpuidTable(entries.values()), **fields)  # type: ignore[arg-type]

    return edit
