"""What several fields say together, on registers of real processors."""

from __future__ import annotations

from importlib import import_module
from unittest.mock import Mock

import pytest

from support.captures import MACHINES, host
from vcpuid import decode
from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.decode.descriptors import Descriptor, describe
from vcpuid.decode.report import decoded, head
from vcpuid.decode.topology import Cpus

INTEL = Entry(0, 0, 0, 0x20, 0x756E6547, 0x6C65746E, 0x49656E69)
AMD = Entry(0, 0, 0, 0x10, 0x68747541, 0x444D4163, 0x69746E65)


def intel(*entries: tuple[int, ...]) -> CpuidTable:
    return CpuidTable([INTEL, *(Entry(function, index, 0, *registers) for function, index, *registers in entries)])


def amd(*entries: tuple[int, ...]) -> CpuidTable:
    return CpuidTable([AMD, *(Entry(function, index, 0, *registers) for function, index, *registers in entries)])


@pytest.mark.parametrize(
    ("leaf0", "signature", "names"),
    [
        (INTEL, 0xC06F2, ("Raptor Cove", "Emerald Rapids")),
        (INTEL, 0x50654, ("Skylake", "Skylake-X")),
        (INTEL, 0x50657, ("Skylake", "Cascade Lake")),
        (AMD, 0xA20F12, ("Zen 3", "Vermeer")),
        (AMD, 0xA10F11, ("Zen 4", "Genoa")),
        (AMD, 0xFFF0FF0, (None, None)),
    ],
)
def test_the_names_of_processors(leaf0: Entry, signature: int, names: tuple[str | None, str | None]) -> None:
    who = decode.identity(CpuidTable([leaf0, Entry(1, 0, 0, signature, 0, 0, 0)]))
    assert (who.microarchitecture, who.design) == names


@pytest.mark.parametrize(("brand", "design"), [(b"ZHAOXIN KaiXian ", "ZX-C"), (b"VIA Eden X4 C425", "Eden X4")])
def test_a_brand_tells_zhaoxins_processors_from_vias(brand: bytes, design: str) -> None:
    words = (int.from_bytes(brand[at : at + 4], "little") for at in range(0, 16, 4))
    centaur = Entry(0, 0, 0, 0xD, 0x746E6543, 0x736C7561, 0x48727561)
    table = CpuidTable([centaur, Entry(1, 0, 0, 0x6FE, 0, 0, 0), Entry(0x80000002, 0, 0, *words)])
    assert decode.identity(table).design == design


def test_without_leaf_1_nobody_knows_the_family() -> None:
    who = decode.identity(CpuidTable([INTEL]))
    assert (who.vendor, who.family, who.model, who.stepping, who.signature, who.design) == ("GenuineIntel", *[None] * 5)
    assert head(CpuidTable([INTEL])) == ["GenuineIntel", ""]
    assert head(CpuidTable([Entry(7, 0, 0, 0, 1, 0, 0)])) == []
    summary = decoded("raw", CpuidTable([INTEL]), Cpus([CpuidTable([INTEL])]))
    assert summary["identity"] == {**who._asdict(), "hypervisors": []}


def test_a_brand_is_what_stands_before_its_end() -> None:
    table = amd((0x80000002, 0, 0x20444D41, 0x43595045, 0x00202020, 0x58585858))
    assert decode.identity(table).brand == "AMD EPYC"


def test_caches_of_leaf_4() -> None:
    table = intel((4, 0, 0xFC004121, 0x02C0003F, 0x3F, 0), (4, 1, 0xFC1FC163, 0x0380003F, 0x7FFF, 4), (4, 2, 0, 0, 0, 0))
    first, third = decode.caches(table)
    assert (first.name, first.size, first.ways, first.line, first.sets, first.shared) == ("L1d", 48 << 10, "12", 64, 64, 2)
    assert (third.name, third.size, third.ways, third.shared, third.inclusive) == ("L3", 30 << 20, "15", 128, False)


