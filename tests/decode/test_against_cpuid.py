"""Held against the cpuid program of Debian, value by value: real processors' dumps, this machine, and tables drawn at random.

cpuid-labels.json says which field holds what cpuid names. Where both name a thing and say otherwise, the reason is in REASONS. The dumps
of InstLatx64 are read in place where VCPUID_PEERS names the folder that holds them.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vcpuid
from support.peers import INSTLATX64, members
from vcpuid import data, decode
from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.decode.descriptors import descriptors
from vcpuid.formats import parse as parse_dump

LABELS = Path(__file__).parent / "cpuid-labels.json"
VERSION = "20230120"


def installed() -> str:
    return subprocess.run(["cpuid", "--version"], capture_output=True, text=True).stdout if shutil.which("cpuid") else ""


pytestmark = pytest.mark.skipif(VERSION not in installed(), reason=f"needs the cpuid program, version {VERSION}")

Key = tuple[str, str, str]

REASONS = {
    ("Feature Extended Size (0x80000008/edx)", "RDPRU instruction max input support"): "cpuid takes 8 bits of the field's 16 (AMD APM)",
    ("Extended Feature 2 (0x80000021)", "microcode patch size"): "cpuid takes 12 bits of the field's 16, and a legacy size for 0 (AMD APM)",
    (
        "PQoS Enforcement for L3 External Bandwidth (0x80000020/n)",
        "capacity bitmask length",
    ): "cpuid adds 1 to what is the length (AMD APM)",
    ("PQoS Enforcement for L3 External Slow Memory Bandwidth (0x80000020/n)", "capacity bitmask length"): "the same of slow memory",
    ("Deterministic Address Translation Parameters (0x18/n)", "translation cache level"): "cpuid adds 1 to what counts from 1 (Intel SDM)",
    ("Compute Unit Identifiers (0x8000001e/ebx)", "cores per compute unit"): "cpuid takes 2 bits of the field's 8 (AMD APM)",
    ("leaf 2 of GenuineIntel", "0x73"): "a trace cache of 64K µops, which no manual lists",
    ("leaf 2 of GenuineIntel", "0x81"): "an L2 cache of 128K, which no manual lists",
    **{
        ("leaf 2 of GenuineIntel", f"0x{number}"): "Itanium's, which is no x86 processor"
        for number in ("10", "15", "1a", "77", "7e", "88", "89", "8a", "8d", "90", "96", "9b")
    },
    ("leaf 2 of Geode by NSC", "0x70"): "cpuid takes it for Intel's trace cache, but the Geode GX1 is Cyrix' MediaGX: a TLB",
    ("leaf 2 of Geode by NSC", "0x80"): "cpuid takes it for Intel's L2 cache, but the Geode GX1 is Cyrix' MediaGX: its L1 cache",
}
"""Labels of which cpuid's value is another one than ours, and why."""

UNCOMPARED = {
    "(simple synth)", "(synth)", "(uarch synth)", "(multi-processing synth)", "(multi-processing method)", "str1", "str2", "PartialModel",
    "PG", "BrandTableIndex", "raw", "(vuln to branch type confusion synth)",
}  # fmt: skip
"""What cpuid guesses or takes from tables of product names."""


# ---- what cpuid reads and prints


def dump(table: CpuidTable) -> str:
    """A table as `cpuid -r` prints it."""
    lines = (
        f"   0x{e.function:08x} 0x{e.index:02x}: eax=0x{e.eax:08x} ebx=0x{e.ebx:08x} ecx=0x{e.ecx:08x} edx=0x{e.edx:08x}" for e in table
    )
    return "\n".join(["CPU 0:", *lines, ""])


def blocks(text: str) -> Iterator[list[str]]:
    """What is printed, CPU by CPU."""
    lines: list[str] = []
    for line in text.splitlines():
        if re.fullmatch(r"CPU( \d+)?:", line):
            if lines:
                yield lines
            lines = []
        else:
            lines.append(line)
    yield lines


def parse(lines: list[str]) -> dict[Key, str]:
    """Read values by section, part of it and label; of a label that comes again, with a number behind it."""
    values: dict[Key, str] = {}
    section = part = ""
    for line in lines:
        body = line.strip()
        if len(line) - len(line.lstrip()) <= 3:
            part, section = "", body[:-1] if body.endswith(":") and " = " not in body else ""
            if section:
                continue
        if re.fullmatch(r"--- .* ---", body):
            part = body.strip("- ")
            continue
        label, _, value = body.partition(" = ")
        key, again = (section, part, label.strip()), 0
        while key in values:
            again += 1
            key = (section, part, f"{label.strip()}#{again}")
        values[key] = value.strip()
    return values


