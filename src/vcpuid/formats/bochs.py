"""Bochs' log, bochsout.txt: CPUID as its guest is told it (bx_cpuid_t::dump_cpuid_leaf, cpu/cpuid.cc), sub-leaf 0 of each leaf.

00000000000i[CPU0  ] CPUID[0x00000007]: 00000000 219c91a9 00400004 00000000
"""

from __future__ import annotations

import re

from vcpuid.cpuid import Snapshot
from vcpuid.formats.dump import Form, read_lines
from vcpuid.formats.form import Format

_PLACE = r"\bCPUID\[0x([0-9a-f]{8})(?:, ?0x([0-9a-f]{2,8}))?\]: "
_ANSWER = re.compile(_PLACE + r"([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})(?![0-9a-f])")
_BEGINS = re.compile(r"\bCPUID\[0x")
_NEVER = re.compile(r"(?!)")
_LIKE = "CPUID[0x00000000]: 00000000 00000000 00000000 00000000"
_FORM = Form(_NEVER.match, _ANSWER.search, _BEGINS.search, _LIKE)


def read(text: str, source: str) -> list[Snapshot]:
    """Read the answers; raises InputError for a line that is cut or damaged."""
    return read_lines(text, source, _FORM)


FORMAT = Format("bochs", "Bochs' log", lambda text: "CPUID[0x" in text and bool(_ANSWER.search(text)), read, several=True)
