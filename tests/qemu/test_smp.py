"""-smp: what QEMU makes of it; every refusal below was printed by QEMU 7.2.22, 10.0.13 or 11.1.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpuid.errors import QemuError
from vcpuid.qemu.smp import parse
from vcpuid.qemu.topology import GuestTopology

COUNTS = st.integers(1, 6)


@pytest.mark.parametrize(
    ("text", "machine", "sockets", "cores", "threads"),
    [
        ("", "pc-q35-7.2", 1, 1, 1),
        ("4", "pc-q35-7.2", 1, 4, 1),
        ("4", "pc-q35-6.1", 4, 1, 1),
        ("8,sockets=2", "pc-q35-7.2", 2, 4, 1),
        ("8,cores=2", "pc-q35-7.2", 4, 2, 1),
        ("8,sockets=2", "pc-i440fx-6.0", 2, 4, 1),
        ("8,sockets=2,cores=2", "pc-q35-7.2", 2, 2, 2),
        ("cpus=2,maxcpus=6,threads=0x2", "pc-q35-7.2", 1, 3, 2),
        ("sockets=2,threads=2", "pc-q35-7.2", 2, 1, 2),
    ],
)
def test_open_counts_are_worked_out(text: str, machine: str, sockets: int, cores: int, threads: int) -> None:
    topology, warnings = parse(text, "7.2", machine)
    assert (topology.sockets, topology.cores, topology.threads) == (sockets, cores, threads)
    assert topology.max_cpus == sockets * cores * threads
    assert not warnings


@pytest.mark.parametrize(
    ("text", "release", "machine", "message"),
    [
        ("abc", "11.1", "pc-q35-11.1", "Parameter 'smp.cpus' expects integer"),
        ("4k", "7.2", "pc-q35-7.2", "Parameter 'smp.cpus' expects integer"),
        ("4,foo=1", "10.0", "pc-q35-10.0", "Parameter 'smp.foo' is unexpected"),
        ("4,foo", "10.0", "pc-q35-10.0", "-smp 4,foo: Expected '=' after parameter 'foo'"),
        ("4,modules=2,cores=2", "7.2", "pc-q35-7.2", "Parameter 'smp.modules' is unexpected"),
        ("0", "10.0", "pc-q35-10.0", "Invalid CPU topology: CPU topology parameters must be greater than zero"),
        ("4,clusters=2", "7.2", "pc-q35-7.2", "clusters not supported by this machine's CPU topology"),
        ("4,clusters=2", "10.0", "pc-q35-10.0", "clusters > 1 not supported by this machine's CPU topology"),
        ("4,dies=2", "7.2", "microvm", "dies not supported by this machine's CPU topology"),
        ("4,dies=2", "11.1", "microvm", "dies > 1 not supported by this machine's CPU topology"),
        ("300", "7.2", "pc-q35-7.2", "Invalid SMP CPUs 300. The max CPUs supported by machine 'pc-q35-7.2' is 288"),
        ("5000", "11.1", "pc-q35-11.1", "Invalid SMP CPUs 5000. The max CPUs supported by machine 'pc-q35-11.1' is 4096"),
        ("300", "10.0", "pc-i440fx-10.0", "Invalid SMP CPUs 300. The max CPUs supported by machine 'pc-i440fx-10.0' is 255"),
        (
            "4,sockets=3",
            "7.2",
            "pc-q35-7.2",
            "Invalid CPU topology: product of the hierarchy must match maxcpus: "
            "sockets (3) * dies (1) * cores (1) * threads (1) != maxcpus (4)",
        ),
        (
            "4,maxcpus=2",
            "10.0",
            "pc-q35-10.0",
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
            "sockets (1) * dies (1) * modules (1) * cores (2) * threads (1) == maxcpus (2) < smp_cpus (4)",
        ),
    ],
)
def test_refusals_are_qemus_own(text: str, release: str, machine: str, message: str) -> None:
    with pytest.raises(QemuError) as refusal:
        parse(text, release, machine)
    assert refusal.value.message == message


def test_old_qemu_only_warns_of_zero() -> None:
    topology, warnings = parse("2,cores=0", "7.2", "pc-q35-7.2")
    assert topology.cores == 2
    assert warnings == ("Deprecated CPU topology (considered invalid): CPU topology parameters must be greater than zero",)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_apic_ids_are_distinct_ascending_and_fit_their_package(sockets: int, dies: int, modules: int, cores: int, threads: int) -> None:
    count = sockets * dies * modules * cores * threads
    topology = GuestTopology(count, count, sockets, dies, modules, cores, threads)
    ids = [topology.apic_id(number) for number in range(count)]
    assert ids == sorted(set(ids))
    packages = {apic_id >> topology.package_offset for apic_id in ids}
    assert packages == set(range(sockets))
    assert {topology.core_id(apic_id) for apic_id in ids} == set(range(cores))


@given(COUNTS, COUNTS, COUNTS)
def test_what_is_spelled_out_is_taken_as_it_is(sockets: int, cores: int, threads: int) -> None:
    topology, _ = parse(f"sockets={sockets},cores={cores},threads={threads}", "11.1", "pc-q35-11.1")
    assert topology == GuestTopology(sockets * cores * threads, sockets * cores * threads, sockets, 1, 1, cores, threads)


@pytest.mark.parametrize("text", ["4_0", "٣", "08", "9" * 5000])
def test_a_number_is_what_c_reads_as_one(text: str) -> None:
    """As the real QEMU 7.2 answered, but for the last."""
    with pytest.raises(QemuError, match=r"Parameter 'smp\.cpus' expects integer"):
        parse(text, "7.2", "q35")


@pytest.mark.parametrize(("text", "cpus"), [(" 4", 4), ("+4", 4), ("0x4", 4), ("010", 8), ("4294967297", 1)])
def test_a_number_may_be_spelled_as_c_reads_it(text: str, cpus: int) -> None:
    assert parse(text, "7.2", "q35")[0].cpus == cpus


def test_a_negative_number_is_a_large_one() -> None:
    with pytest.raises(QemuError, match=r"^Invalid SMP CPUs -1\. The max CPUs supported by machine 'pc-q35-7\.2' is 288$"):
        parse("-1", "7.2", "q35")
