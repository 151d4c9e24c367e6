"""Skips what this machine cannot run, with the reason, and counts how many captures each party answers exactly."""

from __future__ import annotations

import os
import platform
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

os.environ.setdefault("VCPUID_PEERS", str(Path(__file__).parents[2] / "shared" / "peers"))
"""Data of others, read in place: the folder that the environment names, else the one that may lie beside the project."""

RESULTS: dict[str, list[int]] = defaultdict(lambda: [0, 0])


def lacking(wanted: str) -> dict[str, str | None]:
    """Say for each marker why its tests cannot run, None where they can; `wanted` is what -m asks for."""
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return {
        "kvm": None if usable else "no usable /dev/kvm",
        "qemu": None if shutil.which("qemu-system-x86_64") else "no qemu-system-x86_64 installed",
        "x86": None if platform.machine() in ("x86_64", "i686") else f"{platform.machine()} has no CPUID instruction",
        "slow": None if "slow" in wanted else "slow: runs with -m slow",
    }


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = lacking(config.option.markexpr)
    for item in items:
        for name, reason in reasons.items():
            if reason is not None and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))
        marker = item.get_closest_marker("conformance")
        if marker is not None:
            item.user_properties.append(("conformance", marker.args[0]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" or report.skipped:
        return
    for key, party in report.user_properties:
        if key == "conformance":
            RESULTS[str(party)][0] += report.passed
            RESULTS[str(party)][1] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if RESULTS:
        terminalreporter.section("exact against captures, by party")
        for party, (exact, tried) in sorted(RESULTS.items()):
            terminalreporter.write_line(f"{party}: {exact} of {tried} exact")
