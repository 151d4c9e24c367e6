"""Which named models run on whom: what QEMU itself says of each host, put together."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from support.captures import host
from support.command import vcpuid
from support.fleets import HOSTS, census
from vcpuid import Stack, qemu
from vcpuid.cpuid import MsrTable
from vcpuid.fleet.named import named_models
from vcpuid.formats.lines import format_snapshot
from vcpuid.kvm.answers import kvm_says

SKYLAKE, SAPPHIRE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-amd.EPYC-Milan-v2@6.12"
STACK = Stack(qemu="10.0")


@given(names=st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2, unique=True))
@settings(max_examples=3, deadline=None)
def test_a_model_runs_on_whom_qemu_says_it_does(names: list[str]) -> None:
    found = named_models(census(names), STACK)
    alone = [{m.name: m for m in qemu.models(setup, xcr0=kvm_says(setup).xcr0)} for setup in found.setups]
    assert len(found.models) > 50
    for model in found.models:
        assert [one.runs for one in model.classes] == [told[model.name].usable for told in alone]
        assert model.hosts == sum(one.group.hosts for one in model.classes if one.runs)
        assert model.runs is all(one.runs for one in model.classes)
        assert [set(one.missing) for one in model.classes] == [set(told[model.name].unavailable_features) for told in alone]
        assert all(len(set(one.missing)) == len(one.missing) for one in model.classes)


def test_the_best_model_is_first_and_who_lacks_what_of_the_others_is_told() -> None:
    found = named_models(census([SKYLAKE, SAPPHIRE, MILAN]), STACK)
    hosts = [model.hosts for model in found.models]
    assert hosts == sorted(hosts, reverse=True)
    best = [model for model in found.models if model.runs and not model.deprecated]
    assert best
    assert [model.features for model in best] == sorted((model.features for model in best), reverse=True)
    by_name = {model.name: model for model in found.models}
    assert by_name["SapphireRapids-v1"].runs is False
    assert f"{MILAN}: " in found.who(by_name["Skylake-Server-v1"])
    assert "avx512f" in found.who(by_name["Skylake-Server-v1"]).partition(f"{MILAN}: ")[2]


def test_a_member_that_does_not_tell_its_msrs_lacks_nothing_for_that() -> None:
    silent = replace(host(SAPPHIRE), msrs=MsrTable(), hardware_msrs=MsrTable(), cpuinfo={})
    found = named_models(census([SAPPHIRE], [("silent", silent)]), STACK)
    open_ = [model for model in found.models if model.open]
    assert open_
    assert all(group.example == "silent" for model in open_ for group in model.open)
    assert any("silent: not told" in found.who(model) for model in open_)


def test_the_verb_lists_models_and_for_programs_every_class() -> None:
    done = vcpuid("fleet", "models", "tests/golden/fleet", "--cluster", "rack1", "--qemu", "10.0")
    assert done.returncode == 0
    assert "run on all 3 hosts" in done.stdout
    rows = list(
        csv.DictReader(
            io.StringIO(vcpuid("fleet", "models", "tests/golden/fleet", "--cluster", "rack1", "--qemu", "10.0", "--format", "csv").stdout)
        )
    )
    assert {row["who"] for row in rows} == {"node1 node2", "node3"}
    assert {row["runs"] for row in rows} == {"yes", "no"}


def test_one_host_is_called_one_host(tmp_path: Path) -> None:
    (tmp_path / "node1.txt").write_text("".join(line + "\n" for line in format_snapshot(host(SAPPHIRE))), encoding="utf-8")
    answers = [vcpuid("fleet", verb, str(tmp_path)) for verb in ("classes", "baseline", "blame", "models")]
    assert [answer.returncode for answer in answers] == [0, 0, 0, 0]
    first = [answer.stdout.splitlines()[answer.stdout.startswith("-cpu")] for answer in answers]
    assert first[0] == "1 host of 1 class."
    assert first[1].startswith("starts with every requested feature on 1 of 1 host, QEMU ")
    assert first[2].startswith("The one host can give ")
    assert " that run on the one host: " in first[3]
