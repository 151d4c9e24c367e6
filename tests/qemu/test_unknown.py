"""Names that a QEMU's tables lack: what was meant, and what a QEMU without tables of its own may have all the same."""

from __future__ import annotations

import json
import pickle

import pytest
from jsonschema import Draft202012Validator

from support.captures import host, stack
from support.command import vcpuid
from vcpuid import Setup, data, qemu
from vcpuid import explain as vcpuid_explain
from vcpuid.answers.explain import explain
from vcpuid.answers.settings import repaired
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid.names import find
from vcpuid.errors import InputError, MisnamedError, NotKnownError, QemuError
from vcpuid.path.pipeline import resolve
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.expansion import expansion
from vcpuid.qemu.managers import manager_cpu
from vcpuid.qemu.unknown import guesses, misnamed
from vcpuid.reasons import Basis
from vcpuid.releases import QEMUS

SKYLAKE, GENOA = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Genoa-v1@6.12"


def setup(name: str = SKYLAKE, **asked: str) -> Setup:
    return Setup.of(host(name), stack(name, **asked))


def meant(cpu: str, tables: str = "11.1") -> dict[str, tuple[str, ...]]:
    return {guess.said: guess.meant for guess in guesses(cpu, tables)}


def test_a_model_s_name_is_looked_for_among_those_alike() -> None:
    assert meant("Haswel")["Haswel"] == ("Haswell", "Haswell-IBRS", "Haswell-noTSX")
    assert meant("Hasswell")["Hasswell"][0] == "Haswell"
    assert meant("skylake")["skylake"] == ("Skylake-Client", "Skylake-Server", "Skylake-Client-IBRS")
    assert meant("Haswel-v2")["Haswel-v2"][0] == "Haswell-v2"
    assert meant("epyc-milan")["epyc-milan"][0] == "EPYC-Milan"
    assert meant("toaster") == {}


def test_names_that_are_there_need_no_guess() -> None:
    assert guesses("Haswell,+avx2,-sse4_1,pmu=on,hv_relaxed,hv-spinlocks=0x1fff,tsc-freq=1G,vendor=x", "11.1") == ()
    assert guesses("", "11.1") == ()


@pytest.mark.parametrize(("said", "names"), [("ept", ("vmx-ept",)), ("ibpb_brtype", ()), ("tsx", ("hle", "rtm")), ("bmi", ("bmi1",))])
def test_what_others_call_a_feature_is_told_by_qemu_s_name(said: str, names: tuple[str, ...]) -> None:
    assert meant(f"Haswell,+{said}", "7.2").get(said, ()) == names


@pytest.mark.parametrize(
    ("cpu", "name", "blank", "proposed"),
    [
        ("Skylake-Server, +vmx", "property ' +vmx'", "before +vmx", "Skylake-Server,+vmx"),
        ("Skylake-Server, -vmx", "property ' -vmx'", "before -vmx", "Skylake-Server,-vmx"),
        ("Skylake-Server,+ vmx", "property ' vmx'", "before vmx", "Skylake-Server,+vmx"),
        ("Skylake-Server,+vmx ,+pku", "property 'vmx '", "behind vmx", "Skylake-Server,+vmx"),
        ("Skylake-Server,vmx =on", "property 'vmx '", "behind vmx", "Skylake-Server,vmx=on"),
        ("Skylake-Server, hv_relaxed=on, +vmx", "property ' hv-relaxed'", "before hv-relaxed", "Skylake-Server,hv-relaxed=on,+vmx"),
        ("Skylake-Server ,+vmx", "no such model", "behind Skylake-Server", "Skylake-Server,+vmx"),
        (" Skylake-Server", "no such model", "before Skylake-Server", "Skylake-Server"),
    ],
)
def test_a_blank_is_part_of_a_name_for_qemu_and_the_answer_says_so(cpu: str, name: str, blank: str, proposed: str) -> None:
    found = verdict(cpu, setup(qemu="11.1"))
    assert name in str(found)
    assert str(found).endswith(f"; QEMU takes the blank {blank} as part of the name")
    assert "  " not in str(found)
    assert (found.proposal or "").startswith(proposed)
    assert misnamed(cpu, "11.1")
    with pytest.raises(MisnamedError):
        resolve(cpu, host=setup(qemu="11.1"))


def test_what_no_cpu_has_without_its_blank_either_is_shown_with_it() -> None:
    assert "no property ' +toaster' in QEMU 11.1" in str(verdict("Skylake-Server, +toaster", setup(qemu="11.1")))


def test_a_property_of_several_words_keeps_its_value_where_the_name_is_corrected() -> None:
    assert repaired("Haswell,other_name=1,flexpriority_x=on,ept=off,+vpid", catalog("11.1"))[1] == [
        "other_name=1", "flexpriority_x=on", "vmx-ept=off", "+vmx-vpid",
    ]  # fmt: skip


