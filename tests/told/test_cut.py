"""A snapshot that is cut, or that lost lines, tells less than the whole one, and nothing else: no list of KVM's counts as whole by half."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.captures import MACHINES, MITIGATIONS_OFF, host, lines, release, some
from support.command import vcpuid
from vcpuid import Setup, Stack, hazards, resolve
from vcpuid.answers import flags, vulnerabilities
from vcpuid.answers.compare import NOT_TOLD, by_feature, sides
from vcpuid.answers.explain import explain
from vcpuid.answers.inside import of_guest, of_table
from vcpuid.answers.survey import survey
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.cpuid.names import find_all
from vcpuid.cpuid.parts import for_guest
from vcpuid.cpuid.whole import gaps
from vcpuid.errors import InputError
from vcpuid.formats.lines import format_snapshot, parse_snapshot
from vcpuid.path.pipeline import guest_view
from vcpuid.software import software_cpu
from vcpuid.software.glibc import RELEASES
from vcpuid.software.hyperv import offered, offers
from vcpuid.software.report import worth

AMD, INTEL = "kvm-amd.EPYC-Milan-v2@6.12", "kvm-intel.sapphire_rapids-rnd20@7.3"
OLD = "kvm-intel.corei7_skylake_x-rnd17@5.10"
LISTS = ("supported", "emulated", "hyperv")
ASKED = ("rdtscp", "svm", "vmx", "avx2", "pku", "ospke", "xsave", "osxsave", "rdpid", "movbe", "kvmclock", "nx", "arch-capabilities")

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")


def parsed(text: Sequence[str]) -> Snapshot:
    return parse_snapshot([line + "\n" for line in text], "a cut file")


def without_leaf(snapshot: Snapshot, place: tuple[int, int]) -> Snapshot:
    return replace(snapshot, supported=CpuidTable(entry for entry in snapshot.supported or () if entry[:2] != place))


@pytest.mark.parametrize("name", MACHINES)
def test_every_list_that_was_captured_is_whole(name: str) -> None:
    assert gaps(host(name)) == ()


@pytest.mark.parametrize("field", LISTS)
@pytest.mark.parametrize("name", MACHINES[::20])
def test_a_cut_is_seen_after_every_line(name: str, field: str) -> None:
    table = getattr(host(name), field)
    for kept in range(1, len(table)):
        (gap,) = gaps(replace(Snapshot(), **{field: CpuidTable(table[:kept])}))  # type: ignore[arg-type]  # the fields are tables
        assert (gap.field, gap.last, gap.ends) == (field, table[kept - 1][:2], True)


@pytest.mark.parametrize("name", [AMD, INTEL, OLD])
def test_a_leaf_that_was_lost_is_seen(name: str) -> None:
    table, raw = host(name).supported, host(name).raw
    assert table is not None
    for function in {entry.function for entry in table} - {0, table[-1].function}:  # without leaf 0 it would be no list of KVM's
        of_nothing = function >> 28 != 4 and raw.get(function) is not None and not any(raw.registers(function))
        assert [gap.ends for gap in gaps(without_leaf(host(name), (function, 0)))] == ([] if of_nothing else [False])
        assert gaps(replace(without_leaf(host(name), (function, 0)), raw=CpuidTable()))
    (gap,) = gaps(without_leaf(host(name), (1, 0)))
    assert str(gap) == "KVM's supported entries (SUP lines) lack CPUID[eax=01h]"


def test_a_list_may_leave_out_what_is_all_zero_and_what_no_linux_lists() -> None:
    table, raw = host(AMD).supported, host(AMD).raw
    assert table is not None
    assert not any(raw.registers(4))
    part = CpuidTable(ending(entry, 0x80000028) for entry in table if entry.function != 4)
    told_zero = Entry(0x80000022, 0, 0, 0, 0, 0, 0)
    made_up = replace(host(AMD), supported=part, raw=CpuidTable([*(ending(entry, 0x80000028) for entry in raw), told_zero]))
    assert gaps(made_up) == ()
    assert Setup.of(made_up).host.supported == part


@pytest.mark.parametrize("lost", [(7, 0), (0x80000008, 0)])
def test_a_leaf_of_features_that_both_lists_lost_is_not_told(lost: tuple[int, int]) -> None:
    part = without_leaf(replace(host(AMD), raw=CpuidTable(entry for entry in host(AMD).raw if entry[:2] != lost)), lost)
    assert [gap.missing for gap in gaps(part)] == [lost]
    assert Setup.of(part).host.supported is None


def ending(entry: Entry, last: int) -> Entry:
    """The entry, where its range begins with another last leaf."""
    return entry._replace(eax=last) if entry.function == 0x80000000 else entry


def test_only_an_old_kernel_s_list_of_hyper_v_ends_without_nesting() -> None:
    table = host("kvm-amd.EPYC-v1@5.10").hyperv
    assert table is not None
    assert table.get(0x4000000A) is None
    assert gaps(Snapshot(hyperv=table, msrs=MsrTable({0x8B: 0}))) == ()
    assert [gap.field for gap in gaps(Snapshot(hyperv=table))] == ["hyperv"]  # nothing stands behind it that would show its end


def test_a_list_that_is_said_to_be_empty_is_whole() -> None:
    assert gaps(Snapshot(supported=CpuidTable(), emulated=CpuidTable(), hyperv=CpuidTable())) == ()


Answers = Mapping[tuple[object, ...], object]
"""What verbs say, by what it is about; None is not told."""


def answers(setup: Setup, cpu: str) -> Answers:
    """What `explain`, `guest`, `check`, `linux vulnerabilities`, `hyperv` and `worth` say of a guest on a host."""
    path = resolve(cpu, host=setup)
    return dict((*_of_features(setup, cpu), *_of_files(setup), *_of_software(guest_view(path), lambda given: of_guest(path, given))))


def _of_features(setup: Setup, cpu: str) -> Iterator[tuple[tuple[object, ...], object]]:
    path, judged = resolve(cpu, host=setup), verdict(cpu, setup)
    for name in ASKED:
        explained = explain(find_all(name)[0], path)
        yield ("visible", name), explained.visible
        yield ("turned on", name), None if explained.visible is None else explained.turned_on
        yield from ((("stage", name, stage.party), stage.value) for stage in explained.stages)
    seen = survey(path)
    for change, by_party in (("lost", seen.lost), ("gained", seen.gained)):  # not by whom: a layer before may be open
        yield from (((change, found.feature.name), True) for explained in by_party.values() for found in explained)
    yield from (((change, name), None) for change in ("lost", "gained") for name in (found.feature.name for found in seen.not_told))
    yield ("runs",), judged.runs
    yield from ((("missing", missing.feature.name), missing.cause.party) for missing in judged.missing)
    yield from ((("missing", found.what), None) for found in judged.not_told)


def _of_files(setup: Setup) -> Iterator[tuple[tuple[object, ...], object]]:
    told = vulnerabilities.told(setup)
    granted = {file for files in told.assumes.values() for file in files}
    yield from ((("file", found.file), None if found.file in granted else found.text) for found in told.files)


def _of_software(
    table: CpuidTable, hanging: Callable[[Callable[[CpuidTable], Mapping[object, object]]], Mapping[object, object]]
) -> Iterator[tuple[tuple[object, ...], object]]:
    def of_windows(seen: CpuidTable) -> dict[object, object]:
        return dict.fromkeys(offered(seen), True)

    def of_programs(seen: CpuidTable) -> dict[object, object]:
        return {(topic, item): value for topic, item, value, _ in worth(software_cpu(seen, "7.3", None), None, RELEASES, "").answers()}

    open_: Mapping[object, object] = hanging(of_windows)
    yield from ((("hv", offer.flag), None if offer.flag in open_ else offer.offered) for offer in offers(table))
    open_ = hanging(of_programs)
    yield from ((("worth", what), None if what in open_ else value) for what, value in of_programs(table).items())


def otherwise(part: Answers, whole: Answers) -> list[object]:
    """Definite answers of a part that the whole gives otherwise: what a part leaves out it does not say, but for what is missing."""
    wrong: list[object] = [(key, value) for key, value in part.items() if value is not None and whole.get(key, value) not in (None, value)]
    wrong += [key for key, value in part.items() if key[0] in ("lost", "gained", "missing") and value is not None and key not in whole]
    known = part.get(("runs",)) is not None
    return wrong + [key for key in whole if key[0] == "missing" and known and key not in part]


def setups(text: Sequence[str], cuts: Iterable[int], stack: Stack) -> Iterator[tuple[int, Setup]]:
    """Settle a capture cut after each of these lines, each setup once; one that tells no CPUID yet is refused."""
    before = None
    for kept in cuts:
        try:
            setup = Setup.of(parsed(text[:kept]), stack)
        except InputError:
            continue
        if setup.host.raw or setup.host.supported:
            if setup != before:
                yield kept, setup
            before = setup


def begins(text: Sequence[str], kind: str) -> int:
    return next(number for number, line in enumerate(text) if line.startswith(f"{kind} "))


@pytest.mark.long
@pytest.mark.parametrize("first", some((0, 1), 2))
@pytest.mark.parametrize("stack", [Stack(), Stack(params=MITIGATIONS_OFF)], ids=["as usual", "as it ran"])
@pytest.mark.parametrize(("name", "cpu"), [(AMD, "EPYC"), (INTEL, "host"), (OLD, "Skylake-Server")])
def test_a_snapshot_that_ends_behind_the_processor_s_answers_contradicts_no_whole_one(
    name: str, cpu: str, stack: Stack, first: int
) -> None:
    text = lines(name)
    whole = answers(Setup.of(parsed(text), stack), cpu)
    msrs, behind = begins(text, "MSR"), begins(text, "SETRC")
    cuts = (*range(begins(text, "SUP"), msrs + 1, 11)[first::2], *range(msrs + 1, behind, 24)[first::2], behind + 40)
    for kept, setup in setups(text, cuts, stack):
        assert not otherwise(answers(setup, cpu), whole), f"cut after {text[kept - 1]}"


@pytest.mark.long
@pytest.mark.parametrize("first", some((0, 1), 2))
@pytest.mark.parametrize("name", [AMD, INTEL])
def test_a_snapshot_that_ends_within_the_processor_s_answers_contradicts_no_whole_one(name: str, first: int) -> None:
    text, stack = lines(name), Stack(release(name), params=MITIGATIONS_OFF)
    whole = answers(Setup.of(parsed(text), stack), "EPYC")
    cuts = range(begins(text, "RAW") + 2, begins(text, "SUP"), 45)[first::2]
    for kept, setup in setups(text, cuts, stack):
        assert not otherwise(answers(setup, "EPYC"), whole), f"cut after {text[kept - 1]}"


@pytest.mark.long
@pytest.mark.parametrize("first", some((0, 1), 2))
@pytest.mark.parametrize("cpu", ["host", "EPYC"])
@pytest.mark.parametrize("name", [AMD, INTEL])
def test_what_kvm_supports_stands_for_the_processor_only_as_far_as_it_is_told(name: str, cpu: str, first: int) -> None:
    text = [line for line in lines(name) if not line.startswith(("RAW", "GOT", "SETRC"))]
    whole = answers(Setup.of(parsed(text)), cpu)
    for kept, setup in setups(text, range(begins(text, "SUP") + 1, len(text), 40)[first::2], Stack()):
        assert not otherwise(answers(setup, cpu), whole), f"cut after {text[kept - 1]}"


@pytest.mark.parametrize("lost", [(1, 0), (7, 0), (0x80000001, 0)])
def test_a_list_that_lost_a_leaf_takes_nothing_away(lost: tuple[int, int]) -> None:
    whole = host(AMD)
    part = without_leaf(whole, lost)
    assert Setup.of(part).host.supported is None
    wanted, found = (verdict("EPYC", Setup.of(of)) for of in (whole, part))
    assert [missing.called for missing in found.missing] == [missing.called for missing in wanted.missing]
    assert explain(find_all("rdtscp")[0], resolve("host", host=part)).visible


@pytest.mark.parametrize("cpuinfo", [True, False], ids=["with /proc/cpuinfo", "without"])
@pytest.mark.parametrize("lost", [range(0x480, 0x492), [0x480], [0x48E]], ids=lambda lost: f"{len(lost)} from {lost[0]:x}")
def test_a_kvm_that_lists_vmx_lacks_no_capability_of_it_that_is_not_told(lost: Sequence[int], cpuinfo: bool) -> None:
    whole = host(INTEL) if cpuinfo else replace(host(INTEL), cpuinfo={})
    part = replace(whole, msrs=MsrTable({index: value for index, value in whole.msrs.items() if index not in lost}))
    cpu = "Skylake-Server,+vmx,+vmx-true-ctls,+vmx-ins-outs,+vmx-ept,+vmx-vnmi"
    assert not otherwise(answers(Setup.of(part), cpu), answers(Setup.of(whole), cpu))
    assert any(found.what.startswith("vmx-") for found in verdict(cpu, Setup.of(part)).not_told)
    for ask in (flags.told, lambda setup: flags.flags_inside(resolve(cpu, host=setup), Stack(setup.kernel.asked))[0]):
        found, wanted = (ask(Setup.of(of)) for of in (part, whole))
        open_ = {not_told.what.rpartition(" ")[2] for not_told in found.not_told}
        for line, names in wanted.info._asdict().items():
            assert set(names) <= {*getattr(found.info, line), *open_}


def test_a_cut_list_of_hyper_v_s_leaves_makes_qemu_refuse_nothing() -> None:
    whole = host(INTEL)
    part = replace(whole, hyperv=CpuidTable((whole.hyperv or CpuidTable())[:3]), kept=None, set_result=None)
    assert [verdict("host,hv-time", Setup.of(of)).refusal for of in (whole, part)] == [None, None]


def test_what_hangs_on_a_sub_leaf_of_xsave_that_was_lost_is_no_certain_hazard() -> None:
    whole = host("kvm-amd.Cascadelake-Server-v5-amdvendor@6.12")
    part = replace(whole, raw=CpuidTable(entry for entry in whole.raw if entry[:2] != (0xD, 2)))
    wanted, found = (hazards.of_path(resolve("Haswell-v4", host=of, stack=Stack(qemu="5.2"))) for of in (whole, part))
    certain = {(hazard.rule.id, subject) for hazard in found if not hazard.depends for subject in hazard.subjects}
    assert certain <= {(hazard.rule.id, subject) for hazard in wanted for subject in hazard.subjects}
    assert {hazard.rule.id for hazard in found if hazard.depends} == {"xsave.linux-off"}


def test_without_the_processor_s_answers_what_kvm_s_list_lacks_is_not_told() -> None:
    whole = replace(host(AMD), raw=CpuidTable(), kept=None, set_result=None)
    assert explain(find_all("rdtscp")[0], resolve("host", host=whole)).visible
    cut = replace(whole, supported=CpuidTable(entry for entry in whole.supported or () if entry.function < 0x80000000))
    assert explain(find_all("rdtscp")[0], resolve("host", host=cut)).visible is None
    assert explain(find_all("avx2")[0], resolve("host", host=cut)).visible
    nobody = without_leaf(whole, (1, 0))
    assert {found.what for found in verdict("EPYC", Setup.of(nobody)).not_told} >= {"whether QEMU starts"}


def test_a_table_of_all_that_kvm_supports_is_told_as_far_as_the_file_goes() -> None:
    table = replace(host(AMD), kept=None, set_result=None)
    cut = replace(table, supported=CpuidTable(entry for entry in table.supported or () if entry.function < 0x80000000))

    def levels(seen: CpuidTable) -> dict[str, bool]:
        return {"rdtscp": bool(seen.registers(0x80000001).edx >> 27 & 1), "avx2": bool(seen.registers(7).ebx >> 5 & 1)}

    assert levels(for_guest(table))["rdtscp"]
    assert of_table(table, levels) == {}
    assert of_table(cut, levels).keys() == {"rdtscp"}


def test_where_the_file_ends_is_said_in_a_line(tmp_path: Path) -> None:
    text = lines(AMD)
    at = text.index(next(line for line in text if line.startswith("SUP 80000008")))
    (source := tmp_path / "cut.txt").write_text("".join(f"{line}\n" for line in text[: at + 1]), encoding="utf-8")
    said = "vcpuid: the snapshot ends within KVM's supported entries (SUP lines), after CPUID[eax=80000008h]: "
    for verb in (("explain", "rdtscp"), ("check", "EPYC"), ("guest",), ("kvm", "supported")):
        done = vcpuid(*verb, "--host", str(source)) if verb[0] != "kvm" else vcpuid(*verb, str(source))
        assert done.stderr == f"{said}what KVM supports is worked out instead\n"
    as_table = vcpuid("check", "--table", str(source)).stderr
    assert as_table == f"vcpuid: {source}: {said.removeprefix('vcpuid: ')}what is missing of them is not told\n"


def test_what_is_worked_out_is_not_called_observed(tmp_path: Path) -> None:
    cut = replace(host(AMD), supported=CpuidTable((host(AMD).supported or CpuidTable())[:20]), kept=None, set_result=None)
    (source := tmp_path / "cut.txt").write_text("".join(f"{line}\n" for line in format_snapshot(cut)), encoding="utf-8")
    assert "SUP 40000001.0" in vcpuid("kvm", "supported", str(source), "--format", "lines").stdout
    refused = vcpuid("kvm", "supported", str(source), "--check")
    assert (refused.returncode, refused.stderr.splitlines()[-1].endswith(": there is no whole answer to check")) == (3, True)
    assert '"basis": "modelled"' in vcpuid("kvm", "supported", str(source), "--format", "json").stdout


@pytest.mark.long
@pytest.mark.parametrize(("bit", "needs"), [("osxsave", "xsave"), ("ospke", "pku")])
def test_what_a_kernel_turns_on_is_as_open_as_what_it_takes(bit: str, needs: str) -> None:
    raw = host(INTEL).raw
    part = Snapshot(raw=CpuidTable(entry for entry in raw if entry.function < 7), kernel="7.3")
    path = resolve("host", host=part)
    mirror, needed = (explain(find_all(name)[0], path) for name in (bit, needs))
    assert needed.visible is None
    assert (mirror.visible, mirror.turned_on, mirror.depends) == (None, False, needed.depends)
    found = survey(path)
    assert {bit, needs} <= {open_.what for open_ in found.open()}
    assert not {row["feature"] for row in found.changes() if row["change"] != "not told"} & {bit, needs}
    assert next(str(row["why"]) for row in found.changes() if row["feature"] == bit).startswith("depends on ")


def test_a_part_held_against_the_whole_differs_in_nothing_that_is_told() -> None:
    text, stack = lines(AMD), Stack(release(AMD), params=MITIGATIONS_OFF)
    for kept in (begins(text, "SUP") + 9, begins(text, "EMU") + 1, begins(text, "HV") + 4, begins(text, "MSR") + 1):
        found, wanted = (by_feature(sides(Setup.of(parsed(text[:end]), stack), cpu="EPYC")) for end in (kept, len(text)))
        told = {(difference.what, difference.party) for difference in found if difference.party != NOT_TOLD}
        assert told <= {(difference.what, difference.party) for difference in wanted}
