"""What the Linux host makes of its processor: boot_cpu_data and what /proc/cpuinfo prints of it.

`boot_cpu` gives the words that KVM starts from, `cpuinfo` the lines "flags", "bugs" and "vmx flags". Parameters that CPUID cannot show
are described in `vcpuid.linux.machine`. The kernel is a 64-bit one as Debian configures it. Not modelled: Xen PV, SNP and TDX guests,
hidden flags of paravirtual locks, AMD processors older than K8, and mitigations picked by name (`vcpuid.linux.mitigations`).
"""

from vcpuid.linux import effect
from vcpuid.linux.boot import BootCpu, boot_cpu
from vcpuid.linux.cpuinfo import CpuInfo, cpuinfo

_saying = effect.saying(effect.without_effect)
boot_cpu, cpuinfo = _saying(boot_cpu), _saying(cpuinfo)

__all__ = ["BootCpu", "CpuInfo", "boot_cpu", "cpuinfo"]
