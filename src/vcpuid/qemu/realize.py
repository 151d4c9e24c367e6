"""From the -cpu argument to the realized CPU: one call for everything up to CPUID's leaves.

QEMU, target/i386/cpu.c (x86_cpu_initfn, x86_cpu_realizefn), target/i386/host-cpu.c, target/i386/kvm/kvm-cpu.c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vcpuid.cpuid import bits, vendors
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.registers import Snapshot, brand_string
from vcpuid.errors import QemuError
from vcpuid.kvm.answers import Answers, kvm_says
from vcpuid.params import Given
from vcpuid.qemu import address_bits, caches, hyperv, messages
from vcpuid.qemu.catalog import HOST_MODELS, Catalog, MachineType, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.draft import Draft
from vcpuid.qemu.expand import Shape, expand
from vcpuid.qemu.filter import filter_features
from vcpuid.qemu.plan import CpuRequest, plan
from vcpuid.qemu.stable import mended
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.supported import AMD_ALIASES, Supported, host_signature, supported
from vcpuid.qemu.topology import GuestTopology
from vcpuid.qemu.unknown import hinting
from vcpuid.reasons import Decision, Ledger, Rule, Unrecorded
from vcpuid.reasons.lazy import LazySequence
from vcpuid.releases import Release
from vcpuid.setup import Setup, settled

AMD_COPY = Rule("qemu.realize.amd-aliases", "AMD repeats these bits of leaf 1, so QEMU copies them", "x86_cpu_realizefn, target/i386/cpu.c")
LBR_FORMAT = Rule("qemu.realize.lbr-fmt", "the property lbr-fmt names the format", "x86_cpu_realizefn, target/i386/cpu.c")

_TOPOEXT, _APIC = bits.TOPOEXT.mask, bits.APIC.mask
NOWHERE = -1
"""The number of a socket, of a core, of a node that nobody gave."""
PLACES = frozenset({"socket-id", "die-id", "module-id", "core-id", "thread-id", "node-id"})
"""Properties that say where a vCPU is."""
_LBR_FORMAT = 0x3F
_PMU_VENDORS = (vendors.INTEL, vendors.CENTAUR, vendors.ZHAOXIN), (vendors.AMD,)
"""Vendors with one kind of performance monitoring unit each."""
_K7 = 6
_CRASH = "Segmentation fault"
"""What the shell says of a QEMU that looked for the caches of a CPU without a model, and that said nothing itself (8.2.2)."""

_BLANK = {
    "vendor": "", "family": 0, "model": 0, "stepping": 0, "model-id": "",
    "tsc-frequency": 0, "lbr-fmt": None, "hv-vendor-id": None, "migratable": False,
}  # fmt: skip
"""Properties that are no plain fields of QEMU's CPU object, as they begin."""


def realize(
    cpu: str,
    host: Snapshot | Setup,
    qemu: str | Release | None = None,
    machine: str = "q35",
    topology: GuestTopology | None = None,
    *,
    kernel: str | Release | None = None,
    params: Given | None = None,
    xcr0: int | None = None,
) -> CpuState:
    """Work out the CPU that `-cpu CPU -machine MACHINE` makes on a host; every vCPU of a guest is the same but for its number.

    `host` is a snapshot, or a Setup, which holds QEMU's release, the machine type and all else. Where it has no SUP lines they are
    modelled for `kernel` (by default the snapshot's own) and its `params`; `xcr0` is as in `Supported`. Raises QemuError with QEMU's
    message, and its warnings so far, where QEMU refuses.
    """
    setup = settled(host, kernel=kernel, qemu=qemu, machine=machine, params=params, observed=True)
    with hinting(cpu, setup):
        return realized(cpu, setup, topology or GuestTopology(), xcr0)


def realized(cpu: str, setup: Setup, topology: GuestTopology, xcr0: int | None) -> CpuState:
    """Realize a CPU on a settled host."""
    return realized_for(cpu, setup, kvm_says(setup), topology, xcr0)


def realized_for(cpu: str, setup: Setup, says: Answers, topology: GuestTopology, xcr0: int | None) -> CpuState:
    """Realize a CPU by what KVM answers, whatever else the host is. Its decisions are worked out on the host, when they are looked at."""
    found = plan(setup.vmm.tables, setup.machine, cpu, setup.globals)
    draft = _realized(found, setup, says, topology, xcr0, Unrecorded())
    return _state(draft, found, LazySequence(lambda: _realized(found, setup, kvm_says(setup), topology, xcr0, Ledger()).ledger.decisions))


