"""From the -cpu argument to the realized CPU: one call for everything up to CPUID's leaves.

QEMU, target/i386/cpu.c (x86_cpu_initfn, x86_cpu_realizefn), target/i386/host-cpu.c, target/i386/kvm/kvm-cpu.c.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from vcpuid import versions
from vcpuid.cpuid.registers import Snapshot, vendor_name
from vcpuid.errors import QemuError
from vcpuid.path.decisions import Ledger, Rule
from vcpuid.qemu import hyperv, properties
from vcpuid.qemu.catalog import HOST_MODELS, TYPE_SUFFIX, Catalog, Flag, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.expand import (
    KVM_DEFAULT_OFF,
    KVM_DEFAULT_ON,
    MACHINE_OFF,
    MACHINE_ON,
    USER_AVX10,
    USER_OFF,
    USER_ON,
    Draft,
    Shape,
    Switch,
    expand,
)
from vcpuid.qemu.filter import filter_features
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.supported import AMD_ALIASES, Supported
from vcpuid.qemu.topology import Topology

AMD_COPY = Rule("qemu.realize.amd-aliases", "AMD repeats these bits of leaf 1, so QEMU copies them", "x86_cpu_realizefn, target/i386/cpu.c")

_LM, _TOPOEXT = 1 << 29, 1 << 22
_PSE36, _PAE = 1 << 17, 1 << 6
_LBR_FORMAT = 0x3F
_MAX_PHYS_BITS, _MIN_PHYS_BITS, _TCG_PHYS_BITS = 52, 32, 40
_UNSET = 0xFFFFFFFF


_BLANK = {
    "vendor": "", "family": 0, "model": 0, "stepping": 0, "model-id": "",
    "tsc-frequency": 0, "lbr-fmt": None, "hv-vendor-id": None, "migratable": False,
}  # fmt: skip
"""Properties that are no plain fields of QEMU's CPU object, as they begin."""


class Plan(NamedTuple):
    """What a -cpu argument means on a machine type, whatever the host: `assigned` are the properties that it and the machine type set."""

    model: str
    assigned: dict[str, Any]
    switches: tuple[Switch, ...]
    late_error: str | None
    option: properties.CpuOption


@lru_cache(maxsize=1024)
def plan(release: str, machine_name: str, cpu: str) -> Plan:
    """Read a -cpu argument for a machine type; raises QemuError with QEMU's message."""
    tables, machine = catalog(release), find_machine(release, machine_name)
    name = properties.model_of(cpu)
    model = tables.resolve_model(name, machine)
    option = properties.parse(cpu)
    type_name = name + TYPE_SUFFIX
    ancestors = {type_name, TYPE_SUFFIX[1:]} | ({"max" + TYPE_SUFFIX} if name == "host" else set())
    assigned: dict[str, Any] = {}
    switches: list[Switch] = []
    if model not in HOST_MODELS and model != "base":
        for flag, on in tables.kvm_defaults(machine):
            switches.append(Switch(flag, on, KVM_DEFAULT_ON if on else KVM_DEFAULT_OFF))
    settings = [(name, text, False) for kind, name, text in machine.compat if kind in ancestors]
    settings += [(name, text, True) for name, text in option.settings]
    for prop, text, by_user in settings:
        try:
            found = properties.find(tables, type_name, prop)
            if isinstance(found, Flag):
                on = properties.boolean(prop, text)
                rule = (USER_ON if on else USER_OFF) if by_user else (MACHINE_ON if on else MACHINE_OFF)
                switches.append(Switch(found, on, rule))
            else:
                assigned[found] = properties.value(tables, type_name, found, text, prop)
                if found == "avx10-version" and tables.number >= (11, 0):
                    switches += _avx10(tables, assigned[found])
        except QemuError as error:
            raise QemuError(f"can't apply global {type_name}.{prop}={text}: {error.message}", option.warnings) from None
    late_error = None
    for names, on in ((option.plus, True), (option.minus, False)):
        for prop in names:
            try:
                found = properties.find(tables, type_name, prop)
                if isinstance(found, Flag):
                    switches.append(Switch(found, on, USER_ON if on else USER_OFF))
                else:
                    assigned[found] = properties.switch(tables, found, on, prop)
            except QemuError as error:
                late_error = late_error or error.message
    return Plan(model, assigned, tuple(switches), late_error, option)


def _avx10(tables: Catalog, version: int) -> list[Switch]:
    """What setting AVX10's version switches on since QEMU 11.0."""
    names = ("avx10", "avx10-128", "avx10-256", "avx10-512", "avx10-vnni-int")[: 0 if version == 0 else 4 if version == 1 else 5]
    return [Switch(tables.flags[name], True, USER_AVX10, asked=False) for name in names]


