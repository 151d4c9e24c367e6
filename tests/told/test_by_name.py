"""Hosts of which only names are told: what these stand for, and that no answer about them is surer than the whole host's."""

from __future__ import annotations

import pickle

import pytest

from support.captures import MACHINES, host, release
from support.command import vcpuid
from vcpuid import Setup, Stack, explain, qemu, read, resolve
from vcpuid.answers.certainty import open_bits
from vcpuid.answers.survey import cpuid_features, words_of
from vcpuid.cpuid import CpuidTable, CpuidWord, Snapshot, by_name
from vcpuid.cpuid.names import all_features, find
from vcpuid.cpuid.vendors import AMD, INTEL, signature
from vcpuid.errors import InputError
from vcpuid.told.completions import nameless, tells

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")

REPORTS = "tests/captures/reports"
HOST, GUEST, LSCPU = (f"{REPORTS}/{name}.txt.gz" for name in ("proc-cpuinfo-of-a-host", "proc-cpuinfo-of-a-kvm64-guest", "lscpu"))
CLEARED = {"ss", "rdseed", "la57"}
"""Flags that Linux turns off on some of the captured machines, so that CPUID has them and /proc/cpuinfo has not."""
SOME = (
    "kvm-intel.sapphire_rapids-xfd@6.12",
    "kvm-intel.corei7_skylake_x@6.1",
    "kvm-intel.corei7_haswell_4770-rnd00@7.3",
    "kvm-amd.EPYC-Milan-v3@6.1",
    "kvm-amd.max-rnd13@7.3",
)


def by_names(name: str) -> Snapshot:
    """A captured machine as its /proc/cpuinfo alone tells it."""
    whole = host(name)
    family, model, stepping = signature(whole.raw.registers(1).eax)
    numbers = {"vendor_id": whole.vendor, "cpu_family": str(family), "model": str(model), "stepping": str(stepping)}
    return Snapshot(cpuinfo={**whole.cpuinfo, **numbers, "cpuid_level": str(whole.raw.registers(0).eax)}, kernel=whole.kernel)


@pytest.mark.parametrize("name", MACHINES)
def test_what_flags_stand_for_is_what_the_cpuid_of_the_same_machine_says(name: str) -> None:
    whole, named = host(name), by_name.with_named_bits(by_names(name), (release(name),))
    told = [feature for feature in all_features() if isinstance(feature.place.word, CpuidWord) and tells(named, *known(feature.place))]
    otherwise = [feature.name for feature in told if named.raw.has(feature.place) != whole.raw.has(feature.place)]
    assert set(otherwise) <= CLEARED
    assert not any(named.raw.has(find(feature).place) for feature in otherwise), "only a flag that is off may be on"
    assert len(told) > 150
    assert named.vendor == whole.vendor
    assert named.raw.registers(1).eax == whole.raw.registers(1).eax


def known(bit: object) -> tuple[CpuidWord, int]:
    return bit.word, bit.mask  # type: ignore[attr-defined]


@pytest.mark.long
@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("cpu", ["host", "max"])
def test_no_answer_about_a_guest_is_surer_than_the_whole_host_s(name: str, cpu: str) -> None:
    whole = resolve(cpu, host=Setup.of(host(name), Stack(what_if=True, qemu="11.1")))
    part = resolve(cpu, host=Setup.of(by_names(name), Stack(qemu="11.1")))
    features = cpuid_features()
    hidden = open_bits(part, words_of(features))
    here, there = (path.trace.steps[-1].after for path in (part, whole))
    certain = [f for f in features if not hidden.get(f.place.word, 0) & f.place.mask]  # type: ignore[call-overload]
    assert len(certain) > 300
    assert [
        f.name for f in certain if bool(here.get(f.place.word, 0) & f.place.mask) != bool(there.get(f.place.word, 0) & f.place.mask)
    ] == []


def test_a_flag_is_off_only_where_every_kernel_in_question_prints_it() -> None:
    snapshot = Snapshot(cpuinfo={"vendor_id": INTEL, "flags": "fpu lm syscall"})
    newest = by_name.with_named_bits(snapshot, ("7.3",))
    every = by_name.with_named_bits(snapshot)
    assert tells(every, *known(find("avx2").place))
    assert tells(every, *known(find("spec-ctrl").place))
    assert not tells(every, *known(find("rtm-always-abort").place)), "hidden"
    late = [
        f
        for f in all_features()
        if isinstance(f.place.word, CpuidWord) and tells(newest, *known(f.place)) and not tells(every, *known(f.place))
    ]
    assert late
    assert all(not newest.raw.has(feature.place) for feature in late)


def test_a_table_of_names_is_a_value_apart_from_the_same_bits_told_as_registers() -> None:
    named = by_name.with_named_bits(read(HOST)).raw
    assert pickle.loads(pickle.dumps(named)) == named
    assert named != CpuidTable(named)
    assert CpuidTable(named) != named
    assert by_name.with_named_bits(host(SOME[0])) is host(SOME[0])


def test_flags_that_linux_sets_by_itself_say_nothing_of_cpuid() -> None:
    intel = by_name.with_named_bits(Snapshot(cpuinfo={"vendor_id": INTEL, "flags": "fpu vnmi ibrs"}))
    assert not tells(intel, *known(find("X86_FEATURE_VNMI").place))
    assert intel.raw.has(find("spec-ctrl").place)
    amd = by_name.with_named_bits(Snapshot(cpuinfo={"vendor_id": AMD, "flags": "fpu arat ibpb"}))
    assert not tells(amd, *known(find("arat").place))
    assert amd.raw.has(find("X86_FEATURE_AMD_IBPB").place)
    guest = by_name.with_named_bits(Snapshot(cpuinfo={"vendor_id": AMD, "flags": "fpu hypervisor ibpb"}))
    assert not tells(guest, *known(find("X86_FEATURE_AMD_IBPB").place)), "its hypervisor may give it Intel's bit"


