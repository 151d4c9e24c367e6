"""The state.json of a Cloud Hypervisor snapshot (`ch-remote snapshot file:///DIR`): each vCPU's CPUID, as KVM_GET_CPUID2 gave it.

    {"snapshots":{"cpu-manager":{"snapshots":{"0":{"snapshots":{},"snapshot_data":{"state":"{\\"Kvm\\":{\\"cpuid\\":[
        {\\"function\\":7,\\"index\\":0,\\"flags\\":1,\\"eax\\":1,\\"ebx\\":563873707,\\"ecx\\":0,\\"edx\\":0},…],…}}"}},…

docs/snapshot_restore.md of Cloud Hypervisor tells of the file. Its form is that of the structures that are written into it, here as of
v53.0: `Snapshot` and `SnapshotData` (vm-migration/src/lib.rs), `VcpuKvmState` (hypervisor/src/kvm/x86_64/mod.rs) and `CpuIdEntry`
(hypervisor/src/arch/x86/mod.rs). v39.0 has the same; from v29.0 on a state was the list of its bytes. Of an entry's flags only the one
for the index is in it.
"""

from __future__ import annotations

import re
from typing import Any

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.documents import is_object, parse_json
from vcpuid.formats.form import Format
from vcpuid.formats.lines import ENTRY_LIMIT

_FIELDS = ("function", "index", "flags", "eax", "ebx", "ecx", "edx")
_SIGN = re.compile(r'"snapshots"\s*:\s*\{')


def read(text: str, source: str) -> list[Snapshot]:
    """Read every vCPU's table, which a restore hands to KVM_SET_CPUID2; raises InputError for a VM that is not KVM's, or not of x86."""
    try:
        (whole,) = parse_json(text, source)
        vcpus = whole["snapshots"]["cpu-manager"]["snapshots"]
        if not vcpus:
            raise ValueError("no vCPU")
        return [Snapshot(table=_table(vcpus[name]["snapshot_data"], f"vCPU {name}", source)) for name in sorted(vcpus, key=int)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"not of the form of Cloud Hypervisor's state.json: {error!r:.80}", source=source) from None


def _table(data: Any, vcpu: str, source: str) -> CpuidTable:
    (state,) = parse_json(bytes(data).decode() if isinstance(data, list) else data["state"], source)
    entries = state.get("Kvm", {}).get("cpuid")
    if not entries:
        raise InputError(f"{vcpu} has no CPUID: only a VM of KVM on x86 tells of it", source=source)
    if len(entries) > ENTRY_LIMIT:
        raise InputError(f"{vcpu} has more than {ENTRY_LIMIT} entries", source=source)
    return CpuidTable(Entry(*(_word(entry[field], field) for field in _FIELDS)) for entry in entries)


def _word(value: object, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
        raise ValueError(f"{field} {value!r:.40}")
    return value


def _recognises(text: str) -> bool:
    return is_object(text) is not None and _SIGN.search(text) is not None


FORMAT = Format("cloud-hypervisor", "the state.json of a Cloud Hypervisor snapshot", _recognises, read, holds=("table",))
