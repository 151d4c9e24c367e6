"""What a member does not tell is never said to be the same, to be there or to be lacking; nor is what is said left without its host."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.captures import host
from support.fleets import census
from vcpuid import InputError, Setup, Stack, fleet
from vcpuid.cli import cli
from vcpuid.cpuid import CpuidTable, CpuidWord, MsrTable, Snapshot
from vcpuid.fleet.baseline import baseline
from vcpuid.fleet.blame import blame
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.history import changed
from vcpuid.fleet.moves import between, circles, move
from vcpuid.fleet.upgrade import upgrade

SKYLAKE, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12"
STACK = Stack(qemu="10.0")
GOLDEN = "tests/golden/fleet"
SILENT = replace(host(SAPPHIRE), msrs=MsrTable(), hardware_msrs=MsrTable(), cpuinfo={}, kept=None)
"""It tells neither MSRs nor /proc/cpuinfo, which shows some."""

HYBRID_CPU = 1 << 15


def hybrid(number: int, change: int = 0) -> Snapshot:
    """A core of a machine with several kinds: as Skylake, but for features of leaf 7's EBX."""

    def core(table: CpuidTable) -> CpuidTable:
        entries = [
            entry._replace(ebx=entry.ebx & ~change, edx=entry.edx | HYBRID_CPU)
            if entry.function == 7 and not entry.index
            else entry._replace(ebx=entry.ebx & 0xFFFFFF | number << 24)
            if entry.function == 1
            else entry
            for entry in table
        ]
        return CpuidTable(entries)

    facts = host(SKYLAKE)
    assert facts.supported is not None
    return replace(facts, raw=core(facts.raw), supported=core(facts.supported))


ERMS = 1 << 9


@pytest.mark.long
def test_whether_it_is_one_cpu_hangs_on_who_does_not_tell() -> None:
    told, untold = census([SAPPHIRE]), census([SAPPHIRE], [("silent", SILENT)])
    assert baseline(told, STACK).alike is True
    found = baseline(untold, STACK)
    assert found.differs == ()
    assert found.alike is None
    assert found.as_dict()["alike"] is None
    silent = next(proof for proof in found.proofs if proof.group.example == "silent")
    assert not silent.told
    assert silent.depends
    later = upgrade(found.cpu or "", untold, STACK, Stack(qemu="11.1"))
    assert (later.differs, later.alike) == ((), None)
    assert [unknown.group.example for unknown in later.not_told if unknown.depends] == ["silent"]
    assert upgrade(found.cpu or "", told, STACK, STACK).alike is True


def test_feature_msrs_that_are_not_told_are_no_reason_to_move_freely() -> None:
    """QEMU asks for nothing of them, and yet hands them on as they are: the words of the guest's MSRs are open."""
    found = circles("host", census([SAPPHIRE], [("silent", SILENT)]), STACK)
    assert [circle.groups[0].example for circle in found.circles] == [SAPPHIRE]
    assert [group.example for group, _ in found.not_told] == ["silent"]
    one, other = HostClass.of(SILENT), HostClass.of(SILENT)
    home = between(lambda a, b: move("host", a, b), one, other, STACK)
    assert home.outcome == "not told"
    assert home.not_told


def test_blame_lists_the_features_that_a_member_does_not_tell() -> None:
    found = blame(census([SAPPHIRE], [("silent", SILENT)]), STACK)
    (unknown,) = found.not_told
    assert [group.example for group in unknown.groups] == ["silent"]
    assert "rdctl-no" in unknown.features
    assert any(fact.name == "IA32_ARCH_CAPABILITIES" for fact in unknown.depends)
    lost = {name for loss in found.losses for name in loss.features}
    assert lost.isdisjoint(unknown.features)
    assert blame(census([SAPPHIRE]), STACK).not_told == ()


def test_a_cut_dump_lost_nothing_that_it_does_not_tell() -> None:
    whole = host(SKYLAKE)
    cut = replace(whole, raw=CpuidTable(e for e in whole.raw if e.function != 7), supported=None, cpuinfo={}, kernel=None)
    said = list(changed(HostClass.of(whole), HostClass.of(cut)))
    assert "kernel 6.12 → not told" in said
    assert "KVM's answer told → not told" in said
    assert "flags told → not told" in said
    assert "CPUID not told now: CPUID[eax=07h,ecx=00h] CPUID[eax=07h,ecx=01h] CPUID[eax=07h,ecx=02h]" in said
    assert not any("avx2" in text for text in said)
    assert list(changed(HostClass.of(whole), HostClass.of(whole))) == []


