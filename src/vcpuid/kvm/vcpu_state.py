"""What a vCPU's CPUID depends on besides the table that it was given: its registers and MSRs, and switches of its VM."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VcpuState:
    """A vCPU as KVM holds it; the defaults are those of a vCPU fresh from KVM_CREATE_VCPU, of a VM without special settings.

    xcr0, xss           XCR0 and IA32_XSS, which set the size of the XSAVE area
    mwait_enabled       IA32_MISC_ENABLE.MWAIT (bit 18)
    tsx_ctrl            IA32_TSX_CTRL; bit 1 hides TSX from CPUID
    invtsc_control      HV_X64_MSR_TSC_INVARIANT_CONTROL; bit 0 shows the invariant TSC to a Hyper-V guest
    tsc_khz             the guest's TSC frequency, which Xen's time leaf tells; None where it is not known or the vCPU has not run
    xen_enabled         a VM of this host uses Xen's hypercalls (KVM_XEN_HVM_CONFIG with an MSR; QEMU's xen-version=)
    constant_tsc        the host's Linux has constant_tsc among its flags, without which 6.12 does not hide the invariant TSC
    hlt_in_guest        the VM runs HLT without exits (KVM_CAP_X86_DISABLE_EXITS; QEMU's cpu-pm=on)
    mwait_quirk         KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT is on: MISC_ENABLE does not rule CPUID's MWAIT bit
    """

    xcr0: int = 1
    xss: int = 0
    mwait_enabled: bool = False
    tsx_ctrl: int = 0
    invtsc_control: int = 0
    tsc_khz: int | None = None
    xen_enabled: bool = False
    constant_tsc: bool = True
    hlt_in_guest: bool = False
    mwait_quirk: bool = True


RESET = VcpuState()
"""A fresh vCPU of a plain VM."""
