"""The collector run on other machines, by the user's own ssh: many at a time, each within a time and a size of its own.

What arrives is cut out between two marks, so that neither a shell's greeting nor a line cut off by a lost connection is taken for a
snapshot. Nothing asks for a password (BatchMode); whom to trust is for the user's own configuration to say.
"""

from __future__ import annotations

import os
import secrets
import selectors
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, NamedTuple

from vcpuid.errors import InputError, UnavailableError
from vcpuid.fleet.targets import Target
from vcpuid.sources import collector_script

JOBS, SECONDS = 16, 60.0
"""How many hosts are asked at a time, and how long each may take, unless somebody says otherwise."""

_MOST = 1 << 21
"""Bytes that a host may write: a snapshot has some tens of thousands."""

_TAIL = 1 << 14
"""Bytes that are kept of what is told on standard error; the last line tells why it failed."""

_AT_A_TIME = 1 << 16
_TICK = 0.05
_GRACE = 1.0
"""Seconds for a child to end when it is told to, and for its pipes to end after it: a process that ssh left behind may hold them."""

_OPTIONS = ("BatchMode=yes", "ClearAllForwardings=yes", "ControlMaster=no", "RemoteCommand=none")
"""ssh's own options: ask nobody, forward nothing, leave no process behind, run what is said here."""

_SAYS = "vcpuid_collect: "
_SHOWN = 200
_SSH_FAILED = 255
"""ssh's exit status for errors of its own."""


@dataclass(frozen=True)
class Way:
    """How hosts are asked: ssh's command with options of the user's, as a shell has it, and whether the collector is root there."""

    ssh: str = "ssh"
    sudo: bool = False
    jobs: int = JOBS
    seconds: float = SECONDS

    def command(self, target: Target) -> list[str]:
        """Return the command that runs a Python of the host's, which reads its program from standard input.

        Python is told to be on its own (-I): in the home folder may lie modules that are called like the standard library's. Raises
        InputError where ssh's command cannot be read.
        """
        try:
            words = shlex.split(self.ssh)
        except ValueError as error:
            raise InputError(f"--ssh {self.ssh[:60]!r}: {error}") from None
        if not words:
            raise InputError("--ssh names no command")
        options = [word for option in _OPTIONS for word in ("-o", option)]
        return [*words, *options, "-T", target.address, "sudo -n python3 -I -" if self.sudo else "python3 -I -"]


class Reply(NamedTuple):
    """What a host answered: the snapshot's text, or why there is none."""

    target: Target
    snapshot: bytes | None = None
    why: str = ""


class _Marks(NamedTuple):
    begin: bytes
    end: bytes

    @classmethod
    def new(cls) -> _Marks:
        token = f"vcpuid-{secrets.token_hex(8)}"
        return cls(f"\n{token} begins\n".encode(), f"\n{token} ends\n".encode())

    def program(self) -> bytes:
        """Return what a host's Python is given, in ASCII, since its locale may be any: the collector between the marks.

        Of the second there is none where the collector fails. Old Pythons must be able to read it.
        """
        return f"""\
import os, sys
if sys.version_info < (3, 8):
    sys.exit("Python %d.%d is too old: the collector needs 3.8" % sys.version_info[:2])
os.write(1, {self.begin!a})
try:
    exec(compile({collector_script()!a}, "vcpuid_collect", "exec"))
except SystemExit as ended:
    if not ended.code:
        os.write(1, {self.end!a})
    raise
""".encode("ascii")


def ask(targets: Iterable[Target], way: Way | None = None) -> Generator[Reply]:
    """Ask hosts, and give what each answers as it comes; closing the generator ends what is under way.

    Raises InputError where ssh's command makes no sense, UnavailableError where it cannot be run.
    """
    way = way or Way()
    marks = _Marks.new()
    waiting, running = iter(targets), set[_Asking]()
    with tempfile.NamedTemporaryFile() as program, selectors.DefaultSelector() as selector:
        program.write(marks.program())
        program.flush()
        try:
            more = True
            while more or running:
                while more and len(running) < way.jobs:
                    target = next(waiting, None)
                    if target is None:
                        more = False
                    elif target.refused:
                        yield Reply(target, why=target.refused)
                    else:
                        running.add(_Asking(target, way, program.name, selector))
                for key, _ in selector.select(_TICK):
                    key.data.take(key.fileobj)
                for call in [call for call in running if call.is_over()]:
                    running.discard(call)
                    call.close()
                    yield call.reply(marks)
        finally:
            _end(running)
            for call in running:
                call.close()


