"""Files: texts of every form, changed. They are read, or refused with a word that names the file.

What was read is written in some form and read again.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from random import Random

from fuzz import mutate, trees
from fuzz.seeds import texts
from fuzz.target import Case, Target, hold
from fuzz.text import hold_told
from vcpuid import sources
from vcpuid.cpuid import Snapshot
from vcpuid.errors import VcpuidError
from vcpuid.formats import parse
from vcpuid.formats.writing import WRITABLE, losses, write

_MOST = 1 << 20
"""Bytes of an input."""

_OWN = ("snapshot", "json")
"""The forms that lose nothing."""


def make(random: Random) -> Case:
    """Change a text of some form; a document mostly as one, by its nodes."""
    forms = texts()
    form = random.choice(list(forms))
    data = min(random.choices(forms[form], k=random.choice((1, 3, 3, 3))), key=len).encode()  # mostly a short one: of these there are more
    changed = None
    if data[:1] in b"{[" and random.random() < 0.4:
        changed = trees.change_json(random, data)
    elif data[:1] == b"<" and random.random() < 0.5:
        changed = trees.change_xml(random, data)
    if changed is None:
        changed = data
        for _ in range(random.choice((1, 1, 2, 2, 3, 5))):
            if random.random() < 0.08:
                other = random.choice(forms[random.choice(list(forms))]).encode()
                changed = mutate.splice(random, changed, other)
            else:
                changed = random.choice(mutate.CHANGES)(random, changed)
    if random.random() < 0.06:
        changed = mutate.wrap(random, changed)
    return {"text": changed[:_MOST].decode("latin-1"), "written": random.choice(list(WRITABLE)) if random.random() < 0.2 else None}


def check(case: Case) -> str:
    """Read the text as a file, and write what was read in the form that the case names, if any."""
    path = _file()
    with open(path, "wb") as file:
        file.write(case["text"].encode("latin-1"))
    try:
        cpus = sources.read_all(path)
    except VcpuidError as error:
        hold(str(error).startswith(path), "a refusal names the file", error)
        hold_told(error)
        return "refused"
    hold(cpus, "what is read has a CPU")
    if case.get("written"):
        _written(cpus[0], case["written"])
    return "read"


def _written(cpu: Snapshot, form: str) -> None:
    """What is written reads back, whole where nothing was told of as lost."""
    try:
        lost = losses([cpu], form)
        text = "".join(line + "\n" for line in write([cpu], form))
    except VcpuidError as error:
        hold_told(error)
        return
    if form in _OWN:
        hold(not lost, f"{form} loses nothing", lost)
    if WRITABLE[form].read is None:
        return
    (again,) = parse(text, "again")
    hold(lost or again == cpu, f"what {form} does not lose comes back")


@cache
def _file() -> str:
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    handle, path = tempfile.mkstemp(prefix="vcpuid-fuzz-", dir=folder)
    os.close(handle)
    return path


TARGET = Target("readers", "files in every form", make, check, share=2.0)
