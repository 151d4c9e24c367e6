"""Make the playground: the explorer's page with a Python that runs in the reader's browser, for the documentation's site.

python tools/playground.py build/site/playground

Python is Pyodide (MPL-2.0), the package `pyodide` of the npm registry, which `npm pack` brings once and `build/` keeps; its files are held
against their hash and copied. Without npm a page that says so takes the place, and 0 is returned all the same: a site without a playground
is a site. Of vcpuid all but its command line is packed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from vcpuid.explore import page

ROOT = Path(__file__).parents[1]
VERSION = "314.0.7"
SHA512 = "0YvXxEhfEdpLfb/XkM2BFAeMROq0iMUX2bzzH9pOttyMcWkwq+HbE5uyuGD82LN7y2q+SNvi/6V5JEsOlD2R1A=="
"""Of the package's archive, as npm spells it."""

NEEDED = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
"""What a browser loads of it."""

HOSTS = {
    "Skylake-X, Linux 6.12.txt.gz": "kvm-intel.corei7_skylake_x@6.12.txt.gz",
    "EPYC Milan, Linux 7.3.txt.gz": "kvm-amd.EPYC-Milan-v2@7.3.txt.gz",
    "Cascade Lake, MSRs not told.txt.gz": "../reports/cascade-lake-without-msrs.txt.gz",
}
"""Captured machines that are there to begin with, by what they are called there."""


def brought(folder: Path) -> Path:
    """Return the package's archive, brought where it is not there; raises OSError with the reason where it cannot be had."""
    archive = folder / f"pyodide-{VERSION}.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"pyodide@{VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        if done.returncode or not archive.exists():
            raise OSError(f"npm pack failed: {done.stderr.strip() or done.stdout.strip()}")
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != SHA512:
        archive.unlink()
        raise OSError(f"{archive.name} is not the archive that was expected: sha512-{found}")
    return archive


def make(folder: Path, archive: Path) -> None:
    """Lay the playground out."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pyodide").mkdir(parents=True)
    (folder / "hosts").mkdir()
    with tarfile.open(archive) as files:
        for name in NEEDED:
            found = files.extractfile(f"package/{name}")
            assert found is not None
            (folder / "pyodide" / name).write_bytes(found.read())
    with zipfile.ZipFile(folder / "vcpuid.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted((ROOT / "src" / "vcpuid").rglob("*")):
            inside = path.relative_to(ROOT / "src")
            if path.is_file() and "__pycache__" not in inside.parts and inside.parts[1] != "cli":
                packed.write(path, inside.as_posix())
    for name, capture in HOSTS.items():
        shutil.copy(ROOT / "tests" / "captures" / "kvm" / capture, folder / "hosts" / name)
    (folder / "hosts.json").write_text(json.dumps([*HOSTS]), encoding="utf-8")
    for name in ("playground.js", "worker.js"):
        shutil.copy(ROOT / "docs" / "playground" / name, folder / name)
    text = page.asking("playground.js", page.policies("'self'", "'none'", worker="vcpuid-worker"))
    (folder / "index.html").write_text(text, encoding="utf-8")


def main(folder: Path) -> int:
    """Make it, or say why not."""
    try:
        make(folder, brought(ROOT / "build"))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"no playground: {error}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(
            "<!doctype html><title>vcpuid</title><p>This site was made without its playground.\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
