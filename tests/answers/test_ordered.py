"""libvirt as a party: who had a feature asked for, which features a refusal hangs on, and what is not told of either."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest

from support import captures
from support.captures import CAPTURES
from support.libvirt_captures import played, rows
from vcpuid import Setup, Stack, read, releases
from vcpuid.answers.explanation import Explanation
from vcpuid.answers.order import Order, order, together
from vcpuid.answers.ordered import explain_ordered, judged
from vcpuid.answers.survey import cpuid_features, deciding_stage
from vcpuid.cpuid.names import find
from vcpuid.errors import LibvirtError
from vcpuid.libvirt import compare, live, update
from vcpuid.path.pipeline import resolve
from vcpuid.qemu.properties import parse
from vcpuid.told.completions import completions

INTEL, IVY = "bochs/corei7_skylake_x@6.12", "bochs/corei7_ivy_bridge_3770k@6.12"
REFUSING = [(host, release) for host, release, do in sorted(rows("rows")) if do == "start" and not completions(played(host, release)[0])]


def ordered(cpu: str, host: str = INTEL, libvirt: str = "11.3.0") -> tuple[Order, Setup]:
    setup, kvm = played(host, libvirt)
    release = libvirt.rpartition(".")[0]
    return order({"do": "start", "cpu": cpu}, setup, releases.libvirt(release), kvm), setup


def explained(name: str, cpu: str, host: str = INTEL, libvirt: str = "11.3.0") -> Explanation:
    found, setup = ordered(cpu, host, libvirt)
    path = resolve(found.argument, host=found.on(setup))
    return explain_ordered(find(name), path, judged(found, path))


def custom(model: str, *features: str, attributes: str = "") -> str:
    listed = "".join(f"<feature policy='{policy}' name='{name}'/>" for policy, _, name in (feature.partition(" ") for feature in features))
    return f"<cpu mode='custom' match='exact'{attributes}><model>{model}</model>{listed}</cpu>"


def chain(found: Explanation) -> list[tuple[str, str]]:
    return [(reason.party, reason.rule.id) for reason in found.chain]


# Who asked


def test_a_feature_that_the_model_once_had_is_switched_off_by_libvirt() -> None:
    found = explained("mpx", custom("Icelake-Server", attributes=" check='none'"))
    assert [(stage.party, stage.value) for stage in found.parties][3:6] == [("domain", None), ("libvirt", False), ("qemu", False)]
    assert chain(found) == [("libvirt", update.REMOVED.id), ("silicon", "silicon.lacks")]


def test_a_feature_that_the_domain_disables_is_the_domains_doing() -> None:
    found = explained("avx2", custom("Skylake-Server", "disable avx2", attributes=" check='none'"))
    assert chain(found)[:2] == [("qemu", "qemu.user.off"), ("domain", update.ASKED.id)]
    assert found.remedy == "leave it out of <cpu>"
    stage = deciding_stage(found, before=True, after=False)
    assert (stage.party, stage.why) == ("domain", "<feature policy='disable' name='avx2'/>")


def test_a_feature_that_the_model_lacks_is_laid_to_who_chose_it() -> None:
    found = explained("vmx", custom("Skylake-Server", attributes=" check='none'"))
    assert chain(found) == [("qemu", "qemu.model.absent"), ("domain", update.ASKED.id)]
    assert found.remedy == "write <feature policy='require' name='vmx'/> in the domain's <cpu>"
    by_libvirt = explained("sgx", "<cpu mode='host-model'/>")
    assert by_libvirt.order is not None
    assert by_libvirt.order.choice.party == "libvirt"
    assert by_libvirt.order.choice.text.endswith("is the model that libvirt found nearest to the host's CPU")


def test_a_host_model_switches_on_what_its_model_lacks() -> None:
    found = explained("vmx", "<cpu mode='host-model'/>")
    assert found.visible
    assert chain(found) == [("qemu", "qemu.user.on"), ("libvirt", update.HOST_MODEL.id)]


def test_the_hosts_own_cpu_leaves_it_to_qemu() -> None:
    found = explained("avx2", "<cpu mode='host-passthrough'/>")
    assert [(stage.value, stage.why) for stage in found.above] == [
        (None, "it has mode='host-passthrough'"),
        (None, "-cpu host leaves it to QEMU"),
    ]


def test_an_optional_feature_is_settled_by_libvirt() -> None:
    found = explained("xop", custom("qemu64", "optional xop", attributes=" check='none'"))
    assert [(stage.value, stage.why) for stage in found.above] == [
        (None, "<feature policy='optional' name='xop'/>"),
        (False, f"{update.OPTIONAL_LACKING.reason}; -cpu has xop=off"),
    ]


@pytest.mark.parametrize("cpu", ["<cpu mode='host-model'/>", "<cpu mode='host-passthrough' migratable='off'/>", custom("Nehalem")])
@pytest.mark.parametrize("libvirt", ["9.0.0", "11.3.0", "12.9.0"])
def test_what_libvirt_is_said_to_pass_on_is_what_qemu_reads_in_its_cpu(cpu: str, libvirt: str) -> None:
    found, _ = ordered(cpu, libvirt=libvirt)
    option = parse(found.argument, releases.number(releases.QEMUS[0]))
    given = {name: value == "on" for name, value in option.settings if value in ("on", "off")}
    for feature in cpuid_features():
        names = [own.name for own in feature.qemu_names if own.name in given]
        wish = found.passed(feature)
        if names:
            assert wish.value is given[names[0]], feature.name
        else:
            assert "-cpu has" not in wish.why


# Refusals


@pytest.mark.parametrize(("host", "libvirt"), REFUSING, ids=map(" ".join, REFUSING))
def test_what_captured_refusals_hang_on_and_what_helps(host: str, libvirt: str) -> None:
    """A refusal of a real libvirt's is told in its words, and its remedies take all features away on which it hangs."""
    setup, kvm = played(host, libvirt)
    release = releases.libvirt(libvirt.rpartition(".")[0])
    for row in _refused(host, libvirt):
        request = row["request"]
        found = order(request, setup, release, kvm)
        assert found.refusal is not None
        assert found.refusal.message == row["error"]["message"]
        path = resolve(found.argument, host=found.on(setup))
        causes = judged(found, path).blocking
        assert [cause.ruling for cause in causes] == list(found.refusal.causes)
        for cause in causes:
            assert cause.party in ("silicon", "linux", "kvm", "qemu", None)
        again = _order({**request, "cpu": _helped(request["cpu"], [cause.remedy for cause in causes if cause.remedy])}, setup, release, kvm)
        if again is not None and again.refusal is not None:
            assert not {cause.feature for cause in again.refusal.causes} & {cause.ruling.feature for cause in causes}


