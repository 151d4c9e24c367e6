"""python -m fuzz [TARGET…] [--seconds N] [--seed N]: run the fuzzers, or one input again; `make fuzz` calls it.

Exit status: 0 nothing found, 1 something was, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from random import SystemRandom

from fuzz.campaign import Tally, attempt, draw
from fuzz.finds import Failure, load
from fuzz.supervise import supervise
from fuzz.target import Case, Target
from fuzz.targets import TARGETS

FINDS = Path("build/fuzz/finds")


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz vcpuid, or try one input again.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=float, default=300, help="the time for all of them together (300)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same inputs; by default it is drawn, and printed")
    parser.add_argument("--number", type=int, help="the first input's number (0); with --one the only one's")
    parser.add_argument("--one", action="store_true", help="try that input alone, of one target, and print it")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try the input of a find again")
    parser.add_argument("--finds", type=Path, default=FINDS, metavar="FOLDER", help=f"where finds go ({FINDS})")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.targets) - TARGETS.keys()):
        parser.error(f"no target {', '.join(unknown)}: there are {', '.join(TARGETS)}")
    if asked.replay:
        find = load(asked.replay)
        return _again(TARGETS[find.target], find.case)
    seed = SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    chosen = [TARGETS[name] for name in asked.targets or TARGETS]
    if asked.one:
        if len(chosen) != 1 or asked.number is None or asked.seed is None:
            parser.error("--one takes one target, --seed and --number")
        case = draw(chosen[0], seed, asked.number)
        print(json.dumps(case, indent=1))
        return _again(chosen[0], case)
    return _campaigns(chosen, seed, asked.seconds, asked.finds, asked.number or 0)


def _again(target: Target, case: Case) -> int:
    if target.missing():
        print(f"{target.name}: {target.missing()}")
        return 2
    result = attempt(target, case)
    if isinstance(result, Failure):
        print(f"FOUND {result.kind}\n  {result.detail}")
        return 1
    print(result)
    return 0


def _campaigns(targets: list[Target], seed: int, seconds: float, folder: Path, first: int) -> int:
    """Run targets one after another, each for its share of the time, and print what they came to."""
    print(f"seed {seed}: make fuzz SEED={seed} makes the same inputs", flush=True)
    ready = []
    for target in targets:
        if lack := target.missing():
            print(f"{target.name}: skipped, {lack}")
        else:
            ready.append(target)
    whole = sum(target.share for target in ready)
    tallies = {}
    for target in ready:
        tallies[target.name] = supervise(target, seed, seconds * target.share / whole, folder, _tell, first)
        print(_row(target.name, tallies[target.name]), flush=True)
    return _summary(tallies, seed)


def _tell(text: str) -> None:
    print(text, flush=True)


def _row(name: str, tally: Tally) -> str:
    rate = tally.inputs / tally.seconds if tally.seconds else 0
    outcomes = ", ".join(f"{word} {count:,}" for word, count in tally.outcomes.most_common(6))
    return f"{name:10} {tally.inputs:>10,} {rate:>9,.0f} {tally.growth >> 20:>+7} {len(tally.finds):>6}  {outcomes}"


def _summary(tallies: dict[str, Tally], seed: int) -> int:
    print(f"\n{'target':10} {'inputs':>10} {'a second':>9} {'MiB':>7} {'finds':>6}  what came of them")
    for name, tally in tallies.items():
        print(_row(name, tally))
    print(f"{'in all':10} {sum(tally.inputs for tally in tallies.values()):>10,}")
    found = [(name, kind, row) for name, tally in tallies.items() for kind, row in tally.finds.items()]
    for name, kind, row in found:
        print(f"\n{name}: {kind}, {row['count']} times\n  {row['detail']}\n  again: make fuzz REPLAY={row['file']}")
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
