"""What the Linux host makes of its processor: boot_cpu_data, what /proc/cpuinfo prints of it, and what sysfs says of its vulnerabilities.

`boot_cpu` gives the words that KVM starts from, `cpuinfo` the lines "flags", "bugs" and "vmx flags", `vulnerabilities` the files of
/sys/devices/system/cpu/vulnerabilities. Parameters that CPUID cannot show are described in `vcpuid.linux.machine`. The kernel is a 64-bit
one as Debian configures it. Not modelled: Xen PV, SNP and TDX guests, hidden flags of paravirtual locks, AMD processors older than K8, and
mitigations picked by name (`vcpuid.linux.mitigations`).
"""

from vcpuid.linux import effect
from vcpuid.linux.boot import BootCpu, boot_cpu
from vcpuid.linux.cpuinfo import CpuInfo, cpuinfo
from vcpuid.linux.sysfs import vulnerabilities

_saying = effect.saying(effect.without_effect)
boot_cpu, cpuinfo, vulnerabilities = _saying(boot_cpu), _saying(cpuinfo), _saying(vulnerabilities)

__all__ = ["BootCpu", "CpuInfo", "boot_cpu", "cpuinfo", "vulnerabilities"]
