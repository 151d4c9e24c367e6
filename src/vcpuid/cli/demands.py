"""What a verb asks of its parameters together, told before it reads anything: of a call that is only thought of, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
Demand = Callable[[Mapping[str, Any]], None]
"""Gets the parameters by their names; raises UsageError where they do not go together, or where they are not enough."""

_DEMANDS = "demands"


def demand(wanted: Demand) -> Callable[[F], F]:
    """Have a verb ask this of its parameters."""

    def decorate(command: F) -> F:
        setattr(command, _DEMANDS, (wanted, *getattr(command, _DEMANDS, ())))
        return command

    return decorate


def require(command: Callable[..., Any] | None, params: Mapping[str, Any]) -> None:
    """Ask what a verb's function demands; raises UsageError."""
    for wanted in getattr(command, _DEMANDS, ()):
        wanted(params)
