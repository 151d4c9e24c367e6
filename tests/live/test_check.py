"""The verdict held to the real QEMU and KVM of this machine: the same end, the same warnings, and proposals that start without one.

What QEMU sets at start is tried on the KVM that runs here, so that the answers hold on a KVM of any kind, also where QEMU aborts.
"""

from __future__ import annotations

import json
import platform
import signal
import subprocess

import pytest

from support.command import vcpuid
from vcpuid import Stack, read
from vcpuid.answers.explain import explain
from vcpuid.answers.starting import ABORTS, REFUSES, STARTS
from vcpuid.answers.survey import survey
from vcpuid.answers.verdict import Verdict, verdict
from vcpuid.cpuid.names import find
from vcpuid.live.installed import qemu_release
from vcpuid.live.tiny_guest import read_cpuid
from vcpuid.live.trial import Trial
from vcpuid.path.pipeline import resolve
from vcpuid.reasons import Basis

pytestmark = [pytest.mark.kvm, pytest.mark.qemu, pytest.mark.x86]

_ENDS = {0: STARTS, -signal.SIGABRT: ABORTS}

PLAIN = "host,-arch-capabilities"
"""A CPU that more KVMs take: some refuse the MSR behind arch-capabilities."""


def start(cpu: str) -> tuple[str, list[str]]:
    """Start a guest that never runs; return how QEMU ends, and what it says of the CPU."""
    command = ["qemu-system-x86_64", "-accel", "kvm", "-machine", "q35", "-cpu", cpu, "-S", "-display", "none", "-serial", "none"]
    done = subprocess.run([*command, "-nodefaults", "-monitor", "stdio"], input="quit\n", capture_output=True, text=True, timeout=60)
    lines = (line.partition(": ")[2] for line in done.stderr.splitlines() if "Assertion" not in line)
    return _ENDS.get(done.returncode, REFUSES), [line.removeprefix("warning: ") for line in lines]


def stack() -> Stack:
    release = qemu_release()
    assert release is not None
    return Stack(kernel=platform.release(), qemu=release)


def judge(cpu: str) -> Verdict:
    return verdict(cpu, read("kvm"), stack(), probe=read_cpuid, kvm=Trial())


@pytest.mark.long
@pytest.mark.conformance("live verdicts")
@pytest.mark.parametrize(
    "cpu",
    [
        "host",
        "max",
        "base",
        PLAIN,
        "max,-arch-capabilities",
        "host,migratable=off",
        "host,pmu=off",
        f"{PLAIN},+vmx",
        f"{PLAIN},+svm,lmce=on",
        "host,enforce",
        f"{PLAIN},+hle,enforce",
        "486",
        "qemu64",
        "Skylake-Server",
        "Icelake-Server",
        "Icelake-Server,enforce",
        "EPYC-Milan",
        "EPYC-Milan,hv-relaxed,hv-vapic,hv-time,hv-spinlocks=0x1fff",
        "Haswell-noTSX,+invtsc",
        "qemu64,phys-bits=52",
        "host,hv-relaxed,hv-vapic,hv-spinlocks=0x1fff",
        f"{PLAIN},hv-relaxed",
        f"{PLAIN},hv-spinlocks=0x1fff",
        f"{PLAIN},hv-vapic",
        f"{PLAIN},hv-time",
        f"{PLAIN},hv-vpindex",
        f"{PLAIN},hv-synic",
        f"{PLAIN},hv-vpindex,hv-synic",
        f"{PLAIN},hv-vpindex,hv-synic,hv-time,hv-stimer,hv-stimer-direct",
        f"{PLAIN},hv-synic,x-hv-synic-kvm-only=on",
        f"{PLAIN},hv-stimer",
        f"{PLAIN},hv-crash",
        f"{PLAIN},hv-reset",
        f"{PLAIN},hv-runtime",
        f"{PLAIN},hv-frequencies",
        f"{PLAIN},hv-reenlightenment",
        f"{PLAIN},hv-tlbflush",
        f"{PLAIN},hv-vpindex,hv-tlbflush,hv-ipi",
        f"{PLAIN},hv-ipi",
        f"{PLAIN},hv-vapic,hv-evmcs",
        f"{PLAIN},hv-evmcs",
        f"{PLAIN},hv-relaxed,hv-enforce-cpuid",
        f"{PLAIN},hv-avic,hv-xmm-input",
        f"{PLAIN},hv-passthrough",
    ],
)
def test_qemu_ends_as_the_verdict_says(cpu: str) -> None:
    answer = judge(cpu)
    assert answer.start is not None
    assert answer.start.basis is not Basis.NOT_TRIED
    told = [] if answer.refusal is None else answer.refusal.splitlines()
    assert (answer.start.outcome, [*answer.warnings, *told]) == start(cpu)


@pytest.mark.long
@pytest.mark.conformance("live verdicts")
@pytest.mark.parametrize(
    "cpu",
    ["Skylake-Server", "Cascadelake-Server", "EPYC-Milan", "Haswell,+rtm,x-force-features=on", "host", "host,hv-vapic,hv-time"],
)
def test_what_is_proposed_starts_without_a_warning(cpu: str) -> None:
    answer = judge(cpu)
    proposed = [text for text in (answer.proposal, answer.nearest) if text is not None]
    assert proposed
    for text in proposed:
        assert start(f"{text},enforce") == (STARTS, [])


@pytest.mark.long
@pytest.mark.parametrize("cpu", ["host", "Icelake-Server", "EPYC-Milan", "486"])
def test_check_guest_and_explain_tell_the_same_of_what_this_kvm_overrules(cpu: str) -> None:
    answer = judge(cpu)
    path = resolve(cpu, host=read("kvm"), stack=stack(), probe=read_cpuid)
    told = survey(path)
    seen = {feature.name for feature in told.seen}
    put_back = {feature.name for feature in answer.put_back}
    assert put_back == {found.feature.name for found in told.put_back} <= seen
    assert not {feature.name for feature in answer.withheld} & seen
    for missing in answer.missing:
        assert missing.put_back == (missing.feature.name in put_back) == explain(missing.feature, path).put_back
        assert explain(missing.feature, path).visible is missing.explanation.visible


def test_the_three_verbs_say_what_no_guest_here_would_live_to_see() -> None:
    """What the KVM here does decides which answer is due; the verbs agree on it."""
    aborts = json.loads(vcpuid("check", "host", "--format", "json").stdout)["start"]["outcome"] == ABORTS
    for verb in (("guest", "--cpu", "host"), ("explain", "avx2", "--cpu", "host")):
        remarks = json.loads(vcpuid(*verb, "--format", "json").stdout)["remarks"]
        assert any("QEMU aborts" in remark for remark in remarks) == aborts


def test_a_feature_is_explained_as_the_vcpu_has_it() -> None:
    path = resolve("486", host=read("kvm"), stack=stack(), probe=read_cpuid)
    for name in ("avx2", "sse2", "fpu"):
        assert explain(find(name), path).visible == path.trace.steps[-1].value(find(name).place)
