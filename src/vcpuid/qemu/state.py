"""The CPU that QEMU realized: what stands between `-cpu` and the table of entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.qemu.hyperv import HyperV
from vcpuid.qemu.maker import Maker
from vcpuid.reasons import Decision

_NONE: FrozenMap[str, Any] = FrozenMap()


@dataclass(frozen=True, slots=True)
class CpuState(Maker):
    """X86CPU after x86_cpu_expand_features and x86_cpu_filter_features (QEMU, target/i386/cpu.c).

    `release` is the QEMU whose tables were used, `machine` the machine type with aliases resolved (pc-q35-7.2), `model` the CPU model with
    aliases resolved (EPYC-Milan-v2, host, max, base), `shared` the caches whose level smp-cache sets. `level`, `xlevel` and `xlevel2` are
    what leaves 0, 0x80000000 and 0xC0000000 answer, `level_func7` the last sub-leaf of leaf 7. `features` holds QEMU's feature words by
    their names (FEAT_7_0_EBX, FEAT_ARCH_CAPABILITIES) after expansion and filtering; `user_features` the bits that -cpu names or
    QEMU's own defaults set, `asked` those that -cpu switches on, `filtered` those that the guest should have had and that the host or a
    missing dependency denies (with x-force-features=on it has them all the same), `supported` what QEMU takes the host to support. `props`
    holds the final value of every other property under QEMU's own name,
    settings of the machine type included. `warnings` are what QEMU prints for its first CPU, in its order and without the program's name,
    `late_warnings` what it prints once the vCPU is set up; it prints those of them that are also in `once` for that CPU only. `hyperv` are
    the enlightenments in force, None where the guest sees no Hyper-V.
    """

    release: str
    machine: str
    model: str
    shared: tuple[tuple[str, str], ...] = ()
    vendor: str = ""
    family: int = 0
    model_number: int = 0
    stepping: int = 0
    model_id: str = ""
    level: int = 0
    xlevel: int = 0
    xlevel2: int = 0
    level_func7: int = 0
    phys_bits: int = 0
    guest_phys_bits: int = 0
    features: FrozenMap[str, int] = _NONE
    user_features: FrozenMap[str, int] = _NONE
    asked: FrozenMap[str, int] = _NONE
    filtered: FrozenMap[str, int] = _NONE
    supported: FrozenMap[str, int] = _NONE
    props: FrozenMap[str, object] = _NONE
    warnings: tuple[str, ...] = ()
    late_warnings: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    hyperv: HyperV | None = None
    decisions: Sequence[Decision] = field(default=(), compare=False)
