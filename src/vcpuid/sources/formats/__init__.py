"""The file formats that vcpuid reads and writes, told apart by their content: one module a format."""

from __future__ import annotations

from vcpuid.cpuid import Snapshot
from vcpuid.sources.formats import (
    cloud_hypervisor,
    cpuid_r,
    cpuinfo,
    firecracker,
    instlatx64,
    json_snapshot,
    kcpuid,
    libvirt_cpu,
    libvirt_cpudata,
    qemu_cpu,
    qmp,
    snapshot,
    strace,
    tycho,
)
from vcpuid.sources.formats.form import Format

FORMATS = tuple(
    module.FORMAT
    for module in (
        snapshot, json_snapshot, cpuid_r, tycho, instlatx64, kcpuid, strace, libvirt_cpudata, firecracker, cloud_hypervisor, qmp,
        libvirt_cpu, cpuinfo, qemu_cpu,
    )
)  # fmt: skip
"""Asked in this order: what tells most comes first, since a report may hold several."""


def recognise(text: str) -> Format:
    """Return the first format that recognises a text; a snapshot, which may begin with any line at all, and whose reader names what is
    wrong, where none does."""
    return next((known for known in FORMATS if known.read is not None and known.recognises(text)), snapshot.FORMAT)


def parse(text: str, source: str) -> list[Snapshot]:
    """Read every CPU that a text tells of, by the format that recognises it; raises InputError."""
    read = recognise(text).read
    assert read is not None
    return read(text, source)
