"""Every leaf decoded: fields with names, values, units and meanings, and what several of them say together.

Pure functions of a `CpuidTable`. `leaves` gives fields and `encode` puts them together again; `spell` writes them out as text. `identity`,
`caches`, `tlbs`, `topology`, `xsave`, `frequencies` and `facts` read what spans leaves, `Cpus` what spans a machine's CPUs; `draw_topology`
and `draw_xsave` draw; `diff` names the fields that differ between two tables, `spread` those that differ among CPUs; `Ignored` tells what a
comparison leaves out, `per_cpu` the bits that one CPU of a machine has otherwise than the next.
"""

from vcpuid.decode.caches import Cache, Tlb, caches, tlbs
from vcpuid.decode.diff import FieldChange, Spread, diff, spread
from vcpuid.decode.drawing import draw_topology, draw_xsave
from vcpuid.decode.facts import Frequencies, facts, frequencies
from vcpuid.decode.identity import Identity, identity
from vcpuid.decode.ignore import CPU, NONE, PER_CPU, Ignored, per_cpu
from vcpuid.decode.layout import Field
from vcpuid.decode.leaves import Leaf, Value, encode, leaf, leaves, spell
from vcpuid.decode.meaning import Reading
from vcpuid.decode.parties import Parties, parties
from vcpuid.decode.topology import Cpus, Level, Members, Processor, Topology, mixed, topology
from vcpuid.decode.xsave import Component, XsaveLayout, xsave

__all__ = [
    "CPU",
    "NONE",
    "PER_CPU",
    "Cache",
    "Component",
    "Cpus",
    "Field",
    "FieldChange",
    "Frequencies",
    "Identity",
    "Ignored",
    "Leaf",
    "Level",
    "Members",
    "Parties",
    "Processor",
    "Reading",
    "Spread",
    "Tlb",
    "Topology",
    "Value",
    "XsaveLayout",
    "caches",
    "diff",
    "draw_topology",
    "draw_xsave",
    "encode",
    "facts",
    "frequencies",
    "identity",
    "leaf",
    "leaves",
    "mixed",
    "parties",
    "per_cpu",
    "spell",
    "spread",
    "tlbs",
    "topology",
    "xsave",
]
