"""Boot a Linux kernel in QEMU with an initrd made here, show its console, and tell whether the first process lived.

    tools/boot_guest.py --kernel vmlinuz --cpu max,x-force-features=on,+rtm

The first process is guest_init.c, linked with this machine's C library: it dies where CPUID promises what the processor does not execute.
Needs QEMU, gcc and a kernel image, neither root nor the network. The kernel image must have what distributions build in: initrd, devtmpfs,
the serial console. Exit status 0 where init lived, 1 where it died, 4 where something is lacking or the guest did not end in its time.

With `--accel nested`, a guest of QEMU's emulator runs the kernel's own kvm_amd, and QEMU in there boots the same kernel on it: a stock KVM
on any machine, slowly. The outer QEMU (`--qemu`) must let KVM see XSETBV, as 10.0 does and 7.2 does not.

As a module: `Initrd` packs files and programs, `boot` runs a kernel on one and gives its console's text; `crash_initrd` and `host_initrd`
make the two that are used here.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
QEMU = "qemu-system-x86_64"
NESTING = "max,+svm,+npt"
"""The CPU of a guest that runs KVM."""

LIVED, DIED = "init: lives", "Attempted to kill init"
_MODULES = ("irqbypass", "kvm", "kvm-amd")
_FIRMWARE = ("bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin")
_UNPACK = {".xz": "xz", ".zst": "zstd", ".gz": "gzip"}


class Lacking(Exception):
    """Something that a guest needs is not on this machine: the message says what."""


class Initrd:
    """The files of an initial RAM disk, put in a cpio archive of the form that the kernel reads (newc)."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, tuple[int, int], bytes]] = {}
        self._put("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1))

    def add(self, path: str | Path, content: bytes, mode: int = 0o755) -> None:
        """Add a regular file, and the folders that lead to it."""
        self._put(str(path).lstrip("/"), stat.S_IFREG | mode, content, (0, 0))

    def add_program(self, path: str | Path, program: Path) -> None:
        """Add a program or a shared object as `path`, and the shared libraries that it needs where they are on this machine."""
        self.add(path, program.read_bytes())
        listing = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listing):
            self.add(library, Path(library).read_bytes())

    def add_folder(self, path: str) -> None:
        """Add a folder, to mount something on."""
        self._put(path, stat.S_IFDIR | 0o755, b"", (0, 0))

    def pack(self) -> bytes:
        """Give the archive, compressed."""
        parts = [_member(name, number, *self._files[name]) for number, name in enumerate(sorted(self._files), 1)]
        return gzip.compress(b"".join([*parts, _member("TRAILER!!!", 0, 0, (0, 0), b"")]), 1)

    def _put(self, path: str, mode: int, content: bytes, device: tuple[int, int]) -> None:
        for folder in list(Path(path).parents)[:-1]:
            self._files.setdefault(str(folder), (stat.S_IFDIR | 0o755, (0, 0), b""))
        self._files[path] = (mode, device, content)


def _member(name: str, number: int, mode: int, device: tuple[int, int], content: bytes) -> bytes:
    """One file of the archive: a header of hexadecimal fields, the name, the content, the latter two padded to 4 bytes."""
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def crash_initrd(libraries: bool = True) -> bytes:
    """Build guest_init.c into an initrd; with `libraries` false, linked statically. Raises Lacking without a C compiler or library."""
    initrd = Initrd()
    # -fno-builtin: call the library's functions, as the compiler would otherwise put in its own code or compute the answers.
    _add_init(initrd, "guest_init.c", "-fno-builtin", *(() if libraries else ("-static",)))
    return initrd.pack()


def host_initrd(kernel: Path, initrd: bytes, *, cpu: str, qemu: str = QEMU, append: str = "") -> bytes:
    """Make an initrd that loads this kernel's kvm_amd and boots the kernel with `initrd` on it, by a QEMU that is in there, too.

    `qemu` must be the program itself. Raises Lacking without QEMU, a C compiler or KVM's modules for this kernel.
    """
    host = Initrd()
    _add_init(host, "guest_host.c")
    host.add_folder("proc")
    add_inner(host, kernel, initrd, qemu)
    command = [f"/bin/{QEMU}", "-L", "/firmware", *_arguments("/kernel", "/initrd", cpu, "kvm", append, memory=256)]
    host.add("command", "\n".join(command).encode())
    return host.pack()


def add_inner(host: Initrd, kernel: Path, initrd: bytes, qemu: str = QEMU) -> None:
    """Add what a guest needs to boot the kernel with `initrd` on its own KVM: QEMU, its firmware, kvm_amd, and both as files.

    They are /bin/qemu-system-x86_64, /firmware, /modules, /kernel and /initrd. Raises Lacking as `host_initrd` does.
    """
    program = shutil.which(qemu)
    if program is None:
        raise Lacking(f"{qemu} to put in the guest")
    host.add_program(f"bin/{QEMU}", Path(program))
    for folder in subprocess.run([program, "-L", "help"], check=True, capture_output=True, text=True).stdout.splitlines():
        for file in (Path(folder, name) for name in _FIRMWARE):
            if file.exists():
                host.add(f"firmware/{file.name}", file.read_bytes())
    for name in _MODULES:
        host.add(f"modules/{name}.ko", module(kernel, name))
    host.add("kernel", kernel.read_bytes())
    host.add("initrd", initrd)


def _add_init(initrd: Initrd, source: str, *flags: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "init")
        try:
            subprocess.run(["gcc", "-O1", *flags, "-o", program, FOLDER / source], check=True, capture_output=True, text=True)
        except OSError as error:
            raise Lacking(f"gcc: {error.strerror}") from None
        except subprocess.CalledProcessError as error:
            raise Lacking(f"gcc cannot build {source}: {error.stderr.strip()}") from None
        initrd.add_program("init", program)


