"""What QEMU asks of KVM besides CPUID, and how it can fail there (QEMU, target/i386/kvm/kvm.c, kvm_arch_init_vcpu)."""

from __future__ import annotations

from dataclasses import dataclass

from vcpuid.cpuid import bits
from vcpuid.cpuid.registers import CpuidTable, vendor_name
from vcpuid.cpuid.vendors import INTEL
from vcpuid.errors import QemuError
from vcpuid.qemu import messages
from vcpuid.qemu.hyperv import EXPANDED, HyperV, refuse_late
from vcpuid.qemu.leaves import RealizedCpu
from vcpuid.qemu.topology import GuestTopology

MCE_AND_MCA = bits.MCE.mask | bits.MCA.mask
"""FEAT_1_EDX: with both, from family 6 on, QEMU sets up machine checks."""


@dataclass(frozen=True, slots=True)
class KvmHost:
    """The answers that no CPUID leaf holds; the defaults are those of an unremarkable host.

    `recommended_vcpus` is KVM_CAP_NR_VCPUS (QEMU warns of more; None: it does not), `tsc_khz` the TSC's frequency
    (None: what leaf 0x15 tells),
    `tsc_scaling` KVM_CAP_TSC_CONTROL, `lmce` whether KVM takes local machine checks (None: on Intel it does), and `refused` those of
    "hv-evmcs" and "hv-enforce-cpuid" whose KVM_ENABLE_CAP fails with EINVAL, `xcr0` the XSAVE components of KVM_GET_DEVICE_ATTR with
    KVM_X86_XCOMP_GUEST_SUPP (None: those of leaf 0xD in KVM_GET_SUPPORTED_CPUID).
    """

    recommended_vcpus: int | None = None
    tsc_khz: int | None = None
    tsc_scaling: bool = True
    lmce: bool | None = None
    refused: frozenset[str] = frozenset()
    xcr0: int | None = None

    def count_warnings(self, topology: GuestTopology) -> list[str]:
        """Warn of more vCPUs than KVM recommends."""
        limit = self.recommended_vcpus
        counts = (("SMP", topology.cpus), ("hotpluggable", topology.max_cpus))
        return [messages.MANY_CPUS(what=what, asked=count, most=limit) for what, count in counts if limit is not None and count > limit]


def initialize(kvm: KvmHost, cpu: RealizedCpu, hyperv: HyperV | None, host: CpuidTable | None) -> int:
    """Go through what may fail while a vCPU is set up, in QEMU's order; return its TSC frequency in kHz, 0 where it is not known.

    `host` is what KVM says of Hyper-V. Raises QemuError; the message has QEMU's second line too.
    """
    wanted = cpu.integer("tsc-frequency") // 1000
    if wanted and kvm.tsc_khz is not None and not kvm.tsc_scaling and abs(wanted - kvm.tsc_khz) > kvm.tsc_khz * 250 // 1_000_000:
        raise QemuError(messages.VCPU_UNSUPPORTED(), [messages.TSC_MISMATCH(asked=wanted, host=kvm.tsc_khz)])
    if hyperv is not None:
        asked = "hv-evmcs" in hyperv.flags if cpu.release >= EXPANDED else cpu.on("hv-evmcs")
        if asked and "hv-evmcs" in kvm.refused:
            raise QemuError(messages.NO_EVMCS(reason="Invalid argument" if cpu.release >= EXPANDED else "Function not implemented"))
        if cpu.release < EXPANDED:
            refuse_late(cpu.props, host, cpu.release)
        if cpu.on("hv-enforce-cpuid") and "hv-enforce-cpuid" in kvm.refused:
            raise QemuError(messages.NO_ENFORCE_CPUID())
    if cpu.on("lmce") and not _takes_lmce(kvm, cpu) and cpu.state.family >= 6 and cpu.word("FEAT_1_EDX") & MCE_AND_MCA == MCE_AND_MCA:
        raise QemuError(messages.NO_LMCE())
    return wanted or kvm.tsc_khz or _enumerated_khz(cpu)


def _takes_lmce(kvm: KvmHost, cpu: RealizedCpu) -> bool:
    """Whether KVM takes local machine checks."""
    return vendor_name(cpu.raw.registers(0)) == INTEL if kvm.lmce is None else kvm.lmce


def _enumerated_khz(cpu: RealizedCpu) -> int:
    """Return the host's TSC frequency from its crystal's, which Linux takes as exact (native_calibrate_tsc); 0 where it tells neither."""
    denominator, numerator, crystal_hz, _ = cpu.host_cpuid(0x15, 0)
    return crystal_hz // 1000 * numerator // denominator if denominator and numerator else 0