def test_a_property_may_be_misspelled() -> None:
    assert "hv-relaxed" in meant("Haswell,hv-relaxd")["hv-relaxd"]


def test_proxmox_s_own_types_stand_for_what_it_gives_qemu() -> None:
    assert manager_cpu("x86-64-v2-AES") == ("Proxmox VE", "qemu64,+aes,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3")
    (guess,) = guesses("x86-64-v2-AES", "10.0")
    assert "Proxmox" in guess.why
    for release in QEMUS:
        for name in ("x86-64-v2", "x86-64-v2-AES", "x86-64-v3", "x86-64-v4"):
            row = manager_cpu(name)
            assert row is not None
            assert guesses(row[1], release) == ()
            assert name not in catalog(release).models


def test_a_refusal_keeps_qemu_s_words_and_has_the_hint_beside_them() -> None:
    with pytest.raises(QemuError) as refused:
        qemu.guest_tables("Haswel", host=setup())
    assert refused.value.message == "unable to find CPU model 'Haswel'"
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("Haswel: did you mean Haswell")
    assert pickle.loads(pickle.dumps(refused.value)).hint == refused.value.hint


def test_the_command_line_prints_the_hint() -> None:
    done = vcpuid("explain", "avx2", "--cpu", "Haswell,+ept", "--host", f"tests/captures/kvm/{SKYLAKE}.txt.gz", "--qemu", "7.2")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("(ept: QEMU calls it vmx-ept)")


@pytest.mark.parametrize(
    ("cpu", "asked", "says"),
    [
        (
            "DiamondRapids",
            {"qemu": "10.3"},
            "whether QEMU 10.3 has the CPU model DiamondRapids, which the tables of 10.2 lack; --qemu 11.0 has it",
        ),
        (
            "host",
            {"qemu": "10.99", "machine": "pc-q35-10.3"},
            "the machine type pc-q35-10.3, which the tables of 10.2 lack",
        ),
        ("host,+movrs", {"qemu": "10.3"}, "whether QEMU 10.3 has the property movrs of CPUs"),
        ("FutureLake", {"qemu": "12.0"}, "whether QEMU 12.0 has the CPU model FutureLake, which the tables of 11.1 lack"),
        ("host", {"qemu": "12.0", "machine": "pc-i440fx-12.0"}, "pc-i440fx-12.0"),
    ],
)
def test_what_is_newer_than_the_tables_is_not_known_and_not_refused(cpu: str, asked: dict[str, str], says: str) -> None:
    for ask in (lambda: qemu.guest_tables(cpu, host=setup(GENOA, **asked)), lambda: qemu.realize(cpu, setup(GENOA, **asked))):
        with pytest.raises(NotKnownError, match=r"^not known here: ") as told:
            ask()
        assert says in str(told.value)
    if "machine" in asked:
        for ask in (lambda: qemu.models(setup(GENOA, **asked)), lambda: expansion(cpu, setup(GENOA, **asked))):
            with pytest.raises(NotKnownError):
                ask()


@pytest.mark.parametrize(
    ("machine", "release", "known"),
    [("xenfv", "11.1", False), ("none", "7.2", False), ("pc-1.3", "5.2", False), ("pc-1.3", "6.0", True), ("pc-i440fx-2.8", "11.1", True)],
)
def test_machine_types_that_the_tables_leave_out_are_not_known_and_not_refused(machine: str, release: str, known: bool) -> None:
    with pytest.raises(QemuError if known else NotKnownError, match="machine type"):
        qemu.guest_tables("host", host=setup(GENOA, qemu=release, machine=machine))


DMR, TURIN = "kvm-intel.sapphire_rapids-dmr@7.3", "kvm-amd.EPYC-Turin-v1@7.3"


