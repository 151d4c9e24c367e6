#!/usr/bin/env python3
"""Read the facts of one Linux release off its source tree, for the tools that make tables of them.

    oracle/linux_facts.py TREE [-o linux-RELEASE.json.gz] [--origin TEXT] [--tables NAME]

TREE is a kernel source tree; its Makefile and arch/x86 are read. Without -o the JSON goes to standard output, indented. With -o FILE it
is written in one line, gzipped if the name ends in .gz. --origin says whose tree it is, where that is not told by its release: the
distribution's own number, the repository and its commit.

The facts are one JSON object:
    kernel             "6.12.107"
    origin             as given, left out where it was not
    tables             what its tables are called, likewise; else that is its major and minor number
    features           of cpufeatures.h by name without X86_FEATURE_: word, bit, and cpuinfo, the spelling in /proc/cpuinfo (null: hidden)
    bugs               the same for X86_BUG_; bit is the argument of X86_BUG(), so that the second word of bugs begins with bit 32
    cpuid_leafs        enum cpuid_leafs of cpufeature.h: the names of Linux' words in their order, NR_CPUID_WORDS at the end
    kvm_only_features  of KVM's reverse_cpuid.h: name -> [word, bit] for features in words of KVM's own; up to 5.11 there are none
    kvm_translated     those of them that Linux has elsewhere, as __feature_translate knows them
    reverse_cpuid      word -> [leaf, sub-leaf, register], of KVM's reverse_cpuid[], and of words that Linux reads and KVM has not there
    scattered          rows of cpuid_bits in scattered.c: [name, leaf, sub-leaf, register, bit]; a name may have more than one (MBA)
    cpuid_deps         rows of cpuid_deps in cpuid-deps.c: [name, name of what it needs]
    kvm_caps           word -> [[kind, name] …]: what kvm_set_cpu_caps of KVM's cpuid.c gives for the word, kinds as that kernel spells
                       them. Up to 6.12 ["COND", variable] stands for a local variable that is a feature or zero; bits given by number
                       are left out
    kvm_cap_calls      [file, function, name]: the sets and clears beside that, in the order of the files below
    vmx_features       of vmxfeatures.h by name without VMX_FEATURE_: word, bit, cpuinfo
    kvm_features       KVM_FEATURE_ and KVM_HINTS_ of kvm_para.h: name -> bit
    msr_bits           of msr-index.h: the MSR's number, hexadecimal -> name -> bit

Bad input ends with one line and exit status 3: a tree that lacks one of the files, or rows that are not spelled as known. So a kernel
that changes how its tables are written is refused, not read in part.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

from vcpuid.errors import InputError

Facts = dict[str, Any]

ASM = "arch/x86/include/asm/"
CPU = "arch/x86/kernel/cpu/"
KVM = "arch/x86/kvm/"

CAP_CALLS = ("cpuid.c", "svm/svm.c", "vmx/vmx.c", "svm/sev.c", "x86.c")
"""Files below KVM that change capabilities after they were initialized. 6.1 and 6.12 have no call in x86.c."""

MSR_BITS = {
    "10a": r"^#define (ARCH_CAP_\w+)[ \t]+BIT(?:_ULL)?\((\d+)\)",
    "cf": r"^#define (MSR_IA32_CORE_CAPS_\w+)_BIT[ \t]+(\d+)",
}
"""How the bits of an MSR are spelled: IA32_ARCH_CAPABILITIES, IA32_CORE_CAPABILITIES."""

REVERSE = ("reverse_cpuid.h", "cpuid.h")
"""Files below KVM of which the first that is there places words in leaves: up to 5.11 that is a part of cpuid.h."""

WORDS_END = "NR_CPUID_WORDS"
"""The end of enum cpuid_leafs. 5.14 and Red Hat's 4.18 and 5.14 have none; Red Hat's have words behind the last one that is named."""

CAPS_FUNCTIONS = ("kvm_set_cpu_caps", "kvm_initialize_cpu_caps")
"""The function that initializes KVM's capabilities: 7.1 knows it by the second name."""

