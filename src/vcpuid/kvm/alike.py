"""What is worked out of KVM's answers, kept by what was read of them: hosts that a reader cannot tell apart share what it makes.

The hosts that a part of a dump could be (`vcpuid.told.completions`) differ in a bit each, and of most bits a reader takes no notice. What
it reads hangs on what it has found so far, so that what is known is a tree: at each fork stands what is read next, and a branch for each
value that was found there. A reader is shown watched answers, where all that it asks for is written down; of the host it must look at
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, MsrTable, Registers
from vcpuid.kvm.answers import Answers

T = TypeVar("T")


class _Query(NamedTuple):
    """What is read: a part of the answers, whole or by a method of its own."""

    part: str
    method: str = ""
    of: tuple[Hashable, ...] = ()

    def ask(self, says: Answers) -> Hashable:
        told = getattr(says, self.part)
        found: Hashable = getattr(told, self.method)(*self.of) if self.method else told
        return found


class _Log:
    """What was read of a host's answers, in order, each once."""

    __slots__ = ("found", "says")

    def __init__(self, says: Answers) -> None:
        self.says, self.found = says, dict[_Query, Hashable]()

    def read(self, query: _Query) -> Hashable:
        if query not in self.found:
            self.found[query] = query.ask(self.says)
        return self.found[query]


class _Table(CpuidTable):
    """A table of which is known what was asked; who goes through all of it has read it whole."""

    __slots__ = ("_log",)

    def __init__(self, log: _Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        if name == "_entries":
            self._entries = tuple(self._log.read(_Query("raw")))  # type: ignore[arg-type]
            return self._entries
        return super().__getattr__(name)

    def get(self, function: int, index: int = 0) -> Entry | None:
        return self._log.read(_Query("raw", "get", (function, index)))  # type: ignore[return-value]

    def leaf(self, function: int) -> tuple[Entry, ...]:
        return self._log.read(_Query("raw", "leaf", (function,)))  # type: ignore[return-value]

    def registers(self, function: int, index: int = 0) -> Registers:
        return self._log.read(_Query("raw", "registers", (function, index)))  # type: ignore[return-value]

    def word(self, word: CpuidWord) -> int:
        return self._log.read(_Query("raw", "word", (word,)))  # type: ignore[return-value]


class _Msrs(MsrTable):
    """MSRs, likewise."""

    __slots__ = ("_log",)

    def __init__(self, log: _Log) -> None:
        super().__init__()
        self._log = log

    def get(self, index: int, default: object = None) -> object:  # type: ignore[override]
        return self._log.read(_Query("msrs", "get", (index, default)))

    def __getitem__(self, index: int) -> int:
        return self._whole[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)

    @property
    def _whole(self) -> Mapping[int, int]:
        return self._log.read(_Query("msrs"))  # type: ignore[return-value]


class _Watched(Answers):
    """A host's answers, as a reader sees them; there is nothing else of the host behind them."""

    def __init__(self, log: _Log) -> None:
        self._log = log

    @cached_property
    def vendor(self) -> str:
        return self._log.read(_Query("vendor"))  # type: ignore[return-value]

    @cached_property
    def msrs(self) -> MsrTable:
        return _Msrs(self._log)

    @cached_property
    def raw(self) -> CpuidTable:
        return _Table(self._log)

    @cached_property
    def supported(self) -> CpuidTable:
        return self._log.read(_Query("supported"))  # type: ignore[return-value]

    @cached_property
    def emulated(self) -> CpuidTable:
        return self._log.read(_Query("emulated"))  # type: ignore[return-value]

    @cached_property
    def hyperv(self) -> CpuidTable:
        return self._log.read(_Query("hyperv"))  # type: ignore[return-value]


class Same:
    """Something as a part of a key that is no other than this very one, however alike."""

    __slots__ = ("what",)

    def __init__(self, what: object) -> None:
        self.what = what

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.what is other.what

    def __hash__(self) -> int:
        return id(self.what)


class _Fork:
    """What is read next, and what follows by what is found."""

    __slots__ = ("branches", "query")

    def __init__(self, query: _Query) -> None:
        self.query = query
        self.branches: dict[Hashable, _Fork | _Made] = {}


class _Made(NamedTuple):
    """What was made in the end."""

    what: object


class Alike(Generic[T]):
    """What readers made, `most` of them; when there are more, all are forgotten."""

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._roots: dict[Hashable, _Fork | _Made] = {}

    def made(self, key: Hashable, says: Answers, make: Callable[[Answers], T]) -> T:
        """Return what `make` makes of a host's answers; `key` is all else that it looks at. What it raises is not kept."""
        node = self._roots.get(key)
        while isinstance(node, _Fork):
            node = node.branches.get(node.query.ask(says))
        if node is None:
            log = _Log(says)
            node = _Made(make(_Watched(log)))
            self._keep(key, log, node)
        return node.what  # type: ignore[return-value]

    def _keep(self, key: Hashable, log: _Log, made: _Made) -> None:
        if self._count >= self._most:
            self._roots.clear()
            self._count = 0
        self._count += 1
        branches, at = self._roots, key
        for query, value in log.found.items():
            node = branches.setdefault(at, _Fork(query))
            assert isinstance(node, _Fork)
            assert node.query == query
            branches, at = node.branches, value
        branches[at] = made
