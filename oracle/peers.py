#!/usr/bin/env python3
"""The data of others that some tests read in place, from the folder that VCPUID_PEERS names: what belongs there, and whether it is whole.

    oracle/peers.py list                 what it is, whose, which tests read it, and whether it is there
    oracle/peers.py check                the same, with every file's content held against its checksum
    oracle/peers.py pack NAME CLONE      make one of the archives of a git clone of its repository

None of it is part of vcpuid, and none of it is fetched here: `list` says which repository to clone. peers.json beside this file names the
repository, the commit and the files of each archive, and a checksum: SHA-256 over a line for each file in the order of their names, its own
SHA-256 and its name. So it holds for an archive of any form, in whatever folder its files are.

Exit status 0; 1 where something is missing (check), or differs from its checksum; 3 for bad input.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vcpuid.errors import InputError, VcpuidError

MANIFEST = Path(__file__).resolve().parent / "peers.json"

Peer = dict[str, Any]


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND", dest="verb")
    for verb in ("list", "check"):
        verbs.add_parser(verb).add_argument("--folder", type=Path, help="instead of the folder that VCPUID_PEERS names")
    pack = verbs.add_parser("pack")
    pack.add_argument("name")
    pack.add_argument("clone", type=Path)
    pack.add_argument("-o", "--output", type=Path, help="the archive to write (default: NAME in the folder that VCPUID_PEERS names)")
    options = parser.parse_args()
    try:
        peers = manifest()
        if options.verb == "pack":
            if options.name not in peers or "files" not in peers[options.name]:
                raise InputError(f"{options.name!r} is none of {', '.join(name for name in peers if 'files' in peers[name])}")
            return write(peers[options.name], options.clone, options.output or folder() / options.name)
        checked = options.verb == "check"
        there = options.folder or (folder() if checked or os.environ.get("VCPUID_PEERS") else None)
        return max([show(name, peer, there / name if there else None, checked=checked) for name, peer in peers.items()])
    except VcpuidError as error:
        print(f"peers.py: {error}", file=sys.stderr)
        return error.exit_status


def manifest() -> dict[str, Peer]:
    """Read what belongs into the folder, by name."""
    peers: dict[str, Peer] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return peers


def folder() -> Path:
    """Give the folder that VCPUID_PEERS names. Raises InputError where it names none."""
    named = os.environ.get("VCPUID_PEERS")
    if not named:
        raise InputError("VCPUID_PEERS names no folder")
    return Path(named)


def show(name: str, peer: Peer, path: Path | None, checked: bool) -> int:
    """Print what a peer is and whether it is there; returns 1 where it is not as `checked` wants it. No `path`: no folder is named."""
    state, bad = "missing" if path else "VCPUID_PEERS names no folder", checked
    if path is not None and path.exists():
        state, bad = "present", False
        if checked:
            bad = digest(contents(path)) != peer["sha256"]
            state = "present, but not what its checksum says" if bad else "present and whole"
    print(f"{name}: {state}\n  {peer['what']}\n  from {peer['source']}")
    if "files" in peer:
        print(f"    git clone {peer['clone']} CLONE && oracle/peers.py pack {name} CLONE")
    print(f"  read by {', '.join(peer['tests'])}")
    return int(bad)


def contents(path: Path) -> dict[str, bytes]:
    """Read the files of an archive, or of a folder (there unpacked where gzipped), by their names without folders. Raises InputError."""
    try:
        if path.is_dir():
            return {file.name: _unpacked(file.read_bytes()) for file in path.iterdir()}
        with tarfile.open(path) as archive:
            return dict(_members(archive))
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError(getattr(error, "strerror", None) or "no archive, or a cut one", source=str(path)) from None


def _unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        file = archive.extractfile(member) if member.isfile() else None
        if file is not None:
            yield Path(member.name).name, file.read()


def digest(files: Mapping[str, bytes]) -> str:
    """Give the checksum of files: SHA-256 over their own ones and names, in the order of the names."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write(peer: Peer, clone: Path, path: Path) -> int:
    """Write the archive of a peer's files, as the clone has them at the peer's commit. Raises InputError where they are not there."""
    files = {name: blob(clone, f"{peer['commit']}:{peer['folder']}{name}") for name in peer["files"]}
    if digest({Path(name).name: data for name, data in files.items()}) != peer["sha256"]:
        raise InputError("these files are not what the checksum says", source=str(clone))
    mode = {".xz": "w:xz", ".gz": "w:gz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # a mode that is no literal
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(peer["into"] + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    print(f"{path}: {len(files)} files")
    return 0


def blob(clone: Path, name: str) -> bytes:
    """Read a file of a commit. Raises InputError."""
    done = subprocess.run(["git", "-C", str(clone), "show", name], capture_output=True)
    if done.returncode:
        raise InputError(done.stderr.decode(errors="replace").strip().splitlines()[0], source=str(clone))
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
