"""What Linux shows on a host: its own /proc/cpuinfo tells what CPUID and MSRs leave open."""

from __future__ import annotations

import pytest

from support.captures import host
from vcpuid import Setup, Stack
from vcpuid.answers.flags import told
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.cpuid.frozen import FrozenMap

TSX = {"hle", "rtm"}
NAME = "kvm-intel.sapphire_rapids-xfd@6.12"


def with_tsx(shown: str | None) -> Snapshot:
    """A processor with TSX, which an MSR that is not told may take away; `shown` is what its Linux shows of that, if that is told."""
    snapshot = host(NAME)
    raw = CpuidTable(e._replace(ebx=e.ebx | 1 << 4 | 1 << 11) if e[:2] == (7, 0) else e for e in snapshot.raw)
    lines = {} if shown is None else {"flags": f"{snapshot.cpuinfo['flags']} {shown}"}
    return Snapshot(kernel=snapshot.kernel, raw=raw, cpuinfo=FrozenMap(lines))


def open_(snapshot: Snapshot, stack: Stack | None = None) -> set[str]:
    return {found.what for found in told(Setup.of(snapshot, stack)).not_told}


@pytest.mark.parametrize("shown", ["hle rtm", ""])
def test_what_the_host_s_linux_shows_is_told(shown: str) -> None:
    assert open_(with_tsx(None)) >= TSX
    found = told(Setup.of(with_tsx(shown)))
    assert not TSX & {one.what for one in found.not_told}
    assert TSX & set(found.info.flags) == set(shown.split())
    complete = told(Setup.of(host(NAME))).info.flags
    assert [name for name in found.info.flags if name in complete] == [name for name in complete if name in found.info.flags]


def test_it_does_not_tell_of_another_kernel_or_command_line() -> None:
    assert open_(with_tsx("hle rtm"), Stack("6.1")) >= TSX
    assert open_(with_tsx("hle rtm"), Stack(params={"cmdline": "nopku"})) >= TSX
