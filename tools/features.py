"""Generate src/vcpuid/data/features.json: every feature bit that Linux, KVM, QEMU or libvirt has a name for.

    tools/features.py --facts linux-6.1.json.gz … --manual cpuid.csv --qemu 7.2=TREE … --libvirt 11.3.0=x86_features.xml
                      > src/vcpuid/data/features.json

--facts    what oracle/linux_facts.py read off a kernel's source (one file a kernel)
--manual   tools/arch/x86/kcpuid/cpuid.csv of the newest kernel's source
--qemu     source tree of QEMU, of the nearest release where its own is not to be had: what it knows of Hyper-V is read; properties and
           feature words come from data/qemu-RELEASE.json, which tools/qemu_catalog.py wrote
--libvirt  libvirt's map
--table    a features.json to take the rest from: with --qemu alone all but what it has of these releases, with --facts alone all but
           Linux's part, where --manual may be given as well
QEMU's releases go from the oldest to the newest.

The result, one row a feature: [place, linux, qemu, libvirt, manual, description, …].
    place        "7.0.ebx.5" (leaf, sub-leaf, register, bit; hexadecimal but for the bit), "msr.10a.0", or null: no hardware has it
    linux        [symbol, number in its array (word * 32 + bit, null where it is in none), name in /proc/cpuinfo or null, kernels] …
    qemu         [property, [aliases], releases] …
    libvirt      libvirt's name or null
    manual       short name and description in kcpuid's table, of Hyper-V's leaves the name in QEMU's hyperv-proto.h; null where none
A row may end in one more place: the bit of leaf 1 that AMD's processors repeat here.
Kernels and releases are digits, after 9 letters from a on: positions in the lists `kernels` and `qemus`.
`cpuid_leafs` names Linux' words in their order; `linux_words` and `qemu_words` say which register or MSR a word stands for; `qemu_switches`
are the properties of QEMU's CPUs that stand for no feature bit.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
import string
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import kernel_names
from csource import Source
from kernel_names import tables_of

DATA = Path(__file__).resolve().parent.parent / "src" / "vcpuid" / "data"

Place = tuple[str, int]
"""Word ("7.0.ebx" or "msr.10a") and bit."""

KVM_WORDS = {"KVM_FEATURE": "40000001.0.eax", "KVM_HINTS": "40000001.0.edx"}
"""Where asm/kvm_para.h's numbers live; of its other KVM_ constants none is a bit of CPUID."""

DIGITS = string.digits + string.ascii_lowercase

VMX_WORDS = {1: "msr.48e", 2: "msr.48b", 3: "msr.492"}
"""Words of vmxfeatures.h that are one MSR's allowed-1 settings (init_vmx_capabilities, arch/x86/kernel/cpu/feat_ctl.c)."""

VMX_SCATTERED = {
    "INVVPID": ("msr.48c", 32),
    "VPID": ("msr.48b", 5),
    "EPT_EXECUTE_ONLY": ("msr.48c", 0),
    "EPT_AD": ("msr.48c", 21),
    "EPT_1GB": ("msr.48c", 17),
    "EPT_5LEVEL": ("msr.48c", 7),
    "EPTP_SWITCHING": ("msr.491", 0),
}
"""Word 0 of vmxfeatures.h: bits taken from elsewhere by the same function; below 16 they are pin-based controls."""