def test_caches_of_amds_old_leaves() -> None:
    table = amd((0x80000005, 0, 0, 0, 0x40020140, 0x40020140), (0x80000006, 0, 0, 0, 0x02008140, 0x00800000 | 0x30 << 12 | 0x140))
    assert [(cache.name, cache.size, cache.ways) for cache in decode.caches(table)] == [
        ("L1d", 64 << 10, "2"),
        ("L1i", 64 << 10, "2"),
        ("L2", 512 << 10, "16 to 31"),
        ("L3", 16 << 20, "off"),
    ]


def test_intels_associativity_of_l2_may_refer_to_leaf_4() -> None:
    def ways(who: str) -> list[str]:
        return [values(Entry(0x80000006, 0, 0, 0, 0, number << 12, 0), who)["l2_assoc"] for number in (2, 4, 6, 7, 9, 15)]

    assert ways("intel") == ["2", "4", "8", "see leaf 4", "reserved", "full"]
    assert ways("amd") == ["2", "4 to 5", "8 to 15", "reserved", "see leaf 0x8000001d", "full"]
    (second,) = decode.caches(intel((0x80000006, 0, 0, 0, 0x01006040, 0)))
    assert (second.size, second.ways) == (256 << 10, "8")


def test_l2_tlbs_of_zen_5_are_told_in_units_of_32_entries() -> None:
    table = amd((0x80000006, 0, 0x40802040, 0x60804040, 0x04008140, 0x02009140), (0x80000021, 0, 0x593FFFCF, 0x80382, 0, 0))
    told = {(tlb.kind, tlb.pages): tlb.entries for tlb in decode.tlbs(table)}
    assert told == {("L2 code", "2M 4M"): 2048, ("L2 data", "2M 4M"): 4096, ("L2 code", "4K"): 2048, ("L2 data", "4K"): 4096}


def test_descriptors_of_leaf_2() -> None:
    table = intel((2, 0, 0x605B5101, 0, 0, 0x7B7040))
    assert [(cache.name, cache.size) for cache in decode.caches(table)] == [
        ("L1d", 16 << 10),
        ("trace cache", 12 << 10),
        ("L2", 512 << 10),
    ]
    assert [(tlb.kind, tlb.entries) for tlb in decode.tlbs(table)] == [("code", 128), ("data", 64)]
    assert describe(0x63) == "data TLB 2M/4M pages, 32 entries, 4-way; data TLB 1G pages, 4 entries, 4-way"
    assert describe(0x70, "cyrix") != describe(0x70)
    assert describe(0xEE) == "unknown descriptor 0xee"


def test_a_trace_cache_is_told_by_leaf_2_though_leaf_4_tells_the_others() -> None:
    table = intel((2, 0, 0x605B5101, 0, 0, 0x700000), (4, 0, 0x4121, 0x01C0003F, 0x1F, 0))
    assert [(cache.name, cache.amount, cache.source) for cache in decode.caches(table)] == [
        ("trace cache", "12K µops", "0x2"),
        ("L1d", "16 KiB", "0x4.0"),
    ]
    assert "trace cache 12K µops  L1d 16 KiB" in drawn(table)[2]


def test_a_register_of_leaf_2_that_is_not_valid_has_no_descriptors() -> None:
    assert not decode.caches(intel((2, 0, 1, 0x8000002C, 0x80000060, 0)))


def test_topology_of_leaf_0x1f() -> None:
    table = intel((0x1F, 0, 1, 2, 0x100, 5), (0x1F, 1, 3, 8, 0x201, 5), (0x1F, 2, 4, 16, 0x502, 5), (0x1F, 3, 0, 0, 3, 5))
    found = decode.topology(table)
    assert [(level.name, level.shift, level.processors) for level in found.levels] == [("core", 1, 2), ("die", 3, 8), ("package", 4, 16)]
    assert (found.apic_id, found.source, found.processors) == (5, "0x1f", 16)
    assert found.counts() == {"thread": 16, "core": 8, "die": 2, "package": 1}


