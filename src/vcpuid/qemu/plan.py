"""What a -cpu argument means on a machine type, before any host comes into it.

QEMU, target/i386/cpu.c (x86_cpu_parse_featurestr, x86_cpu_load_model), target/i386/kvm/kvm-cpu.c (kvm_default_props), hw/i386/pc.c
(pc_compat_*): all of them set properties, and the later one wins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vcpuid.errors import QemuError
from vcpuid.qemu import global_option, messages, properties
from vcpuid.qemu.catalog import HOST_MODELS, TYPE_SUFFIX, Catalog, Flag, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.draft import FeatureSwitch
from vcpuid.qemu.kept import kept
from vcpuid.qemu.values import boolean
from vcpuid.reasons import Rule

KVM_DEFAULT_ON = Rule("qemu.kvm.default-on", "with KVM, QEMU switches it on in every model", "kvm_default_props, target/i386/kvm/kvm-cpu.c")
KVM_DEFAULT_OFF = Rule(
    "qemu.kvm.default-off", "with KVM, QEMU switches it off in every model", "kvm_default_props, target/i386/kvm/kvm-cpu.c",
    remedy="name it with +feature",
)  # fmt: skip
MACHINE_ON = Rule("qemu.machine.on", "this machine type keeps it on, for guests of an older QEMU", "pc_compat_*, hw/i386/pc.c")
MACHINE_OFF = Rule(
    "qemu.machine.off", "this machine type keeps it off, for guests of an older QEMU", "pc_compat_*, hw/i386/pc.c",
    remedy="use a newer machine type",
)  # fmt: skip
USER_ON = Rule("qemu.user.on", "-cpu asks for it", "x86_cpu_parse_featurestr, target/i386/cpu.c")
USER_AVX10 = Rule(
    "qemu.user.avx10-version", "this version of AVX10 has it", "x86_cpu_apply_avx10_features, target/i386/cpu.c",
    since="11.0",
)  # fmt: skip
USER_OFF = Rule("qemu.user.off", "-cpu switches it off", "x86_cpu_parse_featurestr, target/i386/cpu.c", remedy="drop it from -cpu")
GLOBAL_ON = Rule("qemu.global.on", "-global asks for it", "qdev_prop_set_globals, hw/core/qdev-properties.c")
GLOBAL_OFF = Rule(
    "qemu.global.off", "-global switches it off", "qdev_prop_set_globals, hw/core/qdev-properties.c", remedy="drop it from -global"
)  # fmt: skip
_BY_MACHINE, _BY_GLOBAL, _BY_USER = (MACHINE_OFF, MACHINE_ON), (GLOBAL_OFF, GLOBAL_ON), (USER_OFF, USER_ON)
"""The rules of whoever sets a feature: by which it is switched off, and on."""

_ISAPC_CPUS = frozenset({"486", "athlon", "kvm32", "pentium", "pentium2", "pentium3", "qemu32"})
"""What isapc takes without a warning (pc_init_isa, hw/i386/isapc.c)."""


class CpuRequest(NamedTuple):
    """What a -cpu argument means on a machine type, whatever the host: `assigned` are the properties that it and the machine type set.

    `warnings` are what QEMU prints of it before it makes a CPU.
    """

    model: str
    assigned: dict[str, Any]
    switches: tuple[FeatureSwitch, ...]
    late_error: str | None
    option: properties.CpuOption
    warnings: tuple[str, ...]


@kept(1024)
def plan(release: str, machine_text: str, cpu: str, given: tuple[str, ...] = ()) -> CpuRequest:
    """Read a -cpu argument for a -machine argument, `given` being the -global ones; raises QemuError with QEMU's message."""
    tables, machine = catalog(release), find_machine(release, machine_text)
    name = properties.model_of(cpu)
    model = tables.resolve_model(name, machine)
    option = properties.parse(cpu, tables.number)
    type_name = name + TYPE_SUFFIX
    warnings = option.warnings
    if (note := tables.deprecation(model)) is not None:
        warnings += (messages.DEPRECATED_MODEL(type=type_name, note=note),)
    if machine.name == "isapc" and tables.number >= (10, 2) and name not in _ISAPC_CPUS:
        warnings += (messages.ISAPC_CPU(type=type_name),)
    if machine.name == "nitro":
        raise QemuError(messages.NITRO(), warnings)
    ancestors = {type_name, TYPE_SUFFIX[1:]} | ({"max" + TYPE_SUFFIX} if name == "host" else set())
    assigned: dict[str, Any] = {}
    switches: list[FeatureSwitch] = []
    if model not in HOST_MODELS and model != "base":
        for flag, on in tables.kvm_defaults(machine):
            switches.append(FeatureSwitch(flag, on, KVM_DEFAULT_ON if on else KVM_DEFAULT_OFF))
    settings = [(type_name, name, text, _BY_MACHINE) for kind, name, text in machine.compat if kind in ancestors]
    if given:
        settings += [(*found, _BY_GLOBAL) for found in global_option.of_cpu(given, ancestors)]
    settings += [(type_name, name, text, _BY_USER) for name, text in option.settings]
    for driver, prop, text, rules in settings:
        try:
            found = properties.find(tables, type_name, prop)
            if isinstance(found, Flag):
                on = boolean(properties.spelled(tables, prop), text)
                switches.append(FeatureSwitch(found, on, rules[on]))
            else:
                assigned[found] = properties.value(tables, found, text, properties.spelled(tables, prop))
                if found == "avx10-version" and tables.number >= (11, 0):
                    switches += _avx10(tables, assigned[found])
        except QemuError as error:
            raise QemuError(messages.GLOBAL(type=driver, property=prop, value=text, cause=error.message), warnings) from None
    late_error = None
    for names, on in ((option.plus, True), (option.minus, False)):
        for prop in names:
            try:
                found = properties.find(tables, type_name, prop)
                if isinstance(found, Flag):
                    switches.append(FeatureSwitch(found, on, USER_ON if on else USER_OFF))
                else:
                    assigned[found] = properties.switch(tables, found, on, properties.spelled(tables, prop))
            except QemuError as error:
                late_error = late_error or error.message
    return CpuRequest(model, assigned, tuple(switches), late_error, option, warnings)


def _avx10(tables: Catalog, version: int) -> list[FeatureSwitch]:
    """What setting AVX10's version switches on since QEMU 11.0."""
    names = ("avx10", "avx10-128", "avx10-256", "avx10-512", "avx10-vnni-int")[: 0 if version == 0 else 4 if version == 1 else 5]
    return [FeatureSwitch(tables.flags[name], True, USER_AVX10, asked=False) for name in names]
