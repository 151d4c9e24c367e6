"""vcpuid diagnose as people read it: the answer and what to do in the first two lines, the message below."""

from __future__ import annotations

import pytest

from support.captures import capture
from support.command import vcpuid

ON_HOST = ("--host", str(capture("kvm-intel.corei7_skylake_x@6.12")), "--qemu", "11.1")
RTM = "guest CPU doesn't match specification: missing features: pcid,hle,rtm"


def test_on_a_host_the_first_line_says_what_the_guest_lacks_and_why() -> None:
    first, second, empty, quoted, *_ = vcpuid("diagnose", RTM, "--cpu", "Skylake-Server", *ON_HOST).stdout.splitlines()
    assert first == (
        "With -cpu Skylake-Server on this host, the guest lacks hle rtm: the host's processor does not report it; "
        "the guest sees pcid: the message is of another host, -cpu or release"
    )
    assert second == "What you can do: run the guest on a processor that has it, or choose a CPU without it"
    assert (empty, quoted) == ("", f"libvirt: {RTM}")


def test_features_that_are_too_many_are_those_that_the_guest_sees() -> None:
    text = "guest CPU doesn't match specification: extra features: avx2,rtm"
    first = vcpuid("diagnose", text, "--cpu", "Skylake-Server", *ON_HOST).stdout.splitlines()[0]
    assert "the guest sees avx2, which the message calls too many" in first
    assert "the guest does not see rtm: the message is of another host, -cpu or release" in first


def test_without_a_host_the_first_line_says_what_the_message_means() -> None:
    done = vcpuid("diagnose", "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.07H:EBX.avx512f [bit 16]")
    first, second, *rest = done.stdout.splitlines()
    assert first.startswith("avx512f: KVM, or the accelerator in its place, does not give a feature that -cpu asks for.")
    assert second.startswith("What you can do: leave the feature out")
    assert done.stdout.count(first.partition(": ")[2]) == 1
    assert any(line.endswith("[qemu.missing.old]") for line in rest)


@pytest.mark.parametrize(
    ("msr", "value", "names"),
    [
        ("10a", "0x8000003", ["rdctl-no (0)", "ibrs-all (1)"]),
        ("48e", "0x8c00000000", ["vmx-vintr-pending (2)", "vmx-tsc-offset (3)", "vmx-hlt-exit (7)"]),
    ],
)
def test_the_value_of_a_feature_msr_is_named_bit_by_bit(msr: str, value: str, names: list[str]) -> None:
    told = vcpuid("diagnose", f"error: failed to set MSR 0x{msr} to {value}").stdout
    line = next(line for line in told.splitlines() if line.startswith(f"Bits of MSR {msr}h (MSR_IA32_"))
    assert " ".join(names) in line


def test_all_cuts_no_list() -> None:
    ask = ("diagnose", "error: failed to set MSR 0x48e to 0xfff9fffe04006172")
    short, full = (vcpuid(*ask, *more).stdout for more in ((), ("--all",)))
    assert "13 more" in short
    assert "--all lists them" in short
    assert "more" not in full
    assert "vmx-secondary-ctls (31)" in full