def _refused(host: str, libvirt: str) -> Iterator[dict[str, object]]:
    for row in rows("rows")[host, libvirt, "start"]:
        error = row.get("error")
        if (
            error
            and "cpu" in row["request"]
            and row["request"].get("virt") != "qemu"
            and error["code"] in (9, 91)
            and ": " in error["message"]
        ):
            yield row


def _order(request: dict[str, object], *args: object) -> Order | None:
    try:
        return order(request, *args)  # type: ignore[arg-type]
    except LibvirtError:
        return None


def _helped(cpu: str, remedies: list[str]) -> str:
    """Do what the remedies say first: features with another policy, an attribute with another value."""
    element = ET.fromstring(cpu)
    for remedy in remedies:
        verb, _, first = remedy.partition(", or ")[0].partition(" ")
        assert verb in ("write", "set")
        if attribute := re.fullmatch(r"(\w+)='(\w+)'", first):
            element.set(attribute[1], attribute[2])
            continue
        new = ET.fromstring(first)
        for old in element.findall("feature"):
            if old.get("name") == new.get("name"):
                element.remove(old)
        element.append(new)
    return ET.tostring(element, encoding="unicode")


def test_a_model_of_libvirts_may_demand_what_qemus_does_not_have() -> None:
    found = explained("mpx", custom("Icelake-Server"), libvirt="9.0.0")
    assert found.visible is False
    assert found.chain[0].rule is compare.MODEL_DEMANDS
    assert found.chain[0].text == "libvirt's Icelake-Server demands it, and QEMU's Icelake-Server does not have it"
    assert found.above[1].why == "its Icelake-Server has it, which QEMU's does not, and -cpu does not name it"
    assert found.verdict.startswith("No guest sees mpx: libvirt 9.0 refuses the domain. With check='none': The guest does not see mpx: ")
    assert found.remedy is not None
    assert "<feature policy='disable' name='mpx'/>" in found.remedy
    assert found.remedy.endswith(", or set check='none'")