def test_topology_of_amds_leaf_0x80000026() -> None:
    table = amd((0x80000026, 0, 1, 2, 0x100, 3), (0x80000026, 1, 4, 16, 0x201, 3), (0x80000026, 2, 7, 32, 0x402, 3))
    found = decode.topology(table)
    assert [(level.name, level.processors) for level in found.levels] == [("core", 2), ("complex", 16), ("package", 32)]


def test_topology_without_a_topology_leaf() -> None:
    table = intel((1, 0, 0x6FB, 0x03040800, 0, 1 << 28), (4, 0, 0x0C000121, 0x01C0003F, 0x3F, 1))
    found = decode.topology(table)
    assert (found.processors, found.apic_id, found.source) == (4, 3, "0x4")


def test_intels_processors_without_leaf_4_have_one_core() -> None:
    gallatin = intel((1, 0, 0xF25, 0x0002080B, 0x4400, 0xBFEBFBFF), (2, 0, 0x665B5001, 0, 0, 0x7A7040))
    assert decode.topology(gallatin).counts() == {"thread": 2, "core": 1, "package": 1}


def test_before_zen_what_shares_is_cores_of_a_compute_unit() -> None:
    def levels(signature: int) -> list[tuple[str, int, int]]:
        table = amd(
            (1, 0, signature, 0x00080800, 0, 1 << 28),
            (0x80000001, 0, 0, 0, 1 << 22 | 2, 0),
            (0x80000008, 0, 0x3030, 0, 0x4007, 0),
            (0x8000001E, 0, 16, 0x100, 0, 0),
        )
        return [tuple(level) for level in decode.topology(table).levels]

    assert levels(0x600F12) == [("core", 0, 1), ("compute unit", 1, 2), ("package", 4, 8)]
    assert levels(0x800F11) == [("core", 1, 2), ("package", 4, 8)]


def test_a_package_is_drawn_as_boxes() -> None:
    table = intel(
        (4, 0, 0x04004121, 0x01C0003F, 0x3F, 0),
        (4, 1, 0x0401C163, 0x03C0003F, 0xFFF, 0),
        (0xB, 0, 1, 2, 0x100, 0),
        (0xB, 1, 2, 4, 0x201, 0),
    )
    assert decode.draw_topology(decode.topology(table)) == [
        "┌ package ────────────────────────────┐",
        "│ ┌ core ─────────┐ ┌ core ─────────┐ │",
        "│ │ thread thread │ │ thread thread │ │",
        "│ │ L1d 32 KiB    │ │ L1d 32 KiB    │ │",
        "│ └───────────────┘ └───────────────┘ │",
        "│ L3 4 MiB                            │",
        "└─────────────────────────────────────┘",
    ]


def drawn(table: CpuidTable, others: list[CpuidTable] | None = None, width: int = 100) -> list[str]:
    return decode.draw_topology(decode.topology(table, others or ()), width)


def test_a_cache_that_no_level_of_the_topology_shares_has_a_box_of_its_own() -> None:
    table = intel((4, 0, 0x0401C143, 0x03C0003F, 0xFFF, 0), (0xB, 0, 1, 2, 0x100, 0), (0xB, 1, 6, 32, 0x201, 0))
    assert drawn(table)[1].startswith("│ ┌ up to 8 threads ─")


def test_a_cache_belongs_to_the_level_whose_apic_ids_share_it_however_few_threads_there_are() -> None:
    without_ht = intel(
        (4, 0, 0x04004121, 0x01C0003F, 0x3F, 0),
        (4, 1, 0x0401C143, 0x03C0003F, 0xFFF, 0),
        (0x1F, 0, 1, 1, 0x100, 0),
        (0x1F, 1, 3, 1, 0x201, 0),
        (0x1F, 2, 7, 2, 0x302, 0),
    )
    assert drawn(without_ht) == [
        "┌ package ──────────────────────────────────────────┐",
        "│ ┌ core, module ────────┐ ┌ core, module ────────┐ │",
        "│ │ thread               │ │ thread               │ │",
        "│ │ L1d 32 KiB  L2 4 MiB │ │ L1d 32 KiB  L2 4 MiB │ │",
        "│ └──────────────────────┘ └──────────────────────┘ │",
        "└───────────────────────────────────────────────────┘",
    ]


