"""What kernels say of their processors' vulnerabilities in sysfs: every file of every processor that was booted.

A file of captures/vulnerabilities is one kernel's, and has the processors of oracle/vulnerable-hosts.txt one after another, as
oracle/vulnerable.py printed them: HOST, CPU, PLAYED and SMP say which it is, CMDLINE what the kernel was given, SYSFS is what the model is
held against, and the rest are the lines of a snapshot.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import pytest

from support import captures
from vcpuid.cpuid import Snapshot
from vcpuid.formats.lines import parse_snapshot
from vcpuid.linux import cpuinfo, vulnerabilities

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")  # options that change nothing are among what was booted

UNREAD: dict[str, str | int] = {
    **dict.fromkeys(("msr.33", "msr.4e", "msr.c00102f0"), "absent"),
    **dict.fromkeys(("msr.17", "msr.3a", "msr.ce", "msr.982", "msr.c0010010", "msr.c0010114", "msr.c0010133"), 0),
}
"""What captures do not tell: MSRs that the emulator reads as 0; the first three stay 0 when they are written (see test_booted.py)."""


WRITTEN = "49"
"""PRED_CMD, which Linux writes and never reads: the emulator takes every value, whatever is played of reading it."""

NOT_EMULATED = frozenset({"null_seg"})
"""Linux tries out whether loading a null segment clears its base: the emulator does so as Zen 2, and not as the first Zen."""


class Booted(NamedTuple):
    """A processor under a kernel: the snapshot, the kernel's parameters, the files."""

    host: Snapshot
    params: dict[str, str | int]
    files: dict[str, str]


@cache
def read(kernel: str) -> dict[str, Booted]:
    machines: dict[str, list[str]] = {}
    for line in captures.lines(kernel, "vulnerabilities"):
        kind, _, text = line.partition(" ")
        if kind == "HOST":
            machines[text] = lines = []
        lines.append(line)
    return {name: _machine(name, lines, kernel) for name, lines in machines.items()}


def _machine(name: str, lines: list[str], kernel: str) -> Booted:
    params: dict[str, str | int] = {**UNREAD}
    files: dict[str, str] = {}
    rest = []
    for line in lines:
        kind, _, text = line.partition(" ")
        if kind == "SYSFS":
            file, _, says = text.partition(" ")
            files[file] = says
        elif kind == "CMDLINE":
            params["cmdline"] = text
        elif kind == "RDMSR":
            index, value = text.split()
            params[f"msr.{index}"] = value if value == "absent" else int(value, 16)
        elif kind == "PLAYED":
            params |= {
                f"msr.{index}": int(value, 16) for index, value in re.findall(r"msr\.([0-9a-f]+)=([0-9a-f]+)", text) if index != WRITTEN
            }
        elif kind not in ("HOST", "SMP", "SMT"):
            rest.append(line)
    return Booted(parse_snapshot(rest, name), params, files)


def origin(case: tuple[str, str]) -> dict[str, str | None]:
    kernel, name = case
    host = read(kernel)[name].host
    return {"kernel": host.kernel, "qemu": None, "vendor": host.vendor}


CASES = [(kernel, name) for kernel in captures.names("vulnerabilities") for name in read(kernel)]


@pytest.mark.conformance("vulnerabilities", origin)
@pytest.mark.parametrize("case", CASES, ids="@".join)
def test_sysfs_says_what_the_kernel_said(case: tuple[str, str]) -> None:
    kernel, name = case
    booted = read(kernel)[name]
    assert vulnerabilities(booted.host, booted.host.kernel, booted.params) == booted.files


@pytest.mark.conformance("/proc/cpuinfo", origin)
@pytest.mark.parametrize("case", CASES, ids="@".join)
def test_cpuinfo_is_what_the_kernel_printed(case: tuple[str, str]) -> None:
    kernel, name = case
    booted = read(kernel)[name]
    found = cpuinfo(booted.host, booted.host.kernel, booted.params)
    for line in ("flags", "bugs"):
        ours, theirs = list(getattr(found, line)), booted.host.cpuinfo.get(line, "").split()
        assert [name for name in ours if name not in NOT_EMULATED] == [name for name in theirs if name not in NOT_EMULATED]


def test_every_file_was_seen_to_say_several_things() -> None:
    """A file of which all captures say the same would prove little."""
    said: dict[str, set[str]] = {}
    for kernel, name in CASES:
        for file, says in read(kernel)[name].files.items():
            said.setdefault(file, set()).add(says)
    assert {file for file, texts in said.items() if len(texts) < 2} <= {"ghostwrite"}
