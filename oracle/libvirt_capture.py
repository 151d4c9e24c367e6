#!/usr/bin/env python3
"""What a real libvirt says and does on any host: libvirtd and the QEMU that it starts run under kvmshim.c, which plays the host.

    oracle/libvirt_capture.py --root DIR --host HOST --name NAME --requests FILE.json > answers.jsonl
    oracle/libvirt_capture.py --root DIR --verify ROWS.jsonl.gz [--rows N]

DIR is a Debian root with libvirt and QEMU: `debian-suites.sh root DIR trixie-backports libvirt-daemon-driver-qemu libvirt-daemon
libvirt-clients python3-libvirt qemu-system-x86`, or another suite's. In DIR this leaves a wrapper in the place of QEMU, only that
emulator and only libvirt's QEMU driver, a user libvirt-qemu, and /lvcap. HOST holds RAW, SUP, MSR and HV lines, or is HOSTS.json.gz:KEY.
FILE.json is a list of requests (`-`: standard input), of which README.md beside this file tells:

    [{"do": "capabilities"}, {"do": "domcapabilities", "machine": "q35"},
     {"do": "argv", "machine": "q35", "cpu": "<cpu mode='host-model'/>"},
     {"do": "start", "machine": "pc", "cpu": "<cpu mode='custom' match='exact'><model>@USABLE1@</model></cpu>"}]

--verify asks once more what rows of a committed capture asked, and compares.

libvirt learns of the host from the CPUID instruction, of which libvirt.so.0 has one; from KVM_GET_SUPPORTED_CPUID, KVM_GET_MSRS and
KVM_GET_TSC_KHZ on /dev/kvm (/dev/cpu/0/msr is hidden, as where the module msr is not loaded); from /proc/cpuinfo, which is made up here of
the host's CPUID, in a private mount namespace; and from QEMU, which is under the same shim. Not played: topology and NUMA (/sys), memory,
and KVM_CHECK_EXTENSION but for XSAVE2, TSC_CONTROL and the Hyper-V ones.

Needs root, gcc, objdump and /dev/kvm. Exit status as capture.py's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emulated import FOLDER, build
from kinds import host_lines, read
from played import cpuid_sites, program_sites
from vcpuid.errors import InputError, UnavailableError, VcpuidError

QEMU = "usr/bin/qemu-system-x86_64"
OTHER_EMULATORS = ("qemu-system-i386", "qemu-system-amd64", "qemu-system-x86_64-microvm", "qemu-kvm", "kvm")
"""libvirt probes every emulator that it finds; one is enough."""

PLAYED = ("TSC 2500000 1", "STATE 1")
"""What every host has: a TSC of 2.5 GHz that KVM can scale, and all the state that its CPUID promises."""

WRAPPER = f'#!/bin/sh\n[ -r /lvcap/now/env ] && . /lvcap/now/env\nexec /{QEMU}.real "$@"\n'

ENTER = """set -e
cd "$1"
mkdir -p lvcap/now var/lib/libvirt var/cache/libvirt
mount --make-rprivate /
mount --bind "$2" lvcap/now
for folder in run var/lib/libvirt var/cache/libvirt var/log tmp; do mount -t tmpfs tmpfs "$folder"; done
mount --bind "$2/cpuinfo" proc/cpuinfo
[ ! -d dev/cpu ] || mount -t tmpfs tmpfs dev/cpu
exec chroot . /usr/bin/python3 /lvcap/now/inside.py
"""
"""Runs in a mount namespace of its own, so that a run leaves nothing of libvirt's state behind."""

SECONDS = 900

