"""Take the pictures of the explorer that README and docs show, of the real page in Chromium.

python tools/screenshots.py             writes docs/explore-*.png; needs Chromium, and Playwright of the extra dev
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from shutil import which
from typing import Literal, NamedTuple

from playwright.sync_api import sync_playwright

from vcpuid import read
from vcpuid.answers.certainty import followed
from vcpuid.explore import data, page
from vcpuid.explore.subject import Subject
from vcpuid.setup import Stack

ROOT = Path(__file__).parents[1]
CAPTURES = ROOT / "tests" / "captures" / "kvm"


class Shot(NamedTuple):
    """A picture: its name, the view, the window and the colours."""

    name: str
    fragment: str
    size: tuple[int, int]
    scheme: Literal["light", "dark"]


SHOTS = (
    Shot("bits", "bit=msr.48b.1", (1280, 860), "light"),
    Shot("compare", "view=compare&b=1&bit=7.0.ebx.16", (1280, 720), "dark"),
    Shot("phone", "bit=7.0.ebx.16&f=lost", (390, 760), "light"),
)
PATHS = (
    ("skylake.txt", "kvm-intel.corei7_skylake_x@6.12.txt.gz", "Skylake-Server-v4", Stack(qemu="11.1")),
    ("milan.txt", "kvm-amd.EPYC-Milan-v2@7.3.txt.gz", "Haswell-v4", Stack(qemu="10.0")),
)


def main() -> int:
    """Take them all."""
    if not (chromium := which("chromium")):
        print("no chromium", file=sys.stderr)
        return 4
    subjects = [
        Subject(
            name, followed(cpu, host=read(CAPTURES / file), stack=stack), None, ("--cpu", cpu, "--qemu", str(stack.qemu), "--host", name)
        )
        for name, file, cpu, stack in PATHS
    ]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "report.html"
        file.write_text(page.saved(data.document(map(data.whole, subjects))), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, fragment, (width, height), scheme in SHOTS:
            shown = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            shown.goto(f"{file.as_uri()}#{fragment}")
            shown.wait_for_selector("html[data-ready]")
            shown.locator(".bit[aria-selected=true]").first.scroll_into_view_if_needed() if "view=" not in fragment else None
            shown.wait_for_timeout(200)
            shown.screenshot(path=ROOT / "docs" / f"explore-{name}.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