class Table:
    """Features by place; those without a hardware place by the symbol that Linux gives them."""

    def __init__(self) -> None:
        self.linux: dict[Any, dict[tuple[str, int | None, str | None, str], str]] = defaultdict(dict)
        self.qemu: dict[Any, dict[tuple[str, tuple[str, ...]], str]] = defaultdict(dict)
        self.libvirt: dict[Any, str] = {}
        self.manual: dict[Any, tuple[str, str | None]] = {}
        self.copies: dict[Any, str] = {}

    def add_linux(self, key: Any, symbol: str, number: int | None, cpuinfo: str | None, kernel: int, word: str = "") -> None:
        """Note a symbol of one kernel; kernels in which the word has another name stay apart."""
        name = symbol, number, cpuinfo, word
        self.linux[key][name] = self.linux[key].get(name, "") + DIGITS[kernel]

    def add_qemu(self, key: Any, name: str, aliases: tuple[str, ...], release: int) -> None:
        """Note a property of one QEMU."""
        self.qemu[key][name, aliases] = "".join(sorted(self.qemu[key].get((name, aliases), "") + DIGITS[release]))

    def rows(self) -> list[list[Any]]:
        """Give the rows: hardware first, by place; then Linux' own, by kind and symbol."""
        keys = self.linux.keys() | self.qemu.keys() | self.libvirt.keys() | self.manual.keys() | self.copies.keys()
        return [self.row(key) for key in sorted(keys, key=order)]

    def row(self, key: Any) -> list[Any]:
        """Give one feature's row."""
        return [
            None if isinstance(key, str) else f"{key[0]}.{key[1]}",
            [[*name[:3], releases] for name, releases in newest_first(self.linux[key])],
            [[*name, releases] for name, releases in newest_first(self.qemu[key])],
            self.libvirt.get(key),
            *self.manual.get(key, (None, None)),
            *([self.copies[key]] if key in self.copies else []),
        ]


def newest_first(names: dict[Any, str]) -> list[tuple[Any, str]]:
    """Sort names by the last release that has them."""
    return sorted(names.items(), key=lambda item: item[1][-1], reverse=True)


def order(key: Any) -> tuple[Any, ...]:
    """Sort CPUID places by leaf, then MSRs, then symbols."""
    if isinstance(key, str):
        return 2, key
    word, bit = key
    head, *rest = word.split(".")
    return (1, int(rest[0], 16), bit) if head == "msr" else (0, int(head, 16), int(rest[0], 16), rest[1], bit)


def place(function: int, index: int, register: str, bit: int) -> Place:
    """Name a place in CPUID."""
    return f"{function:x}.{index:x}.{register}", bit


def linux_facts(table: Table, facts: dict[str, Any], kernel: int) -> None:
    """Take the features of cpufeatures.h, their hardware places, KVM's own words, the bugs, VMX features, KVM's paravirtual ones, MSRs.

    A scattered feature has one place here, the last of its rows: MBA's is AMD's.
    """
    words: dict[str, tuple[int, int, str]] = facts["reverse_cpuid"]
    leafs: list[str] = facts["cpuid_leafs"]
    scattered = {symbol: bit for symbol, *bit in facts["scattered"]}
    for symbol, fact in facts["features"].items():
        full = f"X86_FEATURE_{symbol}"
        if symbol in scattered:
            key: Any = place(*scattered[symbol])
        elif leafs[fact["word"]] in words:
            key = place(*words[leafs[fact["word"]]], fact["bit"])
        else:
            key = full
        table.add_linux(key, full, fact["word"] * 32 + fact["bit"], fact["cpuinfo"], kernel, leafs[fact["word"]])
    for symbol, (word, bit) in facts["kvm_only_features"].items():
        key = place(*words[word], bit)
        full = f"X86_FEATURE_{symbol}"
        if not any(name == full and DIGITS[kernel] in kernels for (name, *_), kernels in table.linux[key].items()):
            table.add_linux(key, full, None, None, kernel)
    for kind, symbol in facts["kvm_caps"]["CPUID_8000_0001_EDX"]:
        if kind == "ALIASED_1_EDX_F":
            bit = facts["features"][symbol]["bit"]
            table.copies[place(0x80000001, 0, "edx", bit)] = f"1.0.edx.{bit}"
    for symbol, fact in facts["bugs"].items():
        full = f"X86_BUG_{symbol}"
        table.add_linux(full, full, fact["bit"], fact["cpuinfo"], kernel)
    for symbol, fact in facts["vmx_features"].items():
        full, number = f"VMX_FEATURE_{symbol}", fact["word"] * 32 + fact["bit"]
        table.add_linux(vmx_place(symbol, number) or full, full, number, fact["cpuinfo"], kernel)
    for symbol, bit in facts["kvm_features"].items():
        word = next(word for prefix, word in KVM_WORDS.items() if symbol.startswith(prefix))
        table.add_linux((word, bit), symbol, None, None, kernel)
    for index, bits in facts["msr_bits"].items():
        for symbol, bit in bits.items():
            table.add_linux((f"msr.{index}", bit), symbol, None, None, kernel)


