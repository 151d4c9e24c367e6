"""The instruction at which a program or a kernel died, out of a `Code:` line, and the features of which it is a part.

Decoding is done by the library iced-x86, which comes with `pip install vcpuid[code]`; without it the bytes stay bytes.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from vcpuid.cpuid.names import Feature, find
from vcpuid.errors import InputError

LINE = re.compile(r"\bCode: ((?:(?:<[0-9a-f]{2}>|\([0-9a-f]{2}\)|[0-9a-f]{2})[ \t]+){1,80}(?:<[0-9a-f]{2}>|[0-9a-f]{2}))", re.IGNORECASE)
"""What show_opcodes of Linux, arch/x86/kernel/dumpstack.c, prints: bytes around the instruction, whose first stands in <>."""

_SPELLED = {"AESKLE": "kl", "D3NOW": "3dnow", "D3NOWEXT": "3dnowext", "X64": "lm"}
"""Features of iced-x86 that have another name here."""


class FaultingInstruction(NamedTuple):
    """`text` is the instruction in Intel's syntax, `features` those of which one must be there for the processor to know it."""

    text: str
    features: tuple[Feature, ...]


def available() -> bool:
    """Whether the library that decodes is installed."""
    from importlib.util import find_spec

    return find_spec("iced_x86") is not None


def faulting(line: str) -> bytes | None:
    """Return the bytes of a Code: line from the instruction on; None where none is marked or the text is no such line."""
    found = LINE.search(line)
    if found is None or "<" not in found[1]:
        return None
    return bytes.fromhex(re.sub(r"[<>() \t]", "", found[1][found[1].index("<") :]))


def decode(code: bytes) -> FaultingInstruction | None:
    """Decode the first instruction, as 64-bit code; None where it is none, or the library is missing."""
    if not available():
        return None
    from iced_x86 import Decoder, Formatter, FormatterSyntax

    instruction = Decoder(64, code).decode()
    if instruction.is_invalid:
        return None
    named = (_feature(number) for number in instruction.cpuid_features())
    return FaultingInstruction(
        Formatter(FormatterSyntax.INTEL).format(instruction), tuple(feature for feature in named if feature is not None)
    )


@cache
def _names() -> dict[int, str]:
    from iced_x86 import CpuidFeature

    return {number: name for name, number in vars(CpuidFeature).items() if name.isupper() and isinstance(number, int)}


@cache
def _feature(number: int) -> Feature | None:
    """Find one of iced-x86's features; None for what every x86-64 has and CPUID does not tell, as INTEL386."""
    name = _names()[number]
    for text in (_SPELLED.get(name, name), name.replace("_", "")):
        try:
            return find(text)
        except InputError:
            continue
    return None
