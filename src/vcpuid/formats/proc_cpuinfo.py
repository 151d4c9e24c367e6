"""The lines of /proc/cpuinfo that are about a CPU's features."""

from __future__ import annotations

from collections.abc import Iterator

_KEPT = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "microcode",
    "cpuid level",
    "flags",
    "vmx flags",
    "bugs",
)
"""The lines that a snapshot keeps, under names with `_` for a space; the others are no matter of CPUID, or change."""


def plain(value: str) -> str:
    """Return a line's value without control characters, each of which becomes a question mark."""
    return "".join(character if character >= " " else "?" for character in value)


def cpuinfo_blocks(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield, for each processor of a /proc/cpuinfo, its number and the lines that a snapshot keeps."""
    number: str | None = None
    lines: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "processor":
            if number is not None:
                yield number, lines
            number, lines = value, {}
        elif number is not None and name in _KEPT:
            lines[name.replace(" ", "_")] = plain(value)
    if number is not None:
        yield number, lines
