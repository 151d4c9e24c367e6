#!/usr/bin/env python3
"""Write src/vcpuid/data/linux-RELEASE.json: what the kernel's tables say of x86 features, bugs and processor models.

    tools/linux_tables.py OUT_DIR FACTS.json.gz TREE [FACTS.json.gz TREE ...]

FACTS is what oracle/linux_facts.py read off the same tree: features, bugs, words, scattered bits, dependencies, VMX features. Of TREE, a
kernel source tree, this reads the lists of processor models, in common.c, intel.c, amd.c, bus_lock.c and microcode/. RELEASE is
major.minor, or what the facts call the tables.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kernel_names import tables_of

CPU = "arch/x86/kernel/cpu/"
INCLUDE = "arch/x86/include/asm/"
ANY_STEPPING = 0xFFFF

Row = list[Any]


def main(arguments: list[str]) -> None:
    """Write one table for each pair of arguments after the first."""
    out, pairs = Path(arguments[0]), arguments[1:]
    for facts_path, tree in zip(pairs[::2], pairs[1::2], strict=True):
        facts = json.loads(gzip.decompress(Path(facts_path).read_bytes()))
        table = Tree(Path(tree)).table(facts)
        (out / f"linux-{tables_of(facts)}.json").write_text(dump(table) + "\n", encoding="utf-8")


class Tree:
    """A kernel source tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = dict(intel_models(self.read(INCLUDE + "intel-family.h")))

    def read(self, path: str) -> str:
        """Return a file without its comments; empty where this release has no such file."""
        file = self.root / path
        return re.sub(r"/\*.*?\*/", " ", file.read_text(encoding="utf-8"), flags=re.DOTALL) if file.exists() else ""

    def table(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Join the facts and what the tree says."""
        words = [name for name in facts["cpuid_leafs"] if name != "NR_CPUID_WORDS"]
        return {
            "source": ", ".join(filter(None, (f"Linux {facts['kernel']}", facts.get("origin"), "read by tools/linux_tables.py"))),
            "words": [[name, facts["reverse_cpuid"].get(name)] for name in words],
            "features": [[name, row["word"], row["bit"], row["cpuinfo"]] for name, row in facts["features"].items()],
            "bugs": [[name, *divmod(row["bit"], 32), row["cpuinfo"]] for name, row in facts["bugs"].items()],
            "scattered": facts["scattered"],
            "deps": facts["cpuid_deps"],
            "vmx": [[name, row["word"], row["bit"], row["cpuinfo"]] for name, row in facts["vmx_features"].items()],
            "models": {name: list(rows) for name, rows in self.lists().items()},
        }

    def lists(self) -> dict[str, Iterator[Row]]:
        """Give the lists of processor models by name."""
        common, intel, amd = (self.read(f"{CPU}{name}.c") for name in ("common", "intel", "amd"))
        locks = intel + self.read(CPU + "bus_lock.c")
        return {
            "vuln_whitelist": self.matches(array(common, "cpu_vuln_whitelist"), flags),
            "vuln_blacklist": self.matches(array(common, "cpu_vuln_blacklist"), flags),
            "ppin": self.identified_by_number(common),
            "split_lock": self.matches(array(locks, "split_lock_cpu_ids"), number),
            "prefer_ymm": self.matches(array(intel, "zmm_exclusion_list"), number),
            "no_self_snoop": self.cases(intel, "check_memory_type_self_snoop_errata"),
            "deadline_timer_microcode": self.revisions(self.read("arch/x86/kernel/apic/apic.c"), "deadline_match"),
            "invlpg_microcode": self.matches(array(self.read("arch/x86/mm/init.c"), "invlpg_miss_ids"), number_if_any),
            "bad_spectre_microcode": self.bad_microcodes(array(intel, "spectre_bad_microcodes")),
            "latest_microcode": latest_microcodes(self.read(CPU + "microcode/intel-ucode-defs.h")),
            "tsa_microcode": amd_microcodes(amd, "amd_tsa_microcode", "amd_check_tsa_microcode"),
            "erratum_1386_microcode": amd_microcodes(amd, "erratum_1386_microcode"),
            "zen5_rdseed_microcode": amd_microcodes(amd, "zen5_rdseed_microcode", "check_rdseed_microcode"),
        }

    def model(self, name: str) -> tuple[int, int]:
        """Return family and model of an Intel processor by its macro, with or without INTEL_ or INTEL_FAM6_ ahead."""
        return self.models[re.sub(r"^INTEL_(FAM\d+_)?", "", name)]

    def matches(self, text: str, data: Callable[[str], Any]) -> Iterator[Row]:
        """Yield a row for every x86_cpu_id, in order.

        A row is vendor, family, model, mask of steppings, type of core, mask of platforms (null: any) and data.
        """
        for macro, arguments in re.findall(r"\b(VULN[WB]L\w*|X86_MATCH_\w+|INTEL_MATCH)\s*\(((?:[^()]|\([^()]*\))*)\)", text):
            if macro == "X86_MATCH_FEATURE":
                continue
            parts = [part.strip() for part in re.split(r",(?![^(]*\))", arguments)]
            yield [*self.who(macro, parts), None, data(parts[-1]) if len(parts) > 1 else None]

    def revisions(self, text: str, name: str) -> Iterator[Row]:
        """Yield rows whose data is the oldest good revision; Red Hat's 4.18 names a function in its place where steppings differ."""
        for *who, steps, kind, platforms, data in self.matches(array(text, name), str):
            if data.startswith("&"):
                for some, revision in by_stepping(text, data[1:]):
                    yield [*who, some, kind, platforms, revision]
            else:
                yield [*who, steps, kind, platforms, number(data)]

    def who(self, macro: str, parts: list[str]) -> Row:
        """Read whom a macro's arguments match: vendor, family, model, mask of steppings and type of core."""
        if macro.endswith(("_AMD", "_HYGON")):
            return [macro.rpartition("_")[2].lower(), family(parts[0]), None, ANY_STEPPING, None]
        if macro in ("VULNWL", "VULNBL", "X86_MATCH_VENDOR_FAM_MODEL"):
            vendor = None if parts[0] == "ANY" else parts[0].lower()
            return [vendor, family(parts[1]), None if parts[2] == "X86_MODEL_ANY" else int(parts[2], 0), ANY_STEPPING, None]
        steps, kind = ANY_STEPPING, None
        if macro.endswith("_TYPE"):
            kind = parts[1].lower()
        elif macro.endswith("_STEPPINGS"):
            if bounds := re.fullmatch(r"X86_STEPPINGS\((\w+), *(\w+)\)", parts[1]):
                steps = mask(bounds[1], bounds[2])
        elif macro.endswith("_STEPS"):
            steps = mask("0" if len(parts) == 3 else parts[1], parts[-2])
        return ["intel", *self.model(parts[0]), steps, kind]

    def identified_by_number(self, common: str) -> Iterator[Row]:
        """Yield the models that have an inventory number though CPUID does not say so: a list, up to 5.15 a switch of machine checks'."""
        older = self.read(CPU + "mce/intel.c")
        if "ppin_cpuids" in common or "intel_ppin_init" not in older:
            yield from self.matches(array(common, "ppin_cpuids"), lambda _: None)
        else:
            yield from self.cases(older, "intel_ppin_init")

    def cases(self, text: str, function: str) -> Iterator[Row]:
        """Yield a row for every model that a function's switch names."""
        body = text[text.index(function) :]
        for name in re.findall(r"case (\w+):", body[: body.index("\n}")]):
            yield ["intel", *self.model(name), ANY_STEPPING, None, None, None]

    def bad_microcodes(self, text: str) -> Iterator[Row]:
        """Yield rows whose data is the newest bad revision."""
        for name, stepping, revision in re.findall(r"\{\s*(\w+),\s*(\w+),\s*(\w+)\s*\}", text):
            yield ["intel", *self.model(name), 1 << int(stepping, 0), None, None, int(revision, 0)]


def intel_models(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each Intel model macro without its prefix, with family and model."""
    for fam, name, value in re.findall(r"#define\s+INTEL_FAM(\d+)_(\w+)\s+(0x\w+)", text):
        yield name, (int(fam), int(value, 0))
    for name, fam, value in re.findall(r"#define INTEL_(\w+)\s+IFM\((\w+), *(\w+)\)", text):
        if not name.endswith("ANY"):
            yield name, (int(fam, 0), int(value, 0))


def array(text: str, name: str) -> str:
    """Return what stands between the braces of an array; empty where this release has no such array."""
    found = re.search(rf"\b{name}\[\][^={{;]*=\s*\{{(.*?)\n\}};", text, re.DOTALL)
    return found[1] if found else ""


def family(text: str) -> int | None:
    """Read a family; null stands for any."""
    return None if text == "X86_FAMILY_ANY" else int(text, 0)


def mask(low: str, high: str) -> int:
    """Return the steppings from low to high as a mask."""
    first = 0 if low == "X86_STEP_MIN" else int(low, 0)
    last = 15 if high == "X86_STEP_MAX" else int(high, 0)
    return (2 << last) - (1 << first)


def flags(text: str) -> list[str]:
    """Read names that are or-ed together."""
    return text.split(" | ")


def number(text: str) -> int:
    """Read the number that an x86_cpu_id carries."""
    return int(text, 0)


def by_stepping(text: str, function: str) -> Iterator[tuple[int, int]]:
    """Yield masks of steppings with the revision that a function returns for them: those of its cases, and all ones for the others.

    Steppings beyond the one that it compares with need none.
    """
    body = text[text.index(f" {function}(") :]
    body = body[: body.index("\n}")]
    beyond = re.search(r"stepping > (\w+)\)\s*return 0;", body)
    others = ANY_STEPPING if beyond is None else mask("0", beyond[1])
    for stepping, revision in re.findall(r"case (\w+):\s*return (\w+);", body):
        others &= ~mask(stepping, stepping)
        yield mask(stepping, stepping), number(revision)
    yield others, 0xFFFFFFFF


def number_if_any(text: str) -> int | None:
    """Read the number where a row of the list carries one: 6.8's name models alone."""
    return number(text) if text[0].isdigit() else None


def latest_microcodes(text: str) -> Iterator[Row]:
    """Yield rows whose data is the newest revision known."""
    fields = ("family", "model", "steppings", "platform_mask", "driver_data")
    for row in re.findall(r"\{(.*?)\}", text):
        values = dict(re.findall(r"\.(\w+)\s*=\s*(\w+)", row))
        numbers = [int(values.get(field, "0"), 0) for field in fields]
        yield ["intel", *numbers[:3], None, numbers[3] or None, numbers[4]]


def amd_microcodes(text: str, rows: str, function: str | None = None) -> Iterator[Row]:
    """Yield rows whose data is the oldest good revision, from an array or from the switch over a patch's number that came before it."""
    for row in re.findall(r"(0x\w+),\s*(0x\w+)\)?,\s*(0x\w+)(?:,\s*\3)?,\s*(0x\w+)\)", array(text, rows)):
        family, model, stepping, revision = (int(part, 0) for part in row)
        yield ["amd", family, model, 1 << stepping, None, None, revision]
    if function is None or function not in text:
        return
    body = text[text.index(function) :]
    for code, revision in re.findall(r"case (0x\w+):\s*min_rev = (0x\w+);", body[: body.index("\n}")]):
        patch = int(code, 0)  # extended family, extended model, a reserved digit, model, stepping
        yield ["amd", 0xF + (patch >> 16), (patch >> 8 & 0xF0) | (patch >> 4 & 0xF), 1 << (patch & 0xF), None, None, int(revision, 0)]


def dump(value: Any, indent: int = 0) -> str:
    """Write one row a line."""
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        return "{\n" + ",\n".join(f'{pad}"{key}": {dump(part, indent + 1)}' for key, part in value.items()) + f"\n{pad[1:]}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(pad + json.dumps(row, separators=(",", ":")) for row in value) + f"\n{pad[1:]}]"
    return json.dumps(value)


if __name__ == "__main__":
    main(sys.argv[1:])
