"""--vmm, --template and --table: whose table the guest gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.captures import capture
from support.command import vcpuid

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
AMD = str(capture("kvm-amd.EPYC-Milan-v2@7.3"))
LIBKRUN = str(capture("libkrun-msb-0.7.11", "vmm"))
_EBX = {"register": "ebx", "bitmap": f"0b{'x' * 26}0xxxxx"}
NO_AVX2 = {"cpuid_modifiers": [{"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [_EBX]}]}


def test_a_static_template_takes_avx512() -> None:
    status, out, _ = vcpuid("explain", "avx512f", "--vmm", "firecracker", "--template", "T2", "--host", HOST)
    assert status == 1
    assert "CPU template T2, Firecracker 1.16, vcpu_count 1, Linux 6.12.107+deb13-cloud-amd64" in out
    assert "The guest does not see avx512f: Firecracker took it away." in out
    assert "[firecracker.template: " in out


def test_no_template_hands_on_what_kvm_has() -> None:
    assert vcpuid("explain", "avx512f", "--vmm", "firecracker:1.14", "--host", HOST)[0] == 0


def test_a_custom_template_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "T.json"
    file.write_text(json.dumps(NO_AVX2), encoding="utf-8")
    status, out, _ = vcpuid("explain", "avx2", "--template", str(file), "--host", HOST, "--format", "json")
    told = json.loads(out)
    assert (status, told["visible"], told["cpu"]) == (1, False, str(file))
    assert told["setup"]["vmm"] == {"program": "Firecracker", "release": "1.16", "tables": "1.16"}
    assert told["setup"]["machine"] is None
    assert [stage["party"] for stage in told["stages"]][3] == "firecracker"


def test_a_guest_of_firecracker_is_shown_whole() -> None:
    status, out, _ = vcpuid("guest", "--vmm", "firecracker", "--smp", "4", "--host", AMD)
    assert status == 0
    assert "no CPU template, Firecracker 1.16, vcpu_count 4" in out


def test_firecracker_refuses_a_template_on_another_vendors_host() -> None:
    status, out, said = vcpuid("explain", "avx2", "--vmm", "firecracker", "--template", "T2", "--host", AMD)
    assert (status, out) == (1, "")
    assert said == "vcpuid: CPU vendor mismatched between actual CPU and CPU template.\n"


def test_a_table_of_an_unknown_vmm() -> None:
    status, out, _ = vcpuid("explain", "hypervisor", "--table", LIBKRUN, "--host", LIBKRUN)
    assert status == 0
    assert f"the table of {LIBKRUN}, Linux 6.18" in out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--template", "T9"], 3, "'T9' is neither a static template (C3, T2, T2S, T2CL, T2A) nor a file"),
        (["--vmm", "foo"], 3, "'foo' is no VMM that vcpuid knows: qemu, firecracker"),
        (["--vmm", "firecracker:9"], 3, "'9' is not a release number"),
        (["--vmm", "qemu:10.0", "--qemu", "10.0"], 2, "--vmm and --qemu both name a release"),
        (["--vmm", "qemu", "--template", "T2"], 2, "--template is Firecracker's; --vmm says qemu"),
        (["--template", "no-such.json"], 3, "'no-such.json' is neither a static template"),
        (["--template", __file__], 3, f"{__file__}:3: damaged or cut JSON"),
        (["--vmm", "firecracker", "--smp", "2,sockets=2"], 3, "Firecracker has a number of vCPUs"),
        (["--table", LIBKRUN, "--cpu", "host"], 2, "--table gives the guest's table; leave --cpu out"),
        (["--table", LIBKRUN, "--vmm", "firecracker"], 2, "--table gives the guest's table; leave --vmm out"),
        (["--vmm", "firecracker:1.18"], 0, "no tables of Firecracker 1.18: those of 1.17 are used"),
        (["--vmm", "firecracker", "--qemu", "10.0"], 0, "--qemu has no effect: Firecracker makes the guest's table"),
        (["--vmm", "qemu:10.3"], 0, "no tables of QEMU 10.3: those of 10.2 are used"),
    ],
)
def test_what_makes_no_sense_or_has_no_effect_is_said(arguments: list[str], status: int, says: str) -> None:
    ended, _, said = vcpuid("explain", "avx2", "--host", HOST, *arguments)
    assert ended == status
    assert says in said
