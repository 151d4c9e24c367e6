"""Write src/vcpuid/data/kvm-caps.json: which features KVM knows, by kernel.

    tools/kvm_tables.py FACTS... -o src/vcpuid/data/kvm-caps.json

FACTS are JSON files (gzipped or not), one a kernel, as oracle/linux_facts.py reads them off that kernel's source: `kernel`, `cpuid_leafs`,
`reverse_cpuid`, `features`, `kvm_only_features`, `kvm_caps` (word -> [kind, feature], as kvm_set_cpu_caps of arch/x86/kvm/cpuid.c spells
them) and `kvm_cap_calls` ([file, call, feature]).

Up to 6.12 that function gives plain masks and sets some bits afterwards; since 6.14 every feature has a kind. The older form is brought
to the newer kinds here, so that one mechanism serves all kernels: see `_OLDER`. Sets and clears that depend on anything are no data; they
are rows of vcpuid/kvm/rules.py.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

from kernel_names import order, tables_of

_KINDS = {
    "F": "F",
    "SF": "SCATTERED",
    "SCATTERED_F": "SCATTERED",
    "X86_64_F": "X86_64",
    "ALIASED_1_EDX_F": "ALIASED",
    "EMULATED_F": "EMULATED",
    "SYNTHESIZED_F": "SYNTHESIZED",
    "PASSTHROUGH_F": "PASSTHROUGH",
    "VENDOR_F": "VENDOR",
    "RUNTIME_F": "RUNTIME",
}

_LONG_MODE = (("CPUID_8000_0001_EDX", "GBPAGES"), ("CPUID_8000_0001_EDX", "LM"))
_X86_64 = (("CPUID_D_1_EAX", "XFD"), *_LONG_MODE)
_EMULATED = (("CPUID_1_ECX", "X2APIC"), ("CPUID_7_0_EBX", "TSC_ADJUST"), ("CPUID_7_EDX", "ARCH_CAPABILITIES"))
_RUNTIME = (("CPUID_1_ECX", "MWAIT"), ("CPUID_1_ECX", "OSXSAVE"), ("CPUID_7_ECX", "OSPKE"))
_AMD = "CPUID_8000_0021_EAX"
_SEV = (("CPUID_8000_001F_EAX", "SEV"), ("CPUID_8000_001F_EAX", "SEV_ES"))
_SYNTHESIZED = ((_AMD, "LFENCE_RDTSC"), (_AMD, "SRSO_NO"), (_AMD, "VERW_CLEAR"), ("CPUID_8000_0021_ECX", "TSA_SQ_NO"),
                ("CPUID_8000_0021_ECX", "TSA_L1_NO"))  # fmt: skip

_OLDER: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "5.10": {
        "X86_64": _LONG_MODE,
        "EMULATED": _EMULATED,
        "PASSTHROUGH": (("CPUID_7_ECX", "LA57"),),
        "RUNTIME": _RUNTIME,
        "F": (("CPUID_8000_0001_EDX", "NX"), ("CPUID_8000_0007_EDX", "CONSTANT_TSC")),
    },
    "5.14": {
        "X86_64": _X86_64,
        "EMULATED": (*_EMULATED, (_AMD, "NO_SMM_CTL_MSR")),
        "PASSTHROUGH": (("CPUID_7_ECX", "LA57"),),
        "RUNTIME": _RUNTIME,
        "SYNTHESIZED": ((_AMD, "LFENCE_RDTSC"), (_AMD, "SBPB"), (_AMD, "IBPB_BRTYPE"), (_AMD, "SRSO_NO")),
    },
    "5.15": {
        "X86_64": _LONG_MODE,
        "EMULATED": _EMULATED,
        "PASSTHROUGH": (("CPUID_7_ECX", "LA57"),),
        "RUNTIME": _RUNTIME,
        "SYNTHESIZED": _SYNTHESIZED,
        "F": ((_AMD, "NO_NESTED_DATA_BP"), (_AMD, "NULL_SEL_CLR_BASE"), ("CPUID_8000_0007_EDX", "CONSTANT_TSC")),
        "VENDOR": _SEV,
    },
    "6.1": {
        "X86_64": _X86_64,
        "EMULATED": (*_EMULATED, (_AMD, "NO_SMM_CTL_MSR")),
        "PASSTHROUGH": (("CPUID_7_ECX", "LA57"),),
        "RUNTIME": _RUNTIME,
        "SYNTHESIZED": _SYNTHESIZED,
        "F": (("CPUID_8000_0008_EBX", "AMD_PSFD"), (_AMD, "NO_NESTED_DATA_BP"), (_AMD, "NULL_SEL_CLR_BASE"),
              ("CPUID_8000_0007_EDX", "CONSTANT_TSC")),
        "VENDOR": _SEV,
    },
    "6.6": {
        "X86_64": _X86_64,
        "EMULATED": (*_EMULATED, (_AMD, "NO_SMM_CTL_MSR")),
        "PASSTHROUGH": (("CPUID_7_ECX", "LA57"),),
        "RUNTIME": _RUNTIME,
        "SYNTHESIZED": _SYNTHESIZED,
        "VENDOR": _SEV,
    },
    "6.8": {
        "X86_64": _X86_64,
        "EMULATED": (*_EMULATED, (_AMD, "NO_SMM_CTL_MSR")),
        "PASSTHROUGH": (("CPUID_7_ECX", "LA57"),),
        "RUNTIME": _RUNTIME,
        "SYNTHESIZED": ((_AMD, "LFENCE_RDTSC"), (_AMD, "SBPB"), (_AMD, "IBPB_BRTYPE"), (_AMD, "SRSO_NO")),
        "VENDOR": _SEV,
    },
    "6.12": {
        "X86_64": _X86_64,
        "EMULATED": (*_EMULATED, (_AMD, "NO_SMM_CTL_MSR")),
        "PASSTHROUGH": (("CPUID_7_ECX", "LA57"),),
        "RUNTIME": _RUNTIME,
        "SYNTHESIZED": ((_AMD, "LFENCE_RDTSC"), (_AMD, "SBPB"), (_AMD, "IBPB_BRTYPE"), (_AMD, "SRSO_NO"), (_AMD, "VERW_CLEAR"),
                        ("CPUID_8000_0021_ECX", "TSA_SQ_NO"), ("CPUID_8000_0021_ECX", "TSA_L1_NO")),
    },
}  # fmt: skip
_OLDER["4.18"] = {**_OLDER["6.1"], "SYNTHESIZED": _OLDER["5.14"]["SYNTHESIZED"]}
_OLDER["6.12-el10"] = _OLDER["5.14-el9_5"] = _OLDER["5.14"]
_OLDER["5.14-el9_4"] = {**_OLDER["6.6"], "SYNTHESIZED": ((_AMD, "LFENCE_RDTSC"), (_AMD, "SRSO_NO"))}
_OLDER["5.14-el9_3"] = {**_OLDER["5.14-el9_4"], "F": (("CPUID_8000_0008_EBX", "AMD_PSFD"),)}
_OLDER["5.14-el9_1"] = _OLDER["5.14-el9_2"] = {**_OLDER["6.1"], "EMULATED": _EMULATED, "SYNTHESIZED": ((_AMD, "LFENCE_RDTSC"),)}
"""Kinds that 5.10 to 6.12 express by a bare bit number, a local variable, an unconditional kvm_cpu_cap_set after the mask, or a comment.

