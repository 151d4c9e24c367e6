"""Speculation: controls that the host has and the guest is not told of, and immunities that it is told of wrongly."""

from __future__ import annotations

from collections.abc import Iterator

from vcpuid.cpuid import Bit, CpuidWord, MsrWord
from vcpuid.cpuid.names import find
from vcpuid.cpuid.vendors import INTEL
from vcpuid.hazards.rule import HazardRule, Severity
from vcpuid.hazards.view import View
from vcpuid.linux import boot_cpu
from vcpuid.linux.machine import ARCH_CAPABILITIES

_CONTROLS = ("IBRS", "IBPB", "STIBP", "SSBD", "MD_CLEAR", "SRBDS_CTRL", "FLUSH_L1D", "IBRS_ENHANCED")
"""Flags of Linux behind which the controls of all makers stand."""

_IMMUNITIES = (
    ("msr.10a.0", "cpu_meltdown"), ("msr.10a.4", "spec_store_bypass"), ("msr.10a.5", "mds"), ("msr.10a.6", "itlb_multihit"),
    ("msr.10a.8", "taa"), ("msr.10a.13", "mmio_stale_data"), ("msr.10a.14", "mmio_stale_data"), ("msr.10a.15", "mmio_stale_data"),
    ("msr.10a.26", "gds"), ("msr.10a.27", "rfds"), ("msr.10a.20", "bhi"), ("msr.10a.62", "its"),
    ("btc_no", "retbleed"), ("amd_ssb_no", "spec_store_bypass"), ("srso_no", "srso"), ("tsa_sq_no", "tsa"), ("tsa_l1_no", "tsa"),
)  # fmt: skip
"""Bits that promise immunity, with the bug as /proc/cpuinfo names it (cpu_set_bug_bits, cpu/common.c)."""

_CAPABILITIES, _HAS_CAPABILITIES = CpuidWord(7, 0, "edx"), 1 << 29

_SERVES = {"MD_CLEAR": "mds", "SRBDS_CTRL": "srbds", "FLUSH_L1D": "l1tf"}
"""Controls that serve one bug only: nobody misses them on a processor without it."""


def _bugs(view: View) -> frozenset[str] | None:
    """The host's bugs, as its kernel printed them or else as the model tells; None where neither can say."""
    host = view.host
    if host is None or not host.raw:
        return None
    if "bugs" in host.cpuinfo:
        return frozenset(host.cpuinfo["bugs"].split())
    if host.vendor == INTEL and ARCH_CAPABILITIES not in host.msrs:
        return None
    return frozenset(name.lower() for name in boot_cpu(view.setup).bugs)


def _missing(view: View) -> Iterator[str]:
    best, bugs = view.best_linux, _bugs(view)
    if best is None:
        return
    for control in _CONTROLS:
        if control == "IBRS_ENHANCED" and not view.msrs and not view.is_amd:
            continue  # an MSR announces it, and nothing is known of the guest's
        pointless = bugs is not None and control in _SERVES and _SERVES[control] not in bugs
        if best.has(control) and not view.guest_linux.has(control) and not pointless:
            yield control.lower()


def _false(view: View) -> Iterator[str]:
    bugs = _bugs(view)
    if bugs is None:
        return
    for name, bug in _IMMUNITIES:
        feature = find(name)
        bit = feature.bit
        if bit is not None and bug in bugs and view.has(bit) and not _vouched(view, bit):
            yield f"{feature.name}, and the host has {bug}"


def _vouched(view: View, bit: Bit) -> bool:
    """Whether KVM itself promises it: it does so as well where the host's own mitigation protects guests."""
    if isinstance(bit.word, MsrWord):
        return view.host is not None and bool(view.host.msrs.get(bit.word.msr, 0) & bit.mask)
    return isinstance(bit.word, CpuidWord) and view.supported is not None and bool(view.supported.word(bit.word) & bit.mask)


def _no_capabilities(view: View) -> Iterator[str]:
    """Name the MSR that tells an Intel guest what it is immune to, where the host has it and the guest not."""
    host, supported = view.host, view.supported
    if host is None or supported is None or not view.vendor == host.vendor == INTEL:
        return
    hidden = supported.word(_CAPABILITIES) & ~view.word(_CAPABILITIES) & _HAS_CAPABILITIES
    if hidden and host.msrs.get(ARCH_CAPABILITIES):
        yield "arch-capabilities"


RULES = (
    HazardRule(
        "speculation.no-control", Severity.RISK, _missing,
        "The host's processor has this control against speculation and the guest is not told of it: its kernel is vulnerable, or says so, "
        "and its programs cannot protect themselves.",
        "+spec-ctrl,+stibp,+ssbd,+md-clear on Intel, +ibpb,+ibrs,+amd-stibp,+amd-ssbd on AMD; or a newer version of the model",
    ),
    HazardRule(
        "speculation.false-immunity", Severity.RISK, _false,
        "The guest believes its processor immune and leaves the mitigation out, though the host's is not.",
        "switch it off with -feature",
    ),
    HazardRule(
        "speculation.no-capabilities", Severity.NOTE, _no_capabilities,
        "Without ARCH_CAPABILITIES the guest does not learn what its processor is immune to, and pays for needless mitigations.",
        "+arch-capabilities with the immunities of the host, or a newer version of the model",
    ),
)  # fmt: skip
