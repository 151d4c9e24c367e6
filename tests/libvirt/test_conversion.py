"""A guest's <cpu> in other forms: written again it is the same, and as a -cpu it is what a real libvirt started."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from contextlib import suppress

import pytest

from support.libvirt_captures import QEMUS, rows
from vcpuid import releases
from vcpuid.errors import InputError, LibvirtError
from vcpuid.libvirt.conversion import IN_SNAPSHOTS, GuestXml, hostless, lost_in_qemu

ASKED = sorted({row["request"]["cpu"] for case in rows("rows").values() for row in case if row["request"].get("cpu")})
FULL = """
<cpu mode='custom' match='strict' check='full'>
  <model fallback='forbid' vendor_id='KVMKVMKVMKVM'>Skylake-Server</model>
  <vendor>Intel</vendor>
  <topology sockets='1' dies='1' cores='2' threads='2'/>
  <cache level='3' mode='emulate'/>
  <maxphysaddr mode='emulate' bits='42'/>
  <feature policy='force' name='vmx'/>
  <feature policy='forbid' name='pku'/>
  <feature policy='disable' name='osxsave'/>
  <feature policy='require' name='ss'/>
  <numa>
    <cell id='0' cpus='0-3' memory='1' unit='GiB'/>
  </numa>
</cpu>"""


def same(one: ET.Element, other: ET.Element) -> bool:
    texts = ((element.text or "").strip() for element in (one, other))
    own = one.tag == other.tag and one.attrib == other.attrib and len(one) == len(other) and len(set(texts)) == 1
    return own and all(same(*pair) for pair in zip(one, other, strict=True))


def guest(text: str) -> GuestXml:
    found = GuestXml.of(text)
    assert found is not None
    return found


def test_what_is_written_again_is_the_same() -> None:
    told = 0
    for text in (*ASKED, FULL):
        found = GuestXml.of(text)
        if found is not None:
            assert same(ET.fromstring("\n".join(found.lines())), ET.fromstring(text))
            told += 1
    assert told > 50


@pytest.mark.long
@pytest.mark.parametrize("libvirt", QEMUS)
def test_without_a_host_it_is_what_libvirt_starts_on_every_host(libvirt: str) -> None:
    """Where no host is asked for, every captured host's libvirt made the same -cpu of it, or refused it there."""
    release, made = releases.libvirt(libvirt.rpartition(".")[0]), 0
    started: dict[str, set[str | None]] = {}
    for (_, of, do), found in rows("rows").items():
        for row in found if (of, do) == (libvirt, "argv") else ():
            request, answer = row["request"], row.get("answer")
            if answer is not None and request.get("cpu") and not request.keys() & {"virt", "features", "clock", "vcpus"}:
                started.setdefault(request["cpu"], set()).add(answer.get("-cpu"))
    for cpu, arguments in started.items():
        if (asked := GuestXml.of(cpu)) is not None:
            with suppress(InputError):  # what hangs on the host
                assert {hostless(asked, release, QEMUS[libvirt]).argument} == arguments
                made += 1
    assert made > 20


@pytest.mark.parametrize(
    ("cpu", "why"),
    [
        ("<cpu mode='host-model'/>", "mode='host-model' is what libvirt makes of a host's CPU"),
        ("<cpu match='minimum'><model>Nehalem</model></cpu>", "match='minimum' is what libvirt makes of a host's CPU"),
        ("<cpu><model>Nehalem</model><feature policy='optional' name='avx'/></cpu>", "policy='optional' of avx is settled by the host"),
        (
            "<cpu><model>cpu64-rhel6</model></cpu>",
            "QEMU has no model cpu64-rhel6, and which one libvirt takes in its place depends on the host",
        ),
    ],
)
def test_what_hangs_on_the_host_asks_for_one(cpu: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        hostless(guest(cpu), releases.libvirt("11.3"), "10.0")


def test_what_no_host_takes_is_refused_in_libvirts_words() -> None:
    with pytest.raises(LibvirtError, match="unknown CPU feature: nonsense"):
        hostless(guest("<cpu><model>Nehalem</model><feature name='nonsense'/></cpu>"), releases.libvirt("11.3"), "10.0")


def test_what_each_form_loses_is_named() -> None:
    domain = guest(f"<domain type='kvm'><vcpu>4</vcpu><features><hyperv/></features>{FULL}</domain>")
    planned = hostless(domain, releases.libvirt("11.3"), "10.0")
    assert planned.argument == "Skylake-Server,vendor=KVMKVMKVMKVM,vmx=on,pku=off,ss=on,mpx=off,l3-cache=on,phys-bits=42"
    attributes = ["match='strict'", "check='full'", "fallback='forbid'"]
    policies = ["policy='force' of vmx", "policy='forbid' of pku"]
    assert lost_in_qemu(domain, planned)[:-1] == [*attributes, "<vendor>Intel</vendor>", "<topology>", *policies, "<numa>"]
    assert lost_in_qemu(domain, planned)[-1].startswith("osxsave: QEMU never had this feature")
    lost = domain.lost(IN_SNAPSHOTS)
    assert lost == [*attributes, "vendor_id='KVMKVMKVMKVM'", "<topology>", "<cache>", "<maxphysaddr>", *policies, "<numa>"]
    assert list(domain.outside()) == ["the domain's <hyperv>, which stands outside <cpu>"]


@pytest.mark.parametrize(
    "text",
    [
        "<cpu><arch>x86_64</arch><model>Nehalem</model></cpu>",
        "<domainCapabilities><cpu><mode name='host-model'/></cpu></domainCapabilities>",
        "<domain><vcpu>2</vcpu></domain>",
        "<cpu><mode name='host-model'/></cpu>",
        "<cpu",
        "CPU 0:\n   0x00000000 0x00: eax=0x0000000d",
    ],
)
def test_what_is_no_guests_cpu_is_none(text: str) -> None:
    assert GuestXml.of(text) is None
