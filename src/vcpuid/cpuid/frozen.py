"""A mapping that never changes: it can be hashed, pickled and shared."""

from __future__ import annotations

from typing import Dict, NoReturn, TypeVar  # noqa: UP035  # see FrozenMap

K = TypeVar("K")
V = TypeVar("V")


class FrozenMap(Dict[K, V]):  # noqa: UP006  # the collector brings this to Python 3.8, which cannot subscript dict itself
    """A dict that is never changed after it is made, and equal to any mapping with the same items.

    It is a dict, and not a mapping around one, because a look-up in it is then as fast as in any.
    """

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]  # typeshed marks dict as not hashable
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[FrozenMap[K, V]], tuple[dict[K, V]]]:
        return type(self), (dict(self),)

    def __repr__(self) -> str:
        return f"FrozenMap({super().__repr__()})"

    def __setitem__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a FrozenMap does not change")

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = __setitem__
