"""Asks a QEMU on this machine: a small client of the QEMU Machine Protocol, over the program's standard input and output.

The only module of this package that starts a program. It never runs a guest: QEMU is started stopped, without devices.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from vcpuid.errors import QemuError, UnavailableError

DEFAULT_PROGRAM = ("qemu-system-x86_64",)
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

        command = [*program, "-M", machine, "-accel", accel, *(("-cpu", cpu) if cpu else ()), "-m", "64", *arguments, *_QUIET]
        # A file, not a pipe: nobody reads it while QEMU runs, and a full pipe would stop it.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the process)
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True)
        except OSError as error:
            self._errors.close()
            raise UnavailableError(f"cannot start {program[0]}: {error.strerror}") from None
        try:
            self.version: dict[str, Any] = self._read("QMP")["version"]
            self.ask("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def _read(self, key: str) -> Any:
        assert self._process.stdout is not None  # a pipe
        for line in self._process.stdout:
            message = json.loads(line)
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
        self._process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        return self._read("return")

    def expand(self, model: str, properties: dict[str, Any] | None = None, kind: str = "full") -> dict[str, Any]:
        """Return the properties of a CPU model as query-cpu-model-expansion gives them."""
        answer = self.ask("query-cpu-model-expansion", type=kind, model={"name": model, "props": properties or {}})
        expanded: dict[str, Any] = answer["model"]["props"]
        return expanded

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()
