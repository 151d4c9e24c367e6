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
from vcpuid.formats.documents import line_of, number, parse_xml
from vcpuid.formats.form import Format
from vcpuid.formats.lines import ENTRY_LIMIT

_NOTE = "libvirt does not say whether the values of MSRs are KVM's or the processor's own"
_SIGN = re.compile(r"<cpudata[\s>]")


def read(text: str, source: str) -> list[Snapshot]:
    """Read the CPU of each <cpudata>; raises InputError for what is cut, and for a leaf or an MSR that has two answers."""
    root = parse_xml(text, source)
    cpus = list(root.iter("cpudata"))
    if not cpus:
        raise InputError("no <cpudata> in it, unless in a remark or a namespace", source=source)
    return [_snapshot(cpu, root, text, source) for cpu in cpus]


def _snapshot(data: ET.Element, root: ET.Element, text: str, source: str) -> Snapshot:
    entries: dict[tuple[int, int], Entry] = {}
    msrs: dict[int, int] = {}
    element = data
    try:
        if data.get("arch") != "x86":
            raise InputError(f"a CPU of {data.get('arch', 'no')[:20]} architecture, not x86")
        if data.find("cpuid") is None and data.find("msr") is None:
            raise InputError("a <cpudata> with nothing in it")
        for element in data:
            if element.tag == "cpuid":
                _take_answer(element, entries)
            elif element.tag == "msr":
                _take_msr(element, msrs)
    except InputError as error:
        raise InputError(error.cause, source=source, line=line_of(element, root, text)) from None
    return Snapshot(raw=CpuidTable(entries.values()), msrs=MsrTable(msrs), notes=(_NOTE,) if msrs else ())


def _take_answer(element: ET.Element, entries: dict[tuple[int, int], Entry]) -> None:
    function, index, *registers = (_attribute(element, name) for name in ("eax_in", "ecx_in", "eax", "ebx", "ecx", "edx"))
    entry = Entry(function, index, 0, *registers)
    if entries.setdefault(entry[:2], entry) != entry:
        raise InputError(f"a second, different answer of CPUID {function:x}.{index:x}")
    if len(entries) > ENTRY_LIMIT:
        raise InputError(f"a CPU with more than {ENTRY_LIMIT} answers")


def _take_msr(element: ET.Element, msrs: dict[int, int]) -> None:
    msr, low, high = (_attribute(element, name) for name in ("index", "eax", "edx"))
    if msrs.setdefault(msr, high << 32 | low) != high << 32 | low:
        raise InputError(f"a second, different value of MSR {msr:x}")


def _attribute(element: ET.Element, name: str) -> int:
    if name == "ecx_in" and name not in element.attrib:  # libvirt takes a missing one for 0
        return 0
    return number(element.get(name), f"{name} of a <{element.tag}>")


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