@pytest.mark.parametrize(
    ("name", "feature", "release", "cpu", "visible", "says"),
    [
        (DMR, "movrs", "10.2", "host", False, "The guest does not see movrs: QEMU took it away."),
        (DMR, "movrs", "10.3", "host", None, "whether QEMU 10.3 has a name for it, which the tables of 10.2 lack; --qemu 11.0"),
        (DMR, "amx-fp8", "10.3", "max", None, "--qemu 11.0 has it"),  # in a leaf that 10.2 does not have
        (DMR, "movrs", "10.3", "host,migratable=off", True, "The guest sees movrs"),
        (DMR, "movrs", "10.3", "Skylake-Server", False, "The guest does not see movrs"),
        (DMR, "movrs", "11.0", "host", True, "The guest sees movrs"),
        (DMR, "movrs", "12.0", "host", True, "The guest sees movrs"),
        (DMR, "fred", "12.0", "host", False, "does not have it"),
        (DMR, "invtsc", "12.0", "host", False, "QEMU took it away"),  # it has a name, and is not handed on for what it is
        (TURIN, "no_smm_ctl_msr", "11.1", "host", False, "QEMU took it away"),
        (TURIN, "no_smm_ctl_msr", "10.3", "host", False, "QEMU took it away"),  # nor do those of 11.0 know it
        (TURIN, "no_smm_ctl_msr", "12.0", "host", None, "whether QEMU 12.0 has a name for it, which the tables of 11.1 lack"),
        (TURIN, "no_smm_ctl_msr", "4.2", "host", False, "QEMU took it away"),
    ],
)
def test_a_feature_without_a_name_in_the_tables_may_have_one_in_a_newer_qemu(
    name: str, feature: str, release: str, cpu: str, visible: bool | None, says: str
) -> None:
    found = explain(find(feature), resolve(cpu, host=setup(name, qemu=release)))
    assert (found.visible, found.known) == (visible, visible is not None)
    assert says in found.verdict
    assert {stage.basis for stage in found.stages if stage.party in ("qemu", "vcpu", "guest")} == {
        Basis.NOT_TOLD if visible is None else Basis.MODELLED
    }
    assert not list(Draft202012Validator(json.loads(data.schema("explain"))).iter_errors(found.as_dict()))


def test_what_is_not_known_of_a_release_is_said_so_by_every_command() -> None:
    at = ("--host", f"tests/captures/kvm/{DMR}.txt.gz")
    done = vcpuid("explain", "movrs", "fred", "--qemu", "10.3", *at)
    assert done.returncode == 1
    assert "Not known here: movrs" in done.stdout
    assert "Not told" not in done.stdout
    drifted = vcpuid("drift", at[1], "--from", "qemu=10.3", "--to", "qemu=11.0")
    assert "not known here: whether QEMU 10.3 has a name for it" in drifted.stdout


@pytest.mark.parametrize(
    ("cpu", "asked"),
    [
        ("EPYC-Genoa", {"qemu": "7.2"}),
        ("Haswel", {"qemu": "10.3"}),
        ("host,+nonsense", {"qemu": "10.3"}),
        ("host", {"qemu": "10.3", "machine": "pc-q35-11.1"}),
        ("host", {"qemu": "10.3", "machine": "toaster"}),
        ("host", {"qemu": "6.0", "machine": "toaster"}),
    ],
)
def test_what_the_tables_can_tell_is_refused_as_by_qemu(cpu: str, asked: dict[str, str]) -> None:
    with pytest.raises(QemuError):
        qemu.guest_tables(cpu, host=setup(GENOA, **asked))


def test_a_name_that_a_newer_qemu_has_is_told_so() -> None:
    (guess,) = guesses("DiamondRapids", "7.2")
    assert str(guess) == "DiamondRapids: QEMU 11.0 has it"
    assert not guess.sure
    assert [str(guess) for guess in guesses("Haswell,+fred", "7.2")] == ["fred: QEMU 9.1 has it"]


def test_what_a_manager_made_up_no_qemu_has() -> None:
    with pytest.raises(QemuError) as refused:
        qemu.guest_tables("x86-64-v3", host=setup(qemu="12.0"))
    assert "Proxmox" in (refused.value.hint or "")


def test_what_a_release_between_tables_may_have_is_named() -> None:
    (remark,) = setup(GENOA, qemu="10.3").remarks
    assert remark.startswith(
        "no tables of QEMU 10.3: those of 10.2 are used; what changed between the two is not known here, nor which of these "
    )
    assert {"DiamondRapids", "movrs", "cet-ss"} <= set(remark.rpartition(": ")[2].split())
    assert not setup(GENOA, qemu="10.2").remarks
    assert setup(GENOA, qemu="12.0").remarks == (
        "no tables of QEMU 12.0: those of 11.1 are used; what changed between the two is not known here",
    )
    assert "those of 5.2 are used" in setup(GENOA, qemu="4.2").remarks[0]


def test_an_error_in_python_asks_what_was_meant_as_the_command_line_does() -> None:
    with pytest.raises(InputError, match=r"'avx512ff'; did you mean avx512f or "):
        vcpuid_explain("avx512ff", "Skylake-Server", host(SKYLAKE))
    for cpu, meant_ in (("Skylake-Serve", "Skylake-Serve: did you mean Skylake-Server"), ("Haswell,+avx22", "avx22: did you mean avx2")):
        with pytest.raises(QemuError) as told:
            vcpuid_explain("avx2", cpu, host(SKYLAKE))
        for error in (told.value, pickle.loads(pickle.dumps(told.value))):
            (note,) = error.__notes__
            assert note == error.hint
            assert note.startswith(meant_)