def test_hosts_told_by_other_names_are_other_classes() -> None:
    assert HostClass.of(Snapshot(named={"avx2": True})).id != HostClass.of(Snapshot(named={"avx2": False})).id


def test_a_class_holds_every_kind_of_core_whatever_their_order() -> None:
    cores = [hybrid(0), hybrid(1, ERMS), hybrid(2), hybrid(3, ERMS)]
    one, other = HostClass.of(*cores), HostClass.of(*reversed(cores))
    assert one == other
    assert len(one.cores) == 2
    assert one.whole
    assert HostClass.of(hybrid(0)).id not in (one.id, HostClass.of(hybrid(0), hybrid(1)).id)


def of_cores(tmp_path: Path, *cores: Snapshot) -> fleet.Fleet:
    """A fleet of one host, read from a dump of all its CPUs, besides one with one kind."""
    for number, core in enumerate((*cores, host(SKYLAKE))):
        text = "".join(
            f"   0x{e.function:08x} 0x{e.index:02x}: eax=0x{e.eax:08x} ebx=0x{e.ebx:08x} ecx=0x{e.ecx:08x} edx=0x{e.edx:08x}\n"
            for e in core.raw
        )
        file = tmp_path / ("both.txt" if number < len(cores) else "plain.txt")
        with file.open("a", encoding="utf-8") as dump:
            dump.write(f"CPU {number}:\n{text}")
    return fleet.open(tmp_path)


@pytest.mark.long
def test_a_baseline_runs_on_each_kind_of_core(tmp_path: Path) -> None:
    whole = of_cores(tmp_path, hybrid(0), hybrid(1, ERMS))
    found = whole.baseline(STACK)
    assert [(proof.group.example, proof.group.core) for proof in found.proofs] == [("both", 0), ("both", 1), ("plain", None)]
    assert found.cpu is not None
    assert "-erms" in found.cpu.split(",")
    assert found.census.hosts == 2
    (loss,) = (loss for loss in whole.blame(STACK).losses if "erms" in loss.features)
    assert (loss.hosts, loss.who, [group.core for group in loss.culprits]) == (1, "both", [1])
    assert whole.migrate("both", "both", "host", STACK).outcome != "yes"


def test_one_core_of_several_kinds_does_not_speak_for_all() -> None:
    cut = baseline(census([], [("cut", hybrid(0))]), STACK)
    assert (cut.runs, cut.alike) == (None, None)
    assert "its snapshot describes one of them" in (cut.proofs[0].why or "")
    kind = HostClass.of(hybrid(0))
    found = between(lambda a, b: move("qemu64", a, b), kind, kind, STACK)
    assert found.outcome == "not told"
    assert any(remark.startswith("A: its cores") for remark in found.remarks)
    assert baseline(census([], [("whole", hybrid(0))]), STACK).remarks != ()


def test_a_remark_says_of_which_host_it_is() -> None:
    other = replace(host(SAPPHIRE), kernel="6.13.1")
    found = baseline(census([SKYLAKE], [("newer", other)]), STACK)
    assert [remark.partition(": ")[0] for remark in found.remarks] == ["newer"]
    of_all = baseline(census([], [("a", other), ("b", replace(host(SKYLAKE), kernel="6.13.1"))]), STACK)
    assert [f"{group.example}: {remark}" for group in found.census.groups for remark in of_all.remarks if group.example == "newer"] == [
        *found.remarks
    ]
    one = move("qemu64", Setup.of(host(SKYLAKE), STACK), Setup.of(other, STACK))
    assert [remark.partition(": ")[0] for remark in one.remarks] == ["B"]


