"""KVM's part on real processors: dumps by others, read in place where VCPUID_PEERS names the folder that holds them.

libvirt's cputestdata has, for each of 31 machines, CPUID and the features that a real QEMU found there on a real KVM (of Linux 4 and 5:
older than any kernel with tables, so ours may offer more, never less, but for the reasons listed). InstLatx64's dumps have CPUID alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.peers import INSTLATX64, LIBVIRT, members
from vcpuid import kvm
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, MsrTable, Snapshot
from vcpuid.cpuid.long_mode import in_64_bit_mode
from vcpuid.cpuid.names import find_all
from vcpuid.errors import InputError
from vcpuid.formats import parse
from vcpuid.reasons import replay

QEMUS_OWN = {"hypervisor", "tsc-deadline", "kvm-hint-dedicated"}
"""Features that QEMU adds by itself."""

SINCE_THEN = {
    ("Core-i5-2540M", "ss"), ("Core-i5-650", "ss"), ("Core-i7-2600", "ss"), ("Xeon-E7540", "ss"),  # Linux 5.3 knows their erratum
    ("Cooperlake", "hle"), ("Cooperlake", "rtm"), ("Xeon-Platinum-9242", "hle"), ("Xeon-Platinum-9242", "rtm"),  # tsx=off since 5.5
    ("EPYC-7502-32-Core", "xsaves"),  # Linux knows erratum 1386
    ("Core-i5-4670T", "xsaveopt"), ("Core-i7-3740QM", "xsaveopt"),  # the dump lacks sub-leaf 1 of leaf 0xD
}  # fmt: skip
"""What a newer kernel takes away from those machines, or their dump does not tell."""


def machines() -> list[str]:
    files = members(LIBVIRT)
    names = [name.removesuffix(".json").removeprefix("x86_64-cpuid-") for name in files if name.endswith(".json")]
    return sorted(name for name in names if f"x86_64-cpuid-{name}.xml" in files and f"x86_64-cpuid-{name}.json" in files)


def snapshot(xml: str) -> Snapshot:
    entries, msrs = [], {}
    for row in ElementTree.fromstring(xml):
        numbers = {name: int(text, 16) for name, text in row.attrib.items()}
        if row.tag == "cpuid":
            registers = [numbers[register] for register in ("eax", "ebx", "ecx", "edx")]
            entries.append(Entry(numbers["eax_in"], numbers.get("ecx_in", 0), 0, *registers))
        else:
            msrs[numbers["index"]] = numbers["eax"] | numbers["edx"] << 32
    return Snapshot(raw=CpuidTable(entries), msrs=MsrTable(msrs))


def reported(text: str) -> Iterator[str]:
    """Names of the features that QEMU found: the first expansion of a model in its monitor's answers."""
    while True:
        answer, end = json.JSONDecoder().raw_decode(text)
        result, text = answer.get("return"), text[end:].lstrip()
        if isinstance(result, dict) and "props" in result.get("model", ()):
            return (name for name, value in result["model"]["props"].items() if value is True)


@pytest.mark.skipif(not LIBVIRT.is_file(), reason="needs libvirt's cputestdata in VCPUID_PEERS")
@pytest.mark.parametrize("name", machines())
def test_what_a_real_kvm_offered_the_model_offers(name: str) -> None:
    table = kvm.supported(snapshot(members(LIBVIRT)[f"x86_64-cpuid-{name}.xml"]), "6.1").table
    for feature in reported(members(LIBVIRT)[f"x86_64-cpuid-{name}.json"]):
        try:
            places = [found.place for found in find_all(feature) if isinstance(found.place.word, CpuidWord)]
        except InputError:
            continue  # a property that is no feature
        if len(places) != 1 or feature in QEMUS_OWN:
            continue
        word = places[0].word
        assert isinstance(word, CpuidWord)
        there = bool(table.word(word) & places[0].mask)
        assert there is ((name, feature) not in SINCE_THEN), feature


def test_the_documentation_tells_how_many_features_differ() -> None:
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert f"what KVM offered is what ours offers | all but {len(SINCE_THEN)} named differences |" in page


@pytest.mark.long
@pytest.mark.skipif(not INSTLATX64.is_file(), reason="needs InstLatx64's dumps in VCPUID_PEERS")
@pytest.mark.parametrize("kernel", ["6.1", "6.18", "7.3"])
def test_the_law_holds_for_real_processors(kernel: str) -> None:
    assert len(members(INSTLATX64)) > 400
    for name, text in members(INSTLATX64).items():
        host = in_64_bit_mode(parse(text, name)[0])
        result = kvm.supported(host, kernel)
        replayed = replay(host.raw.words(), result.decisions)
        words = result.table.words()
        assert {w: v for w, v in replayed.items() if v} == {w: v for w, v in words.items() if v}, name
