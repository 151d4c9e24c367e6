"""Firecracker on the path: resolve and explain with it, and what the adapter adds to `guest`."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from support.captures import MACHINES, host
from vcpuid import Stack, resolve
from vcpuid.answers.explain import explain
from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, MsrWord
from vcpuid.cpuid.names import find
from vcpuid.errors import FirecrackerError, InputError
from vcpuid.formats.firecracker_template import read_template
from vcpuid.path.pipeline import Path as CpuPath
from vcpuid.reasons import replay
from vcpuid.vmm.firecracker import FIRECRACKER, Firecracker
from vcpuid.vmm.known import named

ABLE = [name for name in MACHINES if "Dhyana" not in name]
"""Hosts on which Firecracker starts: Hygon's are not Intel's or AMD's."""

SAPPHIRE = "kvm-intel.sapphire_rapids-xfd@6.12"
MILAN = "kvm-amd.EPYC-Milan-v2@7.3"
NO_AVX512 = {"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [{"register": "ebx", "bitmap": "0b000x0000000000xxxxxxxxxxxxxxxx"}]}


def path(name: str, asked: str = "none", vmm: Firecracker = FIRECRACKER, smp: str = "1", **changes: object) -> CpuPath:
    return resolve(asked, host=replace(host(name), **changes), stack=Stack(smp=smp), vmm=vmm)  # type: ignore[arg-type]


def custom(*modifiers: object) -> Firecracker:
    return Firecracker(read_template(json.dumps({"cpuid_modifiers": modifiers}), "T.json"))


def test_it_is_found_by_its_name() -> None:
    assert named("firecracker") is FIRECRACKER


@pytest.mark.parametrize("name", ABLE[::4])
@pytest.mark.parametrize("observed", [True, False])
def test_the_decisions_lead_from_kvms_step_to_the_vmms(name: str, observed: bool) -> None:
    told = path(name) if observed else path(name, supported=None)
    step = told.trace.vmm
    before, after = dict(step.before), dict(step.after)
    replayed = replay(before, step.decisions)
    words = {word for word in before.keys() | after.keys() if isinstance(word, CpuidWord) or word in after}
    assert {word: replayed.get(word, 0) for word in words} == {word: after.get(word, 0) for word in words}
    assert pickle.loads(pickle.dumps(told.made)).tables == told.tables


def test_a_feature_that_a_template_takes_is_explained() -> None:
    told = explain(find("avx512f"), path(SAPPHIRE, "T.json", custom(NO_AVX512)))
    assert not told.visible
    assert [decision.rule.id for decision in told.path.trace.vmm.about(Bit(CpuidWord(7, 0, "ebx"), 16))] == ["firecracker.template"]
    assert told.remedy == "use a template that leaves the bit to the host (x)"
    assert told.path.headline() == "CPU template T.json, Firecracker 1.16, vcpu_count 1, Linux 6.12.107+deb13-cloud-amd64"


def test_bits_that_a_template_turns_on_in_vain_are_denied() -> None:
    wanted = {"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [{"register": "ecx", "bitmap": "0b1x" + "x" * 14 + "1" + "x" * 15}]}
    assert path(SAPPHIRE, "T.json", custom(wanted)).made.denied == (Bit(CpuidWord(1, 0, "ecx"), 15),)  # PDCM; the hypervisor's bit is given


def test_firecracker_asks_for_amx_since_1_12() -> None:
    tiles = CpuidWord(0xD, 0, "eax")
    assert not path(SAPPHIRE).trace.step("kvm").after[tiles] & 1 << 18
    told = path(SAPPHIRE)
    assert told.tables[0].word(tiles) & 3 << 17 == 3 << 17
    assert (0xD, 0x12) in told.tables[0].by_key()
    rules = {decision.rule.id for decision in told.made.decisions if decision.word == tiles and decision.mask >> 18 & 1}
    assert rules == {"firecracker.amx-permission"}
    older = resolve("none", host=host(SAPPHIRE), stack=Stack(qemu="1.11"), vmm=FIRECRACKER)
    assert not older.tables[0].word(tiles) & 1 << 18


@pytest.mark.parametrize(
    ("smp", "count", "smt"), [("1", 1, ""), ("4", 4, ""), ("cpus=2", 2, ""), ("4,threads=2", 4, ", smt"), ("2,threads=1", 2, "")]
)
def test_smp_is_the_machine_configuration(smp: str, count: int, smt: str) -> None:
    told = path(MILAN, smp=smp)
    assert len(told.tables) == count
    assert told.headline().startswith(f"no CPU template, Firecracker 1.16, vcpu_count {count}{smt}, Linux")


@pytest.mark.parametrize("smp", ["", "4,cores=2", "x", "4,threads=3", "9999", "-1"])
def test_an_smp_that_firecracker_does_not_have_is_refused(smp: str) -> None:
    with pytest.raises(InputError, match="Firecracker has a number of vCPUs, and with smt two threads a core: N, or N,threads=2"):
        path(MILAN, smp=smp)


def test_what_is_not_known_is_a_remark_of_the_path() -> None:
    told = path(MILAN, raw=CpuidTable())
    assert any(remark.startswith("the host does not tell leaf 0x8000001d of its own CPUID") for remark in told.remarks)
    assert not any("leaf" in remark for remark in path(MILAN).remarks)


def test_a_static_template_asks_for_its_hosts_and_one_that_is_none_is_refused() -> None:
    with pytest.raises(FirecrackerError, match="The current CPU model is not permitted to apply the CPU template"):
        path(SAPPHIRE, "T2")
    with pytest.raises(InputError, match="'T5' is no static CPU template of Firecracker"):
        path(SAPPHIRE, "T5")


def test_feature_msrs_are_those_that_cpuid_tells_of() -> None:
    assert path(SAPPHIRE).made.msrs.keys() >= {MsrWord(0x10A)}
    assert MsrWord(0x10A) not in path(MILAN).made.msrs
