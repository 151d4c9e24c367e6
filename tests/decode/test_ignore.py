"""What a comparison leaves out, by every way to say it."""

from __future__ import annotations

import pytest

from vcpuid import decode
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, MsrWord
from vcpuid.cpuid.words import Word
from vcpuid.decode.layout import layout
from vcpuid.errors import InputError

VENDOR = Entry(0, 0, 0, 0x20, 0x756E6547, 0x6C65746E, 0x49656E69)
TABLE = CpuidTable([VENDOR, Entry(1, 0, 0, 0x6FB, 0x00010800, 0, 0), Entry(7, 1, 1, 0, 0, 0, 0), Entry(0xB, 0, 1, 0, 1, 0x100, 0)])
APIC_ID = (CpuidWord(1, 0, "ebx"), 0x02000000)
X2APIC_ID = (CpuidWord(0xB, 0, "edx"), 1)
AVX_VNNI = (CpuidWord(7, 1, "eax"), 1 << 4)


@pytest.mark.parametrize(
    ("texts", "left_out"),
    [
        ([], []),
        (["none"], []),
        (["cpu"], [APIC_ID, X2APIC_ID]),
        (["cpu", "7"], [APIC_ID, X2APIC_ID, AVX_VNNI]),
        (["1"], [APIC_ID]),
        (["0x1.0"], [APIC_ID]),
        (["1.1"], []),
        (["7.1"], [AVX_VNNI]),
        (["1.0.EBX"], [APIC_ID]),
        (["1.0.eax"], []),
        (["1.0.ebx.31:24"], [APIC_ID]),
        (["1.0.ebx.25"], [APIC_ID]),
        (["1.0.ebx.24"], []),
        (["b", "brand_id"], [X2APIC_ID]),
        (["local-apic-id"], [APIC_ID]),
        (["AVX-VNNI"], [AVX_VNNI]),
        (["CPUID[eax=07h,ecx=01h].EAX [bit 4]"], [AVX_VNNI]),
    ],
)
def test_what_is_left_out(texts: list[str], left_out: list[tuple[Word, int]]) -> None:
    ignored = decode.Ignored(texts, [TABLE])
    assert [place for place in (APIC_ID, X2APIC_ID, AVX_VNNI) if not ignored.counts(*place)] == left_out


def test_a_word_counts_while_one_of_its_bits_does() -> None:
    ignored = decode.Ignored(["local_apic_id"], [TABLE])
    assert ignored.counts(CpuidWord(1, 0, "ebx"), 0x03000001)


def test_a_name_of_hexadecimal_digits_is_no_leaf() -> None:
    ignored = decode.Ignored(["de"], [TABLE])
    assert not ignored.counts(CpuidWord(1, 0, "edx"), 1 << 2)
    assert ignored.counts(CpuidWord(0xDE, 0, "eax"), 1)


@pytest.mark.parametrize("text", ["core_type", "core-native-model-id", "xen_vcpu_id", "L3_LINE_SIZE", "cba", "reserved"])
@pytest.mark.parametrize("tables", [[], [TABLE]])
def test_whether_a_name_is_taken_does_not_depend_on_the_tables(text: str, tables: list[CpuidTable]) -> None:
    ignored = decode.Ignored([text], tables)
    assert all(ignored.counts(*place) for place in (APIC_ID, X2APIC_ID, (CpuidWord(0xCBA, 0, "eax"), 1)))


def test_features_of_msrs_are_left_out_too() -> None:
    assert not decode.Ignored(["rdctl-no"], [TABLE]).counts(MsrWord(0x10A), 1)
    assert decode.Ignored(["rdctl-no"], [TABLE]).counts(MsrWord(0x10A), 2)


@pytest.mark.parametrize(
    "text", ["no_such_thing", "1.0.ebx.32", "1.0.ebx.3:4", "1.0.efx", "", "123456789", "1.ebx", "-1", "1_0.0", "+7", " 7", "7.-1"]
)
def test_what_is_no_place_and_no_name_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        decode.Ignored([text], [TABLE])


def test_fields_that_differ_by_cpu_are_fields() -> None:
    for function, name in decode.PER_CPU:
        assert name in {field.name for who in ("amd", "xen", "transmeta") for word in layout(function, 0, who) for field in word.fields}


@pytest.mark.parametrize(
    ("entries", "place"),
    [
        (["80860007"], (CpuidWord(0x80860007, 0, "eax"), 0xFFFF)),
        (["c0000002"], (CpuidWord(0xC0000002, 0, "eax"), 0xFFFF)),
        (["c0000004"], (CpuidWord(0xC0000004, 0, "ebx"), 0x3FFFFF)),
        (["40000100", "40000104"], (CpuidWord(0x40000104, 0, "ebx"), 0xFFFFFFFF)),
    ],
)
def test_what_varies_with_time_or_by_vcpu_is_left_out_too(entries: list[str], place: tuple[Word, int]) -> None:
    xen = (0x40000105, 0x566E6558, 0x65584D4D, 0x4D4D566E)
    table = CpuidTable(Entry(number, 0, 0, *(xen if number == 0x40000100 else (0, 0, 0, 0))) for number in (int(n, 16) for n in entries))
    assert not decode.Ignored(["cpu"], [table]).counts(*place)
    assert decode.Ignored([], [table]).counts(*place)
