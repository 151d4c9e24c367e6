#!/usr/bin/env python3
"""Writes src/vcpuid/data/qemu-RELEASE.json: QEMU's feature words, properties, CPU models, caches and machine types.

    tools/qemu_catalog.py 10.0 --source QEMU_TREE --qemu 'qemu-system-x86_64'
    tools/qemu_catalog.py 8.2 --source QEMU_TREE --commit 1600b9f46b1b
    tools/qemu_catalog.py 11.1 --source NEAREST_TREE --qemu '…' --empty-host 'oracle/capture.py qemu …' --extra FILE

QEMU_TREE is a source tree of that release, or of the nearest one where its own is not to be had; --qemu is the command of the real
program of that release, asked over QMP, which overrules the tree where the two differ; without it all is read off the tree, of which
--commit names the commit (qemu_source.py). --empty-host is a command that runs that program
on a KVM host that supports nothing: called with `--host FILE --cpu CPU --machine q35` it prints a JSON object with QEMU's `stderr`, whose
warnings name the word and bit of every feature. --extra is a JSON object with what neither tells (dependencies, xsave, caches).
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import qemu_source
from csource import Source
from qemu_models import source_models
from vcpuid.live.qemu_inquiry import ask_models
from vcpuid.live.qmp import Qmp
from vcpuid.releases import number

Row = dict[str, Any]

DATA = Path(__file__).resolve().parent.parent / "src" / "vcpuid" / "data"
REGISTERS = {0: "eax", 1: "ecx", 2: "edx", 3: "ebx"}  # R_EAX … R_EBX of target/i386/cpu.h
KVM_CPUID_FEATURES = 0x40000001  # linux-headers/asm-x86/kvm_para.h, which is not part of target/i386


def words(source: Source) -> list[Row]:
    """Read feature_word_info, in the order of enum FeatureWord."""
    source.known["KVM_CPUID_FEATURES"] = KVM_CPUID_FEATURES
    table = source.table("feature_word_info")
    rows = []
    for name in source.enumerators("FEATURE_WORDS"):
        info = table[source.symbol(name)]
        given = info.get("feat_names", [])
        names = given if isinstance(given, dict) else dict(enumerate(given))
        row: Row = {"name": name.replace("FEAT_XSAVE_COMP_", "FEAT_XSAVE_XCR0_")}  # as they are called since 7.1
        if where := info.get("cpuid"):
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


_WARNING = re.compile(
    r"(?:CPUID\[eax=(?P<leaf>\w+)h(?:,ecx=(?P<index>\w+)h)?\]\.(?P<register>E.X)|MSR\((?P<msr>\w+)h\))"
    r"(?:\.(?P<name>[\w.-]+))? \[bit (?P<bit>\d+)\]"
)


def overlay(rows: list[Row], warnings: list[str]) -> None:
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
            name = f"FEAT_{leaf:X}_{index}_{register.upper()}"
            where = {"leaf": leaf, "index": index, "register": register, "indexed": found["index"] is not None}
            places[place] = {"name": name, **where, "bits": {}, "migratable": 0, "no_auto": 0}
            rows.append(places[place])
        bit, row = int(found["bit"]), places[place]
        if found["name"] and bit not in row["bits"]:
            row["bits"][bit] = found["name"]
            row["migratable"] |= 1 << bit
    for row in rows:
        row["bits"] = dict(sorted(row["bits"].items()))


def empty_host(command: str, cpu: str) -> list[str]:
    """Return what the program warns of on a host that supports nothing."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as host:
        leaf = "0000001f 756e6547 6c65746e 49656e69"
        host.write(f"RAW 00000000.0 {leaf}\nSUP 00000000.0 f0 {leaf}\nMSR 8b 1 0\n")
        host.flush()
        command_line = [*shlex.split(command), "--host", host.name, "--cpu", cpu, "--machine", "q35"]
        answer = subprocess.run(command_line, capture_output=True, check=True)
    lines: list[str] = json.loads(answer.stdout)["stderr"]
    return lines


