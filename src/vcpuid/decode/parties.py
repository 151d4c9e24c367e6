"""Whose table is it: the same leaf means other things with another vendor or under another hypervisor."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.cpuid import bits, hyperv, vendors
from vcpuid.cpuid.registers import CpuidTable, hypervisor_name, vendor_name

HYPERVISOR_LEAVES = range(0x40000000, 0x40010000)


class Parties(NamedTuple):
    """The vendor as fields are known by ("" where it is none of those), and the base of each hypervisor's range with its name."""

    vendor: str
    ranges: tuple[tuple[int, str], ...]

    @property
    def hypervisors(self) -> dict[int, str]:
        """The hypervisors by the base of their ranges."""
        return dict(self.ranges)

    def of(self, function: int) -> str:
        """Return whose fields a leaf has: a vendor or, in a hypervisor's range, that hypervisor; "" where nobody knows."""
        return self.hypervisors.get(function & ~0xFF, "") if function in HYPERVISOR_LEAVES else self.vendor


def vendor(table: CpuidTable) -> str:
    """Return the vendor of a table, "" where it is none of those known."""
    leaf = next((entry for entry in table if not entry.function), None)
    return "" if leaf is None else vendors.KINDS.get(vendor_name(leaf), "")


def parties(table: CpuidTable) -> Parties:
    """Find out whose table it is.

    A range of Hyper-V's leaves is known by its interface, "Hv#1": its name may be anything (QEMU's hv-vendor-id). Another that is not
    known must look like a hypervisor's: processors answer to these leaves too, with zeros or, Intel's, as to their highest standard one.
    """
    who = vendor(table)
    hypervisors = {}
    for function in [entry[0] for entry in table if entry[0] & 0xFFFF00FF == HYPERVISOR_LEAVES.start]:
        name = hypervisor_name(table.registers(function))
        if table.registers(function + 1).eax == hyperv.HV_1:
            hypervisors[function] = "hyperv"
        elif name in vendors.HYPERVISORS or _unknown_hypervisor(table, function, name):
            hypervisors[function] = vendors.HYPERVISORS.get(name, "")
    return Parties(vendors.design_of(who), tuple(hypervisors.items()))


def _unknown_hypervisor(table: CpuidTable, base: int, name: str) -> bool:
    """Whether a range without a known name is one: CPUID says that it is a guest's, and the range's first leaf has a name and an end.

    KVM once told 0 as the highest leaf (Linux, Documentation/virt/kvm/x86/cpuid.rst).
    """
    highest = table.registers(base).eax
    return bool(
        table.has(bits.HYPERVISOR) and name and name.isascii() and name.isprintable() and (not highest or base <= highest <= base + 0xFF)
    )
