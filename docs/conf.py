"""How Sphinx makes the site of this folder, the README and the docstrings: make docs."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from textwrap import indent
from typing import Any

project = "vcpuid"
html_title = f"vcpuid {metadata.version('vcpuid')}"
author = "the vcpuid authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["conf.py", "*.json"]

html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]

smartquotes = False
highlight_language = "text"
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100

ROOT_PAGES = {"CONTRIBUTING": "contributing", "CHANGELOG": "changelog", "SECURITY": "security"}
CODE = re.compile(r"(`[^`]+`)")
DRAWN = re.compile(r"\A {4}|\S {2,}\S")
MARKUP = re.compile(r"(?<!^)[\\*_|]", re.MULTILINE)


def as_rst(lines: list[str]) -> list[str]:
    """Turn a docstring, plain text with `code` and lists, into what Sphinx reads; a part that is drawn or set in columns stays as it is."""
    found: list[str] = []
    for part in "\n".join(lines).strip("\n").split("\n\n"):
        found += ["::", "", *indent(part, "  ").splitlines(), ""] if DRAWN.search(part) else [*_escaped(part).splitlines(), ""]
    return found


def _escaped(text: str) -> str:
    parts = (f"`{part}`" if CODE.fullmatch(part) else MARKUP.sub(r"\\\g<0>", part) for part in CODE.split(text))
    return "".join(parts)


def read_docstring(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Hand autodoc a docstring as it can read it."""
    lines[:] = as_rst(lines)


def leave_out(app: object, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out the fields of named tuples that only say which field they are: the signature has them."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def find_root_pages(app: object, doctree: Any) -> None:
    """Lead links to CONTRIBUTING.md and the like, which stand beside README.md, to the pages here that include these files."""
    from sphinx.addnodes import pending_xref

    for node in doctree.findall(pending_xref):
        page = ROOT_PAGES.get(Path(node["reftarget"]).stem)
        if node["reftype"] == "myst" and page:
            node.attributes |= {"refdomain": "doc", "reftarget": page, "reftargetid": None}


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-skip-member", leave_out)
    app.connect("doctree-read", find_root_pages)