def unnamed_bits(rows: list[Row], command: str, model: str) -> dict[str, int]:
    """Return a model's bits that have no name, which warnings show all the same."""
    found: dict[str, int] = {}
    for line in empty_host(command, f"{model},+vmx,+svm"):
        if bit := re.search(r"MSR\((\w+)h\) \[bit (\d+)\]", line):
            word = next(row["name"] for row in rows if row.get("msr") == int(bit[1], 16))
            found[word] = found.get(word, 0) | 1 << int(bit[2])
    return found


def named_caches(given: dict[str, str], model: str, known: str | None) -> str:
    """Name the caches of a model: as --extra gives them, else as the tree or an older version has them."""
    cache = given.get(model) or known
    if cache is None:
        raise SystemExit(f"{model} has caches that no older version has: name them in --extra, under model_caches")
    return cache


def known_aliases(source: Source) -> dict[str, str]:
    """Return the further names of properties."""
    return dict(re.findall(r'object_property_add_alias\(\s*obj,\s*"([^"]+)",\s*obj,\s*"([^"]+)"', source.text))


_PROPERTY = re.compile(r'DEFINE_PROP_(\w+)\(\s*"([\w-]+)",\s*X86CPU,\s*[\w.]+,?([^;]*?)\)\s*[,}]')


