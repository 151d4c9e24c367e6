"""Several errors in one paste: each is answered, for the guest that it is about; what stands around one stays around it."""

from __future__ import annotations

import json
from time import process_time

import pytest

from support import captures
from support.command import vcpuid
from vcpuid.diagnosis import diagnose
from vcpuid.setup import Stack

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
QEMU = "qemu-system-x86_64"
RTM = "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.07H:EBX.rtm [bit 11]"
SVM = "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.80000001H:ECX.svm [bit 2]"
MSR = "qemu-system-x86_64: error: failed to set MSR 0x48e to 0xfff9fffe04006172"
ASSERTION = "qemu-system-x86_64: ../target/i386/kvm/kvm.c:2703: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed."
LIBVIRT = "error: operation failed: guest CPU doesn't match specification: missing features: pcid,rtm"
WINDOWS = "Stop code: UNSUPPORTED_PROCESSOR (0x5D)"
PROXMOX = "TASK ERROR: start failed: QEMU exited with code 1"
NOVA = "Migration pre-check error: Unacceptable CPU info: CPU doesn't have compatibility."


@pytest.mark.parametrize(
    ("lines", "answers", "wrappers"),
    [
        ([RTM, MSR], ["qemu.missing.old", "qemu.msr.set"], []),
        ([MSR, ASSERTION, PROXMOX], ["qemu.msr.set"], ["qemu.msr.assert", "proxmox.start"]),
        ([RTM, WINDOWS], ["qemu.missing.old", "win.5d"], []),
        ([NOVA, LIBVIRT, SVM], ["qemu.missing.old", "libvirt.live.missing"], ["nova.incompatible"]),
        ([LIBVIRT.replace("pcid,", ""), RTM], ["qemu.missing.old"], ["libvirt.live.missing"]),
        ([NOVA], ["nova.incompatible"], []),
        ([PROXMOX, ASSERTION], ["qemu.msr.assert"], ["proxmox.start"]),
        (["qemu-system-x86_64: Host doesn't support requested features", RTM], ["qemu.missing.old"], ["qemu.enforce"]),
        (["microcode: Current revision: 0x12", WINDOWS], ["win.5d"], ["linux.ucode"]),
        (["microcode: Current revision: 0x12"], ["linux.ucode"], []),
        (["Illegal instruction (core dumped)", "kvm: disabled by bios", WINDOWS], ["win.5d", "kvm.bios.old"], ["shell.ill"]),
        (["Mitigation: TSX disabled", LIBVIRT.replace("pcid,", "hle,")], ["libvirt.live.missing", "linux.tsx"], []),
    ],
)
def test_independent_errors_are_answered_and_wrappers_are_not(lines: list[str], answers: list[str], wrappers: list[str]) -> None:
    for order in (lines, lines[::-1]):
        found = diagnose("\n".join(order))
        assert sorted(match.message.id for match in found.answers) == sorted(answers)
        assert sorted(match.message.id for match in found.wrappers) == sorted(wrappers)
        assert {finding.match.message.id for finding in found.findings if finding.match} <= set(answers)
        for match in found.answers:
            assert not match.message.fix or match.message.fix in found.remedies


def test_each_guest_has_its_own_cpu() -> None:
    text = f"{QEMU} -name guest=a -cpu Skylake-Server -m 4G\n{RTM}\n-name guest=b -cpu EPYC-Milan\n{SVM}\n{RTM}\n"
    found = diagnose(text, captures.host(SKYLAKE), stack=Stack(qemu="10.0"))
    assert [guest.cpu for guest in found.guests] == ["Skylake-Server", "EPYC-Milan"]
    assert [(one.named.name, one.cpu) for one in found.findings] == [
        ("rtm", "Skylake-Server"),
        ("svm", "EPYC-Milan"),
        ("rtm", "EPYC-Milan"),
    ]
    assert [one.explanation.path.cpu.split(",")[0] for one in found.findings if one.explanation] == ["Skylake-Server", *["EPYC-Milan"] * 2]
    assert all("-rtm" in text for guest, text in found.proposals if guest.cpu == "Skylake-Server")
    told = vcpuid("diagnose", text, "--host", str(captures.capture(SKYLAKE)), "--qemu", "10.0")
    assert "start the guest of -cpu Skylake-Server with -cpu Skylake-Server" in told.stdout
    assert diagnose(text, captures.host(SKYLAKE), "Haswell").guests[0].cpu == "Haswell"


def test_a_message_before_the_first_command_line_is_of_its_guest() -> None:
    assert diagnose(f"{RTM}\nqemu-system-x86_64 -cpu Haswell").findings[0].cpu == "Haswell"


def test_what_is_needed_together_is_joined_by_and_and_what_is_enough_alone_by_or() -> None:
    host, stack = captures.host(SKYLAKE), Stack(qemu="10.0")
    text = f"{QEMU} -cpu Skylake-Server,+svm,-pcid\n{RTM}\n{SVM}\n{LIBVIRT}"
    found = diagnose(text, host, stack=stack)
    giving, starting, rows = found.advice
    assert len(giving) == 2
    assert giving[0].endswith("(for rtm, svm)")
    assert giving[1].endswith("(for pcid)")
    assert len(starting) == 1
    assert len(rows) == 2
    told = vcpuid(
        "diagnose", f"{QEMU} -cpu Skylake-Server,+svm,-pcid\n{RTM}\n{SVM}\n{LIBVIRT}", "--host", str(captures.capture(SKYLAKE))
    ).stdout
    marks = [line.split(":")[0].strip() for line in told.splitlines() if line.lstrip().startswith(("What you can do:", "And:", "Or:"))]
    assert marks == ["What you can do", "And", "Or", "Or", "And"]


def test_words_of_a_manager_stand_only_where_a_cpu_is_proposed() -> None:
    host = str(captures.capture(SKYLAKE))
    assert "For libvirt:" in vcpuid("diagnose", RTM, "--host", host, "--cpu", "Skylake-Server", "--for", "libvirt").stdout
    other = RTM.replace("07H:EBX.rtm [bit 11]", "01H:ECX.pcid [bit 17]")
    assert "For libvirt:" not in vcpuid("diagnose", other, "--host", host, "--cpu", "Skylake-Server", "--for", "libvirt").stdout
    done = vcpuid("diagnose", other, "--host", host, "--cpu", "host", "--for", "libvirt", "--format", "json")
    assert json.loads(done.stdout)["written"] is None


@pytest.mark.long
def test_very_many_guests_are_named_and_the_first_ones_looked_at() -> None:
    text = "\n".join(f"{QEMU} -cpu Skylake-Server,level={number}\n{RTM}" for number in range(13, 33))
    found = diagnose(text, captures.host(SKYLAKE), stack=Stack(qemu="10.0"))
    assert len(found.guests) == 20
    assert [guest.verdict is not None for guest in found.guests] == [True] * 8 + [False] * 12
    assert all(finding.explanation or finding.causes for finding in found.findings)
    assert any("the text has 20 guests" in remark for remark in found.remarks)


@pytest.mark.bounds
def test_names_that_nobody_knows_cost_little_however_many_there_are() -> None:
    """Each that is asked about takes a millisecond; a hundred thousand took minutes."""
    head = "guest CPU doesn't match specification: missing features: "
    text = "\n".join(head + ",".join(f"q{line}z{name}" for name in range(500)) for line in range(40))
    before = process_time()
    found = diagnose(text)
    assert process_time() - before < 4
    assert len(found.findings) == 20_000
    assert sum(bool(finding.named.near) for finding in found.findings) <= 50
