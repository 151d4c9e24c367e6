"""What a target of the fuzzer is, and how an input fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Case = dict[str, Any]
"""One input, as JSON can hold it, so that a find can be kept, made smaller and replayed. Bytes are text in Latin-1."""


class Broken(Exception):
    """An answer that must not be: `law` says in a few words what does not hold, the same for all inputs that break it."""

    def __init__(self, law: str, detail: str = "") -> None:
        self.law, self.detail = law, detail
        super().__init__(f"{law}: {detail}" if detail else law)


def hold(condition: object, law: str, detail: object = "") -> None:
    """Raise Broken where a condition does not hold."""
    if not condition:
        raise Broken(law, str(detail)[:2000])


def _here() -> str | None:
    return None


def _ready() -> None:
    pass


@dataclass(frozen=True)
class Target:
    """What is fuzzed. `make` draws an input, `check` tries it and says in a word what came of it ("read", "refused").

    `check` raises Broken for an answer that must not be; any other exception that is not one of vcpuid's own is a find as well. `missing`
    says what this machine lacks to run it, None where nothing. `share` is its part of the time, `seconds` and `mebibytes` are the limits
    of one input; `prepare` makes, once, what all inputs need, which counts for none of them. `fuzz` stands in for `make` and the loop
    around it where a target has its own: it is given the seconds, the seed and what tries an input.
    """

    name: str
    about: str
    make: Callable[[Random], Case]
    check: Callable[[Case], str]
    missing: Callable[[], str | None] = _here
    share: float = 1.0
    seconds: float = 5.0
    mebibytes: int = 256
    prepare: Callable[[], object] = _ready
    fuzz: Callable[[float, int, Callable[[Case], None]], None] | None = field(default=None, repr=False)
