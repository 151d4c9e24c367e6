"""The picture of a fleet: what it counts, that it is well-formed and plain, and that the documentation's is what the command draws."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from support.captures import host
from support.command import vcpuid
from support.fleets import census
from vcpuid import Stack
from vcpuid.cpuid import Snapshot
from vcpuid.fleet.blame import blame
from vcpuid.fleet.figure import rows, svg

SKYLAKE, SAPPHIRE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-amd.EPYC-Milan-v2@6.12"
STACK = Stack(qemu="10.0")
DOCS = Path(__file__).parents[2] / "docs"
GOLDEN = ("tests/golden/fleet", "--qemu", "10.0")


def test_a_class_pays_for_what_it_lacks_alone_and_for_what_it_lacks_with_others() -> None:
    found = blame(census([SKYLAKE, SAPPHIRE, MILAN]), STACK)
    by_name = {row.who: row for row in rows(found)}
    lost = {name: {culprit.example for culprit in loss.culprits} for loss in found.losses for name in loss.features}
    for who, row in by_name.items():
        assert row.hosts == 1
        assert row.alone == sum(culprits == {who} for culprits in lost.values())
        assert row.shared == sum(who in culprits and len(culprits) > 1 for culprits in lost.values())


def test_it_is_xml_with_a_bar_for_each_number_and_loads_nothing() -> None:
    found = blame(census([SKYLAKE, SAPPHIRE]), STACK)
    text = "\n".join(svg(found))
    root = ET.fromstring(text)
    bars = [node.get("class") for node in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars.count("hosts") == 2
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert all(float(node.get("width", "0")) > 0 for node in root.iter("{http://www.w3.org/2000/svg}rect"))


def test_a_host_s_name_is_no_markup() -> None:
    odd: list[tuple[str, Snapshot]] = [("<b>&", host(SKYLAKE)), (SAPPHIRE, host(SAPPHIRE))]
    texts = [node.text for node in ET.fromstring("\n".join(svg(blame(census([], odd), STACK)))).iter() if node.text]
    assert "<b>&" in texts


def test_a_fleet_of_many_classes_has_one_row_for_those_of_the_fewest_hosts() -> None:
    found = blame(census([SKYLAKE, SAPPHIRE]), STACK)
    many = found.census.groups * 20
    drawn = rows(type(found)(type(found.census)(many), found.setups, (), 0, 0))
    assert len(drawn) == 25
    assert (drawn[-1].cpu, drawn[-1].hosts) == ("16 classes more", 16)


def test_the_documentation_s_picture_is_what_the_command_draws(tmp_path: Path) -> None:
    file = tmp_path / "fleet.svg"
    assert vcpuid("fleet", "blame", *GOLDEN, "--svg", str(file)).returncode == 1
    assert file.read_text(encoding="utf-8") == (DOCS / "fleet.svg").read_text(encoding="utf-8"), (
        "vcpuid fleet blame tests/golden/fleet --qemu 10.0 --svg docs/fleet.svg"
    )
