"""What of a table of KVM's or QEMU's hangs on facts that are not told is named beside it; the values stay those of the host as told."""

from __future__ import annotations

import json

import pytest

from support.captures import MACHINES, MITIGATIONS_OFF, capture, host, release, some
from support.command import vcpuid as run
from vcpuid import Setup, Stack, kvm, read
from vcpuid.answers.handed import handed
from vcpuid.answers.survey import cpuid_features
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.errors import InputError, NotToldError, QemuError
from vcpuid.formats.writing import write
from vcpuid.qemu.expansion import not_told
from vcpuid.told.facts import NotTold
from vcpuid.told.tables import EVERY_LEAF, of_kvm
from vcpuid.vmm.qemu import QEMU

SKYLAKE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3"
CASCADE_LAKE = str(capture("cascade-lake-without-msrs", "reports"))
PINNED = ("--kernel", "6.12", "--qemu", "11.1")


def setup(name: str, *lost: int, msrs: bool = True) -> Setup:
    whole = host(name)
    raw = CpuidTable(entry for entry in whole.raw if entry.function not in lost)
    part = Snapshot(raw=raw, kernel=whole.kernel, **({"msrs": whole.msrs} if msrs else {}))
    return Setup.of(part, Stack(release(name), "11.1", params=MITIGATIONS_OFF))


def supported(of: Setup) -> CpuidTable:
    return kvm.supported(of).table


def told(found: tuple[NotTold, ...]) -> dict[str, str]:
    return {open_.what: " ".join(map(str, open_.depends)) for open_ in found}


def cascade_lake(**params: int | str) -> Setup:
    return Setup.of(read(CASCADE_LAKE), Stack("6.12", "11.1", params={name.replace("_", "."): value for name, value in params.items()}))


def test_tsx_of_what_kvm_supports_hangs_on_its_msr() -> None:
    open_ = told(of_kvm(cascade_lake(), supported))
    assert open_["rtm"] == open_["hle"] == "tsx-ctrl (MSR(10Ah) [bit 7])"
    assert "avx2" not in open_
    assert not {"rtm", "hle"} & told(of_kvm(cascade_lake(msr_10a=0xAB), supported)).keys()


def test_a_leaf_that_may_not_be_there_is_named_as_a_whole() -> None:
    open_ = told(of_kvm(setup(SKYLAKE, 0x80000000, 0x80000001), supported))
    assert "lm" not in open_
    assert "CPUID[eax=80000001h]" in open_


def test_what_is_no_feature_is_named_by_its_register() -> None:
    open_ = told(of_kvm(setup(MILAN, 0x80000008), supported))
    assert open_["CPUID[eax=80000008h].EAX"] == "CPUID[eax=80000008h]"
    assert open_["ibpb"] == "ibpb (CPUID[eax=80000008h].EBX [bit 12])"


def test_of_a_processor_that_does_not_say_which_it_is_nothing_is_told() -> None:
    assert told(of_kvm(setup(SKYLAKE, 1), supported)) == {EVERY_LEAF: "CPUID[eax=01h]"}
    assert list(told(handed("qemu64", setup(SKYLAKE, 1), QEMU).not_told)) == [EVERY_LEAF]


def test_a_host_that_tells_all_leaves_nothing_open() -> None:
    whole = Setup.of(host(SKYLAKE), Stack(release(SKYLAKE), "11.1"))
    assert of_kvm(whole, supported) == ()
    assert handed("host", whole, QEMU).not_told == ()
    assert not_told("host", whole) == {}


def test_qemu_s_table_of_the_host_s_cpu_hangs_on_what_the_host_does_not_tell() -> None:
    found = handed("host", cascade_lake(), QEMU)
    open_ = told(found.not_told)
    assert open_["rtm"] == "tsx-ctrl (MSR(10Ah) [bit 7])"
    assert found.table == QEMU.make("host", found.setup, kvm.answers.kvm_says(found.setup)).tables[0]
    assert "rtm" not in told(handed("Haswell-noTSX", cascade_lake(), QEMU).not_told)


