"""Reads off glibc's sources which variant of a string function it takes on which CPU: data/glibc-RELEASE.json.

    python tools/glibc_tables.py GLIBC-SOURCE --package "Debian 2.36-9+deb12u14"

The resolvers (sysdeps/x86_64/multiarch) are C of one shape: conditions inside conditions, each ending in a return. They are flattened into
rows "conditions, variant" of which the first that holds counts. The same reader flattens update_active of sysdeps/x86/cpu-features.c
into rows "conditions, feature": what has to hold beside a feature's own bit before glibc uses it. Tuning by processor model, which has
jumps in it, is in `vcpuid.software.tuning` by hand.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from csource import strip

MULTIARCH = "sysdeps/x86_64/multiarch"
FUNCTIONS = (
    "memchr", "memcmp", "memcmpeq", "memcpy", "memmove", "mempcpy", "memrchr", "memset", "rawmemchr", "stpcpy", "stpncpy", "strcasecmp",
    "strcat", "strchr", "strchrnul", "strcmp", "strcpy", "strcspn", "strlen", "strncase", "strncat", "strncmp", "strncpy", "strnlen",
    "strpbrk", "strrchr", "strspn", "strstr", "wcpcpy", "wcpncpy", "wcscat", "wcschr", "wcscmp", "wcscpy", "wcslen", "wcsncat", "wcsncmp",
    "wcsncpy", "wcsnlen", "wcsrchr", "wmemchr", "wmemcmp", "wmemset",
)  # fmt: skip
RENAMED = {"strncase": "strncasecmp", "memcmpeq": "__memcmpeq"}
_STATES = {"XMM": 1, "YMM": 2, "Opmask": 5, "ZMM0_15": 6, "ZMM16_31": 7, "XTILECFG": 17, "XTILEDATA": 18, "APX": 19}
_VECTORS = {"os_xmm": "", "os_ymm": "xcr0:6", "os_zmm": "xcr0:e6"}
_INDEX = re.compile(r"CPUID_INDEX_(\w+?)(?:_ECX_(\d))?$")
Row = tuple[str, ...]


def flatten(text: str) -> Iterator[tuple[Row, str]]:
    """Give each statement of a block with the conditions that lead to it; a condition with alternatives gives the statement for each."""
    tokens = re.findall(r"\"[^\"]*\"|\w+|[{}();]|[^\s\w{}();]+", text)
    position = 0

    def parenthesis() -> str:
        nonlocal position
        depth, start = 0, position
        while True:
            depth += {"(": 1, ")": -1}.get(tokens[position], 0)
            position += 1
            if not depth:
                return " ".join(tokens[start + 1 : position - 1])

    def statement(above: Row) -> Iterator[tuple[Row, str]]:
        nonlocal position
        if tokens[position] == "{":
            position += 1
            while tokens[position] != "}":
                yield from statement(above)
            position += 1
        elif tokens[position] == "if":
            position += 1
            alternatives = conditions(parenthesis())
            body = list(statement(()))
            assert position == len(tokens) or tokens[position] != "else", "no else in a resolver"
            yield from (((*above, *alternative, *inner), what) for inner, what in body for alternative in alternatives)
        else:
            start = position
            while tokens[position] != ";":
                position += 1
            position += 1
            yield above, " ".join(tokens[start : position - 1])

    while position < len(tokens):
        yield from statement(())


def conditions(text: str) -> list[Row]:
    """Read a condition into alternatives, each a row of which all must hold; `!` before one that must not."""
    text = re.sub(r"prefer_erms_nt_impl \( cpu_features \)", "( U(ERMS) || !P(Avoid_Non_Temporal_Memset) )", text)
    text = re.sub(r"X86_ISA_CPU_FEATURES_ARCH_P \( cpu_features , (\w+) ,\s*(!?)\s*\)", r"\2P(\1)", text)
    text = re.sub(r"CPU_FEATURES_ARCH_P \( cpu_features , (\w+) \)", r"P(\1)", text)
    text = re.sub(r"(?:X86_ISA_)?CPU_FEATURE_USABLE_P \( cpu_features , (\w+) \)", r"U(\1)", text)
    text = re.sub(r"CPU_FEATURES_CPU_P \( cpu_features , (\w+) \)", r"C(\1)", text)
    text = re.sub(r"! ", "!", text)
    if "xcrlow" in text:
        states = set(re.findall(r"bit_(\w+)_state", text))
        return [(f"xcr0:{sum(1 << _STATES[name] for name in states):x}",)]
    if vector := re.fullmatch(r"os_vector_size & (\w+)", text):
        return [tuple(filter(None, (_VECTORS[vector[1]],)))]
    if level := re.search(r"max_cpuid >= (0x\w+)", text):
        text = text.replace(f"cpu_features -> basic . {level[0]}", f"L({int(level[1], 16):x})")
    parts = [[term.strip(" ()") + ")" for term in part.split("||")] for part in text.split("&&")]
    names = {"U": "", "P": "", "C": "cpu:", "L": "level:"}
    read = [[re.sub(r"^(!?)([UPCL])\((\w+)\)$", lambda m: m[1] + names[m[2]] + m[3], term) for term in part] for part in parts]
    assert all(re.fullmatch(r"!?(cpu:|level:)?\w+", term) for part in read for term in part), text
    return [tuple(row) for row in itertools.product(*read)]


def resolver(folder: Path, function: str) -> tuple[str, list[tuple[Row, str]]] | None:
    """Return the name of a function's resolver and its rows; None where the release has one variant only."""
    path = folder / f"{function}.c"
    if not path.exists():
        return None
    text = strip(path.read_text(encoding="utf-8"))
    include = re.search(r'#\s*include "ifunc-([\w-]+)\.h"', text)
    generic = re.search(r"define GENERIC (\w+)", text)
    name = include[1] if include else function
    if include:
        text = strip((folder / f"ifunc-{name}.h").read_text(encoding="utf-8"))
        default = re.search(r"define GENERIC\s+(\w+)", text)
        if default:
            name += f"-{generic[1]}" if generic else ""
            text = text.replace("(GENERIC)", f"({generic[1] if generic else default[1]})")
    if plain := re.search(r"HAS_ARCH_FEATURE \((\w+)\)\s*\?\s*(\w+)\s*:\s*(\w+)", text):
        return name, [((plain[1],), _variant(plain[2], function)), ((), _variant(plain[3], function))]
    body = re.search(r"^IFUNC_SELECTOR \(void\)\s*\{(.*?)^\}", text, re.S | re.M)
    if body is None:
        return None
    rows = [(row, what) for row, what in flatten(re.sub(r"const struct cpu_features.*?;", "", body[1])) if what.startswith("return")]
    return name, [(row, _variant(what.removeprefix("return "), function)) for row, what in rows]


