"""What a CPU's features are worth to the software that runs on it: levels, libraries, kernel drivers, clocks, Windows.

Everything here reads a CPUID table, a guest's or a host's, as programs on it do. `software_cpu` makes of a table what a Linux leaves to
its programs; the other modules answer one question each.
"""

from vcpuid.software.cpu import SoftwareCpu, software_cpu

__all__ = ["SoftwareCpu", "software_cpu"]
