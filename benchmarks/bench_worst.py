"""The worst that 1 MiB can do: what each form and verb takes of the processor and of memory where its input means harm.

    python benchmarks/bench_worst.py [NAME…]

Each job is a process of its own, with an input of 1 MiB (an argument, as long as one may be) that is the worst known for its form or verb.
The goals are 1 s of CPU and 100 MB; what is above a goal is marked. Other work on the machine only adds: what takes longer than the goal
is run again a few times, and the least counts. Without a name all run, else those with a part of one. Python's bytecode is made before, as
it is where a package is installed.
"""

from __future__ import annotations

import compileall
import gzip
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import vcpuid

MIB = 1 << 20
ARGUMENT = (1 << 17) - 8
"""Bytes of one argument of a program (MAX_ARG_STRLEN, include/uapi/linux/binfmts.h), about."""
SECONDS, MEGABYTES = 1.0, 100
AGAIN = 5
"""Times that a job above the goal is run again at most."""
LONGEST = 20
"""Seconds of CPU after which a job is given up."""

CAPTURES = Path(__file__).parents[1] / "tests" / "captures" / "kvm"
HOST = CAPTURES / "kvm-intel.corei7_skylake_x@6.12.txt.gz"
LEAVES = "RAW 00000000.0 0000001f 756e6547 6c65746e 49656e69\nRAW 00000001.0 00050654 00100800 7ffefbff bfebfbff\n"
GUEST = LEAVES.replace("7ffefbff", "fffefbff")
"""The same of a hypervisor's guest, of which any control of VMX may be missing."""
LINE = 1 << 16


class Job(NamedTuple):
    """A command line, in which {} stands for the input's file, and the input; an argument where there is none to read."""

    name: str
    args: tuple[str, ...]
    data: bytes = b""


