"""What the vendor module leaves switched on after looking at the processor and at its parameters.

kvm_intel: hardware_setup (vmx.c; vmx_hardware_setup since 6.18); kvm_amd: svm_hardware_setup (svm.c) and sev_hardware_setup (sev.c).
A switch is a name in a set; the conditions of `vcpuid.kvm.rules` ask for them.
"""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.cpuid import Snapshot
from vcpuid.cpuid.vendors import design_of
from vcpuid.kvm.module_params import ModuleParams
from vcpuid.kvm.pmu import Pmu, asks_perf, pebs_ept, pmu
from vcpuid.kvm.vmx import controls
from vcpuid.linux import BootCpu
from vcpuid.setup import Setup

_AMD64_CORE_COUNTERS = 6


class Hardware(NamedTuple):
    """The vendor module ("kvm_intel" or "kvm_amd"), its switches that are on, the PMU, and the parameters it was set up with."""

    module: str
    on: frozenset[str]
    pmu: Pmu
    params: ModuleParams


def module_of(vendor: str) -> str:
    """Name the module that drives a vendor's processors, by Linux's name for the vendor."""
    return "kvm_amd" if design_of(vendor) == "amd" else "kvm_intel"


def set_up(setup: Setup, boot: BootCpu) -> Hardware:
    """Load the vendor module on a host."""
    host = setup.host
    module = module_of(boot.vendor)
    params = ModuleParams.of(module, setup)
    counters = pmu(setup, boot, params)
    on = {"nested"} if params.parameter("nested") else set()
    unasked = module == "kvm_amd" and boot.number >= (5, 17) and not asks_perf(boot.number, boot.kernel)
    if counters.counters or (unasked and params.parameter("enable_pmu")):
        on.add("pmu")
    if module == "kvm_intel":
        _intel(on, setup, boot, params)
    else:
        _amd(on, host, boot, params, counters)
    if params.fact("sched_info") != 0:
        on.add("sched_info")
    return Hardware(module, frozenset(on), counters, params)


def _intel(on: set[str], setup: Setup, boot: BootCpu, params: ModuleParams) -> None:
    has = controls(setup, boot)
    on.update(f"vmx.{name}" for name in has)
    if params.parameter("ept") and "ept" in has:
        on.update(("ept", "tdp"))
        level = params.fact("ept_5level")
        if level or (level is None and "ept_5level" in has):
            on.add("tdp_5level")
        if params.parameter("unrestricted_guest") and "unrestricted_guest" in has:
            on.add("unrestricted_guest")
        if params.parameter("pt_mode") == 1 and "pt" in has and ("pmu" in on or not asks_perf(boot.number, boot.kernel)):
            on.add("pt_guest")
    if params.parameter("allow_smaller_maxphyaddr") or "ept" not in on:
        on.add("smaller_maxphyaddr")
    if params.parameter("cet") and "load_cet" in has:
        on.add("cet")
    if params.parameter("sgx") and "encls" in has:
        on.add("sgx")
    if "pmu" in on and boot.has("PEBS") and pebs_ept(boot, params) and not params.parameter("enable_mediated_pmu"):
        on.add("pebs")


def _amd(on: set[str], host: Snapshot, boot: BootCpu, params: ModuleParams, counters: Pmu) -> None:
    if params.parameter("npt") and boot.has("NPT"):
        on.update(("npt", "tdp"))
        level = params.fact("paging_5level")
        if level or (level is None and boot.has("LA57")):
            on.add("tdp_5level")
    else:
        on.add("smaller_maxphyaddr")
    for name, feature in (("nrips", "NRIPS"), ("lbrv", "LBRV"), ("vgif", "VGIF"), ("tsc_scaling", "TSCRATEMSR")):
        if params.parameter(name) and boot.has(feature):
            on.add(name)
    if "npt" in on:
        if params.parameter("vls") and boot.has("V_VMSAVE_VMLOAD"):
            on.add("vls")
        if params.parameter("gmet") and boot.has("GMET"):
            on.add("gmet")
    if "vgif" in on and params.parameter("vnmi") and boot.has("VNMI"):
        on.add("vnmi")
    if counters.counters >= _AMD64_CORE_COUNTERS:
        on.add("core_counters")
    if counters.version == 2:
        on.add("pmu_v2")
    _sev(on, host, boot, params)


def _sev(on: set[str], host: Snapshot, boot: BootCpu, params: ModuleParams) -> None:
    """Memory encryption: needs NPT, since 6.1 decode assists, later NRIPS too, ASIDs for it and (6.16) its firmware."""
    newer = boot.number > (6, 1)
    _, _, last, first = host.raw.registers(0x8000001F)
    if not (params.parameter("sev") and "npt" in on and boot.has("SEV") and last):
        return
    if boot.number >= (6, 1) and not boot.has("DECODEASSISTS"):
        return
    if (newer and "nrips" not in on) or (boot.number >= (6, 8) and not boot.has("FLUSHBYASID")):
        return
    if boot.number >= (6, 16) and params.fact("sev_firmware") == 0:
        return
    on.add("sev")
    if params.parameter("sev_es") and boot.has("SEV_ES") and first != 1 and (not newer or "lbrv" in on):
        on.add("sev_es")
        if params.parameter("sev_snp") and boot.has("SEV_SNP"):
            on.add("sev_snp")
