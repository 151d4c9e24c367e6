"""Runs a real QEMU on this machine's /dev/kvm under kvmshim.c, which plays it a host out of a file.

No guest instruction is run: QEMU starts stopped.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

from emulated import Emulator, FailedError, build
from vcpuid.errors import UnavailableError

START_UP = 0x10000
"""A program's start-up code asks CPUID to choose string functions and the like, in the first bytes of its text."""

SECONDS = 60

_QUIET = ("-display", "none", "-nodefaults", "-vga", "none", "-S")


def cpuid_sites(binary: Path) -> list[int]:
    """Give the offsets of a binary's CPUID instructions. Raises UnavailableError without objdump."""
    try:
        text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", binary], capture_output=True, text=True, check=True).stdout
    except OSError as error:
        raise UnavailableError(f"objdump: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"objdump cannot read {binary}: {error.stderr.strip()}") from None
    return [int(line.split(":")[0], 16) for line in text.splitlines() if line.split()[-1:] == ["cpuid"]]


def program_sites(binary: Path) -> list[int]:
    """Give those of a program that ask about the host: not its start-up code's."""
    found = cpuid_sites(binary)
    return [site for site in found if site - found[0] > START_UP]


class Player:
    """A QEMU with the shim in it; use it in a `with` statement. Raises UnavailableError where KVM, QEMU, gcc or objdump is lacking."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise UnavailableError("no usable /dev/kvm")
        self.version = emulator.version()
        self._folder = emulator.folder()
        self._work = Path(self._folder.name)

    def __enter__(self) -> Player:
        build("kvmshim.c", self._work / "kvmshim.so", "-shared", "-fPIC")
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._folder.cleanup()

    @cached_property
    def _sites(self) -> str:
        """Disassembling QEMU takes a few seconds, so this is done once."""
        return ",".join(f"{site:x}" for site in program_sites(self.emulator.binary()))

    def command(self, host: Sequence[str]) -> list[str]:
        """Give the command that starts QEMU on the host that these RAW, SUP, MSR and HV lines describe, before its arguments."""
        (self._work / "host").write_text("".join(f"{line}\n" for line in host), encoding="utf-8")
        (self._work / "out").unlink(missing_ok=True)
        inside = self.emulator.inside(self._work)
        shim = [
            f"LD_PRELOAD={inside}/kvmshim.so",
            f"KVMSHIM_HOST={inside}/host",
            f"KVMSHIM_OUT={inside}/out",
            f"KVMSHIM_SITES={self._sites}",
        ]
        *root, program = self.emulator.command()
        return [*root, "env", *shim, program]

    def start(self, host: Sequence[str], cpu: str, machine: str, smp: str, more: Sequence[str] = ()) -> Started:
        """Start QEMU with these -cpu, -M and -smp arguments, and end it once its vCPUs are made. Raises FailedError where it hangs."""
        command = self.command(host)
        arguments = ["-M", machine, "-accel", "kvm", "-cpu", cpu, "-smp", smp, "-m", "128", *more, *_QUIET, "-monitor", "stdio"]
        try:
            done = subprocess.run([*command, *arguments], input=b"quit\n", capture_output=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise FailedError(f"QEMU did not end in {SECONDS} s with -cpu {cpu}") from None
        vcpus: list[list[str]] = []
        if (self._work / "out").exists():
            for line in (self._work / "out").read_text(encoding="utf-8").splitlines():
                if line.startswith("VCPU"):
                    vcpus.append([])
                else:
                    vcpus[-1].append(line.removeprefix("SET "))
        return Started(done.returncode, done.stderr.decode(errors="replace").splitlines(), vcpus)


class Started:
    """How a start went: exit status, lines on standard error, and each vCPU's entries as they were handed to KVM_SET_CPUID2."""

    def __init__(self, rc: int, stderr: list[str], vcpus: list[list[str]]) -> None:
        self.rc, self.stderr, self.vcpus = rc, stderr, vcpus
