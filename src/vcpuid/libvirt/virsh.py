"""What virsh makes of libvirt's calls: which CPU it takes out of a file, and what it prints (tools/virsh-host.c, tools/virsh-domain.c).

Of capabilities and domcapabilities only that is printed which hangs on the CPU, each line as it stands in virsh's own output.
"""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from typing import Any

from vcpuid.errors import InputError
from vcpuid.formats.documents import parse_xml
from vcpuid.libvirt.layout import laid_out
from vcpuid.libvirt.writing import text

_FAILED = {
    "capabilities": "failed to get capabilities",
    "domcapabilities": "failed to get emulator capabilities",
    "models": "failed to get CPU model names",
    "start": "Failed to create domain from {file}",
    "compare": "Failed to compare host CPU with {file}",
    "hypervisor_compare": "Failed to compare hypervisor CPU with {file}",
}

_HOST, _HYPERVISOR = "host CPU", "the CPU provided by hypervisor on the host"

RESULTS = ("incompatible", "identical", "superset")
"""What a comparison finds, by libvirt's numbers."""

NO_CPU = "File '{file}' does not contain any <cpu> element or valid domain XML, host capabilities XML, or domain capabilities XML"


def errors(do: str, message: str, file: str = "") -> list[str]:
    """Give the lines on standard error of a call that libvirt refuses: for some, virsh says first what failed."""
    failed = _FAILED.get(do)
    return [*([f"error: {failed.format(file=file)}"] if failed else []), f"error: {message}"]


def cpus_in(xml: str, file: str) -> list[str]:
    """Return the CPUs of a file as virsh hands them to libvirt (vshExtractCPUDefXMLs); there may be several elements in it, or none.

    They are <cpu>, those of <domain> and of <capabilities>, and the host-model of <domainCapabilities>. Raises InputError where it is no
    XML.
    """
    body = xml.split("?>", 1)[-1] if xml.lstrip().startswith("<?xml") else xml
    try:
        root = parse_xml(f"<container>{body}</container>", file)
    except InputError:
        parse_xml(xml, file)  # which tells the line as it is in the file
        raise
    found = []
    for element in root:
        if element.tag == "cpu":
            found.append(element)
        elif element.tag == "domain":
            found += element.findall("cpu")
        elif element.tag == "capabilities":
            found += element.findall("host/cpu")
        elif element.tag == "domainCapabilities":
            found += [_renamed(mode) for mode in element.findall("cpu/mode[@name='host-model'][@supported='yes']")]
    return [text(_bare(element)) for element in found]


def _renamed(mode: ET.Element) -> ET.Element:
    cpu = ET.Element("cpu")
    cpu.text = mode.text
    cpu.extend(mode)
    return cpu


def _bare(element: ET.Element) -> ET.Element:
    """Take the blanks between elements away: they are no text."""
    for one in element.iter():
        one.tail = None
        if one.text is not None and not one.text.strip():
            one.text = None
    return element


def compared(result: str, file: str, *, hypervisor: bool) -> str:
    """Say what a comparison found."""
    of = _HYPERVISOR if hypervisor else _HOST
    if result == "superset":
        return f"{of[0].upper()}{of[1:]} is a superset of CPU described in {file}"
    return f"CPU described in {file} is {result} {'with' if result == 'incompatible' else 'to'} {of}"


def capabilities(answer: dict[str, Any]) -> list[str]:
    """Give `virsh capabilities`, as far as it is about the CPU."""
    return ["<capabilities>", "", "  <host>", *laid_out(answer["cpu"], 2), "  </host>", "", "</capabilities>"]


def domcapabilities(answer: dict[str, Any], virt: str, emulator: str) -> list[str]:
    """Give `virsh domcapabilities`, as far as it is about the CPU."""
    hyperv = answer.get("hyperv")
    return [
        "<domainCapabilities>",
        f"  <path>{emulator}</path>",
        f"  <domain>{virt}</domain>",
        f"  <machine>{answer['machine']}</machine>",
        "  <arch>x86_64</arch>",
        *laid_out(answer["cpu"], 1),
        *([] if hyperv is None else ["  <features>", *laid_out(hyperv, 2), "  </features>"]),
        "</domainCapabilities>",
    ]


def arguments(answer: dict[str, Any]) -> str:
    """Give the words of `virsh domxml-to-native qemu-argv` that the CPU hangs on, quoted as libvirt quotes them for a shell."""
    return " ".join(f"{name} {shlex.quote(value)}" for name, value in answer.items())
