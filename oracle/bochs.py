#!/usr/bin/env python3
"""Make the captures of Intel's machines: boot a stock kernel on Bochs, which emulates VMX, and run one C program of this folder in it.

    oracle/bochs.py kernel --bochs bochs/bochs --model corei7_skylake_x --kernel linux-image-6.12.107+deb13-cloud-amd64 -o FILE.txt.gz
    oracle/bochs.py lookup | states                    (the same options)

Bochs has no way to be handed a kernel, so it boots an image of a CD, which isolinux and xorriso make. It is to be built with

    ./configure --enable-x86-64 --enable-vmx=2 --enable-svm --enable-protection-keys --enable-cet --enable-uintr --enable-fred \\
      --enable-memtype --enable-avx --enable-evex --enable-amx --enable-all-optimizations --with-nogui

MODEL is one of `bochs -help cpu`; `--without` names features that it then lacks. Exit status as capture.py's.
"""

from __future__ import annotations

import argparse
import gzip
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from emulated import COMMAND_LINE, FailedError, captured, initrd_of
from kernels import find_kernel
from kinds import whole
from vcpuid.errors import InputError, UnavailableError, VcpuidError

ISOLINUX = Path("/usr/lib/ISOLINUX/isolinux.bin")
LOADER = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")
SECONDS = 900
PROGRAMS = {"kernel": "kvm_dump.c", "lookup": "kvm_lookup.c", "states": "kvm_states.c"}

SETTINGS = """\
cpu: model={model}, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=0, msrs={folder}/msrs{features}
memory: guest=512, host=512
romimage: file={share}/bios/BIOS-bochs-latest
vgaromimage: file={share}/bios/VGABIOS-lgpl/VGABIOS-lgpl-latest.bin
ata0-master: type=cdrom, path={folder}/cd.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={folder}/console
display_library: nogui
log: {folder}/log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""

MSRS = """\
0x017 0 00000000 00000000 00000000 00000000 00000000 00000000
0x08b 0 0f000000 00000000 00000000 00000000 ffffffff ffffffff
0x17a 0 00000000 00000000 00000000 00000000 00000000 00000000
0x1a0 0 00000000 00000001 00000000 00000000 00000000 00000000
"""
"""What Linux reads and Bochs has not: PLATFORM_ID; microcode newer than any that Linux objects to; the status of machine checks, without
which Linux panics since 6.16; MISC_ENABLE with fast strings.

A line is the MSR, its type, its value, the bits that are reserved and those that a write leaves alone, these three in halves.
"""


def main() -> int:
    """Read the arguments, write the capture; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=PROGRAMS)
    parser.add_argument("--bochs", type=Path, default=Path("bochs"), help="Bochs' program, in the folder that it was built in")
    parser.add_argument("--model", required=True, help="Bochs' processor")
    parser.add_argument("--without", default="", help="features that it lacks, by Bochs' names, with commas between")
    parser.add_argument("--kernel", required=True, help="kernel image, or Debian package, to boot")
    parser.add_argument("-o", "--output", type=Path, help="write to this file, gzipped where its name ends in .gz")
    options = parser.parse_args()
    try:
        lines = capture(options.kind, options.bochs, find_kernel(options.kernel), options.model, options.without)
    except (VcpuidError, OSError) as error:
        print(f"bochs.py: {error}", file=sys.stderr)
        return error.exit_status if isinstance(error, VcpuidError) else InputError.exit_status
    text = "\n".join(lines) + "\n"
    if options.output is None:
        print(text, end="")
    else:
        data = text.encode()
        options.output.write_bytes(gzip.compress(data, mtime=0) if options.output.suffix == ".gz" else data)
    return 0


def capture(kind: str, bochs: Path, kernel: Path, model: str, without: str) -> list[str]:
    """Make the lines of a capture, in the form of capture.py's. Raises UnavailableError, FailedError."""
    release, lines = run(bochs, kernel, model, without, PROGRAMS[kind])
    head = [f"CPU bochs {model}" + (f" exclude_features={without}" if without else ""), f"Bochs {release}"]
    if kind == "kernel":
        if not any(line.startswith("SUP ") for line in lines):
            raise FailedError(f"KVM did not come up in the guest; the last line: {lines[-1]}")
        return [*head, *lines]
    booted, cpuinfo, told = whole(lines)
    if kind == "lookup":
        return [*head, booted, *told[:-1]]
    return [*head, booted, *(line for line in cpuinfo if line.startswith("CPUINFO flags ")), *told]


def run(bochs: Path, kernel: Path, model: str, without: str, source: str) -> tuple[str, list[str]]:
    """Boot a kernel on a processor of Bochs' and run the C file `source` there: Bochs' release, and what they print (`emulated.run`)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = folder / "cd"
        (tree / "isolinux").mkdir(parents=True)
        (tree / "kernel").write_bytes(kernel.read_bytes())
        (tree / "initrd").write_bytes(initrd_of(kernel, "kvm-intel", source, folder).pack())
        (tree / "isolinux/isolinux.cfg").write_text(
            f"default it\nprompt 0\nlabel it\n  kernel /kernel\n  append initrd=/initrd {COMMAND_LINE} no_timer_check\n",
            encoding="utf-8",
        )
        for file in (ISOLINUX, LOADER):
            if not file.exists():
                raise UnavailableError(f"no {file}: install isolinux and syslinux-common")
            (tree / "isolinux" / file.name).write_bytes(file.read_bytes())
        _burn(tree, folder / "cd.iso")
        (folder / "msrs").write_text(MSRS, encoding="utf-8")
        features = f', exclude_features="{without}"' if without else ""
        settings = SETTINGS.format(model=model, features=features, share=bochs.resolve().parent, folder=folder)
        (folder / "bochsrc").write_text(settings, encoding="utf-8")
        release = _start(bochs, folder)
        console = folder / "console"
        return release, captured(console.read_text(encoding="utf-8", errors="replace") if console.exists() else "")


def _burn(tree: Path, image: Path) -> None:
    boot = ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    try:
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", image, *boot, tree], check=True, capture_output=True, text=True)
    except OSError as error:
        raise UnavailableError(f"xorriso: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"xorriso: {error.stderr.strip()[-200:]}") from None


def _start(bochs: Path, folder: Path) -> str:
    """Run Bochs until its guest powers off; returns its release."""
    command = [str(bochs.resolve()), "-q", "-unlock", "-f", str(folder / "bochsrc")]
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd=folder, timeout=SECONDS)
        told = ended.stdout
    except OSError as error:
        raise UnavailableError(f"{bochs}: {error.strerror}") from None
    except subprocess.TimeoutExpired as late:
        told = late.stdout or b""
    match = re.search(r"Bochs x86 Emulator (\S+)", told.decode(errors="replace"))
    if match is None:
        raise UnavailableError(f"{bochs} is no Bochs")
    return match[1]


if __name__ == "__main__":
    sys.exit(main())