def vmx_place(symbol: str, number: int) -> Place | None:
    """Name the MSR bit that allows a VMX feature; None where Linux puts it together itself."""
    if symbol in VMX_SCATTERED:
        return VMX_SCATTERED[symbol]
    if number // 32 in VMX_WORDS:
        return VMX_WORDS[number // 32], number % 32
    return ("msr.48d", number) if number < 16 else None


def manual_names(table: Table, path: Path, words: Iterable[str]) -> str:
    """Take short names and descriptions of single bits, in `words` and those that hold a feature already; returns the file's generator.

    Raises SystemExit where the file's header does not put it in the public domain (CC0-1.0).
    """
    text = path.read_text(encoding="utf-8")
    if "SPDX-License-Identifier: CC0-1.0" not in text:
        sys.exit(f"{path}: not under CC0-1.0")
    known = {*words, *(key[0] for key in table.linux.keys() | table.qemu.keys() | table.libvirt.keys() if not isinstance(key, str))}
    for row in csv.reader(line for line in text.splitlines() if line.strip() and not line.startswith("#")):
        leaf, index, register, bit, name, description = (cell.strip() for cell in [*row[:5], ",".join(row[5:])])
        if ":" in bit or ":" in index or f"{int(leaf, 16):x}.{int(index):x}.{register}" not in known:
            continue
        table.manual[place(int(leaf, 16), int(index), register, int(bit))] = name, description
    match = re.search(r"Generator: (.*)", text)
    return match[1] if match else "unknown"


def libvirt_names(table: Table, path: Path) -> None:
    """Take libvirt's names."""
    for feature in ElementTree.parse(path).getroot().iter("feature"):
        for where in feature.iter():
            values = {name: int(value, 16) for name, value in where.attrib.items() if value.startswith("0x")}
            if where.tag == "msr":
                word, mask = f"msr.{values['index']:x}", values.get("eax", 0) | values.get("edx", 0) << 32
                bits = [(word, bit) for bit in range(64) if mask >> bit & 1]
            elif where.tag == "cpuid":
                word = f"{values['eax_in']:x}.{values.get('ecx_in', 0):x}"
                bits = [(f"{word}.{r}", bit) for r in ("eax", "ebx", "ecx", "edx") for bit in range(32) if values.get(r, 0) >> bit & 1]
            else:
                continue
            for key in bits:
                table.libvirt[key] = feature.attrib["name"]


def word_place(word: dict[str, Any]) -> str:
    """Name the place of a feature word of a QEMU catalog."""
    return f"msr.{word['msr']:x}" if "msr" in word else f"{word['leaf']:x}.{word['index']:x}.{word['register']}"


def qemu_names(table: Table, catalog: dict[str, Any], tree: Path, release: int) -> None:
    """Take QEMU's properties and their aliases: those of feature words, and those of Hyper-V."""
    target = tree / "target/i386"
    aliases: dict[str, tuple[str, ...]] = {}
    for alias, name in catalog["aliases"].items():
        aliases[name] = (*aliases.get(name, ()), alias)
    for word in catalog["words"]:
        for bit, name in word["bits"].items():
            table.add_qemu((word_place(word), int(bit)), name, aliases.get(name, ()), release)
    source = Source([target / "cpu.h", target / "kvm/hyperv-proto.h", target / "kvm/kvm.c"])
    source.text = re.sub(r"^[ \t]*#[ \t]*(if|else|endif).*$", "", source.text, flags=re.M)
    rows = source.table("kvm_hyperv_properties")
    for name, symbol in re.findall(
        r'DEFINE_PROP_BIT64\("(hv-[\w-]+)", X86CPU, hyperv_features,\s*(\w+)', (target / "cpu.c").read_text(encoding="utf-8")
    ):
        for flags in rows[source.symbol(symbol)]["flags"]:
            register = ("eax", "ecx", "edx", "ebx")[flags["reg"]]  # R_EAX … R_EBX of target/i386/cpu.h
            for bit in range(32):
                if flags["bits"] >> bit & 1:
                    table.add_qemu(place(flags["func"], 0, register, bit), name, aliases.get(name, ()), release)


def hyperv_names(table: Table, tree: Path) -> None:
    """Take the constants of QEMU's hyperv-proto.h, whose comments say which register the bits below them are of."""
    text = (tree / "target/i386/kvm/hyperv-proto.h").read_text(encoding="utf-8")
    leaves = {name: int(value, 16) for name, value in re.findall(r"#define (HV_CPUID_\w+)\s+(0x\w+)", text)}
    for leaf, register, body in re.findall(r"/\*\s+\* (HV_CPUID_\w+)\.(E.X) bits\s+\*/([^/]*)", text):
        for name, bit in re.findall(r"#define (HV_\w+)\s+\(1u << (\d+)\)", body):
            table.manual[place(leaves[leaf], 0, register.lower(), int(bit))] = name.lower(), None


def switches(table: Table, catalog: dict[str, Any]) -> set[str]:
    """Give the properties that stand for no feature bit."""
    return set(catalog["properties"]) - {name for names in table.qemu.values() for name, _ in names}


def leaf_words(kernels: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Give the names of Linux' words in their order, by the kernels that have them so."""
    by_words: dict[tuple[str, ...], str] = {}
    for number, facts in enumerate(kernels):
        words = tuple(facts["cpuid_leafs"][:-1])
        by_words[words] = by_words.get(words, "") + DIGITS[number]
    return {releases: list(words) for words, releases in by_words.items()}


def read(path: Path) -> Any:
    """Read JSON, gzipped or not."""
    raw = path.read_bytes()
    return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)


def pair(text: str) -> tuple[str, Path]:
    """Split RELEASE=PATH."""
    release, _, path = text.partition("=")
    return release, Path(path)


def write(source: dict[str, Any], table: Table, head: dict[str, Any]) -> None:
    """Print the table, a row a line."""
    rows = ",\n".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in table.rows())
    lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in {"source": source, **head}.items()]
    print("{\n" + ",\n".join(lines) + f',\n"rows": [\n{rows}\n]\n}}')


