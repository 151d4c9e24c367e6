#!/usr/bin/env python3
"""Add a release to the tables, and print how it differs from the one before it.

    python tools/add_release.py linux SOURCE [--origin TEXT] [--tables NAME]
    python tools/add_release.py qemu RELEASE TREE [--commit COMMIT | --qemu COMMAND [--empty-host COMMAND] [--extra FILE]]

SOURCE is a kernel source tree (a stable release's checkout, or its Makefile, arch/x86 and tools/arch/x86), or a package of Debian's:
linux=7.4.2-1 is the source package, linux-source-7.4 the binary one that holds the tree. --origin says whose tree it is where its release
does not, such as a distribution's number or a repository with its commit; the table names it. --tables is what the tables are called where
upstream's release of that number has its own, such as 6.12-el10; `REBUILT` of releases.py then says whose kernels they stand for.

TREE is QEMU's source tree of that release; the options are those of tools/qemu_catalog.py. With --qemu a real program is asked as well.

Each step is a line: what it makes, of what. A step that refuses its input ends the run; what was made before stays, and the same command
goes on from there. What no step can do is printed at the end: reading what changed in code, and taking captures. docs/architecture.md
tells of it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel_names import order

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("arch/x86", "tools/arch/x86", "Makefile")
"""What of a kernel's tree is read."""


_WIDTH = 140
"""Characters that a line of the repository may have."""


class Refused(Exception):
    """A step could not be done; the message says why, in a line."""


@dataclass(frozen=True)
class Places:
    """Where the repository has its parts."""

    root: Path

    @property
    def data(self) -> Path:
        """The tables."""
        return self.root / "src" / "vcpuid" / "data"

    @property
    def facts(self) -> Path:
        """What was read off kernels' sources."""
        return self.root / "oracle" / "facts"

    @property
    def releases(self) -> Path:
        """The module that lists the releases with tables."""
        return self.root / "src" / "vcpuid" / "releases.py"

    def script(self, name: str) -> list[str]:
        """Return the command of one of the repository's scripts."""
        return [sys.executable, str(self.root / name)]

    def run(self, name: str, *arguments: str | Path, output: Path | None = None) -> None:
        """Run a script; what it prints becomes `output`, once it has ended well. Raises Refused."""
        command = [*self.script(name), *map(str, arguments)]
        told = subprocess.run(
            command, cwd=self.root, stdout=None if output is None else subprocess.PIPE, check=False, env=environment(self)
        )
        if told.returncode:
            raise Refused(f"{name} ended with exit status {told.returncode}")
        if output is not None:
            made = output.with_name(output.name + ".new")
            made.write_bytes(told.stdout)
            made.replace(output)


def environment(places: Places) -> dict[str, str]:
    """Return the environment in which the scripts find the repository's own modules."""
    return {**os.environ, "PYTHONPATH": str(places.root / "src")}


def say(step: str) -> None:
    """Name a step."""
    print(step, flush=True)


def add_linux(places: Places, tree: Path, origin: str | None = None, tables: str | None = None) -> str:
    """Make the tables of a kernel; returns its release."""
    release = tables or release_of(tree)
    facts = places.facts / f"linux-{release}.json.gz"
    say(f"facts of Linux {release}: {facts.name}")
    places.run("oracle/linux_facts.py", tree, "-o", facts, *given(("--origin", origin), ("--tables", tables)))
    say(f"its features, bugs and lists of models: linux-{release}.json")
    places.run("tools/linux_tables.py", places.data, facts, tree)
    everything = sorted(places.facts.glob("linux-*.json.gz"))
    say("what KVM of each kernel lists: kvm-caps.json")
    places.run("tools/kvm_tables.py", *everything, "-o", places.data / "kvm-caps.json")
    newest = max((path.name.removeprefix("linux-").removesuffix(".json.gz") for path in everything), key=order) == release
    manual = tree / "tools" / "arch" / "x86" / "kcpuid" / "cpuid.csv"
    say("the table of features: features.json")
    features = places.data / "features.json"
    names = ("--manual", manual) if newest and manual.exists() else ()
    places.run("tools/features.py", "--table", features, "--facts", *everything, *names, output=features)
    if newest and manual.exists():
        say("fields of leaves: fields.json")
        places.run("tools/fields.py", "--linux", f"{release}={tree}", output=places.data / "fields.json")
    say(f"KERNELS of {places.releases.name}")
    enlist(places.releases, "KERNELS", release)
    return release


def add_qemu(places: Places, release: str, tree: Path, catalog: Sequence[str]) -> None:
    """Make the tables of a QEMU; `catalog` are further arguments for tools/qemu_catalog.py."""
    say(f"its words, models and machine types: qemu-{release}.json")
    places.run("tools/qemu_catalog.py", release, "--source", tree, *catalog)
    say(f"QEMUS of {places.releases.name}")
    enlist(places.releases, "QEMUS", release)
    if "--qemu" not in catalog:
        say("what TCG supports, and the options of machine types: qemu-tcg.json, qemu-boards.json")
        places.run("tools/qemu_tcg.py", f"{release}=@{tree}")
        places.run("tools/qemu_boards.py", f"{release}=@{tree}")
    say("the table of features: features.json")
    features = places.data / "features.json"
    places.run("tools/features.py", "--table", features, "--qemu", f"{release}={tree}", output=features)


