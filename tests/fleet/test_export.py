"""A fleet's CPU in every form: what is written is read as whoever starts the guests reads it, and is the same CPU, or the loss is named."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.captures import host
from support.command import vcpuid
from support.fleets import HOSTS, census
from vcpuid import InputError, Setup, Stack, resolve
from vcpuid.answers.from_words import from_words
from vcpuid.cli.fleet_export import FORMS as OFFERED
from vcpuid.cpuid import CpuidTable, bits
from vcpuid.fleet.baseline import Baseline, baseline
from vcpuid.fleet.cloud_hypervisor import CpusOption, read
from vcpuid.fleet.export import FORMS, export
from vcpuid.fleet.members import Unread
from vcpuid.fleet.prometheus import FORM, Metric, Sample, exposition, prometheus
from vcpuid.fleet.software import settled
from vcpuid.formats.firecracker_template import read_template
from vcpuid.kvm.answers import kvm_says
from vcpuid.vmm.firecracker import Firecracker, released

SKYLAKE, SAPPHIRE, OTHER = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-intel.corei7_skylake_x@7.3"
MILAN, GENOA = "kvm-amd.EPYC-Milan-v2@6.12", "kvm-amd.EPYC-Genoa-v1@7.3"
FLEETS = ([SKYLAKE, SAPPHIRE], [MILAN, GENOA], [SKYLAKE, MILAN])
STACK = Stack(qemu="10.0")
OF_QEMU = tuple(form for form in FORMS if form not in ("firecracker", "cloud-hypervisor"))
GOLDEN = "tests/golden/fleet"


def found(names: list[str]) -> Baseline:
    return baseline(census(names), STACK)


def test_the_verb_offers_all_forms() -> None:
    assert set(OFFERED) == {*FORMS, FORM}


@pytest.mark.parametrize("form", OF_QEMU)
@pytest.mark.parametrize("names", FLEETS)
def test_what_is_read_back_is_the_baseline_or_the_loss_is_named(names: list[str], form: str) -> None:
    made = export(found(names), form, libvirt="12.9")
    assert made.lines
    assert [one.same for one in made.read_back].count(None) == 0
    assert made.lost or all(one.same for one in made.read_back)
    assert all(bool(one.why) is not one.same for one in made.read_back)
    assert made.whole is (not made.lost)


@pytest.mark.parametrize("form", ["qemu", "proxmox", "incus", "lxd"])
@pytest.mark.parametrize("names", FLEETS)
def test_forms_that_qemu_reads_lose_nothing(names: list[str], form: str) -> None:
    made = export(found(names), form)
    assert made.whole
    started = from_words("\n".join(made.lines), form)
    assert started.cpu is not None
    assert "enforce" in started.cpu, "a host that cannot give it refuses it"
    for name in names:
        assert resolve(started.cpu, host=host(name), stack=STACK).made.denied == ()


@pytest.mark.long
@given(names=st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3, unique=True), form=st.sampled_from(FORMS))
@settings(max_examples=25, deadline=None)
def test_whatever_the_fleet_no_loss_is_silent(names: list[str], form: str) -> None:
    made = export(found(names), form)
    assert made.lost or all(one.same for one in made.read_back)


def test_libvirt_has_no_vendor_and_kubevirt_no_width_of_addresses() -> None:
    assert any("vendor=" in what for what in export(found([SKYLAKE, MILAN]), "libvirt").lost)
    made = export(found([SKYLAKE, SAPPHIRE]), "kubevirt", libvirt="12.9")
    assert any("host-phys-bits-limit" in what for what in made.lost)
    assert [one.why for one in made.read_back] == ["address bits (1 register)"] * 2
    assert made.alike, "another guest than was meant, but the same one on all"


@pytest.mark.parametrize("form", ["libvirt", "kubevirt", "nova"])
@pytest.mark.parametrize("names", [[SKYLAKE, SAPPHIRE], [MILAN, GENOA]])
@pytest.mark.parametrize("qemu", ["10.0", "11.1"])
def test_the_best_that_a_form_can_hold_is_read_back_as_the_same_cpu(names: list[str], form: str, qemu: str) -> None:
    """QEMU 11.1 has features without a name of libvirt's, and KubeVirt has no place for the width of addresses."""
    held = baseline(census(names), Stack(qemu=qemu), manager=form)
    free = baseline(census(names), Stack(qemu=qemu))
    made = export(held, form, libvirt="12.9")
    assert made.whole, made.lost
    assert held.runs
    assert held.alike
    assert held.shared is not None
    assert free.shared is not None
    assert (held.level, held.shared.model) == (free.level, free.shared.model)
    assert held.shared.features >= free.shared.features - 1


