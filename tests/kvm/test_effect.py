"""Which words of a command line change nothing on a host, and why."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import vcpuid as package
from support.captures import capture, host
from support.command import vcpuid
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.errors import InputError, RemarkWarning
from vcpuid.kvm.effect import remarks, without_effect
from vcpuid.setup import Setup, Stack, overruled

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
MILAN = "kvm-amd.EPYC-Milan-v2@7.3"
NEEDS = "by which Linux turns TSX on and off"


def said(name: str, edits: dict[int, int] | None = None, **params: str | int) -> tuple[str, ...]:
    """What is said of parameters on a captured processor; `edits` are bits of leaf 7's EDX that are set besides."""
    raw = CpuidTable(e._replace(edx=e.edx | (edits or {}).get(e.function, 0)) if not e.index else e for e in host(name).raw)
    given = {key.replace("_", ".", 1) if key.startswith("msr") else key: value for key, value in params.items()}
    return without_effect(Setup.of(Snapshot(raw=raw), Stack(kernel="6.12", params=given)))


def test_an_option_that_changes_a_flag_is_not_mentioned() -> None:
    assert said(SKYLAKE, cmdline="mitigations=off clearcpuid=avx2") == ()
    assert said(SKYLAKE) == ()


def test_what_the_model_makes_nothing_of_is_named_in_one_sentence() -> None:
    because = "on the command line have no effect on this host: Linux and KVM make the same of its processor without"
    assert said(MILAN, cmdline="quiet ro noxsave") == (f"quiet, ro {because}",)
    assert said(MILAN, cmdline="a b c d e f noxsave") == (f"a, b, c, d and 2 more words {because}",)


def test_of_two_options_that_do_the_same_one_is_needed() -> None:
    assert [text.split()[0] for text in said(SKYLAKE, cmdline="nopti pti=off")] == ["nopti"]


def test_tsx_needs_the_msr_that_controls_it() -> None:
    capabilities = {7: 1 << 29}
    (untold,) = said(SKYLAKE, capabilities, cmdline="tsx=off")
    assert untold.endswith(f"TSX_CTRL, {NEEDS}, is announced by bit 7 of MSR 0x10a, and that is not told: give msr.10a=VALUE")
    (lacking,) = said(SKYLAKE, cmdline="tsx=off")
    assert lacking.endswith(f"its processor lacks MSR 0x10a, which announces TSX_CTRL, {NEEDS}")
    (told,) = said(SKYLAKE, capabilities, cmdline="tsx=on", msr_10a=0x2B)
    assert told.endswith(f"bit 7 of its MSR 0x10a does not announce TSX_CTRL, {NEEDS}")
    (same,) = said(SKYLAKE, capabilities, cmdline="tsx=off", msr_10a=0xAB)
    assert same.endswith("without, Linux does the same")
    assert said(SKYLAKE, capabilities, cmdline="tsx=on", msr_10a=0xAB) == ()
    (aborts,) = said(SKYLAKE, {7: 1 << 29 | 1 << 11}, cmdline="tsx=on", msr_10a=0xAB)
    assert aborts.endswith("microcode makes its transactions abort, whatever Linux does")


def test_so_does_the_way_it_was_built() -> None:
    (lacking,) = said(SKYLAKE, tsx_mode="on")
    assert lacking.startswith("the parameter tsx_mode has no effect on this host: its processor lacks MSR 0x10a")
    assert said(SKYLAKE, {7: 1 << 29}, tsx_mode="on", msr_10a=0xAB) == ()


def test_a_host_without_cpuid_is_not_asked() -> None:
    assert without_effect(Setup.of(Snapshot(supported=host(SKYLAKE).supported), Stack(params={"cmdline": "tsx=off"}))) == ()


def test_verbs_say_so() -> None:
    done = vcpuid("check", "Haswell-noTSX", str(capture(SKYLAKE)), "--param", "cmdline=tsx=off")
    assert done.stderr.startswith("vcpuid: tsx=off on the command line has no effect on this host: ")


def test_vmx_capabilities_are_taken_as_they_are_and_that_is_said() -> None:
    def told(kernel_said: bool, **params: int) -> tuple[str, ...]:
        snapshot = host(SKYLAKE) if kernel_said else Snapshot(raw=host(SKYLAKE).raw)
        return remarks(Setup.of(snapshot, Stack(kernel="6.12", params={"msr.48b": 1 << 33, "msr.10a": 1, **params})))

    assert told(False) == ("msr.48b: taken as what KVM offers, since what it keeps back from guests that nest is not modelled",)
    assert told(False, nested=0) == ()
    assert told(True) == ()