def cpuid(tables: list[CpuidTable]) -> list[dict[Key, str]]:
    """What cpuid says of some tables; nothing where it dies of them."""
    done = subprocess.run(["cpuid", "-f", "-"], input="".join(map(dump, tables)).encode(), capture_output=True)
    return [parse(lines) for lines in blocks(done.stdout.decode("latin-1"))] if done.returncode == 0 else []


# ---- comparing


@cache
def labels() -> dict[tuple[str, str], tuple[int, str, str, str, str | dict[str, int]]]:
    rows = json.loads(LABELS.read_text(encoding="utf-8"))["rows"]
    return {(section, label): (int(word.split(".")[0], 16), *word.split(".")[1:], name, how) for section, label, word, name, how in rows}


def spot(key: Key) -> tuple[tuple[str, str], int | None]:
    """Find the row for a label, and the sub-leaf that the section or its part is about."""
    section, part, label = key
    if (section, label) in labels() and not part:
        return (section, label), None
    index = None
    if match := re.search(r"\((0x[0-9a-f]+|[0-9a-f]+)/(?:0x)?([0-9a-f]+)\)", section):
        index = int(match[2], 16)
        section = f"{section[: match.start()]}({match[1]}/n){section[match.end() :]}"
        if "(0xd/n)" in section:
            section, label = "(0xd/n)", re.sub(r"^.* save state byte (size|offset)", r"save state byte \1", label)
    if match := re.search(r"(\d+)$", part):
        index = int(match[1])
    return (section, label), index


def numbers(text: str) -> set[float]:
    """Every way in which a value is told: `0x10 (16)`, `8 to 15-way (6)`, `1004 (0x13)`, `24000000 Hz`, `true`."""
    if text in ("true", "false"):
        return {float(text == "true")}
    if match := re.search(r"\((-?\d+)\)(?::|$)", text):
        return {float(match[1])}
    return {float(int(n, 16)) if n.startswith("0x") else float(n) for n in re.findall(r"0x[0-9a-f]+|-?\d+(?:\.\d+)?", text)}


def agree(text: str, value: decode.Value, how: str | dict[str, int], leaf: decode.Leaf) -> bool:
    if isinstance(how, dict):
        return value.raw == how[text] if text in how else numbers(text) == {value.raw}
    kind, _, bit = how.partition(" ")
    if kind == "bit":
        return numbers(text) == {value.raw >> int(bit) & 1}
    if kind == "event":  # available where its bit is clear and within the length
        return (text == "available") is (not value.raw and leaf.value("events_mask_len") > int(bit))
    told: dict[str, set[float]] = {
        "raw": {value.raw},
        "raw+1": {value.raw + 1},
        "half": {value.raw / 2},
        "raw/256": {round(value.raw / 256, 6)},
    }
    if kind == "value":
        assert isinstance(value.reading.value, int)
        return value.reading.value in numbers(text) <= {value.reading.value, value.raw}
    return {round(n, 6) for n in numbers(text)} == told[kind]


