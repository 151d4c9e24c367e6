"""Ask a real glibc which string functions it picks on CPUs that are not here, and write its answers down for the tests.

    python tools/glibc_capture.py --glibc DIR --debug DIR --out FILE CAPTURES

DIR holds an unpacked libc6 package, the second DIR its libc6-dbg; CAPTURES is the tests' folder of captures, whose hosts and guests are the
CPUs. Rows of FILE that other releases wrote stay. A C compiler, objdump and nm are needed, and an x86-64 Linux that allows ptrace.

The dynamic linker runs under ptrace with a breakpoint on each of its CPUID and XGETBV instructions, which are answered from the table. It
then binds a program that is nothing but a list of pointers to the functions of string.h and wchar.h, and stops before its first
instruction: the list tells which variants glibc's own resolvers took. XTEST, which those variants for RTM execute, is answered too.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import json
import os
import random
import re
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vcpuid import kvm
from vcpuid.cpuid import CpuidTable, Entry, Registers
from vcpuid.cpuid.walk import Cpuid
from vcpuid.cpuid.words import INDEXED_FUNCTIONS
from vcpuid.formats.lines import parse_snapshot
from vcpuid.software.cpu import software_cpu

FUNCTIONS = (
    "memchr", "memcmp", "__memcmpeq", "memcpy", "__memcpy_chk", "memmove", "__memmove_chk", "mempcpy", "__mempcpy_chk", "memrchr",
    "memset", "__memset_chk", "rawmemchr", "stpcpy", "stpncpy", "strcasecmp", "strcasecmp_l", "strcat", "strchr", "strchrnul", "strcmp",
    "strcpy", "strcspn", "strlen", "strncasecmp", "strncasecmp_l", "strncat", "strncmp", "strncpy", "strnlen", "strpbrk", "strrchr",
    "strspn", "strstr", "wcpcpy", "wcpncpy", "wcscat", "wcschr", "wcscmp", "wcscpy", "wcslen", "wcsncat", "wcsncmp", "wcsncpy",
    "wcsnlen", "wcsrchr", "wmemchr", "wmemcmp", "wmemset", "__wmemset_chk",
)  # fmt: skip
LEAVES = ((0, 0), (1, 0), (7, 0), (7, 1), (0xD, 0), (0xD, 1), (0x14, 0), (0x19, 0), (0x24, 0),
          (0x80000000, 0), (0x80000001, 0), (0x80000007, 0), (0x80000008, 0))  # fmt: skip
"""What of a CPU decides; the other leaves that glibc reads are about caches."""
TABLES_OF_QEMU = 260

_TRACEME, _CONT, _GETREGS, _SETREGS = 0, 7, 12, 13
_FIELDS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip", "cs",
    "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
_CPUID, _XGETBV, _XTEST = b"\x0f\xa2", b"\x0f\x01\xd0", b"\x0f\x01\xd6"
_ZERO_FLAG = 1 << 6
_LAST = b"x86.cpu_features.level4_cache_size="
"""The last line about features; since 2.41 a listing of all CPUID leaves follows."""


class _Regs(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in _FIELDS)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, data: Any = None) -> None:
    if _libc.ptrace(request, pid, None, data) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")


class Glibc:
    """One release of glibc, unpacked: its dynamic linker, its libraries and the names of the variants."""

    def __init__(self, root: Path, debug: Path, scratch: Path) -> None:
        self.libc = next(root.rglob("libc.so.6"))
        self.linker = self.libc.with_name("ld-linux-x86-64.so.2")
        listing = _run("objdump", "-d", self.linker)
        self.sites = {int(at, 16): name for at, name in re.findall(r"^\s*([0-9a-f]+):\t[0-9a-f ]+\t(cpuid|xgetbv)\b", listing, re.M)}
        build_id = re.findall(r"Build ID: (\w{2})(\w+)", _run("readelf", "-n", self.libc))[0]
        symbols = _run("nm", next(debug.rglob(f".build-id/{build_id[0]}/{build_id[1]}.debug")))
        self.names: dict[int, set[str]] = {}
        for at, name in re.findall(r"^([0-9a-f]+) [tT] (\w+)$", symbols, re.M):
            self.names.setdefault(int(at, 16), set()).add(name)
        exported = {name.partition("@")[0] for name in re.findall(r"IFUNC .* (\S+)$", _run("readelf", "-sW", self.libc), re.M)}
        self.functions = [name for name in FUNCTIONS if name in exported]
        self.program = self._list_of_pointers(scratch)
        self.release = re.findall(r"release version (\d+\.\d+)", _run(self.linker, "--version"))[0]

    def _list_of_pointers(self, scratch: Path) -> Path:
        source, program = scratch / "list.s", scratch / "list"
        quads = "\n".join(f".quad {name}" for name in self.functions)
        source.write_text(
            f'.text\n.globl _start\n_start: lea list(%rip), %rdi\nint3\n.data\nlist:\n{quads}\n.section .note.GNU-stack,"",@progbits\n',
            encoding="utf-8",
        )
        _run("cc", "-nostartfiles", "-pie", "-Wl,-z,now,--unresolved-symbols=ignore-all", "-o", program, source, self.libc)
        return program

    def diagnose(self, cpuid: Cpuid, xcr0: int) -> dict[str, str]:
        """Return what ld.so --list-diagnostics prints of the CPU."""
        with tempfile.TemporaryFile() as output:
            self._trace([str(self.linker), "--list-diagnostics"], cpuid, xcr0, output.fileno())
            output.seek(0)
            return dict(re.findall(r"^x86\.cpu_features\.(\S+?)=(\S+)$", output.read().decode(), re.M))

    def variants(self, cpuid: Cpuid, xcr0: int) -> dict[str, str]:
        """Return the variant taken for each function."""
        command = [str(self.linker), "--library-path", str(self.libc.parent), str(self.program)]
        pointers = self._trace(command, cpuid, xcr0, None)
        return {name: self._variant(name, at) for name, at in pointers.items()}

    def _variant(self, function: str, address: int) -> str:
        stem = f"__{function.strip('_')}_"
        return next(name.removeprefix(stem) for name in sorted(self.names[address], key=len) if name.startswith(stem))

    def _trace(self, command: list[str], cpuid: Cpuid, xcr0: int, output: int | None) -> dict[str, int]:
        pid = os.fork()
        if pid == 0:
            if output is not None:
                os.dup2(output, 1)
            _ptrace(_TRACEME, 0)
            os.execve(command[0], command, {"LD_BIND_NOW": "1"})
        os.waitpid(pid, 0)
        base = _base(pid, self.linker)
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            for site in self.sites:
                memory.seek(base + site)
                memory.write(b"\xcc")
            while True:
                _ptrace(_CONT, pid)
                _, status = os.waitpid(pid, 0)
                if not os.WIFSTOPPED(status):
                    assert os.WIFEXITED(status), f"ended with {status:#x}"
                    return {}
                regs = _Regs()
                _ptrace(_GETREGS, pid, ctypes.byref(regs))
                site = regs.rip - 1 - base
                if os.WSTOPSIG(status) == signal.SIGTRAP and site in self.sites:
                    if output is not None and _LAST in os.pread(output, 1 << 16, 0):
                        _kill(pid)
                        return {}
                    _answer(regs, self.sites[site], cpuid, xcr0)
                elif os.WSTOPSIG(status) == signal.SIGTRAP:
                    memory.seek(regs.rdi)
                    values = struct.unpack(f"<{len(self.functions)}Q", memory.read(8 * len(self.functions)))
                    start = _base(pid, self.libc)
                    _kill(pid)
                    return {name: value - start for name, value in zip(self.functions, values, strict=True)}
                else:
                    memory.seek(regs.rip)
                    code = memory.read(3)
                    assert code == _XTEST, f"signal {os.WSTOPSIG(status)} at {code.hex()}"
                    regs.rip, regs.eflags = regs.rip + 3, regs.eflags | _ZERO_FLAG
                _ptrace(_SETREGS, pid, ctypes.byref(regs))


def _answer(regs: _Regs, instruction: str, cpuid: Cpuid, xcr0: int) -> None:
    if instruction == "cpuid":
        regs.rax, regs.rbx, regs.rcx, regs.rdx = cpuid(regs.rax & 0xFFFFFFFF, regs.rcx & 0xFFFFFFFF)
        regs.rip += len(_CPUID) - 1
    else:
        regs.rax, regs.rdx = xcr0 & 0xFFFFFFFF, xcr0 >> 32
        regs.rip += len(_XGETBV) - 1


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _base(pid: int, file: Path) -> int:
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(str(file.resolve())):
            return int(line.split("-")[0], 16)
    raise LookupError(file)


def _run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def tables(captures: Path) -> Iterator[tuple[str, CpuidTable]]:
    """Give every host of the captures, one kernel's each, and guests of QEMU drawn with a fixed seed."""
    for path in sorted((captures / "kvm").glob("*.txt.gz")):
        host = parse_snapshot(gzip.decompress(path.read_bytes()).decode().splitlines())
        if path.name.endswith("@6.12.txt.gz"):
            yield f"host {path.name.removesuffix('.txt.gz')}", host.raw
    rows = [json.loads(line) for line in gzip.decompress((captures / "qemu" / "sets.jsonl.gz").read_bytes()).decode().splitlines()]
    guests = [row for row in rows if row["vcpus"]]
    for row in random.Random(1).sample(guests, TABLES_OF_QEMU):
        yield f"guest {row['qemu']} {row['cpu']} on {row['host']}", CpuidTable(_entry(line) for line in row["vcpus"][0])


