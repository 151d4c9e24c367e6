"""What a manager of guests makes of a CPU in its own words: the -cpu that it gives to QEMU, or the <cpu> that it gives to libvirt.

The reverse of `in_words`, and read off the same sources: what comes back is not what was written but what that manager starts, with all
that it adds to every guest of its own accord. It reads what `in_words` writes, of which a user may have changed the values.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import quoteattr

from vcpuid.answers.in_words import CUSTOM
from vcpuid.errors import InputError
from vcpuid.qemu.managers import manager_cpu, proxmox_models


@dataclass(frozen=True, slots=True)
class ManagerStarts:
    """What a manager starts: `cpu` for QEMU, or `xml`, a <cpu> for libvirt. `added` are settings that every guest of its gets."""

    cpu: str | None = None
    xml: str | None = None
    added: tuple[str, ...] = ()


def from_words(text: str, manager: str) -> ManagerStarts:
    """Read a CPU in the words of a manager; raises InputError for a manager of which nothing is known, and for what is not in its form."""
    if manager not in _READERS:
        raise InputError(f"{manager[:40]!r} is no manager of guests: {', '.join(_READERS)} are")
    try:
        return _READERS[manager](text)
    except (KeyError, IndexError, ValueError, StopIteration) as error:
        raise InputError(f"not in the form of {manager}: {error!r:.60}") from None


def _qemu(text: str) -> ManagerStarts:
    return ManagerStarts(cpu=_last_cpu(shlex.split(text)))


def _last_cpu(arguments: list[str]) -> str:
    """Return what QEMU takes of several -cpu: the last."""
    return [value for name, value in pairwise(arguments) if name == "-cpu"][-1]


def _libvirt(text: str) -> ManagerStarts:
    return ManagerStarts(xml=text)


def _kubevirt(text: str) -> ManagerStarts:
    """configureCPUModel and configureCPUFeatures, pkg/virt-launcher/virtwrap/converter/compute/cpu.go: mpx goes unless it is named."""
    said = [line.strip().removeprefix("- ").partition(": ") for line in text.splitlines()]
    model = next(value.strip('"') for name, _, value in said if name == "model")
    names = [value for name, _, value in said if name == "name"]
    policies = [value for name, _, value in said if name == "policy"]
    features = list(zip(names, policies, strict=True))
    if model not in _OF_HOST and "mpx" not in names:
        features.append(("mpx", "disable"))
    return ManagerStarts(xml=_cpu_xml(model, features))


_OF_HOST = ("host-passthrough", "host-model")


def _cpu_xml(model: str, features: Iterable[tuple[str, str]], inner: str = "") -> str:
    listed = "".join(f"<feature policy={quoteattr(policy)} name={quoteattr(name)}/>" for name, policy in features)
    if model in _OF_HOST:
        return f"<cpu mode={quoteattr(model)}>{inner}{listed}</cpu>"
    return f"<cpu mode='custom' match='exact'><model>{model}</model>{inner}{listed}</cpu>"


def _nova(text: str) -> ManagerStarts:
    """_get_guest_cpu_model_config and _prepare_cpu_flag, nova/virt/libvirt/driver.py; the flavor's addresses by nova/virt/hardware.py."""
    said = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    given = dict(word.partition("=")[::2] for word in text.split() if word.startswith("hw:maxphysaddr_"))
    mode, bits = given.get("hw:maxphysaddr_mode"), given.get("hw:maxphysaddr_bits")
    width = "" if mode is None else f"<maxphysaddr mode={quoteattr(mode)}{'' if bits is None else f' bits={quoteattr(bits)}'}/>"
    flags = [flag.strip().lower() for flag in said.get("cpu_model_extra_flags", "").split(",") if flag.strip()]
    features = [(flag.lstrip("+-"), "disable" if flag.startswith("-") else "require") for flag in flags]
    model = said["cpu_models"].split(",")[0].strip() if said["cpu_mode"] == "custom" else said["cpu_mode"]
    return ManagerStarts(xml=_cpu_xml(model, features, width))


def _proxmox(text: str) -> ManagerStarts:
    """get_cpu_options, src/PVE/QemuServer/CPUConfig.pm of qemu-server, for a Linux guest without Hyper-V's enlightenments."""
    lines = text.splitlines()
    option = next(line.removeprefix("cpu: ") for line in lines if line.startswith("cpu: "))
    name, *parts = option.split(",")
    said = dict(part.partition("=")[::2] for part in parts)
    inherited: list[str] = []
    if name == f"custom-{CUSTOM}":
        own = dict(line.strip().partition(" ")[::2] for line in lines if line.startswith("    "))
        said, model = own | said, own["reported-model"]
    else:
        model, *inherited = (found[1] if (found := manager_cpu(name)) is not None and found[0] == "Proxmox VE" else name).split(",")
    return ManagerStarts(cpu=",".join((model, *_proxmox_settings(model, said, inherited))), added=_PROXMOX_ADDS)


_PROXMOX_ADDS = ("+kvm_pv_eoi", "+kvm_pv_unhalt")


def _proxmox_settings(model: str, said: dict[str, str], inherited: list[str]) -> Iterator[str]:
    if "level" in said:
        yield f"level={said['level']}"
    yield from inherited
    yield from filter(None, said.get("flags", "").split(";"))
    yield from _PROXMOX_ADDS
    if model != "host":
        yield "enforce"
    if said.get("hidden") == "1":
        yield "kvm=off"
    if vendor := proxmox_models().get(model):
        yield f"vendor={vendor}"
    if "hv-vendor-id" in said:
        yield f"hv-vendor-id={said['hv-vendor-id']}"
    if "guest-phys-bits" in said:
        yield f"guest-phys-bits={said['guest-phys-bits']}"
    if "phys-bits" in said:
        yield "host-phys-bits=true" if said["phys-bits"] == "host" else f"phys-bits={said['phys-bits']}"


_INCUS_ADDS = tuple(
    f"hv_{name}"
    for name in ("relaxed", "vpindex", "runtime", "time", "synic", "stimer", "tlbflush", "ipi", "frequencies", "stimer_direct",
                 "xmm_input", "tlbflush_ext")
)  # fmt: skip


def _incus(text: str) -> ManagerStarts:
    """cpuType, internal/server/instance/drivers/driver_qemu_machine.go, for a guest that may move, without SMT, that may nest."""
    said = dict(word.split("=", 1) for word in shlex.split(text) if word.startswith("instances.vm.cpu.x86_64."))
    model, flags = said["instances.vm.cpu.x86_64.baseline"], said.get("instances.vm.cpu.x86_64.flags", "")
    return ManagerStarts(cpu=",".join((model, *_INCUS_ADDS, *filter(None, map(str.strip, flags.split(","))))), added=_INCUS_ADDS)


def _lxd(text: str) -> ManagerStarts:
    """Start of lxd/instance/drivers/driver_qemu.go, for a guest with migration.stateful: -cpu host, and behind it what raw.qemu holds."""
    raw = next(word.removeprefix("raw.qemu=") for word in shlex.split(text) if word.startswith("raw.qemu="))
    return ManagerStarts(cpu=_last_cpu(["-cpu", "host", *shlex.split(raw)]))


_READERS: dict[str, Callable[[str], ManagerStarts]] = {
    "qemu": _qemu,
    "libvirt": _libvirt,
    "kubevirt": _kubevirt,
    "nova": _nova,
    "proxmox": _proxmox,
    "incus": _incus,
    "lxd": _lxd,
}
