"""QEMU's part of the path: from `-cpu`, the machine type and -smp to the table of each vCPU."""

from vcpuid.kvm.effect import remarks
from vcpuid.linux.effect import saying
from vcpuid.qemu.guest import QemuResult, guest_tables
from vcpuid.qemu.kvmhost import KvmHost
from vcpuid.qemu.models import ModelInfo, models
from vcpuid.qemu.realize import realize
from vcpuid.qemu.state import CpuState

_saying = saying(remarks)
guest_tables, models, realize = _saying(guest_tables), _saying(models), _saying(realize)

__all__ = ["CpuState", "KvmHost", "ModelInfo", "QemuResult", "guest_tables", "models", "realize"]
