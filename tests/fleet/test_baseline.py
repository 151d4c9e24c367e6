"""A baseline runs on every member by the path itself, with enforce, without a warning, and makes one CPU of all; so do its laws say."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from functools import reduce
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import command
from support.captures import capture, host
from support.fleets import HOSTS, census
from vcpuid import InputError, Setup, Stack, resolve
from vcpuid.cpuid import CpuidTable, MsrTable
from vcpuid.fleet import words
from vcpuid.fleet.baseline import baseline
from vcpuid.fleet.costs import CONTROLS, security
from vcpuid.fleet.members import Unread
from vcpuid.fleet.moves import circles
from vcpuid.fleet.outcome import seen
from vcpuid.fleet.software import settled
from vcpuid.qemu.catalog import catalog

FLEET = str(Path(__file__).parents[1] / "golden" / "fleet")
SKYLAKE, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12"
MILAN, GENOA = "kvm-amd.EPYC-Milan-v2@6.12", "kvm-amd.EPYC-Genoa-v1@7.3"

fleets = st.lists(st.sampled_from(HOSTS), min_size=1, max_size=4, unique=True)
releases = st.sampled_from(("7.2", "8.2", "10.0", "11.1"))
masks = st.dictionaries(st.sampled_from("abc"), st.integers(0, 255), min_size=3, max_size=3)


@pytest.mark.long
@given(names=fleets, release=releases)
@settings(max_examples=15, deadline=None)
def test_a_baseline_runs_on_every_member_and_is_one_cpu(names: list[str], release: str) -> None:
    stack = Stack(qemu=release)
    found = baseline(census(names), stack)
    assert found.cpu is not None
    assert found.runs
    assert found.differs == ()
    paths = [resolve(f"{found.cpu},enforce=on", host=host(name), stack=stack) for name in names]
    assert all(path.made.warnings == () for path in paths)
    tables = [seen(path.made.tables[0], path.made.msrs) for path in paths]
    assert all(table == tables[0] for table in tables)


def test_a_fleet_of_both_vendors_names_one() -> None:
    found = baseline(census([SKYLAKE, MILAN]))
    assert found.cpu is not None
    assert "vendor=" in found.cpu
    assert found.runs
    assert "vendor=" not in (baseline(census([SKYLAKE, SAPPHIRE])).cpu or "vendor=")


def test_a_state_that_lies_elsewhere_on_one_member_is_left_out() -> None:
    """AVX-512's components lie at 1088 on Intel and at 832 on AMD; QEMU hands the host's offsets on."""
    table = host(SKYLAKE).supported
    assert table is not None
    moved = CpuidTable(e._replace(ebx=e.ebx - 0x100) if e.function == 0xD and e.index in (5, 6, 7) else e for e in table)
    raw = CpuidTable(e._replace(ebx=e.ebx - 0x100) if e.function == 0xD and e.index in (5, 6, 7) else e for e in host(SKYLAKE).raw)
    other = replace(host(SKYLAKE), supported=moved, raw=raw)
    alone, both = baseline(census([SKYLAKE])), baseline(census([SKYLAKE], [("other", other)]))
    assert alone.level == 4
    assert both.cpu is not None
    assert (both.runs, both.differs, both.level) == (True, (), 3)
    assert "avx512f" in both.costs[both.proofs[0].group.kind.name]


@given(first=masks, second=masks, third=masks)
def test_meeting_is_a_lattice(first: words.Words, second: words.Words, third: words.Words) -> None:
    meet = words.meet
    assert meet((first, second)) == meet((second, first))
    assert meet((meet((first, second)), third)) == meet((first, meet((second, third)))) == meet((first, second, third))
    assert meet((first, first)) == first
    assert words.without(meet((first, second)), first) == {}
    assert reduce(lambda one, other: meet((one, other)), (first, second, third)) == meet((first, second, third))


@given(names=st.lists(st.sampled_from(HOSTS), min_size=2, max_size=5, unique=True))
@settings(max_examples=20, deadline=None)
def test_another_member_never_adds_a_feature(names: list[str]) -> None:
    setups = settled(census(names), Stack(qemu="10.0"))
    all_, fewer = words.meet(map(words.offered, setups)), words.meet(map(words.offered, setups[1:]))
    assert words.without(all_, fewer) == {}


def test_a_fleet_of_one_can_have_all_that_its_host_gives() -> None:
    found = baseline(census([SKYLAKE]), Stack(qemu="10.0"))
    assert list(found.costs.values()) == [()]


def test_required_features_are_in_it_or_it_does_not_run() -> None:
    nested = baseline(census([SKYLAKE]), Stack(qemu="10.0"), ["vmx"])
    assert nested.runs
    assert "+vmx" in (nested.cpu or "").split(",")
    lacking = baseline(census([SKYLAKE, MILAN]), Stack(qemu="10.0"), ["avx512f"])
    assert lacking.runs is False
    with pytest.raises(InputError, match="no feature 'avx1024'"):
        baseline(census([SKYLAKE]), None, ["avx1024"])


def test_a_cpu_that_runs_nowhere_is_not_said_to_be_the_same_on_all() -> None:
    status, out, _ = command.vcpuid("fleet", "baseline", FLEET, "--require", "amx-fp16")
    assert status == 1
    on = "starts with every requested feature on 0 of 5 hosts, QEMU 11.1"
    assert out.splitlines()[1] == f"{on} (the newest known; the hosts do not tell theirs, --qemu names another), q35"


@pytest.mark.parametrize("spelled", ["avx512f", "AVX512F", "avx512_vnni", "X86_FEATURE_AVX512F", "CPUID.07H:EBX.avx512f [bit 16]"])
def test_a_required_feature_may_be_spelled_in_any_way(spelled: str) -> None:
    found = baseline(census([SAPPHIRE]), Stack(qemu="10.0"), [spelled])
    assert found.runs
    assert found.cpu is not None
    assert ",+avx512f" not in found.cpu, "the model has it"
    assert found.level == 4


def test_what_it_costs_is_told_by_features_levels_programs_and_mitigations() -> None:
    found = baseline(census([SKYLAKE, SAPPHIRE, MILAN]), Stack(qemu="10.0"))
    by_name = {proof.group.example: found.spent[proof.group.kind.name] for proof in found.proofs}
    assert set(by_name) == {SKYLAKE, SAPPHIRE, MILAN}
    dear = by_name[SAPPHIRE]
    assert {"avx512f", "amx-tile", "spec-ctrl", "stibp", "md-clear"} <= set(dear.features)
    assert {"spec-ctrl", "stibp", "md-clear", "ssbd"} <= set(dear.security) < set(dear.features)
    assert "avx512f" not in dear.security
    assert (dear.could, dear.level) == (4, 3)
    assert ("glibc 2.41", "memcpy") in {(choice.topic, choice.item) for choice in dear.choices}
    assert dear.spoken.startswith("x86-64-v4 → v3; ")
    alone = baseline(census([SAPPHIRE]), Stack(qemu="10.0"))
    assert [(spent.features, spent.security, spent.choices) for spent in alone.spent.values()] == [((), (), ())]


def test_an_alternative_is_no_better_than_the_best_and_tells_what_it_costs() -> None:
    found = baseline(census([SKYLAKE, SAPPHIRE]), Stack(qemu="10.0"))
    assert found.shared is not None
    ranked = [(shared.level, shared.features) for shared in (found.shared, *found.alternatives) if not shared.differs]
    assert ranked == sorted(ranked, reverse=True)
    assert len(found.prices) == len(found.alternatives)
    for other, price in zip(found.alternatives, found.prices, strict=True):
        assert price is not None
        assert price.level == other.level <= found.level


def test_an_alternative_that_costs_nothing_is_not_offered_to_people() -> None:
    found = baseline(census([SKYLAKE, MILAN]), Stack(qemu="11.1"))
    assert [price is not None and not price.features and not price.choices for price in found.prices] == [True]
    asked = (str(capture(SKYLAKE)), str(capture(MILAN)), "--qemu", "11.1")
    assert "else: " not in command.vcpuid("fleet", "baseline", *asked, "--all").stdout
    slower = [str(capture(name)) for name in ("kvm-intel.corei5_arrandale_m520@7.3", "kvm-amd.SapphireRapids-v3-amdvendor@6.12")]
    shown = command.vcpuid("fleet", "baseline", *slower, "--qemu", "11.1", "--all").stdout
    assert re.search(r"^else: -cpu \S+\n      costs glibc 2.41: memcpy sse2_unaligned, not ssse3 and 6 more$", shown, re.MULTILINE)


def test_what_check_warns_of_on_a_member_is_told() -> None:
    """Two makers' hosts have one of the makers, which on the other's is a risk."""
    hosts = [str(capture(SKYLAKE)), str(capture(MILAN))]
    shown = command.vcpuid("fleet", "baseline", *hosts, "--qemu", "11.1").stdout.splitlines()
    assert f"risk on 1 host: GenuineIntel on AuthenticAMD (vcpuid check of this -cpu on {MILAN} tells what that does)" in shown[:4]
    told = json.loads(command.vcpuid("fleet", "baseline", *hosts, "--qemu", "11.1", "--format", "json").stdout)
    by_check = json.loads(command.vcpuid("check", told["cpu"], *hosts, "--qemu", "11.1", "--format", "json").stdout)["hosts"]
    assert [host_["hazards"] for host_ in by_check] == [
        [
            {key: value for key, value in hazard.items() if key not in ("hosts", "who")}
            for hazard in told["hazards"]
            if name in hazard["who"]
        ]
        for name in (SKYLAKE, MILAN)
    ]
    alone = command.vcpuid("fleet", "baseline", hosts[0], "--qemu", "11.1").stdout
    assert "risk on" not in alone


def test_every_mitigation_that_is_named_is_a_feature_of_qemu_and_every_immunity_is_one() -> None:
    known = catalog("11.1").flags
    assert set(CONTROLS) <= set(known)
    immune = {name for name, flag in known.items() if name.endswith("-no")}
    assert set(security(immune)) == immune
    assert security(["avx2", "mds-no", "ibpb"]) == ("mds-no", "ibpb")


def test_what_a_member_does_not_tell_is_not_taken_for_lacking() -> None:
    """It has neither MSRs nor /proc/cpuinfo, which shows some: the others' features stay, and the answer names it."""
    silent = replace(host(SAPPHIRE), msrs=MsrTable(), hardware_msrs=MsrTable(), cpuinfo={})
    told, untold = baseline(census([SAPPHIRE])), baseline(census([SAPPHIRE], [("silent", silent)]))
    assert told.cpu is not None
    assert untold.cpu is not None
    assert told.level == untold.level == 4
    assert untold.runs is None
    by_name = {proof.group.example: proof for proof in untold.proofs}
    assert by_name[SAPPHIRE].runs is True
    assert by_name["silent"].runs is None
    assert by_name["silent"].not_told
    assert "not told" in (by_name["silent"].why or "")


