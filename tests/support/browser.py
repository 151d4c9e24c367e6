"""Chromium, driven by Playwright: a page is opened so that an error, a dialog, or a request to anywhere else fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
"""The browser; Playwright brings none along."""

_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def lack() -> str | None:
    """Say why no page can be opened here; None where it can."""
    if find_spec("playwright") is None or find_spec("axe_playwright_python") is None:
        return "no playwright, or no axe-playwright-python, for this Python"
    return None if CHROMIUM else "no chromium installed"


@contextmanager
def opened(browser: Browser, url: str, size: tuple[int, int], *, scheme: str = "light", **context: Any) -> Iterator[Page]:
    """Open an address in a window of its own, and wait until it has drawn."""
    made = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, **context)  # type: ignore[arg-type]
    page = made.new_page()
    here = url.partition("#")[0]
    trouble: list[str] = []

    def failed(what: str) -> None:
        trouble.append(what)

    page.on(
        "console",
        lambda message: failed(message.text) if message.type in ("error", "warning") and "status of 4" not in message.text else None,
    )
    page.on("pageerror", lambda error: failed(str(error)))
    page.on("dialog", lambda dialog: (failed(f"a dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith((here, "about:", "blob:")) else failed(f"a request to {request.url}"))
    page.goto(url)
    if context.get("java_script_enabled", True):
        page.wait_for_selector("html[data-ready]", timeout=60_000)
    yield page
    made.close()
    assert not trouble


def axe(page: Page, part: str = "html") -> list[str]:
    """What axe's rules find on a page, or on a part of it: each with the rule and the first places."""
    import axe_playwright_python

    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("([part, options]) => axe.run(part, options)", [part, _RULES])
    return [
        f"{one['id']}: {[(node['target'], node.get('failureSummary', '')) for node in one['nodes'][:2]]}" for one in found["violations"]
    ]
