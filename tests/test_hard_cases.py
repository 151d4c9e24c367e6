"""What nobody means well, and what is odd but right: each of these was once taken wrongly."""

from __future__ import annotations

import gzip
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import vcpuid
from support.command import vcpuid as run
from vcpuid import Setup, Stack, cli, kvm, qemu, releases
from vcpuid.cpuid import CpuidTable, Entry, MsrWord, Snapshot
from vcpuid.errors import InputError, RemarkWarning, VcpuidError
from vcpuid.formats.firecracker_template import read_template
from vcpuid.formats.lines import parse_snapshot
from vcpuid.kvm.answers import kvm_says
from vcpuid.params import given
from vcpuid.qemu.entries import Builder
from vcpuid.qemu.messages import recognise
from vcpuid.vmm.firecracker import Firecracker

CAPTURES = Path(__file__).parent / "captures" / "kvm"
NAME = "kvm-intel.corei7_skylake_x@6.12"


def host(name: str = NAME) -> Snapshot:
    return parse_snapshot(gzip.decompress((CAPTURES / f"{name}.txt.gz").read_bytes()).decode().splitlines(), name)


@pytest.mark.parametrize("value", ["0x", "--5", "007", "0x1g", "²", "9" * 5000])
def test_a_parameter_that_is_no_number_is_bad_input(value: str) -> None:
    with pytest.raises(InputError):
        kvm.supported(host(), params=given((f"nested={value}",)))


def test_a_second_key_is_found_among_many() -> None:
    text = "{" + ",".join(f'"k{i}":1' for i in range(60000)) + ',"k59999":2}'
    with pytest.raises(InputError, match="a second"):
        read_template(text, "t")


def test_a_template_s_wrong_flags_are_told_in_one_line() -> None:
    modifier = {"leaf": "0x1", "subleaf": "0x0", "flags": "\x1b[1m\n", "modifiers": []}
    with pytest.raises(InputError) as told:
        read_template(json.dumps({"cpuid_modifiers": [modifier]}), "t")
    assert str(told.value).isprintable()


def test_a_leaf_that_counts_its_subleaves_does_not_make_more_than_kvm_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = host("kvm-intel.sapphire_rapids-dmr@7.3")
    assert snapshot.supported is not None
    table = CpuidTable(entry._replace(eax=20000) if entry[:2] == (0x1E, 0) else entry for entry in snapshot.supported)
    made = []
    subleaf = Builder._subleaf
    monkeypatch.setattr(Builder, "_subleaf", lambda *arguments: made.append(0) or subleaf(*arguments))
    with pytest.raises(VcpuidError):
        qemu.guest_tables("host", host=replace(snapshot, supported=table), qemu="11.1")
    assert len(made) < 1000


def test_firecracker_denies_no_bit_of_a_vmx_control_that_it_gives() -> None:
    bitmap = "0b" + "1" * 32 + "0" * 32  # all may be 1, none must
    template = read_template(json.dumps({"msr_modifiers": [{"addr": "0x48d", "bitmap": bitmap}]}), "t")
    made = vcpuid.resolve("t", host=host(), vmm=Firecracker(custom=template)).made
    assert made.msrs[MsrWord(0x48D)] == 0xFFFFFFFF
    assert not list(made.denied)


def test_set_cpuid_warns_where_it_is_called() -> None:
    table = qemu.guest_tables("host", host=host()).tables[0]
    with pytest.warns(RemarkWarning) as told:
        kvm.set_cpuid(table, host=host(), kernel="6.10")
    assert {Path(warning.filename).name for warning in told} == {Path(__file__).name}


def test_entries_that_stand_twice_are_told_once() -> None:
    twice = CpuidTable((Entry(7, 0, 0, 1, 2, 3, 4), Entry(7, 1, 0, 0, 0, 0, 0), Entry(7, 1, 0, 0, 0, 0, 0)))
    decisions = kvm.seen(twice).decisions
    assert len(set(decisions)) == len(decisions)


@pytest.mark.parametrize("name", ["6", "5-custom", "²", "999999999999.1"])
def test_a_snapshot_may_call_its_kernel_by_what_is_no_release(name: str) -> None:
    assert Setup.of(replace(host(), kernel=name)).kernel.tables == releases.KERNELS[-1]


@pytest.mark.parametrize("asked", ["6.12\x1b[31m", "6.12\nX", "6.12\u009b31m", "6.12" + "x" * 100000])
def test_a_release_is_a_short_word(asked: str) -> None:
    with pytest.raises(InputError):
        releases.linux(asked)


@pytest.mark.parametrize(("own", "asked"), [("6.5.0", "6.1"), ("7.0.1", "6.18"), ("5.4", "6.1")])
def test_what_another_kernel_answered_is_not_shown_as_this_one_s_without_a_word(own: str, asked: str) -> None:
    setup = Setup.of(replace(host(), kernel=own), Stack(kernel=asked))
    assert setup.host.supported is None or setup.remarks


def test_a_long_hostile_message_is_no_message() -> None:
    assert list(recognise("can't apply global " + ".=: " * 300 + "\n")) == []


def test_a_parameter_without_effect_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(CAPTURES / f"{NAME}.txt.gz")
    monkeypatch.setattr(sys, "argv", ["vcpuid", "explain", "avx2", "--host", file, "--param", "kvm_amd.npt=0"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err.count("kvm_amd.npt") == 1


@pytest.mark.parametrize("arguments", [["--kernel", ""], ["--qemu", ""], ["--vmm", ""], ["--vmm", "qemu:"], ["--vmm", "firecracker:"]])
def test_an_empty_name_is_no_default(arguments: list[str]) -> None:
    done = run("explain", "avx2", "--host", str(CAPTURES / f"{NAME}.txt.gz"), *arguments)
    assert done.returncode == 3
    assert "''" in done.stderr


def test_a_model_that_kvm_would_refuse_stands_beside_nothing() -> None:
    """300 sub-leaves of leaf 4 are more than KVM_GET_SUPPORTED_CPUID returns; what was observed is the answer all the same."""
    snapshot = host()
    caches = [Entry(4, index, 1, 0x121, 0, 0, 0) for index in range(300)]
    long = replace(snapshot, raw=CpuidTable([entry for entry in snapshot.raw if entry.function != 4] + caches))
    with pytest.raises(vcpuid.KvmError):
        kvm.supported(replace(long, supported=None))
    assert vcpuid.explain("avx2", host=long).visible
    assert pickle.loads(pickle.dumps(vcpuid.resolve("none", host=long, vmm=Firecracker()))).tables


@pytest.mark.parametrize("cpu", ["host", "Skylake-Server-v4,+vmx", "Haswell,+la57,+avx512f"])
def test_each_decision_of_qemu_changes_every_bit_that_it_names(cpu: str) -> None:
    setup = Setup.of(host())
    state = qemu.realize(cpu, setup)
    assert setup.host.supported is not None
    words = {**kvm_says(setup).msr_words, **setup.host.supported.words()}
    for decision in state.decisions:
        before = words.get(decision.word, 0)
        assert before & decision.mask ^ decision.value == decision.mask, decision
        words[decision.word] = before & ~decision.mask | decision.value
