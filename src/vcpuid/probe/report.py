"""Outcomes of both places as one document for programs, and the machine that they are of."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vcpuid.live.observe import read_cpuinfo, read_params
from vcpuid.probe.outcome import Outcome

SCHEMA = "vcpuid/probe/1"
"""The form of `report`."""


def machine() -> str:
    """Say what experiments run on: processor, kernel, KVM's vendor module."""
    model = read_cpuinfo(min(os.sched_getaffinity(0))).get("model_name", "unnamed processor")
    modules = sorted({name.partition(".")[0] for name in read_params()} - {"kvm"})
    return ", ".join((model, f"Linux {os.uname().release}", *modules))


def report(machine: str, process: Sequence[Outcome], guest: Sequence[Outcome]) -> dict[str, object]:
    """Put what came of the instructions in this process and in the guest, where one was tried, into a document."""
    outcomes = {"process": [outcome.as_dict() for outcome in process], "guest": [outcome.as_dict() for outcome in guest]}
    return {"schema": SCHEMA, "machine": machine, **outcomes}