def filled(unit: str, size: int = MIB) -> str:
    """Repeat a text to a size, whole units only."""
    return unit * (size // len(unit))


def numbered(unit: str, size: int = MIB, first: int = 0) -> str:
    """Repeat a text with a number in it, each time another, up to a size."""
    parts, length, number = [], 0, first
    while length < size:
        parts.append(unit.format(number))
        length += len(parts[-1])
        number += 1
    return "".join(parts[:-1])


def forms() -> Iterator[tuple[str, bytes]]:
    """Give the worst text of each form."""
    raw = gzip.decompress(HOST.read_bytes()).decode()
    blanks = " " * (LINE - 64)
    text = {
        "snapshot, MSRs that were refused": LEAVES + numbered("MSR {:x} 0 0\n", 10 * 500),
        "snapshot, the hardware's MSRs": LEAVES + numbered("HWMSR {:x} -1 0\n", 13 * 500),
        "snapshot, names": LEAVES + numbered("NAMED nosuch{} on\n"),
        "snapshot, names alone": numbered("NAMED nosuch{} on\n"),
        "snapshot, lines of cpuinfo": LEAVES + numbered("CPUINFO name{} x\n"),
        "snapshot, leaves nobody knows": LEAVES + numbered("RAW {:08x}.0 ffffffff ffffffff ffffffff ffffffff\n", 51 * 3900, 0x50000000),
        "snapshot, sub-leaves": LEAVES + numbered("RAW 00000007.{:x} ffffffff ffffffff ffffffff ffffffff\n", 45 * 3800),
        "snapshot, caches": LEAVES + numbered("RAW 00000004.{:x} 1c004121 01c0003f 0000003f 00000000\n", 45 * 3800),
        "snapshot, topology": LEAVES + numbered("RAW 0000000b.{:x} 00000001 00000002 00000100 00000000\n", 45 * 3800),
        "snapshot, XSAVE": LEAVES + numbered("RAW 0000000d.{:x} ffffffff ffffffff ffffffff ffffffff\n", 45 * 3800),
        "snapshot, notes": "x\n" * 1000 + raw,
        "cpuid -r, blanks": filled(f"CPU 0:\n   0x00000000 0x00: eax=0x0000000d{blanks}\n"),
        "cpuid -r, CPUs": filled("CPU 0:\n   0x00000000 0x00: eax=0x00000000 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n", MIB // 2),
        "cpuid -r, wrapped lines": filled("   0x00000000 0x00:\n> > > ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"),
        "cpuid -r, unlike lines": numbered("   0x{:08x} 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n", 94 * 4000),
        "tycho, blanks": "CPU 0:\n" + filled(f"{blanks}CPUID 00000000:00 = 0000000d\n"),
        "instlatx64, blanks": filled(f"CPUID 00000000{blanks}x\n"),
        "instlatx64, brackets": filled(f"CPUID 00000000: 00000000-00000000-00000000-00000000 {filled('[SL ', LINE - 100)}\n"),
        "instlatx64, a CPU's number": filled(f"CPUID Registers (CPU #{'1' * (LINE - 64)}\n"),
        "instlatx64, headings": filled("-" * (LINE - 2) + "\n") + "CPUID 00000000: 0000000D-756E6547-6C65746E-49656E69\n",
        "kcpuid, blanks": filled(f"{blanks}0: EAX=0x00000000\n"),
        "strace, calls": filled("ioctl(9, KVM_SET_CPUID2, {nent=1, entries=[{function=0, index=0, flags=0, eax=0x1\n"),
        "strace, calls begun over and over": "ioctl(9, KVM_SET_CPUID2, {nent=1, entries=[ <unfinished ...>\n"
        + filled("<... ioctl resumed>xxxx <unfinished ...>\n"),
        "strace, threads": numbered("[pid {}] ioctl(9, KVM_SET_CPUID2, {{nent=0, entries=[]}}) = 0\n", MIB // 2),
        "libvirt, features": "<cpu><model>x</model>" + numbered("<feature name='a{}'/>") + "</cpu>",
        "libvirt, elements": "<cpu>" + filled("<a/>") + "</cpu>",
        "libvirt, attributes": "<cpu " + numbered("a{}='' ") + "/>",
        "libvirt, architectures": "<cpu>" + filled("<arch>x86_64</arch>") + "<arch>arm</arch></cpu>",
        "cpudata": "<cpudata arch='x86'>" + numbered("<cpuid eax_in='0x{:x}' eax='0x1'/>") + "</cpudata>",
        "JSON, names": '{"named": {' + numbered('"a{}": true, ') + '"b": true}}',
        "JSON, objects": filled('{"named":{"a":true}}'),
        "JSON, MSRs that were refused": '{"named": {"a": true}, "refused_msrs": [' + numbered('"{:x}",') + '"ffffffff"]}',
        "JSON, brackets": '{"raw":' + filled("["),
        "QMP, properties": '{"return": {"model": {"name": "base", "props": {' + numbered('"a{}": true, ') + '"b": true}}}}',
        "QMP, events": filled('{"event": 1}\n') + '{"return": {"model": {"name": "base", "props": {"avx": true}}}}',
        "QMP, prompts": '{"return": 1}\n' + filled("(QEMU) (QEMU) (QEMU) x\n"),
        "Firecracker, bitmaps": '{"cpuid_modifiers": ['
        + ", ".join(
            f'{{"leaf": "0x{leaf:x}", "subleaf": "0x0", "flags": 0, "modifiers": [{{"register": "eax", "bitmap": "0b{"x" * 32}"}}]}}'
            for leaf in range(8000)
        )
        + "]}",
        "Cloud Hypervisor, vCPUs": '{"snapshots": {"cpu-manager": {"snapshots": {'
        + numbered('"{}": {{"snapshot_data": {{"state": "{{}}"}}}}, ')
        + '"x": 1}}}}',
        "/proc/cpuinfo, flags": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: " + numbered("a{} ", LINE - 64) + "\n",
        "/proc/cpuinfo, processors": filled("processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu\n\n"),
        "/proc/cpuinfo, blanks": filled("processor" + blanks + "\n") + "processor\t: 0\n",
        "pasted, quotes": filled(">" * (LINE - 2) + "\n"),
        "pasted, times": filled(f"Nov 23 10:20:30 {'a[1]' * 16000}\n"),
        "-cpu": "qemu-system-x86_64 -cpu host" + numbered(",+x{}", LINE - 64),
        "-cpu, lines": numbered("-cpu host,+x{}\n"),
        "no form": filled("x\n"),
        "lists": filled('",\n'),
        "nothing": filled("\n"),
        **parts(raw),
    }
    yield from ((name, content.encode()) for name, content in text.items())
    empty = gzip.compress(b"", 1)
    yield "gzip, empty members", empty * (MIB // len(empty))
    yield "gzip, padding", empty + bytes(MIB)
    yield "gzip, bomb", gzip.compress(bytes(256 << 20))[:MIB]


def parts(raw: str) -> dict[str, str]:
    """Cut a host's dump: what it lacks could be many things, and each is tried."""
    lines = [line for line in raw.splitlines(keepends=True) if line.startswith("RAW ")]
    kept = {f"snapshot, the first {kept} lines": "".join(lines[:kept]) for kept in (2, 5, len(lines) // 2)}
    return {**kept, "snapshot, 2 lines of a guest": GUEST}


def jobs() -> Iterator[Job]:
    """Give each form to the verbs that read it, and each verb its worst argument."""
    host = str(HOST)
    for name, data in forms():
        yield Job(f"decode: {name}", ("decode", "{}"), data)
        if name.startswith(("no form", "lists", "nothing", "pasted", "-cpu")):
            yield Job(f"diagnose: {name}", ("diagnose", "{}"), data)
        if name.startswith(("snapshot", "cpuid", "JSON, names", "libvirt, features", "QMP, properties", "/proc/cpuinfo")):
            for verb in (("check", "host", "{}"), ("guest", "--host", "{}"), ("explain", "avx2", "--host", "{}"), ("linux", "flags", "{}")):
                yield Job(f"{verb[0]}: {name}", verb, data)
            for form in ("libvirt", "qemu", "json"):
                yield Job(f"convert --to {form}: {name}", ("convert", "{}", "--to", form), data)
    for name, groups in inventories():
        yield Job(f"fleet collect: {name}", ("fleet", "collect", "none", "--inventory", "{}", "--group", "none"), groups.encode())
    for name, cpu in arguments():
        yield Job(f"check, -cpu: {name}", ("check", cpu, host))
        yield Job(f"guest, -cpu: {name}", ("guest", "--cpu", cpu, "--host", host))
    for name, machine in machines():
        yield Job(f"guest --machine: {name}", ("guest", "--machine", machine, "--host", host))
    for name, args in others().items():
        yield Job(name, args)


def inventories() -> Iterator[tuple[str, str]]:
    """Give the worst inventories of Ansible's; of the group that is asked for there are no hosts, so that none is reached."""
    chain = "".join(f"[g{number}:children]\ng{number + 1}\n" for number in range(40000))
    yield "a chain of groups", f"{chain}[g40000]\nh\n[none]\n"
    yield "ranges over and over", "[none]\n[a]\n" + filled("h[0:99999]\n")
    settings = numbered("a{}=b ", LINE - 64)
    yield "variables of many hosts", f"[none]\n[a]\nh[0:99999] {settings}\n[a:vars]\n" + numbered("a{}=b\n", MIB // 2)


def arguments() -> Iterator[tuple[str, str]]:
    """Give the worst arguments of -cpu."""
    flags = [
        "avx2", "avx", "fma", "bmi1", "bmi2", "sse4.2", "aes", "popcnt", "rdrand", "smep", "smap", "la57", "avx512f", "vmx", "erms", "pku",
    ]  # fmt: skip
    yield "names that nobody has", "host" + numbered(",+x{}", ARGUMENT - 64)
    yield "a name that nobody has", "x" * ARGUMENT
    yield "one flag over and over", "Haswell" + filled(",+avx2", ARGUMENT - 64)
    yield "some flags over and over", "Haswell" + filled("".join(f",+{flag},-{flag}" for flag in flags), ARGUMENT - 64)
    yield "flags the host lacks", "Haswell" + filled(",+svm,+la57,+sse4a,+3dnow", ARGUMENT - 64)
    yield "properties over and over", "EPYC" + filled(",level=13,xlevel=0x80000008,vendor=GenuineIntel", ARGUMENT - 64)
    yield "a long model-id", "host,model-id=" + "x" * (ARGUMENT - 64)
    yield "commas", "host" + "," * (ARGUMENT - 64)


def machines() -> Iterator[tuple[str, str]]:
    """Give the worst arguments of -machine."""
    yield "a key of many parts", "q35,a" + filled(".a", ARGUMENT - 64) + "=1"
    yield "a list of many rows", "q35" + numbered(",a.{}=1", ARGUMENT - 64)
    yield "a list that goes deep", "q35,a" + filled(".0", ARGUMENT - 64) + "=1"
    yield "many keys", "q35" + numbered(",a{}=1", ARGUMENT - 64)
    yield "a value of commas", "q35,a=" + "," * (ARGUMENT - 65)
    yield "keys with dashes", "q35" + numbered(",a_{}=1", ARGUMENT - 64)


def others() -> dict[str, tuple[str, ...]]:
    """Give the worst arguments of other options and verbs."""
    long = "x" * ARGUMENT
    return {
        "guest --smp: names": ("guest", "--host", str(HOST), "--smp", "1" + numbered(",a{}=1", ARGUMENT - 64)),
        "guest --param": ("guest", "--host", str(HOST), "--param", f"cmdline={filled('mitigations=off ', 2000)}"),
        "guest --kernel": ("guest", "--host", str(HOST), "--kernel", long),
        "explain: a name": ("explain", long, "--host", str(HOST)),
        "names: a name": ("names", long),
        "names: blanks": ("names", "7.0.ebx" + " " * (ARGUMENT - 16)),
        "names: digits": ("names", "1" * (ARGUMENT - 16) + "*"),
        "rules: a name": ("rules", long),
        "decode: a leaf": ("decode", str(HOST), long),
    }


def run(job: Job, folder: Path) -> tuple[float, float, int]:
    """Run a job; return its CPU seconds, its peak memory in MB and how it ended."""
    program, file = str(Path(sys.executable).with_name("vcpuid")), folder / "input"
    file.write_bytes(job.data)
    args = [program, *(str(file) if arg == "{}" else arg for arg in job.args)]
    if (pid := os.fork()) == 0:
        sink = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(sink, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        os.execv(program, args)
    _, status, used = os.wait4(pid, 0)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def main() -> None:
    """Print a line a job, and the worst at the end."""
    wanted = sys.argv[1:]
    worst: list[tuple[float, float, str]] = []
    compileall.compile_dir(os.path.dirname(vcpuid.__file__), quiet=2)
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs():
            if wanted and not any(part in job.name for part in wanted):
                continue
            seconds, memory, status = run(job, Path(folder))
            for _ in range(AGAIN if SECONDS < seconds < LONGEST else 0):
                if (seconds := min(seconds, run(job, Path(folder))[0])) <= SECONDS:
                    break
            mark = " ".join([*(["slow"] if seconds > SECONDS else []), *(["large"] if memory > MEGABYTES else [])])
            print(f"{job.name:60.60} {seconds:7.2f} s {memory:6.0f} MB  status {status:3} {mark}", flush=True)
            worst.append((seconds, memory, job.name))
    if worst:
        print(f"\nabove a goal: {sum(found[0] > SECONDS or found[1] > MEGABYTES for found in worst)} of {len(worst)}")
        print(f"slowest: {max(worst)[2]} ({max(worst)[0]:.2f} s); largest: {max(worst, key=lambda row: row[1])[2]}")


if __name__ == "__main__":
    main()
