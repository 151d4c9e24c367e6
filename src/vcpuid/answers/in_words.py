"""A -cpu argument in the words of those who manage guests: Proxmox VE, KubeVirt, OpenStack Nova, libvirt, QEMU itself.

Each has a place for the model and for features that are on or off; what it has no place or no name for is told beside the text, never
left out in silence. Where the forms come from:

- libvirt: formatdomain, "CPU model and topology" (https://libvirt.org/formatdomain.html).
- KubeVirt: kubevirt.io/api, core/v1, CPU and CPUFeature: libvirt's names of models and features.
- Nova: nova/conf/libvirt.py and doc/source/admin/cpu-models.rst: cpu_mode, cpu_models, cpu_model_extra_flags, likewise libvirt's names.
- Proxmox VE: src/PVE/QemuServer/CPUConfig.pm and CPUFlags.pm of qemu-server: the option `cpu` of one VM takes some flags and no others
  (`vcpuid.qemu.managers.proxmox_flags`), a type of one's own in cpu-models.conf takes any of QEMU's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vcpuid.cpuid.names import find_all
from vcpuid.errors import InputError
from vcpuid.numbers import decimal
from vcpuid.qemu.catalog import Catalog
from vcpuid.qemu.managers import manager_name, proxmox_flags
from vcpuid.qemu.properties import parse
from vcpuid.releases import number

_CUSTOM = "mine"
"""The name of a type of one's own in what is written for Proxmox VE."""
_ON, _OFF = frozenset({"on", "yes", "true", "y"}), frozenset({"off", "no", "false", "n"})


@dataclass(frozen=True, slots=True)
class InWords:
    """What to write where: `lines` in the manager's own form, `remarks` on what it cannot hold and what else to know."""

    manager: str
    lines: tuple[str, ...]
    remarks: tuple[str, ...] = ()

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
    addresses, settings = _addresses(parts.settings)
    model, features, remarks = _in_libvirts_names(replace(parts, settings=settings), tables)
    body = [] if model is None else [f"  <model fallback='forbid'>{model}</model>"]
    body += addresses
    body += [f"  <feature policy='{'require' if has else 'disable'}' name='{name}'/>" for name, has in features.items()]
    mode = "mode='host-passthrough'" if model is None else "mode='custom' match='exact'"
    return InWords("libvirt", (f"<cpu {mode}>", *body, "</cpu>") if body else (f"<cpu {mode}/>",), remarks)


def _addresses(settings: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """Write the width of physical addresses as <maxphysaddr>, whose limit libvirt has since 9.3; give the other settings too."""
    given = dict(setting.partition("=")[::2] for setting in settings)
    if given.get("host-phys-bits") not in _ON:
        return [], settings
    limit = given.get("host-phys-bits-limit")
    others = tuple(setting for setting in settings if setting.partition("=")[0] not in ("host-phys-bits", "host-phys-bits-limit"))
    bound = "" if limit is None else f" limit='{limit}'"
    return [f"  <maxphysaddr mode='passthrough'{bound}/>"], others


def _kubevirt(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    del cpu
    model, features, remarks = _in_libvirts_names(parts, tables)
    model = "host-passthrough" if model is None else f'"{model}"' if decimal(model) is not None else model  # 486 is no number
    lines = ["cpu:", f"  model: {model}"]
    if features:
        lines.append("  features:")
    for name, has in features.items():
        lines += [f"  - name: {name}", f"    policy: {'require' if has else 'disable'}"]
    where = "it belongs to spec.template.spec.domain of a VirtualMachine, spec.domain of a VirtualMachineInstance"
    return InWords("kubevirt", tuple(lines), (where, *remarks))


def _nova(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    del cpu
    model, features, remarks = _in_libvirts_names(parts, tables)
    lines = ["[libvirt]", f"cpu_mode = {'host-passthrough' if model is None else 'custom'}"]
    if model is not None:
        lines.append(f"cpu_models = {model}")
    if features:
        lines.append("cpu_model_extra_flags = " + ",".join(f"{'+' if has else '-'}{name}" for name, has in features.items()))
    where = "it belongs to nova.conf of the compute node, for all its guests"
    return InWords("nova", tuple(lines), (where, *remarks))


def _proxmox(cpu: str, parts: _Parts, tables: Catalog) -> InWords:
    model = _plain_name(parts.model, tables)
    hidden = ",hidden=1" if "kvm=off" in parts.settings else ""
    settings = tuple(setting for setting in parts.settings if setting != "kvm=off")
    remarks = [
        f"Proxmox VE sets Hyper-V's enlightenments by the VM's ostype: {setting}"
        if setting.startswith("hv-")
        else f"no place in Proxmox VE's cpu: {setting}; its option args takes any argument of QEMU's"
        for setting in settings
    ]
    flags = ";".join(f"{'+' if has else '-'}{name}" for name, has in parts.features.items())
    own = manager_name(cpu, "Proxmox VE")
    if own is not None or parts.features.keys() <= proxmox_flags():
        text = f"cpu: {own or model}" + (f",flags={flags}" if flags and own is None else "") + hidden
        return InWords("proxmox", (text,), tuple(remarks))
    lines = (
        "# /etc/pve/virtual-guest/cpu-models.conf",
        f"cpu-model: {_CUSTOM}",
        f"    flags {flags}",
        f"    reported-model {model}",
        *(["    hidden 1"] if hidden else []),
        "",
        "# /etc/pve/qemu-server/VMID.conf",
        f"cpu: custom-{_CUSTOM}",
    )
    beyond = " ".join(name for name in parts.features if name not in proxmox_flags())
    why = f"a VM's own flags= does not take {beyond}, only a type of one's own does, here called {_CUSTOM}"
    return InWords("proxmox", lines, (why, *remarks))


def _in_libvirts_names(parts: _Parts, tables: Catalog) -> tuple[str | None, dict[str, bool], tuple[str, ...]]:
    """Give the model, None for the host's own, and the features as libvirt calls them, and remarks on what it has no name for."""
    features, remarks = {}, []
    for name, has in parts.features.items():
        if (own := _libvirt_name(name)) is not None:
            features[own] = has
        else:
            remarks.append(f"libvirt has no name for {name}, which is to be {'on' if has else 'off'}")
    remarks += [f"no place in libvirt's <cpu>: {setting}" for setting in parts.settings]
    model = _plain_name(parts.model, tables)
    if model == "host":
        return None, features, tuple(remarks)
    if model in ("max", "base"):
        remarks.append(f"libvirt has no model {model}, which is QEMU's own")
    if model == parts.model and model in tables.models:
        remarks.append(f"not every libvirt knows {model}: virsh cpu-models x86_64 lists those that it has")
    return model, features, tuple(remarks)


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
}
MANAGERS = tuple(_WRITERS)
"""Whose words there are."""
