"""The command line: in this process, which is quick, or as a program of its own, which is what users run."""

from __future__ import annotations

import gc
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import click
import pytest

from vcpuid.cli import main


class Done(NamedTuple):
    """What a run came to."""

    returncode: int
    stdout: str
    stderr: str


def vcpuid(
    *args: str,
    stdin: str | bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int | None = None,
    encoding: str = "utf-8",
) -> Done:
    """Run `vcpuid ARGS` in this process, from its `main` on, with descriptors of its own under the three streams.

    `env` comes on top of this process's environment. `stdout` is the descriptor to write to; without one, what is written is kept.
    `encoding` is standard output's, a codec and perhaps its errors ("ascii:strict"). Each command that is printed as the one that was meant
    is run as well: it must be one.
    """
    done = _run(args, stdin, cwd, env, stdout, encoding)
    for words in meant(done.stderr):
        pasted = _run(words, stdin, cwd, env, None, encoding)
        assert pasted.returncode != USAGE, f"{args} is answered with vcpuid {words}, and that with: {pasted.stderr}"
        assert not [*meant(pasted.stderr)], pasted.stderr
    return done


USAGE = 2
"""The exit status of a command line that is wrong."""


def meant(told: str) -> Iterator[tuple[str, ...]]:
    """Give the words of each command that is asked about as a whole; "Did you mean vcpuid VERB" names a verb alone."""
    for question in re.findall(r": did you mean (vcpuid [^\n]*)\?$", told, re.MULTILINE):
        for command in question.split(" or vcpuid "):
            yield tuple(shlex.split(command.removeprefix("vcpuid ")))


def _run(
    args: Sequence[str], stdin: str | bytes, cwd: Path | None, env: Mapping[str, str] | None, stdout: int | None, encoding: str
) -> Done:
    codec, _, errors = encoding.partition(":")
    data = stdin.encode() if isinstance(stdin, str) else stdin
    with ExitStack() as held:
        out, err = held.enter_context(tempfile.TemporaryFile()), held.enter_context(tempfile.TemporaryFile())
        held.enter_context(_streams(data, out.fileno() if stdout is None else stdout, err.fileno(), codec, errors or "strict"))
        held.enter_context(patch.object(sys, "argv", ["vcpuid", *args]))
        held.enter_context(patch.dict(os.environ, env or {}))
        held.enter_context(warnings.catch_warnings())
        held.enter_context(_collector_as_it_was())
        if cwd is not None:
            held.enter_context(chdir(cwd))
        status = _status()
        for file in (out, err):
            file.seek(0)
        return Done(status, out.read().decode(codec), err.read().decode())


def _status() -> int:
    """Run `main`, flush what it left unwritten, and give its exit status."""
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.stderr.flush()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@contextmanager
def _streams(stdin: bytes, stdout: int, stderr: int, encoding: str, errors: str) -> Iterator[None]:
    """Put a process's standard streams in place, the interpreter's own among them: `streams.guard` wraps no others."""
    with (
        io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8") as read,
        open(stdout, "w", encoding=encoding, errors=errors, closefd=False) as write,
        open(stderr, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False) as tell,
        patch.multiple(sys, stdin=read, stdout=write, __stdout__=write, stderr=tell, __stderr__=tell),
    ):
        yield


@contextmanager
def _collector_as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def program(*args: str, env: Mapping[str, str] | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `python -m vcpuid ARGS` as a process; `more` goes to subprocess.run, `env` comes on top of this process's environment."""
    command = [sys.executable, "-m", "vcpuid", *args]
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL} if "input" not in more else {}
    settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "timeout": 60, **more}
    return subprocess.run(command, env={**os.environ, "PYTHONUTF8": "1", **(env or {})}, **settings)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb, and those below it, with the words that it is called by."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
