"""What is installed beside the package, by its place below a prefix: man pages, and the scripts by which shells complete vcpuid.

    python tools/share.py PREFIX VERSION       PREFIX/share/man/man1/vcpuid.1 …

All of it is made of the verbs themselves. The wheel gets it by hatch_build.py when it is built, so that the repository holds none.
"""

from __future__ import annotations

import sys
from pathlib import Path

from click.shell_completion import ShellComplete

sys.path.insert(0, str(Path(__file__).parent))
from man_pages import pages
from vcpuid.cli import cli
from vcpuid.cli.completion import SHELLS, VARIABLE

COMPLETIONS = {
    "bash": "share/bash-completion/completions/vcpuid",
    "zsh": "share/zsh/site-functions/_vcpuid",
    "fish": "share/fish/vendor_completions.d/vcpuid.fish",
}
"""Where each shell looks for the script of a program."""


def files(version: str) -> dict[str, str]:
    """Give each file's place and text for a version of vcpuid."""
    found = {f"share/man/man1/{name}": text for name, text in pages("man", version).items()}
    for shell, place in COMPLETIONS.items():
        found[place] = ShellComplete.source(SHELLS[shell](cli, {}, "vcpuid", VARIABLE))
    return found


def write(prefix: Path, version: str) -> None:
    """Write them below a folder."""
    for place, text in files(version).items():
        path = prefix / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