def qemu_catalogs(table: Table, trees: list[tuple[str, Path]]) -> list[dict[str, Any]]:
    """Take the names of these QEMUs; return their catalogs."""
    catalogs: list[dict[str, Any]] = [read(DATA / f"qemu-{release}.json") for release, _ in trees]
    for number, (catalog, (_, tree)) in enumerate(zip(catalogs, trees, strict=True)):
        qemu_names(table, catalog, tree, number)
    return catalogs


def renew_qemu(table: Table, old: dict[str, Any], trees: list[tuple[str, Path]]) -> None:
    """Print a table with what it has of some QEMUs made anew; the others stay."""
    given = dict(trees)
    releases = sorted({*old["qemus"], *given}, key=lambda release: [int(part) for part in release.split(".")])
    kept = {DIGITS[at]: DIGITS[releases.index(release)] for at, release in enumerate(old["qemus"]) if release not in given}
    for where, _, names, *_ in old["rows"]:
        word, _, bit = (where or "").rpartition(".")
        for name, aliases, digits in names:
            if staying := "".join(kept[digit] for digit in digits if digit in kept):
                table.qemu[word, int(bit)][name, tuple(aliases)] = staying
    catalogs: list[dict[str, Any]] = [read(DATA / f"qemu-{release}.json") for release in releases]
    for at, release in enumerate(releases):
        if release in given:
            qemu_names(table, catalogs[at], given[release], at)
    head = {key: value for key, value in old.items() if key not in ("source", "rows")}
    head |= {
        "qemus": releases,
        "qemu_words": {word["name"]: word_place(word) for catalog in catalogs for word in catalog["words"]},
        "qemu_switches": sorted(set().union(*(switches(table, catalog) for catalog in catalogs))),
    }
    write(old["source"] | {"qemu": [catalog["source"] for catalog in catalogs]}, table, head)


