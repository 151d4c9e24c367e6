"""Several forms in one file, which may tell of several machines: none is taken for the other's remarks."""

from __future__ import annotations

from collections.abc import Iterable

from vcpuid.errors import InputError
from vcpuid.formats.form import KNOWN, Format


def form_in(passed_over: Iterable[str]) -> Format | None:
    """Return a form of what CPUID answers that is in lines of which the reader of another makes nothing; None where they are mere text."""
    text = "\n".join(passed_over)
    return next((known for known in KNOWN if known.tables and known.read is not None and known.recognises(text)), None)


def refuse_mixed(passed_over: Iterable[str], source: str) -> None:
    """Raise InputError where there is one."""
    if other := form_in(passed_over):
        raise InputError(f"it holds another form too, {other.title}, which may tell of another machine: split it", source=source)
