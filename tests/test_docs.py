"""The documentation's site: what makes its pages, and the check of what was made. `make docs` makes the site itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from support.tools import TOOLS, load_module
from vcpuid.cli import cli
from vcpuid.rulebook import all_rules

ROOT = Path(__file__).parents[1]


CONF = load_module(ROOT / "docs" / "conf.py")
CHECK = TOOLS / "check_site.py"


@pytest.mark.parametrize(
    ("docstring", "rst"),
    [
        ("Plain text.", "Plain text."),
        ("`code_` and 2 * 3 of hv_\nand |x|", "``code_`` and 2 \\* 3 of hv\\_\nand \\|x\\|"),
        ("A list:\n\n* one\n* two `2`", "A list:\n\n* one\n* two ``2``"),
        ("A drawing:\n\n    a_ ─ *b\n      c\n\nAfter.", "A drawing:\n\n::\n\n      a_ ─ *b\n        c\n\nAfter."),
        ("In columns:\n\nxcr0    XCR0\ncr4_    CR4", "In columns:\n\n::\n\n  xcr0    XCR0\n  cr4_    CR4"),
    ],
)
def test_a_docstring_is_read_as_plain_text(docstring: str, rst: str) -> None:
    assert CONF.as_rst(docstring.splitlines()) == [*rst.splitlines(), ""]


def test_every_verb_has_a_page_that_names_every_option(tmp_path: Path) -> None:
    subprocess.run([sys.executable, TOOLS / "man_pages.py", "markdown", tmp_path], check=True, timeout=60)
    root = click.Context(cli, info_name="vcpuid")
    assert {path.stem for path in tmp_path.iterdir()} == {"index", *cli.list_commands(root)}
    for name in cli.list_commands(root):
        assert f"\n{name}\n" in (tmp_path / "index.md").read_text(encoding="utf-8")
        text = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {name}\n")
        verb = cli.get_command(root, name)
        assert verb is not None
        below = list(verb.commands.values()) if isinstance(verb, click.Group) else []
        for command in (verb, *below):
            assert command is verb or f"\n## vcpuid {name} {command.name}\n" in text
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    assert all(option in text for option in parameter.opts), f"{name} {command.name}: {parameter.opts}"


def test_every_rule_is_on_the_page_of_rules(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "rules_page.py", tmp_path / "rules.md"], check=True, timeout=60)
    text = (tmp_path / "rules.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == [card.id for card in all_rules()]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 6 for line in lines)


GOOD = """<html><head><link rel="stylesheet" href="_static/a.css"><link rel="canonical" href="https://example.org/"></head>
<body><h1 id="it">It</h1><a href="#it">here</a> <a href="folder/b.html#there">there</a> <a href="https://example.org/">away</a>
<img src="data:image/png;base64,AA=="></body></html>"""


def checked(site: Path, page: str, style: str = "") -> tuple[int, str]:
    """Lay a site of two pages out and check it."""
    (site / "folder").mkdir()
    (site / "_static").mkdir()
    (site / "index.html").write_text(page, encoding="utf-8")
    (site / "folder" / "b.html").write_text('<p id="there"><a href="../index.html">back</a>', encoding="utf-8")
    (site / "_static" / "a.css").write_text(style, encoding="utf-8")
    done = subprocess.run([sys.executable, CHECK, site], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_a_good_site_has_no_complaints(tmp_path: Path) -> None:
    assert checked(tmp_path, GOOD, "p { background: url(b.png) }") == (0, "")


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("folder/b.html", "folder/c.html", "folder/c.html#there leads nowhere"),
        ("#there", "#where", "no place for folder/b.html#where"),
        ('href="#it"', 'href="#that"', "no place for #that"),
        ("folder/b.html", "../b.html", "leads nowhere"),
        ("_static/a.css", "https://example.org/a.css", "loads https://example.org/a.css"),
        ("data:image/png;base64,AA==", "//example.org/a.png", "loads //example.org/a.png"),
        ('<h1 id="it">', '<script src="https://example.org/a.js"></script><h1 id="it">', "loads https://example.org/a.js"),
    ],
)
def test_what_a_reader_would_trip_over_is_told(good: str, bad: str, says: str, tmp_path: Path) -> None:
    status, said = checked(tmp_path, GOOD.replace(good, bad))
    assert status == 1
    assert says in said
    assert said.count("\n") == 1


def test_a_style_that_loads_from_elsewhere_is_told(tmp_path: Path) -> None:
    status, said = checked(tmp_path, GOOD, "@import 'https://example.org/font.css'; p { background: url(//example.org/a.png) }")
    assert status == 1
    assert said.count("example.org") == 2


def test_an_empty_site_is_told(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, CHECK, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no pages" in done.stderr
