#!/usr/bin/env python3
"""Make the captures that the tests hold vcpuid against, and remake committed ones.

    oracle/capture.py kernel --kernel linux-image-6.12.107+deb13-cloud-amd64 --cpu 'EPYC-Milan-v2,+svm,+npt' -o FILE.txt.gz
    oracle/capture.py lookup | states                  (the same options)
    oracle/capture.py qemu --host HOST --cpu 'EPYC-Milan,-avx2' --machine q35 --smp 2
    oracle/capture.py models --host HOST --machine q35 --expand max,pmu=off --realize host,-avx2
    oracle/capture.py draw --hosts tests/captures/qemu/hosts.json.gz --seed 7 --count 500
    oracle/capture.py verify tests/captures/kvm/kvm-amd.EPYC-v1@6.12.txt.gz
    oracle/capture.py again tests/captures/kvm/kvm-amd.EPYC-v1@6.12.txt.gz --kernel linux-image-cloud-amd64/sid -o FILE.txt.gz

kernel, lookup and states boot a stock kernel under QEMU's software emulation and print what its KVM says (kernel), what guests' CPUIDs
return (lookup), and what a vCPU makes of its table in rarer states (states). qemu and models run a real QEMU on /dev/kvm on a host that is
a file, and print a row of JSON: the tables that it hands to KVM_SET_CPUID2, or what its monitor says of CPU models; draw prints such rows
of arguments drawn at random. verify remakes a committed capture and compares, again makes one like it of another kernel or QEMU. README.md
beside this file tells the lines, and what each command needs.

Exit status 0; of verify 1 where something differs; 3 for bad input, 4 where this machine lacks something, 5 where QEMU or its guest failed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drawn import draw
from emulated import Emulator, FailedError
from kernels import find_kernel
from kinds import host_lines, kernel_lines, lookup_lines, models_row, qemu_row, read, release_of, states_lines
from played import Player
from remade import again
from vcpuid.errors import InputError, VcpuidError
from vcpuid.qemu.catalog import catalog
from verified import verify

LINES: dict[str, tuple[Callable[[Emulator, Path, str], list[str]], str]] = {
    "kernel": (kernel_lines, "what a kernel's KVM says"),
    "lookup": (lookup_lines, "what guests' CPUIDs return"),
    "states": (states_lines, "what a vCPU makes of its table in rarer states"),
}


def main() -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args()
    try:
        status: int = options.run(options)
    except VcpuidError as error:
        print(f"capture.py: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"capture.py: {error}", file=sys.stderr)
        return InputError.exit_status
    return status


def parser() -> argparse.ArgumentParser:
    """Give the parser of the command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    qemu = argparse.ArgumentParser(add_help=False)
    qemu.add_argument("--qemu", default="qemu-system-x86_64", help="QEMU's program (default: %(default)s)")
    qemu.add_argument("--root", type=Path, help="run the QEMU of this root, as debian-suites.sh root makes them; needs root")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("-o", "--output", type=Path, help="write to this file, gzipped where its name ends in .gz")
    host = argparse.ArgumentParser(add_help=False)
    host.add_argument("--host", required=True, help="file of RAW, SUP, MSR and HV lines, gzipped or not, or HOSTS.json.gz:KEY")
    host.add_argument("--machine", default="q35", help="QEMU's -M (default: %(default)s)")
    verbs = top.add_subparsers(required=True, metavar="COMMAND")
    for name, (lines, text) in LINES.items():
        verb = verbs.add_parser(name, help=text, parents=[qemu, output])
        verb.add_argument("--kernel", required=True, help="kernel image, or Debian package, to boot")
        verb.add_argument("--cpu", required=True, help="QEMU's -cpu, with +svm,+npt for KVM to load")
        verb.set_defaults(run=run_lines, lines=lines)
    verb = verbs.add_parser("qemu", help="the tables that QEMU hands to KVM", parents=[qemu, host, output])
    verb.add_argument("--cpu", required=True, help="QEMU's -cpu")
    verb.add_argument("--smp", default="1", help="QEMU's -smp (default: %(default)s)")
    verb.add_argument("--more", action="append", default=[], metavar="ARGUMENT", help="a further argument of QEMU's, --more=-object say")
    verb.set_defaults(run=run_qemu)
    verb = verbs.add_parser("models", help="what QEMU's monitor says of CPU models", parents=[qemu, host, output])
    verb.add_argument("--expand", metavar="CPU", action="append", default=[], help="a CPU to expand: MODEL,property=on|off,...")
    verb.add_argument("--realize", metavar="CPU", action="append", default=[], help="a -cpu argument whose features to list")
    verb.set_defaults(run=run_models)
    verb = verbs.add_parser("draw", help="the tables of CPUs and machines drawn at random", parents=[qemu, output])
    verb.add_argument("--hosts", type=Path, required=True, help="file of many hosts, as tests/captures/qemu/hosts.json.gz")
    verb.add_argument("--seed", required=True, help="any text; the same gives the same arguments")
    verb.add_argument("--count", type=int, default=100, help="how many rows (default: %(default)s)")
    verb.set_defaults(run=run_draw)
    verb = verbs.add_parser("verify", help="remake a committed capture and compare", parents=[qemu])
    verb.add_argument("file", type=Path)
    verb.add_argument("--kernel", help="kernel image, or package, instead of the one that the capture names")
    verb.add_argument("--rows", type=int, default=1, help="of a file of rows, how many that this QEMU made; 0: all (default: %(default)s)")
    verb.set_defaults(run=run_verify)
    verb = verbs.add_parser("again", help="make a capture like a committed one", parents=[qemu, output])
    verb.add_argument("file", type=Path)
    verb.add_argument("--kernel", help="kernel image, or package, to boot instead of the one that the capture names")
    verb.add_argument("--of", metavar="RELEASE", help="of a file of rows, the QEMU whose rows to ask again, such as 11.1")
    verb.set_defaults(run=run_again)
    return top