Row = dict[str, Any]


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host")
    parser.add_argument("--name", help="what the rows call the host (default: its key, or the file)")
    parser.add_argument("--requests", default="-")
    parser.add_argument("--verify", type=Path, metavar="ROWS")
    parser.add_argument("--rows", type=int, default=20, help="how many rows to ask once more; 0: all (default: %(default)s)")
    parser.add_argument("--log", type=Path, help="keep libvirtd's log in this file")
    options = parser.parse_args()
    if (options.host is None) == (options.verify is None):
        parser.error("one of --host and --verify is needed")
    try:
        if options.verify:
            return verify(options.root.resolve(), options.verify, options.rows)
        requests = requests_of(options.requests)
        for row in ask(
            options.root.resolve(), host_lines(options.host), options.name or options.host.rpartition(":")[2], requests, log=options.log
        ):
            print(json.dumps(row))
    except VcpuidError as error:
        print(f"libvirt_capture.py: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def requests_of(path: str) -> list[Row]:
    """Read the list of requests. Raises InputError."""
    try:
        found = json.loads(sys.stdin.read() if path == "-" else read(Path(path)))
    except ValueError:
        raise InputError("no JSON", source=path) from None
    if not isinstance(found, list) or not all(isinstance(each, dict) and "do" in each for each in found):
        raise InputError('no list of requests {"do": ...}', source=path)
    return found


def ask(root: Path, host: Sequence[str], name: str, requests: Sequence[Row], log: Path | None = None) -> list[Row]:
    """Ask the libvirt of `root` on this host: a row for each request, in order. Raises UnavailableError or FailedError."""
    if os.geteuid() != 0:
        raise UnavailableError("only root can enter another root")
    sites = prepare(root)
    with tempfile.TemporaryDirectory(dir=root / "lvcap") as folder:
        work = Path(folder)
        lines = [*host, *(line for line in PLAYED if not any(each.startswith(line.split()[0]) for each in host))]
        (work / "host").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (work / "cpuinfo").write_text(cpuinfo(lines), encoding="utf-8")
        environment = f"LD_PRELOAD=/lvcap/shim.so KVMSHIM_HOST=/lvcap/now/host KVMSHIM_SITES={sites['qemu']}"
        (work / "env").write_text(f"export {environment}\n", encoding="utf-8")
        job = {"name": name, "requests": list(requests), "sites": sites["libvirt"]}
        (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
        shutil.copy(FOLDER / "libvirt_inside.py", work / "inside.py")
        command = ["unshare", "-m", "bash", "-c", ENTER, "enter", str(root), str(work)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        if log and (work / "libvirtd.log").exists():
            shutil.copy(work / "libvirtd.log", log)
        answers = work / "answers.jsonl"
        rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()] if answers.exists() else []
    if done.returncode or len(rows) != len(requests):
        raise UnavailableError(
            f"{name}: {len(rows)} of {len(requests)} requests answered: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        )
    return shorten(rows, any(line.startswith("HV ") for line in host))


def shorten(rows: list[Row], has_hyperv: bool) -> list[Row]:
    """Write "same" for a <cpu> of domain capabilities that equals the first one's, as most do.

    What they say of Hyper-V is this machine's, and left out, where the host tells nothing of it, and with TCG.
    """
    first = None
    for row in rows:
        answer = row.get("answer")
        if row["request"]["do"] != "domcapabilities" or answer is None:
            continue
        if not has_hyperv or row["request"].get("virt") == "qemu":
            answer.pop("hyperv", None)
        if first is None:
            first = answer["cpu"]
        elif answer["cpu"] == first:
            answer["cpu"] = "same"
    return rows


def prepare(root: Path) -> dict[str, str]:
    """Make a root ready, once: the wrapper, the shim. Returns KVMSHIM_SITES of its libvirt and of its QEMU."""
    if not (root / QEMU).exists():
        raise UnavailableError(f"no QEMU in {root}")
    (root / "lvcap").mkdir(exist_ok=True)
    real = root / f"{QEMU}.real"
    if not real.exists():
        (root / QEMU).rename(real)
        (root / QEMU).write_text(WRAPPER, encoding="utf-8")
        (root / QEMU).chmod(0o755)
        for other in OTHER_EMULATORS:
            (root / "usr/bin" / other).unlink(missing_ok=True)
        for driver in root.glob("usr/lib/*/libvirt/connection-driver/libvirt_driver_*.so"):
            if driver.name != "libvirt_driver_qemu.so":
                driver.unlink()
    if "libvirt-qemu:" not in (root / "etc/passwd").read_text(encoding="utf-8"):
        # libvirt-daemon-system makes this user, and would bring a whole system along.
        for file, line in (
            ("passwd", "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin"),
            ("group", "libvirt-qemu:x:64055:"),
        ):
            with (root / "etc" / file).open("a", encoding="utf-8") as out:
                out.write(line + "\n")
    build("kvmshim.c", root / "lvcap/shim.so", "-shared", "-fPIC")
    return sites_of(root, real)


def sites_of(root: Path, qemu: Path) -> dict[str, str]:
    """Give KVMSHIM_SITES of libvirt and of QEMU, kept in the root: disassembling takes a while."""
    library = next(root.glob("usr/lib/*/libvirt.so.0"), None)
    if library is None:
        raise UnavailableError(f"no libvirt in {root}")
    kept, stamp = root / "lvcap/sites.json", [library.stat().st_size, qemu.stat().st_size]
    if kept.exists():
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known.pop("stamp") == stamp:
            return dict(known)
    found = {
        "libvirt": ",".join(f"libvirt.so.0@{site:x}" for site in cpuid_sites(library)),
        "qemu": ",".join(f"{site:x}" for site in program_sites(qemu)),
    }
    kept.write_text(json.dumps({"stamp": stamp, **found}), encoding="utf-8")
    return found


def cpuinfo(host: Sequence[str]) -> str:
    """Write the lines of /proc/cpuinfo that libvirt reads, as Linux would for this CPUID."""
    text = "\n".join(host)
    rows = re.findall(r"^RAW ([0-9a-f]+)\.([0-9a-f]+) ([0-9a-f ]+)$", text, re.MULTILINE)
    raw = {(int(leaf, 16), int(index, 16)): [int(word, 16) for word in words.split()] for leaf, index, words in rows}
    if (0, 0) not in raw or (1, 0) not in raw:
        raise InputError("the host has no RAW lines of leaves 0 and 1")
    msrs = {int(index, 16): int(value, 16) for index, value in re.findall(r"^MSR ([0-9a-f]+) 1 ([0-9a-f]+)", text, re.MULTILINE)}
    vendor = letters(raw[0, 0][1], raw[0, 0][3], raw[0, 0][2])
    eax, _, _, edx = raw[1, 0]
    family, model = signature(eax)
    brand = "".join(letters(*raw.get((leaf, 0), [0] * 4)) for leaf in (0x80000002, 0x80000003, 0x80000004)).split("\0")[0].strip()
    size = raw.get((0x80000008, 0), [0])[0] if raw.get((0x80000000, 0), [0])[0] >= 0x80000008 else 0
    has_36_bits = edx & (1 << 6 | 1 << 17)  # PAE, PSE36: get_cpu_address_sizes
    bits, virtual = (size & 255, size >> 8 & 255) if size else (36 if has_36_bits else 32, 48)
    microcode = msrs.get(0x8B, 0) >> 32 if vendor == "GenuineIntel" else msrs.get(0x8B, 0) & 0xFFFFFFFF
    lines = {
        "vendor_id": vendor,
        "cpu family": family,
        "model": model,
        "model name": brand or "unknown",
        "stepping": eax & 15 or "unknown",
        **({"microcode": f"{microcode:#x}"} if microcode else {}),
        "cpu MHz": "2500.000",
        "address sizes": f"{bits} bits physical, {virtual} bits virtual",
    }
    blocks = ({"processor": cpu, **lines} for cpu in range(os.cpu_count() or 1))
    return "".join("".join(f"{key}{chr(9) * (1 + (len(key) < 8))}: {value}\n" for key, value in block.items()) + "\n" for block in blocks)


def letters(*words: int) -> str:
    """Give the text in registers."""
    return b"".join(word.to_bytes(4, "little") for word in words).decode(errors="replace")


def signature(eax: int) -> tuple[int, int]:
    """Give family and model of leaf 1, as x86_family and x86_model do (arch/x86/lib/cpu.c)."""
    family, model = eax >> 8 & 15, eax >> 4 & 15
    if family == 15:
        family += eax >> 20 & 255
    if family >= 6:
        model += (eax >> 16 & 15) << 4
    return family, model


def verify(root: Path, path: Path, count: int) -> int:
    """Ask the first `count` rows (0: all) of this root's libvirt once more, and print what differs; returns the exit status.

    A host's rows are asked of one daemon, as they were for the capture: a token's choice and "same" depend on the ones before.
    """
    committed = [json.loads(line) for line in read(path).splitlines()]
    tried = same = 0
    for host, group in itertools.groupby(committed, key=lambda row: (row["host"], row["libvirt"], row["qemu"])):
        rows = list(group)
        if host[1:] != releases(root):
            continue
        rows = rows[: count - tried if count else None]
        requests = [{**row["request"], **({"machine": row["machine"]} if row["machine"] else {})} for row in rows]
        made = ask(root, host_lines(f"{path.parent / 'hosts.json.gz'}:{host[0]}"), host[0], requests)
        for old, new in zip(rows, made, strict=True):
            same += old == new
            if old != new:
                print(f"- {json.dumps(old)}\n+ {json.dumps(new)}")
        tried += len(rows)
        if count and tried >= count:
            break
    if not tried:
        raise UnavailableError(f"no row of {path.name} was made with libvirt {' and QEMU '.join(releases(root))}")
    print(f"{path.name}: {same} of {tried} rows the same")
    return 0 if same == tried else 1


def releases(root: Path) -> tuple[str, str]:
    """Ask for the releases of a root's libvirt and QEMU. Raises UnavailableError."""
    found = []
    for program in ("usr/sbin/libvirtd", f"{QEMU}.real" if (root / f"{QEMU}.real").exists() else QEMU):
        done = subprocess.run(["chroot", str(root), f"/{program}", "--version"], capture_output=True, text=True)
        match = re.search(r"(\d+\.\d+\.\d+)", done.stdout)
        if match is None:
            raise UnavailableError(f"{program} of {root} tells no release: {done.stderr.strip()[:200]}")
        found.append(match[1])
    return found[0], found[1]


if __name__ == "__main__":
    sys.exit(main())
