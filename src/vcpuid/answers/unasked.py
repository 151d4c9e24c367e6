"""Hyper-V enlightenments that a guest of QEMU's lacks: the processor has no part in them, -cpu asks for them and KVM makes them up."""

from __future__ import annotations

from vcpuid.cpuid.hyperv import ENLIGHTENMENTS
from vcpuid.cpuid.names import Feature
from vcpuid.kvm.answers import kvm_says
from vcpuid.path.pipeline import Path
from vcpuid.qemu import CpuState
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.hyperv import needed
from vcpuid.reasons import Rule

UNASKED = Rule(
    "silicon.hyper-v.unasked",
    "-cpu does not ask for it, and no model has an enlightenment by itself",
    "kvm_hyperv_properties and hyperv_fill_cpuids, target/i386/kvm/kvm.c",
    remedy="add the hv-* flag to -cpu",
)
NOT_OFFERED = Rule(
    "silicon.hyper-v.not-offered",
    "this host's KVM offers a guest no such enlightenment",
    "kvm_get_hv_cpuid, arch/x86/kvm/hyperv.c",
    remedy="use a host whose processor and kernel let KVM offer it",
)


def why_lacking(feature: Feature, path: Path) -> Rule | None:
    """Tell why a guest lacks an enlightenment; None for what is none, and of other VMMs than QEMU."""
    flag = flag_of(feature)
    if flag is None or not isinstance(path.made.detail, CpuState):
        return None
    offered = kvm_says(path.setup).hyperv
    return UNASKED if offered is None or all(map(offered.has, ENLIGHTENMENTS[flag].bits)) else NOT_OFFERED


def how_to_ask(rule: Rule, name: str, path: Path) -> str | None:
    """Say what to add to -cpu: the flag, and the flags that it needs and that are not asked for."""
    if name not in ENLIGHTENMENTS or not isinstance(path.made.detail, CpuState):
        return rule.remedy
    if name not in catalog(path.setup.vmm.tables).properties:
        return f"use a QEMU that has {name}: {path.setup.vmm} does not"
    on = [flag for flag in ENLIGHTENMENTS if path.made.detail.props.get(flag)]
    wanted = [name, *(need for need, _ in needed([*on, name]))]
    return f"add {','.join(reversed(wanted))} to -cpu"


def flag_of(feature: Feature) -> str | None:
    """Name the flag of QEMU's that a feature is; None where it is no enlightenment."""
    return next((own.name for own in feature.qemu_names if own.name in ENLIGHTENMENTS), None)
