"""Look a release over before it is published: python tools/check_dist.py build/dist

The source archive has what git holds, and the wheel the package, its man pages and completions, and no more; their metadata are valid and
name one version. Then the wheel is used as a user would, in an environment and a folder away from this checkout: a program imports it with
the standard library alone, mypy checks that program strictly, and a list of verbs must answer. Each complaint is a line on standard error;
exit status 1.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.metadata import Metadata
from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).parent))
import share

ROOT = Path(__file__).parents[1]
CONSUMER = ROOT / "tools" / "consumer.py"
CAPTURE = ROOT / "tests" / "captures" / "kvm" / "kvm-amd.EPYC-Milan-v2@7.3.txt.gz"

SIZE_LIMIT = 2_000_000
"""Bytes of a wheel."""

NEEDED = {"py.typed", "data/features.json", "cli/__init__.py"}
"""A few files of the package without which it is of no use, should the list of its files itself be wrong."""

DEPENDENCIES = {"click", "rich"}

VERBS = (
    ("--version", 0, "vcpuid {version}"),
    ("--help", 0, "Which CPU does this guest see"),
    ("names avx2", 0, "CPUID[eax=07h,ecx=00h].EBX [bit 5]"),
    ("explain avx2 --cpu EPYC-Milan --host {host}", 0, "The guest sees avx2"),
    ("explain avx512f --cpu Skylake-Server --host {host}", 1, "The guest does not see avx512f"),
    ("explain no-such-feature --host {host}", 3, ""),
    ("check qemu64 {host}", 0, "-cpu qemu64 starts with every requested feature"),
    ("check EPYC-Milan {host}", 1, "-cpu EPYC-Milan starts, but the guest lacks"),
    ("qemu models {host} --qemu 11.1", 0, "qemu64-v1"),
    ("decode {host}", 0, "AuthenticAMD"),
    ("kvm supported {host} --check --param cmdline=mitigations=off", 0, "bit for bit"),
    ("collect --script", 0, "SPDX-License-Identifier"),
)
"""What a wheel must answer: arguments, exit status, and what standard output has."""


def project_version(root: Path) -> str:
    """Return the version in pyproject.toml, the one place where it is written."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def newest_release(root: Path) -> str:
    """Return the version of the newest heading of CHANGELOG.md that is a release's."""
    found = re.search(r"^## (\d\S*)", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError("CHANGELOG.md has no heading of a release")
    return found[1]


def tracked(root: Path) -> set[str]:
    """Return the files that git holds, as paths below the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    return set(listed.split("\0")) - {""}


def complaints_of_sdist(names: Iterable[str], held: set[str]) -> Iterator[str]:
    """Hold a source archive's names, below its folder, against the files that git holds."""
    found = set(names) - {"PKG-INFO"}
    yield from (f"the source archive lacks {name}" for name in sorted(held - found))
    yield from (f"the source archive has {name}, which git does not hold" for name in sorted(found - held))


SHARED = re.compile(r"vcpuid-[^/]+\.data/data/")
"""What a wheel has to be installed below the prefix."""


def complaints_of_wheel(
    contents: Mapping[str, bytes], package: Mapping[str, bytes], size: int, shared: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Hold a wheel's files against the package's, whose names begin below it, and against what is installed beside it (tools/share.py).

    `size` is the wheel's own, in bytes.
    """
    beside_it = {SHARED.sub("", name): data.decode() for name, data in contents.items() if SHARED.match(name)}
    yield from (f"the wheel lacks {name}" for name in sorted((shared or {}).keys() - beside_it.keys()))
    yield from (f"the wheel has {name}, which is not of the verbs" for name in sorted(beside_it.keys() - (shared or {}).keys()))
    yield from (f"the wheel has another {name}" for name, text in sorted((shared or {}).items()) if beside_it.get(name, text) != text)
    found = {name.removeprefix("vcpuid/"): data for name, data in contents.items() if name.startswith("vcpuid/")}
    beside = [name for name in contents if not name.startswith("vcpuid/") and ".dist-info/" not in name and not SHARED.match(name)]
    yield from (f"the wheel lacks vcpuid/{name}" for name in sorted((package.keys() | NEEDED) - found.keys()))
    yield from (f"the wheel has vcpuid/{name}, which git does not hold" for name in sorted(found.keys() - package.keys()))
    yield from (f"the wheel has another vcpuid/{name}" for name in sorted(found.keys() & package.keys()) if found[name] != package[name])
    yield from (f"the wheel has {name}, which would lie beside the package" for name in beside)
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in contents):
        yield "the wheel lacks the licence"
    if size > SIZE_LIMIT:
        yield f"the wheel has {size:,} bytes, more than {SIZE_LIMIT:,}"


def complaints_of_metadata(data: bytes, version: str) -> Iterator[str]:
    """Check a METADATA or PKG-INFO file by the rules of its own version, and that it says what this project's must."""
    try:
        metadata = Metadata.from_email(data)
    except ExceptionGroup as errors:
        yield from (f"metadata: {error}" for error in errors.exceptions)
        return
    if str(metadata.version) != version:
        yield f"metadata: version {metadata.version}, pyproject.toml has {version}"
    if metadata.license_expression != "Apache-2.0":
        yield f"metadata: the licence is {metadata.license_expression}"
    if metadata.description_content_type != "text/markdown" or not metadata.description:
        yield "metadata: README.md is not the description"
    plain = {each.name for each in metadata.requires_dist or () if not is_extra(each)}
    if plain != DEPENDENCIES:
        yield f"metadata: needs {', '.join(sorted(plain))}; not just {', '.join(sorted(DEPENDENCIES))}"


def is_extra(requirement: Requirement) -> bool:
    """Whether a requirement is one of an extra's."""
    return requirement.marker is not None and "extra" in str(requirement.marker)


def complaints_of_use(wheel: Path, version: str, folder: Path) -> Iterator[str]:
    """Install a wheel into an environment of its own below a folder, and use it there."""
    python, vcpuid = folder / "venv" / "bin" / "python", folder / "venv" / "bin" / "vcpuid"
    host = folder / "host.txt.gz"
    shutil.copy(CAPTURE, host)
    shutil.copy(CONSUMER, folder)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-deps", wheel], check=True, cwd=folder)
    yield from complaints_of_run([python, CONSUMER.name, host.name], folder, 0, "EPYC-Milan")
    strictly: list[str | Path] = ["--strict", "--config-file=", "--cache-dir=mypy", "--python-executable", python]
    yield from complaints_of_run([sys.executable, "-m", "mypy", *strictly, CONSUMER.name], folder, 0, "Success")
    subprocess.run([*install, wheel], check=True, cwd=folder)
    for arguments, status, text in VERBS:
        words = shlex.split(arguments.format(host=host.name, version=version))
        yield from complaints_of_run([vcpuid, *words], folder, status, text.format(version=version))
    yield from complaints_of_run([python, "-c", EVERY_VERB], folder, 0, "explain")


EVERY_VERB = """
import subprocess, sys
from vcpuid.cli import VERBS
for verb in VERBS:
    subprocess.run([sys.executable, "-m", "vcpuid", verb, "--help"], check=True, stdout=subprocess.DEVNULL)
    print(verb)
"""


def complaints_of_run(command: list[str | Path], folder: Path, status: int, text: str) -> Iterator[str]:
    """Run a command in a folder: how it ends, what its output has, and that it leaves no traceback."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=300)
    words = " ".join(Path(word).name if isinstance(word, Path) else word for word in command)
    if done.returncode != status or text not in done.stdout or "Traceback" in done.stderr:
        yield f"{words}: exit status {done.returncode}, {status} was expected, with {text!r}: {(done.stdout + done.stderr)[-2000:]}"


def complaints(folder: Path) -> Iterator[str]:
    """Look over what `python -m build` has left in a folder."""
    version = project_version(ROOT)
    if newest_release(ROOT) != version:
        yield f"CHANGELOG.md ends at {newest_release(ROOT)}, pyproject.toml has {version}"
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    held = tracked(ROOT)
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2]: member for member in archive.getmembers() if member.isfile()}
        information = archive.extractfile(names["PKG-INFO"])
        assert information is not None  # a file
        yield from complaints_of_metadata(information.read(), version)
    yield from complaints_of_sdist(names, held)
    with zipfile.ZipFile(wheel) as parts:
        contents = {name: parts.read(name) for name in parts.namelist()}
    base = "src/vcpuid/"
    package = {name.removeprefix(base): (ROOT / name).read_bytes() for name in held if name.startswith(base)}
    yield from complaints_of_wheel(contents, package, wheel.stat().st_size, share.files(version))
    yield from complaints_of_metadata(contents[f"vcpuid-{version}.dist-info/METADATA"], version)
    with tempfile.TemporaryDirectory(prefix="vcpuid-dist-") as away:
        yield from complaints_of_use(wheel.resolve(), version, Path(away))


def main() -> int:
    """Print each complaint, and what was looked at where there is none."""
    folder = Path(sys.argv[1])
    found = False
    for complaint in complaints(folder):
        print(complaint, file=sys.stderr)
        found = True
    if not found:
        print(f"good: {', '.join(f'{path.name} ({path.stat().st_size:,} bytes)' for path in sorted(folder.iterdir()))}")
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
