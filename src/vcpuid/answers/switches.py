"""Switches outside the guest that hide what a processor has: those of its firmware, microcode and kernel, and a hypervisor below the host.

A row holds where another feature shows that this kind of processor has the one in question. Sources are Intel's manual (volume 4, the MSRs
named), AMD's processor programming references (HWCR, VM_CR), openSIL's setup options (EnableERMS, EnableRMSS, MonMwaitDis), and
github.com/autotest/tp-qemu/pull/4485 for erms and fsrm on Milan.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import NamedTuple

from vcpuid.cpuid import Bit, Snapshot, bits
from vcpuid.cpuid.vendors import AMD, AMD_AND_HYGON, INTEL
from vcpuid.linux.machine import ARCH_CAPABILITIES


class FirmwareSwitch(NamedTuple):
    """Where a feature of a maker's processors is switched off; `shown_by` is a feature that only processors with both have."""

    feature: Bit
    makers: Set[str]
    shown_by: Bit
    where: str


SWITCHES = (
    FirmwareSwitch(bits.AES, {INTEL}, bits.PCLMULQDQ, "the firmware's setting for AES-NI (MSR 13CH)"),
    FirmwareSwitch(bits.VMX, {INTEL}, bits.AVX2, "the firmware's setting for Intel's virtualization, VT-x (MSR 3AH)"),
    FirmwareSwitch(bits.SVM, AMD_AND_HYGON, bits.SSE4A, "the firmware's setting for SVM mode (MSR C0010114H)"),
    FirmwareSwitch(bits.NX, {INTEL, *AMD_AND_HYGON}, bits.LM, "the firmware's setting for NX, on Intel's XD or Execute Disable (MSR 1A0H)"),
    FirmwareSwitch(bits.MWAIT, {INTEL}, bits.SSSE3, "the firmware's setting for MONITOR and MWAIT (MSR 1A0H)"),
    FirmwareSwitch(bits.MWAIT, AMD_AND_HYGON, bits.SSE4A, "the firmware's setting for MONITOR and MWAIT (MSR C0010015H)"),
    FirmwareSwitch(bits.ERMS, {INTEL}, bits.FSGSBASE, "the firmware's setting for fast strings (MSR 1A0H)"),
    FirmwareSwitch(bits.ERMS, {AMD}, bits.VAES, "the firmware's setting for enhanced REP MOVSB/STOSB"),
    FirmwareSwitch(bits.FSRM, {AMD}, bits.VAES, "the firmware's setting for fast short REP MOVSB"),
)


def hiding(feature: Bit, host: Snapshot) -> Iterator[str]:
    """Name what may hide a feature that this kind of processor has; of a host that is a guest itself, what it runs on."""
    if feature in (bits.HLE, bits.RTM) and host.msrs.get(ARCH_CAPABILITIES, 0) & bits.ARCH_CAP_TSX_CTRL_MSR.mask:
        yield "the host's kernel, which turns TSX off unless it boots with tsx=on"
    for row in SWITCHES:
        if row.feature == feature and host.vendor in row.makers and host.raw.has(row.shown_by):
            yield "the hypervisor under this host" if host.raw.has(bits.HYPERVISOR) else row.where
