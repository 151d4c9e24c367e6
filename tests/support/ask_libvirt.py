"""Ask the libvirt that is installed: a program of its own, since libvirt keeps threads and children of its own.

Reads requests as captures/libvirt has them, a JSON list, on standard input, and prints a row for each: `answer`, or `error`. An answer
has besides, as `text`, the XML as libvirt wrote it.

libvirt runs within this process (qemu:///embed) on a folder of its own, given as the argument, so that no daemon is needed or touched.
Whoever runs it as root does so in a mount namespace of its own: libvirt then wants a user that only its daemon's package makes, and would
read the processor's own MSRs where the module msr is loaded.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
remember_owner = 0
dynamic_ownership = 0
"""
PAUSED, MIGRATABLE = 1, 8
"""VIR_DOMAIN_START_PAUSED, VIR_DOMAIN_XML_MIGRATABLE."""

Row = dict[str, Any]


class Error(ctypes.Structure):
    """The beginning of virError."""

    _fields_ = (("code", ctypes.c_int), ("domain", ctypes.c_int), ("message", ctypes.c_char_p))


class Refused(Exception):
    """libvirt refused; the arguments are the error's parts."""


class Libvirt:
    """A connection."""

    def __init__(self, root: Path) -> None:
        self.lib = ctypes.CDLL("libvirt.so.0")
        self.lib.virGetLastError.restype = ctypes.POINTER(Error)
        self.lib.virSetErrorFunc(None, _SILENT)
        for name in ("virConnectOpen", "virDomainCreateXML"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        (root / "etc").mkdir()
        (root / "etc" / "qemu.conf").write_text(QEMU_CONF if os.geteuid() == 0 else 'stdio_handler = "file"\n', encoding="utf-8")
        self.lib.virInitialize()
        self.lib.virEventRegisterDefaultImpl()
        threading.Thread(target=self._events, daemon=True).start()
        self.connection = ctypes.c_void_p(self._taken(self.lib.virConnectOpen(f"qemu:///embed?root={root}".encode())))

    def _events(self) -> None:
        while True:
            self.lib.virEventRunDefaultImpl()

    def _taken(self, found: Any, *, bad: Any = None) -> Any:
        if found == bad:
            error = self.lib.virGetLastError().contents
            raise Refused(error.code, error.domain, error.message.decode())
        return found

    def text(self, name: str, *arguments: Any) -> str:
        """Call a function that returns text."""
        function = getattr(self.lib, name)
        function.restype = ctypes.c_char_p
        found: bytes = self._taken(function(*arguments))
        return found.decode()

    def capabilities(self, r: Row) -> Row:
        xml = self.text("virConnectGetCapabilities", self.connection)
        return {"cpu": cpu_of(xml, "host/cpu", ("topology", "pages")), "text": xml}

    def models(self, r: Row) -> Row:
        found = ctypes.POINTER(ctypes.c_char_p)()
        count = self._taken(self.lib.virConnectGetCPUModelNames(self.connection, b"x86_64", ctypes.byref(found), 0), bad=-1)
        return {"models": [(found[n] or b"").decode() for n in range(count)]}

    def domcapabilities(self, r: Row) -> Row:
        xml = self.text("virConnectGetDomainCapabilities", self.connection, *_where(r), r.get("flags", 0))
        root = ET.fromstring(xml)
        found: Row = {"machine": root.findtext("machine"), "cpu": cpu_of(xml, "cpu"), "text": xml}
        hyperv = root.find("features/hyperv")
        return found | ({} if hyperv is None else {"hyperv": flat(hyperv)})

    def argv(self, r: Row) -> Row:
        import shlex

        words = shlex.split(self.text("virConnectDomainXMLToNative", self.connection, b"qemu-argv", r["domain"].encode(), 0))
        return {flag: words[words.index(flag) + 1] for flag in ("-machine", "-accel", "-cpu", "-smp") if flag in words}

    def start(self, r: Row) -> Row:
        domain = ctypes.c_void_p(self._taken(self.lib.virDomainCreateXML(self.connection, r["domain"].encode(), PAUSED)))
        try:
            found = {"cpu": cpu_of(self.text("virDomainGetXMLDesc", domain, 0), "cpu")}
            kept = cpu_of(self.text("virDomainGetXMLDesc", domain, MIGRATABLE), "cpu")
            return found | ({} if kept == found["cpu"] else {"migratable": kept})
        finally:
            self.lib.virDomainDestroy(domain)

    def compare(self, r: Row) -> Row:
        return {"result": self._taken(self.lib.virConnectCompareCPU(self.connection, r["cpu"].encode(), r.get("flags", 0)), bad=-1)}

    def hypervisor_compare(self, r: Row) -> Row:
        call = self.lib.virConnectCompareHypervisorCPU
        return {"result": self._taken(call(self.connection, *_where(r), r["cpu"].encode(), r.get("flags", 0)), bad=-1)}

    def baseline(self, r: Row) -> Row:
        xml = self.text("virConnectBaselineCPU", self.connection, *_several(r), r.get("flags", 0))
        return {"cpu": flat(ET.fromstring(xml)), "text": xml}

    def hypervisor_baseline(self, r: Row) -> Row:
        xml = self.text("virConnectBaselineHypervisorCPU", self.connection, *_where(r), *_several(r), r.get("flags", 0))
        return {"cpu": flat(ET.fromstring(xml)), "text": xml}


_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: None)


def _where(r: Row) -> tuple[bytes | None, ...]:
    """The emulator, its architecture, the machine type and the hypervisor."""
    return None, b"x86_64", r.get("machine", "q35").encode(), r.get("virt", "kvm").encode()


def _several(r: Row) -> tuple[Any, int]:
    cpus = [cpu.encode() for cpu in r["cpus"]]
    return (ctypes.c_char_p * len(cpus))(*cpus), len(cpus)


def flat(element: ET.Element) -> str:
    """XML on one line."""
    for one in element.iter():
        if one.text is not None and not one.text.strip():
            one.text = None
        one.tail = None
    return ET.tostring(element, encoding="unicode")


def cpu_of(xml: str, path: str, without: tuple[str, ...] = ()) -> str:
    """A part of an XML text on one line, without what is not the CPU's."""
    found = ET.fromstring(xml).find(path)
    assert found is not None, path
    for tag in without:
        for child in found.findall(tag):
            found.remove(child)
    return flat(found)


def main() -> None:
    """Answer each request."""
    libvirt = Libvirt(Path(sys.argv[1]))
    for request in json.load(sys.stdin):
        call: Callable[[Row], Row] = getattr(libvirt, request["do"])
        try:
            row = {"answer": call(request)}
        except Refused as error:
            row = {"error": dict(zip(("code", "domain", "message"), error.args, strict=True))}
        print(json.dumps(row), flush=True)
    sys.stdout.flush()
    os._exit(0)  # libvirt's threads would be waited for


if __name__ == "__main__":
    main()