@pytest.mark.long
@given(names=st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3, unique=True), form=st.sampled_from(OF_QEMU))
@settings(max_examples=15, deadline=None)
def test_where_a_form_holds_no_baseline_it_is_the_best_of_all(names: list[str], form: str) -> None:
    held = baseline(census(names), STACK, manager=form)
    assert not export(held, form).lost or held.cpu == found(names).cpu


def test_a_width_that_a_host_has_not_is_no_baseline_s() -> None:
    """QEMU gives 40 bits by itself; a host of 39 has no such addresses, and KubeVirt has no place to say so."""
    one = host(SKYLAKE)
    raw = CpuidTable(entry._replace(eax=39) if entry.function == 0x80000008 else entry for entry in one.raw)
    narrow = replace(one, raw=raw)
    held = baseline(census([], [("narrow", narrow)]), STACK, manager="kubevirt")
    assert "host-phys-bits-limit=39" in (held.cpu or "")
    assert any("host-phys-bits-limit=39" in what for what in export(held, "kubevirt").lost)


def test_kubevirt_takes_mpx_away_unless_it_is_named() -> None:
    text = "cpu:\n  model: Skylake-Server\n  features:\n  - name: pku\n    policy: disable\n"
    assert '<feature policy="disable" name="mpx"/>' in (from_words(text, "kubevirt").xml or "")
    assert "mpx" not in (from_words("cpu:\n  model: host-model", "kubevirt").xml or "")


@pytest.mark.parametrize("manager", [form for form in OF_QEMU if form != "libvirt"])
def test_what_is_no_manager_s_form_is_refused(manager: str) -> None:
    with pytest.raises(InputError, match=f"not in the form of {manager}"):
        from_words("nothing of the kind", manager)
    with pytest.raises(InputError, match="no manager"):
        from_words("", "bhyve")


@pytest.mark.parametrize("names", [[SKYLAKE, OTHER], [SKYLAKE, SAPPHIRE], [MILAN, GENOA]])
def test_a_template_gives_every_member_the_same_table_but_for_what_firecracker_copies_from_the_host(names: list[str]) -> None:
    made = export(found(names), "firecracker")
    template = read_template("\n".join(made.lines), "the template")
    setups = settled(census(names), STACK)
    guests = [Firecracker(custom=template).make("it", _for_firecracker(setup), kvm_says(setup)) for setup in setups]
    one, other = (guest.tables[0] for guest in guests)
    assert not one.has(bits.VMX)
    assert not one.has(bits.SVM)
    assert one.has(bits.AVX2)
    assert one.registers(0xD) == other.registers(0xD)
    assert one.registers(7) == other.registers(7)
    assert guests[0].msrs == guests[1].msrs
    copied = ("the processor's name", "caches")
    assert all(any(what.partition(": ")[2].startswith(kind) for kind in copied) for what in made.lost)
    assert made.whole is (not made.lost)


def _for_firecracker(setup: Setup) -> Setup:
    return replace(setup, vmm=released(), smp="1")


def test_hosts_of_one_processor_need_no_loss_for_firecracker() -> None:
    assert export(found([SKYLAKE, OTHER]), "firecracker").whole


def test_cloud_hypervisor_has_one_profile_so_what_the_hosts_differ_in_is_named() -> None:
    alone, both = export(found([SKYLAKE]), "cloud-hypervisor"), export(found([SKYLAKE, SAPPHIRE]), "cloud-hypervisor")
    assert alone.whole
    assert alone.lines == ("--cpus boot=1,max_phys_bits=40,nested=off",)
    assert not both.whole
    assert any("avx512ifma" in what for what in both.lost)
    assert read(alone.lines[0]) == CpusOption(40, nested=False)
    assert any("no place for a table" in note for note in alone.notes)
    assert read("--cpus boot=1,features=[amx],profile=host").amx
    for wrong in ("profile=skylake", "features=avx2", "cpuid=7.0", "nested=perhaps", "max_phys_bits=wide"):
        with pytest.raises(InputError, match="not what Cloud Hypervisor's --cpus takes"):
            read(f"--cpus boot=1,{wrong}")


