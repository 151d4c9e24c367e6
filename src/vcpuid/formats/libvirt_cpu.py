"""libvirt's <cpu>: a model and features by name, alone or in what `virsh capabilities`, `domcapabilities` or `dumpxml` print.

    <cpu mode='custom' match='exact'>
      <model fallback='forbid'>Cooperlake</model>
      <feature policy='require' name='vmx'/>

It has no CPUID, and what the model stands for is in libvirt's own tables: what is read is a partial snapshot with the features that it
names, and with vendor, family, model and stepping where it has them. Those of policy `require` and `force` are there, those of `disable`
and `forbid` not; `optional` says nothing.

What is written has libvirt's smallest model, 486, and every feature of the CPU that libvirt has a name for; those of the 486 that the CPU
lacks are disabled.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vcpuid.cpuid import Snapshot, vendors
from vcpuid.errors import InputError
from vcpuid.formats.documents import line_of, parse_xml
from vcpuid.formats.form import Format
from vcpuid.formats.names import features, nameless
from vcpuid.numbers import decimal

if TYPE_CHECKING:
    from vcpuid.cpuid.features import Feature

_HAS = {None: True, "require": True, "force": True, "disable": False, "forbid": False}
_MODEL, _MODEL_FEATURES = "486", {"fpu", "pse", "vme"}
"""src/cpu_map/x86_486.xml in libvirt's source."""

_VENDORS = {vendors.INTEL: "Intel", vendors.AMD: "AMD", vendors.HYGON: "Hygon"}
"""src/cpu_map/x86_vendors.xml."""

_ARCHITECTURES = {"x86_64", "i686"}
_SIGN = re.compile(r"<(?:cpu|mode)[\s>/]")


def read(text: str, source: str) -> list[Snapshot]:
    """Read each CPU that names a model or features; raises InputError where there is none, or the document is of no x86 machine."""
    root = parse_xml(text, source)
    for element, arch in _architectures(root):
        if arch not in _ARCHITECTURES:
            raise InputError(f"a CPU of {arch[:20]} architecture, not x86", source=source, line=line_of(element, root, text))
    cpus = [_snapshot(element, source) for element in _cpus(root)]
    if not cpus:
        raise InputError("no <cpu> in it names a model or a feature", source=source)
    return cpus


def _architectures(root: ET.Element) -> Iterator[tuple[ET.Element, str]]:
    """Yield what says of which architecture: a <cpu>, domcapabilities or a domain; not the <arch name=…> of all guests of a host."""
    for element in root.iter("arch"):
        if arch := (element.text or "").strip():
            yield element, arch
    for element in root.iterfind(".//os/type[@arch]"):
        yield element, element.get("arch", "")


def _cpus(root: ET.Element) -> Iterator[ET.Element]:
    """Yield what describes one CPU: every <cpu>; of domcapabilities, whose only <cpu> has modes, its host-model."""
    for element in root.iter("cpu"):
        modes = [mode for mode in element.findall("mode") if mode.get("name") == "host-model"]
        yield from (described for described in modes or [element] if described.find("model") is not None or described.findall("feature"))


def _snapshot(element: ET.Element, source: str) -> Snapshot:
    named: dict[str, bool] = {}
    for feature in element.findall("feature"):
        name, policy = feature.get("name", ""), feature.get("policy")
        if not name or " " in name or not name.isprintable():
            raise InputError(f"{name[:40]!r} is not the name of a feature", source=source)
        if policy in _HAS and named.setdefault(name, _HAS[policy]) != _HAS[policy]:
            raise InputError(f"{name[:40]} both with and without", source=source)
    model = (element.findtext("model") or "").strip()
    return Snapshot(named=named, cpuinfo=_identity(element), cpu=model if model and model.isprintable() else None)


def _identity(element: ET.Element) -> dict[str, str]:
    """Read who made it and which it is, as far as it says, under the names of /proc/cpuinfo's lines: capabilities tell it of the host."""
    vendor = (element.findtext("vendor") or "").strip()
    maker = next((name for name, own in _VENDORS.items() if own == vendor), None)
    found = {} if maker is None else {"vendor_id": maker}
    signature = element.find("signature")
    if signature is not None:
        numbers = (("cpu_family", "family"), ("model", "model"), ("stepping", "stepping"))
        found |= {line: value for line, name in numbers if decimal(value := signature.get(name, "")) is not None}
    return found


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield the first CPU as a guest's."""
    snapshot = snapshots[0]
    vendor = _VENDORS.get(snapshot.vendor)
    yield "<cpu mode='custom' match='exact'>"
    yield f"  <model fallback='forbid'>{_MODEL}</model>"
    if vendor is not None:
        yield f"  <vendor>{vendor}</vendor>"
    for name, has in features(snapshot, _name).items():
        if has or name in _MODEL_FEATURES:
            yield f"  <feature policy='{'require' if has else 'disable'}' name='{name}'/>"
    yield "</cpu>"


def _name(feature: Feature) -> str | None:
    return feature.libvirt


def _loses(snapshot: Snapshot) -> list[str]:
    return ["the model, and all but the features that libvirt names", *nameless(snapshot, _name, "libvirt")]


FORMAT = Format(
    "libvirt", "libvirt's <cpu>, features by name", lambda text: bool(_SIGN.search(text)), read, write, holds=("named",), loses=_loses
)
