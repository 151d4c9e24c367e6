"""Gather the fingerprints that Firecracker's repository holds of guests on real hosts.

    oracle/firecracker/fingerprints.py GITDIR RELEASE=REVISION... -o tests/captures/firecracker/fingerprints.jsonl.gz

A row a fingerprint, with the releases whose tags hold it; the rest is the file's own JSON, without blanks.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
from pathlib import Path

FOLDER = "tests/data/cpu_template_helper"
PREFIX = ("fingerprint_INTEL_", "fingerprint_AMD_")


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("git", type=Path)
    parser.add_argument("releases", nargs="+", metavar="RELEASE=REVISION")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    found: dict[tuple[str, str], list[str]] = {}
    for pair in args.releases:
        release, _, revision = pair.partition("=")
        for path in git(args.git, "ls-tree", "-r", "--name-only", revision, FOLDER).split():
            if (name := Path(path).name).startswith(PREFIX):
                text = json.dumps(json.loads(git(args.git, "show", f"{revision}:{path}")), separators=(",", ":"))
                found.setdefault((name, text), []).append(release)
    rows = (
        f'{{"name":{json.dumps(name)},"releases":{json.dumps(releases)},"file":{text}}}\n'
        for (name, text), releases in sorted(found.items())
    )
    args.output.write_bytes(gzip.compress("".join(rows).encode(), 9, mtime=0))


def git(folder: Path, *words: str) -> str:
    """Return what a git command prints."""
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
