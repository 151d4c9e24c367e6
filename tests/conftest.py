"""Skips what this machine cannot run, with the reason, and counts how many captures each party answers exactly.

A test that holds the model against something real says so: `@pytest.mark.conformance(party, origin)`. The party is a row of parties.json,
which tells what is compared and how it is verified; `origin`, called with the test's parameters, tells whose answer it is, as a dict of
`kernel` and `qemu` (releases) and `vendor` (leaf 0's twelve letters), None for what has no part in it. Live parties have no origin: it is
this machine. `--figures=FILE` writes the counts.

A test that follows the decisions behind a capture's answer notes them with the fixture `fired`; `--fired=FILE` writes which rules they
name.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import pytest
from hypothesis import settings

from support import browser, sshd
from support.fired import REMEDY, Fired

if TYPE_CHECKING:
    from vcpuid.reasons import Decision

os.environ.setdefault("VCPUID_PEERS", str(Path(__file__).parents[2] / "shared" / "peers"))
"""Data of others, read in place: the folder that the environment names, by default shared/peers beside the checkout."""

os.environ.pop("COLUMNS", None)
"""Verbs print lines of any length into a pipe unless a test says how wide they are; xdist tells its processes the terminal's width."""

for _signal in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(_signal, signal.default_int_handler if _signal == signal.SIGINT else signal.SIG_DFL)
"""What nohup or a shell's background ignores, every process that a test starts would ignore too."""

settings.register_profile("vcpuid", database=None, deadline=None)
settings.load_profile("vcpuid")
"""No database of examples: a checkout need not be writable, and no run depends on the one before. No deadline: the machine may be busy."""

PARTIES: dict[str, list[str]] = json.loads((Path(__file__).parent / "parties.json").read_text(encoding="utf-8"))["parties"]


class Row(NamedTuple):
    """What a run's figures are counted by; in a run without the data that a test needs, its origin is all None."""

    party: str
    how: str
    kernel: str | None
    qemu: str | None
    vendor: str | None
    test: str


FIGURES: dict[Row, dict[str, int]] = defaultdict(lambda: {"exact": 0, "tried": 0, "skipped": 0})


FIRED = Fired()
SHARES: dict[str, list[int]] = defaultdict(lambda: [0, 0])
"""How many answers are definite, and how many there are, by what was asked of whom."""

MISFITS: list[str] = []
"""What data/captured-rules.json says otherwise."""


@pytest.fixture
def fired(request: pytest.FixtureRequest) -> Callable[[str, Iterable[Decision]], None]:
    """Note the decisions behind an answer that is what the capture has, bit for bit; only about bits that the capture shows.

    They go with the test's report, as a conformance test's row does.
    """

    def note(capture: str, decisions: Iterable[Decision]) -> None:
        request.node.user_properties.append(("fired", [capture, sorted({decision.rule.id for decision in decisions})]))

    return note


@pytest.fixture
def definite(request: pytest.FixtureRequest) -> Callable[[str, int, int], None]:
    """Count how many of a host's answers are definite, for the summary: told honestly, most should be."""

    def count(whose: str, certain: int, asked: int) -> None:
        request.node.user_properties.append(("definite", [whose, certain, asked]))

    return count


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fired", metavar="FILE", type=Path, help="write which rules decided a bit of a capture, as JSON")
    parser.addoption("--figures", metavar="FILE", type=Path, help="write how many captures are answered exactly, as JSON, a row a line")
    parser.addoption("--sample", metavar="N", type=int, default=1, help="of a test with several cases run one in N, and one at the least")
    parser.addoption("--renew-golden", action="store_true", help="write the files of tests/golden anew instead of comparing with them")


def lacking(wanted: str) -> dict[str, str | None]:
    """Say for each marker why its tests cannot run, None where they can; `wanted` is what -m asks for."""
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return {
        "kvm": None if usable else "no usable /dev/kvm",
        "qemu": None if shutil.which("qemu-system-x86_64") else "no qemu-system-x86_64 installed",
        "sshd": sshd.lack(),
        "spark": None if shutil.which("java") and find_spec("pyspark") else "no PySpark, or no Java runtime, installed",
        "browser": browser.lack(),
        "x86": None if platform.machine() in ("x86_64", "i686") else f"{platform.machine()} has no CPUID instruction",
        "slow": None if "slow" in wanted else "slow: runs with -m slow",
    }


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    gone: set[pytest.Item] = set()
    for of in cases.values() if config.option.sample > 1 else ():  # the same ones in every process and on every machine
        gone.update(sorted(of, key=lambda item: crc32(item.nodeid.encode()))[ceil(len(of) / config.option.sample) :])
    if gone:
        config.hook.pytest_deselected(items=[item for item in items if item in gone])
        items[:] = [item for item in items if item not in gone]
    reasons = lacking(config.option.markexpr)
    for item in items:
        for name, reason in reasons.items():
            if reason is not None and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Take what was collected, a million objects that stay, out of the collector's sight: it would look through them again and again."""
    gc.collect()
    gc.freeze()


