"""libvirt's own tests of its x86 CPU driver, as cases: tests/cputest.c and the files of tests/cputestdata that it reads."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from vcpuid.errors import LibvirtError
from vcpuid.formats import libvirt_cpudata
from vcpuid.libvirt.baseline import baseline
from vcpuid.libvirt.compare import compare
from vcpuid.libvirt.cpu_map import CpuMap, signature_of
from vcpuid.libvirt.decode import CpuData, decode
from vcpuid.libvirt.definition import OF_HOST, CpuDef
from vcpuid.libvirt.host_models import expanded
from vcpuid.libvirt.journal import Journal
from vcpuid.libvirt.live import Running, update_live
from vcpuid.libvirt.names import from_qemu
from vcpuid.libvirt.reading import Kind, read
from vcpuid.libvirt.silicon import features_in_cpuid
from vcpuid.libvirt.update import resolve, translate
from vcpuid.libvirt.writing import write

Files = Mapping[str, str]
Models = Mapping[str, tuple[str, ...]]

ERROR, INCOMPATIBLE, IDENTICAL, SUPERSET = -1, 0, 1, 2
COMPARED = """
host host 1, host host-better 0, host host-worse 2, host host-amd-fake 0, host host-incomp-arch 0, host host-no-vendor 1,
host-no-vendor host 0,
host bogus-model -1, host bogus-feature -1, host min 2, host pentium3 2, host exact 2, host exact-forbid 0,
host exact-forbid-extra 2,
host exact-disable 2, host exact-disable2 2, host exact-disable-extra 2, host exact-require 2, host exact-require-extra 0,
host exact-force 2,
host strict 0, host strict-full 1, host strict-disable 1, host strict-force-extra 1, host guest 2, host pentium3-amd 0,
host-amd pentium3-amd 2,
host-worse penryn-force 1, host-SandyBridge exact-force-Haswell 1,
host host+min 1, host host+pentium3 1, host host+guest 2, host host+host-model 1, host host+host-model-nofallback 1,
host-invtsc host-invtsc+host-model 2
"""
UPDATED = """
host min, host pentium3, host guest, host host-model, host host-model-nofallback, host-invtsc host-model, host host-passthrough,
host host-passthrough-features
"""
STARTED = """
host guest - 0, host-better pentium3 - 0, host-worse guest - 0, host strict-force-extra - 0, host penryn-force - 0, host guest model486 0,
host guest models 0, host guest nomodel -1, host guest-nofallback models -1, host host+host-model models 0,
host host+host-model-nofallback models -1, host-Haswell-noTSX Haswell haswell 0, host-Haswell-noTSX Haswell-noTSX haswell 0,
host-Haswell-noTSX Haswell-noTSX-nofallback haswell -1, host-Haswell-noTSX Haswell-noTSX - 0
"""
LISTS = {"model486": ("486",), "nomodel": ("nomodel",), "models": ("qemu64", "core2duo", "Nehalem"), "haswell": ("SandyBridge", "Haswell")}
BASELINES = """
incompatible-vendors 0 -, no-vendor 0 result, some-vendors 0 result, simple 0 result, simple 1 expanded, features 0 result,
features 1 expanded,
Westmere+Nehalem 0 result, Westmere+Nehalem 2 migratable
"""
CPUID_BASELINES = """
Ryzen+Rome Ryzen-7-1800X-Eight-Core Ryzen-9-3900X-12-Core, EPYC+Rome EPYC-7601-32-Core EPYC-7502-32-Core,
Haswell-noTSX-IBRS+Skylake Xeon-E5-2609-v3 Xeon-Gold-6148, Haswell-noTSX-IBRS+Skylake-IBRS Xeon-E5-2609-v3 Xeon-Gold-6130,
Broadwell-IBRS+Cascadelake Xeon-E5-2623-v4 Xeon-Platinum-8268, Cascadelake+Skylake-IBRS Xeon-Platinum-8268 Xeon-Gold-6130,
Cascadelake+Skylake Xeon-Platinum-9242 Xeon-Gold-6148, Cascadelake+Icelake Xeon-Platinum-9242 Ice-Lake-Server,
Cooperlake+Icelake Cooperlake Ice-Lake-Server, Cooperlake+Cascadelake Cooperlake Xeon-Platinum-9242,
Skylake-Client+Server Core-i5-6600 Xeon-Gold-6148, Haswell-noTSX-IBRS+Broadwell Xeon-E5-2609-v3 Xeon-E5-2650-v4,
Haswell+Skylake Xeon-E7-8890-v3 Xeon-Gold-5115
"""
_ONLY_HOST = """
A10-5800K Core-i5-2500 Core-i5-4670T Core-i5-6600 Core-i7-2600 Core-i7-3740QM Core-i7-3770 Core-i7-4600U Core-i7-4510U Core-i7-5600U
Core-i7-5600U-arat Core-i7-5600U-ibrs Core2-E6850 Hygon-C86-7185-32-core EPYC-7601-32-Core Opteron-2350 Opteron-6234 Phenom-B95
Ryzen-7-1800X-Eight-Core Xeon-E5-2630-v3 Xeon-E5-2650-v3 Xeon-E7-4820 Xeon-Gold-6148 Xeon-Platinum-8268 Xeon-W3520
"""
ONLY_HOST = frozenset(_ONLY_HOST.split())
"""Machines of whose QEMU libvirt's tests ask for the host's CPU alone (JSON_HOST)."""


class Case(NamedTuple):
    """One test: `run` returns what libvirt's data say and what vcpuid does."""

    kind: str
    name: str
    run: Callable[[], tuple[object, object]]


