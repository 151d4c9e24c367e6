"""What virsh takes out of files and prints; its words were seen of virsh 9.0."""

from __future__ import annotations

import pytest

from vcpuid.errors import InputError
from vcpuid.libvirt import virsh
from vcpuid.libvirt.layout import laid_out

CPU = "<cpu><arch>x86_64</arch><model>Haswell</model></cpu>"


def test_xml_is_laid_out_as_libvirt_does() -> None:
    xml = """<cpu mode="custom"><model fallback="forbid">a &amp; 'b'</model><feature name="&lt;x&quot;" /><empty></empty></cpu>"""
    assert laid_out(xml, 1) == [
        "  <cpu mode='custom'>",
        "    <model fallback='forbid'>a &amp; &apos;b&apos;</model>",
        "    <feature name='&lt;x&quot;'/>",
        "    <empty/>",
        "  </cpu>",
    ]


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        (CPU, [CPU]),
        (f"<?xml version='1.0'?>\n{CPU}\n{CPU}", [CPU, CPU]),
        (f"<domain>\n  <name>x</name>\n  {CPU}\n</domain>", [CPU]),
        (f"<capabilities><host>{CPU}</host><guest><cpu/></guest></capabilities>", [CPU]),
        (
            "<domainCapabilities><cpu><mode name='host-passthrough' supported='yes'/><mode name='host-model' supported='yes'>"
            "<model>Haswell</model></mode></cpu></domainCapabilities>",
            ["<cpu><model>Haswell</model></cpu>"],
        ),
        ("<domainCapabilities><cpu><mode name='host-model' supported='no'/></cpu></domainCapabilities>", []),
        ("<foo><cpu/></foo>", []),
        ("", []),
        ("<cpu/>", ["<cpu />"]),
    ],
)
def test_the_cpus_of_a_file(text: str, cpus: list[str]) -> None:
    assert virsh.cpus_in(text, "file") == cpus


def test_what_is_no_xml_is_told_with_its_line() -> None:
    with pytest.raises(InputError, match=r"^file\.xml:3: damaged or cut XML"):
        virsh.cpus_in("<cpu>\n<model>\n</cpu>", "file.xml")


def test_the_sentences_of_a_comparison() -> None:
    assert [virsh.compared(result, "c.xml", hypervisor=False) for result in virsh.RESULTS] == [
        "CPU described in c.xml is incompatible with host CPU",
        "CPU described in c.xml is identical to host CPU",
        "Host CPU is a superset of CPU described in c.xml",
    ]
    assert [virsh.compared(result, "c.xml", hypervisor=True) for result in virsh.RESULTS] == [
        "CPU described in c.xml is incompatible with the CPU provided by hypervisor on the host",
        "CPU described in c.xml is identical to the CPU provided by hypervisor on the host",
        "The CPU provided by hypervisor on the host is a superset of CPU described in c.xml",
    ]


def test_what_failed_is_told_before_libvirts_words() -> None:
    assert virsh.errors("start", "XML error: x", "d.xml") == ["error: Failed to create domain from d.xml", "error: XML error: x"]
    assert virsh.errors("argv", "XML error: x", "d.xml") == ["error: XML error: x"]
