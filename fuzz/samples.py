"""Texts of the forms that vcpuid reads and does not write, of a host's table: what the programs behind them print."""

from __future__ import annotations

import json
from collections.abc import Iterator

from vcpuid.cpuid import CpuidTable

_FIELDS = ("function", "index", "flags", "eax", "ebx", "ecx", "edx")


def samples(table: CpuidTable) -> Iterator[str]:
    """Give a text of each of these forms."""
    yield strace(table)
    yield cloud_hypervisor(table, 2, as_bytes=False)
    yield cloud_hypervisor(table, 2, as_bytes=True)
    yield from qmp()


def strace(table: CpuidTable) -> str:
    """What strace prints of a VMM with two vCPUs."""
    entries = ", ".join("{" + ", ".join(f"{name}={value:#x}" for name, value in zip(_FIELDS, entry, strict=True)) + "}" for entry in table)
    told = f"{{nent={len(table)}, entries=[{entries}]}}"
    return (
        "11 ioctl(3, KVM_GET_SUPPORTED_CPUID, 0x55b130c10ea0) = -1 E2BIG (Argument list too long)\n"
        f"11 ioctl(3, KVM_GET_SUPPORTED_CPUID, {told}) = 0\n"
        f"12 ioctl(9, KVM_SET_CPUID2, {told}) = 0\n"
        f"[pid 13] ioctl(10, KVM_SET_CPUID2, {told} <unfinished ...>\n[pid 13] <... ioctl resumed>) = 0\n"
    )


def cloud_hypervisor(table: CpuidTable, vcpus: int, *, as_bytes: bool) -> str:
    """state.json of a paused guest; older releases have each state as bytes."""

    def node(state: object, **snapshots: object) -> dict[str, object]:
        told = json.dumps(state)
        return {"snapshots": snapshots, "snapshot_data": list(told.encode()) if as_bytes else {"state": told}}

    state = {"cpuid": [dict(zip(_FIELDS, entry, strict=True)) for entry in table[:6]], "tsc_khz": 2_000_000}
    cpus = {str(number): node({"Kvm": state}) for number in range(vcpus)}
    return json.dumps(node({}, **{"cpu-manager": node(None, **cpus)}))


def qmp() -> Iterator[str]:
    """QEMU's answer to query-cpu-model-expansion, bare and in qmp-shell."""
    properties = {"avx2": True, "sse4.1": False, "level": 13, "vendor": "GenuineIntel", "hv-relaxed": True}
    told = json.dumps({"return": {"model": {"name": "host", "props": properties}}}, indent=2)
    yield told
    yield (
        "Welcome to the QMP low-level shell!\nConnected to QEMU 10.0.3\n\n"
        f'(QEMU) query-cpu-model-expansion type=full model={{"name":"host"}}\n{told}\n(QEMU) \n'
    )
