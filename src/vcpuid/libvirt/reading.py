"""A <cpu> as libvirt reads it, and its words for what it does not take (virCPUDefParseXML, src/conf/cpu_conf.c)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Literal

from vcpuid.libvirt import refusal
from vcpuid.libvirt.attributes import BOOL, SWITCH, choice, content, natural, unsigned
from vcpuid.libvirt.definition import (
    CHECKS,
    FALLBACKS,
    MATCHES,
    MODES,
    OF_HOST,
    POLICIES,
    Addresses,
    CacheDef,
    Counter,
    CpuDef,
    Policy,
    TopologyDef,
)
from vcpuid.numbers import U32, decimal

Kind = Literal["host", "guest", "auto"]
"""Whose CPU it is; "auto": a host's where there is an <arch>."""

_VENDOR_ID = 12
_LEVELS = (1, 3)
_MODES_OF_CACHE = ("emulate", "passthrough", "disable")
_MODES_OF_ADDRESSES = ("emulate", "passthrough")
_ARCHITECTURES = """
alpha armv6l armv7l armv7b aarch64 cris i686 ia64 lm32 loongarch64 m68k microblaze microblazeel mips mipsel mips64 mips64el openrisc parisc
parisc64 ppc ppc64 ppc64le ppcemb riscv32 riscv64 s390 s390x sh4 sh4eb sparc sparc64 unicore32 x86_64 xtensa xtensaeb
"""
ARCHITECTURES = frozenset(_ARCHITECTURES.split())
"""virArch, src/util/virarch.c."""


def read(element: ET.Element, kind: Kind, release: tuple[int, int]) -> CpuDef:
    """Read a <cpu>; raises LibvirtError as libvirt of that release does."""
    if element.tag != "cpu":
        raise refusal.malformed("XML does not contain expected 'cpu' element")
    cpu = CpuDef(of_host=kind == "host")
    if kind == "auto" and element.find("arch") is not None:
        if "match" in element.attrib:
            raise refusal.malformed("'arch' element cannot be used inside 'cpu' element with 'match' attribute'")
        cpu.of_host = True
    _attributes(element, cpu, release)
    if cpu.of_host:
        _host(element, cpu)
    cpu.model = content(element, "model")
    if cpu.of_host and cpu.model is None:
        raise refusal.malformed("Missing CPU model name")
    if not cpu.of_host and cpu.mode not in OF_HOST:
        _model(element, cpu)
    cpu.vendor = content(element, "vendor")
    if cpu.vendor is not None and cpu.model is None:
        raise refusal.malformed("CPU vendor specified without CPU model")
    if (topology := element.find("topology")) is not None:
        cpu.topology = _topology(topology, release)
    _features(element, cpu)
    _cache(element, cpu)
    if (addresses := element.find("maxphysaddr")) is not None:
        cpu.addresses = _addresses(addresses, release)
    return cpu


def _attributes(element: ET.Element, cpu: CpuDef, release: tuple[int, int]) -> None:
    mode = element.get("mode")
    if cpu.of_host:
        if mode is not None:
            raise refusal.unsupported("Attribute mode is only allowed for guest CPU")
        cpu.mode = None
    elif mode is not None:
        if mode not in MODES:
            raise refusal.unsupported(f"Invalid mode attribute '{mode}'")
        cpu.mode = mode
    cpu.migratable = choice(element, "migratable", SWITCH)
    if cpu.migratable is not None and cpu.mode not in OF_HOST:
        raise refusal.unsupported("Attribute migratable is only allowed for 'host-passthrough' / 'maximum' CPU mode")
    if not cpu.of_host:
        cpu.match = choice(element, "match", MATCHES) or cpu.match
        cpu.check = choice(element, "check", CHECKS) or cpu.check
        if release >= (11, 0):
            cpu.deprecated = choice(element, "deprecated_features", SWITCH)


