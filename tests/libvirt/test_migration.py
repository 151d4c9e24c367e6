"""A guest that moves: what B's libvirt makes of the CPU that A's wrote down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.libvirt_captures import played
from vcpuid.libvirt import Libvirt, connect, live, update
from vcpuid.libvirt.definition import CpuDef
from vcpuid.libvirt.migration import NO_INVTSC, NO_PASSTHROUGH, Migration, migrate

SKYLAKE, OLD = "bochs/corei7_skylake_x@6.12", "bochs/corei7_ivy_bridge_3770k@6.12"
DOMAIN = "<domain type='{virt}'><vcpu>1</vcpu><os><type arch='x86_64' machine='{machine}'>hvm</type></os>{more}</domain>"


def libvirt(host: str, release: str) -> Libvirt:
    setup, kvm = played(host, f"{release}.0")
    return connect(setup, release, kvm)


def domain(more: str, machine: str = "q35", virt: str = "kvm") -> str:
    return DOMAIN.format(virt=virt, machine=machine, more=more)


HOST_MODEL = domain("<cpu mode='host-model'/>")
PASSED = domain("<cpu mode='host-passthrough'/>")


@pytest.mark.parametrize("release", ["9.0", "11.3", "12.9"])
@pytest.mark.parametrize("host", [SKYLAKE, OLD, "tcg/EPYC-Milan-v2@6.1"])
@pytest.mark.parametrize(
    "more", ["<cpu mode='host-model'/>", "<cpu mode='host-passthrough'/>", "", "<cpu mode='custom'><model>Nehalem</model></cpu>"]
)
def test_what_starts_on_a_host_moves_to_its_like(host: str, release: str, more: str) -> None:
    one = libvirt(host, release)
    found = migrate(domain(more), one, one)
    if found.step != "start":  # AMD's have no Nehalem of Intel's features
        assert found.step is None
        assert (found.lost, found.gained) == ((), ())


def test_b_misses_what_a_gave() -> None:
    found = migrate(HOST_MODEL, libvirt(SKYLAKE, "11.3"), libvirt(OLD, "11.3"))
    assert (found.step, found.checked) == ("arrive", True)
    assert found.refusal is not None
    assert found.refusal.message.startswith("operation failed: guest CPU doesn't match specification: missing features: fma,movbe,")
    assert {cause.rule for cause in found.refusal.causes} == {live.MISSING}  # type: ignore[attr-defined]
    assert found.live is not None
    assert 'check="full"' in found.live


def test_the_cpu_of_the_host_is_not_looked_at() -> None:
    found = migrate(PASSED, libvirt(OLD, "11.3"), libvirt(SKYLAKE, "11.3"))
    assert (found.step, found.checked) == (None, False)
    assert {"avx2", "fma"} <= set(found.gained)
    assert not {"avx2", "fma"} & set(found.lost)


@pytest.mark.parametrize(
    ("more", "reasons"),
    [
        ("<cpu mode='host-passthrough' migratable='off'/>", NO_INVTSC),
        (
            "<features><hyperv mode='passthrough'/></features><cpu mode='host-passthrough' migratable='off'/>",
            f"{NO_PASSTHROUGH}; {NO_INVTSC}",
        ),
        ("<features><hyperv mode='passthrough'/></features>", NO_PASSTHROUGH),
    ],
)
def test_qemu_does_not_let_it_go(more: str, reasons: str) -> None:
    setup, kvm = played(SKYLAKE, "11.3.0")
    one = connect(setup, "11.3", replace(kvm, refused=frozenset()))
    found = migrate(domain(more), one, one)
    assert found.step == "leave"
    assert str(found.refusal) == f"Requested operation is not valid: cannot migrate domain: {reasons}"


def test_a_tsc_with_a_frequency_may_go() -> None:
    one = libvirt(SKYLAKE, "11.3")
    clock = "<cpu mode='host-passthrough' migratable='off'/><clock><timer name='tsc' frequency='2500000000'/></clock>"
    assert migrate(domain(clock), one, one).step is None


def test_without_kvm_there_is_no_such_blocker() -> None:
    one = libvirt(SKYLAKE, "11.3")
    assert migrate(domain("<cpu mode='maximum'/>", virt="qemu"), one, one).step is None


def test_a_domain_that_does_not_start_does_not_move() -> None:
    one = libvirt(OLD, "11.3")
    found = migrate(domain("<cpu mode='custom'><model>Icelake-Server</model></cpu>"), one, one)
    assert (found.step, found.live) == ("start", None)


def test_an_older_qemu_lacks_the_machine_type() -> None:
    found = migrate(HOST_MODEL, libvirt(SKYLAKE, "12.9"), libvirt(SKYLAKE, "9.0"))
    assert found.step == "arrive"
    assert str(found.refusal).endswith("does not support machine type 'pc-q35-11.1'")


def test_a_guest_keeps_what_its_model_lost_meanwhile() -> None:
    """Skylake-Server once had mpx, and libvirt 9.0 knows it with it: a guest that comes from there has it unless its XML says no."""
    new = libvirt(SKYLAKE, "11.3")
    request = {"do": "argv", "domain": domain("<cpu mode='custom' check='none'><model>Skylake-Server</model></cpu>")}
    written = "<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>Skylake-Server</model></cpu>"
    assert "mpx=off" in str(new.planned(request).argument)
    arrived = new.planned(request, written)
    assert "mpx=on" in str(arrived.argument)
    assert arrived.journal.of("mpx")[-1].rule == update.KEPT
    old = libvirt(SKYLAKE, "9.0")
    assert "mpx" not in str(old.planned(request, written).argument)


def test_features_that_qemu_always_gave_are_sent_only_if_the_domain_names_them() -> None:
    known = libvirt(SKYLAKE, "11.3").known
    model = next(model for model in known.models.values() if model.added)
    added = list(known.named(model.added))
    running = CpuDef(model=model.name, features={**dict.fromkeys(added, "require"), "hypervisor": "require"})
    assert list(live.sent(running, CpuDef(model=model.name), known).features) == ["hypervisor"]
    named = CpuDef(model=model.name, features={added[0]: "require"})
    assert list(live.sent(running, named, known).features) == [added[0], "hypervisor"]


def test_between_releases() -> None:
    """Through 9.0's XML to 12.9's libvirt and QEMU, on the same host."""
    found: Migration = migrate(HOST_MODEL, libvirt(SKYLAKE, "9.0"), libvirt(SKYLAKE, "12.9"))
    assert found.step is None
    assert found.machine == "pc-q35-7.2"
