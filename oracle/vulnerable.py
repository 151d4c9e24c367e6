#!/usr/bin/env python3
"""Capture what kernels say of their processors' vulnerabilities (/sys/devices/system/cpu/vulnerabilities), on processors that are played.

    oracle/vulnerable.py --kernel linux-image-6.12.107+deb13-cloud-amd64 -o tests/captures/vulnerabilities/6.12.txt.gz
    oracle/vulnerable.py --kernel /boot/vmlinuz-6.12.107 --only skylake

Each processor of vulnerable-hosts.txt is booted once, under QEMU's emulation with tcgshim.c in it, with the kernel's own choice of
mitigations; sysfs_dump.c is what prints. A capture is a line HOST with the name, then CPU, PLAYED, SMP and CMDLINE, as that file has them,
KERNEL and CPUINFO as in other captures, and the lines that sysfs_dump.c tells of. A processor on which the kernel does not come up is told
on standard error and left out. Exit status 0; 3 for bad input, 4 where this machine lacks something, 5 where none came up.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from emulated import FOLDER, Emulator, FailedError, build, initrd_of, run_guest
from kernels import find_kernel
from vcpuid.cpuid.names import find
from vcpuid.cpuid.words import Bit, CpuidWord, MsrWord
from vcpuid.errors import InputError, VcpuidError

HOSTS = FOLDER / "vulnerable-hosts.txt"
COMMAND_LINE = "console=ttyS0 quiet panic=-1 loglevel=3 no_timer_check"
KEYS = ("HOST", "CPU", "PLAYED", "SMP", "CMDLINE")
WITHOUT = ",-cx16"
"""Taken from every processor: with CMPXCHG16B, QEMU 7.2's emulation makes many a boot fail (see emulated.py)."""
REGISTERS = ("eax", "ebx", "ecx", "edx")


class Host(NamedTuple):
    """A processor: QEMU's -cpu, the bits played on top, each with a + or a - before its name, QEMU's -smp, and options of the kernel."""

    name: str
    cpu: str
    played: str
    smp: str
    cmdline: str


def hosts(text: str) -> list[Host]:
    """Read the list: a line has five parts between bars; what begins with # is passed over, and so is a row of which a part is lacking."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != len(Host._fields):
            raise InputError(f"{HOSTS.name}, line {number}: {len(parts)} parts, not {len(Host._fields)}")
        rows.append(Host(*parts))
    return rows


def plays(host: Host) -> list[str]:
    """Give tcgshim.c's lines for the bits played: bits of CPUID, and MSRs, of which only the bits named are set."""
    bits: dict[CpuidWord, tuple[int, int]] = defaultdict(lambda: (0, 0))
    msrs: dict[int, int] = {}
    for word in host.played.split():
        if given := re.fullmatch(r"msr\.([0-9a-f]+)=([0-9a-f]+)", word):
            msrs[int(given[1], 16)] = int(given[2], 16)
            continue
        match find(word[1:]).bit:
            case Bit(CpuidWord() as register, _) as bit:
                mask, value = bits[register]
                bits[register] = (mask | bit.mask, value | (bit.mask if word[0] == "+" else 0))
            case Bit(MsrWord() as msr, _) as bit:
                msrs[msr.msr] = msrs.get(msr.msr, 0) | bit.mask
            case _:
                raise InputError(f"{HOSTS.name}: {word} is no bit of CPUID and of no MSR")
    lines = [
        f"BITS {word.function:x}.{word.index or 0:x} {REGISTERS.index(str(word.register).lower())} {mask:x} {value:x}"
        for word, (mask, value) in bits.items()
    ]
    return lines + [f"MSR {index:x} {value:x}" for index, value in msrs.items()]


def capture(emulator: Emulator, kernel: Path, host: Host) -> list[str]:
    """Boot the kernel on one processor; raises FailedError."""
    with emulator.folder() as folder:
        work = Path(folder)
        initrd = initrd_of(kernel, "msr", "sysfs_dump.c", work)
        initrd.add_folder("sys")
        build("tcgshim.c", work / "tcgshim.so", "-shared", "-fPIC")
        (work / "play").write_text("".join(f"{line}\n" for line in plays(host)), encoding="utf-8")
        played = {"TCGSHIM_PLAY": emulator.inside(work / "play"), "LD_PRELOAD": emulator.inside(work / "tcgshim.so")}
        command = [*emulator.command()[:-1], "env", *(f"{name}={value}" for name, value in played.items()), emulator.command()[-1]]
        arguments = ["-accel", "tcg,thread=single", "-cpu", host.cpu + WITHOUT, "-smp", host.smp]
        lines = run_guest(emulator, command, kernel, initrd, work, arguments, f"{COMMAND_LINE} {host.cmdline}".strip())
    return [*(f"{key} {value}" for key, value in zip(KEYS, host, strict=True)), *lines]


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", required=True, help="kernel image, or Debian package, to boot")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only processors whose names this regular expression finds")
    parser.add_argument("--qemu", default="qemu-system-x86_64", help="QEMU's program (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="write to this file, gzipped where its name ends in .gz")
    options = parser.parse_args()
    text = ""
    try:
        emulator, kernel = Emulator(options.qemu), find_kernel(options.kernel)
        for host in hosts(HOSTS.read_text(encoding="utf-8")):
            if not re.search(options.only, host.name):
                continue
            try:
                lines = "".join(f"{line}\n" for line in capture(emulator, kernel, host))
            except FailedError as error:
                print(f"vulnerable.py: {host.name}: {error}", file=sys.stderr)
            else:
                text += lines
                if options.output is None:
                    print(lines, end="", flush=True)
        if not text:
            raise FailedError("no kernel came up")
    except VcpuidError as error:
        print(f"vulnerable.py: {error}", file=sys.stderr)
        return error.exit_status
    if options.output is not None:
        options.output.write_bytes(gzip.compress(text.encode(), mtime=0) if options.output.suffix == ".gz" else text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