class Tally:
    """What was compared, and what differed."""

    def __init__(self) -> None:
        self.compared = 0
        self.labels: set[tuple[str, str]] = set()
        self.differ: dict[tuple[str, str], str] = {}
        self.unknown: Counter[tuple[str, str]] = Counter()

    def note(self, row: tuple[str, str], same: bool, what: str) -> None:
        self.compared += 1
        self.labels.add(row)
        if not same:
            self.differ.setdefault(row, what)

    def hold(self, table: CpuidTable, told: dict[Key, str], name: str = "") -> None:
        """Hold a table's fields against what cpuid says of it."""
        leaves = {(leaf.function, leaf.index): leaf for leaf in decode.leaves(table)}
        for key, text in told.items():
            row, index = spot(key)
            if row not in labels():
                self.derived(table, key, text, name)
                continue
            function, subleaf, register, field, how = labels()[row]
            leaf = leaves[function, index if subleaf == "n" and index is not None else int(subleaf, 16)]
            value = next((v for v in leaf.values() if v.field.name == field and v.register == register), None)
            if value is None:  # another vendor's field: reserved here
                assert leaf.who in ("intel", "cyrix", "transmeta", "centaur"), (key, leaf.who)
                self.unknown[row] += 1
            else:
                self.note(row, agree(text, value, how, leaf), f"{name} {key}: {text}; we say {value.raw:#x}, {value.reading}")

    def derived(self, table: CpuidTable, key: Key, text: str, name: str) -> None:
        """Hold against what several fields say together."""
        section, part, label = key
        row = (section if "XSAVE" in section or "SGX" in section else re.sub(r"\(.*", "", section).strip(), label)
        who = decode.identity(table)
        ours: object
        if label == "vendor_id":
            ours, text = who.vendor, text.strip('"').replace("\\0", "")
        elif label == "brand":
            ours, text = who.brand, text.strip('"').replace("\\0", "").strip()
        elif label in ("(family synth)", "(model synth)"):
            if "1/eax" not in section or "0x8" in section:
                return
            ours, text = (who.family if label == "(family synth)" else who.model), str(int(numbers(text).pop()))
        elif label in ("(size synth)", "(synth size)"):
            function = 4 if "deterministic" in section else 0x8000001D
            if table.registers(function, int(part.split()[1])).eax & 0x1F not in (1, 2, 3):
                return  # no cache, or of a type that is reserved, and yet cpuid prints a size
            sizes = {cache.source: cache.size for cache in decode.caches(CpuidTable(table.leaf(function)))}
            ours, text = sizes[f"{function:#x}.{part.split()[1]}"], text.split()[0]
        elif label in ("XCR0 valid bit field mask", "IA32_XSS valid bit field mask"):
            area = decode.xsave(table)
            ours, text = (area.user if "XCR0" in label else area.supervisor), str(int(text, 16))
        elif label == "TSC/clock ratio":
            leaf = table.registers(0x15)
            ours = f"{leaf.ebx}/{leaf.eax}"
        elif label.startswith("hypervisor_id"):
            base = int(label.split("(")[1].strip(")"), 16)
            ours, text = who.hypervisors[base], text.strip('"').replace("\\0", "")
        elif section.startswith("cache and TLB information") and re.match(r"0x[0-9a-f]{2}: ", label):
            self.descriptor(table, label)
            return
        else:
            if label not in UNCOMPARED:
                self.unknown[row] += 1
            return
        self.note((section and row[0], label.split("(0x")[0]), str(ours) == text, f"{name} {key}: {text}; we say {ours}")

    def descriptor(self, table: CpuidTable, label: str) -> None:
        """Sizes, ways, entries and line sizes of a descriptor of leaf 2: every number that cpuid tells, we tell too."""
        number, _, text = label.replace("1.5M", "1536K").partition(": ")
        ours = " ".join(str(each) for each in descriptors(int(number, 16), decode.parties(table).vendor))
        told = {
            int(n) << {"K": 0, "M": 10}.get(unit, 0)
            for n, unit in re.findall(r"(\d+)([KM]?)\b(?!-way)", re.sub(r"L\d|\d+[KMG](/\dM)? pages.*?,|\b4K,|2M/4M,", "", text))
        }
        told |= {int(n) for n in re.findall(r"(\d+)-way", text)}
        if "data is in" not in text:
            self.note(
                (f"leaf 2 of {decode.identity(table).vendor}", number),
                told <= {int(n) for n in re.findall(r"\d+", ours)},
                f"{label}; we say {ours}",
            )


def verdict(tally: Tally) -> None:
    """Fail on what differs without a reason."""
    wrong = {row: what for row, what in tally.differ.items() if row not in REASONS}
    assert not wrong, "\n".join(wrong.values())


# ---- tables


@cache
def real() -> dict[str, CpuidTable]:
    return {name: parse_dump(text, name)[0].raw for name, text in members(INSTLATX64).items()}


VENDORS = {"GenuineIntel": 0xC06F2, "AuthenticAMD": 0xA70F52, "HygonGenuine": 0x900F02, "CentaurHauls": 0x6FA, "GenuineTMx86": 0x543}
HYPERVISORS = {"KVMKVMKVM\0\0\0": 0x40000001, "Microsoft Hv": 0x4000000C, "XenVMMXenVMM": 0x40000005, "VMwareVMware": 0x40000010}


def words(text: str) -> tuple[int, int, int]:
    first, second, third = (int.from_bytes(text[i : i + 4].encode(), "little") for i in (0, 4, 8))
    return first, second, third