def follow(places: Places, program: str, release: str) -> None:
    """Make anew what is worked out of all tables and rules, and print the difference."""
    say("where rules come from: provenance.json")
    places.run("tools/provenance.py")
    say("which rules clear which feature: clearing.json (some minutes)")
    places.run("tools/clearing.py", output=places.data / "clearing.json")
    print()
    places.run("tools/release_difference.py", program, release)


def given(*options: tuple[str, str | None]) -> list[str]:
    """Return those options that have a value, as arguments."""
    return [part for name, value in options if value is not None for part in (name, value)]


def release_of(tree: Path) -> str:
    """Read major and minor off a kernel's Makefile; raises Refused."""
    makefile = tree / "Makefile"
    if not makefile.is_file():
        raise Refused(f"{tree} has no Makefile: it is no kernel source tree")
    numbers = dict(re.findall(r"^(VERSION|PATCHLEVEL) *= *([0-9]+)$", makefile.read_text(encoding="utf-8"), re.MULTILINE))
    if len(numbers) < 2:
        raise Refused(f"{makefile} tells no release")
    return f"{numbers['VERSION']}.{numbers['PATCHLEVEL']}"


def enlist(module: Path, name: str, release: str) -> None:
    """Put a release into a tuple of releases, in order; one that is there already stays. Raises Refused."""
    text = module.read_text(encoding="utf-8")
    found = re.search(rf"^{name} = \(([^)]*)\)(?:  # fmt: skip)?$", text, re.MULTILINE)
    if found is None:
        raise Refused(f"{module} has no tuple {name}")
    listed = sorted({*re.findall(r'"([^"]+)"', found[1]), release}, key=order)
    tuple_ = f"{name} = ({_quoted(listed)})"
    if len(tuple_) > _WIDTH:
        tuple_ = f"{name} = (\n    {_quoted(listed)},\n)  # fmt: skip"
    module.write_text(text[: found.start()] + tuple_ + text[found.end() :], encoding="utf-8")


def _quoted(names: Sequence[str]) -> str:
    """Write names as a tuple has them."""
    return ", ".join(f'"{name}"' for name in names) + ("," if len(names) == 1 else "")


def source_tree(places: Places, source: str, folder: Path) -> Path:
    """Return the kernel's tree that SOURCE means, below `folder` where it is a package; raises Refused."""
    if Path(source).is_dir():
        return Path(source)
    if not re.fullmatch(r"linux(=[\w.+~:-]+|-source-[\w.]+(=[\w.+~:-]+)?)", source):
        raise Refused(f"{source} is neither a folder nor linux=VERSION nor linux-source-RELEASE")
    suites = str(places.root / "oracle" / "debian-suites.sh")
    packed = source.startswith("linux-source-")
    command = [suites, "get", str(folder), source] if packed else [suites, "source", str(folder), source, *NEEDED]
    say(f"{source} from Debian")
    if subprocess.run(command, check=False).returncode:
        raise Refused(f"{source} is not to be had: oracle/debian-suites.sh versions linux lists what is")
    if packed:
        unpack(folder)
    trees = [path.parent for path in folder.glob("*/Makefile")]
    if len(trees) != 1:
        raise Refused(f"{source} holds {len(trees)} kernel source trees")
    return trees[0]


def unpack(folder: Path) -> None:
    """Unpack what is read of the tree that a package linux-source-RELEASE brought; raises Refused."""
    archives = sorted((folder / "usr" / "src").glob("linux-source-*.tar.xz"))
    if len(archives) != 1:
        raise Refused(f"{folder} has {len(archives)} archives of a kernel's source")
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            if any(f"{member.name.partition('/')[2]}/".startswith(f"{part}/") for part in NEEDED):
                archive.extract(member, folder, filter="data")


LEFT = """
What is left is for you, docs/architecture.md says how: read what changed in the code, with a rule for each difference that shows; take
captures; run the tests."""


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Read the arguments, take the steps; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    programs = parser.add_subparsers(dest="program", required=True)
    linux = programs.add_parser("linux")
    linux.add_argument("source")
    linux.add_argument("--origin")
    linux.add_argument("--tables")
    qemu = programs.add_parser("qemu")
    qemu.add_argument("release")
    qemu.add_argument("tree", type=Path)
    for option in ("--commit", "--qemu", "--empty-host", "--extra"):
        qemu.add_argument(option)
    options = parser.parse_args(arguments)
    places = Places(root)
    folder = Path(tempfile.mkdtemp(prefix="add-release-"))
    try:
        if options.program == "linux":
            release = add_linux(places, source_tree(places, options.source, folder).resolve(), options.origin, options.tables)
        else:
            release = options.release
            asked = given(
                ("--commit", options.commit), ("--qemu", options.qemu), ("--empty-host", options.empty_host), ("--extra", options.extra)
            )
            add_qemu(places, release, options.tree.resolve(), asked)
        follow(places, options.program, release)
    except (Refused, OSError) as error:
        print(f"add_release.py: {error}", file=sys.stderr)
        return 3
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(LEFT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