def _realized(found: CpuRequest, setup: Setup, says: Answers, topology: GuestTopology, xcr0: int | None, ledger: Ledger) -> Draft:
    draft = draw(found, catalog(setup.vmm.tables), find_machine(setup.vmm.tables, setup.machine), says, xcr0, ledger)
    try:
        _realize(draft, found, says, topology)
    except QemuError as error:
        raise QemuError(error.message, (*draft.warnings, *error.warnings)) from None
    return draft


def draw(found: CpuRequest, tables: Catalog, machine: MachineType, host: Answers, xcr0: int | None, ledger: Ledger) -> Draft:
    """Create the CPU: its model's properties, what the host gives to it, and what the machine type and -cpu set."""
    able = supported(tables, machine, host, ledger, xcr0)
    of_host = host_properties(host_signature(host), brand_string(host.raw), able, tables.number) if found.model in HOST_MODELS else {}
    if found.model != "base" or tables.number >= (10, 1):
        of_host["vendor"] = host.vendor
    return draw_on(found, tables, machine, able, of_host, ledger)


def draw_on(found: CpuRequest, tables: Catalog, machine: MachineType, able: Supported, of_host: Mapping[str, Any], ledger: Ledger) -> Draft:
    """Create the CPU on an accelerator that supports so much; `of_host` are the properties that the CPU takes from it."""
    props: dict[str, Any] = {**tables.defaults, **_BLANK, **of_host, **dict(machine.own)}
    model = tables.models.get(found.model)
    base: dict[str, int] | None = {}
    if model is not None:
        base = dict(model.features)
        props.update({"family": model.family, "model": model.model, "stepping": model.stepping, "model-id": model.model_id})
        props.update({"min-level": model.level, "min-xlevel": model.xlevel, "legacy-cache": model.cache is None, **model.props})
    elif found.model in HOST_MODELS:
        base = None
    props.update(found.assigned)
    draft = Draft(tables, machine, able, ledger, base, found.switches, props)
    draft.warnings += found.warnings
    draft.once += found.warnings
    return draft


def host_properties(signature: tuple[int, int, int], brand: str, able: Supported, release: tuple[int, int]) -> dict[str, Any]:
    """What "max" and "host" take from the host besides features (host_cpu_instance_init, kvm_cpu_max_instance_init)."""
    family, model, stepping = signature
    return {
        "family": family,
        "model": model,
        "stepping": stepping,
        "model-id": brand,
        "host-phys-bits": release >= (6, 0),
        "pmu": True,
        "migratable": True,
        "min-level": able.leaf(0).eax,
        "min-xlevel": able.leaf(0x80000000).eax,
        "min-xlevel2": able.leaf(0xC0000000).eax,
    }


def _realize(draft: Draft, found: CpuRequest, host: Answers, topology: GuestTopology) -> None:
    props = draft.props
    if not PLACES.isdisjoint(found.assigned):
        check_place(props, topology, 0)
    host_hyperv = host.hyperv if hyperv.enabled(props) else None
    number = draft.catalog.number
    hyperv.prepare(props, host_hyperv)
    if number >= hyperv.EXPANDED:
        draft.warnings += hyperv.vendor_warnings(props)
    if draft.machine.name == "microvm":
        props["host-phys-bits"] = True  # microvm_device_pre_plug_cb, hw/i386/microvm.c
    if props.get("x-vendor-cpuid-only-v2") and not props["x-vendor-cpuid-only"]:
        raise QemuError(messages.VENDOR_ONLY())
    if found.late_error is not None:
        raise QemuError(found.late_error)
    expand(draft, Shape(topology.threads_per_package, topology.extended))
    draft.hyperv = hyperv.expand(props, host_hyperv, draft.catalog.number)
    _check_lbr(draft)
    if filter_features(draft, bool(props["check"] or props["enforce"])) and props["enforce"]:
        raise QemuError(messages.ENFORCED())
    if draft.is_amd:
        extended = draft.catalog.by_name["FEAT_8000_0001_EDX"]
        before = draft.features[extended.name]
        after = before & ~AMD_ALIASES | draft.features["FEAT_1_EDX"] & AMD_ALIASES
        draft.features[extended.name] = draft.ledger.copy(extended.word, before, after, AMD_COPY)
    phys_bits = address_bits.adjust(draft, host)
    _check_threads(draft, topology)
    address_bits.settle(draft, *phys_bits)
    model = draft.catalog.models.get(found.model)
    if not props["legacy-cache"] and (model is None or model.cache is None):
        if model is None and number >= (8, 1) and not mended(number, (11, 0), (10, 0)):
            raise QemuError(_CRASH)
        raise QemuError(messages.NO_LEGACY_CACHE(model=found.option.model))
    if draft.machine.caches:
        caches.check(found.model, draft)
    if (6, 0) <= number < hyperv.EXPANDED:
        draft.warnings += hyperv.vendor_warnings(props)
    elif number < (6, 0) and draft.hyperv is not None and not props["hv-passthrough"]:
        draft.late_warnings += hyperv.vendor_warnings(props)
    _check_apic(draft, topology)
    _check_pmu(draft, host)


