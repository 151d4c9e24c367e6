"""The vocabulary: what CPUID answers, where features live, what they are called. Values only, no input or output."""

from vcpuid.cpuid.registers import (
    SIGNIFICANT_INDEX,
    CpuidTable,
    Entry,
    MsrTable,
    Registers,
    Snapshot,
    brand_string,
    hypervisor_name,
    vendor_name,
)
from vcpuid.cpuid.words import Bit, CpuidWord, LinuxWord, MsrWord, Register, Word, parse_bit

__all__ = [
    "SIGNIFICANT_INDEX",
    "Bit",
    "CpuidTable",
    "CpuidWord",
    "Entry",
    "LinuxWord",
    "MsrTable",
    "MsrWord",
    "Register",
    "Registers",
    "Snapshot",
    "Word",
    "brand_string",
    "hypervisor_name",
    "parse_bit",
    "vendor_name",
]