@cache
def running_vendor() -> str | None:
    from vcpuid.errors import UnavailableError
    from vcpuid.sources import read

    try:
        return read("live").vendor
    except UnavailableError:
        return None


@cache
def running_qemu() -> str | None:
    command = shlex.split(os.environ.get("VCPUID_QEMU", "")) or ["qemu-system-x86_64"]
    if shutil.which(command[0]) is None:
        return None
    told = re.search(r"version (\S+)", subprocess.run([*command, "--version"], capture_output=True, text=True).stdout)
    return told and told[1]


def row_of(item: pytest.Item, marker: pytest.Mark) -> Row:
    """Find what a conformance test is counted by; raises where its marker does not tell all of it."""
    party, *origins = marker.args
    how = PARTIES[party][1]
    params = item.callspec.params if hasattr(item, "callspec") else {}
    if how == "live":
        qemu = running_qemu() if item.get_closest_marker("qemu") else None
        origin = {"kernel": platform.release(), "qemu": qemu, "vendor": running_vendor()}
    elif any(not parametrize.args[1] for parametrize in item.iter_markers("parametrize")):
        origin = dict.fromkeys(("kernel", "qemu", "vendor"))
    else:
        (origin_of,) = origins
        origin = origin_of(**params)
    if "" in origin.values():
        raise ValueError(f"an origin without a value: {origin}; None is for what has no part in it")
    return Row(party=party, how=how, test=item.nodeid.partition("::")[0], **origin)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Find the row before the test may be skipped; a wrong marker is that test's error.

    It goes with the report, as what a process can hand to another: where several run the tests (pytest -n), the one that started them
    counts.
    """
    marker = item.get_closest_marker("conformance")
    if marker is not None:
        item.user_properties.append(("conformance", row_of(item, marker)._asdict()))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown" or (report.when == "setup" and report.passed):
        return
    for key, told in report.user_properties:
        if key == "conformance":
            counts = FIGURES[Row(**told)]
            counts["skipped" if report.skipped else "tried"] += 1
            counts["exact"] += report.passed
        elif key == "fired":
            FIRED.note(*told)
        elif key == "definite":
            whose, *counts = told
            SHARES[whose] = [sum(pair) for pair in zip(SHARES[whose], counts, strict=True)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hold data/captured-rules.json to the rules that fired; a run that is at odds with it has failed."""
    if FIRED.answers and not hasattr(session.config, "workerinput"):
        from vcpuid.data import load

        MISFITS.extend(FIRED.misfits(load("captured-rules")))
        if MISFITS and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    if FIGURES:
        terminalreporter.section("exact against captures, by party")
    for party in PARTIES:
        counts = [count for row, count in FIGURES.items() if row.party == party]
        if counts:
            exact, tried, skipped = (sum(count[what] for count in counts) for what in ("exact", "tried", "skipped"))
            terminalreporter.write_line(f"{party}: {exact} of {tried} exact" + (f", {skipped} skipped" if skipped else ""))
    if FIRED.answers:
        from vcpuid.data import load
        from vcpuid.rulebook import all_rules

        of_programs = {card.id for card in all_rules() if card.history.known}
        which = "all captures" if FIRED.answers >= load("captured-rules")["answers"] else "the captures of this run"
        terminalreporter.write_line(f"rules: {len(of_programs & FIRED.by_rule.keys())} of {len(of_programs)} fired over {which}")
    for whose, (certain, asked) in SHARES.items():
        terminalreporter.write_line(f"definite of {whose}: {certain:,} of {asked:,} features ({certain / asked:.1%})")
    if MISFITS:
        terminalreporter.section("data/captured-rules.json is not what the captures show", red=True)
        for line in (*MISFITS, f"run {REMEDY}"):
            terminalreporter.write_line(line)
    if config.option.fired is not None:
        config.option.fired.parent.mkdir(parents=True, exist_ok=True)
        config.option.fired.write_text(json.dumps(FIRED.as_dict(), indent=1) + "\n", encoding="utf-8")
    if config.option.figures is not None and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        lines = [json.dumps(row._asdict() | count) for row, count in sorted(FIGURES.items(), key=lambda item: str(item[0]))]
        config.option.figures.parent.mkdir(parents=True, exist_ok=True)
        config.option.figures.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
