"""Machine types that distributions added to QEMU: what they set on CPUs, by their sources, and what is said of those nobody read."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from support.qemu_captures import qemu_host, qemu_origin, qemu_rows
from vcpuid import data, qemu
from vcpuid.errors import NotKnownError, QemuError
from vcpuid.path.pipeline import resolve
from vcpuid.qemu.catalog import catalog, machine
from vcpuid.releases import named_type
from vcpuid.setup import Setup, Stack

HOST = "bochs/corei7_skylake_x@6.12"


def asked(release: str, name: str) -> Setup:
    return Setup.of(qemu_host(HOST), Stack(kernel="6.12", qemu=release, machine=name))


@pytest.mark.parametrize("name", ["pc-q35-9.2+pve1", "pc-i440fx-9.2+pve0", "q35+pve2"])
def test_proxmox_s_version_is_no_part_of_the_machine_type(name: str) -> None:
    assert machine("9.2", name) == machine("9.2", name.partition("+")[0])
    assert not asked("9.2", name).remarks


def test_ubuntu_s_machine_type_is_the_upstream_one_of_its_qemu() -> None:
    found, upstream = machine("6.2", "pc-q35-jammy"), machine("6.2", "pc-q35-6.2")
    assert (found.compat, found.versions, found.max_cpus, found.irqchip) == (upstream.compat, "v1", 288, "on")
    assert machine("8.2", "pc-q35-jammy").compat == machine("8.2", "pc-q35-6.2").compat
    assert machine("9.2", "pc-q35-jammy-maxcpus").max_cpus == 1024
    assert machine("9.2", "pc-q35-focal").prefers_sockets
    assert machine("9.2", "pc-q35-bionic").versions == "legacy"


def test_a_host_s_address_bits_are_a_machine_type_s_matter() -> None:
    plain, own = (qemu.realize("Skylake-Server", asked("6.2", name)).phys_bits for name in ("pc-q35-jammy", "pc-q35-jammy-hpb"))
    assert plain == 40
    assert own == qemu_host(HOST).raw.registers(0x80000008).eax & 0xFF  # type: ignore[union-attr]


def test_red_hat_s_machine_types_set_what_its_source_says() -> None:
    found = machine("9.1", "pc-q35-rhel9.4.0")
    assert ("x86_64-cpu", "host-phys-bits-limit", "48") in found.compat
    assert ("x86_64-cpu", "vmx-exit-load-perf-global-ctrl", "off") in found.compat
    state = qemu.realize("host", asked("9.1", "pc-q35-rhel9.4.0"))
    assert not state.features["FEAT_VMX_EXIT_CTLS"] & 1 << 12
    assert qemu.realize("host", asked("9.1", "pc-q35-9.1")).features["FEAT_VMX_EXIT_CTLS"] & 1 << 12


ROWS = [pytest.param(row, id=f"{row['machine']} {row['host']}") for row in qemu_rows("distributions")]
"""What Ubuntu 24.04's QEMU 8.2.2 made of CPUs on its own machine types, as in tests/conformance/test_qmp.py."""


@pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")
@pytest.mark.conformance("QEMU realized", qemu_origin)
@pytest.mark.parametrize("row", ROWS)
def test_ubuntu_s_build_makes_the_same_of_cpus(row: dict[str, Any]) -> None:
    flags = catalog(row["qemu"]).flags
    for cpu, theirs in row["realized"].items():
        features = qemu.realize(cpu, qemu_host(row["host"]), row["qemu"], row["machine"]).features
        assert sorted(name for name, flag in flags.items() if features[flag.word] & flag.mask == flag.mask) == theirs, cpu


def test_what_a_build_sets_with_kvm_is_its_own_matter() -> None:
    def on(cpu: str, release: str, name: str, word: str, bit: int) -> bool:
        found = Setup.of(qemu_host("tcg/EPYC-Milan-v2@7.3"), Stack(kernel="6.12", qemu=release, machine=name))
        return bool(qemu.realize(cpu, found).features[word] >> bit & 1)

    svm = ("FEAT_8000_0001_ECX", 2)
    assert [on("EPYC", "8.2", name, *svm) for name in ("pc-q35-8.2", "pc-q35-jammy", "pc-q35-noble")] == [False, True, True]
    unhalt = ("FEAT_KVM", 7)
    assert [on("EPYC", "9.1", name, *unhalt) for name in ("pc-q35-9.1", "pc-q35-rhel9.4.0")] == [False, True]


def test_a_build_has_properties_ahead_of_time() -> None:
    def shown(release: str, name: str) -> bool:
        found = Setup.of(qemu_host("tcg/EPYC-Milan-v2@7.3"), Stack(kernel="6.12", qemu=release, machine=name))
        return bool(qemu.realize("host", found).features["FEAT_7_0_EDX"] >> 29 & 1)

    assert shown("8.2", "pc-q35-noble") == shown("8.2", "pc-q35-8.2")
    assert not shown("8.2", "pc-q35-noble-v2")
    assert machine("8.2", "pc-q35-noble-v2").own == (("x-arch-cap-always-on", False),)
    assert machine("7.2", "pc-q35-noble-v2").own == ()
    assert ("x86_64-cpu", "x-arch-cap-always-on", "off") in machine("10.2", "pc-q35-noble-v2").compat


