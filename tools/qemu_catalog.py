#!/usr/bin/env python3
"""Writes src/vcpuid/data/qemu-RELEASE.json: QEMU's feature words, properties, CPU models, caches and machine types.

    tools/qemu_catalog.py 10.0 --source QEMU_TREE --qemu 'qemu-system-x86_64'
    tools/qemu_catalog.py 11.1 --source NEAREST_TREE --qemu '…' --empty-host 'qemu_capture.py …'

QEMU_TREE is a source tree of that release, or of the nearest one where its own is not to be had; --qemu is the command of the real
program of that release, asked over QMP, which overrules the tree where the two differ. --empty-host is a command that runs that program
on a KVM host that supports nothing: called with `--host FILE --cpu CPU --machine q35` it prints a JSON object with QEMU's `stderr`, whose
warnings name the word and bit of every feature.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from csource import Source
from vcpuid.qemu.qmp import Qmp

DATA = Path(__file__).resolve().parent.parent / "src" / "vcpuid" / "data"
REGISTERS = {0: "eax", 1: "ecx", 2: "edx", 3: "ebx"}  # R_EAX … R_EBX of target/i386/cpu.h
KVM_CPUID_FEATURES = 0x40000001  # linux-headers/asm-x86/kvm_para.h, which is not part of target/i386


def words(source: Source) -> list[dict[str, Any]]:
    """Read feature_word_info, in the order of enum FeatureWord."""
    source.known["KVM_CPUID_FEATURES"] = KVM_CPUID_FEATURES
    table = source.table("feature_word_info")
    rows = []
    for name in source.enumerators("FEATURE_WORDS"):
        info = table[source.symbol(name)]
        given = info.get("feat_names", [])
        names = given if isinstance(given, dict) else dict(enumerate(given))
        row: dict[str, Any] = {"name": name}
        if info["type"] == "CPUID_FEATURE_WORD":
            where = info["cpuid"]
            row |= {"leaf": source.evaluate(str(where["eax"])), "index": where.get("ecx", 0), "register": REGISTERS[where["reg"]]}
            row["indexed"] = bool(where.get("needs_ecx", 0))
        else:
            row["msr"] = info["msr"]["index"]
        width = 64 if "msr" in row else 32
        row["bits"] = {position: text for position, text in names.items() if text}
        named = sum(1 << position for position in row["bits"])
        row["migratable"] = (info.get("migratable_flags", 0) | named & ~info.get("unmigratable_flags", 0)) & (1 << width) - 1
        row["no_auto"] = info.get("no_autoenable_flags", 0) & (1 << width) - 1
        rows.append(row)
    return rows


_WARNING = re.compile(r"(?:CPUID\[eax=(?P<leaf>\w+)h(?:,ecx=(?P<index>\w+)h)?\]\.(?P<register>E.X)|MSR\((?P<msr>\w+)h\))(?:\.(?P<name>[\w.-]+))? \[bit (?P<bit>\d+)\]")


def overlay(rows: list[dict[str, Any]], warnings: list[str]) -> None:
    """Add the words and bits that the program's warnings name and the tree does not; they are in the program's own order."""
    places = {(row.get("leaf"), row.get("index"), row.get("register"), row.get("msr")): row for row in rows}
    for match in filter(None, map(_WARNING.search, warnings)):
        found = match.groupdict()
        if found["msr"]:
            place: tuple[Any, ...] = (None, None, None, int(found["msr"], 16))
        else:
            place = (int(found["leaf"], 16), int(found["index"] or "0", 16), found["register"].lower(), None)
        if place not in places:
            leaf, index, register, _ = place
            places[place] = {
                "name": f"FEAT_{leaf:X}_{index}_{register.upper()}",
                "leaf": leaf,
                "index": index,
                "register": register,
                "indexed": found["index"] is not None,
                "bits": {},
                "migratable": 0,
                "no_auto": 0,
            }
            rows.append(places[place])
        bit, row = int(found["bit"]), places[place]
        if found["name"] and bit not in row["bits"]:
            row["bits"][bit] = found["name"]
            row["migratable"] |= 1 << bit
    for row in rows:
        row["bits"] = dict(sorted(row["bits"].items()))


def empty_host(command: str, names: list[str]) -> list[str]:
    """Ask the program for every feature on a host that supports nothing."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as host:
        host.write("RAW 00000000.0 0000001f 756e6547 6c65746e 49656e69\nSUP 00000000.0 f0 0000001f 756e6547 6c65746e 49656e69\nMSR 8b 1 0\n")
        host.flush()
        cpu = ",".join(["base", *(f"+{name}" for name in names)])
        answer = subprocess.run([*shlex.split(command), "--host", host.name, "--cpu", cpu, "--machine", "q35"], capture_output=True, check=True)
    lines: list[str] = json.loads(answer.stdout)["stderr"]
    return lines


def dump(catalog: dict[str, Any]) -> str:
    """Print one row a line."""
    parts = []
    for key, value in catalog.items():
        if isinstance(value, list):
            body = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in value)
            parts.append(f' "{key}": [\n{body}\n ]')
        elif isinstance(value, dict):
            body = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in value.items())
            parts.append(f' "{key}": {{\n{body}\n }}')
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write one release's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--qemu", required=True)
    parser.add_argument("--empty-host")
    options = parser.parse_args()
    target = options.source / "target" / "i386"
    source = Source([target / "cpu.h", target / "cpu.c"])
    rows = words(source)
    with Qmp(shlex.split(options.qemu), accel="tcg") as qemu:
        version = ".".join(str(qemu.version["qemu"][part]) for part in ("major", "minor", "micro"))
        listed = {p["name"]: p for p in qemu.ask("qom-list-properties", typename="max-x86_64-cpu")}
    if options.empty_host:
        flags = sorted(name for name, p in listed.items() if p["type"] == "bool" and p.get("description") is None and "default-value" not in p)
        skipped = {"realized", "hotplugged", "hotpluggable"}
        overlay(rows, empty_host(options.empty_host, [flag for flag in flags if flag not in skipped]))
    catalog = {"release": options.release, "source": f"QEMU {version}, tools/qemu_catalog.py", "words": rows}
    (DATA / f"qemu-{options.release}.json").write_text(dump(catalog))


if __name__ == "__main__":
    main()
