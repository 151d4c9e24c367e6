"""What becomes of a guest's CPU once QEMU runs (qemuProcessUpdateAndVerifyCPU, src/qemu/qemu_process.c; virCPUx86UpdateLive)."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.libvirt import refusal
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.definition import OF_HOST, CpuDef, Policy, features_of, features_with
from vcpuid.libvirt.domain import ENLIGHTENMENTS, Domain
from vcpuid.libvirt.journal import Journal, Ruling
from vcpuid.libvirt.update import REMOVED
from vcpuid.reasons import Rule

_LIVE = "virCPUx86UpdateLive, src/cpu/cpu_x86.c"

ENABLED = Rule(
    "libvirt.live.enabled", "QEMU gave it to the guest though neither the model {cause} nor the domain asks for it: libvirt lists it", _LIVE
)
DISABLED = Rule(
    "libvirt.live.disabled", "the guest was to have it and QEMU did not give it: libvirt lists it as switched off", _LIVE,
    remedy="use check='full', which refuses to start such a guest",
)  # fmt: skip
EXTRA = Rule(
    "libvirt.full.extra", "QEMU gave it to the guest though neither the model {cause} nor the domain asks for it, and check='full' minds",
    _LIVE,
    remedy="write <feature policy='require'/>, or set check='partial'",
)  # fmt: skip
MISSING = Rule(
    "libvirt.full.missing", "the guest was to have it and QEMU did not give it, and check='full' minds", _LIVE,
    remedy="write <feature policy='disable'/>, or set check='partial'",
)  # fmt: skip

_SILENT = ("relaxed", "vapic")
"""Enlightenments that libvirt only warns of."""
_VALUES = ("spinlocks", "vendor_id")
"""Enlightenments that are no switches."""


class Running(NamedTuple):
    """A CPU that QEMU realized: the features that it has and those that it lacks, and the properties of KVM and Hyper-V that are on."""

    enabled: int
    disabled: int
    switches: frozenset[str]


def minds(domain: Domain, cpu: CpuDef, known: CpuMap) -> bool:
    """Whether there is anything in what QEMU makes of a domain's CPU for which `verify` or `update_live` would refuse the guest."""
    asked = domain.switches.get("pvspinlock") == "on" or domain.hyperv is not None or cpu.check == "full"
    return asked or (cpu.described and bool(features_of(cpu, known) & known.mask("invtsc")))


def verify(domain: Domain, cpu: CpuDef, running: Running, known: CpuMap) -> None:
    """Refuse a guest that lacks what the domain asks for beyond CPUID (qemuProcessVerifyCPU). Raises LibvirtError."""
    if domain.switches.get("pvspinlock") == "on" and "kvm-pv-unhalt" not in running.switches:
        raise refusal.unsupported("host doesn't support paravirtual spinlocks", refusal.QEMU)
    hyperv = domain.hyperv
    for name in ENLIGHTENMENTS if hyperv is not None else ():
        assert hyperv is not None
        if hyperv.states.get(name) != "on" or name in _VALUES:
            continue
        if f"hv-{name.replace('_', '-')}" not in running.switches:
            if name not in _SILENT:
                raise refusal.unsupported(f"host doesn't support hyperv '{name}' feature", refusal.QEMU)
        elif name == "stimer" and hyperv.direct_timer == "on" and "hv-stimer-direct" not in running.switches:
            raise refusal.unsupported("host doesn't support hyperv stimer 'direct' feature", refusal.QEMU)
        elif name == "tlbflush":
            for state, flag, word in (
                (hyperv.direct_flush, "hv-tlbflush-direct", "direct"),
                (hyperv.extended_flush, "hv-tlbflush-ext", "extended"),
            ):
                if state == "on" and flag not in running.switches:
                    raise refusal.unsupported(f"host doesn't support hyperv tlbflush '{word}' feature", refusal.QEMU)
    invtsc = known.mask("invtsc")
    if cpu.described and features_of(cpu, known) & invtsc and not running.enabled & invtsc:
        raise refusal.unsupported("host doesn't support invariant TSC", refusal.QEMU)


def update_live(cpu: CpuDef, running: Running, known: CpuMap, journal: Journal) -> None:
    """Write into a CPU what QEMU made of it, or with check='full' refuse what differs. Raises LibvirtError."""
    if cpu.mode != "custom" and cpu.check != "full":
        return
    model = known.models.get(cpu.model or "") if cpu.mode not in OF_HOST else None
    wanted = features_of(cpu, known)
    by_name = known.release >= (11, 0) or cpu.mode in OF_HOST
    switched_off = features_with(cpu, known, "disable") if by_name else 0
    disabled, full = running.disabled, cpu.check == "full"
    unwanted = switched_off if cpu.mode in OF_HOST else ~0
    added = running.enabled & ~wanted & unwanted
    removed = disabled | wanted & ~running.enabled
    if full:
        silent = 0 if model is None or known.release < (11, 0) else model.added & ~(wanted | switched_off)
        told_added, told_removed = added & ~silent, removed & ~silent
    else:
        told_added = told_removed = silent = 0
    entered = (added | removed) & silent if full else added | removed
    for name in known.named(entered):
        bit = known.mask(name)
        policy: Policy = "disable" if removed & bit else "require"
        cpu.features[name] = policy
        journal.note(name, policy, DISABLED if policy == "disable" else ENABLED, cpu.model)
        if policy == "disable":
            disabled &= ~bit
    if model is not None:
        for name in model.removed:
            if name not in cpu.features:
                cpu.features[name] = "disable"
                journal.note(name, "disable", REMOVED, model.name)
    if told_added or told_removed:
        told = (("extra", told_added, EXTRA), ("missing", told_removed, MISSING))
        parts = [f"{word} features: {','.join(known.named(features))}" for word, features, _ in told if features]
        causes = [Ruling(name, cpu.features.get(name), rule, cpu.model) for _, features, rule in told for name in known.named(features)]
        raise refusal.failed(f"guest CPU doesn't match specification: {', '.join(parts)}", causes=causes)
    if full and disabled:
        raise refusal.failed("guest CPU doesn't match specification")
    cpu.check = "full"


def sent(live: CpuDef, original: CpuDef, known: CpuMap) -> CpuDef:
    """Return the CPU that goes to where a guest migrates (qemuMigrationCookieAddCPU): the live one.

    Since 11.0 without those features that QEMU always gave with the model and libvirt once did not know of, unless the domain names them.
    """
    found = migratable(live)
    model = known.models.get(found.model or "") if found.mode == "custom" else None
    if model is not None and known.release >= (11, 0):
        dropped = set(known.named(model.added)) - original.features.keys()
        found.features = {name: policy for name, policy in found.features.items() if name not in dropped}
    return found


def migratable(original: CpuDef) -> CpuDef:
    """Return the CPU that libvirt writes for a migration (qemuDomainMakeCPUMigratable): the domain's own, before QEMU changed it.

    Icelake-Server once had pconfig, which no QEMU gave: older libvirts would take it for granted.
    """
    found = original.copy()
    if found.mode == "custom" and found.model == "Icelake-Server":
        found.features["pconfig"] = "disable"
    return found