def realize(
    cpu: str, host: Snapshot, qemu: str = "11.1", machine: str = "q35", topology: Topology | None = None, *, kernel: str = "6.12",
    xcr0: int | None = None,
) -> CpuState:
    """Work out the CPU that `-cpu CPU -machine MACHINE` makes on a host; every vCPU of a guest is the same but for its number.

    Where `host` has no SUP lines they are modelled for `kernel`; `xcr0` is as in `Supported`. Raises QemuError with QEMU's message, and its warnings so far, where QEMU
    refuses; UnavailableError where hv-passthrough needs what `host` does not hold.
    """
    release = versions.qemu(qemu)
    found = plan(release, find_machine(release, machine).name, cpu)
    if host.supported is None:
        from vcpuid import kvm

        host = replace(host, supported=kvm.supported(host, kernel=kernel).table)
    draft = draw(found, release, machine, host, xcr0)
    draft.warnings += found.option.warnings
    once = list(found.option.warnings)
    topology = topology or Topology()
    late = _lacking_pmu(draft, host)
    try:
        _realize(draft, found, host, topology, once, late)
    except QemuError as error:
        raise QemuError(error.message, (*draft.warnings, *error.warnings)) from None
    return _state(draft, found, once, late)


def draw(found: Plan, release: str, machine: str, host: Snapshot, xcr0: int | None = None) -> Draft:
    """Create the CPU: its model's properties, what the host gives to it, and what the machine type and -cpu set."""
    tables, ledger = catalog(release), Ledger()
    props: dict[str, Any] = {**tables.defaults, **_BLANK}
    described = find_machine(release, machine)
    supported = Supported(tables, described, host, ledger, xcr0)
    if found.model != "base" or tables.number >= (10, 1):
        props["vendor"] = vendor_name(host.raw.registers(0))
    model = tables.models.get(found.model)
    base: dict[str, int] | None = {}
    if model is not None:
        base = dict(model.features)
        props.update({"family": model.family, "model": model.model, "stepping": model.stepping, "model-id": model.model_id})
        props.update({"min-level": model.level, "min-xlevel": model.xlevel, "legacy-cache": model.cache is None, **model.props})
    elif found.model in HOST_MODELS:
        base = None
        props.update(_host_properties(host, supported))
    props.update(found.assigned)
    return Draft(tables, described, supported, ledger, base, found.switches, props, {}, {}, {}, [])


def _host_properties(host: Snapshot, supported: Supported) -> dict[str, Any]:
    """What "max" and "host" take from the host besides features (host_cpu_instance_init, kvm_cpu_max_instance_init)."""
    signature = host.raw.registers(1).eax
    name = b"".join(
        value.to_bytes(4, "little") for leaf in (0x80000002, 0x80000003, 0x80000004) for value in host.raw.registers(leaf)
    )
    return {
        "family": (signature >> 8 & 0xF) + (signature >> 20 & 0xFF),
        "model": signature >> 4 & 0xF | signature >> 12 & 0xF0,
        "stepping": signature & 0xF,
        "model-id": name.split(b"\0")[0].decode("latin-1"),
        "host-phys-bits": True,
        "pmu": True,
        "migratable": True,
        "min-level": supported.leaf(0).eax,
        "min-xlevel": supported.leaf(0x80000000).eax,
        "min-xlevel2": supported.leaf(0xC0000000).eax,
    }


def _lacking_pmu(draft: Draft, host: Snapshot) -> list[str]:
    """Complain of a PMU wanted by a guest CPU whose vendor's the host's is not like (QEMU 11.1, while a vCPU is set up)."""
    if draft.catalog.number < (11, 0) or not draft.props["pmu"]:
        return []
    alike = ("GenuineIntel", "CentaurHauls", "  Shanghai  "), ("AuthenticAMD",)
    pair = (draft.props["vendor"], host.vendor)
    return [] if any(pair[0] in group and pair[1] in group for group in alike) else ["host doesn't support requested feature: vPMU"]


def _realize(draft: Draft, found: Plan, host: Snapshot, topology: Topology, once: list[str], late: list[str]) -> None:
    props = draft.props
    draft.warnings += hyperv.prepare(props, host.hyperv)
    if not draft.machine.is_pc:
        props["host-phys-bits"] = True  # microvm_device_pre_plug_cb, hw/i386/microvm.c
    if props.get("x-vendor-cpuid-only-v2") and not props["x-vendor-cpuid-only"]:
        raise QemuError("x-vendor-cpuid-only-v2 property depends on x-vendor-cpuid-only")
    if found.late_error is not None:
        raise QemuError(found.late_error)
    expand(draft, Shape(topology.threads_per_package, topology.extended))
    hyperv.expand(props, host.hyperv, draft.catalog.number)
    _check_lbr(draft)
    if filter_features(draft, bool(props["check"] or props["enforce"])) and props["enforce"]:
        raise QemuError("Host doesn't support requested features")
    if draft.is_amd:
        extended = draft.catalog.by_name["FEAT_8000_0001_EDX"]
        before = draft.features[extended.name]
        after = before & ~AMD_ALIASES | draft.features["FEAT_1_EDX"] & AMD_ALIASES
        draft.features[extended.name] = draft.ledger.copy(extended.word, before, after, AMD_COPY)
    _address_bits(draft, host, topology, once, late)
    if not props["legacy-cache"] and (found.model not in draft.catalog.models or draft.catalog.models[found.model].cache is None):
        raise QemuError(f"CPU model '{found.option.model}' doesn't support legacy-cache=off")


