"""libvirt's answers as documents for programs. What a call does not answer is null, and `error` then tells why."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vcpuid.errors import LibvirtError
from vcpuid.libvirt.journal import Ruling
from vcpuid.libvirt.layout import lines
from vcpuid.libvirt.migration import Migration
from vcpuid.releases import Release
from vcpuid.setup import Setup

SCHEMA = "vcpuid/libvirt-{verb}/1"


def begun(verb: str, release: Release, setup: Setup, remarks: Sequence[str], not_told: Sequence[object]) -> dict[str, object]:
    """Begin a document: what was asked of whom, and what of the answer hangs on what the host does not tell."""
    asked = {"schema": SCHEMA.format(verb=verb), "libvirt": release.as_dict(), "setup": setup.as_dict()}
    return {**asked, "remarks": list(remarks), "not_told": list(not_told)}


def refusal(error: LibvirtError | None) -> dict[str, object] | None:
    """Tell libvirt's refusal, with the features that it hangs on."""
    if error is None:
        return None
    return {"code": error.code, "domain": error.domain, "message": error.message, "causes": causes(error)}


def causes(error: LibvirtError) -> list[dict[str, object]]:
    """Give the features that a refusal hangs on."""
    return [cause.as_dict() for cause in error.causes if isinstance(cause, Ruling)]


def cpu(xml: str | None) -> dict[str, object] | None:
    """Tell a CPU: its XML, and what stands in it."""
    return None if xml is None else {**_described(ET.fromstring(xml)), "xml": xml}


def features(xml: str | None) -> list[dict[str, object]]:
    """Give the features of a CPU's list; of a host's they have no policy."""
    return [] if xml is None else _features(ET.fromstring(xml))


def _described(element: ET.Element) -> dict[str, object]:
    return {
        **{name: element.get(name) for name in ("mode", "match", "check")},
        "model": element.findtext("model"),
        "vendor": element.findtext("vendor"),
        "features": _features(element),
    }


def _features(element: ET.Element) -> list[dict[str, object]]:
    return [{"name": feature.get("name"), "policy": feature.get("policy")} for feature in element.findall("feature")]


def models(xml: str) -> list[dict[str, object]]:
    """Give the models of domcapabilities' <cpu>, with the features that stand in the way of each."""
    found: dict[str, dict[str, object]] = {}
    for element in ET.fromstring(xml).findall("mode[@name='custom']/*"):
        if element.tag == "blockers":
            found[element.get("model", "")]["blockers"] = [feature.get("name") for feature in element]
            continue
        found[element.text or ""] = {
            "model": element.text,
            "usable": element.get("usable") == "yes",
            "deprecated": element.get("deprecated") == "yes",
            "vendor": element.get("vendor"),
            "canonical": element.get("canonical"),
            "blockers": [],
        }
    return list(found.values())


def domcapabilities(answer: Mapping[str, Any]) -> dict[str, object]:
    """Tell an answer of domcapabilities."""
    root = ET.fromstring(answer["cpu"])
    host_model = root.find("mode[@name='host-model']")
    hyperv = answer.get("hyperv")
    names = None if hyperv is None else [value.text for value in ET.fromstring(hyperv).findall("enum[@name='features']/value")]
    return {
        "machine": answer["machine"],
        "modes": [mode.get("name") for mode in root.findall("mode[@supported='yes']")],
        "host_model": None if host_model is None else {**_described(host_model), "xml": None},
        "models": models(answer["cpu"]),
        "hyperv": names,
        "xml": answer["cpu"],
    }


def parts(what: str, answer: object) -> dict[str, object]:
    """Take an answer apart into what may be otherwise by itself: lines of XML, each by what it says, and under `what` all else."""
    if not isinstance(answer, Mapping):
        return {what: answer}
    xml = [value for value in answer.values() if isinstance(value, str) and value.startswith("<")]
    rest = tuple(value for value in answer.values() if value not in xml)
    return {**dict.fromkeys((line for text in xml for line in _leaves(ET.fromstring(text), "")), True), **({what: rest} if rest else {})}


def _leaves(element: ET.Element, within: str) -> Iterator[str]:
    """Give the lines of what has nothing inside, as virsh lays them out; where that says no model of its own, with whose it is.

    Values of an <enum> are not of the CPU.
    """
    if not len(element) and element.tag != "value":
        yield within + "".join(lines(element))
    for child in element:
        yield from _leaves(child, f"{element.get('model')}: " if element.tag == "blockers" else within)


def migration(found: Migration) -> dict[str, object]:
    """Tell what comes of a migration, but for the features that it hangs on."""
    return {
        "taken": found.refusal is None,
        "step": found.step,
        "live": cpu(found.live),
        "sent": found.sent,
        "machine": found.machine,
        "cpu_argument": found.argument,
        "checked": found.checked,
        "lost": list(found.lost),
        "gained": list(found.gained),
        "error": refusal(found.refusal),
    }
