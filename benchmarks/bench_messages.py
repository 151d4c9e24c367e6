"""What diagnose takes of 100 KiB of text that means harm: each message's pattern alone, and all of it.

    python benchmarks/bench_messages.py [NUMBER]

NUMBER of the slowest patterns are printed, 10 without it, each with the text on which it is slowest; then the slowest texts for diagnose
as a whole. The goal is 10 ms for a pattern. Times are CPU time, the least of three runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.hostile import HUNDRED_KIB, hostile  # type: ignore[import-not-found]  # mypy is not asked of tests
from vcpuid.diagnosis import diagnose
from vcpuid.diagnosis.messages import MessageForm, messages

GOAL = 0.010


def least(work: Callable[[], object]) -> float:
    """Return the least CPU time of three runs."""
    times = []
    for _ in range(3):
        before = process_time()
        work()
        times.append(process_time() - before)
    return min(times)


def matched(message: MessageForm, text: str) -> None:
    """Find a message as often as diagnose does."""
    for _ in islice(message.compiled.finditer(text), 1000):
        pass


def main() -> None:
    """Print both lists."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    patterns, whole = [], []
    for message in messages():
        texts = hostile(message)
        took = {name: least(partial(matched, message, text)) for name, text in texts.items()}
        name = max(took, key=took.__getitem__)
        patterns.append((took[name], message.id, name))
        whole.append((least(partial(diagnose, texts[name])), message.id, name))
    print(f"{len(patterns)} patterns on {HUNDRED_KIB >> 10} KiB; goal {GOAL * 1e3:.0f} ms")
    for title, rows in (("pattern", patterns), ("diagnose", whole)):
        for seconds, message_id, name in sorted(rows, reverse=True)[:number]:
            print(f"{title:10} {seconds * 1e3:8.1f} ms  {message_id}: {name}")


if __name__ == "__main__":
    main()
