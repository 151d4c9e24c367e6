"""No answer is surer than its input: what is taken away may turn yes or no into not told, and never one into the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.captures import MACHINES, MITIGATIONS_OFF, host, release, some
from support.peers import INSTLATX64, members
from vcpuid import Setup, Stack, resolve
from vcpuid.answers.certainty import open_bits
from vcpuid.answers.flags import told
from vcpuid.answers.survey import cpuid_features, words_of
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import CpuidTable, MsrTable, Snapshot
from vcpuid.cpuid.vendors import AMD, INTEL
from vcpuid.errors import InputError, RefusedError, VcpuidError
from vcpuid.formats import parse
from vcpuid.linux.cpuinfo import named
from vcpuid.path.pipeline import ANY_WARNING
from vcpuid.path.pipeline import Path as CpuPath
from vcpuid.reasons import read_register

FEATURES = cpuid_features()
WORDS = words_of(FEATURES)
CPUS = ("host", "max", "Haswell", "EPYC-Milan,phys-bits=46", "Cascadelake-Server-noTSX,+vmx")

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")

Answers = Mapping[object, bool | None]


def features(setup: Setup, cpu: str = "host") -> Answers:
    """What a guest sees, of every feature of CPUID."""
    path = resolve(cpu, host=setup)
    hidden, seen = open_bits(path, WORDS), path.trace.steps[-1].after
    words = {word: read_register(seen, word) for word in WORDS}
    return {
        feature.name: None if hidden.get(word, 0) & mask else bool(words[word] & mask)
        for feature in FEATURES
        for word, mask in [(feature.place.word, feature.place.mask)]
        if word in words
    }


def flags(setup: Setup) -> Answers:
    """What /proc/cpuinfo shows, of every name that it could."""
    found = told(setup)
    return {**dict.fromkeys(named(found.info), True), **{(open_.what,): None for open_ in found.not_told}}


def contradictions(part: Answers, whole: Answers) -> list[object]:
    """Answers that are definite on both sides and not the same."""
    return [key for key, value in part.items() if value is not None and whole.get(key) is not None and value is not whole[key]]


def untold_flags(answers: Answers) -> set[object]:
    return {what for key, value in answers.items() if value is None and isinstance(key, tuple) for what in key}


def flag_contradictions(part: Answers, whole: Answers) -> list[object]:
    """Names on one side's lines that the other side's leave out, though neither says that they are not told."""
    open_ = untold_flags(part) | untold_flags(whole)
    if "every flag" in open_:
        return []
    shown = [{key for key, value in side.items() if value} for side in (part, whole)]
    return [(line, name) for line, name in shown[0] ^ shown[1] if not {name, f"{line.replace('_', ' ')}: {name}"} & open_]


def modelled(snapshot: Snapshot) -> Snapshot:
    """A host of which no party was asked: all is worked out of its CPUID and MSRs."""
    return replace(snapshot, supported=None, emulated=None, hyperv=None, kept=None, set_result=None, cpuinfo={})


def setup(name: str, snapshot: Snapshot) -> Setup:
    return Setup.of(snapshot, Stack(release(name), params=MITIGATIONS_OFF))


@cache
def dumps() -> list[Snapshot]:
    """InstLatx64's first 300 dumps of Intel's and AMD's processors."""
    found = []
    for name, text in sorted(members(INSTLATX64).items()):
        try:
            snapshot = parse(text, name)[0]
        except InputError:
            continue
        if snapshot.vendor in (INTEL, AMD):
            found.append(snapshot)
    return found[:300]


@pytest.mark.long
@pytest.mark.parametrize(("cpu", "name"), some(product(["host", "Cascadelake-Server-noTSX"], MACHINES), 5))
def test_what_raw_lines_alone_answer_is_what_the_whole_capture_answers(
    name: str, cpu: str, definite: Callable[[str, int, int], None]
) -> None:
    whole = host(name)
    bare = Snapshot(raw=whole.raw, kernel=whole.kernel, params=whole.params)
    part = features(setup(name, bare), cpu)
    assert not contradictions(part, features(setup(name, whole), cpu))
    definite("the captures' RAW lines alone", sum(value is not None for value in part.values()), len(part))