def _entry(line: str) -> Entry:
    place, flags, *registers = line.split()
    function, _, index = place.partition(".")
    return Entry(int(function, 16), int(index, 16), int(flags[1:], 16), *(int(r, 16) for r in registers))


def capture(glibc: Glibc, name: str, table: CpuidTable) -> dict[str, object]:
    """Ask one glibc about one CPU: as Linux leaves it to software."""
    cpu = software_cpu(table)
    guest = name.startswith("guest")
    cpuid: Cpuid = partial(kvm.lookup, cpu.table) if guest else partial(_dumped, cpu.table)
    told = glibc.diagnose(cpuid, cpu.xcr0)
    return {
        "glibc": glibc.release,
        "name": name,
        "cpuid": {f"{f:x}.{i:x}": " ".join(f"{r:x}" for r in cpuid(f, i)) for f, i in LEAVES},
        "xcr0": f"{cpu.xcr0:x}",
        "isa_1": told["isa_1"],
        "active": _active(told),
        "preferred": [key.removeprefix("preferred.") for key, value in told.items() if key.startswith("preferred.") and value != "0x0"],
        "variants": glibc.variants(cpuid, cpu.xcr0),
    }


def _dumped(table: CpuidTable, function: int, index: int) -> Registers:
    """Answer from a host's dump, whose lines have no flags that say where the index counts."""
    return table.registers(function, index if function in INDEXED_FUNCTIONS else 0)


def _active(told: Mapping[str, str]) -> list[str]:
    """The words of usable features, four a leaf, in glibc's order of leaves."""
    return [value for key, value in told.items() if ".active[" in key]


def main() -> None:
    """Read the arguments, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glibc", type=Path, required=True)
    parser.add_argument("--debug", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("captures", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        glibc = Glibc(options.glibc, options.debug, Path(scratch))
        old = gzip.decompress(options.out.read_bytes()).decode().splitlines() if options.out.exists() else []
        lines = [line for line in old if json.loads(line)["glibc"] != glibc.release]
        lines += [json.dumps(capture(glibc, name, table)) for name, table in tables(options.captures)]
    options.out.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", mtime=0))
    print(f"{glibc.release}: {len(lines)} rows in {options.out}")


if __name__ == "__main__":
    main()
