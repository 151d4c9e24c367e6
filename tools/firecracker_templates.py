"""Write src/vcpuid/data/firecracker.json: the static CPU templates of Firecracker's releases.

    tools/firecracker_templates.py GITDIR RELEASE=REVISION... -o src/vcpuid/data/firecracker.json

GITDIR is a clone of Firecracker; the releases go from the oldest to the newest. The templates are those that stand as JSON in
tests/data/custom_cpu_templates (up to 1.11 static_cpu_templates), which a unit test of Firecracker's holds to be the compiled ones
(verify_consistency_with_json_templates);
makers and CPU models are read from src/vmm/src/cpu_config/x86_64/static_cpu_templates/mod.rs and arch/x86_64/cpu_model.rs. Up to 1.11
there is no list of models; custom_cpu_template.rs asks for T2CL that the CPU is at least a Cascade Lake, and for no other template.
A release that changes nothing has no row.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("C3", "T2", "T2S", "T2CL", "T2A")
_VMM = "src/vmm/src"
_STATIC = f"{_VMM}/cpu_config/x86_64/static_cpu_templates/mod.rs"
_CUSTOM = f"{_VMM}/cpu_config/x86_64/custom_cpu_template.rs"
_MODELS = f"{_VMM}/arch/x86_64/cpu_model.rs"
_JSON = re.compile(r"tests/data/(?:custom|static)_cpu_templates/(\w+)\.json")
_MODEL = re.compile(
    r"pub const (\w+_FMS): CpuModel = CpuModel \{\s*extended_family: (\w+),\s*extended_model: (\w+),\s*family: (\w+),\s*model: (\w+),\s*"
    r"stepping: (\w+),\s*\}"
)
_SHIFTS = (20, 16, 8, 4, 0)


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("git", type=Path)
    parser.add_argument("releases", nargs="+", metavar="RELEASE=REVISION")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    commits: dict[str, str] = {}
    templates: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for pair in args.releases:
        release, _, revision = pair.partition("=")
        commits[release] = git(args.git, "rev-parse", f"{revision}^{{commit}}").strip()
        for name, rows in templates.items():
            row = template(args.git, commits[release], name)
            if not rows or {key: value for key, value in rows[-1].items() if key != "since"} != row:
                rows.append({"since": release, **row})
    source = f"github.com/firecracker-microvm/firecracker, tests/data/custom_cpu_templates and {_STATIC}, by tools/firecracker_templates.py"
    lines = ",\n".join(
        f'    "{name}": [\n' + ",\n".join("      " + json.dumps(row) for row in rows) + "\n    ]" for name, rows in templates.items()
    )
    text = f'{{\n  "source": {json.dumps(source)},\n  "commits": {json.dumps(commits)},\n  "templates": {{\n{lines}\n  }}\n}}\n'
    args.output.write_text(text, encoding="utf-8")


def git(folder: Path, *words: str) -> str:
    """Return what a git command prints."""
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout


def template(folder: Path, commit: str, name: str) -> dict[str, Any]:
    """Read one template at a commit, with the hosts that it is for."""
    listed = git(folder, "ls-tree", "-r", "--name-only", commit, "tests/data").split("\n")
    path = next(found[0] for found in map(_JSON.fullmatch, listed) if found is not None and found[1].upper() == name)
    told = json.loads(git(folder, "show", f"{commit}:{path}"))
    cpuid = [
        [int(leaf["leaf"], 16), int(leaf["subleaf"], 16), leaf["flags"], [[m["register"], *bitmap(m["bitmap"])] for m in leaf["modifiers"]]]
        for leaf in told["cpuid_modifiers"]
    ]
    msrs = [[int(msr["addr"], 16), *bitmap(msr["bitmap"])] for msr in told["msr_modifiers"]]
    return {**hosts(folder, commit, name), "cpuid": cpuid, "msrs": msrs}


def bitmap(text: str) -> tuple[int, int]:
    """Part a bitmap into which bits it sets, and to what."""
    bits = text.removeprefix("0b")
    return int(bits.translate(str.maketrans("01x", "110")), 2), int(bits.replace("x", "0"), 2)


def hosts(folder: Path, commit: str, name: str) -> dict[str, Any]:
    """Tell which hosts may use a template: maker, and signatures or the least of them."""
    static, models = git(folder, "show", f"{commit}:{_STATIC}"), git(folder, "show", f"{commit}:{_MODELS}")
    listed = re.search(rf"StaticCpuTemplate::{name} => &\[(.*?)\]", static)
    if listed is None:
        maker = re.search(
            rf"StaticCpuTemplate::{name} => \{{\s*if &vendor_id != VENDOR_ID_(\w+).*?(?=StaticCpuTemplate::)",
            git(folder, "show", f"{commit}:{_CUSTOM}"),
            re.DOTALL,
        )
        assert maker is not None
        least = "is_at_least_cascade_lake" in maker[0] and "InvalidCpuModel" in maker[0]
        return {"vendor": vendor(maker[1]), **({"least": 0x50657} if least else {})}
    maker = re.search(rf"StaticCpuTemplate::{name} => VENDOR_ID_(\w+)", static)
    assert maker is not None
    known = {
        model: sum(int(text, 16) << shift for text, shift in zip(fields, _SHIFTS, strict=True)) for model, *fields in _MODEL.findall(models)
    }
    return {"vendor": vendor(maker[1]), "signatures": [known[model] for model in re.findall(r"\w+", listed[1])]}


def vendor(name: str) -> str:
    """Spell a maker as leaf 0 does."""
    return {"INTEL": "GenuineIntel", "AMD": "AuthenticAMD"}[name]


if __name__ == "__main__":
    main()