def _variant(text: str, function: str) -> str:
    return re.sub(r"^OPTIMIZE1? \( (\w+) \)$", r"\1", text).removeprefix(f"__{function}_")


def usable(source: Path) -> list[tuple[Row, str]]:
    """Read update_active: for each feature what must hold beside its bit in CPUID."""
    text = strip((source / "sysdeps/x86/cpu-features.c").read_text(encoding="utf-8"))
    body = re.search(r"^update_active \(.*?\)\s*\{(.*?)^\}", text, re.S | re.M)
    assert body
    plain = re.sub(r"^#\s*if CET_ENABLED.*?^#\s*endif", "", body[1], flags=re.S | re.M)
    plain = re.sub(r"enum\s*\{.*?\}[^;]*;", "", plain, flags=re.S)
    sizes = r"if \(cpu_features->basic\.max_cpuid >= 0xd\).*(?=^  if \(CPU_FEATURES_CPU_P \(cpu_features, OSPKE)"
    plain = re.sub(sizes, "}\n", plain, flags=re.S | re.M)
    rows = []
    for row, what in flatten(re.sub(r"^#.*$", "", plain, flags=re.M)):
        if feature := re.fullmatch(r"CPU_FEATURE_SET(_ACTIVE)? \( cpu_features , (\w+) \)", what):
            own = (f"cpu:{feature[2]}",) if feature[1] else ()
            rows.append(((*row, *own), feature[2]))
    if "dl_check_hwcap2" in plain:
        # Linux sets HWCAP2_FSGSBASE wherever the processor has it (fsgsbase, arch/x86/kernel/cpu/common.c).
        rows.append((("cpu:FSGSBASE",), "FSGSBASE"))
    return rows