def test_no_guest_sees_what_it_would_see_unchecked() -> None:
    found = explained("sse2", custom("Haswell"), host=IVY)
    assert (found.visible, found.stages[-1].value, found.depends, found.assumes) == (False, True, (), ())
    assert found.order is not None
    told = found.as_dict()["libvirt"]
    assert isinstance(told, dict)
    assert (told["check"], told["unchecked"], told["objection"]["code"]) == ("partial", True, 91)


def test_a_guest_that_libvirt_ends_is_no_guest() -> None:
    found = explained("hypervisor", custom("qemu64", attributes=" check='full'"))
    assert (found.visible, found.refused) == (False, True)
    assert found.chain[0].rule is live.EXTRA
    assert "<feature policy='require' name='hypervisor'/>" in str(found.remedy)


def test_a_vendor_that_is_another_needs_no_feature() -> None:
    found = explained("sse2", "<cpu mode='custom' match='exact'><model>Nehalem</model><vendor>AMD</vendor></cpu>", libvirt="9.0.0")
    assert found.order is not None
    assert (found.order.blocking, found.remedy) == ((), "set check='none'")


def test_what_no_check_lets_pass_is_refused_as_ever() -> None:
    with pytest.raises(LibvirtError, match="unknown CPU feature: nonsense"):
        ordered(custom("qemu64", "require nonsense"))


def test_remedies_are_joined() -> None:
    assert together(["write a, or c", "write b, or c", "write a, or c"]) == "write a b, or c"
    assert together(["write a, or c", "set b, or d"]) == "write a and set b, or c, or d"
    assert together(["set match='exact'"]) == "set match='exact'"


# Not told

UNTOLD = ("rtm", "avx2", "vmx-ept", "mpx", "arch_capabilities")


@pytest.fixture(scope="module")
def untold() -> Setup:
    host = read(CAPTURES / "reports" / "cascade-lake-without-msrs.txt.gz")
    return Setup.of(host, Stack("6.12", "10.0"))


@pytest.mark.long
def test_what_hangs_on_untold_facts_is_not_told_whatever_libvirt_makes_of_it(untold: Setup) -> None:
    """Neither yes nor no may turn into the other on a host that tells more."""
    made = order({"do": "start", "cpu": "<cpu mode='host-model'/>"}, untold, releases.libvirt("11.3"))
    assert made.open
    path = resolve(made.argument, host=made.on(untold))
    made = judged(made, path)
    others = [(other, completion.setup) for completion, other in made.elsewhere if other is not None]
    guests = [resolve(other.argument, host=other.on(setup)) for other, setup in others]
    told = {feature.name: explain_ordered(feature, path, made) for feature in map(find, UNTOLD)}
    for name, found in told.items():
        seen = {guest.trace.steps[-1].value(found.feature.place) for guest in guests}
        if found.visible is not None:
            assert seen == {found.visible}, name
        else:
            assert len(seen) == 2, name
            assert found.depends
            assert found.parties[-1].why.startswith("depends on ")
    assert [name for name, found in told.items() if found.visible is None] == ["rtm", "vmx-ept"]


@pytest.mark.long
def test_a_refusal_may_itself_hang_on_untold_facts(untold: Setup) -> None:
    made = order({"do": "start", "cpu": custom("Nehalem", "require vmx", "require vmx-ept")}, untold, releases.libvirt("11.3"))
    assert [str(fact.place) for fact in made.depends][:1] == ["MSR(48Bh)"]
    assert made.refusal is not None
    assert str(made.objection).startswith("whether libvirt starts it is not told; ")
    path = resolve(made.argument, host=made.on(untold))
    made = judged(made, path)
    assert explain_ordered(find("vmx-ept"), path, made).visible is None
    assert explain_ordered(find("sse2"), path, made).visible is None
    assert explain_ordered(find("avx"), path, made).visible is False


def test_a_host_that_tells_all_leaves_nothing_open() -> None:
    found, _ = ordered("<cpu mode='host-model'/>")
    assert (found.open, found.depends) == ((), ())
    assert captures.host("kvm-intel.corei7_skylake_x@6.12").supported is not None


def test_of_a_guest_that_libvirt_does_not_start_no_protection_is_claimed() -> None:
    refused = "<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>Icelake-Server</model></cpu>"
    found = explained("spectre_v2", refused, IVY)
    assert found.order is not None
    assert found.order.refusal is not None
    assert found.verdict.startswith("No guest starts: libvirt 11.3 refuses the domain. ")
    assert not explained("spec-ctrl", refused, IVY).serves
    assert explained("spec-ctrl", "<cpu mode='host-passthrough'/>", IVY).serves
