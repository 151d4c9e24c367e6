"""libvirt's raw form of a CPU: the <cpudata> of its test data, of its caches and of its tools.

    <cpudata arch='x86'>
      <cpuid eax_in='0x00000007' ecx_in='0x00' eax='0x00000001' ebx='0xd39ffffb' ecx='0x00000818' edx='0xbc000400'/>
      <msr index='0x10a' edx='0x00000000' eax='0x000001eb'/>

Its MSRs are those of the processor where /dev/cpu/0/msr can be read, else KVM's (tests/cputestdata/cpu-data.py in libvirt's source); it
does not say which. A snapshot's are KVM's: a note tells of the difference.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.cpuid.registers import MsrTable
from vcpuid.errors import InputError
from vcpuid.sources.formats.documents import number, parse_xml
from vcpuid.sources.formats.form import Format

_NOTE = "libvirt does not say whether the values of MSRs are KVM's or the processor's own"
_SIGN = re.compile(r"<cpudata[\s>]")


def read(text: str, source: str) -> list[Snapshot]:
    """Read the CPU; raises InputError for what is cut, and for a leaf or an MSR that has two answers."""
    root = parse_xml(text, source)
    data = next(root.iter("cpudata"))
    if data.get("arch") != "x86":
        raise InputError(f"a CPU of {data.get('arch', 'no')[:20]} architecture, not x86", source=source)
    entries: dict[tuple[int, int], Entry] = {}
    msrs: dict[int, int] = {}
    for element in data:
        if element.tag == "cpuid":
            function, index, *registers = (_attribute(element, name, source) for name in ("eax_in", "ecx_in", "eax", "ebx", "ecx", "edx"))
            entry = Entry(function, index, 0, *registers)
            if entries.setdefault(entry[:2], entry) != entry:
                raise InputError(f"a second, different answer of CPUID {function:x}.{index:x}", source=source)
        elif element.tag == "msr":
            msr, low, high = (_attribute(element, name, source) for name in ("index", "eax", "edx"))
            if msrs.setdefault(msr, high << 32 | low) != high << 32 | low:
                raise InputError(f"a second, different value of MSR {msr:x}", source=source)
    raw = CpuidTable(entries.values())
    return [Snapshot(raw=raw, msrs=MsrTable(msrs), notes=(_NOTE,) if msrs else ())]


def _attribute(element: ET.Element, name: str, source: str) -> int:
    if name == "ecx_in" and name not in element.attrib:  # libvirt takes a missing one for 0
        return 0
    return number(element.get(name), f"{name} of a <{element.tag}>", source)


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield the first CPU as libvirt writes it."""
    yield "<cpudata arch='x86'>"
    for function, index, _, *registers in snapshots[0].raw:
        line = "  <cpuid eax_in='0x{:08x}' ecx_in='0x{:02x}' eax='0x{:08x}' ebx='0x{:08x}' ecx='0x{:08x}' edx='0x{:08x}'/>"
        yield line.format(function, index, *registers)
    for msr, value in snapshots[0].msrs.items():
        yield f"  <msr index='{msr:#x}' edx='{value >> 32:#010x}' eax='{value & 0xFFFFFFFF:#010x}'/>"
    yield "</cpudata>"


def _loses(snapshot: Snapshot) -> list[str]:
    return ["that the values of MSRs are KVM's"] if snapshot.msrs else []


FORMAT = Format("cpudata", "libvirt's <cpudata>", lambda text: bool(_SIGN.search(text)), read, write, holds=("raw", "msrs"), loses=_loses)
