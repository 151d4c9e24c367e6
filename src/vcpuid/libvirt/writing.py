"""A CPU as libvirt writes it (virCPUDefFormatBufFull and virCPUDefFormatBuf, src/conf/cpu_conf.c)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

from vcpuid.libvirt.definition import OF_HOST, CpuDef

_PLAIN = re.compile(r"[^&<>\"\r\n\t]*").fullmatch
_ENTITIES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\r", "&#13;"), ("\n", "&#10;"), ("\t", "&#09;"))


def write(cpu: CpuDef, release: tuple[int, int]) -> ET.Element:
    """Return a CPU's <cpu>."""
    element = ET.Element("cpu")
    if not cpu.of_host and cpu.described:
        element.set("mode", cpu.mode or "")
        if cpu.mode == "custom":
            element.set("match", cpu.match)
        if cpu.check != "default":
            element.set("check", cpu.check)
        if cpu.mode in OF_HOST and cpu.migratable is not None:
            element.set("migratable", cpu.migratable)
        if cpu.deprecated is not None:
            element.set("deprecated_features", cpu.deprecated)
    if cpu.of_host and cpu.arch is not None:
        ET.SubElement(element, "arch").text = cpu.arch
    fill(element, cpu, release)
    return element


def text(element: ET.Element) -> str:
    """Return XML on one line, as captures have it: what ElementTree.tostring writes, in a quarter of its time."""
    parts: list[str] = []
    _write(element, parts.append)
    return "".join(parts)


def _write(element: ET.Element, add: Callable[[str], None]) -> None:
    add(f"<{element.tag}")
    for name, value in element.items():
        add(f' {name}="{_escaped(value, attribute=True)}"')
    if element.text or len(element):
        add(">")
        if element.text:
            add(_escaped(element.text))
        for child in element:
            _write(child, add)
        add(f"</{element.tag}>")
    else:
        add(" />")


def _escaped(text: str, *, attribute: bool = False) -> str:
    if _PLAIN(text):
        return text
    for character, entity in _ENTITIES if attribute else _ENTITIES[:3]:
        text = text.replace(character, entity)
    return text


def fill(element: ET.Element, cpu: CpuDef, release: tuple[int, int]) -> None:
    """Put all that is inside a <cpu> below an element."""
    if cpu.mode not in OF_HOST and (cpu.mode is not None or cpu.of_host):
        _model(element, cpu)
    if cpu.of_host:
        _host(element, cpu)
    if cpu.topology is not None:
        named = {name: str(count) for name, count in zip(cpu.topology._fields, cpu.topology, strict=True)}
        if release < (11, 0):
            del named["clusters"]
        ET.SubElement(element, "topology", named)
    if cpu.cache is not None:
        level, mode = cpu.cache
        ET.SubElement(element, "cache", {**({} if level is None else {"level": str(level)}), "mode": mode})
    if cpu.addresses is not None:
        numbers = (("bits", cpu.addresses.bits), ("limit", cpu.addresses.limit))
        given = {name: str(number) for name, number in numbers if number is not None}
        ET.SubElement(element, "maxphysaddr", {"mode": cpu.addresses.mode, **given})
    for name, policy in cpu.features.items():
        ET.SubElement(element, "feature", {"name": name} if policy is None or cpu.of_host else {"policy": policy, "name": name})


def _model(element: ET.Element, cpu: CpuDef) -> None:
    if cpu.model is not None or cpu.vendor_id is not None:
        model = ET.SubElement(element, "model")
        if not cpu.of_host:
            if cpu.model is not None:
                model.set("fallback", cpu.fallback)
            if cpu.vendor_id is not None:
                model.set("vendor_id", cpu.vendor_id)
        model.text = cpu.model
    if cpu.vendor is not None:
        ET.SubElement(element, "vendor").text = cpu.vendor


def _host(element: ET.Element, cpu: CpuDef) -> None:
    if cpu.microcode:
        ET.SubElement(element, "microcode", {"version": str(cpu.microcode)})
    if cpu.signature is not None and cpu.signature[0]:
        named = zip(("family", "model", "stepping"), cpu.signature, strict=True)
        ET.SubElement(element, "signature", {name: str(number) for name, number in named})
    if cpu.tsc is not None:
        scaling = {} if cpu.tsc.scaling is None else {"scaling": cpu.tsc.scaling}
        ET.SubElement(element, "counter", {"name": "tsc", "frequency": str(cpu.tsc.frequency), **scaling})