def test_a_cache_of_a_single_thread_has_no_box() -> None:
    table = intel((4, 0, 0x121, 0x01C0003F, 0x3F, 0), (0xB, 0, 1, 2, 0x100, 0), (0xB, 1, 3, 2, 0x201, 0))
    assert drawn(table)[1] == "│ thread (L1d 32 KiB) thread (L1d 32 KiB) │"


def test_a_cache_of_which_no_leaf_says_who_shares_it_is_the_cores_or_as_l3_the_packages() -> None:
    thuban = amd(
        (1, 0, 0x100FA0, 0x00020800, 0, 1 << 28),
        (0x80000001, 0, 0, 0, 2, 0),
        (0x80000005, 0, 0, 0, 0x40020140, 0),
        (0x80000006, 0, 0, 0, 0x02008140, 0x00308140),
        (0x80000008, 0, 0x3030, 0, 0x3001, 0),
    )
    lines = drawn(thuban)
    assert lines[3] == "│ │ L1d 64 KiB  L2 512 KiB │ │ L1d 64 KiB  L2 512 KiB │ │"
    assert lines[-2].startswith("│ L3 6 MiB ")


def hybrid(apic_id: int, threads: int, module: int, *, third: bool) -> CpuidTable:
    """A CPU of a Meteor Lake with 2 cores of two threads, 4 of one in a module, and 2 more without an L3 cache."""
    return intel(
        (4, 0, 0x04004121, 0x01C0003F, 0x3F, 0),
        (4, 1, 0x0401C143, 0x03C0003F, 0x7FF, 0),
        *([(4, 2, 0x040FC163, 0x03C0003F, 0x5FFF, 0)] if third else []),
        (7, 0, 0, 0, 0, 1 << 15),
        (0x1F, 0, 1, threads, 0x100, apic_id),
        (0x1F, 1, 3, module, 0x201, apic_id),
        (0x1F, 2, 7, 10, 0x302, apic_id),
    )


HYBRID = [
    *(hybrid(number, 1, 4, third=True) for number in (0, 2, 4, 6)),
    *(hybrid(number, 2, 2, third=True) for number in (8, 9, 16, 17)),
    *(hybrid(number, 1, 2, third=False) for number in (64, 66)),
]


def test_cpus_that_are_not_alike_are_counted_by_their_apic_ids() -> None:
    found = decode.topology(HYBRID[0], HYBRID)
    assert found.counts() == {"thread": 10, "core": 8, "module": 4, "package": 1}
    assert decode.draw_topology(found, 70) == [
        "┌ package ──────────────────────────────────────────────┐",
        "│ ┌ 8 threads ────────────────────────────────────────┐ │",
        "│ │ ┌ module ──────────────────────────────────────┐  │ │",
        "│ │ │ ┌ core ──────┐ ┌ core ──────┐ ┌ core ──────┐ │  │ │",
        "│ │ │ │ thread     │ │ thread     │ │ thread     │ │  │ │",
        "│ │ │ │ L1d 32 KiB │ │ L1d 32 KiB │ │ L1d 32 KiB │ │  │ │",
        "│ │ │ └────────────┘ └────────────┘ └────────────┘ │  │ │",
        "│ │ │ … 4 in all                                   │  │ │",
        "│ │ │ L2 2 MiB                                     │  │ │",
        "│ │ └──────────────────────────────────────────────┘  │ │",
        "│ │ ┌ core, module ────────┐ ┌ core, module ────────┐ │ │",
        "│ │ │ thread thread        │ │ thread thread        │ │ │",
        "│ │ │ L1d 32 KiB  L2 2 MiB │ │ L1d 32 KiB  L2 2 MiB │ │ │",
        "│ │ └──────────────────────┘ └──────────────────────┘ │ │",
        "│ │ L3 24 MiB                                         │ │",
        "│ └───────────────────────────────────────────────────┘ │",
        "│ ┌ module ───────────────────────┐                     │",
        "│ │ ┌ core ──────┐ ┌ core ──────┐ │                     │",
        "│ │ │ thread     │ │ thread     │ │                     │",
        "│ │ │ L1d 32 KiB │ │ L1d 32 KiB │ │                     │",
        "│ │ └────────────┘ └────────────┘ │                     │",
        "│ │ L2 2 MiB                      │                     │",
        "│ └───────────────────────────────┘                     │",
        "└───────────────────────────────────────────────────────┘",
    ]


