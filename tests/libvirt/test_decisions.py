"""Why libvirt lists a feature as it does, and which features a refusal hangs on: what the captures do not say by themselves."""

from __future__ import annotations

import pickle

import pytest

from support.libvirt_captures import played
from vcpuid.errors import LibvirtError
from vcpuid.libvirt import Libvirt, Ruling, compare, connect, live, update
from vcpuid.reasons import Rule

INTEL, AMD = "bochs/corei7_skylake_x@6.12", "tcg/EPYC-Milan-v2@6.1"


def libvirt(host: str, release: str) -> Libvirt:
    setup, kvm = played(host, f"{release}.0")
    return connect(setup, release, kvm)


def custom(model: str, *features: str, attributes: str = "") -> dict[str, str]:
    listed = "".join(f"<feature policy='{policy}' name='{name}'/>" for policy, _, name in (feature.partition(" ") for feature in features))
    return {"do": "argv", "cpu": f"<cpu mode='custom' match='exact'{attributes}><model>{model}</model>{listed}</cpu>"}


def rules_of(request: dict[str, str], feature: str, host: str = INTEL, release: str = "11.3") -> list[Rule]:
    return [ruling.rule for ruling in libvirt(host, release).planned(request).journal.of(feature)]


def refused(request: dict[str, str], host: str, release: str, *, started: bool = False) -> LibvirtError:
    daemon = libvirt(host, release)
    with pytest.raises(LibvirtError) as error:
        (daemon.started if started else daemon.planned)(request)
    return error.value


def test_what_qemu_does_not_know_is_not_switched_off() -> None:
    request = custom("qemu64", "disable pconfig")
    assert "pconfig" not in str(libvirt(INTEL, "11.3").answer(request)["-cpu"])
    assert rules_of(request, "pconfig") == [update.ASKED, update.UNKNOWN]
    assert rules_of(custom("qemu64", "disable avx"), "avx") == [update.ASKED]


def test_a_host_model_differs_from_the_model_that_was_found_nearest() -> None:
    planned = libvirt(INTEL, "11.3").planned({"do": "argv", "cpu": "<cpu mode='host-model'/>"})
    assert planned.journal.model == (planned.cpu.model, update.HOST_MODEL)
    (mpx,) = planned.journal.of("mpx")
    assert mpx == Ruling("mpx", "disable", update.HOST_MODEL, planned.cpu.model)
    assert mpx.reason == f"the host's CPU as QEMU gives it differs here from {planned.cpu.model}, the model that libvirt found nearest"


def test_an_optional_feature_is_settled_by_the_host() -> None:
    request = custom("qemu64", "optional avx", "optional xop", attributes=" check='none'")
    assert rules_of(request, "avx") == [update.ASKED, update.OPTIONAL_GIVEN]
    assert rules_of(request, "xop") == [update.ASKED, update.OPTIONAL_LACKING]


def test_a_removed_feature_is_switched_off() -> None:
    removed = libvirt(INTEL, "11.3").known.models["Icelake-Server"].removed
    assert [rules_of(custom("Icelake-Server", attributes=" check='none'"), name) for name in removed] == [[update.REMOVED]] * len(removed)


def test_by_bits_the_map_demands_what_qemu_dropped_from_the_model() -> None:
    """libvirt 9.0 compares bits: its Icelake-Server has mpx, which QEMU's no longer has and this host does not either."""
    error = refused(custom("Skylake-Server"), INTEL, "9.0")
    assert [cause.feature for cause in error.causes if cause.rule is compare.MODEL_DEMANDS] == ["hle", "rtm", "mpx"]
    assert {cause.cause for cause in error.causes} == {"Skylake-Server"}


def test_since_11_qemu_says_what_its_model_lacks() -> None:
    error = refused(custom("Skylake-Server-v5", "require xop"), INTEL, "11.3")
    assert [(cause.feature, cause.rule) for cause in error.causes][-1] == ("xop", compare.DOMAIN_DEMANDS)
    assert {cause.rule for cause in error.causes[:-1]} == {compare.QEMU_BLOCKS}


def test_full_checks_name_what_is_missing_and_what_is_too_much() -> None:
    request = {"do": "start", "cpu": "<cpu mode='custom' match='exact' check='full'><model>qemu64</model></cpu>"}
    error = refused(request, INTEL, "11.3", started=True)
    assert {cause.rule for cause in error.causes} <= {live.EXTRA, live.MISSING}
    extra = [cause.feature for cause in error.causes if cause.rule is live.EXTRA]
    missing = [cause.feature for cause in error.causes if cause.rule is live.MISSING]
    assert error.message.endswith(f"extra features: {','.join(extra)}, missing features: {','.join(missing)}")
    assert error.cpu == "qemu64"


def test_forbidden_and_strict() -> None:
    (cause,) = refused(custom("qemu64", "forbid apic"), AMD, "12.9").causes
    assert cause == Ruling("apic", "forbid", compare.FORBIDDEN)
    strict = refused({"do": "argv", "cpu": "<cpu match='strict'><model>core2duo</model></cpu>"}, INTEL, "9.0")
    assert {cause.rule for cause in strict.causes} == {compare.NOT_STRICT}


def test_a_refusal_can_be_pickled_with_its_causes() -> None:
    error = refused(custom("Skylake-Server"), INTEL, "9.0")
    again = pickle.loads(pickle.dumps(error))
    assert (again.as_dict(), again.causes) == (error.as_dict(), error.causes)
