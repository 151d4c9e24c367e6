"""The file formats that vcpuid reads and writes, told apart by their content: one module a format."""

from __future__ import annotations

from contextlib import suppress

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import (
    bochs,
    cloud_hypervisor,
    cpuid_r,
    cpuinfo,
    firecracker,
    instlatx64,
    json_snapshot,
    kcpuid,
    libcpuid,
    libvirt_cpu,
    libvirt_cpudata,
    lscpu,
    qemu_cpu,
    qmp,
    recording,
    snapshot,
    strace,
    tycho,
    virtualbox,
    vmware,
    xen_cpuid,
    xenserver,
)
from vcpuid.formats.form import KNOWN, Format
from vcpuid.formats.lines import CPU_LIMIT
from vcpuid.formats.pasted import unwrapped

FORMATS = tuple(
    module.FORMAT
    for module in (
        snapshot, recording, json_snapshot, cpuid_r, tycho, instlatx64, kcpuid, strace, libcpuid, virtualbox, vmware, bochs, xen_cpuid,
        libvirt_cpudata, firecracker, cloud_hypervisor, qmp, libvirt_cpu, cpuinfo, lscpu, xenserver, qemu_cpu,
    )
)  # fmt: skip
"""Asked in this order: what tells most comes first, since a report may hold several."""
KNOWN[:] = FORMATS


def parse(text: str, source: str) -> list[Snapshot]:
    """Read every CPU that a text tells of, by the format that recognises it; raises InputError."""
    return identify(text, source)[1]


def identify(text: str, source: str) -> tuple[Format, list[Snapshot]]:
    """Read every CPU that a text tells of, and say by which format.

    What does not read as it stands is read as pasted text. Raises InputError, of the text as it stands.
    """
    try:
        return _read(text, source)
    except InputError:
        for candidate in unwrapped(text):
            with suppress(InputError):
                return _read(candidate, source)
        raise


def _read(text: str, source: str) -> tuple[Format, list[Snapshot]]:
    """Read a text by the first format that recognises it; as a snapshot, whose reader names what is wrong, where none does."""
    chosen = next((known for known in FORMATS if known.read is not None and known.recognises(text)), snapshot.FORMAT)
    assert chosen.read is not None
    cpus = chosen.read(text, source)
    if len(cpus) > CPU_LIMIT:
        raise InputError(f"more than {CPU_LIMIT} CPUs", source=source)
    return chosen, cpus
