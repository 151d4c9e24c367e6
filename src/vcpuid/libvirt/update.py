"""From a domain's <cpu> to the CPU that QEMU is started with (qemuProcessUpdateGuestCPU, src/qemu/qemu_process.c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vcpuid.libvirt import refusal
from vcpuid.libvirt.compare import FORBIDDEN, INCOMPATIBLE, check, demands, forbidden
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.decode import CpuData, decode
from vcpuid.libvirt.definition import OF_HOST, CpuDef, Policy, features_of
from vcpuid.libvirt.host_models import HostModels
from vcpuid.libvirt.journal import Journal, Ruling
from vcpuid.reasons import Rule

_UPDATE = "virCPUx86Update, src/cpu/cpu_x86.c"

ASKED = Rule(
    "libvirt.domain.asked", "the domain's <cpu> asks for it so", "virCPUDefParseXML, src/conf/cpu_conf.c", remedy="leave it out of <cpu>"
)
HOST_MODEL = Rule(
    "libvirt.host-model.differs",
    "the host's CPU as QEMU gives it differs here from {cause}, the model that libvirt found nearest",
    "x86UpdateHostModel, src/cpu/cpu_x86.c",
    remedy="write <feature policy='require'/> to have it, <feature policy='disable'/> to be without it",
)
OPTIONAL_GIVEN = Rule("libvirt.optional.given", "the domain takes it where there is one, and this host can give it", _UPDATE)
OPTIONAL_LACKING = Rule(
    "libvirt.optional.lacking",
    "the domain takes it where there is one, and this host cannot give it",
    _UPDATE,
    remedy="write <feature policy='require'/>",
)
REMOVED = Rule(
    "libvirt.model.removed",
    "the model {cause} once had it; libvirt switches it off unless the domain names it",
    "virCPUx86AddRemovedFeatures, src/cpu/cpu_x86.c",
    remedy="write <feature policy='require'/>",
)
KEPT = Rule(
    "libvirt.model.removed.kept",
    "the model {cause} once had it, and a domain that comes from elsewhere without a word of it has it still",
    "qemuProcessUpdateGuestCPU, src/qemu/qemu_process.c",
)
TRANSLATED = Rule(
    "libvirt.translate.differs",
    "QEMU does not have the model of the domain, and {cause} is the nearest one that it has",
    "virCPUx86Translate, src/cpu/cpu_x86.c",
    remedy="name a model that QEMU has",
)
IGNORED = Rule(
    "libvirt.filter.ignored", "QEMU never had this feature, or no longer knows it: libvirt does not pass it on",
    "virQEMUCapsCPUFilterFeatures, src/qemu/qemu_capabilities.c",
)  # fmt: skip

UNKNOWN = Rule(
    "libvirt.argv.unknown",
    "QEMU has no property of that name, so there is nothing to switch off",
    "qemuProcessDropUnknownCPUFeatures, src/qemu/qemu_process.c; qemuBuildCpuModelArgStr, src/qemu/qemu_command.c",
)

_IGNORED = frozenset(("cmt", "mbm_total", "mbm_local", "osxsave", "ospke"))
_IGNORED_SINCE_11 = _IGNORED | {"vmx-ept-uc", "vmx-ept-wb", "vmx-invvpid-single-context"}
_IGNORED_SINCE_12_9 = _IGNORED_SINCE_11 | {"cmp_legacy", "ht"}


def ignored(known: CpuMap) -> frozenset[str]:
    """Return the features that libvirt does not pass on to QEMU."""
    return _IGNORED_SINCE_12_9 if known.release >= (12, 9) else _IGNORED_SINCE_11 if known.release >= (11, 0) else _IGNORED


def drop_ignored(cpu: CpuDef, known: CpuMap, journal: Journal | None = None) -> None:
    """Take those features from a CPU's list."""
    for name in ignored(known) & cpu.features.keys():
        del cpu.features[name]
        if journal is not None:
            journal.note(name, None, IGNORED)


