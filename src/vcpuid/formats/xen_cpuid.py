"""What Xen's tool `xen-cpuid -p` prints: the policies of a host (Raw, Host, PV and HVM, Max and Default), or of a domain.

    Raw policy: 32 leaves, 2 MSRs
     CPUID:
      leaf     subleaf  -> eax      ebx      ecx      edx
      00000007:00000000 -> 00000000:219c91a9:00400004:00000000
     MSRs:
      index    -> value
      0000010a -> 000000000a000c04

A sub-leaf ffffffff is none; a leaf that is all zero is left out. Each policy is a CPU of its own; only Raw's MSRs are the hardware's.
"""

from __future__ import annotations

import re
from dataclasses import replace

from vcpuid.cpuid import MsrTable, Snapshot
from vcpuid.cpuid.hardware_msrs import KEPT
from vcpuid.formats.dump import HEADING, Line, answer, damaged, gather, words
from vcpuid.formats.form import Format, line_begins

_HEADING = re.compile(r"[ \t]*([\w ]{1,40}) policy: [0-9]{1,6} leaves, [0-9]{1,6} MSRs\s*$")
_ANSWER = re.compile(r"[ \t]*([0-9a-f]{8}):([0-9a-f]{8}) -> ([0-9a-f]{8}):([0-9a-f]{8}):([0-9a-f]{8}):([0-9a-f]{8})\s*$")
_MSR = re.compile(r"[ \t]*([0-9a-f]{8}) -> ([0-9a-f]{16})\s*$")
_BEGINS = re.compile(r"[ \t]*[0-9a-f]{8}:[0-9a-f]{1,8}(?: |$)")
_NO_SUBLEAF = 0xFFFFFFFF


def read(text: str, source: str) -> list[Snapshot]:
    """Read each policy; raises InputError for a line that is cut or damaged."""
    said: list[Line] = []
    names: list[str] = []
    msrs: dict[int, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        said.append(None)
        if found := _ANSWER.match(line):
            function, index, *registers = words(found.groups())
            names = names or [""]  # the first heading is not in the text
            said[-1] = answer(function, 0 if index == _NO_SUBLEAF else index, registers)
        elif found := _HEADING.match(line):
            said[-1] = HEADING
            names.append(found[1].strip())
        elif found := _MSR.match(line):
            (msr,) = words([found[1]])
            if names[-1:] == ["Raw"] and msr in KEPT:
                msrs[msr] = int.from_bytes(bytes.fromhex(found[2]))
        elif _BEGINS.match(line):
            raise damaged(source, number)
    cpus = gather(said, source)
    return [_named(cpu, name, msrs) for cpu, name in zip(cpus, names, strict=False)]


def _named(cpu: Snapshot, name: str, msrs: dict[int, int]) -> Snapshot:
    notes = (*cpu.notes, f"Xen's {name} policy") if name else cpu.notes
    return replace(cpu, notes=notes, hardware_msrs=MsrTable(msrs) if name == "Raw" else cpu.hardware_msrs)


FORMAT = Format("xen", "xen-cpuid -p", line_begins(r"[ \t]*[0-9a-f]{8}:[0-9a-f]{8} -> [0-9a-f]{8}:"), read, several=True)
