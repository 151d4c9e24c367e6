"""What real libvirts answered on hosts that were played to them: rows of captures/libvirt, and the hosts that they name.

oracle/README.md tells what a row holds. Hosts whose names begin with "real/" are dumps of real processors by others: their lines are read
in place, from qemu-on-real-cpus of the folder that VCPUID_PEERS names.
"""

from __future__ import annotations

import gzip
import json
import lzma
from collections import defaultdict
from dataclasses import replace
from functools import cache
from typing import Any

from support.captures import CAPTURES
from support.peers import PEERS
from vcpuid import Setup, Stack
from vcpuid.cpuid import SIGNIFICANT_INDEX, CpuidTable, Entry, Snapshot
from vcpuid.cpuid.whole import gaps
from vcpuid.formats.lines import parse_snapshot
from vcpuid.qemu import KvmHost

FOLDER = CAPTURES / "libvirt"
PLAYED_XCR0 = 0xE7
"""XSAVE's components that KVM_GET_DEVICE_ATTR answered on hosts without leaf 0xD: the machine's, as it was not played there."""
REFUSED = frozenset({"hv-evmcs"})
"""What the machine's KVM did not enable, though the host that was played has it."""
QEMUS = {"9.0.0": "7.2", "11.3.0": "10.0", "12.9.0": "11.1"}
"""Whose QEMU each libvirt started: Debian's of the same suite."""

Row = dict[str, Any]
Case = tuple[str, str, str]
"""A host, a libvirt, a call."""


@cache
def rows(name: str) -> dict[Case, list[Row]]:
    """The rows of a file by case, in the order in which they were asked."""
    found: dict[Case, list[Row]] = defaultdict(list)
    for line in lzma.decompress((FOLDER / f"{name}.jsonl.xz").read_bytes()).decode().splitlines():
        row = json.loads(line)
        found[row["host"], row["libvirt"], row["request"]["do"]].append(row)
    return found


def cases(name: str) -> list[Case]:
    """The cases of a file; of real processors only where their dumps are at hand."""
    return sorted(rows(name)) if name != "real" or real_lines() else []


@cache
def real_lines() -> dict[str, list[str]]:
    """The lines of the dumps of real processors, by host; none where they are not at hand."""
    file = PEERS / "qemu-on-real-cpus" / "hosts.json.gz"
    found: dict[str, list[str]] = json.loads(gzip.decompress(file.read_bytes())) if file.is_file() else {}
    return found


@cache
def played_lines() -> dict[str, list[str]]:
    """The lines of the hosts that are in the repository."""
    found: dict[str, list[str]] = json.loads(gzip.decompress((FOLDER / "hosts.json.gz").read_bytes()))
    return found


def _filled(snapshot: Snapshot) -> Snapshot:
    """Give what KVM was played to support the leaves that a dump of others lacks: no KVM leaves one out, and QEMU took it for zeros."""
    while lacking := next((gap.missing for gap in gaps(snapshot) if gap.field == "supported"), None):
        assert snapshot.supported is not None
        snapshot = replace(snapshot, supported=CpuidTable((*snapshot.supported, Entry(*lacking, SIGNIFICANT_INDEX, 0, 0, 0, 0))))
    return snapshot


@cache
def played(host: str, libvirt: str) -> tuple[Setup, KvmHost]:
    """A host with the QEMU of a libvirt, and what else KVM answered there: a TSC of 2.5 GHz that can be scaled."""
    snapshot = _filled(parse_snapshot((played_lines().get(host) or real_lines()[host]), host))
    assert snapshot.supported is not None
    xcr0 = None if snapshot.supported.get(0xD) else PLAYED_XCR0
    return Setup.of(snapshot, Stack(qemu=QEMUS[libvirt])), KvmHost(tsc_khz=2_500_000, tsc_scaling=True, xcr0=xcr0, refused=REFUSED)


def origin(host: str, libvirt: str, do: str) -> dict[str, str | None]:
    """Whose answer a case's is, for the marker `conformance`."""
    setup, _ = played(host, libvirt)
    return {"kernel": host.partition("@")[2] or None, "qemu": QEMUS[libvirt], "vendor": setup.host.vendor}