CAPS_MACROS = ("kvm_cpu_cap_mask", "kvm_cpu_cap_init_kvm_defined", "kvm_cpu_cap_init")
"""What gives a word its capabilities: the first two up to 6.12, the last one since."""


def main() -> int:
    """Read the arguments, write the facts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--origin")
    parser.add_argument("--tables")
    options = parser.parse_args()
    try:
        facts = read(options.tree, options.origin, options.tables)
        if options.output is None:
            print(json.dumps(facts, indent=1))
        else:
            write(facts, options.output)
    except (InputError, OSError) as error:
        print(f"linux_facts.py: {error}", file=sys.stderr)
        return 3
    return 0


def write(facts: Facts, path: Path) -> None:
    """Write facts as one line of JSON. The gzipped form has no time in it: the same facts give the same file."""
    data = json.dumps(facts).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read(tree: Path, origin: str | None = None, tables: str | None = None) -> Facts:
    """Read the facts of the kernel whose source is below `tree`. Raises InputError where it is none, or is spelled otherwise."""
    header, vmx, msrs = (text_of(tree, f"{ASM}{name}.h") for name in ("cpufeatures", "vmxfeatures", "msr-index"))
    para = without_comments(text_of(tree, "arch/x86/include/uapi/asm/kvm_para.h"))
    reverse = without_comments(text_of(tree, KVM + next((name for name in REVERSE if (tree / KVM / name).exists()), REVERSE[0])))
    leafs = enumerators(without_comments(text_of(tree, ASM + "cpufeature.h")), "cpuid_leafs")
    features = in_words(flags(header, "X86_FEATURE"))
    if leafs[-1] != WORDS_END:
        leafs += [*own_words(leafs, max(row["word"] for row in features.values())), WORDS_END]
    facts: Facts = {
        "kernel": release(text_of(tree, "Makefile")),
        **({} if origin is None else {"origin": origin}),
        **({} if tables is None else {"tables": tables}),
        "features": features,
        "bugs": {name: {"bit": number, "cpuinfo": shown} for name, number, shown in flags(header, "X86_BUG")},
        "cpuid_leafs": leafs,
        "kvm_only_features": kvm_only_features(reverse),
        "kvm_translated": sorted(re.findall(r"KVM_X86_TRANSLATE_FEATURE\((\w+)\);", reverse)),
        "reverse_cpuid": {**read_words(without_comments(text_of(tree, CPU + "common.c"))), **reverse_cpuid(reverse)},
        "scattered": scattered(without_comments(text_of(tree, CPU + "scattered.c"))),
        "cpuid_deps": cpuid_deps(without_comments(text_of(tree, CPU + "cpuid-deps.c"))),
        "kvm_caps": kvm_caps(without_comments(text_of(tree, KVM + "cpuid.c"))),
        "kvm_cap_calls": [
            [Path(name).name, *call] for name in CAP_CALLS for call in cap_calls(without_comments(text_of(tree, KVM + name)))
        ],
        "vmx_features": in_words(flags(vmx, "VMX_FEATURE")),
        "kvm_features": bits(para, r"^#define (KVM_(?:FEATURE|HINTS)_\w+)[ \t]+(\d+)\b"),
        "msr_bits": {index: bits(msrs, row) for index, row in MSR_BITS.items()},
    }
    check(facts)
    return facts


def text_of(tree: Path, name: str) -> str:
    """Read a file of the tree; raises InputError."""
    try:
        return (tree / name).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{error.strerror}: this is not a kernel source tree, or not all of it", source=str(tree / name)) from None
    except UnicodeDecodeError:
        raise InputError("not UTF-8 text", source=str(tree / name)) from None


def without_comments(text: str) -> str:
    """Drop comments and join continued lines."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL).replace("\\\n", " ")


def release(makefile: str) -> str:
    """Read VERSION.PATCHLEVEL.SUBLEVEL, and -rcN of a release candidate, off the top Makefile."""
    parts = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)$", makefile, re.MULTILINE))
    if "VERSION" not in parts or len(parts) < 4:
        raise InputError("the Makefile tells no release")
    return f"{parts['VERSION']}.{parts['PATCHLEVEL']}.{parts['SUBLEVEL']}{parts['EXTRAVERSION']}"