@pytest.mark.long
@pytest.mark.parametrize("name", some(MACHINES, 3))
def test_the_flags_of_raw_lines_alone_are_those_with_the_msrs(name: str) -> None:
    whole = modelled(host(name))
    assert not flag_contradictions(flags(setup(name, replace(whole, msrs=MsrTable()))), flags(setup(name, whole)))


RAN = Stack(params=MITIGATIONS_OFF)
"""What the captured machines ran with: their KVM's feature MSRs say so, and where these are lost, nothing else does."""


@st.composite
def parts(draw: st.DrawFn, of: st.SearchStrategy[Snapshot]) -> tuple[Snapshot, Snapshot]:
    """A host, and what is left of its lines after a cut, after a few were lost, or after any number was."""
    whole = modelled(draw(of))
    places = [entry[:2] for entry in whole.raw]
    lost = draw(
        st.one_of(
            st.integers(1, len(places)).map(lambda kept: set(places[kept:])),
            st.sets(st.sampled_from(places), max_size=4),
            st.sets(st.sampled_from(places)),
        )
    )
    msrs = draw(st.sets(st.sampled_from(sorted(whole.msrs)))) if whole.msrs else set()
    raw = CpuidTable(entry for entry in whole.raw if entry[:2] not in lost)
    return whole, replace(whole, raw=raw, msrs=MsrTable({index: value for index, value in whole.msrs.items() if index not in msrs}))


def surer_warnings(part: CpuPath, whole: CpuPath) -> list[str]:
    """Warnings that one side gives for certain, and of which the other neither does so nor says that they are not told."""
    sides = [(set(side.warnings), {found.what for found in side.warnings_not_told}) for side in (part, whole)]
    (mine, open_), (theirs, left) = sides
    if ANY_WARNING in open_ | left:
        return []
    return [warning for warning in mine ^ theirs if part.vmm.unspecific(warning) not in open_ | left]


def hold(whole: Snapshot, part: Snapshot, cpu: str, stack: Stack | None = None) -> None:
    if not part.raw:
        return
    sides = Setup.of(part, stack), Setup.of(whole, stack)
    assert not flag_contradictions(*map(flags, sides))
    try:
        assert not contradictions(*(features(side, cpu) for side in sides))
    except RefusedError:
        return
    assert not surer_warnings(*(resolve(cpu, host=side) for side in sides))
    judged, truth = (verdict(cpu, side).runs for side in sides)
    assert judged is None or truth is None or judged is truth


@pytest.mark.long
@pytest.mark.parametrize("share", [0.5])
@pytest.mark.parametrize("name", ["kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3"])
def test_a_paste_that_stops_makes_no_answer_another(name: str, share: float) -> None:
    whole = modelled(host(name))
    kept = whole.raw[: int(len(whole.raw) * share)]
    for cpu in ("host", "Cascadelake-Server,phys-bits=46"):
        hold(whole, replace(whole, raw=CpuidTable(kept), msrs=MsrTable()), cpu)


@pytest.mark.long
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(parts(st.sampled_from(MACHINES).map(host)), st.sampled_from(CPUS))
def test_what_a_capture_loses_makes_no_answer_another(pair: tuple[Snapshot, Snapshot], cpu: str) -> None:
    hold(*pair, cpu, RAN)


@pytest.mark.long
@pytest.mark.skipif(not INSTLATX64.is_file(), reason="needs InstLatx64's dumps in the folder that VCPUID_PEERS names")
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_a_public_dump_loses_makes_no_answer_another(data: st.DataObject) -> None:
    pair, cpu = data.draw(parts(st.sampled_from(dumps()))), data.draw(st.sampled_from(CPUS))
    hold(*pair, cpu)


@pytest.mark.long
@pytest.mark.skipif(not INSTLATX64.is_file(), reason="needs InstLatx64's dumps in the folder that VCPUID_PEERS names")
@pytest.mark.parametrize("first", some(range(3), 3))
def test_honest_is_not_useless(first: int, definite: Callable[[str, int, int], None]) -> None:
    certain = asked = 0
    for snapshot in dumps()[first::3]:
        try:
            answers = features(Setup.of(snapshot))
        except VcpuidError:  # QEMU refuses processors of the last century
            continue
        certain += sum(value is not None for value in answers.values())
        asked += len(answers)
    definite("InstLatx64's dumps", certain, asked)
    assert certain > 0.95 * asked
