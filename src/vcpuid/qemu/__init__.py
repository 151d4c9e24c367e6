"""QEMU's part of the path: from `-cpu`, the machine type and -smp to the table of each vCPU."""

from vcpuid.qemu.guest import QemuResult, guest_tables
from vcpuid.qemu.kvmhost import KvmHost
from vcpuid.qemu.realize import realize

__all__ = ["KvmHost", "QemuResult", "guest_tables", "realize"]
