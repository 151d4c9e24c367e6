"""Asks a QEMU on this machine: a small client of the QEMU Machine Protocol, over the program's standard input and output.

The only module of this package that starts a program. It never runs a guest: QEMU is started stopped, without devices.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from vcpuid.errors import QemuError, UnavailableError

DEFAULT_PROGRAM = ("qemu-system-x86_64",)
_LINE_LIMIT = 1 << 24
"""Characters of a message; the longest that QEMU sends has some hundred thousand."""
_QUIET = ("-display", "none", "-nodefaults", "-vga", "none", "-S", "-qmp", "stdio")


class Qmp:
    """One QEMU process that answers questions; use it in a `with` statement.

    `program` is the command that starts QEMU (a list, so that a wrapper such as chroot fits), `machine` the machine type, `cpu` the -cpu
    argument, `accel` "kvm", "tcg" or "qtest". Raises UnavailableError where the program is missing and QemuError where it refuses to start.
    """

    def __init__(
        self,
        program: Sequence[str] = DEFAULT_PROGRAM,
        *,
        machine: str = "q35",
        cpu: str | None = None,
        accel: str = "kvm",
        arguments: Sequence[str] = (),
    ) -> None:
        import subprocess
        import tempfile

        pipe = subprocess.PIPE
        command = [*program, "-M", machine, "-accel", accel, *(("-cpu", cpu) if cpu else ()), "-m", "64", *arguments, *_QUIET]
        try:
            # A file, not a pipe: nobody reads it while QEMU runs, and a full pipe would stop it.
            self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  (closed with the process)
        except OSError as error:
            raise UnavailableError(f"no temporary file for what {program[0]} says: {error.strerror}") from None
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=self._errors, encoding="utf-8", errors="backslashreplace", process_group=0
            )
        except BaseException as error:
            self._errors.close()
            if isinstance(error, OSError):
                raise UnavailableError(f"cannot start {program[0]}: {error.strerror}") from None
            raise
        try:
            self.version: dict[str, Any] = self._read("QMP")["version"]
            self.ask("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def _read(self, key: str) -> Any:
        assert self._process.stdout is not None  # a pipe
        while line := self._process.stdout.readline(_LINE_LIMIT):
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict):
                raise QemuError(f"it says what is no QMP: {line[:40].strip()!r}")
            if key in message:
                return message[key]
            if "error" in message:
                raise QemuError(message["error"]["desc"])
        raise QemuError(self._last_words() or "QEMU ended without a word")

    def _last_words(self) -> str:
        """Return the last thing that QEMU printed: a line that names the program, with those that continue it."""
        found: list[str] = []
        for line in self.errors():
            _, named, text = line.partition("qemu-system-x86_64: ")
            found = [text] if named else [*found, line]
        return "\n".join(found)

    def errors(self) -> list[str]:
        """Return the lines that QEMU has printed on its standard error so far: warnings, and why it ended."""
        self._errors.seek(0)
        return self._errors.read().splitlines()

    def ask(self, command: str, **arguments: Any) -> Any:
        """Run one QMP command and return its result; raises QemuError with QEMU's own words where it fails."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and what it said last is still to be read
            self._process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        return self._read("return")

    def expand(self, model: str, properties: dict[str, Any] | None = None, kind: str = "full") -> dict[str, Any]:
        """Return the properties of a CPU model as query-cpu-model-expansion gives them."""
        answer = self.ask("query-cpu-model-expansion", type=kind, model={"name": model, "props": properties or {}})
        expanded: dict[str, Any] = answer["model"]["props"]
        return expanded

    def close(self) -> None:
        """End the process, and with it those that a wrapper has started; what it has still to say is not read."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(BrokenPipeError):  # of what was not written yet
                if stream is not None:
                    stream.close()

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()
