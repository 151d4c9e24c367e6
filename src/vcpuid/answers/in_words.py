"""A -cpu argument in the words of those who manage guests: libvirt, KubeVirt, Nova, Proxmox VE, Incus, LXD, QEMU itself.

Each has a place for the model and for features that are on or off; what it has no place or no name for is told beside the text, never
left out in silence. `from_words` reads them as these managers do. Where the forms come from:

- libvirt: formatdomain, "CPU model and topology" (https://libvirt.org/formatdomain.html).
- KubeVirt: kubevirt.io/api, core/v1, CPU and CPUFeature: libvirt's names of models and features.
- Nova: nova/conf/libvirt.py and doc/source/admin/cpu-models.rst: cpu_mode, cpu_models, cpu_model_extra_flags, likewise libvirt's names;
  hw:maxphysaddr_mode and hw:maxphysaddr_bits of a flavor (get_maxphysaddr_mode, nova/virt/hardware.py). Read in 33.0.0-373-g00a030403f.
- Proxmox VE: src/PVE/QemuServer/CPUConfig.pm and CPUFlags.pm of qemu-server: the option `cpu` of one VM takes some flags and no others
  (`vcpuid.qemu.managers.proxmox_flags`), a type of one's own in cpu-models.conf takes any of QEMU's.
- Incus: instances.vm.cpu.x86_64.baseline and .flags of a cluster group, which become -cpu as they stand (cpuType,
  internal/server/instance/drivers/driver_qemu_machine.go). Read in v7.3.0-637-gbe7afc5df3.
- LXD: raw.qemu, which comes behind its own `-cpu host`, and of two QEMU takes the last (lxd/instance/drivers/driver_qemu.go). Read in
  6.9-1039-ga83edf2a79.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from vcpuid.cpuid.names import find_all
from vcpuid.errors import InputError
from vcpuid.numbers import decimal
from vcpuid.qemu.catalog import Catalog
from vcpuid.qemu.managers import manager_name, proxmox_flags, proxmox_models
from vcpuid.qemu.properties import parse
from vcpuid.releases import number

CUSTOM = "mine"
"""The name of a type of one's own in what is written for Proxmox VE."""
_ON, _OFF = frozenset({"on", "yes", "true", "y"}), frozenset({"off", "no", "false", "n"})


@dataclass(frozen=True, slots=True)
class InWords:
    """What to write where: `lines` in the manager's own form, `notes` on where it belongs, and `lost`, what it cannot hold."""

    manager: str
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """All that is to be said beside the lines."""
        return (*self.notes, *self.lost)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"for": self.manager, "text": "\n".join(self.lines), "remarks": list(self.remarks)}


@dataclass(frozen=True, slots=True)
class _Parts:
    """A -cpu taken apart: its model, features of QEMU's names on or off, and settings that are no features."""

    model: str
    features: dict[str, bool]
    settings: tuple[str, ...]


def in_words(cpu: str, manager: str, tables: Catalog) -> InWords:
    """Write a -cpu argument, which QEMU with these tables takes, for one of MANAGERS."""
    return _WRITERS[manager](cpu, _parts(cpu, tables), tables)


def _parts(cpu: str, tables: Catalog) -> _Parts:
    option = parse(cpu, number(tables.release))
    features: dict[str, bool] = {}
    settings = []
    for name, value in option.settings:
        plain = tables.aliases.get(name, name)
        if plain in tables.flags and value in _ON | _OFF:
            features[plain] = value in _ON
        else:
            settings.append(f"{name}={value}")
    for names, has in ((option.plus, True), (option.minus, False)):
        for name in names:
            plain = tables.aliases.get(name, name)
            if plain in tables.flags:
                features[plain] = has
            else:
                settings.append(f"{name}={'on' if has else 'off'}")
    return _Parts(option.model, features, tuple(settings))