def test_a_host_of_names_without_maker_or_model_answers_nothing_as_certain() -> None:
    setup = Setup.of(Snapshot(named={"avx2": True, "rtm": False}))
    assert [str(fact) for fact in nameless(setup.host)] == ["CPUID[eax=00h]", "CPUID[eax=01h]"]
    told = explain("avx2", cpu="host", host=setup)
    assert told.stages[0].value is True
    assert told.visible is None


@pytest.mark.long
def test_names_of_qemu_and_xen_with_maker_and_model_are_a_host() -> None:
    identity = {"vendor_id": INTEL, "cpu_family": "6", "model": "85", "stepping": "7", "cpuid_level": "22"}
    told = explain("avx2", cpu="host", host=Snapshot(named={"avx2": True, "avx": True, "xsave": True, "rtm": False}, cpuinfo=identity))
    assert told.visible is True
    rtm = explain("rtm", cpu="host", host=Snapshot(named={"avx2": True, "rtm": False}, cpuinfo=identity))
    assert rtm.visible is False
    assert explain("bmi2", cpu="host", host=Snapshot(named={"avx2": True}, cpuinfo=identity)).visible is None, "nobody says"


@pytest.mark.long
def test_explain_answers_from_proc_cpuinfo() -> None:
    asked = Stack(qemu="11.1")
    told = explain("avx2", cpu="Haswell", host=read(HOST), stack=asked)
    assert told.visible is True
    assert explain("avx512f", cpu="host", host=read(HOST), stack=asked).visible is False
    assert explain("rdctl-no", cpu="host", host=read(HOST), stack=asked).visible is False, "cpu_meltdown is among its bugs"
    assert explain("vmx-ept", cpu="host", host=read(HOST), stack=asked).visible is None, "the MSRs of VMX are not told"
    assert by_name.REMARK in Setup.of(read(HOST)).remarks


@pytest.mark.long
@pytest.mark.parametrize(
    "line",
    [
        ("explain", "avx2", "--host"), ("check", "Haswell"), ("guest", "--host"), ("qemu", "models"), ("linux", "flags"),
        ("kvm", "supported"), ("hyperv", "--host"), ("diagnose", "avx2", "--host"), ("libvirt", "capabilities"),
        ("qemu", "expand", "host"), ("worth", "--cpu", "host", "--host"),
    ],
)  # fmt: skip
def test_a_guests_own_flags_taken_for_a_hosts_are_remarked_on(line: tuple[str, ...]) -> None:
    assert by_name.GUESTS in vcpuid(*line, GUEST).stderr
    assert by_name.GUESTS not in vcpuid(*line, HOST).stderr


def test_what_a_guests_own_flags_are_worth_needs_no_remark() -> None:
    assert by_name.GUESTS not in vcpuid("worth", GUEST).stderr


def test_models_run_or_not_or_it_depends() -> None:
    rows = {model.name: model for model in qemu.models(Setup.of(read(HOST), Stack(qemu="11.1")))}
    assert rows["Haswell-noTSX"].as_dict()["runs"] is True
    assert rows["Skylake-Server"].as_dict()["runs"] is False
    assert "avx512f" in rows["Skylake-Server"].unavailable_features


@pytest.mark.long
def test_worth_and_diff_and_check_answer_from_names() -> None:
    worth = vcpuid("worth", GUEST, "--format", "csv").stdout
    assert "level,x86-64,yes" in worth
    assert "level,x86-64-v2,no,lacks POPCNT SSE4_1 SSE4_2 SSSE3" in worth
    differ = vcpuid("diff", "--flags", HOST, GUEST, "--qemu", "11.1", "--format", "csv").stdout
    assert "\navx2,yes,no," in differ
    assert "\nhypervisor,no,yes," in differ
    assert "\nsse2," not in differ
    check = vcpuid("check", "Cascadelake-Server", LSCPU, "--qemu", "11.1", "--format", "csv")
    assert check.returncode == 1
    assert "avx512f" in check.stdout


@pytest.mark.parametrize(
    "lines",
    [
        {"vendor_id": "АБВ", "cpu_family": "99999999999", "model": "-1", "flags": "fpu"},
        {
            "vendor_id": "GenuineIntel",
            "cpu_family": "6",
            "model": "63",
            "model_name": "Ксеон™" * 20,
            "cpuid_level": "999999999",
            "flags": "avx xsave",
        },
    ],
)
def test_lines_that_make_no_sense_tell_nothing(lines: dict[str, str]) -> None:
    told = explain("avx2", cpu="host", host=Snapshot(cpuinfo=lines), stack=Stack(qemu="11.1"))
    assert told.stages[-1].value is not True


@pytest.mark.parametrize("lines", [{"vendor_id": "x" * 1000, "cpuid_level": "-1", "flags": ""}, {"flags": "flags" * 1000}])
def test_lines_that_name_nothing_known_are_no_host(lines: dict[str, str]) -> None:
    with pytest.raises(InputError, match="the host tells neither"):
        explain("avx2", cpu="host", host=Snapshot(cpuinfo=lines), stack=Stack(qemu="11.1"))
