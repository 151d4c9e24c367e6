"""/proc/cpuinfo, which has the names of flags and no CPUID: what comes of it is a partial snapshot with CPUINFO lines alone."""

from __future__ import annotations

import re
from itertools import islice

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.form import Format, line_begins
from vcpuid.formats.lines import CPU_LIMIT
from vcpuid.formats.proc_cpuinfo import cpuinfo_blocks

_SIGN = r"flags[ \t]*:"
_PROCESSOR = re.compile(r"^processor[ \t]*:", re.MULTILINE)


def read(text: str, source: str) -> list[Snapshot]:
    """Read the lines of every CPU; raises InputError where the file ends within the last one, or a CPU has no flags."""
    if not text.endswith("\n") and re.match(r"(?:vmx )?flags|bugs", text[text.rfind("\n") + 1 :]):
        raise InputError("the file ends within this line, and may be cut", source=source, line=text.count("\n") + 1)
    # One more than there may be is enough to be refused; as many as a file has room for take forty times its size.
    blocks = list(islice(cpuinfo_blocks(text if _PROCESSOR.search(text) else "processor: 0\n" + text), CPU_LIMIT + 1))
    for number, lines in blocks:
        if "flags" not in lines:
            raise InputError(f"processor {number[:20]} has no flags line: the file is cut, or not an x86 processor's", source=source)
    return [Snapshot(cpuinfo=lines, cpu=lines.get("model_name")) for _, lines in blocks]


FORMAT = Format("cpuinfo", "/proc/cpuinfo", line_begins(_SIGN), read, holds=("cpuinfo", "cpu"))