SEV and SEV_ES are in the mask of 5.15 to 6.8, and sev_set_cpu_caps takes them away again where off: the same outcome as adding them where
on.
"""

_ALWAYS = dict.fromkeys(("6.14", "6.16", "6.17", "6.18", "6.19"), "CLAIMED")
"""Up to 6.19 SYNTHESIZED_F does not ask the host kernel, so that in words of KVM's own the bit is always on; 7.0 asks."""


def _read(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    facts: dict[str, Any] = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    return facts


def _kinds(facts: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Map (word, feature) to its kind in one kernel, in the vocabulary of 6.18 and later."""
    release = tables_of(facts)
    kinds = {(word, name): _KINDS[kind] for word, rows in facts["kvm_caps"].items() for kind, name in rows if kind != "COND"}
    for kind, places in _OLDER.get(release, {}).items():
        kinds.update(dict.fromkeys(places, kind))
    if release in _ALWAYS:
        linux = set(facts["cpuid_leafs"])
        kinds.update({place: _ALWAYS[release] for place, kind in kinds.items() if kind == "SYNTHESIZED" and place[0] not in linux})
    return kinds


def _places(facts: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """Map each feature to KVM's word and bit for it: KVM's own words win, as __feature_translate has it."""
    leafs = facts["cpuid_leafs"]
    places = {name: (leafs[place["word"]], place["bit"]) for name, place in facts["features"].items() if place["word"] < len(leafs)}
    places.update({name: (word, bit) for name, (word, bit) in facts["kvm_only_features"].items()})
    return places


def tables(all_facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the facts of all kernels: words, and one row a feature with its kind in each kernel (null: KVM does not list it)."""
    kernels = [tables_of(facts) for facts in all_facts]
    words: dict[str, list[Any]] = {}
    bits: dict[str, int] = {}
    wanted: dict[tuple[str, str], list[str | None]] = {}
    for column, facts in enumerate(all_facts):
        for word, place in facts["reverse_cpuid"].items():
            row = [*place, "linux" if word in facts["cpuid_leafs"] else "kvm"]
            if words.setdefault(word, row) != row:
                raise SystemExit(f"{word} changed its place in {kernels[column]}")
        kinds = _kinds(facts)
        places = _places(facts)
        bits.update({name: bit for name, (word, bit) in places.items() if word in facts["reverse_cpuid"]})
        called = {(places[name][0], name) for _, _, name in facts["kvm_cap_calls"] if name in places and places[name][0] in words}
        for place in kinds.keys() | called:
            wanted.setdefault(place, [None] * len(kernels))[column] = kinds.get(place)
    known = {word for word, _ in wanted}
    return {
        "source": "arch/x86/kvm/{cpuid.c,reverse_cpuid.h} of Linux "
        + ", ".join(facts["kernel"] for facts in all_facts)
        + "; written by tools/kvm_tables.py",
        "kernels": kernels,
        "words": {word: place for word, place in words.items() if word in known},
        "features": sorted(
            ([word, bits[name], name, *kinds] for (word, name), kinds in wanted.items()),
            key=lambda row: (words[row[0]][:3], row[1], row[2]),
        ),
    }


def _write(table: dict[str, Any], path: Path) -> None:
    """One row a line."""
    parts = []
    for key, value in table.items():
        if isinstance(value, dict):
            rows = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in value.items())
            parts.append(f"{json.dumps(key)}: {{\n  {rows}\n }}")
        elif isinstance(value, list) and value and isinstance(value[0], list):
            rows = ",\n  ".join(json.dumps(row) for row in value)
            parts.append(f"{json.dumps(key)}: [\n  {rows}\n ]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{\n " + ",\n ".join(parts) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Read the arguments, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facts", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    arguments = parser.parse_args()
    facts = sorted((_read(path) for path in arguments.facts), key=lambda fact: order(tables_of(fact)))
    _write(tables(facts), arguments.output)


if __name__ == "__main__":
    main()