def random_table(draw: random.Random, vendor: str, hypervisor: str) -> CpuidTable:
    """Every leaf that the tables know, with random registers but in those that say what else there is."""
    places: set[tuple[int, int]] = set()
    for word, *_ in data.load("fields")["rows"]:
        leaf, span, _ = word.split(".")
        function, first = int(leaf, 16), int(span.split("-")[0], 16)
        if (
            function < 0x20000000
            or 0x80000000 <= function < 0x80010000
            or function >> 16 == {"CentaurHauls": 0xC000, "GenuineTMx86": 0x8086}.get(vendor)
        ):
            places |= {(function, first), (function, first + ("-" in span))}
    places |= {(function, 0) for function in range(0x40000001, HYPERVISORS[hypervisor] + 1)} | {(7, 1), (7, 2)}
    found = {place: Entry(*place, 0, *(draw.getrandbits(32) for _ in range(4))) for place in places}
    one, two, three = words(vendor)
    found[0, 0] = Entry(0, 0, 0, 0x29, one, three, two)
    found[1, 0] = found[1, 0]._replace(eax=VENDORS[vendor], ebx=draw.getrandbits(32) | 0x020800, ecx=1 << 31 | draw.getrandbits(31))
    found[4, 0] = found[4, 0]._replace(eax=0x1C004121)
    for place in {(4, 0), (4, 1), (0x8000001D, 0), (0x8000001D, 1)}:  # caches below 4 GiB: cpuid counts bytes in 32 bits
        found[place] = found[place]._replace(ebx=found[place].ebx & 0x7C0103F, ecx=found[place].ecx & 0xFFF)
    found[2, 0] = Entry(2, 0, 0, 1, 0, 0, 0)  # every descriptor has its own test
    for function in (0x80000002, 0x80000003, 0x80000004, 0x80860003):
        found[function, 0] = Entry(function, 0, 0, *(int.from_bytes(draw.randbytes(4).hex()[:4].encode(), "little") for _ in range(4)))
    found |= {(0x1B, index): found[0x1B, index]._replace(eax=0) for index in (0, 1)}  # cpuid dies of others
    found[0x80000000, 0] = Entry(0x80000000, 0, 0, 0x80000028, one, three, two)
    found[0x40000000, 0] = Entry(0x40000000, 0, 0, HYPERVISORS[hypervisor], *words(hypervisor))
    if hypervisor.startswith("Micro"):
        found[0x40000001, 0] = Entry(0x40000001, 0, 0, 0x31237648, 0, 0, 0)
        found[0x40000002, 0] = Entry(0x40000002, 0, 0, *(draw.getrandbits(31) for _ in range(4)))  # cpuid prints signed numbers
    if hypervisor.startswith("VMw"):
        found[0x40000010, 0] = Entry(0x40000010, 0, 0, *(draw.getrandbits(31) for _ in range(4)))  # and here
    if hypervisor.startswith("Xen"):
        found |= {(0x40000003, index): Entry(0x40000003, index, 0, *(draw.getrandbits(31) for _ in range(4))) for index in range(3)}
    return CpuidTable(found[place] for place in sorted(found))


# ---- tests


def test_labels_name_fields_that_there_are() -> None:
    named = {(word.split(".")[0], name) for _, _, word, name, _ in json.loads(LABELS.read_text(encoding="utf-8"))["rows"]}
    there = set()
    for word in {word for _, _, word, _, _ in json.loads(LABELS.read_text(encoding="utf-8"))["rows"]}:
        function, index, _ = word.split(".")
        for who in ("intel", "amd", "centaur", "transmeta", "cyrix", "kvm", "hyperv", "xen", "vmware"):
            for n in (0, 1, 2, 3) if index == "n" else (int(index, 16),):
                there |= {(function, value.field.name) for value in decode.leaf(Entry(int(function, 16), n, 0, 0, 0, 0, 0), who).values()}
    assert not named - there


@pytest.mark.long
@pytest.mark.skipif(not INSTLATX64.is_file(), reason="needs InstLatx64's dumps in VCPUID_PEERS")
def test_real_processors(record_property: pytest.RecordProperty) -> None:
    tally, held = Tally(), 0
    for name, table in real().items():
        for told in cpuid([table]):  # none where cpuid dies: of GenuineIntel0000590_Clanton_03, by a division by zero
            tally.hold(table, told, name)
            held += 1
    print(f"\n{held} processors, {tally.compared} values of {len(tally.labels)} labels compared; {sum(tally.unknown.values())} not")
    verdict(tally)
    assert held >= 440
    assert tally.compared > 170_000
    assert len(tally.labels) > 900


@pytest.mark.long
@pytest.mark.parametrize("hypervisor", HYPERVISORS, ids=lambda name: name.strip("\0"))
@pytest.mark.parametrize("vendor", VENDORS)
def test_random_tables(vendor: str, hypervisor: str) -> None:
    draw = random.Random(f"{vendor} {hypervisor}")
    tally, held = Tally(), 0
    for _ in range(5):
        table = random_table(draw, vendor, hypervisor)
        for told in cpuid([table]):
            tally.hold(table, told)
            held += 1
    verdict(tally)
    assert held
    assert tally.compared > 500 * held


@pytest.mark.long
def test_every_descriptor() -> None:
    base = [Entry(0, 0, 0, 2, *(words("GenuineIntel")[i] for i in (0, 2, 1))), Entry(1, 0, 0, 0xF41, 0, 0, 0)]
    tally = Tally()
    for number in range(1, 256):
        table = CpuidTable([*base, Entry(2, 0, 0, 1, 0x80000000, 0x80000000, number)])
        for told in cpuid([table]):
            tally.hold(table, told)
    verdict(tally)
    assert tally.compared > 100


@pytest.mark.x86
def test_this_machine() -> None:
    table = vcpuid.read("live").raw
    tally = Tally()
    (told,) = cpuid([table])
    tally.hold(table, told, "this machine")
    verdict(tally)
    assert tally.compared > 200