def update(cpu: CpuDef, hosts: HostModels, *, tcg: bool, journal: Journal, incoming: bool = False) -> None:
    """Make of a domain's CPU the one to start, in place; raises LibvirtError where it cannot run on the host.

    `incoming` says that the domain runs elsewhere and is to go on here.
    """
    if cpu.mode == "host-passthrough" and tcg:
        mode = f"CPU mode '{cpu.mode}' for x86_64 qemu domain on x86_64 host is not supported by hypervisor"
        raise refusal.unsupported(mode, refusal.QEMU)
    journal.listed(cpu, ASKED)
    if cpu.model is not None:
        journal.chose(cpu.model, ASKED)
    if cpu.check != "none" and "forbid" in cpu.features.values() and (name := forbidden(cpu, hosts.full)):
        raise refusal.incompatible(f"Host CPU provides forbidden feature '{name}'", [Ruling(name, "forbid", FORBIDDEN)])
    if cpu.mode not in OF_HOST:
        if cpu.check == "partial" and demands(cpu):
            compared = check(cpu, hosts, hosts.full)
            if compared.result == INCOMPATIBLE:
                raise refusal.incompatible(compared.message, compared.causes)
        kept = incoming and hosts.known.release >= (11, 0)
        resolve(cpu, hosts.migratable, hosts.known, journal, removed="require" if kept else "disable")
        translate(cpu, hosts.blockers, hosts.known, journal)
        cpu.fallback = "forbid"
    drop_ignored(cpu, hosts.known, journal)
    if hosts.known.release < (11, 0):  # later releases keep them in the XML
        for name in [name for name, policy in cpu.features.items() if policy in ("disable", "forbid") and name not in hosts.told.names]:
            del cpu.features[name]
            journal.note(name, None, UNKNOWN)
    if cpu.deprecated is not None and hosts.known.release < (12, 9):
        raise refusal.unsupported("toggling deprecated features for CPU model is unsupported", refusal.QEMU)


def resolve(cpu: CpuDef, host: CpuDef, known: CpuMap, journal: Journal, removed: Policy = "disable") -> None:
    """Settle what is relative to the host (virCPUUpdate): host-model, match='minimum', optional features. Raises LibvirtError.

    `removed` becomes of features that the model once had and the domain does not name.
    """
    by_host = cpu.mode == "host-model" or cpu.match == "minimum"
    if by_host or "optional" in cpu.features.values():
        given = features_of(host, known)
        for name, policy in cpu.features.items():
            if policy == "optional":
                has = bool(given & known.mask(name))
                cpu.features[name] = "require" if has else "disable"
                journal.note(name, cpu.features[name], OPTIONAL_GIVEN if has else OPTIONAL_LACKING)
    if by_host:
        if cpu.mode == "host-model":
            cpu.vendor = host.vendor
        cpu.model = host.model
        asked = cpu.features
        cpu.features = {name: policy or "require" for name, policy in host.features.items()}
        journal.listed(host, HOST_MODEL, host.model)
        journal.chose(host.model or "", HOST_MODEL)
        cpu.features.update(asked)
        for name, policy in asked.items():
            journal.note(name, policy, ASKED)
        cpu.mode, cpu.match = "custom", "exact"
    model = known.models.get(cpu.model or "")
    if model is None:
        raise refusal.internal(f"Unknown CPU model {cpu.model}")
    for name in model.removed:
        if name not in cpu.features:
            cpu.features[name] = removed
            journal.note(name, removed, REMOVED if removed == "disable" else KEPT, model.name)


def translate(cpu: CpuDef, models: Mapping[str, Sequence[str]], known: CpuMap, journal: Journal) -> None:
    """Put a model that QEMU has in the place of one that it has not (virCPUTranslate, virCPUx86Translate). Raises LibvirtError.

    `models` are QEMU's, each with the features that it lacks.
    """
    if cpu.model in models:
        return
    if cpu.fallback != "allow":
        raise refusal.unsupported(f"CPU model {cpu.model} is not supported by hypervisor")
    model = known.models[cpu.model or ""]
    signature = (0, 0, 0)
    if model.signatures:
        family, number, steps = model.signatures[0]
        signature = family, number, min(steps) if steps else 0
    found = decode(CpuData(features_of(cpu, known), model.vendor, signature), known, models=models)
    journal.listed(found, TRANSLATED, found.model)
    journal.chose(found.model or "", TRANSLATED)
    cpu.model, cpu.features = found.model, found.features | cpu.features