RED_HAT_S = [
    ("x86_64-cpu", "host-phys-bits", "on"),
    ("x86_64-cpu", "host-phys-bits-limit", "48"),
    ("x86_64-cpu", "vmx-entry-load-perf-global-ctrl", "off"),
    ("x86_64-cpu", "vmx-exit-load-perf-global-ctrl", "off"),
    ("x86_64-cpu", "kvm-asyncpf-int", "on"),
]


@pytest.mark.parametrize(
    ("name", "like", "most"),
    [("9.8.0", "10.1", 4096), ("9.6.0", "10.0", 4096), ("10.0.0", "10.0", 4096), ("9.4.0", "9.0", 710), ("9.2.0", "9.0", 710)],
)
def test_red_hat_s_machine_type_is_an_upstream_one_with_what_red_hat_s_all_set(name: str, like: str, most: int) -> None:
    found = machine("10.1", f"pc-q35-rhel{name}")
    assert set(found.compat) == {*machine("10.1", f"pc-q35-{like}").compat, *RED_HAT_S}
    assert (found.versions, found.max_cpus, found.irqchip, found.prefers_sockets) == ("v1", most, "on", False)


@pytest.mark.parametrize(("host", "hidden"), [("tcg/EPYC-Milan-v2@6.1", True), ("bochs/corei7_skylake_x@6.12", False)])
def test_red_hat_s_10_1_hides_what_10_2_hides(host: str, hidden: bool) -> None:
    """The MSR of these hosts is KVM's alone: QEMU 10.1.0 shows it on none of them, 10.1.2 but to AMD's guests, on old types to all."""

    def shown(release: str, name: str) -> bool:
        found = Setup.of(qemu_host(host), Stack(kernel="6.12", qemu=release, machine=name))
        return bool(qemu.realize("host", found).features["FEAT_7_0_EDX"] >> 29 & 1)

    names = ("pc-q35-rhel9.8.0", "pc-q35-rhel9.6.0", "pc-q35-10.1")
    assert [shown("10.1", name) for name in names] == [not hidden, True, False]
    assert [shown("10.2", name) for name in names] == [not hidden, True, not hidden]
    assert not shown("10.1", "pc-q35-rhel10.0.0")
    assert dict(machine("10.1", names[1]).own) == {"x-arch-cap-always-on": True, "x-pdcm-on-even-without-pmu": True}
    assert not any(dict(machine("10.1", names[0]).own).values())


def test_what_an_older_qemu_does_not_know_it_is_not_set() -> None:
    every = {name for _, name, _ in machine("9.1", "pc-q35-rhel9.0.0").compat}
    kept = {name for _, name, _ in machine("6.2", "pc-q35-rhel9.0.0").compat}
    tables = catalog("6.2")
    assert kept == {name for name in every if name in tables.flags or name in tables.aliases or name in tables.properties}


def test_what_else_the_build_changes_is_not_known() -> None:
    (remark,) = asked("9.1", "pc-q35-rhel9.4.0").remarks
    assert remark.startswith("pc-q35-rhel9.4.0 is of RHEL 9.8, QEMU 10.1: ")
    assert "qemu import" in remark
    assert not asked("9.1", "pc-q35-9.1").remarks


@pytest.mark.parametrize(
    "name", ["pc-q35-plucky", "pc-q35-rhel10.2.0", "pc-q35-rhel7.4.0", "pc-q35-8.2-v2", "pc-i440fx-10.0+deb1", "type=pc-q35-plucky,usb=off"]
)
def test_a_machine_type_that_nobody_read_is_not_known_here(name: str) -> None:
    with warnings.catch_warnings(), pytest.raises(NotKnownError, match=r"^not known here: .*vcpuid qemu import"):
        qemu.guest_tables("host", host=asked("8.2", name))


@pytest.mark.parametrize("name", ["pc-q35-99.1", "toaster", "pc-q35-"])
def test_what_is_nobody_s_is_refused_as_by_qemu(name: str) -> None:
    with pytest.raises(QemuError):
        qemu.guest_tables("host", host=asked("8.2", name))


def test_every_machine_type_of_the_table_is_one_in_every_release() -> None:
    for name in data.load("qemu-distributions")["machines"]:
        for release in ("5.2", "11.1"):
            assert machine(release, name).is_pc


def test_a_type_is_known_wherever_it_stands_in_the_argument() -> None:
    assert (
        named_type("accel=kvm,type=pc-q35-noble") == named_type("pc-q35-noble,usb=off") == named_type("type=pc-q35-noble") == "pc-q35-noble"
    )
    assert named_type("pc,type=q35") == "q35"
    assert named_type("accel=kvm,usb=off,type=pc-q35-noble") == "pc-q35-noble"
    assert named_type("accel=kvm,append=a,,type=b,usb=off") == "accel=kvm"


def test_a_model_that_is_unknown_on_a_proxmox_machine_is_refused() -> None:
    with pytest.raises(QemuError, match="unable to find CPU model 'Foo'"):
        resolve("Foo", host=asked("9.2", "pc-q35-9.2+pve1"))
