"""Whether a host can give a CPU: by bits (x86Compute, src/cpu/cpu_x86.c), and by what QEMU says of its models (qemuDomainCheckCPU,
src/qemu/qemu_domain.c, since libvirt 11.0)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from vcpuid.libvirt import refusal
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.definition import CpuDef, features_of, features_with
from vcpuid.libvirt.host_models import HostModels
from vcpuid.libvirt.journal import Ruling
from vcpuid.reasons import Rule

_BITS, _BY_QEMU = "x86Compute, src/cpu/cpu_x86.c", "virCPUCompareUnusable, src/cpu/cpu.c"
_UNCHECKED = ", or set check='none'"
_OFF = f"write <feature policy='disable'/>{_UNCHECKED}"

MODEL_DEMANDS = Rule(
    "libvirt.check.model", "libvirt's {cause} demands it, and the host does not have it, whatever QEMU's model does", _BITS, remedy=_OFF
)
QEMU_BLOCKS = Rule(
    "libvirt.check.blocked", "QEMU's {cause} has it, and QEMU says that it cannot give it on this host", _BY_QEMU, remedy=_OFF, since="11.3"
)
DOMAIN_DEMANDS = Rule(
    "libvirt.check.asked",
    "the domain requires it, and the host's CPU as QEMU gives it lacks it",
    _BITS,
    remedy=f"write <feature policy='optional'/>{_UNCHECKED}",
)
FORBIDDEN = Rule(
    "libvirt.check.forbidden",
    "the domain forbids to run on a host that has it, and this one does",
    _BITS,
    remedy=f"write <feature policy='disable'/>{_UNCHECKED}",
)
NOT_STRICT = Rule(
    "libvirt.check.strict",
    "the host has it, and match='strict' wants a host with nothing more than {cause}",
    _BITS,
    remedy=f"set match='exact'{_UNCHECKED}",
)

Result = Literal[0, 1, 2]
INCOMPATIBLE: Result = 0
IDENTICAL: Result = 1
SUPERSET: Result = 2

BY_MODEL = (11, 0)
"""The release since which libvirt asks QEMU's word on the model first."""

_ARCHITECTURES = ("i686", "x86_64")


class Compared(NamedTuple):
    """How a CPU compares with a host's; where they are incompatible, libvirt's words for it and the features that led to it."""

    result: Result
    message: str = ""
    causes: tuple[Ruling, ...] = ()


def compare(host: CpuDef, cpu: CpuDef, known: CpuMap) -> Compared:
    """Hold a CPU against a host's by their bits. Raises LibvirtError for unknown names."""
    if cpu.arch is not None and cpu.arch not in _ARCHITECTURES:
        return Compared(INCOMPATIBLE, f"CPU arch {cpu.arch} does not match host arch")
    if cpu.vendor is not None and cpu.vendor != host.vendor:
        return Compared(INCOMPATIBLE, f"host CPU vendor does not match required CPU vendor {cpu.vendor}")
    given = features_of(host, known)
    force = features_with(cpu, known, "force")
    require = features_with(cpu, known, "require")
    optional = features_with(cpu, known, "optional")
    disable = features_with(cpu, known, "disable")
    forbid = features_with(cpu, known, "forbid")
    if found := forbid & given:
        return _unlike("Host CPU provides forbidden features", known.named(found), FORBIDDEN, cpu)
    require &= ~(force | optional | disable)
    if missing := require & ~given:
        return _unlike("Host CPU does not provide required features", known.named(missing), MODEL_DEMANDS, cpu)
    extra = given & ~(optional | require | disable | force)
    if not extra:
        return Compared(IDENTICAL)
    if not cpu.of_host and cpu.match == "strict":
        return _unlike("Host CPU does not strictly match guest CPU: Extra features", known.named(extra), NOT_STRICT, cpu)
    return Compared(SUPERSET)


def demands(cpu: CpuDef) -> bool:
    """Whether a guest's CPU asks anything of its host that `compare` or `check` could find lacking, or too much."""
    return bool(cpu.arch or cpu.vendor or cpu.model or cpu.features) or cpu.match == "strict"


def check(cpu: CpuDef, hosts: HostModels, against: CpuDef) -> Compared:
    """Hold a CPU against a host as check='partial' does; `against` is the host's CPU where bits are compared. Raises LibvirtError."""
    known, told = hosts.known, hosts.told
    if known.release < BY_MODEL:
        return compare(against, cpu, known)
    offer = told.offers.get(cpu.model or "")
    if offer is not None and offer.usable and all(policy == "disable" for policy in cpu.features.values()):
        return Compared(SUPERSET)
    if offer is None:
        return compare(against, cpu, known)
    model = known.models.get(cpu.model or "")
    if model is None:
        raise refusal.invalid(f"unknown CPU model {cpu.model}")
    if model.compat:
        return compare(against, cpu, known)
    blocked = [name for name in offer.blockers if cpu.features.get(name) != "disable"]
    asked = [name for name, policy in cpu.features.items() if policy == "require" and name not in hosts.required]
    if not blocked and not asked:
        return Compared(SUPERSET)
    return _unlike("Host CPU does not provide required features", [*blocked, *asked], QEMU_BLOCKS, cpu)


def forbidden(cpu: CpuDef, host: CpuDef) -> str | None:
    """Return the first feature that a CPU forbids and the host's lists (virCPUCheckForbiddenFeatures); None where there is none."""
    for name, policy in cpu.features.items():
        if policy == "forbid" and host.features.get(name, "disable") != "disable":
            return name
    return None


def _unlike(text: str, names: Iterable[str], rule: Rule, cpu: CpuDef) -> Compared:
    """Tell of features; what the domain lists by itself is the domain's demand."""
    listed = list(names)
    lacking = rule in (MODEL_DEMANDS, QEMU_BLOCKS)
    own = {name for name in listed if lacking and cpu.features.get(name, "disable") in ("require", None)}
    causes = tuple(
        Ruling(name, cpu.features.get(name), DOMAIN_DEMANDS if name in own else rule, cpu.model) for name in dict.fromkeys(listed)
    )
    return Compared(INCOMPATIBLE, f"{text}: {', '.join(listed)}", causes)
