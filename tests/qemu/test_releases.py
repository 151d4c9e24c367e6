"""What changed between QEMU's releases, one change a test: the values are those that the sources of the releases give."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from support.qemu_captures import qemu_host
from vcpuid import releases
from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError, QemuError
from vcpuid.qemu import guest_tables, realize
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.smp import parse
from vcpuid.qemu.stable import mended
from vcpuid.releases import QEMUS, Release

INTEL, AMD = "bochs/corei7_skylake_x@6.12", "tcg/EPYC-Milan-v2@7.3"


def table(release: str, cpu: str, host: str | Snapshot = INTEL, smp: str = "1") -> CpuidTable:
    snapshot = qemu_host(host) if isinstance(host, str) else host
    return guest_tables(cpu, host=snapshot, qemu=release, smp=smp).tables[0]


def places(entries: CpuidTable, function: int) -> list[tuple[int, int]]:
    return [entry[:2] for entry in entries if entry.function == function]


@pytest.mark.parametrize("release", QEMUS)
def test_each_release_makes_a_guest_of_either_vendor(release: str) -> None:
    for cpu, host in (("Skylake-Server,-hle,-rtm", INTEL), ("EPYC", AMD), ("host", INTEL), ("max", AMD)):
        entries = table(release, cpu, host, "8,dies=2,cores=2,threads=2")
        assert entries.registers(0).eax
        assert catalog(release).known == ("program" if release in ("5.2", "7.2", "10.0", "11.1") else "source")


def test_models_come_with_their_release() -> None:
    for model, first in (
        ("SapphireRapids", "8.0"),
        ("EPYC-Genoa", "8.1"),
        ("GraniteRapids", "8.1"),
        ("SierraForest", "9.1"),
        ("ClearwaterForest", "10.0"),
    ):
        assert [release for release in QEMUS if model in catalog(release).model_aliases] == list(QEMUS[QEMUS.index(first) :])


def test_threads_are_a_die_s_up_to_8_1_and_a_package_s_since() -> None:
    smp = "8,dies=2,cores=2,threads=2"
    counts = {release: table(release, "Skylake-Server", smp=smp).registers(1).ebx >> 16 & 0xFF for release in ("8.1", "8.2", "9.2")}
    assert counts == {"8.1": 4, "8.2": 8, "9.2": 8}
    assert [table(release, "Skylake-Server", smp=smp).registers(0xB, 1).ebx for release in ("8.1", "8.2")] == [4, 8]
    assert [table(release, "Skylake-Server", smp=smp).registers(4, 0).eax >> 26 for release in ("8.1", "8.2", "9.1")] == [1, 3, 3]


def test_a_die_is_a_node_up_to_9_0() -> None:
    shown = [table(release, "EPYC", AMD, "8,dies=2,cores=4").registers(0x8000001E).ecx for release in ("9.0", "9.1")]
    assert shown == [1 << 8, 0]


def test_leaf_7_has_three_entries_at_the_least_up_to_8_2() -> None:
    found = {release: places(table(release, "Skylake-Server"), 7) for release in ("7.1", "7.2", "8.2", "9.0")}
    assert found == {"7.1": [(7, 0), (7, 1), (7, 2)], "7.2": [(7, 0)], "8.2": [(7, 0), (7, 1), (7, 2)], "9.0": [(7, 0)]}


def test_an_empty_entry_is_left_where_leaf_1f_is_not_given() -> None:
    def empty(release: str) -> int:
        return sum(entry == Entry(0, 0, 0, 0, 0, 0, 0) for entry in table(release, "Skylake-Server,min-level=0x20"))

    assert {release: empty(release) for release in ("7.1", "7.2", "8.2", "9.0")} == {"7.1": 1, "7.2": 0, "8.2": 1, "9.0": 0}


def test_leaf_d_ends_with_an_empty_sub_leaf_and_leaf_2_is_stateful_up_to_9_1() -> None:
    old, new = (table(release, "Skylake-Server") for release in ("9.1", "9.2"))
    assert [(0xD, 63) in places(entries, 0xD) for entries in (old, new)] == [True, False]
    assert [next(entry.flags for entry in entries if entry.function == 2) for entries in (old, new)] == [6, 0]


def test_string_operations_are_asked_of_the_processor_since_8_0() -> None:
    host = qemu_host(INTEL)
    assert host.supported is not None
    less = CpuidTable(entry._replace(ebx=entry.ebx & ~(1 << 9)) if entry[:2] == (7, 0) else entry for entry in host.supported)
    assert host.raw.registers(7).ebx & 1 << 9
    given = [bool(realize("host", replace(host, supported=less), release).features["FEAT_7_0_EBX"] & 1 << 9) for release in ("7.2", "8.0")]
    assert given == [False, True]


@pytest.mark.parametrize(
    ("text", "release", "says"),
    [
        ("4,clusters=2", "6.2", "Parameter 'smp.clusters' is unexpected"),
        ("4,clusters=2", "7.0", "clusters not supported by this machine's CPU topology"),
        ("4,books=2", "8.1", "Parameter 'smp.books' is unexpected"),
        ("4,books=2", "8.2", "books not supported by this machine's CPU topology"),
        ("4,modules=2", "9.0", "Parameter 'smp.modules' is unexpected"),
        ("4,books=2", "9.1", "books > 1 not supported by this machine's CPU topology"),
        ("0", "9.0", "Invalid CPU topology: CPU topology parameters must be greater than zero"),
    ],
)
def test_smp_is_refused_in_the_words_of_the_release(text: str, release: str, says: str) -> None:
    with pytest.raises(QemuError) as refused:
        parse(text, release, "q35")
    assert refused.value.message == says


def test_smp_that_9_0_alone_warns_of() -> None:
    warned = {release: len(parse("4,clusters=1", release, "q35")[1]) for release in ("8.2", "9.0", "9.1")}
    assert warned == {"8.2": 0, "9.0": 1, "9.1": 0}
    assert parse("4,modules=2,cores=2", "9.1", "q35")[0].modules == 2


@pytest.mark.parametrize(("release", "says"), [("8.1", "Property '.vendor' doesn't take value 'x'"), ("8.2", "exactly 12 characters")])
def test_a_vendor_is_refused_in_the_words_of_the_release(release: str, says: str) -> None:
    with pytest.raises(QemuError) as refused:
        realize("Haswell,vendor=x", qemu_host(INTEL), release)
    assert says in refused.value.message


def test_a_stable_update_has_mends_before_their_time() -> None:
    assert [release for release in ((7, 1), (7, 2), (8, 2), (9, 0)) if mended(release, (9, 0), (7, 2))] == [(7, 2), (9, 0)]


@pytest.mark.parametrize(
    ("chosen", "asked", "said"),
    [
        (releases.qemu, "10", "'10' is not a release number of QEMU: say 10.0 or 10.1 or 10.2"),
        (releases.qemu, "12", "'12' is not a release number of QEMU: it is newer than all that are known, and 11.1 is the newest"),
        (releases.qemu, "3", "'3' is not a release number of QEMU: 5.2 to 11.1 are known"),
        (releases.linux, "5", "'5' is not a release number of Linux: say 5.10 or 5.15"),
    ],
)
def test_a_release_without_its_minor_number_is_completed(chosen: Callable[[str], Release], asked: str, said: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        chosen(asked)
