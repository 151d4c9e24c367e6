"""The loop: inputs of one target, one after another, for a time; and a single one again."""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz.finds import Failure, Find, failure_of
from fuzz.limits import TooLong, limited, resident
from fuzz.minimise import minimise
from fuzz.target import Case, Target

MINIMISE = 20.0
"""Seconds that making one find small may take."""


class Tally:
    """What a run came to so far: inputs, what came of them, and of each kind of find how many and the file of the smallest."""

    def __init__(self) -> None:
        self.inputs, self.seconds, self.growth = 0, 0.0, 0
        self.outcomes: Counter[str] = Counter()
        self.finds: dict[str, dict[str, Any]] = {}

    def as_dict(self) -> dict[str, Any]:
        """For the process that watches over this one."""
        return {
            "inputs": self.inputs,
            "seconds": self.seconds,
            "growth": self.growth,
            "outcomes": dict(self.outcomes),
            "finds": self.finds,
        }

    def found(self, kind: str, detail: str, file: Path) -> None:
        """Count a find; of each kind the first is told."""
        self.outcomes["FOUND"] += 1
        self.finds.setdefault(kind, {"count": 0, "file": str(file), "detail": detail[:300]})["count"] += 1

    def add(self, other: dict[str, Any]) -> None:
        """Add another one's dictionary."""
        self.inputs += other["inputs"]
        self.seconds += other["seconds"]
        self.growth = max(self.growth, other["growth"])
        self.outcomes.update(other["outcomes"])
        for kind, found in other["finds"].items():
            known = self.finds.setdefault(kind, {**found, "count": 0})
            known["count"] += found["count"]


def draw(target: Target, seed: int, number: int) -> Case:
    """Make the input of this number: it hangs on nothing else, so that any one can be made again alone."""
    return target.make(Random(f"{seed}/{target.name}/{number}"))


def attempt(target: Target, case: Case) -> str | Failure:
    """Try one input within the target's limits; return what came of it, or how it failed."""
    target.prepare()
    try:
        with warnings.catch_warnings(), limited(target.seconds, target.mebibytes):
            warnings.simplefilter("ignore")
            return target.check(case)
    except (Exception, TooLong) as error:  # a find is what nobody foresaw
        return failure_of(error)


class Campaign:
    """A run of one target: tries inputs, counts, and keeps the finds in a folder, made small."""

    def __init__(self, target: Target, seed: int, folder: Path, tell: Callable[[str], None] = lambda text: None) -> None:
        self.target, self.seed, self.folder, self.tell = target, seed, folder, tell
        self.tally, self.number = Tally(), 0
        self._held = 0

    def run(self, seconds: float, first: int = 0, at: Callable[[int], None] = lambda number: None, most: int | None = None) -> Tally:
        """Try inputs from number `first` on, for so many seconds or `most` inputs; `at` is told the number before each."""
        end = time.monotonic() + seconds
        self.number = first
        while time.monotonic() < end and (most is None or self.number < first + most):
            at(self.number)
            self.take(draw(self.target, self.seed, self.number))
            self.number += 1
        return self.tally

    def take(self, case: Case) -> None:
        """Try one input and count it; the first find of a kind is made small and kept."""
        before = time.monotonic()
        result = attempt(self.target, case)
        self.tally.inputs += 1
        self.tally.seconds += time.monotonic() - before
        if self.tally.inputs == 500:
            self._held = resident()
        if self._held and self.tally.inputs % 500 == 0:
            self.tally.growth = resident() - self._held
        if isinstance(result, Failure):
            self._found(case, result)
        else:
            self.tally.outcomes[result] += 1

    def _found(self, case: Case, failure: Failure) -> None:
        find = Find(self.target.name, self.seed, self.number, failure, case)
        new = failure.kind not in self.tally.finds
        if new:
            find.save(self.folder)  # at once: making it small may end this process
            small = minimise(json.loads(json.dumps(case)), lambda smaller: self._alike(smaller, failure), MINIMISE)
            again = attempt(self.target, small)
            if isinstance(again, Failure) and again.kind == failure.kind:
                find = find._replace(case=small, failure=again)
            self.tell(f"{self.target.name}: FOUND {failure.kind}\n  {find.failure.detail[:200]}\n  {find.save(self.folder)}")
        self.tally.found(failure.kind, find.failure.detail, find.path(self.folder))

    def _alike(self, case: Case, failure: Failure) -> bool:
        result = attempt(self.target, case)
        return isinstance(result, Failure) and result.kind == failure.kind
