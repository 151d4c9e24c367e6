"""Names for CPUs that managers of guests have invented: what each stands for, and that it is understood wherever a -cpu is asked for."""

from __future__ import annotations

import pytest

from support.captures import host
from support.command import vcpuid
from vcpuid import Setup, Stack, data, resolve
from vcpuid.answers.verdict import verdict
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.managers import manager_cpu, manager_name, proxmox_flags, source_of, understood, worked_out
from vcpuid.qemu.properties import parse
from vcpuid.qemu.unknown import guesses, has_model, has_property
from vcpuid.releases import QEMUS, number

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
NAMES = sorted(data.load("manager-cpus")["rows"])


@pytest.mark.parametrize("name", NAMES)
def test_each_name_stands_for_a_cpu_that_every_qemu_has_and_none_has_the_name(name: str) -> None:
    found = manager_cpu(name)
    assert found is not None
    manager, cpu = found
    assert source_of(manager)
    for release in QEMUS:
        tables = catalog(release)
        option = parse(cpu, number(release))
        assert not has_model(tables, name)
        assert has_model(tables, option.model)
        assert all(has_property(tables, feature) for feature in (*option.plus, *option.minus))
    assert understood(f"{name},pmu=off").cpu == f"{cpu},pmu=off"
    assert understood(cpu).remark is None


def test_a_path_and_a_verdict_are_those_of_the_cpu_that_the_name_stands_for() -> None:
    setup = Setup.of(host(SKYLAKE), Stack(qemu="11.1"))
    named, plain = (
        resolve(cpu, host=setup) for cpu in ("x86-64-v2-AES,+rdtscp", "qemu64,+aes,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3,+rdtscp")
    )
    assert named.tables == plain.tables
    assert "x86-64-v2-AES is Proxmox VE's name for -cpu qemu64,+aes,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3" in named.remarks
    assert plain.remarks == setup.remarks
    judged = verdict("Secure Intel Haswell Family", setup)
    assert judged.cpu == "Haswell-noTSX,+spec-ctrl,+ssbd,+md-clear"
    assert any("oVirt's name" in remark for remark in judged.remarks)
    assert len(judged.remarks) == len(set(judged.remarks))


def test_a_cpu_that_is_another_on_each_host_is_not_guessed_at() -> None:
    assert manager_cpu("host-model") is None
    assert worked_out("host-model") is not None
    assert worked_out("Haswell") is None
    (guess,) = guesses("host-model", "11.1")
    assert "libvirt works it out" in guess.why
    assert not guess.sure
    assert verdict("host-model", Setup.of(host(SKYLAKE), Stack(qemu="11.1"))).runs is False


def test_a_manager_s_name_is_found_by_what_it_stands_for_in_any_order() -> None:
    assert manager_name("qemu64,+ssse3,+popcnt,+pni,+sse4.2,+sse4.1", "Proxmox VE") == "x86-64-v2"
    assert manager_name("qemu64", "Proxmox VE") is None
    assert manager_name("Haswell-noTSX", "oVirt") == "Intel Haswell Family"
    assert {"pcid", "aes"} <= proxmox_flags()


@pytest.mark.parametrize(
    "words",
    [
        ("explain", "avx", "--cpu", "x86-64-v2", "--host"),
        ("guest", "--cpu", "x86-64-v2", "--host"),
        ("worth", "--cpu", "x86-64-v2", "--host"),
        ("check", "x86-64-v2"),
        ("qemu", "expand", "x86-64-v2"),
        ("qemu", "table", "x86-64-v2"),
    ],
    ids=" ".join,
)
def test_every_verb_says_what_the_name_stands_for(words: tuple[str, ...]) -> None:
    done = vcpuid(*words, f"tests/captures/kvm/{SKYLAKE}.txt.gz", "--qemu", "11.1")
    assert "vcpuid: x86-64-v2 is Proxmox VE's name for -cpu qemu64,+popcnt" in done.stderr
    assert done.returncode in (0, 1)
