"""QEMU's -cpu argument, written only: the model `base`, which has nothing, and all that the CPU has by QEMU's names.

    base,vendor=GenuineIntel,level=0x16,family=6,model=85,stepping=4,xlevel=0x80000008,model-id=…,+fpu,+vme,…

QEMU builds the same table from it, but for what no property sets: caches, where the CPU's are not those of `base`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vcpuid.cpuid import Snapshot, bits, brand_string
from vcpuid.cpuid.vendors import signature
from vcpuid.formats.form import Format
from vcpuid.formats.names import features, nameless
from vcpuid.releases import QEMUS

if TYPE_CHECKING:
    from vcpuid.cpuid.features import Feature


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield the argument for the first CPU, one line, for the newest QEMU that vcpuid knows."""
    snapshot = snapshots[0]
    yield ",".join(["base", *_settings(snapshot), *(f"+{name}" for name, has in features(snapshot, _name).items() if has)])


def _settings(snapshot: Snapshot) -> Iterator[str]:
    raw = snapshot.raw
    if raw.get(0) is not None:
        yield f"vendor={snapshot.vendor}"
        yield f"level={raw.registers(0).eax:#x}"
    if raw.get(1) is not None:
        eax = raw.registers(1).eax
        family, _, stepping = signature(eax)
        model = eax >> 4 & 0xF | eax >> 12 & 0xF0  # as QEMU packs it: both halves in every family (x86_cpuid_version_set_model)
        yield from (f"family={family}", f"model={model}", f"stepping={stepping}")
    if raw.registers(0x80000000).eax >> 31:
        yield f"xlevel={raw.registers(0x80000000).eax:#x}"
    width = raw.registers(0x80000008).eax
    if raw.has(bits.LM) and width & 0xFF:  # QEMU refuses a width for a CPU without long mode
        yield from (f"phys-bits={width & 0xFF}", f"guest-phys-bits={width >> 16 & 0xFF}")
    if raw.registers(0xA).eax & 0xFF:
        yield "pmu=on"  # without it QEMU shows neither leaf 0xA nor PDCM
    if (name := _model_id(snapshot)) and "," not in name:
        yield f"model-id={name}"


def _model_id(snapshot: Snapshot) -> str:
    text = brand_string(snapshot.raw)
    return text if text.isascii() and text.isprintable() else ""


def _name(feature: Feature) -> str | None:
    name = feature.in_qemu(QEMUS[-1])
    return None if name is None else name.name


def _loses(snapshot: Snapshot) -> list[str]:
    rest = "all but vendor, family, model, stepping, name, address width and the features that QEMU names"
    comma = ["the name, since it has a comma"] if "," in _model_id(snapshot) else []
    return [rest, *comma, *nameless(snapshot, _name, "QEMU")]


FORMAT = Format("qemu", "QEMU's -cpu argument", lambda text: False, None, write, holds=("named",), loses=_loses)
