"""KVM's tables as documents for programs, each with the name of its form."""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable
from vcpuid.setup import Setup

SUPPORTED = "vcpuid/kvm-supported/2"
EMULATED = "vcpuid/kvm-emulated/2"
SET = "vcpuid/kvm-set/1"
LOOKUP = "vcpuid/kvm-lookup/1"


def report(schema: str, table: CpuidTable, setup: Setup, **more: object) -> dict[str, object]:
    """Put a table and what it was asked of into a document of the form `schema`; `more` are the keys that this form has besides."""
    told = {"schema": schema, "setup": setup.as_dict(vmm=False), "remarks": list(setup.remarks)}
    return {**told, **more, "entries": [entry.as_dict() for entry in table]}
