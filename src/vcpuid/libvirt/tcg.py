"""QEMU without KVM, as libvirt asks it and starts it."""
from vcpuid.libvirt.cpu_map import CpuMap
class TCG:
    def __init__(self, release: str, known: CpuMap) -> None:
        self.told = None