def test_a_member_that_cannot_be_read_leaves_it_open() -> None:
    found = baseline(census([SKYLAKE], unread=[Unread("node9", "cut")]))
    assert found.runs is None
    assert found.as_dict()["unread"] == [{"name": "node9", "why": "cut"}]
    with pytest.raises(InputError, match="no host of which anything is known"):
        baseline(census([], unread=[Unread("node9", "cut")]))


def test_alternatives_are_other_models_that_run_too() -> None:
    found = baseline(census([SKYLAKE, SAPPHIRE]), Stack(qemu="10.0"))
    tables = catalog("10.0")
    assert found.shared is not None
    bases = [tables.models[one.model].base for one in (found.shared, *found.alternatives)]
    assert len(set(bases)) == len(bases) > 1
    for other in found.alternatives:
        for setup in settled(census([SKYLAKE, SAPPHIRE]), Stack(qemu="10.0")):
            assert isinstance(setup, Setup)
            assert resolve(f"{other.cpu},enforce=on", host=setup).made.warnings == ()


def test_the_files_of_hosts_are_a_fleet_and_the_answer_is_in_two_lines(tmp_path: Path) -> None:
    """The CPU that two hosts have in common takes one command, and is that of a folder of the two."""
    names = [str(capture(name)) for name in (SKYLAKE, SAPPHIRE)]
    for name in names:
        (tmp_path / Path(name).name).write_bytes(Path(name).read_bytes())
    status, out, error = command.vcpuid("fleet", "baseline", *names, "--qemu", "11.1")
    cpu, on, *_ = out.splitlines()
    assert (status, error) == (0, "")
    assert on == "starts with every requested feature on 2 of 2 hosts, QEMU 11.1, q35; the same CPU on all, x86-64-v4"
    assert out == command.vcpuid("fleet", "baseline", str(tmp_path), "--qemu", "11.1").stdout
    assert command.vcpuid("check", cpu.removeprefix("-cpu "), *names, "--qemu", "11.1").returncode <= 1
    for verb in ("models", "blame"):
        assert command.vcpuid("fleet", verb, *names).stdout == command.vcpuid("fleet", verb, str(tmp_path)).stdout


