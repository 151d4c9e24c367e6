"""The forms of other VMMs' logs and tools, of libcpuid and lscpu: as the programs print them, and cut."""

from __future__ import annotations

import json

import pytest

from support.peers import PEERS, members
from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import identify, parse

VENDOR = (0x756E6547, 0x6C65746E, 0x49656E69)
HOST = CpuidTable([Entry(0, 0, 0, 7, *VENDOR), Entry(7, 0, 0, 0, 0x9C6FBB, 0, 0xBC000400)])
GUEST = CpuidTable([Entry(0, 0, 0, 7, *VENDOR), Entry(7, 0, 0, 0, 0x2401, 0, 0x30000400)])

LIBCPUID = """\
version=0.6.4

_________________ Logical CPU #0 _________________
basic_cpuid[0]=00000007 756e6547 6c65746e 49656e69
basic_cpuid[7]=00000000 009c6fbb 00000000 bc000400
basic_cpuid[8]=00000001 00000002 00000003 00000004
intel_fn4[0]=1c004121 02c0003f 0000003f 00000000
intel_fn4[1]=00000000 00000000 00000000 00000000
intel_fn4[2]=1c004143 01c0003f 000003ff 00000000
"""
VIRTUALBOX = """\
00:00:06.706550          Raw Standard CPUID Leaves
00:00:06.706560      Leaf/sub-leaf  eax      ebx      ecx      edx
00:00:06.706561 Gst: 00000000/0000  00000007 756e6547 6c65746e 49656e69
00:00:06.706562 Hst:                00000007 756e6547 6c65746e 49656e69
00:00:06.706596 Gst: 00000007/0000  00000000 00002401 00000000 30000400
00:00:06.706597 Hst:                00000000 009c6fbb 00000000 bc000400
"""
VMWARE = """\
2016-01-04T16:19:46.611-08:00| vmx| I125: hostCPUID level 00000000, 0: 0x00000007 0x756e6547 0x6c65746e 0x49656e69
2016-01-04T16:19:46.611-08:00| vmx| I125: hostCPUID level 00000007, 0: 0x00000000 0x009c6fbb 0x00000000 0xbc000400
"""
VMWARE_BESIDE = """\
2021-02-25T07:57:28.054+09:00| vmx| I005: guest vs. host CPUID       level eaxIn, ecxIn:        eax        ebx        ecx        edx
2021-02-25T07:57:28.054+09:00| vmx| I005: guest vs. host CPUID guest level 00000000,  0: 0x00000007 0x756e6547 0x6c65746e 0x49656e69
2021-02-25T07:57:28.054+09:00| vmx| I005: guest vs. host CPUID guest level 00000007,  0: 0x00000000 0x00002401 0x00000000 0x30000400
2021-02-25T07:57:28.054+09:00| vmx| I005: guest vs. host CPUID *host level 00000007,  0: 0x00000000 0x009c6fbb 0x00000000 0xbc000400
"""
BOCHS = """\
00000000000i[CPU0  ] CPUID[0x00000000]: 00000007 756e6547 6c65746e 49656e69
00000000000i[CPU0  ] CPUID[0x00000007]: 00000000 009c6fbb 00000000 bc000400
"""
XEN = """\
Raw policy: 2 leaves, 1 MSRs
 CPUID:
  leaf     subleaf  -> eax      ebx      ecx      edx
  00000000:ffffffff -> 00000007:756e6547:6c65746e:49656e69
  00000007:00000000 -> 00000000:009c6fbb:00000000:bc000400
 MSRs:
  index    -> value
  0000010a -> 000000000a000c04
HVM Max policy: 2 leaves, 1 MSRs
 CPUID:
  leaf     subleaf  -> eax      ebx      ecx      edx
  00000000:ffffffff -> 00000007:756e6547:6c65746e:49656e69
  00000007:00000000 -> 00000000:00002401:00000000:30000400
 MSRs:
  index    -> value
  0000010a -> 0000000000000000
"""
LSCPU = """\
Architecture:                    x86_64
Vendor ID:                       GenuineIntel
CPU family:                      6
Model:                           142
Model name:                      Intel(R) Core(TM) i7-10510U CPU @ 1.80GHz
Flags:                           fpu vme de pse tsc msr
"""
DUMPS = {"libcpuid": LIBCPUID, "virtualbox": VIRTUALBOX, "vmware": VMWARE, "bochs": BOCHS, "xen": XEN}


@pytest.mark.parametrize("form", DUMPS)
def test_a_form_is_known_and_says_what_the_others_say(form: str) -> None:
    found, (cpu, *_) = identify(DUMPS[form], "dump")
    assert found.name == form
    assert {entry for entry in cpu.raw if entry.function != 4} == set(HOST)


def test_libcpuids_arrays_end_where_the_leaf_and_the_range_do() -> None:
    (cpu,) = parse(LIBCPUID, "dump")
    assert [(entry.function, entry.index) for entry in cpu.raw] == [(0, 0), (7, 0), (4, 0)]


@pytest.mark.parametrize("text", [VIRTUALBOX, VMWARE_BESIDE])
def test_a_log_of_both_has_the_guests_table_beside_the_host(text: str) -> None:
    assert parse(text, "dump") == [Snapshot(raw=HOST, table=GUEST)]


