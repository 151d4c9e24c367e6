"""Take captures of Firecracker's own CPUID code, on the hosts of tests/captures/kvm.

    oracle/firecracker/firecracker_capture.py RELEASE=PROGRAM... -o tests/captures/firecracker

PROGRAM is what build.sh made of that release's tag. Two files are written, a JSON object a line; their README tells the form.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.sources import read

KVM = Path(__file__).parents[2] / "tests" / "captures" / "kvm"
STATIC = {"GenuineIntel": ("C3", "T2", "T2S", "T2CL"), "AuthenticAMD": ("T2A",)}
SIGNATURES = {"GenuineIntel": (0x50654, 0x50657, 0x606A6, 0x50653), "AuthenticAMD": (0xA00F11, 0xA00F12)}
VCPUS = (1, 1, 2, 3, 4, 6, 7, 31, 32)
NAMES = (
    "Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz",
    "Intel(R) CPU @3.00GHz",
    "@ 123456789876543212345678987654321234567898GHz",
    "x 2.1MHz 3.0GHz foo",
    "3GHz",
    " 3THz",
    "a" * 20 + " 1.5GHz" + "b" * 21,
)
FIXED = (0x0, 0x1, 0x4, 0x6, 0x7, 0xA, 0xB, 0x80000000, 0x80000001, 0x80000002, 0x80000005, 0x80000006, 0x80000008)
ARCH_CAPABILITIES = 0x10A, 0x0FEDCBA987654321
"""An MSR that templates change, and the value that KVM is to have for it."""

VALUES: tuple[Any, ...] = ([], None, 5, "", {}, [5], [None], [""])
NUMBERS = (
    "0x7", "0b111", "7", 7, "0x", "0b", "0xffffffff", "0x100000000", "0x00000000ff", "0b" + "1" * 33, "0X7", "0b2", "0x+7", "-0x7",
)  # fmt: skip
GOOD: dict[str, Any] = {"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [{"register": "ebx", "bitmap": "0bx10"}]}


def main() -> None:
    """Read the command line, ask each program, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", metavar="RELEASE=PROGRAM")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    programs = dict(pair.split("=", 1) for pair in args.programs)
    rows = list(cases(random.Random(10)))
    answers = {release: ask(program, map(request, rows)) for release, program in programs.items()}
    for number, row in enumerate(rows):
        row["answers"] = distinct(row, {release: told[number] for release, told in answers.items()})
    write(args.output / "tables.jsonl.gz", rows)
    texts = list(dict.fromkeys(templates()))
    newest = list(programs.values())[-1]
    write(
        args.output / "templates.jsonl.gz", ({"text": text, **told} for text, told in zip(texts, ask(newest, parses(texts)), strict=True))
    )