class Driver:
    """The tests over one set of files, with one release's map."""

    def __init__(self, files: Files, known: CpuMap) -> None:
        self.files = {name.removeprefix("x86_64-"): text for name, text in files.items()}
        self.known = known

    def cases(self) -> Iterator[Case]:
        """Give every test of which the files are there."""
        for row in _rows(COMPARED):
            if self._has(*row[:2]):
                yield Case("compare", " ".join(row[:2]), partial(self.compared, *row))
        for host, cpu in _rows(UPDATED):
            if self._has(host, cpu, f"{host}+{cpu}"):
                yield Case("update", f"{host} {cpu}", partial(self.updated, host, cpu))
        for row in _rows(STARTED):
            if self._has(*row[:2]):
                yield Case("guest CPU", " ".join(row[:3]), partial(self.started, *row))
        for row in _rows(BASELINES):
            if self._has(f"baseline-{row[0]}"):
                yield Case("baseline", " ".join(row), partial(self.baseline, *row))
        for row in _rows(CPUID_BASELINES):
            if self._has(f"cpuid-baseline-{row[0]}", *(f"cpuid-{machine}-json" for machine in row[1:])):
                yield Case("baseline", row[0], partial(self.of_machines, *row))
        for machine in sorted(name.removesuffix("-host.xml").removeprefix("cpuid-") for name in self.files if name.endswith("-host.xml")):
            yield from self._of_machine(machine)

    def _of_machine(self, machine: str) -> Iterator[Case]:
        """Give the tests of one machine's CPUID, and of what its QEMU told."""
        yield Case("host", machine, partial(self.machine, machine, "host"))
        if self._has(f"cpuid-{machine}-guest"):
            yield Case("guest", machine, partial(self.machine, machine, "guest"))
        if f"cpuid-{machine}.json" in self.files and self._has(f"cpuid-{machine}-json"):
            yield Case("json", machine, partial(self.by_qemu, machine))
        if self._has(*(f"cpuid-{machine}-{part}" for part in ("enabled", "disabled", "json", "guest"))):
            yield Case("live", machine, partial(self.live, machine))

    def _has(self, *names: str) -> bool:
        return all(f"{name}.xml" in self.files for name in names)

    def _element(self, name: str) -> ET.Element:
        return ET.fromstring(self.files[f"{name}.xml"])

    def _cpu(self, name: str, kind: Kind = "auto") -> CpuDef:
        return read(self._element(name), kind, self.known.release)

    def _processor(self, name: str) -> CpuData:
        (found,) = libvirt_cpudata.read(self.files[f"{name}.xml"], name)
        features = features_in_cpuid(found.raw, found.msrs, self.known)
        return CpuData(features, self.known.vendor(found.vendor), signature_of(found.raw.registers(1).eax))

    def _answers(self, machine: str) -> tuple[dict[str, Any], Models | None]:
        """Return the properties of QEMU's host CPU, and its models where the test asks for them."""
        text, replies, decoder = self.files[f"cpuid-{machine}.json"].strip(), [], json.JSONDecoder()
        while text:
            reply, end = decoder.raw_decode(text)
            replies.append(reply.get("return"))
            text = text[end:].lstrip()
        props = next(reply["model"]["props"] for reply in replies if isinstance(reply, dict) and "model" in reply)
        listed = next((reply for reply in replies if isinstance(reply, list)), None)
        if listed is None or machine in ONLY_HOST:
            return props, None
        return props, {model["name"]: tuple(map(from_qemu, model.get("unavailable-features", ()))) for model in listed}

    def compared(self, host: str, cpu: str, result: str) -> tuple[object, object]:
        try:
            return int(result), compare(self._cpu(host), self._cpu(cpu), self.known).result
        except LibvirtError:
            return int(result), ERROR

    def updated(self, host: str, cpu: str) -> tuple[object, object]:
        asked, kept = self._cpu(cpu), self._cpu(host)
        kept.features = {name: policy for name, policy in kept.features.items() if name not in self.known.stuck}
        if asked.mode not in OF_HOST:
            resolve(asked, kept, self.known, Journal())
        return self._both(f"{host}+{cpu}", asked)

    def started(self, host: str, cpu: str, models: str, result: str) -> tuple[object, object]:
        given, asked = self._cpu(host), self._cpu(cpu)
        listed = dict.fromkeys(self.known.models, ()) if models == "-" else dict.fromkeys(LISTS[models], ())
        try:
            if compare(given, asked, self.known).result == INCOMPATIBLE:
                return int(result), ERROR
            resolve(asked, given, self.known, Journal())
            translate(asked, listed, self.known, Journal())
        except LibvirtError:
            return int(result), ERROR
        suffix = "" if models == "-" else f",{models}"
        return self._both(f"{host}+{cpu}{suffix}-result", asked) if result == "0" else (int(result), 0)

    def baseline(self, name: str, flags: str, suffix: str) -> tuple[object, object]:
        cpus = [read(element, "host", self.known.release) for element in self._element(f"baseline-{name}").findall("cpu")]
        try:
            found = baseline(cpus, self.known, migratable=flags == "2")
        except LibvirtError:
            return suffix, "-"
        return self._both(f"baseline-{name}-{suffix}", expanded(found, self.known) if flags == "1" else found)

    def of_machines(self, name: str, *machines: str) -> tuple[object, object]:
        return self._both(f"cpuid-baseline-{name}", baseline([self._cpu(f"cpuid-{machine}-json") for machine in machines], self.known))

    def machine(self, machine: str, whose: str) -> tuple[object, object]:
        of_host, models = whose == "host", None
        if not of_host and f"cpuid-{machine}.json" in self.files:
            models = self._answers(machine)[1]
        cpu = decode(self._processor(f"cpuid-{machine}"), self.known, of_host=of_host, models=models)
        cpu.arch, cpu.fallback = "x86_64", "forbid"
        return self._both(f"cpuid-{machine}-{whose}", cpu)

    def by_qemu(self, machine: str) -> tuple[object, object]:
        props, models = self._answers(machine)
        features = self.known.masks(from_qemu(name) for name, value in props.items() if value is True)
        signature = props.get("family", 0), props.get("model", 0), props.get("stepping", 0)
        cpu = decode(CpuData(features, self.known.vendor(props.get("vendor", "")), signature), self.known, models=models)
        cpu.fallback = "forbid"
        return self._both(f"cpuid-{machine}-json", cpu)

    def live(self, machine: str) -> tuple[object, object]:
        """As libvirt's test does, compare which features are on, whatever the models are."""
        cpu, expected = self._cpu(f"cpuid-{machine}-guest"), self._cpu(f"cpuid-{machine}-json")
        if cpu.model != expected.model:
            models = self._answers(machine)[1] or {}
            cpu.fallback = "allow"
            translate(cpu, {expected.model or "": models.get(expected.model or "", ())}, self.known, Journal())
        enabled, disabled = (self._processor(f"cpuid-{machine}-{which}").features for which in ("enabled", "disabled"))
        update_live(cpu, Running(enabled, disabled, frozenset()), self.known, Journal())
        theirs, ours = (expanded(one, self.known).features for one in (expected, cpu))
        # What is switched off on either side alone makes no difference, unless it is expected so and not even listed.
        off = {name for name, policy in theirs.items() if policy == "disable"}
        return (_on(theirs), set()), (_on(ours), off - ours.keys())

    def _both(self, name: str, cpu: CpuDef) -> tuple[object, object]:
        return _plain(self._element(name)), _plain(write(cpu, self.known.release))


def _on(features: Mapping[str, str | None]) -> set[str]:
    return {name for name, policy in features.items() if policy == "require"}


def _rows(text: str) -> list[tuple[str, ...]]:
    return [tuple(row.split()) for row in text.split(",") if row.strip()]


def _plain(element: ET.Element) -> tuple[object, ...]:
    """Return XML as values, without the blanks between elements."""
    return element.tag, element.attrib, (element.text or "").strip(), [_plain(child) for child in element]