def test_hosts_of_one_name_are_called_by_their_paths_and_one_named_twice_is_one(tmp_path: Path) -> None:
    paths = [tmp_path / rack / "node1.txt" for rack in ("rack1", "rack2")]
    for path, name in zip(paths, (SKYLAKE, SAPPHIRE), strict=True):
        path.parent.mkdir()
        path.write_bytes(gzip.decompress(capture(name).read_bytes()))
    for places in (paths, [path.parent for path in paths], [paths[0].parent, *paths]):
        done = command.vcpuid("fleet", "baseline", *map(str, places), "--qemu", "11.1", "--format", "json")
        assert done.returncode == 0
        told = json.loads(done.stdout)
        assert told["hosts"] == 2
        assert {name for one in told["classes"] for name in one["names"]} == set(map(str, paths))


def test_a_folder_without_files_beside_hosts_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "rack1").mkdir()
    done = command.vcpuid("fleet", "baseline", str(capture(SKYLAKE)), str(tmp_path / "rack1"), "--qemu", "11.1", "--format", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["unread"] == [{"name": str(tmp_path / "rack1"), "why": "no file in it"}]


@pytest.mark.parametrize(("more", "says"), [("/no/such/file", "no such file or folder"), ("hosts.duckdb", "a store is asked about alone")])
def test_among_several_hosts_each_is_there_and_none_is_a_store(tmp_path: Path, more: str, says: str) -> None:
    (tmp_path / "hosts.duckdb").touch()
    status, _, error = command.vcpuid("fleet", "baseline", str(capture(SKYLAKE)), str(tmp_path / more))
    assert status == 3
    assert says in error


def test_why_a_host_could_not_be_read_stands_above_the_rows(tmp_path: Path) -> None:
    for name in (SKYLAKE, SAPPHIRE):
        (tmp_path / f"{name}.txt.gz").write_bytes(capture(name).read_bytes())
    (tmp_path / "bad.txt").write_text("nothing\n", encoding="utf-8")
    asks = (("classes",), ("baseline",), ("models",), ("blame",), ("migrate",), ("drift", "--to", "kernel=7.3", "--cpu", "qemu64"))
    for verb, *more in asks:
        status, out, _ = command.vcpuid("fleet", verb, str(tmp_path), *more)
        above = " ".join(out.partition("\n\n")[0].split())
        assert status == 1
        assert "1 host could not be read: bad (line 1: no CPUID in it" in above


@pytest.mark.long
@given(names=fleets)
@settings(max_examples=15, deadline=None)
def test_a_tsc_keeps_its_rate_where_the_guest_moves_freely(names: list[str]) -> None:
    """One rule for both: a baseline was called the same CPU on all where `fleet migrate` did not know whether the guest moves."""
    stack, members = Stack(qemu="10.0"), census(names)
    found = baseline(members, stack)
    if found.cpu is None or not found.alike:
        return
    parted = circles(found.cpu, members, stack)
    assert found.rate_kept is (False if len(parted.circles) > 1 else None if parted.not_told else True)
    assert {group.kind.id for group in found.rate_not_told} == {group.kind.id for group, _ in parted.not_told}


def test_a_tsc_whose_rate_is_not_told_is_told_of(tmp_path: Path) -> None:
    for name in (MILAN, GENOA):
        text = gzip.decompress(capture(name).read_bytes()).decode().splitlines(keepends=True)
        told = "".join(line for line in text if not line.startswith(("CPUINFO ", "CPU INFO ", "RAW 8000000a")))
        (tmp_path / f"{name}.txt").write_text(told, encoding="utf-8")
    found = command.vcpuid("fleet", "baseline", str(tmp_path), "--qemu", "10.0")
    document = json.loads(command.vcpuid("fleet", "baseline", str(tmp_path), "--qemu", "10.0", "--format", "json").stdout)
    assert (document["runs"], document["alike"], document["rate_kept"]) == (True, True, None)
    assert "whether its TSC runs at the same rate, or KVM scales it\n" in found.stdout
    assert found.returncode == 1
