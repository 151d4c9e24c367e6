"""A request as captures have it, taken apart: what is no request is an InputError."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from vcpuid.errors import InputError
from vcpuid.formats.documents import parse_xml
from vcpuid.libvirt import refusal

Request = Mapping[str, Any]

_CPU = re.compile(r"\s*(?:<\?[^>]*>\s*|<!--.*?-->\s*)*<cpu[\s/>]", re.DOTALL)


def start(xml: str) -> dict[str, str]:
    """Ask for the start of a domain; a text with a <cpu> alone stands for the domain that has nothing else."""
    return {"do": "start", "cpu" if _CPU.match(xml) else "domain": xml}


def is_tcg(request: Request) -> bool:
    """Tell whether a request is about QEMU without KVM."""
    virt = request.get("virt", "kvm")
    if virt not in ("kvm", "qemu"):
        raise InputError(f"the type of a domain is kvm or qemu, not {str(virt)[:40]!r}")
    return bool(virt == "qemu")


def flags_of(request: Request, known: int, function: str) -> int:
    """Return a request's flags; raises LibvirtError for those that the function does not know (virCheckFlags)."""
    flags = request.get("flags", 0)
    if not isinstance(flags, int) or not 0 <= flags < 1 << 32:
        raise InputError(f"the flags of a call are a number, not {str(flags)[:40]!r}")
    if flags & ~known:
        raise refusal.unknown_flags(flags & ~known, function)
    return flags


def xml_of(request: Request, name: str) -> str:
    """Return the text of a part of a request; empty where it has none. Raises InputError where that is no text."""
    xml = request.get(name, "")
    if not isinstance(xml, str):
        raise InputError(f"{name} of a request is XML as text, not {type(xml).__name__}")
    return xml


def cpus_of(request: Request) -> list[str]:
    """Return the CPUs of a baseline, as XML."""
    cpus = request.get("cpus", ())
    if not isinstance(cpus, list | tuple) or not all(isinstance(cpu, str) for cpu in cpus):
        raise InputError("cpus of a request are XML as texts")
    if not cpus:
        raise refusal.invalid("no CPUs given")
    return list(cpus)


SOURCES = ("domain", "CPU", "cpu", "features", "clock")
"""What errors about the XML of a request name as its source: the parts of the request."""


def domain_of(request: Request) -> ET.Element:
    """Return the <domain> of a request; raises InputError where it is no XML."""
    if "domain" in request:
        return parse_xml(xml_of(request, "domain"), "domain")
    root = ET.Element("domain", {"type": str(request.get("virt", "kvm"))})
    ET.SubElement(root, "vcpu").text = str(request.get("vcpus", 1))
    for name, xml in (
        ("cpu", xml_of(request, "cpu")),
        ("features", f"<features>{xml_of(request, 'features')}</features>"),
        ("clock", xml_of(request, "clock")),
    ):
        if xml:
            root.append(parse_xml(xml, name))
    return root
