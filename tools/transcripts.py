"""Run the transcripts of README.md and of pages in docs/ anew, as a terminal of 100 columns shows them.

    python tools/transcripts.py             write what the commands print today
    python tools/transcripts.py --check     say which transcripts are others, and change nothing; exit status 1 where there are any

A transcript is a command behind `$ ` in a block of ```console. Where a line `…` stands in one, as many lines before and behind it are
shown as there are now.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/crash.md", "docs/libvirt.md", "docs/fleet.md", "docs/worth.md")
_CAPTURES, _GOLDEN = ROOT / "tests" / "captures" / "kvm", ROOT / "tests" / "golden"
FILES = {
    "skylake.txt": _CAPTURES / "kvm-intel.corei7_skylake_x@6.12.txt.gz",
    "ivy.txt": _CAPTURES / "kvm-intel.corei7_ivy_bridge_3770k@6.12.txt.gz",
    "guest.xml": _GOLDEN / "host-model.xml",
    "haswell.xml": _GOLDEN / "haswell.xml",
    "skylake.xml": _GOLDEN / "skylake.xml",
    "hosts": _GOLDEN / "fleet",
    "icelake.xml": _GOLDEN / "icelake.xml",
}
"""Files and folders that pages name as if they lay where the command runs: a command that names one is run in a folder of them."""
COLUMNS = 100

BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
SESSION = re.compile(r"^\$ (vcpuid [^\n]*)\n(.*?)(?=^\$ |\Z)", re.MULTILINE | re.DOTALL)


def sessions(text: str) -> list[tuple[str, str]]:
    """Give each command of a page with what the page shows of its output."""
    return [session for block in BLOCK.findall(text) for session in SESSION.findall(block)]


def run(command: str) -> tuple[int, list[str]]:
    """Run a command line of vcpuid in a terminal; return its exit status and the lines that it shows."""
    with tempfile.TemporaryDirectory() as folder:
        for name, file in FILES.items():
            Path(folder, name).symlink_to(file)
        words = shlex.split(command)[1:]
        return _run(words, Path(folder) if FILES.keys() & words else ROOT)


def _run(words: list[str], folder: Path) -> tuple[int, list[str]]:
    above, below = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "dumb", "NO_COLOR": "1"}
    program = [sys.executable, "-m", "vcpuid", *words]
    with subprocess.Popen(
        program, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=below, stderr=subprocess.DEVNULL
    ) as process:
        os.close(below)
        shown = b""
        while part := _read(above):
            shown += part
        os.close(above)
    return process.returncode, [line.rstrip() for line in shown.decode().strip().splitlines()]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the other end is closed: of a terminal that is an error
        return b""


def shortened(printed: list[str], shown: list[str]) -> list[str]:
    """Leave out of an output what the page leaves out."""
    if "…" not in shown:
        return printed
    cut = shown.index("…")
    behind = len(shown) - cut - 1
    return [*printed[:cut], "…", *printed[len(printed) - behind :]]


def renewed(text: str) -> str:
    """Return a page with what its commands print today."""

    def session(found: re.Match[str]) -> str:
        _, printed = run(found[1])
        lines = shortened(printed, [line.rstrip() for line in found[2].strip().splitlines()])
        return f"$ {found[1]}\n" + "".join(f"{line}\n" for line in lines)

    return BLOCK.sub(lambda block: f"```console\n{SESSION.sub(session, block[1])}```", text)


def main() -> int:
    """Renew the pages, or check them."""
    others = 0
    for name in PAGES:
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        new = renewed(text)
        others += new != text
        if "--check" not in sys.argv:
            page.write_text(new, encoding="utf-8")
        elif new != text:
            print(f"{name}: a transcript is not what the command prints", file=sys.stderr)
    return 1 if others and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
