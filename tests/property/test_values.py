"""What functions return travels: equal where the same was asked, hashed alike, and the same again out of a pickle."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import vcpuid
from support.captures import host
from vcpuid import Setup, Stack, kvm, linux, qemu
from vcpuid.answers.compare import sides
from vcpuid.answers.survey import survey
from vcpuid.answers.verdict import verdict
from vcpuid.errors import FirecrackerError, InputError, UnavailableError, VcpuidError
from vcpuid.formats.lines import format_snapshot, parse_snapshot
from vcpuid.vmm.known import named

NAMES = ("kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3")

MAKERS: dict[str, Callable[[Setup], object]] = {
    "Stack": lambda setup: Stack(setup.kernel.asked, params={"nested": 0}),
    "Setup": lambda setup: setup,
    "Snapshot": lambda setup: setup.host,
    "Path": lambda setup: vcpuid.resolve("Haswell,+la57", host=setup),
    "Path of Firecracker": lambda setup: vcpuid.resolve("none", host=setup.host, vmm=named("firecracker")),
    "Explanation": lambda setup: vcpuid.explain("avx2", "Haswell", setup),
    "Survey": lambda setup: survey(vcpuid.resolve("Haswell", host=setup)),
    "Verdict": lambda setup: verdict("Haswell,+la57", setup),
    "Sides": lambda setup: sides(setup, cpu="Haswell"),
    "QemuResult": lambda setup: qemu.guest_tables("Haswell", host=setup),
    "CpuState": lambda setup: qemu.realize("Haswell", setup),
    "ModelInfo": lambda setup: tuple(qemu.models(setup)),
    "Caps": kvm.caps,
    "supported": kvm.supported,
    "emulated": kvm.emulated,
    "Hyper-V": kvm.hyperv_supported,
    "set_cpuid": lambda setup: kvm.set_cpuid(kvm.supported(setup).table, host=setup),
    "BootCpu": linux.boot_cpu,
    "CpuInfo": linux.cpuinfo,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", MAKERS)
def test_a_value_is_hashed_by_what_it_is_about(what: str, name: str) -> None:
    make = MAKERS[what]
    found = make(Setup.of(host(name)))
    again = make(Setup.of(parse_snapshot(format_snapshot(host(name)), "again")))
    assert (found, hash(found)) == (again, hash(again))
    travelled = pickle.loads(pickle.dumps(found))
    assert (travelled, hash(travelled)) == (found, hash(found))


@pytest.mark.parametrize("what", [what for what in MAKERS if what != "emulated"])  # all hosts answer that alike
def test_a_value_of_another_host_is_another(what: str) -> None:
    first, second = (MAKERS[what](Setup.of(host(name))) for name in NAMES)
    assert first != second


CALLS: dict[str, Callable[[Setup], object]] = {
    "resolve": lambda setup: vcpuid.resolve("host", host=setup, stack=Stack()),
    "explain": lambda setup: vcpuid.explain("avx2", host=setup, stack=Stack(kernel="6.10")),
    "verdict": lambda setup: verdict("host", setup, Stack(qemu="7.2")),
    "sides": lambda setup: sides(setup, cpu="host", stack=Stack()),
    "guest_tables": lambda setup: qemu.guest_tables("host", host=setup, qemu="7.2"),
    "supported": lambda setup: kvm.supported(setup, kernel="6.1"),
    "boot_cpu": lambda setup: linux.boot_cpu(setup, params={"cmdline": "nopcid"}),
}


@pytest.mark.parametrize("function", CALLS)
def test_a_setup_is_given_alone(function: str) -> None:
    with pytest.raises(TypeError, match="a Setup holds its kernel"):
        CALLS[function](Setup.of(host(NAMES[0])))


def test_a_release_that_is_a_number_is_a_type_error() -> None:
    """As a number, 10.1 and 10.10 are one."""
    for given in ({"qemu": 8.2}, {"kernel": 6}):
        with pytest.raises(TypeError, match="a release is a text, in quotes"):
            vcpuid.Stack(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [*CALLS, "models", "resolve", "explain"])
def test_a_path_is_no_host_and_it_is_said_what_makes_one_of_it(function: str) -> None:
    more: dict[str, Callable[[Any], object]] = {
        "models": qemu.models,
        "resolve": lambda path: vcpuid.resolve("host", host=path),
        "explain": lambda path: vcpuid.explain("avx2", host=path),
    }
    with pytest.raises(TypeError, match=r"a host is a Snapshot, as vcpuid.read\(path\) returns it, and not of the type str"):
        {**CALLS, **more}[function]("host.txt")


def test_an_answer_shares_nothing_that_can_be_changed() -> None:
    """What is remembered between calls is no caller's to change."""
    setup = Setup.of(host(NAMES[0]))
    state = qemu.guest_tables("host", host=setup).state
    for words in (state.supported, state.features, state.filtered, state.props):
        with pytest.raises(TypeError):
            words["FEAT_7_0_EBX"] = 0  # type: ignore[index]


def test_an_msr_has_one_spelling_and_one_value() -> None:
    snapshot = host(NAMES[0])
    assert Setup.of(snapshot, Stack(params={"msr.3A": 5})) == Setup.of(snapshot, Stack(params={"msr.03a": 5}))
    with pytest.raises(InputError, match=r"msr\.3a is given twice"):
        linux.cpuinfo(snapshot, params={"msr.3a": 1, "msr.03A": 5})


@pytest.mark.parametrize(
    "error",
    [
        InputError("cause", source="file", line=3),
        UnavailableError("cause"),
        vcpuid.KvmError(errno.E2BIG, "cause"),
        vcpuid.QemuError("message", ("warning",)),
        FirecrackerError("message"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_says_the_same_out_of_a_pickle(error: VcpuidError) -> None:
    travelled = pickle.loads(pickle.dumps(error))
    assert (type(travelled), str(travelled), vars(travelled)) == (type(error), str(error), vars(error))
    assert {error: 1}[error] == 1