def renew_linux(table: Table, old: dict[str, Any], kernels: list[dict[str, Any]], manual: Path | None) -> None:
    """Print a table with Linux's part made anew."""
    linux_words = {name: f"{f:x}.{i:x}.{r}" for facts in kernels for name, (f, i, r) in facts["reverse_cpuid"].items()}
    source = old["source"] | {"linux": [facts["kernel"] for facts in kernels]}
    if manual is not None:
        source["manual"] = manual_source(manual_names(table, manual, {*linux_words.values(), *old["qemu_words"].values()}), kernels)
    head = {"kernels": [tables_of(facts) for facts in kernels], "qemus": old["qemus"], "cpuid_leafs": leaf_words(kernels)}
    write(source, table, head | {"linux_words": linux_words, "qemu_words": old["qemu_words"], "qemu_switches": old["qemu_switches"]})


def manual_source(generator: str, kernels: list[dict[str, Any]]) -> str:
    """Say what the file of short names and descriptions is."""
    return f"tools/arch/x86/kcpuid/cpuid.csv of Linux {kernels[-1]['kernel']}, {generator}, CC0-1.0"


def taken_over(table: Table, rows: list[list[Any]], part: str) -> None:
    """Take what a table has already, but for the part of `linux` or of `qemu`, which is to be made anew."""
    for where, linux, qemu, libvirt, name, description, *copy in rows:
        word, _, bit = (where or "").rpartition(".")
        key: Any = (word, int(bit)) if where else linux[0][0]
        if part == "qemu":
            for number, (symbol, place_, cpuinfo, kernels) in enumerate(linux):
                table.linux[key][symbol, place_, cpuinfo, str(number)] = kernels
        else:
            for property_, aliases, releases in qemu:
                table.qemu[key][property_, tuple(aliases)] = releases
        if libvirt is not None:
            table.libvirt[key] = libvirt
        if name is not None:
            table.manual[key] = name, description
        if copy:
            table.copies[key] = copy[0]


def main() -> None:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--manual", type=Path, metavar="FILE")
    parser.add_argument("--qemu", type=pair, nargs="+", metavar="RELEASE=TREE")
    parser.add_argument("--libvirt", type=pair, metavar="VERSION=FILE")
    parser.add_argument("--table", type=Path, metavar="FILE")
    options = parser.parse_args()
    table = Table()
    if options.table and options.qemu and not options.facts:
        old = read(options.table)
        taken_over(table, old["rows"], "qemu")
        renew_qemu(table, old, options.qemu)
        return
    if not (options.facts and (options.table or (options.manual and options.qemu and options.libvirt))):
        parser.error("--facts, --manual, --qemu and --libvirt, or --table with --qemu or --facts")
    kernels = sorted((read(path) for path in options.facts), key=lambda facts: kernel_names.order(tables_of(facts)))
    for number, facts in enumerate(kernels):
        linux_facts(table, facts, number)
    if options.table:
        old = read(options.table)
        taken_over(table, old["rows"], "linux")
        renew_linux(table, old, kernels, options.manual)
        return
    catalogs = qemu_catalogs(table, options.qemu)
    libvirt_names(table, options.libvirt[1])
    linux_words = {name: f"{f:x}.{i:x}.{r}" for facts in kernels for name, (f, i, r) in facts["reverse_cpuid"].items()}
    qemu_words = {word["name"]: word_place(word) for catalog in catalogs for word in catalog["words"]}
    hyperv_names(table, options.qemu[-1][1])
    generator = manual_names(table, options.manual, {*linux_words.values(), *qemu_words.values()})
    source = {
        "script": "tools/features.py",
        "linux": [facts["kernel"] for facts in kernels],
        "qemu": [catalog["source"] for catalog in catalogs],
        "libvirt": options.libvirt[0],
        "manual": manual_source(generator, kernels),
    }
    head = {
        "kernels": [tables_of(facts) for facts in kernels],
        "qemus": [release for release, _ in options.qemu],
        "cpuid_leafs": leaf_words(kernels),
        "linux_words": linux_words,
        "qemu_words": qemu_words,
        "qemu_switches": sorted(set().union(*(switches(table, catalog) for catalog in catalogs))),
    }
    write(source, table, head)


if __name__ == "__main__":
    main()