def check_place(props: Mapping[str, Any], topology: GuestTopology, number: int) -> None:
    """Refuse a vCPU that -cpu puts elsewhere than its number does (x86_cpu_pre_plug, numa_cpu_pre_plug); raises QemuError.

    There is no NUMA node but 0, which is what there is no -numa for.
    """
    for level, given in topology.place(number):
        asked = props.get(f"{level}-id", NOWHERE)
        if asked not in (NOWHERE, given):
            apic_id = topology.apic_id(number)
            raise QemuError(messages.PLACE(level=level, asked=asked & 0xFFFFFFFF, apic=apic_id, given=given))
    if props["node-id"] not in (NOWHERE, 0):
        raise QemuError(messages.NODE(node=0))


def _check_apic(draft: Draft, topology: GuestTopology) -> None:
    """Refuse an APIC outside the kernel, or warn of it as QEMU 6.0 to 7.2 do (x86_cpu_apic_create, apic_realize)."""
    if draft.machine.irqchip != "off" or not (draft.has("FEAT_1_EDX", _APIC) or topology.cpus > 1):
        return
    if draft.catalog.number >= (8, 0):
        raise QemuError(messages.NO_USER_APIC())
    if draft.catalog.number < (6, 0):
        return
    draft.late_warnings += [messages.USER_APIC(), messages.USER_APIC_ISAPC()]


def _check_lbr(draft: Draft) -> None:
    """Let lbr-fmt choose the format of last branch records, which has to be the host's."""
    props, name = draft.props, "FEAT_PERF_CAPABILITIES"
    if props["lbr-fmt"] is not None:
        before = draft.features[name]
        after = before & ~_LBR_FORMAT | props["lbr-fmt"]
        draft.features[name] = draft.ledger.compute(draft.catalog.by_name[name].word, before, after, LBR_FORMAT)
    asked = draft.features[name] & _LBR_FORMAT
    if not asked or draft.catalog.number < (7, 1):
        return
    if not props["pmu"]:
        raise QemuError(messages.LBR_WITHOUT_PMU())
    of_host = draft.supported.words[name] & _LBR_FORMAT
    if asked != of_host:
        raise QemuError(messages.LBR_FORMAT(asked=asked, host=of_host))


def _check_threads(draft: Draft, topology: GuestTopology) -> None:
    """Warn of threads that the guest's AMD CPU cannot have; up to QEMU 9.2 that is done once the vCPU is set up."""
    if not draft.is_amd or draft.has("FEAT_8000_0001_ECX", _TOPOEXT) or topology.threads <= 1:
        return
    if draft.catalog.number < (9, 1):
        told = [messages.NO_HYPERTHREADING(threads=topology.threads), messages.TRY_TOPOEXT()]
    else:
        told = [messages.NO_HYPERTHREADING_TRY(threads=topology.threads)]
    if draft.catalog.number < (10, 0):
        draft.late_warnings += told
    else:
        draft.warnings += told
    draft.once += told


def _check_pmu(draft: Draft, host: Answers) -> None:
    """Complain while a vCPU is set up of a PMU that its vendor would make unlike the host's (kvm_init_pmu_info, since QEMU 11.0)."""
    if draft.catalog.number < (11, 0) or not draft.props["pmu"]:
        return
    if not any(draft.props["vendor"] in alike and host.vendor in alike for alike in _PMU_VENDORS):
        draft.late_warnings.append(messages.VPMU())
    elif draft.is_amd and draft.props["family"] < _K7:
        draft.late_warnings.append(messages.AMD_PMU())


def _state(draft: Draft, found: CpuRequest, decisions: Sequence[Decision]) -> CpuState:
    props = draft.props
    return CpuState(
        release=draft.catalog.release,
        machine=draft.machine.name,
        shared=draft.machine.caches,
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
        features=FrozenMap(draft.features),
        user_features=FrozenMap(draft.user),
        asked=FrozenMap(draft.asked),
        supported=FrozenMap(draft.supported.words),
        filtered=FrozenMap(draft.filtered),
        props=FrozenMap(props),
        warnings=tuple(draft.warnings),
        late_warnings=tuple(draft.late_warnings),
        once=tuple(draft.once),
        decisions=decisions,
        hyperv=draft.hyperv,
    )