def test_a_refusal_of_a_table_that_hangs_on_what_is_not_told_is_none() -> None:
    with pytest.raises(NotToldError, match=r"MSR\(10Ah\)"):
        handed("Cascadelake-Server-noTSX,enforce", cascade_lake(), QEMU)
    with pytest.raises(QemuError):
        handed("Cascadelake-Server-noTSX,enforce,+la57", cascade_lake(), QEMU)
    with pytest.raises(InputError, match="no vCPU 1"):
        handed("Haswell", cascade_lake(), QEMU, 1)


def test_properties_of_host_hang_on_what_it_does_not_tell_and_those_of_a_model_do_not() -> None:
    open_ = not_told("host", cascade_lake())
    assert [str(fact) for fact in open_["rtm"]] == ["tsx-ctrl (MSR(10Ah) [bit 7])"]
    assert "avx2" not in open_
    assert not_told("Haswell", cascade_lake()) == {}


@pytest.mark.long
@pytest.mark.parametrize("name", some(MACHINES[::12], 2))
def test_features_of_a_table_of_which_lines_are_lost_are_no_surer_than_the_whole_s(name: str) -> None:
    """What the two tables have otherwise is named on one side as not told."""
    whole = setup(name)
    for lost in ((0x7,), (0xD,), (0x80000000, 0x80000001, 0x80000008), (0xA, 0x80000007)):
        part = setup(name, *lost, msrs=False)
        named = told((*of_kvm(part, supported), *of_kvm(whole, supported)))
        for feature in cpuid_features():
            one, two = (supported(of).has(feature.place) for of in (part, whole))
            leaf = str(feature.place.word).rpartition(".")[0]
            assert one is two or feature.name in named or leaf in named, (lost, feature.name)


@pytest.mark.parametrize(
    "verb", [("kvm", "supported"), ("qemu", "table", "host"), ("qemu", "expand", "host")], ids=lambda verb: "-".join(verb[:2])
)
def test_every_format_names_it(verb: tuple[str, ...]) -> None:
    pinned = PINNED[:2] if verb[0] == "kvm" else PINNED
    answers = {form: run(*verb, CASCADE_LAKE, *pinned, "--format", form) for form in ("table", "lines", "csv", "jsonl", "json")}
    (line,) = (told_ for told_ in answers["table"].stdout.splitlines() if told_.startswith("Not told: hle rtm "))
    assert line.endswith(": depends on IA32_ARCH_CAPABILITIES (MSR(10Ah)).")
    assert "tsx-ctrl" in line.split() or verb[1] != "expand"
    assert f"# {line}" in answers["lines"].stdout.splitlines()
    places = {open_["what"]: [fact["place"] for fact in open_["depends"]] for open_ in json.loads(answers["json"].stdout)["not_told"]}
    assert places["rtm"] == ["MSR(10Ah) [bit 7]"]
    if verb[1] == "expand":
        rows = [json.loads(row) for row in answers["jsonl"].stdout.splitlines()]
        assert {row["property"]: row["not_told"] for row in rows}["rtm"] is True
        assert "rtm,yes,yes" in answers["csv"].stdout.splitlines()
    else:
        assert f"vcpuid: {line}" in answers["csv"].stderr.splitlines()
        assert f"vcpuid: {line}" in answers["jsonl"].stderr.splitlines()


def test_what_kvm_itself_answered_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("dumps") / "with-kvm.txt"
    whole = host(SKYLAKE)
    told_ = Snapshot(raw=CpuidTable(e for e in whole.raw if e.function != 0xD), supported=whole.supported, kernel=whole.kernel)
    path.write_text("".join(f"{line}\n" for line in write([told_], "snapshot")), encoding="utf-8")
    assert json.loads(run("kvm", "supported", str(path), "--format", "json").stdout)["not_told"] == []
    assert json.loads(run("kvm", "supported", str(path), "--kernel", "6.12", "--format", "json").stdout)["not_told"]