def _host(element: ET.Element, cpu: CpuDef) -> None:
    """Read what only a host's CPU has."""
    arch = content(element, "arch")
    if arch is None:
        raise refusal.malformed("Missing CPU architecture")
    if arch not in ARCHITECTURES:
        raise refusal.unsupported(f"Unknown architecture {arch}")
    cpu.arch = arch
    microcode = element.find("microcode")
    if microcode is not None and (version := microcode.get("version")) is not None:
        revision = decimal(version, U32)
        if revision is None:
            raise refusal.unsupported("invalid microcode version")
        cpu.microcode = revision
    if (signature := element.find("signature")) is not None:
        family = unsigned(signature, "family", required=True, zero=False)
        model, stepping = (unsigned(signature, name, required=True) for name in ("model", "stepping"))
        cpu.signature = family or 0, model or 0, stepping or 0
    counter = next((child for child in element.findall("counter") if child.get("name") == "tsc"), None)
    if counter is not None:
        frequency = unsigned(counter, "frequency", required=True, bits=64)
        cpu.tsc = Counter(frequency or 0, choice(counter, "scaling", BOOL))


def _model(element: ET.Element, cpu: CpuDef) -> None:
    """Read the attributes of <model>."""
    model = element.find("model")
    if model is None:
        return
    if fallback := model.get("fallback"):
        if fallback not in FALLBACKS:
            raise refusal.unsupported("Invalid fallback attribute")
        cpu.fallback = fallback
    if vendor_id := model.get("vendor_id"):
        if len(vendor_id.encode()) != _VENDOR_ID:
            raise refusal.malformed(f"vendor_id must be exactly {_VENDOR_ID} characters long")
        if "," in vendor_id:
            raise refusal.malformed("vendor id is invalid")
        cpu.vendor_id = vendor_id


def _topology(element: ET.Element, release: tuple[int, int]) -> TopologyDef:
    sockets = unsigned(element, "sockets", required=True, zero=False)
    dies = unsigned(element, "dies", zero=False)
    clusters = unsigned(element, "clusters", zero=False) if release >= (11, 0) else None
    cores, threads = (unsigned(element, name, required=True, zero=False) for name in ("cores", "threads"))
    return TopologyDef(sockets or 0, dies or 1, clusters or 1, cores or 0, threads or 0)


def _features(element: ET.Element, cpu: CpuDef) -> None:
    features = element.findall("feature")
    if features and cpu.model is None and cpu.mode == "custom":
        raise refusal.malformed("Non-empty feature list specified without CPU model")
    for feature in features:
        policy: Policy | None = None
        if not cpu.of_host:
            text = feature.get("policy", "require")
            policy = next((known for known in POLICIES if known == text), None)
            if policy is None:
                raise refusal.unsupported("Invalid CPU feature policy")
        name = feature.get("name")
        if not name:
            raise refusal.malformed("Invalid CPU feature name")
        if name in cpu.features:
            raise refusal.malformed(f"CPU feature '{name}' specified more than once")
        cpu.features[name] = policy


def _cache(element: ET.Element, cpu: CpuDef) -> None:
    caches = element.findall("cache")
    if len(caches) > 1:
        raise refusal.malformed("at most one CPU cache element may be specified")
    for cache in caches:
        level = natural(cache, "level")
        if level is not None and not _LEVELS[0] <= level <= _LEVELS[1]:
            raise refusal.malformed(f"invalid CPU cache level, must be in range [{_LEVELS[0]},{_LEVELS[1]}]")
        cpu.cache = CacheDef(level, choice(cache, "mode", _MODES_OF_CACHE, required=True) or "")


def _addresses(element: ET.Element, release: tuple[int, int]) -> Addresses:
    mode = choice(element, "mode", _MODES_OF_ADDRESSES, required=True) or ""
    bits = natural(element, "bits")
    limit = unsigned(element, "limit", zero=False) if release >= (11, 0) else None
    if limit is not None and mode != "passthrough":
        raise refusal.unsupported("attribute 'limit' is only supported for maxphysaddr mode 'passthrough'")
    return Addresses(mode, bits, limit)
