"""libvirt's test data is read whole, each leaf as a deliberately simple count finds it; QEMU's replies mean what libvirt takes them for."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from support.peers import LIBVIRT, members
from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Entry, Snapshot
from vcpuid.cpuid.names import all_features, by_bit
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError
from vcpuid.formats import documents, parse
from vcpuid.formats.writing import losses, write

NO_CPU = ("x86_64-host+host-passthrough.xml", "x86_64-host-model.xml", "x86_64-host-passthrough.xml")
"""Files of libvirt's that ask for the host's CPU and name neither a model nor a feature."""


def files() -> dict[str, str]:
    return {name: text for name, text in members(LIBVIRT).items() if not name.endswith(".sig")}


OTHER_ARCHITECTURE = "x86_64-host-incomp-arch.xml"
READ = sorted(name for name in files() if name not in (*NO_CPU, OTHER_ARCHITECTURE))
EXPANDED = [name for name in READ if name.endswith(".json")]


def origin(name: str) -> dict[str, str | None]:
    """Most of the files name a model and its features, and no vendor."""
    return {"kernel": None, "qemu": None, "vendor": parse(files()[name], name)[0].vendor or None}


@pytest.mark.skipif(not READ, reason="libvirt's test data is not there")
def test_the_data_is_whole() -> None:
    assert (len(READ), len(EXPANDED)) == (270 + 31, 31)
    assert f"libvirt's {len(READ)} test files" in (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


@pytest.mark.conformance("libvirt's data", origin)
@pytest.mark.parametrize("name", READ)
def test_every_file_is_read(name: str) -> None:
    text = files()[name]
    cpus = parse(text, name)
    attribute = r"\s+\w+='0x([0-9a-f]+)'"
    wanted = Counter(tuple(int(digits, 16) for digits in found) for found in re.findall(rf"<cpuid{attribute * 6}", text))
    assert Counter((entry.function, entry.index, *entry.registers) for cpu in cpus for entry in cpu.raw) == wanted
    msrs = re.findall(rf"<msr{attribute * 3}", text)
    assert {msr: value for cpu in cpus for msr, value in cpu.msrs.items()} == {int(m, 16): int(d + a.zfill(8), 16) for m, d, a in msrs}
    if name.endswith(".xml"):
        features = [tag for tag in re.findall(r"<feature [^>]*", text) if "optional" not in tag]
        named = Counter(re.search(r"name='([^']*)'", tag)[1] + ("-" if re.search("disable|forbid", tag) else "+") for tag in features)  # type: ignore[index]
        assert Counter(feature + ("+" if has else "-") for cpu in cpus for feature, has in cpu.named.items()) == named


@pytest.mark.parametrize("name", NO_CPU if READ else ())
def test_what_names_no_cpu_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"no <cpu> in it names a model or a feature"):
        parse(files()[name], name)


@pytest.mark.skipif(not READ, reason="libvirt's test data is not there")
def test_what_is_of_another_architecture_is_refused() -> None:
    with pytest.raises(InputError, match=r":2: a CPU of ia64 architecture, not x86"):
        parse(files()[OTHER_ARCHITECTURE], OTHER_ARCHITECTURE)


@pytest.mark.parametrize("name", EXPANDED)
def test_an_expansion_has_the_features_that_libvirt_finds_in_it(name: str) -> None:
    (cpu,) = parse(files()[name], name)
    (enabled,) = parse(files()[name.replace(".json", "-enabled.xml")], name)
    bits = [
        Bit(CpuidWord(entry.function, entry.index, register), position)
        for entry in enabled.raw
        for register, value in zip(REGISTERS, entry.registers, strict=True)
        for position in range(32)
        if value >> position & 1
    ]
    features = [by_bit(bit) for bit in bits]
    assert len(features) > 40
    assert [f for f in features if f is None or not any(cpu.named.get(qemu.name) for qemu in f.qemu_names)] == []
    absent = [f for f in all_features() if f.bit and any(cpu.named.get(qemu.name) is False for qemu in f.qemu_names) and f.libvirt]
    assert len(absent) > 40
    assert not {feature.bit for feature in absent} & set(bits)


@pytest.mark.parametrize("name", [name for name in READ if "<cpudata" in files()[name]][::3])
def test_cpudata_comes_back(name: str) -> None:
    cpus = parse(files()[name], name)
    text = "\n".join(write(cpus, "cpudata"))
    assert parse(text, name) == cpus
    assert re.sub(r"<!--.*-->", "", files()[name]).strip() == text


HASWELL = """\
<domainCapabilities><cpu>
  <mode name='host-passthrough' supported='yes'/>
  <mode name='maximum' supported='yes'/>
  <mode name='host-model' supported='yes'>
    <model fallback='forbid'>Haswell-noTSX</model><vendor>Intel</vendor>
    <feature policy='require' name='vmx'/><feature policy='disable' name='avx2'/><feature policy='optional' name='ss'/>
  </mode>
  <mode name='custom' supported='yes'><model usable='yes'>qemu64</model></mode>
