"""The page as a file: it holds all it needs, loads nothing, and text of strangers never becomes markup."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from support.captures import capture
from support.packed import unpack
from vcpuid import Stack, read
from vcpuid.answers.certainty import followed
from vcpuid.explore import data, page
from vcpuid.explore.subject import Subject

SKYLAKE, MILAN = capture("kvm-intel.corei7_skylake_x@6.12"), capture("kvm-amd.EPYC-Milan-v2@7.3")
LIMIT = 120_000
"""Bytes of a saved path, compressed: issue trackers take it, and a phone shows it at once."""

HOSTILE = (
    "</script><script>alert(1)</script>", "<!--<script>", "]]>", "\u2028\u2029", "\"'`><img src=x onerror=alert(1)>", "</noscript><b>",
    "{script}", "&lt;b&gt;", "<style>*{display:none}", "javascript:alert(1)", "\x00\x07\x1b[31m",
)  # fmt: skip


class Tags(HTMLParser):
    """A page's tags, its attributes, and what stands in its scripts, as a browser without scripts reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.held: dict[str, str] = {}
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", {}))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag in ("script", "style"):
            self.held[attributes.get("id") or tag] = data
        self.text.append(data)


@cache
def subject(host: str = "host.txt") -> Subject:
    path = followed("Skylake-Server-v4", host=read(SKYLAKE), stack=Stack(qemu="11.1"))
    return Subject(host, path, None, ("--cpu", "Skylake-Server-v4"))


@cache
def saved(host: str = "host.txt") -> str:
    return page.saved(data.document([data.whole(subject(host))]))


def hostile(value: Any, text: str) -> Any:
    """A document in which every text that is no key is followed by a hostile one."""
    if isinstance(value, dict):
        return {key: hostile(inner, text) for key, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner, text) for inner in value]
    return value + text if isinstance(value, str) else value


@pytest.mark.long
def test_a_saved_path_is_small() -> None:
    assert len(gzip.compress(saved().encode(), 6)) < LIMIT
    milan = Subject("milan", followed("Haswell-v4", host=read(MILAN), stack=Stack(qemu="10.0")))
    assert len(gzip.compress(page.saved(data.document([data.whole(milan)])).encode(), 6)) < LIMIT


def test_a_saved_page_refers_to_nothing() -> None:
    tags = Tags(saved()).tags
    assert not [
        (tag, name) for tag, attributes in tags for name in attributes if name in ("src", "srcset", "data", "action", "style", "onload")
    ]
    assert not [attributes["href"] for tag, attributes in tags if "href" in attributes]
    assert {tag for tag, _ in tags} & {"img", "iframe", "object", "embed", "link", "form", "base"} == set()
    assert "://" not in Tags(saved()).held["style"]
    assert not re.search(
        r"https?://|innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|localStorage|sessionStorage|cookie", script()
    )


def script() -> str:
    return Tags(saved()).held["script"]


def test_its_policy_names_its_own_style_and_script_by_their_hashes() -> None:
    tags = Tags(saved())
    policy = next(attributes["content"] or "" for tag, attributes in tags.tags if attributes.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    def sha256(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules["default-src"] == rules["connect-src"] == rules["form-action"] == "'none'"
    assert rules["script-src"] == sha256(tags.held["script"])
    assert rules["style-src"] == sha256(tags.held["style"])
    assert rules["require-trusted-types-for"] == "'script'"


@pytest.mark.long
def test_what_the_page_holds_is_the_document() -> None:
    told = unpack(json.loads(Tags(saved()).held["document"]))
    assert told == plain()
    assert told["schema"] == data.SCHEMA


@pytest.mark.long
def test_text_never_becomes_markup() -> None:
    text = " ".join(HOSTILE)
    subjects = [{**plain()["subjects"][0], "path": hostile(plain()["subjects"][0]["path"], text)}]
    made = Tags(page.saved({**plain(), "subjects": subjects}))
    assert [tag for tag, _ in made.tags] == [tag for tag, _ in Tags(saved()).tags]
    assert unpack(json.loads(made.held["document"]))["subjects"] == subjects
    assert made.held["script"] == script()
    assert any(" ".join(HOSTILE[:-1]) in shown for shown in made.text)


@cache
def plain() -> Any:
    return json.loads(json.dumps(data.document([data.whole(subject())])))


@pytest.mark.long
def test_names_of_files_and_arguments_reach_the_page_as_they_are() -> None:
    name = "a</script><!-- 'quoted' \"twice\" \u2028.txt"
    asked = replace(subject(), host=name, options=("--cpu", "Haswell,model-id=</noscript><script>alert(1)"))
    told = unpack(json.loads(Tags(page.saved(data.document([data.whole(asked)]))).held["document"]))["subjects"][0]["path"]
    assert told["host"] == name
    assert told["options"][1].endswith("<script>alert(1)")


@pytest.mark.long
def test_a_brand_string_with_markup_is_text() -> None:
    path = followed('Haswell,model-id=</script><b>"it"', host=read(SKYLAKE), stack=Stack(qemu="11.1"))
    made = Tags(page.saved(data.document([data.whole(Subject("host", path))])))
    assert "b" not in {tag for tag, _ in made.tags}
    leaves = unpack(json.loads(made.held["document"]))["subjects"][0]["leaves"]["guest"]
    assert leaves["identity"]["brand"] == '</script><b>"it"'


def test_without_scripts_a_table_has_every_feature_party_by_party() -> None:
    tags = Tags(saved())
    path = plain()["subjects"][0]["path"]
    assert [tag for tag, _ in tags.tags].count("tr") == len(path["features"]) + 1
    noscript = saved().partition("<noscript>")[2].partition("</noscript>")[0]
    rows = [re.sub(r"<[^>]+>", "|", row) for row in noscript.split("<tr>")[2:]]
    for feature, row in zip(path["features"], rows, strict=True):
        values = row.split("|")[3:-1]
        told = [
            "yes" if s["value"] else "not told" if s["value"] is None and s["basis"] == "not told" else "-" if s["value"] is None else "no"
            for s in feature["stages"]
        ]
        assert values[: len(told)] == told


def test_the_served_page_holds_no_path_and_asks_for_it() -> None:
    assert Tags(page.served()).held["document"] == "null"
    assert len(page.served()) < 70_000
    assert "connect-src 'self'" in page.policies()