def test_a_hardware_msr_yields_to_what_kvm_told_but_in_a_what_if() -> None:
    asked = Setup.of(host(SKYLAKE), Stack(params={"msr.10a": 1 << 8}))
    assert overruled(asked) == (
        "msr.10a: this host's KVM was asked as it ran, and what it answered holds; with --what-if, in Python Stack(what_if=True), "
        "KVM is modelled with it instead",
    )
    what_if = Setup.of(host(SKYLAKE), Stack(params={"msr.10a": 1 << 8}, what_if=True))
    assert 0x10A not in what_if.host.msrs
    assert 0x345 in what_if.host.msrs
    assert overruled(what_if) == ()


def test_a_command_line_is_no_longer_than_linux_reads() -> None:
    with pytest.raises(InputError, match="more than 2047 bytes"):
        Setup.of(host("kvm-intel.corei7_skylake_x@6.12"), Stack(params={"cmdline": "a=1 " * 3000}))


IN_VAIN = "tsx=off on the command line has no effect on this host: its processor lacks MSR 0x10a"
ASKED: dict[str, Callable[[Snapshot], object]] = {
    "linux.cpuinfo": lambda raw: package.linux.cpuinfo(raw, "6.12", {"cmdline": "tsx=off"}),
    "linux.boot_cpu": lambda raw: package.linux.boot_cpu(raw, params={"cmdline": "tsx=off"}),
    "kvm.supported": lambda raw: package.kvm.supported(raw, kernel="6.12", params={"cmdline": "tsx=off"}),
    "kvm.caps": lambda raw: package.kvm.caps(raw, params={"cmdline": "tsx=off"}),
    "kvm.emulated": lambda raw: package.kvm.emulated(raw, params={"cmdline": "tsx=off"}),
    "kvm.hyperv_supported": lambda raw: package.kvm.hyperv_supported(raw, params={"cmdline": "tsx=off"}),
    "kvm.set_cpuid": lambda raw: package.kvm.set_cpuid(raw.raw, host=raw, params={"cmdline": "tsx=off"}),
    "qemu.guest_tables": lambda raw: package.qemu.guest_tables("Haswell-noTSX", host=raw, params={"cmdline": "tsx=off"}),
    "qemu.models": lambda raw: package.qemu.models(raw, params={"cmdline": "tsx=off"}),
}


@pytest.mark.parametrize("name", ASKED)
def test_every_public_function_says_so_to_its_caller(name: str) -> None:
    with pytest.warns(RemarkWarning) as said:
        ASKED[name](Snapshot(raw=host(SKYLAKE).raw))
    found = [warning for warning in said if str(warning.message).startswith(IN_VAIN)]
    assert [Path(warning.filename).name for warning in found] == [Path(__file__).name]


def test_a_path_an_explanation_and_a_verdict_have_it_among_their_remarks() -> None:
    raw, stack = Snapshot(raw=host(SKYLAKE).raw), Stack("6.12", "11.1", params={"cmdline": "tsx=off"})
    for asked, software in ((raw, stack), (Setup.of(raw, stack), None)):
        path = package.resolve("Haswell-noTSX", host=asked, stack=software)
        for remarks_ in (
            path.remarks,
            path.setup.remarks,
            package.explain("rtm", "Haswell", asked, software).remarks,
            verdict("Haswell", asked, software).remarks,
            verdict("Haswel", asked, software).remarks,
        ):
            assert sum(remark.startswith(IN_VAIN) for remark in remarks_) == 1


def test_without_such_parameters_nothing_is_said_and_nothing_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Setup) -> tuple[str, ...]:
        raise AssertionError

    monkeypatch.setattr("vcpuid.kvm.effect.remarks", fail)
    raw = Snapshot(raw=host(SKYLAKE).raw, kernel=host(SKYLAKE).kernel)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        package.kvm.supported(raw)
        package.linux.cpuinfo(raw)
        assert package.resolve("host", host=raw, stack=Stack(params={"nested": 0})).remarks == ()


def test_linux_alone_says_nothing_of_what_counts_for_kvm() -> None:
    """nosmt=force changes no flag, and what KVM tells of Hyper-V."""
    raw = Snapshot(raw=host(SKYLAKE).raw)
    with pytest.warns(RemarkWarning, match="nosmt=force on the command line has no effect on this host: Linux makes the same"):
        package.linux.cpuinfo(raw, params={"cmdline": "nosmt=force"})