</cpu></domainCapabilities>
"""


INTEL = {"vendor_id": "GenuineIntel"}


def test_domcapabilities_tell_of_the_host_model() -> None:
    assert parse(HASWELL, "caps.xml") == [Snapshot(named={"vmx": True, "avx2": False}, cpuinfo=INTEL, cpu="Haswell-noTSX")]


def test_capabilities_tell_of_the_host() -> None:
    who = "<vendor>Intel</vendor><signature family='6' model='85' stepping='7'/>"
    (told,) = parse(f"<cpu><model>Cascadelake-Server</model>{who}<feature name='vmx'/></cpu>", "caps.xml")
    assert told.cpuinfo == {**INTEL, "cpu_family": "6", "model": "85", "stepping": "7"}
    text = "<capabilities><host><cpu><arch>x86_64</arch><model>Nehalem</model><feature name='vmx'/></cpu></host></capabilities>"
    assert parse(text, "caps.xml") == [Snapshot(named={"vmx": True}, cpu="Nehalem")]


def test_a_cpu_is_written_by_the_names_of_its_features() -> None:
    table = CpuidTable([Entry(0, 0, 0, 7, 0x756E6547, 0x6C65746E, 0x49656E69), Entry(1, 0, 0, 0, 0, 0, 1), Entry(7, 0, 0, 0, 1 << 5, 0, 0)])
    text = "\n".join(write([Snapshot(raw=table)], "libvirt"))
    assert "<vendor>Intel</vendor>" in text
    assert parse(text, "cpu.xml") == [Snapshot(named={"fpu": True, "vme": False, "pse": False, "avx2": True}, cpuinfo=INTEL, cpu="486")]


def test_features_without_a_name_are_told_of() -> None:
    table = CpuidTable([Entry(6, 0, 0, 1, 0, 8, 0)])
    assert any("without a name in libvirt: dtherm epb" in lost for lost in losses([Snapshot(raw=table)], "libvirt"))


def test_qemus_reply_becomes_libvirts_cpu() -> None:
    reply = '{"return": {"model": {"name": "base", "props": {"sse4.1": true, "sse4_1": true, "avx": false, "pmu": true, "level": 13}}}}'
    (cpu,) = parse(reply, "reply.json")
    assert cpu == Snapshot(named={"sse4.1": True, "avx": False}, cpuinfo={"cpuid_level": "13"}, cpu="base")
    assert "  <feature policy='require' name='sse4.1'/>" in write([cpu], "libvirt")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("<cpudata arch='x86'>\n  <cpuid eax_in='0x0' ", r":2: damaged or cut XML"),
        ("<cpudata arch='x86'>\n  <cpuid eax_in='0x0' ecx_in='0x0' eax='0x1' ebx='0x1' ecx='0x1' edx='0x1'/>\n", ":3: damaged or cut XML"),
        ("<cpudata arch='x86'><cpuid eax_in='0x0' eax='0x1' ebx='0x1' ecx='0x1'/></cpudata>", ":1: edx of a <cpuid> is missing"),
        ("<cpudata arch='x86'><cpuid eax_in='0x100000000'/></cpudata>", "is not a number of 32 bits"),
        ("<cpudata arch='x86'><cpuid eax_in='-1'/></cpudata>", "eax_in of a <cpuid> '-1' is not a number"),
        ("<cpudata arch='ppc64'/>", "a CPU of ppc64 architecture"),
        ("<!DOCTYPE cpu [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>\n<cpu><model>&b;</model></cpu>", ":1: XML with a document type"),
        ("<cpu><model>&b;</model></cpu>", ":1: damaged or cut XML: undefined entity"),
        ("<cpu><model>486</model><feature name=''/></cpu>", "'' is not the name of a feature"),
        ("<cpu><feature name='vmx'/><feature name='vmx' policy='disable'/></cpu>", "vmx both with and without"),
        ("<cpu>" * (documents.LIMIT // 5 + 1), "more than 2 MiB"),
        ('{"return": {"model": {"name": "base", "props": {"avx2": tr', ":1: damaged or cut JSON"),
        ('{"return": []}', "no reply to query-cpu-model-expansion"),
        ('{"return": ' + "[" * 100_000, "nested too deep"),
        ('{"return": ' + "1" * 10_000 + "}", "an endless number"),
        ('{"return": {"model": {"props": {"sse4.1": true, "sse4_1": false}}}}', "sse4_1 is False, which its other name contradicts"),
    ],
)
def test_what_is_damaged_or_harmful_is_refused(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause) as caught:
        parse(text, "cpu.xml")
    assert str(caught.value).startswith("cpu.xml:")
    assert len(str(caught.value)) < 200
