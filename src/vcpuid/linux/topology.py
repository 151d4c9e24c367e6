"""Flags that come out of reading the processor's topology (topology_ext.c and topology_amd.c; before 6.12 topology.c and amd.c)."""

from __future__ import annotations

from vcpuid.cpuid.vendors import design_of
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule

EXTENDED = Rule(
    "linux.topology.extended",
    "a leaf of the extended topology (0xB, 0x1F or 0x80000026) describes the processor",
    "parse_topology_leaf, cpu/topology_ext.c (detect_extended_topology_early, cpu/topology.c before 6.9)",
)
MULTI_NODE = Rule(
    "linux.topology.multi-node",
    "leaf 0x8000001E says that a package has more than one node",
    "cpu_parse_topology_amd, cpu/topology_amd.c (amd_get_topology, cpu/amd.c before 6.9)",
)
SMT_TYPE = 1
NEW = "6.12"
"""The release that reads the topology in one place for all vendors."""


def read(cpu: Cpu) -> None:
    """Read what Linux reads of the topology ahead of the vendors' set-up."""
    if cpu.since(NEW):
        if design_of(cpu.vendor) in ("intel", "amd") and any(_parses(cpu, leaf) for leaf in (0x1F, 0x80000026, 0xB)):
            cpu.set("XTOPOLOGY", EXTENDED)
        if design_of(cpu.vendor) == "amd" and cpu.has("TOPOEXT"):
            _nodes(cpu)
    elif cpu.vendor == "intel" and any(_starts_with_smt(cpu, leaf) for leaf in (0x1F, 0xB)):
        cpu.set("XTOPOLOGY", EXTENDED)
    elif design_of(cpu.vendor) == "amd" and cpu.has("TOPOEXT"):
        _nodes(cpu)


def _parses(cpu: Cpu, leaf: int) -> bool:
    if leaf > (cpu.extended_level if leaf >> 31 else cpu.level):
        return False
    first = cpu.leaf(leaf)
    return bool(first.ebx & 0xFFFF and first.ecx >> 8 & 0xFF)


def _starts_with_smt(cpu: Cpu, leaf: int) -> bool:
    if leaf > cpu.level:
        return False
    first = cpu.leaf(leaf)
    return bool(first.ebx) and first.ecx >> 8 & 0xFF == SMT_TYPE


def _nodes(cpu: Cpu) -> None:
    if cpu.leaf(0x8000001E).ecx >> 8 & 7:
        cpu.set("AMD_DCM", MULTI_NODE)
