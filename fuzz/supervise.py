"""One target in a process of its own, so that what ends or stops the interpreter is a find like any other."""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from fuzz.campaign import Campaign, Tally, draw
from fuzz.finds import Failure, Find
from fuzz.limits import TooLong
from fuzz.target import Target

_STUCK = 120.0
"""Seconds of processor time without a step after which a process is ended from outside; to make a find small takes less."""

_TICKS = os.sysconf("SC_CLK_TCK")


def supervise(target: Target, seed: int, seconds: float, folder: Path, tell: Callable[[str], None], first: int = 0) -> Tally:
    """Run a target for so many seconds, in a process of its own that is started anew behind an input that ends it."""
    whole, end, number = Tally(), time.monotonic() + seconds, first
    while (left := end - time.monotonic()) > 0:
        with mmap.mmap(-1, mmap.PAGESIZE) as shared:
            report = folder / f".{target.name}-{os.getpid()}.json"
            child = os.fork()
            if not child:
                _child(target, seed, left, folder, tell, number, shared, report)
            ended = _wait(child, shared)
            number, steps = struct.unpack_from("<QQ", shared)
        told = json.loads(report.read_text(encoding="utf-8")) if report.exists() else Tally().as_dict()
        report.unlink(missing_ok=True)
        whole.add({**told, "inputs": steps - 1})  # the report may be of a second ago
        if not ended:
            break
        failure = Failure(f"the process ended: {ended}", f"by input {number}")
        case = {} if target.fuzz else draw(target, seed, number)
        path = Find(target.name, seed, number, failure, case).save(folder)
        whole.found(failure.kind, failure.detail, path)
        tell(f"{target.name}: FOUND {failure.kind} {failure.detail}\n  {path}")
        number += 1
    return whole


def _child(
    target: Target, seed: int, seconds: float, folder: Path, tell: Callable[[str], None], first: int, shared: mmap.mmap, report: Path
) -> None:
    """Run the campaign and end the process; what it comes to stands in the report, which is written anew every second."""
    status = 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        campaign, written, steps = Campaign(target, seed, folder, tell), 0.0, 0

        def step(number: int) -> None:
            nonlocal written, steps
            steps += 1
            struct.pack_into("<QQ", shared, 0, number, steps)
            if time.monotonic() > written + 1:
                written = time.monotonic()
                report.write_text(json.dumps(campaign.tally.as_dict()), encoding="utf-8")

        step(first)
        if target.fuzz is None:
            campaign.run(seconds, first, step)
        else:

            def take(case: dict[str, object]) -> None:
                step(campaign.number)
                campaign.take(case)
                campaign.number += 1

            target.fuzz(seconds, seed, take)
        report.write_text(json.dumps(campaign.tally.as_dict()), encoding="utf-8")
        status = 0
    except KeyboardInterrupt:
        status = 0
    except (Exception, TooLong):
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, shared: mmap.mmap) -> str | None:
    """Wait for the process; say what ended it before its time, None where it came to its end."""
    steps, since = -1, 0.0
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return None if code == 0 else signal.Signals(-code).name if code < 0 else f"status {code}"
        (taken,) = struct.unpack_from("<Q", shared, 8)
        if taken != steps:
            steps, since = taken, _processor_time(child)
        elif steps and _processor_time(child) > since + _STUCK:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"no step for {_STUCK:g} s"
        time.sleep(0.05)


def _processor_time(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
