"""Speculation: controls that the host has and the guest is not told of, and immunities that it is told of wrongly."""

from __future__ import annotations

from collections.abc import Iterator

from vcpuid.cpuid import Bit, MsrWord, bits
from vcpuid.cpuid.vendors import INTEL
from vcpuid.hazards.rule import HazardRule, Looks, Severity
from vcpuid.hazards.view import View, name_of
from vcpuid.linux.machine import ARCH_CAPABILITIES

_CONTROLS = ("IBRS", "IBPB", "STIBP", "SSBD", "MD_CLEAR", "SRBDS_CTRL", "FLUSH_L1D", "IBRS_ENHANCED")
"""Flags of Linux behind which the controls of all makers stand."""

_IMMUNITIES = (
    (bits.ARCH_CAP_RDCL_NO, "cpu_meltdown"), (bits.ARCH_CAP_SSB_NO, "spec_store_bypass"), (bits.ARCH_CAP_MDS_NO, "mds"),
    (bits.ARCH_CAP_PSCHANGE_MC_NO, "itlb_multihit"), (bits.ARCH_CAP_TAA_NO, "taa"), (bits.ARCH_CAP_SBDR_SSDP_NO, "mmio_stale_data"),
    (bits.ARCH_CAP_FBSDP_NO, "mmio_stale_data"), (bits.ARCH_CAP_PSDP_NO, "mmio_stale_data"), (bits.ARCH_CAP_GDS_NO, "gds"),
    (bits.ARCH_CAP_RFDS_NO, "rfds"), (bits.ARCH_CAP_BHI_NO, "bhi"), (bits.ARCH_CAP_ITS_NO, "its"),
    (bits.BTC_NO, "retbleed"), (bits.AMD_SSB_NO, "spec_store_bypass"), (bits.SRSO_NO, "srso"), (bits.TSA_SQ_NO, "tsa"),
    (bits.TSA_L1_NO, "tsa"),
)  # fmt: skip
"""Bits that promise immunity, with the bug as /proc/cpuinfo names it (cpu_set_bug_bits, cpu/common.c)."""

_BY_INTEL = {"IBRS": "spec-ctrl", "IBPB": "spec-ctrl", "IBRS_ENHANCED": "ibrs-all"}
_BY_AMD = {"STIBP": "amd-stibp", "SSBD": "amd-ssbd", "IBRS_ENHANCED": "auto-ibrs"}
"""QEMU's names of the bits of either maker behind a flag of Linux; the others are the flag's own."""

_SERVES = {"MD_CLEAR": "mds", "SRBDS_CTRL": "srbds", "FLUSH_L1D": "l1tf"}
"""Controls that serve one bug only: nobody misses them on a processor without it."""


def _bugs(view: View) -> frozenset[str] | None:
    """The host's bugs; None where nobody can say."""
    return None if view.of_host is None else view.of_host.bugs


def _missing(view: View) -> Iterator[str]:
    bugs = _bugs(view)
    if view.kvm is None or not view.tells(0, 1, 7):
        return
    pointless = {control for control, bug in _SERVES.items() if bugs is not None and bug not in bugs}
    if not view.msrs and not view.is_amd:
        pointless.add("IBRS_ENHANCED")  # an MSR announces it, and nothing is known of the guest's
    lacking = [control for control in _CONTROLS if control not in pointless and not view.guest_linux.has(control)]
    for control in lacking:
        if view.best_linux is not None and view.best_linux.has(control):
            yield (_BY_AMD if view.is_amd else _BY_INTEL).get(control, control.lower().replace("_", "-"))


def _false(view: View) -> Iterator[str]:
    bugs = _bugs(view)
    if bugs is None:
        return
    for bit, bug in _IMMUNITIES:
        if bug in bugs and view.has(bit) and not _vouched(view, bit):
            yield f"{name_of(bit)}, and the host has {bug}"


def _vouched(view: View, bit: Bit) -> bool:
    """Whether KVM itself promises it: it does so as well where the host's own mitigation protects guests."""
    if isinstance(bit.word, MsrWord):
        return view.kvm is not None and bool(view.kvm.msrs.get(bit.word.msr, 0) & bit.mask)
    return view.supported is not None and view.supported.has(bit)


def _no_capabilities(view: View) -> Iterator[str]:
    """Name the MSR that tells an Intel guest what it is immune to, where the host has it and the guest not."""
    host, supported = view.of_host, view.supported
    if host is None or supported is None or not view.vendor == host.vendor == INTEL:
        return
    hidden = supported.has(bits.ARCH_CAPABILITIES) and not view.has(bits.ARCH_CAPABILITIES)
    if hidden and view.kvm is not None and view.kvm.msrs.get(ARCH_CAPABILITIES):
        yield "arch-capabilities"


RULES = (
    HazardRule(
        "speculation.no-control", Severity.RISK, _missing,
        "The host's processor has this control against speculation and the guest does not see it: the guest's kernel cannot use "
        "this mitigation and reports itself vulnerable, and its programs cannot protect themselves.",
        "add each of them to -cpu, +NAME, or take a version of the model that has them",
        Looks.HOST,
    ),
    HazardRule(
        "speculation.false-immunity", Severity.RISK, _false,
        "The guest believes its processor immune and leaves the mitigation out, though the host's is not.",
        "switch them off with -NAME in -cpu",
        Looks.HOST,
    ),
    HazardRule(
        "speculation.no-capabilities", Severity.NOTE, _no_capabilities,
        "Without ARCH_CAPABILITIES the guest does not learn what its processor is immune to, and pays for needless mitigations.",
        "add +arch-capabilities and the host's immunities, or take a version of the model that has them",
        Looks.HOST,
    ),
)  # fmt: skip