def test_cpus_with_other_caches_are_not_alike_though_no_flag_says_so() -> None:
    def cpu(apic_id: int, sets: int) -> CpuidTable:
        levels = ((0x80000026, 0, 0, 1, 0x100, apic_id), (0x80000026, 1, 1, 2, 0x201, apic_id), (0x80000026, 2, 2, 4, 0x402, apic_id))
        return amd((0x8000001D, 0, 0x4163, 0x03C0003F, sets - 1, 0), *levels)

    dies = [cpu(number, 98304 if number < 2 else 32768) for number in range(4)]
    assert decode.topology(dies[0], dies).mixed
    assert [line.strip("│ ") for line in drawn(dies[0], dies) if "L3" in line] == ["L3 96 MiB", "L3 32 MiB"]
    assert not decode.topology(dies[0], [dies[0], cpu(1, 98304)]).mixed


@pytest.mark.parametrize("number", [10, 40])
@pytest.mark.parametrize("alike", [True, False])
def test_each_of_many_cpus_is_read_and_their_package_drawn_once(number: int, alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [hybrid(n, 1, 4, third=True) if alike else HYBRID[n % 10] for n in range(number)]
    tables = [
        CpuidTable(e._replace(edx=n) if e.function == 0x1F else e for e in table if e.function != 7) for n, table in enumerate(tables)
    ]
    wanted = [(decode.topology(table, tables), drawn(table, tables)) for table in tables]
    module, drawing = import_module("vcpuid.decode.topology"), import_module("vcpuid.decode.drawing")
    drawing._drawn.cache_clear()
    read = Mock(side_effect=module._own)
    draw = Mock(side_effect=drawing._of_one if alike else drawing._of_members)
    monkeypatch.setattr(module, "_own", read)
    monkeypatch.setattr(drawing, "_of_one" if alike else "_of_members", draw)
    cpus = decode.Cpus(tables)
    assert [(found := cpus.topology(table), decode.draw_topology(found)) for table in tables] == wanted
    assert (wanted[0][0].mixed, len(wanted[0][0].members)) == (not alike, 0 if alike else number)
    assert read.call_count == (number if alike else 2 * number)
    assert draw.call_count <= 4


def test_what_topology_and_caches_are_made_of_has_public_names() -> None:
    members = decode.topology(HYBRID[0], HYBRID).members
    assert isinstance(members, decode.Members)
    assert isinstance(members[0], decode.Processor)
    assert members[0].caches == decode.caches(HYBRID[0])


@pytest.mark.parametrize(("ways", "text"), [(0, "full"), (None, ""), (8, "8")])
def test_ways_of_descriptors_are_spelled_alike_for_caches_and_tlbs(ways: int | None, text: str) -> None:
    assert Descriptor("L2", 1 << 20, "", ways, 64).way_count == text


def test_what_one_cpu_tells_of_others_that_are_not_like_it_is_said_so() -> None:
    found = decode.topology(HYBRID[4])
    assert found.mixed
    assert not found.members
    assert "│ … 5 if all were like this one" in "\n".join(decode.draw_topology(found))
    kinds = amd((0x80000026, 0, 0x60000001, 2, 0x100, 0), (0x80000026, 1, 0xC0000004, 6, 0x201, 0), (0x80000026, 2, 5, 16, 0x402, 0))
    assert "│ … 3 if all were like this one" in "\n".join(drawn(kinds))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_drawing_is_wider_than_it_may_be(width: int) -> None:
    table = intel((0xB, 0, 1, 2, 0x100, 0), (0xB, 1, 8, 256, 0x201, 0))
    lines = drawn(table, width=width)
    assert width - 20 < max(map(len, lines)) <= width
    assert "… 128 in all" in "\n".join(lines)
    assert max(map(len, drawn(HYBRID[0], HYBRID, width))) <= width
    area = decode.xsave(intel((0xD, 0, 7, 0, 4096, 0), (0xD, 2, 256, 576, 0, 0), (0xD, 1, 2, 0, 0, 0)))
    assert max(map(len, decode.draw_xsave(area, width))) <= max(width, 62)


def test_the_xsave_area_in_both_forms() -> None:
    table = intel(
        (0xD, 0, 0x60007, 0, 11008, 0),
        (0xD, 1, 0x1F, 0, 0x100, 0),
        (0xD, 2, 256, 576, 0, 0),
        (0xD, 8, 128, 0, 1, 0),
        (0xD, 17, 64, 2752, 2, 0),
        (0xD, 18, 8192, 2816, 6, 0),
    )
    area = decode.xsave(table)
    assert [(c.name, c.offset, c.compacted, c.supervisor, c.xfd) for c in area.components[2:]] == [
        ("AVX", 576, 576, False, False),
        ("PT", None, 832, True, False),
        ("XTILECFG", 2752, 960, False, False),
        ("XTILEDATA", 2816, 1024, False, True),
    ]
    assert (area.size, area.compacted_size) == (11008, 9216)
    assert any("XTILEDATA (64-byte aligned, XFD)" in line for line in decode.draw_xsave(area))


@pytest.mark.parametrize("name", MACHINES[::5])
def test_components_fill_the_area_that_leaf_0xd_tells(name: str) -> None:
    area = decode.xsave(host(name).raw)
    ends = [component.offset + component.size for component in area.components if component.offset is not None]
    assert max(ends, default=0) == area.size


def test_frequencies() -> None:
    found = decode.frequencies(intel((0x15, 0, 2, 160, 25_000_000, 0), (0x16, 0, 2000, 3400, 100, 0)))
    assert (found.tsc, found.crystal, found.base, found.most, found.bus) == (2 * 10**9, 25 * 10**6, 2 * 10**9, 34 * 10**8, 10**8)
    skylake = intel((0x15, 0, 2, 126, 0, 0), (0x16, 0, 1500, 2600, 100, 0))
    assert decode.frequencies(skylake)[:2] == (1_500_000_000, None)
    assert decode.facts(skylake)["frequency"].startswith("TSC about 1500 MHz; base 1500 MHz")
    assert not found.about
    assert decode.frequencies(intel()).tsc is None


def test_the_timing_leaf_of_a_hypervisor() -> None:
    table = intel((0x40000000, 0, 0x40000010, 0x61774D56, 0x4D566572, 0x65726177), (0x40000010, 0, 2_400_000, 66_000, 0, 0))
    found = decode.frequencies(table)
    assert (found.tsc, found.bus, found.source) == (2_400_000_000, 66_000_000, "0x40000010")


def test_facts_are_told_of_what_is_there_alone() -> None:
    assert decode.facts(intel()) == {}
    told = decode.facts(amd((0x8000001F, 0, 0xB, 0x173, 0x1F3, 5), (0x80000008, 0, 0x3030, 0, 0, 0)))
    assert told["memory encryption"] == "SME, SEV, SEV-ES; C-bit 51; 499 encrypted guests, ASIDs from 5 on without SEV-ES"
    assert told["addresses"] == "48 bits physical, 48 bits linear; 5 bits less under memory encryption"
    sgx = intel((0x12, 0, 3, 0, 0, 0x241F), (0x12, 2, 0x70200001, 0, 0x5D80001, 0))
    assert decode.facts(sgx)["SGX"] == "SGX2; enclaves up to 2^36 bytes; EPC 0x70200000 to 0x75f7ffff"


def test_counters_of_leaf_0x23_count_where_it_lists_them() -> None:
    lunar_lake = (0xA, 0, 0xD300806, 0x280, 7, 0x8603)
    listed = ((0x23, 0, 0xB, 3, 0, 0), (0x23, 1, 0x3FF, 0xF, 0, 0))
    assert decode.facts(intel(lunar_lake))["PMU"] == "version 6: 8 counters of 48 bits; 3 fixed counters of 48 bits"
    assert decode.facts(intel(lunar_lake, *listed))["PMU"] == "version 6: 8 counters of 48 bits; 3 fixed counters of 48 bits"
    assert decode.facts(intel(lunar_lake, (7, 1, 1 << 8, 0, 0, 0), *listed))["PMU"] == (
        "version 6: 10 counters of 48 bits; 4 fixed counters of 48 bits"
    )
    tremont = (0xA, 0, 0x7300805, 0, 0xF, 0x8603)
    assert decode.facts(intel(tremont))["PMU"].endswith("4 fixed counters of 48 bits")


def values(entry: Entry, who: str) -> dict[str, str]:
    return {value.field.name: str(value.reading) for value in decode.leaf(entry, who).values()}


def test_the_same_bits_mean_other_things() -> None:
    leaf = Entry(0x80000001, 0, 0, 0, 0x40000000, 0, 1 << 24 | 1 << 16)
    assert values(leaf, "amd")["pkg_type"] == "4"
    assert "pkg_type" not in values(leaf, "intel")
    assert values(leaf, "cyrix")["cxmmx"] == values(leaf, "amd")["fxsr"] == "yes"
    assert values(leaf, "transmeta")["fcmov"] == "yes"
    hypervisor = Entry(0x40000001, 0, 0, 0x31237648, 0, 0, 0)
    assert values(hypervisor, "hyperv")["hv_interface"] == "Hv#1"
    assert values(hypervisor, "kvm")["kvm-nopiodelay"] == "no"
    assert values(hypervisor, "xen")["xen_major"] == str(0x3123)


def test_hypervisors_are_known_wherever_their_leaves_are() -> None:
    kvm = (0x4B4D564B, 0x564B4D56, 0x4D)
    table = intel(
        (0x40000000, 0, 0x40000005, 0x7263694D, 0x666F736F, 0x76482074),
        (0x40000001, 0, 0x31237648, 0, 0, 0),
        (0x40000100, 0, 0x40000101, *kvm),
        (0x40000101, 0, 1 << 24, 0, 0, 0),
    )
    assert decode.parties(table).hypervisors == {0x40000000: "hyperv", 0x40000100: "kvm"}
    (leaf,) = decode.leaves(table, [(0x40000101, None)])
    assert leaf.who == "kvm"
    assert leaf.value("kvmclock-stable-bit") == 1


def test_what_a_processor_answers_to_leaf_0x40000000_is_no_hypervisor() -> None:
    guest = (1, 0, 0x806F8, 0, 1 << 31, 0)
    no_guest = (1, 0, 0x806F8, 0, 0, 0)
    words = (0x6F462121, 0x6E6F206F, 0x65)  # "!!Foo one"

    def hypervisors(first: tuple[int, ...], *told: int) -> dict[int, str]:
        return decode.identity(intel(first, (0x40000000, 0, *told))).hypervisors

    assert hypervisors(guest, 0, 0, 0, 0) == {}
    assert hypervisors(no_guest, 0xB4, 0xB4, 0, 0) == hypervisors(guest, 0xB4, 0xB4, 0, 0) == {}
    assert hypervisors(guest, 0x40000001, *words) == hypervisors(guest, 0, *words) == {0x40000000: "!!Foo one"}
    assert hypervisors(no_guest, 0x40000001, *words) == hypervisors(guest, 0x16, *words) == {}
    assert hypervisors(no_guest, 0, 0x4B4D564B, 0x564B4D56, 0x4D) == {0x40000000: "KVMKVMKVM"}


def test_bits_that_real_processors_set_have_names() -> None:
    def flags(function: int, *registers: int, who: str = "amd") -> set[str]:
        return {value.field.name for value in decode.leaf(Entry(function, 0, 0, *registers), who).values() if value.raw}

    assert flags(0x80000007, 0, 0x3B, 0, 0) >= {"pfeh", "lwsmi"}
    assert flags(0x80000007, 0x0D6B0101, 0, 0, 0) == {"n_feedback_monitors", "feedback_version", "feedback_max_wrap_time"}
    assert flags(0x8000001B, 0x81800, 0, 0, 0) == {"ibs_l3_miss_filter", "ibs_load_lat_filter", "ibs_dtlb_pgsize"}
    assert flags(0x80000008, 0, 1 << 10 | 1 << 9, 0, 0) == {"wbnoinvd", "lbr_extn"}
    assert flags(0x8000000A, 0, 0, 0, 1 << 11) == {"encrypted_mcode_patch"}
    assert flags(0x80000001, 0, 0, 1 << 25, 0) == {"stream_perf_mon"}
    assert flags(0x40000003, 0, 1 << 19, 0, 1 << 28, who="hyperv") == {"hv_fast_hypercall_output", "hv_cross_vtl_flush"}


def test_reserved_bits_that_are_set_are_shown() -> None:
    entry = Entry(1, 0, 0, 0, 0, 1 << 16, 1 << 10)
    shown = [(v.register, v.field.bits, str(v.reading)) for v in decode.leaf(entry, "intel").values() if v.raw]
    assert shown == [("ecx", "16", "0x1"), ("edx", "10", "0x1")]
    assert "0x1.0.ecx.16 reserved 0x1\n" in decode.spell(CpuidTable([INTEL, entry]))


def test_the_index_of_a_leaf_without_sub_leaves_does_not_count() -> None:
    assert values(Entry(0x80000008, 3, 0, 0x3030, 0, 0, 0), "amd")["phys_addr_bits"] == "48 bits"


# ---- differences


def test_a_change_of_a_field_is_named() -> None:
    (change,) = decode.diff(intel((7, 0, 0, 0x20, 0, 0)), intel((7, 0, 0, 0, 0, 0)))
    assert (str(change), change.before, change.after) == ("7.0.ebx.5 avx2: yes -> no", 1, 0)
    (change,) = decode.diff(intel((4, 0, 0x04000121, 0, 0, 0)), intel((4, 0, 0x0C000121, 0, 0, 0)))
    assert str(change) == "4.0.eax.31:26 num_cores_on_die: 2 -> 4"


def test_what_differs_from_cpu_to_cpu_is_left_out_unless_asked_for() -> None:
    one, other = intel((1, 0, 0x6FB, 0x00010800, 0, 0)), intel((1, 0, 0x6FB, 0x02010800, 0, 0))
    assert decode.diff(one, other) == []
    assert [change.field.name for change in decode.diff(one, other, ignore=())] == ["local_apic_id"]


def test_an_entry_that_one_table_has_differs_where_it_is_not_zero() -> None:
    assert decode.diff(intel(), intel((0x16, 0, 0, 0, 0, 0))) == []
    (change,) = decode.diff(intel(), intel((0x16, 0, 2000, 0, 0, 0)))
    assert str(change) == "16.0.eax.15:0 cpu_base_mhz: - -> 2000 MHz"


def test_spread_tells_every_cpu() -> None:
    tables = [intel((0xB, 0, 0, 1, 0x100, cpu), (0x1A, 0, core << 24, 0, 0, 0)) for cpu, core in ((0, 0x40), (1, 0x40), (8, 0x20))]
    found = decode.spread(tables)
    assert [(one.field.name, one.values) for one in found] == [("x2apic_id", (0, 1, 8)), ("core_type", (0x40, 0x40, 0x20))]
    assert found[1].texts() == ("Core", "Core", "Atom")
