"""IA32_ARCH_CAPABILITIES (0x10a) as KVM offers it (kvm_get_arch_capabilities, Linux arch/x86/kvm/x86.c, since 7.3 msrs.c)."""

from __future__ import annotations

from vcpuid.cpuid import MsrWord, bits
from vcpuid.kvm.hardware import Hardware
from vcpuid.linux import BootCpu
from vcpuid.linux.arch_cap import ArchCap, kvm_immune, kvm_supported
from vcpuid.linux.machine import MCU_OPT_CTRL, MCU_OPT_CTRL_GDS_LOCKED, Machine, machine_of
from vcpuid.params import CMDLINE
from vcpuid.reasons import Ledger, Rule
from vcpuid.releases import KERNELS
from vcpuid.setup import Setup

WORD = MsrWord(0x10A)

_SOURCE = "kvm_get_arch_capabilities, arch/x86/kvm/x86.c"
NOT_LISTED = Rule("kvm.arch-cap.not-listed", "it announces an MSR that KVM does not virtualize, so KVM hides it", _SOURCE)
NX_HUGE_PAGES = Rule("kvm.arch-cap.nx-huge-pages", "KVM itself prevents harm by ITLB multihit, for nested hypervisors too", _SOURCE)
L1D_FLUSH = Rule("kvm.arch-cap.l1d-flush", "the host flushes the L1 data cache on VM entries, or has no need to", _SOURCE)
IMMUNE = Rule("kvm.arch-cap.immune", "the host kernel knows its processor to be immune", _SOURCE)
TAA_WITHOUT_RTM = Rule(
    "kvm.arch-cap.taa-without-rtm",
    "without RTM no transaction can abort, as the guest itself can see",
    _SOURCE,
    "boot the host with tsx=on",
)
GDS = Rule("kvm.arch-cap.gds", "the host's microcode keeps gathers from leaking, for guests too", _SOURCE)


def consulted(kernel: str) -> int:
    """Return the bits of the hardware's on which KVM's depends, as far as Linux knows their meaning."""
    return kvm_supported(KERNELS[-1]) | kvm_supported(kernel) | ArchCap.GDS_CTRL


def offered(setup: Setup, boot: BootCpu, hardware: Hardware, hardware_value: int, ledger: Ledger) -> int:
    """Return the MSR that KVM offers where the hardware's is `hardware_value`, 0 on a processor without it."""
    machine = machine_of(setup)
    value = ledger.keep(WORD, hardware_value, kvm_supported(boot.kernel), NOT_LISTED)
    value = ledger.set(WORD, value, ArchCap.PSCHANGE_MC_NO, NX_HUGE_PAGES)
    if not _never_flushes(setup, boot, hardware, hardware_value, machine):
        value = ledger.set(WORD, value, ArchCap.SKIP_L1D_FLUSH, L1D_FLUSH)
    for bug, capability in kvm_immune(boot.kernel).items():
        if bug == "TAA" and not boot.has("RTM"):
            value = ledger.clear(WORD, value, capability, TAA_WITHOUT_RTM, bits.RTM)
        elif not boot.has_bug(bug):
            value = ledger.set(WORD, value, capability, IMMUNE)
    if boot.has_bug("GDS") and _microcode_mitigates_gds(boot, hardware_value, machine):
        value = ledger.set(WORD, value, ArchCap.GDS_NO, GDS)
    return value


def _never_flushes(setup: Setup, boot: BootCpu, hardware: Hardware, hardware_value: int, machine: Machine) -> bool:
    """Whether l1tf_vmx_mitigation is VMENTER_L1D_FLUSH_NEVER (vmx_setup_l1d_flush, vmx.c)."""
    if hardware.module != "kvm_intel" or not boot.has_bug("L1TF") or hardware_value & ArchCap.SKIP_L1D_FLUSH:
        return False
    # 6.1 looks before it knows whether the processor has EPT
    ept = bool(hardware.params.parameter("ept")) if boot.kernel == "6.1" else "ept" in hardware.on
    if not ept:
        return False
    ran = setup.host.params.get("kvm_intel.vmentry_l1d_flush")
    if ran is not None and CMDLINE not in setup.params.linux:
        return ran == "never"
    l1tf, off = machine.option("l1tf"), machine.option("mitigations") == "off"
    if off and (l1tf not in _L1TF or boot.number < (6, 17)):
        l1tf = "off"
    asked = machine.option("kvm_intel.vmentry_l1d_flush")
    if asked in ("never", "cond", "always"):
        return asked == "never" and l1tf != "full,force"
    return l1tf == "off"


_L1TF = ("off", "flush", "flush,nowarn", "flush,nosmt", "full", "full,force")


def _microcode_mitigates_gds(boot: BootCpu, hardware_value: int, machine: Machine) -> bool:
    """gds_ucode_mitigated, on a processor that has the bug (gds_select_mitigation, arch/x86/kernel/cpu/bugs.c)."""
    if boot.has("HYPERVISOR") or not hardware_value & ArchCap.GDS_CTRL:
        return False
    if (machine.msr(MCU_OPT_CTRL) or 0) & MCU_OPT_CTRL_GDS_LOCKED:
        return True
    option = machine.option("gather_data_sampling")
    off = machine.option("mitigations") == "off" and (option != "force" or boot.number < (6, 17))
    return not off and option != "off"