def flags(header: str, prefix: str) -> list[tuple[str, int, str | None]]:
    """Give name, number and spelling in /proc/cpuinfo of each flag of cpufeatures.h or vmxfeatures.h that begins with `prefix`.

    The comment behind a flag may begin with a quoted spelling. Up to 6.1 a flag without one is spelled as its macro, and an empty one
    hides it; since 6.12 a flag without one is hidden. Which of the two it is follows from the header's own use of the empty one.
    """
    unquoted_is_shown = re.search(r'/\* ""', header) is not None
    row = rf"^#define {prefix}_(\w+)\s+(?:X86_BUG)?\(([^()]*)\)[ \t]*(?:/\*\s*(\"\w*\")?|$)"
    found = []
    for name, value, quoted in counted(header, row, rf"^#define {prefix}_\w", re.MULTILINE):
        shown = quoted.strip('"') or None if quoted else name.lower() if unquoted_is_shown else None
        found.append((name, number(value), shown))
    return found


def in_words(found: list[tuple[str, int, str | None]]) -> dict[str, dict[str, Any]]:
    """Give flags by name, with word, bit and spelling."""
    return {name: {"word": number // 32, "bit": number % 32, "cpuinfo": shown} for name, number, shown in found}


def own_words(leafs: list[str], highest: int) -> list[str]:
    """Name the words behind the last one of enum cpuid_leafs as Linux names those of its own: where the enum has no end, it lacks them."""
    named = sum(name.startswith("CPUID_LNX_") for name in leafs)
    return [f"CPUID_LNX_{named + number}" for number in range(1, highest - len(leafs) + 2)]


def bits(text: str, row: str) -> dict[str, int]:
    """Give the macros that are bit numbers. Raises InputError where there is none."""
    found = {name: int(bit) for name, bit in re.findall(row, text, re.MULTILINE)}
    if not found:
        raise InputError(f"no row is spelled as known: {row}")
    return found


def number(text: str) -> int:
    """Work out `word*32 + bit`, or a plain number."""
    match = re.fullmatch(r"\s*(?:(\d+)\s*\*\s*32\s*\+)?\s*(\d+)\s*", text)
    if match is None:
        raise InputError(f"{text!r} is not word*32 + bit")
    return int(match[1] or 0) * 32 + int(match[2])


def counted(text: str, row: str, loose: str, flags: int = 0) -> list[Any]:
    """Find all rows, and make sure that they are as many as a looser pattern finds; raises InputError."""
    found = re.findall(row, text, flags)
    expected = len(re.findall(loose, text, flags))
    if len(found) != expected or not found:
        raise InputError(f"{len(found)} of {expected} rows are spelled as known: {loose}")
    return found


def enumerators(text: str, name: str) -> list[str]:
    """Give the names of an enumeration in order."""
    body = re.search(rf"\benum {name}\s*\{{([^}}]*)\}}", text)
    if body is None:
        raise InputError(f"no enum {name}")
    return [part.partition("=")[0].strip() for part in body[1].split(",") if part.strip()]


def array(text: str, name: str) -> str:
    """Give what stands between the braces of an array."""
    body = re.search(rf"\b{name}\[\]\s*(?:\w+\s*)?=\s*\{{(.*?)\n\}};", text, re.DOTALL)
    if body is None:
        raise InputError(f"no array {name}")
    return body[1]


def kvm_only_features(reverse: str) -> dict[str, list[Any]]:
    """Give word and bit of the features that reverse_cpuid.h places itself; none where that kernel has no words of KVM's own."""
    if "KVM_X86_FEATURE(" not in reverse:
        return {}
    row = r"^#define (?:KVM_)?X86_FEATURE_(\w+)\s+KVM_X86_FEATURE\((\w+),\s*(\d+)\)"
    return {name: [word, int(bit)] for name, word, bit in counted(reverse, row, r"\sKVM_X86_FEATURE\(\w+,\s*\d", re.MULTILINE)}


def reverse_cpuid(reverse: str) -> dict[str, list[Any]]:
    """Give leaf, sub-leaf and register of each word."""
    row = r"\[(\w+)\]\s*=\s*\{\s*(\w+),\s*(\d+),\s*CPUID_(E[ABCD]X)\s*\}"
    rows = counted(array(reverse, "reverse_cpuid"), row, r"\[\w")
    return {word: [int(leaf, 0), int(index), register.lower()] for word, leaf, index, register in rows}


def read_words(common: str) -> dict[str, list[Any]]:
    """Give leaf, sub-leaf and register of the words that get_cpu_cap takes of a leaf of which it reads one register."""
    row = r"x86_capability\[(\w+)\]\s*=\s*cpuid_(e[abcd]x)\((0x\w+)\)"
    return {word: [int(leaf, 0), 0, register] for word, register, leaf in re.findall(row, common)}


def scattered(text: str) -> list[list[Any]]:
    """Give the rows of cpuid_bits."""
    row = r"\{\s*X86_FEATURE_(\w+),\s*CPUID_(E[ABCD]X),\s*(\d+),\s*(0x\w+),\s*(\d+)\s*\}"
    rows = counted(array(text, "cpuid_bits"), row, r"\bX86_FEATURE_")
    return [[name, int(leaf, 0), int(index), register.lower(), int(bit)] for name, register, bit, leaf, index in rows]


def cpuid_deps(text: str) -> list[list[str]]:
    """Give the rows of cpuid_deps."""
    row = r"\{\s*X86_FEATURE_(\w+),\s*X86_FEATURE_(\w+),?\s*\}"
    return [list(pair) for pair in counted(array(text, "cpuid_deps"), row, r"\{\s*X86_FEATURE_")]


def kvm_caps(text: str) -> dict[str, list[list[str]]]:
    """Give kind and name of the features of each word that the initializing function names."""
    found: dict[str, list[list[str]]] = {}
    for body in re.findall(rf"^void (?:{'|'.join(CAPS_FUNCTIONS)})\(void\)\s*\{{(.*?)^\}}", text, re.DOTALL | re.MULTILINE):
        for start in re.finditer(rf"\b(?:{'|'.join(CAPS_MACROS)})\((\w+),", body):
            rows = re.findall(r"\b(\w*F)\((\w+)\)|\b(f_\w+)", closed(body, start.end()))
            found[start[1]] = [[kind, name] if kind else ["COND", variable] for kind, name, variable in rows]
    if not found:
        raise InputError(f"no {' or '.join(CAPS_FUNCTIONS)} that initializes capabilities in a known way")
    return found


def closed(text: str, start: int) -> str:
    """Give the text from `start` to the parenthesis that closes the one open there."""
    depth = 1
    for match in re.compile(r"[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return text[start : match.start()]
    raise InputError(f"a parenthesis is not closed after {text[start : start + 20]!r}")


def cap_calls(text: str) -> list[list[str]]:
    """Give function and feature of each call that changes one capability."""
    return [list(call) for call in re.findall(r"\b(kvm_cpu_cap_(?:set|clear|check_and_set))\(X86_FEATURE_(\w+)\)", text)]


def check(facts: Facts) -> None:
    """Hold the parts against each other; raises InputError where one names what another should know and does not."""
    features, words = facts["features"], facts["reverse_cpuid"]
    highest = max(row["word"] for row in features.values())
    if highest >= len(facts["cpuid_leafs"]) - 1:
        raise InputError(f"a feature is in word {highest}, which enum cpuid_leafs lacks")
    known = features.keys() | facts["kvm_only_features"].keys()
    named = {
        "scattered.c": {row[0] for row in facts["scattered"]},
        "cpuid-deps.c": {name for row in facts["cpuid_deps"] for name in row},
        "KVM's cpuid.c": {name for rows in facts["kvm_caps"].values() for kind, name in rows if kind != "COND"},
    }
    for file, names in named.items():
        if names - known:
            raise InputError(f"{file} names {', '.join(sorted(names - known))}, which no header defines")
    lost = {*facts["kvm_caps"], *(word for word, _ in facts["kvm_only_features"].values())} - words.keys()
    if lost:
        raise InputError(f"reverse_cpuid has no row for {', '.join(sorted(lost))}")


if __name__ == "__main__":
    sys.exit(main())