def places(source: Path) -> dict[str, str]:
    """Give each feature's bit of CPUID, as `7.0.ebx.5`."""
    text = strip((source / "sysdeps/x86/include/cpu-features.h").read_text(encoding="utf-8"))
    bits = dict(re.findall(r"#define bit_cpu_(\w+)\s+\(1u << (\d+)\)", text))
    words = dict(re.findall(r"#define index_cpu_(\w+)\s+(CPUID_INDEX_\w+)", text))
    registers = dict(re.findall(r"#define reg_(\w+)\s+(e[abcd]x)", text))
    found = {}
    for name, bit in bits.items():
        leaf = _INDEX.fullmatch(words[name])
        assert leaf
        found[name] = f"{leaf[1].lower()}.{leaf[2] or 0}.{registers[name]}.{bit}"
    return found


def words(source: Path) -> list[str]:
    """Give the leaves in the order in which glibc keeps them (and ld.so --list-diagnostics prints them)."""
    text = strip(
        "".join((source / "sysdeps/x86" / name).read_text(encoding="utf-8") for name in ("bits/platform/x86.h", "include/cpu-features.h"))
    )
    leaves = [_INDEX.fullmatch(name) for name in dict.fromkeys(re.findall(r"^\s*(CPUID_INDEX_\w+)\s*(?:=[^,\n]*)?,?$", text, re.M))]
    return [f"{leaf[1].lower()}.{leaf[2] or 0}" for leaf in leaves if leaf and leaf[1] != "MAX"]


def tunables(source: Path) -> dict[str, str | None]:
    """Give the names that GLIBC_TUNABLES=glibc.cpu.hwcaps takes: features that can be put off, preferences with the feature they need."""
    text = strip((source / "sysdeps/x86/cpu-tunables.c").read_text(encoding="utf-8"))
    found: dict[str, str | None] = {}
    for kind, names in re.findall(r"CHECK_GLIBC_IFUNC_(\w+)\s*\(\w+,\s*cpu_features,\s*([\w,\s]+)\)", text):
        name, *rest = [part.strip() for part in names.split(",")]
        if name != "name":
            found[name] = None if kind.startswith("CPU") else rest[0] if "NEED" in kind else ""
    return found | ({"XSAVEC": None} if "XSAVEC" in text else {})


def without_xsave(source: Path) -> list[str]:
    """Give the features that glibc drops, after the tunables, where neither XSAVE nor XSAVEC is left."""
    text = strip((source / "sysdeps/x86/cpu-features.c").read_text(encoding="utf-8"))
    block = text[text.index("bool disable_xsave_features") :].split("xsave_state_size = 0;")[1].split("}")[0]
    return re.findall(r"CPU_FEATURE_UNSET \(cpu_features, (\w+)\)", block)


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--package", required=True, help="what the source is, with the packager's patches on it")
    options = parser.parse_args()
    functions, resolvers = {}, {}
    for function in FUNCTIONS:
        if found := resolver(options.source / MULTIARCH, function):
            functions[RENAMED.get(function, function)] = found[0]
            resolvers[found[0]] = found[1]
    needed = usable(options.source)
    where = places(options.source)
    print("{")
    print(f'"source": {json.dumps({"script": "tools/glibc_tables.py", "glibc": options.package})},')
    print(f'"leaves": {json.dumps(words(options.source))},')
    print('"features": {\n' + ",\n".join(f'"{name}": "{where[name]}"' for name in dict.fromkeys(name for _, name in needed)) + "\n},")
    asked = {c.partition(":")[2] for row, _ in needed for c in row if c.lstrip("!").startswith("cpu:")}
    others = sorted(asked - {name for _, name in needed} | {"FPU", "FMA4"})
    print('"others": {' + ", ".join(f'"{name}": "{where[name]}"' for name in others) + "},")
    print('"usable": [\n' + ",\n".join(json.dumps([" ".join(row), name]) for row, name in needed) + "\n],")
    print('"functions": {\n' + ",\n".join(f'"{name}": "{of}"' for name, of in functions.items()) + "\n},")
    lines = {name: ",\n".join(json.dumps([" ".join(row), variant]) for row, variant in rows) for name, rows in resolvers.items()}
    blocks = (f'"{name}": [\n{rows}\n]' for name, rows in lines.items())
    print(f'"without_xsave": {json.dumps(without_xsave(options.source))},')
    print(f'"tunables": {json.dumps(tunables(options.source))},')
    print('"resolvers": {\n' + ",\n".join(blocks) + "\n}\n}")


if __name__ == "__main__":
    main()
