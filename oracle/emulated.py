"""Boots a stock kernel under QEMU's software emulation (TCG) and runs one C program of this folder in it.

The guest is an initrd made by tools/boot_guest.py's `Initrd`: init.c, the program, and kvm_amd with the modules that it needs. QEMU
emulates AMD's SVM and not Intel's VMX, so that the guest's KVM is kvm_amd, and the CPU must be AMD's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vcpuid.errors import UnavailableError, VcpuidError

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parent / "tools"))

import boot_guest  # noqa: E402  (a tool's module: found by the line above)

BOOTS = 3
"""How often a guest is booted that panics. QEMU 7.2's emulation now and then goes on with a wrong RFLAGS after CMPXCHG16B, which ends in a
double fault: about one boot in five. 10.0 and 11.1 have not shown it."""

COMMAND_LINE = "console=ttyS0 quiet panic=-1 loglevel=3 mitigations=off"
SECONDS = 120


class FailedError(VcpuidError):
    """QEMU or its guest ended before the capture was whole."""

    exit_status = 5


class Emulator:
    """A QEMU: `program` by name or path, inside the root `root` where that is given (as `debian-suites.sh root` makes them)."""

    def __init__(self, program: str = "qemu-system-x86_64", root: Path | None = None) -> None:
        self.program, self.root = program, root.resolve() if root else None

    def command(self) -> list[str]:
        """Give the command that starts it, before its arguments."""
        return ["chroot", str(self.root), self.program] if self.root else [self.program]

    def version(self) -> str:
        """Ask for the release, such as 11.1.3. Raises UnavailableError where there is no such QEMU."""
        try:
            told = subprocess.run([*self.command(), "--version"], capture_output=True, text=True)
        except OSError as error:
            raise UnavailableError(f"{self.command()[0]}: {error.strerror}") from None
        match = re.search(r"version (\d+(?:\.\d+)+)", told.stdout)
        if match is None:
            raise UnavailableError(f"{' '.join(self.command())} is no QEMU: {(told.stderr or told.stdout).strip()[:200]}")
        return match[1]

    def binary(self) -> Path:
        """Find the program's file. Raises UnavailableError."""
        if self.root:
            path = self.root / (self.program if "/" in self.program else f"usr/bin/{self.program}").lstrip("/")
            located = str(path) if path.exists() else None
        else:
            located = shutil.which(self.program)
        if located is None:
            raise UnavailableError(f"no program {' '.join(self.command())}")
        return Path(located).resolve()

    def folder(self) -> tempfile.TemporaryDirectory[str]:
        """Make a folder that QEMU can read."""
        return tempfile.TemporaryDirectory(dir=self.root / "tmp" if self.root else None)

    def inside(self, path: Path) -> str:
        """Name a file as QEMU sees it."""
        return f"/{path.relative_to(self.root)}" if self.root else str(path)


def build(source: str, program: Path, *flags: str) -> None:
    """Compile a C file of this folder. Raises UnavailableError without a compiler, or where it refuses."""
    command = ["gcc", "-O1", *flags, "-o", str(program), str(FOLDER / source)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise UnavailableError(f"gcc: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"gcc cannot build {source}: {error.stderr.strip()}") from None


def modules(kernel: Path, name: str) -> dict[str, bytes]:
    """Read a module of this kernel and those that it needs, each after what it needs itself. Raises UnavailableError."""
    try:
        content = boot_guest.module(kernel, name)
    except boot_guest.Lacking as lack:
        raise UnavailableError(f"lacking: {lack}") from None
    needed: dict[str, bytes] = {}
    told = re.search(rb"\0depends=([\w,-]*)\0", content)  # of the section .modinfo; what is built in is not in it
    for other in told[1].decode().split(",") if told and told[1] else []:
        needed |= modules(kernel, other.replace("_", "-"))
    return {**needed, name: content}


def run(emulator: Emulator, kernel: Path, cpu: str, source: str) -> list[str]:
    """Boot `kernel` on the CPU that QEMU's -cpu argument describes, run the C file `source` there, and give what they print.

    The lines begin with KERNEL, the release, and CPUINFO, lines of /proc/cpuinfo. Raises UnavailableError where anything is lacking,
    FailedError where the guest did not come to its end.
    """
    with emulator.folder() as folder:
        work = Path(folder)
        initrd = initrd_of(kernel, "kvm-amd", source, work)
        return run_guest(emulator, emulator.command(), kernel, initrd, work, ["-accel", "tcg", "-cpu", cpu], COMMAND_LINE)


def run_guest(
    emulator: Emulator, command: list[str], kernel: Path, initrd: boot_guest.Initrd, work: Path, arguments: list[str], append: str
) -> list[str]:
    """Boot `kernel` with `append` and give what the guest prints; `command` starts QEMU, and `work` is a folder that it can read."""
    (work / "initrd").write_bytes(initrd.pack())
    shutil.copy(kernel, work / "kernel")
    bare = ["-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]
    files = ["-kernel", emulator.inside(work / "kernel"), "-initrd", emulator.inside(work / "initrd"), "-append", append]
    for _ in range(BOOTS):
        console = _console([*command, *arguments, *bare, *files])
        if "Kernel panic" not in console:
            break
    return captured(console)


def initrd_of(kernel: Path, module: str, source: str, work: Path) -> boot_guest.Initrd:
    """Pack init.c, the C file `source` and a module with those that it needs; `work` is where programs may be built."""
    initrd = boot_guest.Initrd()
    for number, (name, content) in enumerate(modules(kernel, module).items()):
        initrd.add(f"modules/{number}-{name}.ko", content)
    initrd.add_folder("proc")
    for file, name in (("init.c", "init"), (source, "capture")):
        build(file, work / name, "-static")
        initrd.add(name, (work / name).read_bytes())
    return initrd


def captured(console: str) -> list[str]:
    """Give the lines of a console that are the capture. Raises FailedError where it is not whole."""
    lines = console.replace("\r", "").splitlines()
    begin = next((number for number, line in enumerate(lines) if line.startswith("KERNEL ")), len(lines))
    if "CAPTURED" not in lines[begin:]:
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        raise FailedError(f"the guest did not come to its end; the last line on its console: {last}")
    return lines[begin : lines.index("CAPTURED", begin)]


def _console(command: list[str]) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS)
    except OSError as error:
        raise UnavailableError(f"{command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace")
    return done.stdout.decode(errors="replace")
