"""What is asked of a live page is answered as the verbs answer it; what makes no sense is an error of one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from support.captures import CAPTURES, capture
from support.command import vcpuid
from support.packed import unpack
from vcpuid import read
from vcpuid.errors import InputError, LibvirtError, QemuError, VcpuidError
from vcpuid.explore import data
from vcpuid.explore.bench import Bench, HostAtHand, PathAsked, told

SKYLAKE = capture("kvm-intel.corei7_skylake_x@6.12")
GUEST = Path(__file__).parents[1] / "golden" / "host-model.xml"
DOMAIN = GUEST.read_text(encoding="utf-8")
ERROR = "guest CPU doesn't match specification: missing features: pcid,hle,rtm"


@pytest.fixture
def bench() -> Bench:
    return Bench({"skylake": HostAtHand(read(SKYLAKE), ("--host", str(SKYLAKE)))})


def said(*arguments: str) -> Any:
    """What the command line answers."""
    return json.loads(vcpuid(*arguments, "--format", "json").stdout)


def ask(bench: Bench, route: str, **body: object) -> Any:
    return unpack(json.loads(json.dumps(bench.answer(route, json.dumps(body).encode()))))


@pytest.mark.long
def test_a_path_is_what_the_command_beside_it_says(bench: Bench) -> None:
    asked = {"cpu": "Haswell,+rtm", "qemu": "10.0", "machine": "pc", "smp": "2", "params": ["nested=0"], "what_if": True, "kernel": "6.1"}
    path = ask(bench, "path", **asked)["path"]
    answer = said("explain", "vmx", *path["options"])
    own = next(feature for feature in path["features"] if feature["feature"] == "vmx")
    assert {key: own[key] for key in answer if key in own} == {key: value for key, value in answer.items() if key in own}
    assert {key: path[key] for key in ("cpu", "setup", "warnings", "remarks")} == {
        key: answer[key] for key in ("cpu", "setup", "warnings", "remarks")
    }


@pytest.mark.parametrize("part", data.PARTS)
def test_a_part_is_of_the_path_that_was_asked_for(bench: Bench, part: str) -> None:
    subject = bench.subject(PathAsked(cpu="Penryn"))
    assert ask(bench, part, cpu="Penryn") == json.loads(json.dumps(data.PARTS[part](subject)))


@pytest.mark.long
def test_a_domain_leads_to_the_cpu_as_for_the_verbs(bench: Bench) -> None:
    assert unpack(bench.answer("read", DOMAIN.encode(), "guest.xml")) == {"kind": "domain", "text": DOMAIN}
    path = ask(bench, "path", domain=DOMAIN, libvirt="11.3")["path"]
    answer = said("explain", "avx", "--domain", str(GUEST), "--libvirt", "11.3", "--host", str(SKYLAKE), "--qemu", "11.1")
    own = next(feature for feature in path["features"] if feature["feature"] == "avx")
    assert own["stages"] == answer["stages"]
    assert path["cpu"] == answer["cpu"]
    assert path["libvirt"]


@pytest.mark.long
def test_a_dump_that_is_dropped_is_a_host_from_then_on(bench: Bench) -> None:
    dump = (CAPTURES / "reports" / "cascade-lake-without-msrs.txt.gz").read_bytes()
    found = unpack(bench.answer("read", dump, "cascade.txt.gz"))
    assert (found["kind"], found["host"]) == ("host", "cascade.txt.gz")
    assert unpack(bench.answer("read", gzip.decompress(dump), "other name"))["host"] == "cascade.txt.gz"
    assert unpack(bench.answer("read", SKYLAKE.read_bytes(), "cascade.txt.gz"))["host"] == "skylake"
    assert any(
        feature["change"] == "not told"
        for feature in ask(bench, "path", host="cascade.txt.gz", cpu="Cascadelake-Server")["path"]["features"]
    )


def test_two_hosts_of_one_name_are_told_apart_and_those_dropped_first_go_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcpuid.explore.bench._HOSTS", 2)
    names = [
        unpack(bench.answer("read", capture(name).read_bytes(), "host.txt"))["host"]
        for name in ("kvm-amd.EPYC-Milan-v2@7.3", "kvm-amd.EPYC-Milan-v2@6.1", "kvm-amd.EPYC-v4@6.12")
    ]
    assert names == ["host.txt", "host.txt (2)", "host.txt (3)"]
    assert [*bench.hosts] == ["skylake", "host.txt (2)", "host.txt (3)"]


@pytest.mark.parametrize("name", ["kvm", "live", "cpu:0", "/dev/cpu/0/cpuid", "/etc/passwd", "a#3"])
def test_the_name_of_what_is_dropped_is_a_name_and_nothing_that_is_read(bench: Bench, name: str) -> None:
    with pytest.raises(InputError):
        bench.answer("read", b"nothing of any form", name)
    milan = capture("kvm-amd.EPYC-Milan-v2@7.3")
    assert unpack(bench.answer("read", milan.read_bytes(), name))["host"] == name
    assert bench.hosts[name].snapshot.vendor == read(milan).vendor


def test_an_error_that_is_dropped_is_diagnosed_on_the_host(bench: Bench) -> None:
    assert unpack(bench.answer("read", ERROR.encode()))["kind"] == "text"
    found = ask(bench, "diagnose", text=ERROR, cpu="Skylake-Server")
    answer = said("diagnose", ERROR, "--cpu", "Skylake-Server", "--host", str(SKYLAKE), "--qemu", "11.1")
    assert found == answer
    assert ask(Bench({}), "diagnose", text=ERROR) == said("diagnose", ERROR)


@pytest.mark.long
def test_an_empty_request_means_what_the_page_began_with(bench: Bench) -> None:
    first = bench.subject(PathAsked(cpu="Opteron_G5"))
    began = Bench(bench.hosts, first, PathAsked(host="skylake", cpu="Opteron_G5"))
    assert ask(began, "path")["asked"] == {"host": "skylake", "cpu": "Opteron_G5"}
    assert began.subject(PathAsked()) is began.subject(PathAsked(host="skylake", cpu="Opteron_G5")) is first


def test_what_the_page_can_choose_from_is_what_there_are_tables_of(bench: Bench) -> None:
    begun = ask(bench, "begin")
    assert begun["schema"] == data.SCHEMA
    assert begun["hosts"] == ["skylake"]
    assert begun["choices"]["kernel"][0] == "7.3"
    assert {"host", "max", "Haswell-v4"} <= set(begun["choices"]["models"])


def test_a_refusal_of_qemus_names_the_cpu_that_would_run(bench: Bench) -> None:
    with pytest.raises(QemuError) as refusal:
        bench.subject(PathAsked(cpu="Skylake-Server,enforce"))
    assert "would run" in str(told(refusal.value)["error"])
    assert told(refusal.value)["status"] == 1


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"cpu": 1}, "cpu of the request is no str"),
        ({"params": "nested=0"}, "params of the request is no tuple"),
        ({"params": [1]}, "params of the request is no tuple"),
        ({"what_if": 1}, "what_if of the request is no bool"),
        ({"host": "/etc/passwd"}, "there is no host"),
        ({"kernel": "none"}, "none"),
        ({"qemu": "one"}, "one"),
        ({"params": ["nested"]}, "NAME=VALUE"),
        ({"params": ["nobody=1"]}, "nobody"),
        ({"domain": "<domain"}, "XML"),
    ],
)
def test_what_makes_no_sense_is_an_error_of_one_line(bench: Bench, body: dict[str, object], word: str) -> None:
    with pytest.raises(VcpuidError, match=word) as error:
        ask(bench, "path", **body)
    assert len(str(told(error.value)["error"]).splitlines()) == 1
    assert told(error.value)["status"] == 3


def test_an_error_that_repeats_what_was_given_is_cut_as_the_command_line_cuts_it(bench: Bench) -> None:
    with pytest.raises(VcpuidError) as error:
        ask(bench, "path", cpu="x" * 100_000)
    assert "…" in str(told(error.value)["error"])
    assert len(str(told(error.value)["error"])) < 500


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"{}{}", b"\xff", b"[" * 100_000])
def test_a_request_that_is_no_object_is_refused(bench: Bench, body: bytes) -> None:
    with pytest.raises(InputError, match="the request"):
        bench.answer("path", body)


def test_a_route_that_is_none_is_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match="nothing that can be asked for"):
        bench.answer("__class__", b"{}")


def test_a_domain_without_kvm_and_one_that_libvirt_refuses_are_told(bench: Bench) -> None:
    with pytest.raises(InputError, match="whose CPU no KVM makes"):
        ask(bench, "path", domain=DOMAIN.replace("type='kvm'", "type='qemu'"))
    with pytest.raises(LibvirtError):
        ask(bench, "path", domain=DOMAIN.replace("host-model", "nothing"))