def test_a_parameter_is_a_what_if() -> None:
    found = upgrade("host", census([SKYLAKE]), STACK, Stack(qemu="10.0", params={"nested": 0}, what_if=True))
    assert any("vmx" in shift.features and shift.change == "lost" and shift.party == "kvm" for shift in found.shifts)


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["fleet", *args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.long
def test_the_command_line_asks_what_would_be_too() -> None:
    status, said = run("drift", GOLDEN, "--cluster", "rack1", "--to", "nested=0", "--cpu", "host", "--format", "json")
    assert status == 1
    lost = [shift for shift in json.loads(said[said.index("{") :])["shifts"] if shift["change"] == "lost"]
    assert any("vmx" in shift["features"] for shift in lost)
    assert len(lost) < 10


def test_what_smp_is_refused_for_is_told() -> None:
    status, said = run("baseline", GOLDEN, "--cluster", "rack1", "--smp", "0")
    assert status == 1
    assert "node3: Invalid CPU topology" in said


def test_features_may_be_spelled_as_linux_does() -> None:
    status, said = run("baseline", GOLDEN, "--cluster", "rack1", "--require", "avx512_bitalg", "--format", "lines")
    assert "+avx512bitalg" in said
    assert status == 1
    status, said = run("migrate", GOLDEN, "node1", "node3", "--cpu", "Skylake-Server,+avx512_vnni")
    assert status == 1
    assert "avx512_vnni: QEMU calls it avx512vnni" in said


def test_blanks_are_not_told_in_every_form() -> None:
    assert " not told " in run("classes", GOLDEN)[1]
    rows = list(csv.DictReader(io.StringIO(run("classes", GOLDEN, "--format", "csv")[1])))
    assert {row["microcode"] for row in rows} == {"not told"}
    records = [json.loads(line) for line in run("classes", GOLDEN, "--format", "jsonl")[1].splitlines()]
    assert {record["microcode"] for record in records} == {None}


def test_days_are_held_against_each_other_on_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("duckdb", reason="needs DuckDB (the extra fleet)")
    store = str(tmp_path / "hosts.duckdb")
    assert run("add", store, f"{GOLDEN}/rack1", "--cluster", "rack1", "--seen", "2026-11-01")[0] == 0
    assert run("changes", store, "--since", "2026-11-02") == (0, "0 hosts changed.\n")
    assert run("remove", store, "node1", "node3", "--since", "2026-11-05", "--format", "lines") == (0, "rack1/node1\nrack1/node3\n")
    status, said = run("changes", store, "--since", "2026-11-02", "--until", "2026-11-06", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(said)))
    assert status == 1
    assert [(row["hosts"], row["who"], row["after"], row["changed"]) for row in rows] == [
        ("1", "rack1/node1", "-", "removed"),
        ("1", "rack1/node3", "-", "removed"),
    ]
    assert "2026-11-05 00:00:00" in run("history", store, "node1")[1]
    assert run("classes", store, "--as-of", "2026-11-04", "--format", "lines")[1].count("\n") == 2
    for wrong in (["--since", "yesterday"], ["--since", "2026-11-02", "--until", "2026-11-02"]):
        with pytest.raises(InputError):
            CliRunner().invoke(cli, ["fleet", "changes", store, *wrong], standalone_mode=False, catch_exceptions=False)


def test_engines_that_cannot_answer_are_told(tmp_path: Path) -> None:
    for engine in ("sparks", "spark:", "mysql"):
        with pytest.raises(InputError, match="none of duckdb, spark and spark:MASTER"):
            CliRunner().invoke(cli, ["fleet", "classes", GOLDEN, "--engine", engine], standalone_mode=False, catch_exceptions=False)


def test_a_host_whose_dump_is_cut_gives_up_nothing_that_is_not_told() -> None:
    whole = host("kvm-amd.EPYC-Milan-v2@6.12")
    cut = Snapshot(raw=CpuidTable(entry for entry in whole.raw if entry.function < 0x80000008), kernel=whole.kernel, cpuinfo=whole.cpuinfo)
    found = baseline(census([], [("cut", cut)]), STACK)
    assert any(word.function == 0x80000008 for proof in found.proofs for word in proof.found.open if isinstance(word, CpuidWord))
    paid = (*found.spent.values(), *(price for price in found.prices if price is not None))
    assert not {"ibpb", "ibrs", "amd-ssbd", "clzero"} & {name for cost in paid for name in cost.features}


@pytest.mark.parametrize("kept", [20, 50])
def test_a_host_of_which_half_a_list_of_kvm_s_is_there_has_the_baseline_of_the_whole(kept: int) -> None:
    whole = host("kvm-amd.EPYC-Milan-v2@6.12")
    cut = replace(whole, supported=CpuidTable((whole.supported or CpuidTable())[:kept]), emulated=None, hyperv=None, kept=None)
    found, wanted = (baseline(census([], [("host", facts)]), STACK) for facts in (cut, whole))
    assert (found.cpu, found.runs) == (wanted.cpu, wanted.runs)
    assert any("ends within KVM's supported entries" in remark for remark in found.remarks)