def _check_lbr(draft: Draft) -> None:
    """Let lbr-fmt choose the format of last branch records, which has to be the host's."""
    props, name = draft.props, "FEAT_PERF_CAPABILITIES"
    if props["lbr-fmt"] is not None:
        draft.features[name] = draft.features[name] & ~_LBR_FORMAT | props["lbr-fmt"]
    asked = draft.features[name] & _LBR_FORMAT
    if not asked:
        return
    if not props["pmu"]:
        raise QemuError("vPMU: LBR is unsupported without pmu=on")
    of_host = draft.supported.words[name] & _LBR_FORMAT
    if asked != of_host:
        raise QemuError(f"vPMU: the lbr-fmt value (0x{asked:x}) does not match the host value (0x{of_host:x}).")


def _host_phys_bits(host: Snapshot) -> int:
    """host_cpu_phys_bits."""
    return host.raw.registers(0x80000008).eax & 0xFF if host.raw.registers(0x80000000).eax >= 0x80000008 else 36


def _address_bits(draft: Draft, host: Snapshot, topology: Topology, once: list[str], late: list[str]) -> None:
    """Settle phys-bits and guest-phys-bits (host_cpu_adjust_phys_bits, kvm_set_guest_phys_bits, x86_cpu_realizefn)."""
    props, number = draft.props, draft.catalog.number
    long_mode = draft.has("FEAT_8000_0001_EDX", _LM)
    of_host, limit = _host_phys_bits(host), props["host-phys-bits-limit"]
    if long_mode:
        asked = props["phys-bits"]
        if asked not in (0, of_host):
            once.append(f"Host physical bits ({of_host}) does not match phys-bits property ({asked})")
            draft.warnings.append(once[-1])
        if props["host-phys-bits"]:
            props["phys-bits"] = min(of_host, limit) if limit else of_host
    guest = props.get("guest-phys-bits", 0)
    if guest == _UNSET:
        guest = 0
        if long_mode:
            guest = min(draft.supported.leaf(0x80000008).eax >> 16 & 0xFF, props["phys-bits"])
            if limit and props["host-phys-bits"]:
                guest = min(guest, limit)
    threads = topology.threads
    if draft.is_amd and not draft.has("FEAT_8000_0001_ECX", _TOPOEXT) and threads > 1:
        complaint = _no_hyperthreading(threads, number)
        once += complaint
        if number < (8, 0):
            late += complaint
        else:
            draft.warnings += complaint
    phys = props["phys-bits"]
    if not long_mode:
        if phys:
            raise QemuError("phys-bits is not user-configurable in 32 bit")
        if guest:
            raise QemuError("guest-phys-bits is not user-configurable in 32 bit")
        wide = _PSE36 | _PAE if number >= (8, 0) else _PSE36
        phys = 36 if draft.has("FEAT_1_EDX", wide) else 32
    else:
        if number >= (11, 0) and phys and phys < _MIN_PHYS_BITS:
            raise QemuError(f"phys-bits should be at least {_MIN_PHYS_BITS} (but is {phys})")
        if number < (11, 0) and phys and not _MIN_PHYS_BITS <= phys <= _MAX_PHYS_BITS:
            raise QemuError(f"phys-bits should be between {_MIN_PHYS_BITS} and {_MAX_PHYS_BITS}  (but is {phys})")
        phys = phys or _TCG_PHYS_BITS
        if guest and not _MIN_PHYS_BITS <= guest <= phys:
            raise QemuError(f"guest-phys-bits should be between {_MIN_PHYS_BITS} and {phys}  (but is {guest})")
    props["phys-bits"], props["guest-phys-bits"] = phys, guest


def _no_hyperthreading(threads: int, number: tuple[int, int]) -> list[str]:
    first = f"This family of AMD CPU doesn't support hyperthreading({threads})"
    second = "Please configure -smp options properly or try enabling topoext feature."
    return [first, second] if number < (8, 0) else [f"{first}. {second}"]


def _state(draft: Draft, found: Plan, once: list[str], late: list[str]) -> CpuState:
    props = draft.props
    return CpuState(
        release=draft.catalog.release,
        machine=draft.machine.name,
        model=found.model,
        vendor=props["vendor"],
        family=props["family"],
        model_number=props["model"],
        stepping=props["stepping"],
        model_id=props["model-id"],
        level=props["level"],
        xlevel=props["xlevel"],
        xlevel2=props["xlevel2"],
        level_func7=props["level-func7"],
        phys_bits=props["phys-bits"],
        guest_phys_bits=props["guest-phys-bits"],
        features=draft.features,
        user_features=draft.user,
        props=props,
        warnings=draft.warnings,
        late_warnings=late,
        once=once,
        decisions=draft.ledger.decisions,
    )