def test_hosts_of_both_vendors_are_shown_how_to_have_a_cpu_for_each() -> None:
    """libvirt and what stands on it have no vendor=."""
    for form in ("libvirt", "nova", "kubevirt", "cloud-hypervisor"):
        (said,) = (note for note in export(found([SKYLAKE, MILAN]), form).notes if "vendors" in note)
        assert f"GenuineIntel: {SKYLAKE}; AuthenticAMD: {MILAN}" in said or f"AuthenticAMD: {MILAN}; GenuineIntel: {SKYLAKE}" in said
        assert not any("vendors" in note for note in export(found([SKYLAKE, SAPPHIRE]), form).notes)
    assert not any("vendors" in note for note in export(found([SKYLAKE, MILAN]), "qemu").notes)
    by_cluster = vcpuid("fleet", "export", GOLDEN, "--to", "libvirt", "--qemu", "10.0").stderr
    assert "hosts of 2 vendors want a CPU for each: export --cluster rack1 and --cluster rack2" in by_cluster


def test_a_member_that_cannot_be_read_is_no_success() -> None:
    assert not export(baseline(census([SKYLAKE], unread=[Unread("node9", "cut")]), STACK), "qemu").whole


SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9]+)')


def test_metrics_are_in_the_exposition_format() -> None:
    lines = prometheus(found([SKYLAKE, SAPPHIRE]), {"": 1}).lines
    described: set[str] = set()
    for line in lines:
        if line.startswith("# HELP "):
            described.add(line.split()[2])
        elif line.startswith("# TYPE "):
            assert line.split()[2:] == [line.split()[2], "gauge"]
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1] in described
    assert 'vcpuid_fleet_drift_hosts{cluster=""} 1' in lines
    assert sum(int(line.split()[-1]) for line in lines if line.startswith("vcpuid_fleet_hosts{")) == 2
    assert sum(int(line.split()[-1]) for line in lines if line.startswith("vcpuid_fleet_baseline_hosts{")) == 2


def test_labels_are_escaped() -> None:
    metric = Metric("m", "a\nb\\", (Sample({"cluster": 'x"\\\ny'}, 1),))
    assert list(exposition([metric])) == ["# HELP m a\\nb\\\\", "# TYPE m gauge", 'm{cluster="x\\"\\\\\\ny"} 1']


def test_a_file_of_metrics_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "vcpuid.prom"
    file.write_text("old\n", encoding="utf-8")
    before = os.stat(file).st_ino
    done = vcpuid("fleet", "export", GOLDEN, "--cluster", "rack1", "--to", "prometheus", "--output", str(file), "--qemu", "10.0")
    assert (done.returncode, done.stdout) == (0, "")
    assert file.read_text(encoding="utf-8").startswith("# HELP vcpuid_fleet_hosts")
    assert os.stat(file).st_ino != before
    assert os.listdir(tmp_path) == ["vcpuid.prom"]


def test_drift_is_asked_of_a_store_alone() -> None:
    done = vcpuid("fleet", "export", GOLDEN, "--to", "prometheus", "--since", "2026-11-01")
    assert done.returncode == 3
    assert "a folder of snapshots has no history" in done.stderr


def test_the_verb_writes_the_form_alone_and_what_is_lost_on_standard_error() -> None:
    done = vcpuid("fleet", "export", GOLDEN, "--cluster", "rack1", "--to", "kubevirt", "--qemu", "10.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["cpu:", "  model: Skylake-Server-v5"]
    mixed = vcpuid("fleet", "export", GOLDEN, "--to", "kubevirt", "--qemu", "10.0")
    assert mixed.returncode == 1
    assert mixed.stdout.splitlines()[0] == "cpu:"
    assert "kubevirt loses something: no place in libvirt's <cpu>: vendor=" in mixed.stderr
    whole = vcpuid("fleet", "export", GOLDEN, "--cluster", "rack1", "--to", "firecracker", "--format", "lines")
    assert json.loads(whole.stdout)["cpuid_modifiers"]
    assert "CPU models are those" not in whole.stderr, "a template has no model"
    idle = vcpuid("fleet", "export", GOLDEN, "--cluster", "rack1", "--to", "qemu", "--libvirt", "11.3")
    assert "the CPU models are those of QEMU 11.1 (the newest known; " in idle.stderr
    assert "the CPU models are those of QEMU 10.0, q35" in done.stderr
    assert "--libvirt has no effect: no libvirt reads what is written for qemu" in idle.stderr


def test_a_fleet_for_which_no_model_can_be_made_has_nothing_to_write() -> None:
    none = Baseline(census([SKYLAKE, MILAN]), settled(census([SKYLAKE, MILAN]), STACK))
    assert none.spent == {}
    made = export(none, "libvirt")
    assert (made.lines, made.whole, made.as_dict()["text"]) == ((), False, None)
    assert "vcpuid_fleet_hosts" in "\n".join(prometheus(none).lines)
    assert "baseline" not in "\n".join(prometheus(none).lines)
