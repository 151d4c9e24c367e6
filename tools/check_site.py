"""Check a built site as a reader's browser would find it: every link inside leads somewhere, and no page loads anything from elsewhere.

python tools/check_site.py build/site      prints what is wrong, one line each; 1 where something is
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("object", "data")}
"""Attributes that make a browser fetch something unasked."""
INFORMS = {"canonical", "author", "license", "search", "index", "next", "prev"}
"""Kinds of <link> that a browser only notes."""
STYLE_LOADS = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^\"')\s]+")


class Page(HTMLParser):
    """What a page refers to, what it loads, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag's references."""
        told = {name: value or "" for name, value in attrs}
        self.places.update(told[name] for name in ("id", "name") if name in told)
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        if tag == "link" and INFORMS & set(told.get("rel", "").split()):
            self.links.append(told["href"])
            return
        self.loads += [told[name] for name in told if (tag, name) in LOADS]


def complaints(site: Path) -> Iterator[str]:
    """Yield what is wrong with a site, in the order of its files."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: no pages"
    for path, page in pages.items():
        for reference in page.links + page.loads:
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc:
                if reference in page.loads and parts.scheme != "data":
                    yield f"{path}: loads {reference}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not target.is_file() or not target.is_relative_to(site.resolve()):
                yield f"{path}: {reference} leads nowhere"
            elif target.suffix == ".html" and unquote(parts.fragment) not in pages[site / target.relative_to(site.resolve())].places:
                yield f"{path}: there is no place for {reference}"
    for path in sorted(site.rglob("*.css")):
        yield from (f"{path}: loads {found[0]}" for found in STYLE_LOADS.finditer(path.read_text(encoding="utf-8")))


def main(site: Path) -> int:
    """Print what is wrong; return 1 where something is."""
    found = list(complaints(site))
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