def ask(program: str, requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a program's answers."""
    lines = "".join(json.dumps(line) + "\n" for line in requests)
    done = subprocess.run([program], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def cases(draw: random.Random) -> Iterator[dict[str, Any]]:
    """Yield what is asked: of each host the plain table, a static template and a random one; then tables that are changed at random."""
    names = sorted(path.name for path in KVM.glob("*.txt.gz"))
    for name in names:
        yield row(name, draw)
        if vendor(name) in STATIC:
            signature = draw.choice(SIGNATURES[vendor(name)])
            yield {**row(name, draw), "template": draw.choice(STATIC[vendor(name)]), "signature": signature}
        yield {**row(name, draw), "template": random_template(name, draw)}
    for _ in range(300):
        name = draw.choice(names)
        template = draw.choice([None, "T2", "T2A", random_template(name, draw)])
        yield {**row(name, draw), "template": template, **changes(name, draw)}


def row(name: str, draw: random.Random) -> dict[str, Any]:
    """Ask for a host's table, without a template."""
    vcpus = draw.choice(VCPUS)
    return {"host": name, "template": None, "vcpus": vcpus, "smt": not vcpus % 2 and draw.random() < 0.6}


def vendor(name: str) -> str:
    """Return the maker of a host."""
    return read(KVM / name).vendor


def random_template(name: str, draw: random.Random) -> dict[str, Any]:
    """Make a custom template of a few sub-leaves, nearly all of which the host has."""
    supported = read(KVM / name).supported or CpuidTable()
    modifiers = []
    for _ in range(draw.randrange(1, 5)):
        entry = draw.choice(supported) if draw.random() < 0.97 else Entry(draw.randrange(0x30), 1, 1, 0, 0, 0, 0)
        registers = draw.sample(("eax", "ebx", "ecx", "edx"), draw.randrange(1, 4))
        bitmaps = [{"register": register, "bitmap": "0b" + "".join(draw.choices("xx01", k=32))} for register in registers]
        flags = draw.choice((entry.flags, entry.flags, 0, 1))
        modifiers.append({"leaf": f"{entry.function:#x}", "subleaf": f"{entry.index:#x}", "flags": flags, "modifiers": bitmaps})
    return {"cpuid_modifiers": modifiers}


def changes(name: str, draw: random.Random) -> dict[str, Any]:
    """Change KVM's answer: leaves that go, entries with other registers, more of leaf 0xB; and the host's name."""
    supported = read(KVM / name).supported or CpuidTable()
    made: dict[str, Any] = {}
    kind = draw.randrange(4)
    if kind == 0:
        made["without"] = [draw.choice(FIXED)]
    elif kind == 1:
        made["with"] = [str(Entry(*entry[:3], *(draw.getrandbits(32) for _ in range(4)))) for entry in draw.sample(list(supported)[1:], 4)]
    elif kind == 2:
        made["with"] = [str(Entry(0xB, index, 1, *(draw.getrandbits(32) for _ in range(4)))) for index in range(draw.randrange(1, 4))]
        made["with"] += [str(Entry(0x1F, index, 1, 1, 2, 3, 4)) for index in range(draw.randrange(3))]
    if draw.random() < 0.3:
        made["name"] = draw.choice(NAMES)
    return made


def tables(row: dict[str, Any]) -> tuple[CpuidTable, CpuidTable]:
    """Return the host's CPUID and KVM's answer as a row has them."""
    host = read(KVM / row["host"])
    raw, supported = host.raw.by_key(), (host.supported or CpuidTable()).by_key()
    if "signature" in row:
        raw[1, 0] = raw[1, 0]._replace(eax=row["signature"])
    if "name" in row:
        text = row["name"].encode().ljust(48, b"\0")
        words = [int.from_bytes(text[place : place + 4], "little") for place in range(0, 48, 4)]
        raw |= {(0x80000002 + leaf, 0): Entry(0x80000002 + leaf, 0, 0, *words[4 * leaf : 4 * leaf + 4]) for leaf in range(3)}
    supported = {place: entry for place, entry in supported.items() if place[0] not in row.get("without", ())}
    supported |= {entry[:2]: entry for entry in map(parse, row.get("with", ()))}
    return CpuidTable(raw.values()), CpuidTable(supported.values())


def parse(text: str) -> Entry:
    """Read an entry as it prints."""
    place, flags, *registers = text.split()
    function, index = place.split(".")
    return Entry(int(function, 16), int(index, 16), int(flags[1:], 16), *(int(word, 16) for word in registers))


def request(row: dict[str, Any]) -> dict[str, Any]:
    """Write a row as the program wants it."""
    raw, supported = tables(row)
    host = [[entry.function, entry.index, *entry.registers] for entry in raw]
    return {
        "host": host,
        "supported": list(supported),
        "msrs": [ARCH_CAPABILITIES],
        **{key: row[key] for key in ("template", "vcpus", "smt")},
    }


def distinct(row: dict[str, Any], told: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the releases that answer alike; of a table only the entries that are not KVM's, of the first vCPU and the last."""
    _, supported = tables(row)
    found: list[dict[str, Any]] = []
    for release, answer in told.items():
        short = {key: answer[key] for key in ("error", "warnings") if answer.get(key)}
        if "tables" in answer:
            made = [[Entry(*entry) for entry in table] for table in (answer["tables"][0], answer["tables"][-1])]
            assert {entry[:2] for table in made for entry in table} >= supported.by_key().keys()
            value = answer["msrs"][0][1]
            if value != ARCH_CAPABILITIES[1]:
                short["arch_capabilities"] = f"{value:x}"
            short["changed"] = [[str(entry) for entry in table if supported.get(*entry[:2]) != entry] for table in made]
        same = [row for row in found if {key: row[key] for key in row if key != "releases"} == short]
        if same:
            same[0]["releases"].append(release)
        else:
            found.append({"releases": [release], **short})
    return found


def templates() -> Iterator[str]:
    """Yield texts that are custom templates, or nearly."""
    yield from ("", "{}", "{} {}", "{", '{"cpuid_modifiers": [], "cpuid_modifiers": []}', '{"cpuid": []}', '{"reg_modifiers": []}')
    for key in ("kvm_capabilities", "cpuid_modifiers", "msr_modifiers"):
        yield from (json.dumps({key: value}) for value in VALUES)
    for text in ("171", "!56", "!!5", "", "!", "-1", "+1", "4294967295", "4294967296", "0x5", " 5"):
        yield json.dumps({"kvm_capabilities": [text]})
    for key in GOOD:
        yield json.dumps({"cpuid_modifiers": [{name: value for name, value in GOOD.items() if name != key}]})
    for key in ("leaf", "subleaf"):
        for number in NUMBERS:
            yield json.dumps({"cpuid_modifiers": [{**GOOD, key: number}]})
    for flags in (0, 1, 6, -1, 1.0, 1.5, True, "1", None, (1 << 32) - 1, 1 << 32):
        yield json.dumps({"cpuid_modifiers": [{**GOOD, "flags": flags}]})
    yield json.dumps({"cpuid_modifiers": [GOOD, GOOD]})
    yield json.dumps({"cpuid_modifiers": [{**GOOD, "why": 5}]})
    for register in ("eax", "EAX", "rax", "", 5, None):
        yield json.dumps({"cpuid_modifiers": [{**GOOD, "modifiers": [{"register": register, "bitmap": "0b1"}]}]})
    for width in (32, 64):
        bits: tuple[str, ...] = (
            "",
            "0b",
            "1",
            "0b1",
            "0b_1_",
            "x" * width,
            "0b" + "1" * width,
            "0b_" + "1" * width,
            "0b" + "0_" * width,
            "1" * (width + 1),
        )
        for bitmap in (*bits, "0bX", "0b2", "0b0b1", " 0b1", "0b 1", 1, None, "é"):
            modifier = {**GOOD, "modifiers": [{"register": "ebx", "bitmap": bitmap}]}
            msr = {"addr": "0x10a", "bitmap": bitmap}
            yield json.dumps({"cpuid_modifiers": [modifier]} if width == 32 else {"msr_modifiers": [msr]}, ensure_ascii=False)


def parses(texts: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Ask how texts are read."""
    return ({"parse": text} for text in texts)


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows, the same file for the same rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
