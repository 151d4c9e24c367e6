"""Moving a guest: yes where the CPU is the same, refused in whose words, unsafe where it is accepted and another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import command
from support.captures import capture, host
from support.fleets import HOSTS, census
from vcpuid import Setup, Stack, releases
from vcpuid.cpuid import CpuidTable, MsrTable, Snapshot
from vcpuid.fleet.clocks import rate, scales
from vcpuid.fleet.moves import Move, circles, move, move_domain

SKYLAKE, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12"
STACK = Stack(qemu="10.0")
CPUS = ("host", "qemu64", "Skylake-Server-v5", "EPYC-v4", "max,-avx", "Haswell,enforce")


def moved(cpu: str, a: str, b: str, stack: Stack = STACK) -> Move:
    return move(cpu, Setup.of(host(a), stack), Setup.of(host(b), stack))


def same_cpu(found: Move) -> bool:
    """Tell whether the CPU is the same, though the TSC of one of the two, which cannot scale it, may be another."""
    clock_alone = found.outcome == "not told" and all(one.what.startswith("whether the TSC ") for one in found.not_told)
    return found.outcome == "yes" or (clock_alone and not found.differences)


@pytest.mark.long
@given(cpu=st.sampled_from(CPUS), a=st.sampled_from(HOSTS), b=st.sampled_from(HOSTS))
@settings(max_examples=30, deadline=None)
def test_a_guest_moves_back_as_it_came(cpu: str, a: str, b: str) -> None:
    there, back, home = moved(cpu, a, b), moved(cpu, b, a), moved(cpu, a, a)
    assert home.outcome in ("yes", "refused")
    assert same_cpu(there) is same_cpu(back)
    if there.outcome == "unsafe":
        assert there.differences
        assert back.outcome in ("unsafe", "refused")


def test_to_a_host_that_gives_more_is_unsafe_too() -> None:
    found = moved("Skylake-Server-v1", SKYLAKE, SAPPHIRE)
    assert found.outcome == "unsafe"
    by_kind = {one.kind: one.names for one in found.differences}
    assert by_kind["features"] == ("+pku",)
    assert "XSAVE layout" in by_kind
    assert moved("Skylake-Server-v1,-pku", SKYLAKE, SAPPHIRE).outcome == "yes"


def test_who_refuses_is_told_in_its_words() -> None:
    there = moved("Skylake-Server-v5,-pku,-spec-ctrl,+gfni,enforce", SAPPHIRE, SKYLAKE)
    assert (there.outcome, there.by) == ("refused", "B's QEMU")
    assert there.words is not None
    assert "gfni" in there.words or "requested features" in there.words
    here = moved("Skylake-Server-v5,-pku,-spec-ctrl,+gfni,enforce", SKYLAKE, SAPPHIRE)
    assert (here.outcome, here.by) == ("refused", "A's QEMU")


@pytest.mark.parametrize("cpu", ["host,migratable=off,+invtsc", "qemu64,hv-passthrough"])
def test_what_cannot_leave_is_refused_where_it_is(cpu: str) -> None:
    found = moved(cpu, SKYLAKE, SKYLAKE)
    assert (found.outcome, found.by) == ("refused", "A's QEMU")


def test_a_host_that_does_not_tell_its_msrs_leaves_it_open() -> None:
    silent = replace(host(SAPPHIRE), msrs=MsrTable(), hardware_msrs=MsrTable(), cpuinfo={}, kept=None)
    found = move("SapphireRapids,-vmx", Setup.of(host(SAPPHIRE), STACK), Setup.of(silent, STACK))
    assert found.outcome == "not told"
    assert found.not_told


def test_circles_part_all_hosts_by_the_cpu_that_a_guest_has() -> None:
    found = circles("Skylake-Server-v5,-pku,-spec-ctrl,enforce", census([SKYLAKE, SAPPHIRE, "kvm-amd.EPYC-Milan-v2@6.12"]), STACK)
    assert [circle.hosts for circle in found.circles] == [2]
    assert [group.example for group, _ in found.refused] == ["kvm-amd.EPYC-Milan-v2@6.12"]
    parted = circles("host", census([SKYLAKE, SAPPHIRE]), STACK)
    assert [circle.hosts for circle in parted.circles] == [1, 1]


@pytest.mark.long
@given(names=st.lists(st.sampled_from(HOSTS), min_size=1, max_size=6, unique=True), cpu=st.sampled_from(CPUS))
@settings(max_examples=15, deadline=None)
def test_every_member_is_in_one_circle_or_told_of(names: list[str], cpu: str) -> None:
    fleet = census(names)
    found = circles(cpu, fleet, STACK)
    assert sum(circle.hosts for circle in found.circles) + len(found.refused) + len(found.not_told) == len(fleet.groups) == fleet.hosts


STARTS = """<domain type='kvm'><name>guest</name><memory>1</memory><os><type machine='q35'>hvm</type></os>
<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>{}</model>{}</cpu></domain>"""
DROPPED = "".join(f"<feature policy='disable' name='{name}'/>" for name in ("hle", "rtm", "pku", "spec-ctrl", "mpx"))


def test_a_domain_is_asked_of_libvirt_whose_words_a_refusal_has() -> None:
    one, other = (Setup.of(host(name), STACK) for name in (SKYLAKE, SAPPHIRE))
    release = releases.libvirt("11.3")
    there = move_domain("<domain type='kvm'><name>g</name><os><type>hvm</type></os><cpu mode='host-model'/></domain>", other, one, release)
    assert (there.outcome, there.by) == ("refused", "B's libvirt")
    assert there.words is not None
    assert "guest CPU doesn't match specification: missing features: dtes64,ds,avx512ifma" in there.words
    same = move_domain(STARTS.format("Skylake-Server", DROPPED), one, one, release)
    assert same.outcome == "yes"


def test_what_libvirt_does_not_look_at_is_unsafe() -> None:
    """The fields of leaf 0xD of a component lie elsewhere: both libvirts find the same features."""
    moved_on = [
        CpuidTable(e._replace(ebx=e.ebx - 0x100) if e.function == 0xD and e.index in (5, 6, 7) else e for e in table)
        for table in (host(SKYLAKE).raw, host(SKYLAKE).supported or CpuidTable())
    ]
    other = replace(host(SKYLAKE), raw=moved_on[0], supported=moved_on[1])
    domain = STARTS.format("Skylake-Server", DROPPED)
    found = move_domain(domain, Setup.of(host(SKYLAKE), STACK), Setup.of(other, STACK), releases.libvirt("11.3"))
    assert found.outcome == "unsafe"
    assert [one.kind for one in found.differences] == ["XSAVE layout"]


HASWELL, MILAN, GENOA = "kvm-intel.corei7_haswell_4770-rnd00@6.12", "kvm-amd.EPYC-Milan-v2@6.12", "kvm-amd.EPYC-Genoa-v1@7.3"
THREADS = Stack(qemu="10.0", smp="4,threads=2")


@pytest.mark.parametrize(("kind", "names", "cpu", "a", "b", "stack"), [
    ("features", "-avx512ifma", "host", SAPPHIRE, SKYLAKE, STACK),
    ("feature MSRs", "-vmx-enable-user-wait-pause", "host", SAPPHIRE, SKYLAKE, STACK),
    ("feature MSRs", "-vmx-posted-intr", "Skylake-Server-v5,+vmx,-pku,-spec-ctrl", SKYLAKE, HASWELL, STACK),
    ("address bits", "CPUID[eax=80000008h].EAX", "host", MILAN, GENOA, STACK),
    ("XSAVE layout", "CPUID[eax=0Dh,ecx=05h].EBX", "max,-pku", SKYLAKE, MILAN, STACK),
    ("XSAVE layout", "CPUID[eax=0Dh,ecx=00h].ECX", "host", SKYLAKE, SAPPHIRE, STACK),
    ("levels", "CPUID[eax=00h].EAX 0x16 → 0x20", "host", SKYLAKE, SAPPHIRE, STACK),
    ("topology", "CPUID[eax=8000001Eh].EBX 0x100 → 0x0", "host", MILAN, SKYLAKE, THREADS),
    ("caches", "CPUID[eax=04h", "host,host-cache-info=on", SKYLAKE, SAPPHIRE, STACK),
    ("signature", "CPUID[eax=01h].EAX 0x50654 → 0x806f8", "host", SKYLAKE, SAPPHIRE, STACK),
    ("vendor", "CPUID[eax=00h].EBX", "qemu64", SKYLAKE, MILAN, STACK),
])  # fmt: skip
def test_each_kind_of_difference_is_told_of_a_pair_that_has_it(kind: str, names: str, cpu: str, a: str, b: str, stack: Stack) -> None:
    found = moved(cpu, a, b, stack)
    assert found.outcome == "unsafe"
    by_kind = {one.kind: " ".join(one.names) for one in found.differences}
    assert names in by_kind[kind]


def unscaled(name: str) -> Snapshot:
    """A captured machine whose processor cannot scale the TSC."""
    return replace(host(name), cpuinfo={**host(name).cpuinfo, "vmx_flags": host(name).cpuinfo["vmx_flags"].replace("tsc_scaling", "")})


def test_a_tsc_that_runs_at_another_rate_is_unsafe_where_kvm_cannot_scale_it() -> None:
    """QEMU takes the guest all the same, unless its -cpu names a rate."""
    cpu = "Skylake-Server-v1,-hle,-rtm,-pku"
    fast, slow = Setup.of(host(SKYLAKE), STACK), Setup.of(host(SAPPHIRE), STACK)
    assert (rate(fast.host), rate(slow.host)) == (3_500_000, 2_200_000)
    assert move(cpu, fast, slow).outcome == "yes"
    fixed = Setup.of(unscaled(SAPPHIRE), STACK)
    found = move(cpu, fast, fixed)
    assert [(one.kind, one.names) for one in found.differences] == [("TSC", ("3500000 kHz → 2200000 kHz, and no TSC scaling",))]
    assert found.outcome == "unsafe"
    assert move(cpu, fixed, fast).outcome == "yes", "that one scales"
    named = move(f"{cpu},tsc-frequency=3500000000", fast, fixed)
    assert (named.outcome, named.by) == ("refused", "B's QEMU")
    assert named.words == "TSC frequency mismatch between VM (3500000 kHz) and host (2200000 kHz), and TSC scaling unavailable"
    fleet = census([SKYLAKE], [("fixed", unscaled(SAPPHIRE))])
    assert len(circles(cpu, fleet, STACK).circles) == 2
    assert len(circles(cpu, census([SKYLAKE, SAPPHIRE]), STACK).circles) == 1


def test_a_tsc_whose_rate_is_not_told_leaves_it_open_where_kvm_cannot_scale_it() -> None:
    def without_rate(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, raw=CpuidTable(entry for entry in snapshot.raw if entry.function not in (0x15, 0x16)))

    cpu = "qemu64"
    here, silent = Setup.of(host(SKYLAKE), STACK), Setup.of(without_rate(unscaled(SAPPHIRE)), STACK)
    found = move(cpu, here, silent)
    assert found.outcome == "not told"
    assert [(one.what, list(map(str, one.depends))) for one in found.not_told] == [
        ("whether the TSC runs at the same rate there, or KVM scales it", ["CPUID[eax=15h]"])
    ]
    assert move(cpu, silent, here).outcome == "yes", "that one scales"
    twin = Setup.of(without_rate(unscaled(SKYLAKE)), STACK)
    assert move(cpu, here, twin).outcome == "yes", "a processor of the same name has the same rate"
    parted = circles(cpu, census([SKYLAKE], [("silent", without_rate(unscaled(SAPPHIRE)))]), STACK)
    assert [circle.hosts for circle in parted.circles] == [1]
    assert [why for _, why in parted.not_told] == ["not told: whether its TSC runs at the same rate, or KVM scales it"]


@pytest.mark.parametrize("name", [SKYLAKE, MILAN])
def test_where_cpuinfo_is_not_told_the_processor_tells_whether_the_tsc_is_scaled(name: str) -> None:
    told = host(name)
    silent = replace(told, cpuinfo={})
    leaf = 0x8000000A
    by_leaf = replace(silent, raw=CpuidTable(e._replace(edx=e.edx | 1 << 4) if e.function == leaf else e for e in silent.raw))
    assert scales(by_leaf) is (True if name == MILAN else None)
    assert scales(replace(silent, hardware_msrs=MsrTable({0x48B: 1 << 57}))) is (name == SKYLAKE or scales(silent))
    assert scales(replace(silent, hardware_msrs=MsrTable({0x48B: 0}))) is (False if name == SKYLAKE else scales(silent))


def test_two_snapshots_are_named_in_place_of_a_store_and_hosts_by_their_files(tmp_path: Path) -> None:
    for place, name in (("a", SKYLAKE), ("b", SAPPHIRE)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "node.txt.gz").write_bytes(capture(name).read_bytes())
    one, other = (str(tmp_path / place / "node.txt.gz") for place in "ab")
    for cpu, outcome in (("Skylake-Server-v1", "unsafe"), ("qemu64", "yes")):
        asked = ("--cpu", cpu, "--qemu", "10.0", "--format", "json")
        by_path = json.loads(command.vcpuid("fleet", "migrate", one, other, *asked).stdout)
        assert by_path["move"]["outcome"] == outcome
        for names in (("a/node", "b/node"), ("a/node.txt.gz", "b/node.txt.gz"), (one, other)):
            by_name = json.loads(command.vcpuid("fleet", "migrate", str(tmp_path), *names, *asked).stdout)
            assert by_name == by_path | {"move": by_path["move"] | {"from": names[0], "to": names[1]}}
    status, _, error = command.vcpuid("fleet", "migrate", str(tmp_path), "node.txt.gz", "b/node")
    assert status == 3
    assert "several hosts are called 'node.txt.gz': put the cluster before it, as in a/node.txt.gz" in error


def test_of_three_snapshots_and_more_all_are_asked_about_as_of_a_store_of_them(tmp_path: Path) -> None:
    names = (SKYLAKE, SAPPHIRE, MILAN)
    for name in names:
        (tmp_path / f"{name}.txt.gz").write_bytes(capture(name).read_bytes())
    asked = ("--cpu", "qemu64", "--qemu", "11.1")
    files = command.vcpuid("fleet", "migrate", *(str(capture(name)) for name in names), *asked)
    assert files.stdout == command.vcpuid("fleet", "migrate", str(tmp_path), *asked).stdout
    assert files.stdout.splitlines()[0] == (
        "A guest moves freely within each of 2 groups of hosts; "
        "QEMU also takes it from one group to another, but its CPU changes on the way."
    )
    for wrong in ((str(tmp_path), "a"), (str(tmp_path), "a", "b", "c")):
        assert command.vcpuid("fleet", "migrate", *wrong).returncode == 2


def test_without_a_cpu_that_moves_the_verb_that_finds_one_is_named() -> None:
    one, other = str(capture(SKYLAKE)), str(capture(SAPPHIRE))
    for asked in ((one, other), (one, other, str(capture(MILAN)))):
        shown = command.vcpuid("fleet", "migrate", *asked, "--qemu", "10.0").stdout
        assert f"found by: vcpuid fleet baseline {' '.join(asked)}\n" in shown
    many = [str(capture(name)) for name in HOSTS[:30]]
    assert "vcpuid fleet baseline of the same hosts finds one" in command.vcpuid("fleet", "migrate", *many, "--qemu", "10.0").stdout
    assert "fleet baseline" not in command.vcpuid("fleet", "migrate", one, other, "--cpu", "host", "--qemu", "10.0").stdout
    assert "fleet baseline" not in command.vcpuid("fleet", "migrate", one, one, "--qemu", "10.0").stdout


@pytest.mark.parametrize(
    ("cpu", "names", "said"),
    [
        ("EPYC-Rome", (MILAN, "kvm-amd.EPYC-Rome-v4@6.12"), "Not told: whether such a guest moves between any two of the hosts."),
        ("host,migratable=off,+invtsc", (SKYLAKE, SAPPHIRE), "Such a guest moves between no two of the hosts."),
        ("qemu64", (SKYLAKE,), "One host alone starts such a guest."),
    ],
)
def test_who_starts_a_guest_that_moves_nowhere_is_not_said(cpu: str, names: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """Both start the first two: a clock is not told, and QEMU does not let the guest go."""
    for name in names:
        (tmp_path / f"{name}.txt.gz").write_bytes(capture(name).read_bytes())
    shown = command.vcpuid("fleet", "migrate", str(tmp_path), "--cpu", cpu, "--qemu", "11.1").stdout
    assert shown.splitlines()[0] == said


def test_a_store_behind_its_hosts_and_a_part_of_a_host_s_name_are_set_right(tmp_path: Path) -> None:
    for name in (SKYLAKE, SAPPHIRE):
        (tmp_path / f"{name}.txt.gz").write_bytes(capture(name).read_bytes())
    behind = command.vcpuid("fleet", "migrate", SKYLAKE, SAPPHIRE, str(tmp_path))
    assert behind.returncode == 2
    assert behind.stderr.endswith(f"the store comes before the hosts: vcpuid fleet migrate {tmp_path} {SKYLAKE} {SAPPHIRE}\n")
    part = command.vcpuid("fleet", "migrate", str(tmp_path), SKYLAKE.partition("@")[0], SAPPHIRE)
    assert part.returncode == 3
    assert part.stderr.endswith(f"no host is called {SKYLAKE.partition('@')[0]!r}; did you mean {SKYLAKE}?\n")
