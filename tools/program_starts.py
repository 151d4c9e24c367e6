"""Count how often the start of a program executes CPUID under a glibc, on CPUs that are not here: data/program-starts.json.

    python tools/program_starts.py 2.36=/lib64/ld-linux-x86-64.so.2 2.41=roots/trixie/lib64/ld-linux-x86-64.so.2 > starts.json

The dynamic linker runs a program that does nothing, with a breakpoint on each of its CPUID and XGETBV instructions, which are answered from
a table: those that QEMU makes of each of its models on captured hosts. objdump and an x86-64 Linux that allows ptrace are needed; of
another root, its libraries are taken. On the machine's own CPUID the count is that of `vcpuid trace --step -- true`.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from vcpuid import kvm, qemu
from vcpuid.cpuid import CpuidTable, vendor_name
from vcpuid.errors import VcpuidError
from vcpuid.live import ptrace
from vcpuid.live.tracees import Kind, Tracees
from vcpuid.software.cpu import software_cpu
from vcpuid.sources import read

CAPTURES = Path(__file__).parents[1] / "tests" / "captures" / "kvm"
HOSTS = (
    "kvm-intel.corei7_skylake_x@6.12.txt.gz", "kvm-intel.corei7_ivy_bridge_3770k@6.1.txt.gz", "kvm-amd.EPYC-Milan-v2@7.3.txt.gz",
)  # fmt: skip
PROGRAM = "/bin/true"
_LOW = 0xFFFFFFFF


class Linker:
    """A dynamic linker and where it executes CPUID and XGETBV, by offset: true for CPUID."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).resolve()
        listing = subprocess.run(["objdump", "-d", self.path], capture_output=True, text=True, check=True).stdout
        found = re.findall(r"^\s*([0-9a-f]+):\t[0-9a-f ]+\t(cpuid|xgetbv)\b", listing, re.M)
        self.sites = {int(at, 16): name == "cpuid" for at, name in found}
        root = str(self.path).partition("/usr/lib/")[0].partition("/lib")[0]
        self.command = [str(self.path), "--library-path", str(self.path.parent), f"{root}{PROGRAM}"]

    def count(self, table: CpuidTable) -> int:
        """Count the CPUIDs of a start on a CPU with this table."""
        xcr0, count, base = software_cpu(table).xcr0, 0, 0
        with Tracees(self.command) as tracees:
            for stop in tracees.stops(10):
                if stop.kind is Kind.EXEC:
                    base = ptrace.registers(stop.tid).rip - self.entry
                    for site in self.sites:
                        ptrace.write_memory(stop.tid, base + site, b"\xcc")
                    ptrace.go(stop.tid)
                elif stop.kind is Kind.SIGNAL and stop.signal == signal.SIGTRAP:
                    now = ptrace.registers(stop.tid)
                    if self.sites[now.rip - 1 - base]:
                        count += 1
                        answer = kvm.lookup(table, now.rax & _LOW, now.rcx & _LOW)
                        now.rax, now.rbx, now.rcx, now.rdx = answer
                        now.rip += 1
                    else:
                        now.rax, now.rdx = xcr0 & _LOW, xcr0 >> 32
                        now.rip += 2
                    ptrace.set_registers(stop.tid, now)
                    ptrace.go(stop.tid)
                elif stop.kind is not Kind.GONE:
                    ptrace.go(stop.tid, stop.signal)
        return count if tracees.status == 0 else 0

    @property
    def entry(self) -> int:
        """The offset of its first instruction."""
        return int.from_bytes(self.path.read_bytes()[24:32], "little")


def tables() -> Iterator[tuple[str, CpuidTable]]:
    """Give the tables of guests: of each model on each host that runs it, with the vendor."""
    for name in HOSTS:
        host = read(str(CAPTURES / name))
        for model in ("host", *(found.name for found in qemu.models(host, qemu="11.1"))):
            try:
                table = qemu.guest_tables(model, host=host, qemu="11.1").tables[0]
            except VcpuidError:
                continue
            first = table.get(0)
            if first is not None:
                yield vendor_name(first), table


def main() -> None:
    """Count, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("linkers", nargs="+", metavar="RELEASE=FILE")
    counts: dict[str, dict[str, list[int]]] = {}
    known = list(tables())
    for release, _, path in (text.partition("=") for text in parser.parse_args().linkers):
        linker = Linker(path)
        by_vendor = counts.setdefault(release, {})
        for vendor, table in known:
            if count := linker.count(table):
                by_vendor.setdefault(vendor, []).append(count)
    rows = {
        release: {vendor: {"least": min(found), "most": max(found), "cpus": len(found)} for vendor, found in sorted(by_vendor.items())}
        for release, by_vendor in counts.items()
    }
    source = f"tools/program_starts.py: {' '.join(sorted(rows))}, QEMU 11.1's models on {len(HOSTS)} captured hosts"
    json.dump({"source": source, "starts": rows}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