def _qemu(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    del parts, tables
    return InWords("qemu", (f"-cpu {cpu}",))


def _libvirt(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    del cpu
    width, parts = _addresses(parts)
    called = _in_libvirts_names(parts, tables)
    body = [] if called.model is None else [f"  <model fallback='forbid'>{called.model}</model>"]
    if width is not None:
        bound = f" limit='{width}'" if width else ""
        body.append(f"  <maxphysaddr mode='passthrough'{bound}/>")
    body += [f"  <feature policy='{'require' if has else 'disable'}' name='{name}'/>" for name, has in called.features.items()]
    mode = "mode='host-passthrough'" if called.model is None else "mode='custom' match='exact'"
    return InWords("libvirt", (f"<cpu {mode}>", *body, "</cpu>") if body else (f"<cpu {mode}/>",), called.notes, called.lost)


def _addresses(parts: _Parts) -> tuple[str | None, _Parts]:
    """Take the width of physical addresses out of the settings: None where it is not the host's, "" where that has no limit."""
    given = dict(setting.partition("=")[::2] for setting in parts.settings)
    if given.get("host-phys-bits") not in _ON:
        return None, parts
    others = tuple(setting for setting in parts.settings if setting.partition("=")[0] not in ("host-phys-bits", "host-phys-bits-limit"))
    return given.get("host-phys-bits-limit", ""), replace(parts, settings=others)


def _kubevirt(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    del cpu
    called = _in_libvirts_names(_with_mpx_told(parts, tables), tables)
    quoted = f'"{called.model}"' if called.model is not None and decimal(called.model) is not None else called.model  # 486 is no number
    lines = ["cpu:", f"  model: {quoted or 'host-passthrough'}"]
    if called.features:
        lines.append("  features:")
    for name, has in called.features.items():
        lines += [f"  - name: {name}", f"    policy: {'require' if has else 'disable'}"]
    where = "it belongs to spec.template.spec.domain of a VirtualMachine, spec.domain of a VirtualMachineInstance"
    return InWords("kubevirt", tuple(lines), (where, *called.notes), called.lost)


def _with_mpx_told(parts: _Parts, tables: Catalog) -> _Parts:
    """Name mpx where the model has it: of a model, KubeVirt takes it away unless it is named (pkg/…/converter/compute/cpu.go)."""
    model = tables.models.get(tables.model_aliases.get(parts.model) or parts.model)
    flag = tables.flags.get("mpx")
    if model is None or flag is None or "mpx" in parts.features or not model.features.get(flag.word, 0) & flag.mask:
        return parts
    return replace(parts, features={**parts.features, "mpx": True})


def _nova(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    del cpu
    width, parts = _addresses(parts)
    called = _in_libvirts_names(parts, tables)
    lines = ["[libvirt]", f"cpu_mode = {'host-passthrough' if called.model is None else 'custom'}"]
    if called.model is not None:
        lines.append(f"cpu_models = {called.model}")
    if called.features:
        lines.append("cpu_model_extra_flags = " + ",".join(f"{'+' if has else '-'}{name}" for name, has in called.features.items()))
    notes = ["it belongs to nova.conf of the compute node, for all its guests"]
    if width is not None:
        how = {"mode": "emulate", "bits": width} if width else {"mode": "passthrough"}
        lines += ["", "openstack flavor set FLAVOR " + " ".join(f"--property hw:maxphysaddr_{name}={value}" for name, value in how.items())]
        notes.append("the width of addresses is a flavor's, and an image may set it too")
    return InWords("nova", tuple(lines), (*notes, *called.notes), called.lost)


_PROXMOX_HAS = frozenset({"phys-bits", "guest-phys-bits", "level", "hv-vendor-id"})
"""Settings of QEMU's that are properties of Proxmox VE's cpu as well."""


def _proxmox(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    width, parts = _addresses(parts)
    model, own = _plain_name(parts.model, tables), manager_name(cpu, "Proxmox VE")
    properties = {} if width is None else {"phys-bits": width or "host"}
    lost: list[str] = []
    for setting in parts.settings:
        name, _, value = setting.partition("=")
        if setting == "kvm=off":
            properties["hidden"] = "1"
        elif name in _PROXMOX_HAS:
            properties[name] = value
        elif name.startswith("hv-"):
            lost.append(f"Proxmox VE sets Hyper-V's enlightenments by the VM's ostype: {setting}")
        elif (name, value) not in (("enforce", "on"), ("vendor", proxmox_models().get(model))):  # it says these by itself
            lost.append(f"no place in Proxmox VE's cpu: {setting}; its option args takes any argument of QEMU's")
    notes = (
        []
        if own or model == "host" or model in proxmox_models()
        else [f"an older Proxmox VE has no model {model}: it lists those that its QEMU brings"]
    )
    if (vendor := proxmox_models().get(model)) and not any(setting.startswith("vendor=") for setting in parts.settings):
        notes.append(f"Proxmox VE says vendor={vendor} of its own accord, as the model is, whoever made the host's processor")
    flags = ";".join(f"{'+' if has else '-'}{name}" for name, has in parts.features.items())
    if own is not None or parts.features.keys() <= proxmox_flags():
        said = {**({"flags": flags} if flags and own is None else {}), **properties}
        text = f"cpu: {own or model}" + "".join(f",{name}={value}" for name, value in said.items())
        return InWords("proxmox", (text,), tuple(notes), tuple(lost))
    lines = (
        "# /etc/pve/virtual-guest/cpu-models.conf",
        f"cpu-model: {CUSTOM}",
        f"    flags {flags}",
        f"    reported-model {model}",
        *(f"    {name} {value}" for name, value in properties.items()),
        "",
        "# /etc/pve/qemu-server/VMID.conf",
        f"cpu: custom-{CUSTOM}",
    )
    beyond = " ".join(name for name in parts.features if name not in proxmox_flags())
    why = f"a VM's own flags= does not take {beyond}, only a type of one's own does, here called {CUSTOM}"
    return InWords("proxmox", lines, (why, *notes), tuple(lost))


_INCUS = "instances.vm.cpu.x86_64"


def _incus(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    del cpu
    flags = (*parts.settings, *(f"{'+' if has else '-'}{name}" for name, has in parts.features.items()))
    keys = [f"{_INCUS}.baseline={_plain_name(parts.model, tables)}", *([f"{_INCUS}.flags={','.join(flags)}"] if flags else [])]
    notes = (
        "it is for virtual machines of a cluster group that may move (migration.stateful=true); GROUP is the group's name, or default",
        "before these flags Incus gives Hyper-V's enlightenments, and behind them -svm,-vmx where security.nesting is false",
    )
    return InWords("incus", (f"incus cluster group set GROUP {shlex.join(keys)}",), notes)


def _lxd(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    del parts, tables
    line = f"lxc config set INSTANCE {shlex.quote('raw.qemu=' + shlex.join(('-cpu', cpu)))}"
    return InWords(
        "lxd", (line,), ("LXD itself says -cpu host, and of two QEMU takes the last; a raw.qemu that is there already is replaced",)
    )


class _Called(NamedTuple):
    """A CPU in libvirt's names: the model, None for the host's own, and features; what else to know, and what it has no name for."""

    model: str | None
    features: dict[str, bool]
    notes: tuple[str, ...]
    lost: tuple[str, ...]


def _in_libvirts_names(parts: _Parts, tables: Catalog) -> _Called:
    features, lost, notes = dict[str, bool](), list[str](), list[str]()
    for name, has in parts.features.items():
        if (own := _libvirt_name(name)) is not None:
            features[own] = has
        else:
            lost.append(f"libvirt has no name for {name}, which is to be {'on' if has else 'off'}")
    lost += [f"no place in libvirt's <cpu>: {setting}" for setting in parts.settings]
    model: str | None = _plain_name(parts.model, tables)
    if model == "host":
        model = None
    elif model in ("max", "base"):
        lost.append(f"libvirt has no model {model}, which is QEMU's own")
    elif model == parts.model and model in tables.models:
        notes.append(f"not every libvirt knows {model}: virsh cpu-models x86_64 lists those that it has")
    return _Called(model, features, tuple(notes), tuple(lost))


def _libvirt_name(name: str) -> str | None:
    try:
        found = find_all(name)
    except InputError:
        return None
    return next((feature.libvirt for feature in found if feature.libvirt and name in [own.name for own in feature.qemu_names]), None)


def _plain_name(model: str, tables: Catalog) -> str:
    """Give the name without a version that always means this version of a model, which every libvirt of its time knows; else its own."""
    return next((alias for alias, version in tables.model_aliases.items() if version == model), model)


_WRITERS: dict[str, Callable[[str, _Parts, Catalog], InWords]] = {
    "qemu": _qemu,
    "libvirt": _libvirt,
    "kubevirt": _kubevirt,
    "nova": _nova,
    "proxmox": _proxmox,
    "incus": _incus,
    "lxd": _lxd,
}
MANAGERS = tuple(_WRITERS)
"""Whose words there are."""
