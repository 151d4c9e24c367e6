"""XML around a CPU: what is none of libvirt's, several CPUs, other architectures, and the line of what is wrong."""

from __future__ import annotations

import gc

import pytest

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import documents, parse
from vcpuid.formats.lines import ENTRY_LIMIT


def cpuid(function: int, eax: int = 1) -> str:
    return f"  <cpuid eax_in='{function:#x}' ecx_in='0x0' eax='{eax:#x}' ebx='0x2' ecx='0x3' edx='0x4'/>\n"


def cpudata(*children: str) -> str:
    return f"<cpudata arch='x86'>\n{''.join(children)}</cpudata>\n"


def test_several_cpudata_are_several_cpus() -> None:
    text = f"<cpus>\n{cpudata(cpuid(0))}<!-- and -->{cpudata(cpuid(0, 2))}</cpus>\n"
    wanted = [Snapshot(raw=CpuidTable([Entry(0, 0, 0, eax, 2, 3, 4)])) for eax in (1, 2)]
    assert parse(text, "cpu.xml") == wanted


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("<cpudata xmlns='http://libvirt.org/x' arch='x86'>\n</cpudata>", "cpu.xml: no <cpudata> in it"),
        ("<a><!-- <cpudata > --></a>", "cpu.xml: no <cpudata> in it"),
        (cpudata(cpuid(0), cpuid(1).replace("edx='0x4'", "")), "cpu.xml:3: edx of a <cpuid> is missing"),
        (cpudata(cpuid(0), cpuid(1).replace("eax_in='0x1'", "")), "cpu.xml:3: eax_in of a <cpuid> is missing"),
        (cpudata(cpuid(0), cpuid(1, 1 << 32)), "cpu.xml:3: eax of a <cpuid> '0x100000000' is not a number of 32 bits"),
        (cpudata(cpuid(0), "<!--\n-->", cpuid(0, 2)), "cpu.xml:4: a second, different answer of CPUID 0.0"),
        (cpudata(cpuid(0), "  <msr index='0x10a' eax='0x1'/>\n"), "cpu.xml:3: edx of a <msr> is missing"),
        (f"<cpus>\n{cpudata(cpuid(0))}{cpudata()}</cpus>", "cpu.xml:5: a <cpudata> with nothing in it"),
        (f"<cpus>\n{cpudata(cpuid(0))}<cpudata arch='ppc64'/></cpus>", "cpu.xml:5: a CPU of ppc64 architecture"),
        (cpudata(*map(cpuid, range(ENTRY_LIMIT + 1))), f"cpu.xml:{ENTRY_LIMIT + 2}: a CPU with more than {ENTRY_LIMIT} answers"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=f"^{cause}"):
        parse(text, "cpu.xml")


@pytest.mark.bounds
def test_the_look_for_a_line_leaves_nothing_to_the_collector_of_cycles() -> None:
    text = cpudata(*map(cpuid, range(100)))
    root = documents.parse_xml(text, "cpu.xml")
    gc.collect()
    gc.disable()
    try:
        assert documents.line_of(root[-1], root, text) == 101
        assert gc.collect() == 0
    finally:
        gc.enable()


HOST = """\
<capabilities>
  <host><cpu>
    <arch>{arch}</arch><model>{model}</model>
  </cpu></host>
  <guest><arch name='aarch64'>
    <wordsize>64</wordsize>
  </arch></guest>
</capabilities>
"""
DOMAIN = "<domain>\n<os>\n<type arch='{arch}' machine='virt'>hvm</type></os>\n<cpu mode='custom'><model>{model}</model></cpu></domain>"
DOMCAPS = """\
<domainCapabilities>

  <arch>{arch}</arch>
  <cpu><mode name='host-model' supported='yes'><model>{model}</model></mode></cpu>
</domainCapabilities>
"""


@pytest.mark.parametrize("text", [HOST, DOMAIN, DOMCAPS], ids=["capabilities", "domain", "domcapabilities"])
def test_only_x86_is_read(text: str) -> None:
    for arch in ("x86_64", "i686"):
        assert parse(text.format(arch=arch, model="Nehalem"), "cpu.xml") == [Snapshot(cpu="Nehalem")]
    with pytest.raises(InputError, match=r"^cpu.xml:3: a CPU of aarch64 architecture, not x86"):
        parse(text.format(arch="aarch64", model="cortex-a72"), "cpu.xml")
