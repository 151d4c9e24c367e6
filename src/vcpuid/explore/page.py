"""The page as one HTML file: its style, its script and its data are in it, and it loads nothing.

Text of others is in the data alone, where no `<` stands, and in the table for browsers without scripts, which has it escaped. The script
puts it into the page as text; and a policy of the page's own says that nothing but this script may run and nothing may be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from html import escape
from typing import Any

from vcpuid.data import packaged
from vcpuid.explore.pack import pack

_PLACE = re.compile(r"\{([a-z]+)\}")


def saved(document: Mapping[str, Any]) -> str:
    """Write a document, as `data.document` gives it with whole subjects, into a page that needs nobody behind it."""
    title = f"{document['subjects'][0]['path']['headline']}: vcpuid explorer"
    held = json.dumps(pack(document), separators=(",", ":")).replace("<", "\\u003c")
    policy = _meta(policies(connections="'none'"))
    return _filled(title=escape(title), document=held, table=_table(document), policy=policy, before="")


def served() -> str:
    """Write the page that asks whoever serves it; `policies` is to be sent with it."""
    return _filled(title="vcpuid explorer", document="null", table=_WITHOUT, policy="", before="")


def asking(script: str, policy: str) -> str:
    """Write the page that asks a script beside it, which is loaded first; `policy` is its Content-Security-Policy."""
    before = f'<script type="module" src="{escape(script)}"></script>\n'
    return _filled(title="vcpuid in your browser", document="null", table=_WITHOUT, policy=_meta(policy), before=before)


def policies(scripts: str = "", connections: str = "'self'", worker: str | None = None) -> str:
    """Return the page's Content-Security-Policy: its own style and script by their hashes, and nothing else but what is named.

    No script, the page's own neither, may make markup of text; `worker` is the policy of the one that may start a worker of the same place.
    """
    script = f"'sha256-{_hash('page.js')}'{scripts and ' '}{scripts}"
    asked = f"style-src 'sha256-{_hash('page.css')}'; script-src {script}; connect-src {connections}"
    trusted = "trusted-types 'none'" if worker is None else f"trusted-types {worker}; worker-src 'self'"
    return f"default-src 'none'; {asked}; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; {trusted}"


def _meta(policy: str) -> str:
    return f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'


def _hash(name: str) -> str:
    return base64.b64encode(hashlib.sha256(_file(name).encode()).digest()).decode()


@cache
def _file(name: str) -> str:
    return packaged(f"explore/page/{name}").decode()


def _filled(**parts: str) -> str:
    """Fill the frame in one pass, so that no part is looked at for places."""
    known = {**parts, "style": _file("page.css"), "script": _file("page.js")}
    return _PLACE.sub(lambda place: known[place[1]], _file("page.html"))


_WITHOUT = "<p>This page is drawn by a script: vcpuid guest and vcpuid explain say the same without one.</p>"


def _table(document: Mapping[str, Any]) -> str:
    """Write the table that a browser without scripts shows: all features of each path, party by party."""
    return "".join(_of_subject(subject["path"]) for subject in document["subjects"])


def _of_subject(path: Mapping[str, Any]) -> str:
    heads = ["feature", "place", *(party["party"] for party in path["parties"]), "why"]
    head = "".join(f'<th scope="col">{escape(text)}' for text in heads)
    rows = "".join(f"<tr>{_row(feature)}" for feature in path["features"])
    return f"<h1>{escape(path['host'])}: {escape(path['headline'])}</h1><table><thead><tr>{head}<tbody>{rows}</table>"


def _row(feature: Mapping[str, Any]) -> str:
    values = "".join(f"<td>{_value(stage)}" for stage in feature["stages"])
    place = f"{feature['word']} [bit {feature['position']}]"
    return f'<th scope="row">{escape(feature["feature"])}<td>{escape(place)}{values}<td>{escape(feature["verdict"])}'


def _value(stage: Mapping[str, Any]) -> str:
    if stage["value"] is None:
        return "not told" if stage["basis"] == "not told" else "-"
    return "yes" if stage["value"] else "no"
