"""What the machine asks of its vCPUs before they are made: whether it can have so many (QEMU, hw/i386/x86.c, x86_cpus_init)."""

from __future__ import annotations

from vcpuid.errors import QemuError
from vcpuid.qemu import messages
from vcpuid.qemu.catalog import MachineType
from vcpuid.qemu.topology import GuestTopology
from vcpuid.releases import number

_APIC_IDS = 255
"""How many an APIC without x2APIC's form of them has."""


def check_irqchip(machine: MachineType, topology: GuestTopology, release: str) -> None:
    """Raise QemuError where APIC ids are too large for interrupt controllers outside the kernel; QEMU 10.0 refuses those at any rate."""
    if machine.irqchip == "off" and number(release) < (10, 0) and topology.apic_id(topology.max_cpus - 1) >= _APIC_IDS:
        raise QemuError(messages.IRQCHIP_NEEDED())