def find_kernel() -> Path:
    """Find a kernel image: the running release's, else the last by name of those installed. Raises Lacking where there is none to read."""
    release = platform.release()
    named = [Path(f"/boot/vmlinuz-{release}"), Path(f"/lib/modules/{release}/vmlinuz")]
    installed = sorted([*Path("/boot").glob("vmlinuz-*"), *Path("/lib/modules").glob("*/vmlinuz")], reverse=True)
    for image in (*named, *installed):
        if os.access(image, os.R_OK):
            return image
    raise Lacking("no readable kernel image in /boot or /lib/modules")


def module(kernel: Path, name: str) -> bytes:
    """Read a module of this kernel, unpacked. Its modules are beside the image, or in lib/modules beside its folder. Raises Lacking."""
    if kernel.name == "vmlinuz":
        folders = [kernel.parent]
    else:
        release = kernel.name.removeprefix("vmlinuz-")
        folders = [kernel.parent.parent / lib / "modules" / release for lib in ("lib", "usr/lib")]
    for folder in folders:
        for file in folder.rglob(f"{name}.ko*"):
            tool = _UNPACK.get(file.suffix)
            if tool is None:
                return file.read_bytes()
            if shutil.which(tool) is None:
                raise Lacking(f"{tool} to unpack {file.name}")
            return subprocess.run([tool, "-dc", file], check=True, capture_output=True).stdout
    raise Lacking(f"no module {name} for {kernel}")


def boot(
    kernel: Path,
    initrd: bytes,
    *,
    cpu: str,
    qemu: str = QEMU,
    accel: str = "tcg",
    append: str = "",
    memory: int = 512,
    seconds: float = 120,
) -> str:
    """Run QEMU until the guest ends, and give what it and the guest's console printed; what there is of it, where time ran out.

    `cpu` and `accel` are QEMU's options, `append` more of the kernel's command line, `memory` is in MiB. Raises Lacking without QEMU.
    """
    with tempfile.NamedTemporaryFile(suffix=".cpio.gz") as file:
        file.write(initrd)
        file.flush()
        command = [qemu, *_arguments(str(kernel), file.name, cpu, accel, append, memory)]
        try:
            output = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds
            ).stdout
        except OSError as error:
            raise Lacking(f"{qemu}: {error.strerror}") from None
        except subprocess.TimeoutExpired as late:
            output = late.stdout or b""
    return output.decode(errors="replace").replace("\r", "")


def boot_nested(
    kernel: Path, initrd: bytes, *, cpu: str, qemu: str = QEMU, inner_qemu: str = QEMU, append: str = "", seconds: float = 300
) -> str:
    """Boot the kernel on its own KVM: as `boot`, in a guest that `host_initrd` makes of `inner_qemu`."""
    host = host_initrd(kernel, initrd, cpu=cpu, qemu=inner_qemu, append=append)
    return boot(kernel, host, cpu=NESTING, qemu=qemu, append="quiet", memory=1024, seconds=seconds)


def _arguments(kernel: str, initrd: str, cpu: str, accel: str, append: str, memory: int) -> list[str]:
    machine = f"-accel {accel} -m {memory} -nodefaults -display none -serial stdio -no-reboot".split()
    return ["-cpu", cpu, *machine, "-kernel", kernel, "-initrd", initrd, "-append", f"console=ttyS0 panic=-1 {append}".rstrip()]


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Boot a kernel in QEMU and tell whether its first process lived.")
    parser.add_argument("--kernel", type=Path, help="kernel image (default: one that is installed)")
    parser.add_argument("--qemu", default=QEMU, help="QEMU's binary (default: %(default)s)")
    parser.add_argument("--inner-qemu", default=QEMU, help="with --accel nested, the binary that runs in the guest (default: %(default)s)")
    parser.add_argument("--accel", default="tcg", choices=("tcg", "kvm", "nested"), help="who executes the guest (default: %(default)s)")
    parser.add_argument("--cpu", default="max,x-force-features=on,+rtm", help="QEMU's -cpu (default: %(default)s)")
    parser.add_argument("--append", default="", help="further words for the kernel's command line")
    parser.add_argument("--seconds", type=float, default=120, help="how long the guest may take (default: %(default)g)")
    parser.add_argument("--static", action="store_true", help="link init statically")
    parser.add_argument("--all", action="store_true", help="show the whole console, not just what comes from init on")
    options = parser.parse_args()
    try:
        kernel = options.kernel or find_kernel()
        initrd = crash_initrd(libraries=not options.static)
        common = {"qemu": options.qemu, "cpu": options.cpu, "append": options.append, "seconds": options.seconds}
        if options.accel == "nested":
            console = boot_nested(kernel, initrd, inner_qemu=options.inner_qemu, **common)
        else:
            console = boot(kernel, initrd, accel=options.accel, **common)
    except Lacking as lack:
        print(f"lacking: {lack}", file=sys.stderr)
        return 4
    print(console if options.all else shorten(console))
    if DIED in console or LIVED in console:
        return 1 if DIED in console else 0
    print("the guest did not come to an end that tells", file=sys.stderr)
    return 4


def shorten(console: str) -> str:
    """Leave QEMU's own messages and what the console shows from the first process on."""
    lines = console.splitlines()
    start = next((number for number, line in enumerate(lines) if "Run /init" in line), len(lines))
    return "\n".join([*(line for line in lines[:start] if "qemu-system" in line), *lines[start:]])


if __name__ == "__main__":
    sys.exit(main())
