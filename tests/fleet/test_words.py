"""A baseline in libvirt's words, started by libvirt, is the same CPU."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from support.captures import host
from support.fleets import census
from vcpuid import Stack, libvirt, resolve
from vcpuid.answers.in_words import in_words
from vcpuid.fleet.baseline import baseline
from vcpuid.fleet.outcome import seen
from vcpuid.qemu.catalog import catalog

FLEETS = (
    ["kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12"],
    ["kvm-amd.EPYC-Milan-v2@6.12", "kvm-amd.EPYC-Genoa-v1@7.3"],
)
TABLES = catalog("10.0")


@pytest.mark.parametrize("names", FLEETS)
def test_libvirt_starts_what_was_written_for_it(names: list[str]) -> None:
    """All that it has a word for: the features that it has none for, which are told, are those in which the guest's CPU differs."""
    found = baseline(census(names), Stack(qemu="10.0"))
    assert found.cpu is not None
    words = in_words(found.cpu, "libvirt", TABLES)
    domain = "<domain type='kvm'><name>guest</name><memory>1</memory><os><type machine='q35'>hvm</type></os>{}</domain>"
    cpu = "\n".join(words.lines)
    assert ET.fromstring(cpu).find("maxphysaddr") is not None
    for name in names:
        asked = {"do": "argv", "domain": domain.format(cpu)}
        given = libvirt.ask(asked, host=host(name), libvirt="11.3", qemu="10.0")["-cpu"]
        stack = Stack(qemu="10.0")
        one = resolve(found.cpu, host=host(name), stack=stack).made
        lost = [remark.split()[5].rstrip(",") for remark in words.remarks if remark.startswith("libvirt has no name for")]
        whole = ",".join((given, *(f"+{feature}" for feature in lost if f"+{feature}" in found.cpu)))
        other = resolve(whole, host=host(name), stack=stack).made
        assert seen(one.tables[0], one.msrs) == seen(other.tables[0], other.msrs)
