"""A program in ssh's place, which answers for each host as a test says: what no real server does on demand."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from support.captures import lines

_SCRIPT = """\
#!{python} -SI
import os, re, signal, sys, time
options, host, command = sys.argv[1:-2], sys.argv[-2], sys.argv[-1]
program = sys.stdin.buffer.read()
begin, end = (b"\\n" + mark + b"\\n" for mark in re.findall(rb"vcpuid-[0-9a-f]{{16}} (?:begins|ends)", program))
def out(data):
    while data:
        data = data[os.write(1, data):]
def err(data):
    os.write(2, data)
exec(compile({hosts!r}[host], host, "exec"))
"""


def fake_ssh(folder: Path, hosts: Mapping[str, str]) -> str:
    """Write the program, and return the command for --ssh.

    `hosts` has by address what happens, as Python code: it has ssh's `options` and `command`, the `program` that the host was given, the
    marks `begin` and `end`, and `out` and `err` to write with.
    """
    script = folder / "ssh of a test"
    script.write_text(_SCRIPT.format(python=sys.executable, hosts=dict(hosts)), encoding="utf-8")
    script.chmod(0o755)
    return shlex.quote(str(script))


def snapshot(name: str) -> bytes:
    """What a captured machine would send."""
    return "".join(f"{line}\n" for line in lines(name)).encode()


def answers(name: str) -> str:
    """Code of a host that answers with the snapshot of a captured machine."""
    return f"out(begin + {snapshot(name)!r} + end)"