def properties(source: Source, listed: dict[str, Any], base: set[str], rows: list[Row]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return every property that is not a feature as name: [type, default, whether only max and host have it], and the aliases."""
    aliases = {alias: name for alias, name in known_aliases(source).items() if alias in listed}
    features = {name for row in rows for name in row["bits"].values()}
    defaults: dict[str, Any] = {}
    for kind, name, rest in _PROPERTY.findall(source.text):
        arguments = [part.strip() for part in rest.split(",") if part.strip()]
        value = None if kind == "STRING" or not arguments else source.evaluate(arguments[-1])
        defaults[name] = bool(value) if kind in ("BOOL", "BIT64") else value
    table: dict[str, Any] = {}
    for name, found in sorted(listed.items()):
        if name in features or name in aliases:
            continue
        default = found.get("default-value", defaults.get(name))
        kind = found["type"]
        if isinstance(default, int) and kind.startswith("int") and default >= 1 << 63:
            default -= 1 << 64
        if isinstance(default, int) and (width := re.fullmatch(r"uint(\d+)", kind)):
            default &= (1 << int(width[1])) - 1
        if kind == "OnOffAuto":
            default = "off"
        if name == "avx10-version":
            default = default or 0  # since 11.0 with a setter of its own, and no default
        table[name] = [kind, default, name not in base]
    return table, aliases


def dependencies(source: Source, rows: list[Row]) -> list[list[Any]]:
    """Return feature_dependencies as [word, mask, word that needs it, mask], in order."""
    widths = [(1 << (64 if "msr" in row else 32)) - 1 for row in rows]
    found = []
    for row in source.table("feature_dependencies"):
        (of, mask), (to, needs) = row["from"], row["to"]
        found.append([rows[of]["name"], mask & widths[of], rows[to]["name"], needs & widths[to]])
    return found


def xsave(source: Source, rows: list[Row]) -> list[list[Any]]:
    """Return x86_ext_save_areas as [component, word, mask, bytes], one row for each feature that has the component."""
    sizes = {"X86LegacyXSaveArea": 512, "X86XSaveHeader": 64}
    sizes |= {name: int(size, 0) for name, size in re.findall(r"sizeof\((\w+)\) != (\w+)\)", source.text)}
    found = []
    for component, area in source.table("x86_ext_save_areas").items():
        size = sum(sizes[name] for name in re.findall(r"sizeof \( (\w+) \)", area["size"]))
        features = area.get("features") or [(area["feature"], area["bits"])]  # since 11.0 several may have one state
        users = [(rows[word]["name"], mask) for word, mask in features]
        if users == [AVX512F] and "CPUID_7_1_EDX_AVX10" in source.macros:
            users.append(AVX10)  # cpuid_has_xsave_feature: AVX10 has these states as well
        found += [[component, *user, size] for user in users]
    return found


def deprecations(source: Source) -> dict[str, Any]:
    """Return what the release says to use in place of its deprecated models, for a table that has some."""
    notes = {row["name"]: row["deprecation_note"] for row in source.table("builtin_x86_defs") if row.get("deprecation_note")}
    return {"deprecations": notes} if notes else {}


AVX512F, AVX10 = ("FEAT_7_0_EBX", 1 << 16), ("FEAT_7_1_EDX", 1 << 19)
CACHE_TYPES = {"DATA_CACHE": "data", "INSTRUCTION_CACHE": "instruction", "UNIFIED_CACHE": "unified"}
CACHE_TYPES_BY_NUMBER = dict(enumerate(CACHE_TYPES.values()))


def caches(source: Source, used: set[str]) -> dict[str, Any]:
    """Return the CPUCaches that models use, by name; fields by QEMU's names."""

    def tidy(cache: Row) -> Row:
        kind, level = cache.get("type", 0), cache.get("share_level")
        tidied = {**cache, "type": CACHE_TYPES[kind] if kind in CACHE_TYPES else CACHE_TYPES_BY_NUMBER[kind]}
        if level is not None:
            tidied["share_level"] = str(level).rpartition("_")[2].lower()
        return tidied

    return {
        name: {part.removesuffix("_cache"): tidy(cache) for part, cache in source.table(name).items()}
        for name in source.variables("CPUCaches")
        if name in used
    }


UNVERSIONED = {"isapc": "legacy", "microvm": "latest", "nitro": "v1"}
"""Machine types without a release in their names, each with how it chooses the versions of unversioned models (default_cpu_version)."""

_MODEL_IDS = "".join(
    f'{{ "{model}-x86_64-cpu", "model-id", "QEMU Virtual CPU version \\1" }}, ' for model in ("qemu32", "qemu64", "athlon")
)


def compat(source: Source, known: set[str]) -> dict[str, Any]:
    """Return by release what machine types of that release and older set on CPUs: [type of CPU, property, value], in order."""
    source.text = re.sub(r'PC_CPU_MODEL_IDS\("([^"]+)"\)', _MODEL_IDS, source.text)  # a macro that stands for three rows
    found = {}
    for name in source.variables("GlobalProperty"):
        if not name.startswith("pc_compat_"):
            continue
        rows = [list(row.values()) if isinstance(row, dict) else row for row in source.table(name)]
        kept = [row for row in rows if row and str(row[0]).endswith("x86_64-cpu") and row[1] in known]
        if kept:
            found[name.removeprefix("pc_compat_").replace("_", ".")] = kept
    return found


def machines(answers: list[Row], source: Source) -> dict[str, Any]:
    """Return the machine types of PCs, and the known ones without a release in their names, out of what query-machines answers.

    Of each its alias, release, and how the CPU versions of unversioned models are chosen.
    """
    splitting = r"pc_q35_(?:machine_)?(\d+)_(\d+)_(?:machine_)?options\([^)]*\)\s*\{[^}]*default_kernel_irqchip_split = true"
    split = {f"pc-q35-{major}.{minor}" for major, minor in re.findall(splitting, source.text)}
    unset = re.findall(r'pc_compat_(\d+)_(\d+)_fn\([^)]*\)\s*\{[^}]*x86_cpu_change_kvm_default\("([^"]+)", NULL\)', source.text)
    found = {}
    for machine in sorted(answers, key=lambda machine: str(machine["name"])):
        name = machine["name"]
        match = re.fullmatch(r"pc-(?:q35|i440fx)-(\d+)\.(\d+)(?:\.\d+)?", name)
        if not match and name not in UNVERSIONED:
            continue
        release = (int(match[1]), int(match[2])) if match else None
        found[name] = {
            "alias": machine.get("alias"),
            "release": f"{match[1]}.{match[2]}" if match else None,
            "versions": UNVERSIONED[name] if release is None else "legacy" if release <= (4, 0) else "v1",
            "split_irqchip": name == "microvm" or name in split,
            "max_cpus": machine["cpu-max"],
            "kvm_unset": [name for major, minor, name in unset if release is not None and release <= (int(major), int(minor))],
        }
    return found


def dump(catalog: Row) -> str:
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
    parser.add_argument("--qemu")
    parser.add_argument("--commit")
    parser.add_argument("--empty-host")
    parser.add_argument("--extra", type=Path)
    options = parser.parse_args()
    target, hw = options.source / "target" / "i386", options.source / "hw"
    source = Source([target / "cpu-qom.h", target / "cpu.h", target / "cpu.c", target / "kvm" / "kvm-cpu.c"])
    boards = Source([target / "cpu-qom.h", *(hw / "i386" / name for name in ("pc.c", "pc_q35.c", "pc_piix.c"))])
    boards.known["TYPE_X86_CPU"] = "x86_64-cpu"
    source.known["QEMU_HW_VERSION"] = "2.5+"  # include/qemu/hw-version.h: frozen since 2.5
    source.known["CPU_UNSET_NUMA_NODE_ID"] = -1  # include/hw/core/cpu.h
    rows = words(source)
    catalog = of_program(options, source, boards, rows) if options.qemu else of_tree(options, source, boards, rows)
    (DATA / f"qemu-{options.release}.json").write_text(dump(catalog), encoding="utf-8")


def of_tree(options: argparse.Namespace, source: Source, boards: Source, rows: list[Row]) -> Row:
    """Read the table off a source tree alone."""
    features = {name for row in rows for name in row["bits"].values()}
    listed, base = qemu_source.properties(source.text, features, set(known_aliases(source)), qemu_source.inherited(options.source))
    table, aliases = properties(source, listed, base, rows)
    models, by_alias = source_models(source, rows, aliases)
    found = qemu_source.Boards(options.source, number(options.release)).machines()
    version = (options.source / "VERSION").read_text(encoding="utf-8").strip()
    commit = f" (commit {options.commit[:12]})" if options.commit else ""
    return {
        "release": options.release,
        "source": f"the source of QEMU {version}{commit}, tools/qemu_catalog.py",
        "known": "source",
        "words": rows,
        "properties": table,
        "aliases": aliases,
        "dependencies": dependencies(source, rows),
        "xsave": sorted(xsave(source, rows)),
        "kvm_defaults": [row for row in source.table("kvm_default_props") if row[0]],
        "models": models,
        "model_aliases": by_alias,
        **deprecations(source),
        "caches": caches(source, {row["cache"] for row in models}),
        "compat": compat(boards, set(listed)),
        "machines": machines([machine.answer() for machine in found], boards),
    }


def of_program(options: argparse.Namespace, source: Source, boards: Source, rows: list[Row]) -> Row:
    """Ask the program, and read off a tree what it does not tell."""
    accel = "qtest" if options.empty_host else "tcg"  # qtest changes no default of a model; not every build has it
    with Qmp(shlex.split(options.qemu), accel=accel) as qemu:
        version = ".".join(str(qemu.version["qemu"][part]) for part in ("major", "minor", "micro"))
        listed = {p["name"]: p for p in qemu.ask("qom-list-properties", typename="max-x86_64-cpu")}
        base = {p["name"] for p in qemu.ask("qom-list-properties", typename="base-x86_64-cpu")}
        if options.empty_host:
            flags = [name for name, p in listed.items() if p["type"] == "bool" and "default-value" not in p]
            skipped = {"realized", "hotplugged", "hotpluggable"}
            overlay(rows, empty_host(options.empty_host, ",".join(["base", *(f"+{name}" for name in flags if name not in skipped)])))
        table, aliases = properties(source, listed, base, rows)
        needs = dependencies(source, rows)
        models, by_alias = source_models(source, rows, aliases)
        extra: Row = json.loads(options.extra.read_text(encoding="utf-8")) if options.extra else {}
        needs += extra.get("dependencies_more", [])
        if options.empty_host:
            models, by_alias = ask_models(
                qemu,
                rows,
                table,
                needs,
                models,
                caches=partial(named_caches, extra.get("model_caches", {})),
                unnamed=partial(unnamed_bits, rows, options.empty_host),
            )
        return {
            "release": options.release,
            "source": f"QEMU {version}, tools/qemu_catalog.py",
            "known": "program",
            "words": rows,
            "properties": table,
            "aliases": aliases,
            "dependencies": needs,
            "xsave": sorted(xsave(source, rows) + extra.get("xsave_more", [])),
            "kvm_defaults": [row for row in source.table("kvm_default_props") if row[0]],
            "models": models,
            "model_aliases": by_alias,
            **deprecations(source),
            "caches": caches(source, {row["cache"] for row in models}) | extra.get("caches", {}),
            "compat": compat(boards, set(listed)),
            "machines": machines(qemu.ask("query-machines"), boards),
        }


if __name__ == "__main__":
    main()
