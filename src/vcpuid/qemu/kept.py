"""Answers about arguments of QEMU that are kept: many about short ones, a few about long ones, since a text can be of any length.

An `lru_cache` alone bounds how many answers there are, and not how much the texts hold that they are about.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_SHORT = 1000
"""As many characters has a -cpu that somebody writes, or libvirt for him."""
LONG = 4
"""So many answers about longer texts are kept: a question about one is asked of hundreds of hosts."""


def kept(most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep a function's answers, `most` of them where the texts among its arguments are short together. The arguments can be hashed."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        of_short, of_long = lru_cache(most)(function), lru_cache(LONG)(function)

        @wraps(function)
        def asked(*args: P.args, **kwargs: P.kwargs) -> R:
            known = of_long if are_long(*args, *kwargs.values()) else of_short
            return known(*args, **kwargs)  # type: ignore[arg-type]  # they can be hashed, which P cannot say

        return asked

    return decorate


def are_long(*given: object) -> bool:
    """Tell whether texts, those in tuples among them, are longer than somebody writes them."""
    return _length(*given) > _SHORT


def _length(*given: object) -> int:
    """Add up the characters of texts, of those in tuples as well."""
    return sum(len(one) if isinstance(one, str) else _length(*one) if isinstance(one, tuple) else 0 for one in given)