class _Asking:
    """One host being asked."""

    def __init__(self, target: Target, way: Way, program: str, selector: selectors.BaseSelector) -> None:
        self.target, self._selector, self._way = target, selector, way
        command = way.command(target)
        try:
            with open(program, "rb") as script:
                # In a session of its own: a Ctrl-C is for vcpuid, which ends it, and nothing of it can ask the terminal.
                self.process = subprocess.Popen(
                    command, stdin=script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
                )
        except (OSError, ValueError) as error:
            raise UnavailableError(f"{command[0]}: cannot be run: {getattr(error, 'strerror', None) or error}") from None
        self._deadline = time.monotonic() + way.seconds
        self._ended: float | None = None
        self._out, self._err = bytearray(), bytearray()
        self._why = ""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._open: dict[IO[bytes], bytearray] = {self.process.stdout: self._out, self.process.stderr: self._err}
        for pipe in self._open:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, self)

    def take(self, pipe: IO[bytes]) -> None:
        """Read what a pipe has."""
        try:
            data = os.read(pipe.fileno(), _AT_A_TIME)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._shut(pipe)
            return
        kept = self._open[pipe]
        kept += data
        if kept is self._err:
            del kept[:-_TAIL]
        elif len(kept) > _MOST:
            self._why = f"more than {_MOST >> 20} MiB came: no snapshot is that large"

    def _shut(self, pipe: IO[bytes]) -> None:
        self._selector.unregister(pipe)
        del self._open[pipe]
        pipe.close()

    def is_over(self) -> bool:
        """Whether nothing more is to be waited for: it has ended, or its time or room is used up."""
        now = time.monotonic()
        if not self._why and now > self._deadline:
            self._why = f"no answer within {self._way.seconds:g} seconds"
        if self._why:
            return True
        if self.process.poll() is None:
            return False
        self._ended = self._ended or now
        return not self._open or now > self._ended + _GRACE

    def close(self) -> None:
        """End it if it runs still, and its pipes."""
        _end([self])
        for pipe in list(self._open):
            self._shut(pipe)

    def reply(self, marks: _Marks) -> Reply:
        """Return the snapshot that came as a whole, else why none did."""
        before, begun, rest = bytes(self._out).partition(marks.begin)
        snapshot, ended, _ = rest.partition(marks.end)
        if ended and not self._why:
            return Reply(self.target, snapshot=snapshot)
        return Reply(self.target, why=self._why or self._cause(before, bool(begun)))

    def _cause(self, before: bytes, begun: bool) -> str:
        status = self.process.returncode
        told = _last_line(self._err, ssh_failed=status == _SSH_FAILED) or _last_line(before)
        if told.startswith(_SAYS):
            return told.removeprefix(_SAYS)
        if begun:
            return f"the snapshot broke off: {told or _ending(status)}"
        if status:
            return told or _ending(status)
        return f"the collector was not run; said was: {told}" if told else "the collector was not run, and nothing was said"


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return f"ssh was ended by signal {-status}"
    return f"ssh ended with exit status {status}"


def _last_line(data: bytes | bytearray, ssh_failed: bool = False) -> str:
    """Return the last line that says something, cut, and with nothing in it that a terminal obeys.

    The collector's own come before others, but not where ssh says that the connection failed: then they are of what went well.
    """
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    spoken = [line for line in lines if line]
    ours = [line for line in spoken if line.startswith(_SAYS) and not ssh_failed]
    text = (ours or spoken or [""])[-1]
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return clean if len(clean) <= _SHOWN else f"{clean[:_SHOWN]}…"


def _end(calls: Iterable[_Asking]) -> None:
    """End children that run, with what they have started: first they are told to, then they are made to."""
    running = [call.process for call in calls if call.process.poll() is None]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in running:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        until = time.monotonic() + _GRACE
        while running and time.monotonic() < until:
            running = [process for process in running if process.poll() is None]
            time.sleep(_TICK / 5 if running else 0)
