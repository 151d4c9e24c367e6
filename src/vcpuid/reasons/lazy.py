"""Values that are worked out when first looked at: most users of a path look at one bit of it, and not at every decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")


class LazyMapping(Mapping[K, V]):
    """The mapping that a function returns."""

    def __init__(self, work: Callable[[], Mapping[K, V]]) -> None:
        self._work = work

    @cached_property
    def _values(self) -> Mapping[K, V]:
        return self._work()

    def __getitem__(self, key: K) -> V:
        return self._values[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K, default: object = None) -> object:  # type: ignore[override]  # the same, of no overload
        """Return a value or the default, without the detour over KeyError."""
        return self._values.get(key, default)

    def __reduce__(self) -> tuple[type[dict[K, V]], tuple[dict[K, V]]]:
        return dict, (dict(self._values),)


class LazySequence(Sequence[V]):
    """The sequence that a function returns."""

    def __init__(self, work: Callable[[], Sequence[V]]) -> None:
        self._work = work

    @cached_property
    def _values(self) -> Sequence[V]:
        return self._work()

    @overload
    def __getitem__(self, position: int) -> V: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[V]: ...
    def __getitem__(self, position: int | slice) -> V | Sequence[V]:
        return self._values[position]

    def __iter__(self) -> Iterator[V]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __reduce__(self) -> tuple[type[tuple[V, ...]], tuple[tuple[V, ...]]]:
        return tuple, (tuple(self._values),)