def run_lines(options: argparse.Namespace) -> int:
    """Make a capture of lines."""
    lines = options.lines(Emulator(options.qemu, options.root), find_kernel(options.kernel), options.cpu)
    write(options.output, "".join(f"{line}\n" for line in lines))
    return 0


def run_qemu(options: argparse.Namespace) -> int:
    """Make a row of tables."""
    host = host_lines(options.host)
    with Player(Emulator(options.qemu, options.root)) as player:
        row = qemu_row(player, host, options.cpu, options.machine, options.smp, options.more)
    return write_row(options, row)


def run_models(options: argparse.Namespace) -> int:
    """Make a row of what the monitor says."""
    host = host_lines(options.host)
    with Player(Emulator(options.qemu, options.root)) as player:
        row = models_row(player, host, options.machine, options.expand, options.realize)
    return write_row(options, row)


def run_draw(options: argparse.Namespace) -> int:
    """Make rows of tables of drawn arguments; a run that does not end is told and left out."""
    hosts: dict[str, list[str]] = json.loads(read(options.hosts))
    rows = []
    with Player(Emulator(options.qemu, options.root)) as player:
        release = release_of(player)
        for drawn in draw(f"{options.seed} {release}", catalog(release), sorted(hosts), options.count):
            try:
                row = qemu_row(player, hosts[drawn.host], drawn.cpu, drawn.machine, drawn.smp)
            except FailedError as error:
                print(f"capture.py: {error}", file=sys.stderr)
            else:
                rows.append(json.dumps({**row, "host": drawn.host}))
    write(options.output, "".join(f"{row}\n" for row in rows))
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Remake and compare."""
    return verify(options.file, Emulator(options.qemu, options.root), kernel=options.kernel, rows=options.rows)


def run_again(options: argparse.Namespace) -> int:
    """Make a capture like another."""
    lines = again(options.file, Emulator(options.qemu, options.root), kernel=options.kernel, of=options.of)
    write(options.output, "".join(f"{line}\n" for line in lines))
    return 0


def write_row(options: argparse.Namespace, row: dict[str, Any]) -> int:
    """Write a row, which names its host by the key, or by the file."""
    write(options.output, json.dumps({**row, "host": options.host.rpartition(":")[2]}) + "\n")
    return 0


def write(path: Path | None, text: str) -> None:
    """Write to a file or to standard output. The gzipped form has no time in it: the same text gives the same file."""
    if path is None:
        sys.stdout.write(text)
    else:
        data = text.encode()
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


if __name__ == "__main__":
    sys.exit(main())