def test_xens_policies_are_cpus_and_the_raw_ones_msrs_are_the_hardwares() -> None:
    raw, hvm = parse(XEN, "dump")
    assert raw.hardware_msrs == {0x10A: 0xA000C04}
    assert not hvm.hardware_msrs
    assert set(hvm.raw) == set(GUEST)
    assert hvm.notes == ("Xen's HVM Max policy",)


def test_lscpu_tells_flags() -> None:
    fields = [{"field": name + ":", "data": value.strip()} for name, _, value in (line.partition(":") for line in LSCPU.splitlines())]
    nested = {"lscpu": [{**fields[0], "children": fields[1:]}]}
    for text in (LSCPU, json.dumps(nested), json.dumps(nested, indent=3)):
        (cpu,) = parse(text, "lscpu")
        assert cpu.cpuinfo["flags"] == "fpu vme de pse tsc msr"
        assert cpu.cpuinfo["model"] == "142"
        assert not cpu.raw


def test_xenservers_words_are_features() -> None:
    text = "cpu_count : 8; vendor: GenuineIntel; features_hvm: 1fcbfbff-f7fa3223-2c100800-00000121-0000000f-219c07ab\n"
    (cpu,) = parse(text, "xe")
    assert cpu.cpuinfo == {"vendor_id": "GenuineIntel"}
    assert cpu.named["7.0.ebx.5"]
    assert not cpu.named["7.0.ebx.16"]
    assert cpu.named["80000001.0.edx.11"]
    assert not any(place.startswith("7.0.edx") for place in cpu.named)
    with pytest.raises(InputError, match="words"):
        parse("features: " + "-".join(["00000000"] * 40) + "\n", "xe")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LIBCPUID.replace("009c6fbb 00000000 bc000400", "009c6fbb 00000000 bc0004"), 5),
        (VIRTUALBOX.replace("009c6fbb 00000000 bc000400", "009c6fbb 00000000 bc0004"), 6),
        (VMWARE.replace(" 0xbc000400", ""), 2),
        (BOCHS.replace(" bc000400", ""), 2),
        (XEN.replace(":bc000400", ""), 5),
        (VIRTUALBOX.replace("Gst: 00000000/0000", "Hst:              ", 1), 3),
        (VIRTUALBOX.replace("Gst: 00000007/0000", "Gst: 00000000/0000", 1), 5),
    ],
)
def test_what_is_cut_or_contradicts_itself_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(InputError) as refused:
        parse(text, "dump")
    assert refused.value.line == line


LIBCPUIDS = members(PEERS / "libcpuid-tests.tar.xz")
REFUSED = {
    "amd-ryzen-7-5800x3d-8-core-processor.test": "ends behind the heading",
    "intel-xeon-7020-quad.test": "is cut here",
    "intel-xeon-7140m-dual.test": "is cut here",
    "intel-xeon-cpu-3.40ghz-cranford-dual.test": "is cut here",
}
"""Dumps of libcpuid's own tests that are cut, as they stand there."""


@pytest.mark.skipif(not LIBCPUIDS, reason="libcpuid's tests are not in the folder that VCPUID_PEERS names")
def test_every_dump_of_libcpuids_own_tests_is_read() -> None:
    dumps = {name: text for name, text in LIBCPUIDS.items() if "arm_midr" not in text}
    assert len(dumps) > 400
    for name, text in dumps.items():
        if name in REFUSED:
            with pytest.raises(InputError, match=REFUSED[name]):
                parse(text, name)
        else:
            assert all(cpu.raw for cpu in parse(text, name)), name


def test_the_words_of_xenserver_5_6_have_an_order_of_their_own() -> None:
    (cpu,) = parse("features: 7ffafbff-bfebfbff-00000021-2c100800; vendor: GenuineIntel\n", "xe")
    assert cpu.named["1.0.ecx.20"]
    assert cpu.named["1.0.edx.15"]
    assert cpu.named["80000001.0.ecx.0"]
    assert cpu.named["80000001.0.edx.29"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("features_hvm: 1fcbfbff-f7fa3223-2c1008\nfeatures_pv: 1fcbfbff-f7fa3223-2c100800\n", ":1: .*cut or damaged"),
        ("features_hvm: 1fcbfbff-f7fa3223\nfeatures_hvm: 00000000-00000000\n", ":2: a second, different feature set"),
        ("features: 7ffafbff-bfebfbff-00000021-2c100800-00000000\n", "5 words: 4 are known"),
        ("Flags: fpu vme\nFlags: avx avx2\n", "Flags twice"),
        ('{"lscpu": [{"field": "Flags:", "data": "fpu"}, {"field": "Flags:", "data": "avx"}]}', "Flags twice"),
        (VMWARE + VIRTUALBOX, "another form too"),
        (VIRTUALBOX + VMWARE, "another form too"),
        (BOCHS + VIRTUALBOX, "another form too"),
    ],
)
def test_two_answers_in_one_text_are_refused(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        parse(text, "it")


def test_a_policy_of_xen_above_the_first_heading_takes_no_other_ones_name() -> None:
    first, *others = parse(XEN.partition("\n")[2], "xen-cpuid")
    assert not any("policy" in note for note in first.notes)
    assert not first.hardware_msrs
    assert any("HVM Max policy" in note for note in others[0].notes)
