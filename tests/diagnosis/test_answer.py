"""What a paste is answered: features by the message nearest to the CPU, their fate or what can have taken them, what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

import vcpuid
from support import captures
from support.command import vcpuid as vcpuid_command
from vcpuid.answers.explain import explain
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid.names import find
from vcpuid.diagnosis import diagnose, features, instructions
from vcpuid.diagnosis.causes import possible
from vcpuid.path.pipeline import resolve
from vcpuid.setup import Setup, Stack

SKYLAKE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3"

STACKED = """\
Migration pre-check error: Unacceptable CPU info: CPU doesn't have compatibility.
libvirt.libvirtError: operation failed: guest CPU doesn't match specification: missing features: pcid,rtm
2024-11-09T10:00:00.000000Z qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.07H:EBX.rtm [bit 11]
"""


def names(text: str) -> list[str]:
    return [one.named.name for one in diagnose(text).findings]


def test_the_deepest_message_that_names_bits_is_answered_first_and_wrappers_are_named() -> None:
    found = diagnose(STACKED)
    assert found.deepest is not None
    assert found.deepest.message.id == "qemu.missing.old"
    assert [match.message.id for match in found.wrappers] == ["nova.incompatible"]
    assert [one.named.name for one in found.findings] == ["rtm", "pcid"]
    assert [one.match.message.program for one in found.findings if one.match] == ["QEMU", "libvirt"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("warning: host doesn't support requested feature: CPUID.07H:EBX.avx512f [bit 16]", ["avx512f"]),
        ("qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.0DH:EAX [bit 2]", ["avx"]),
        ("warning: this feature conflicts with APX: CPUID[eax=07h,ecx=00h].EBX.mpx [bit 14]", ["mpx"]),
        ("operation failed: guest CPU doesn't match specification: missing features: tsx,hle,rtm", ["hle", "rtm"]),
        ("operation failed: guest CPU doesn't match specification: extra features: ht", ["ht"]),
        ("Missing CPU features : model_Skylake-Server, spec_ctrl", ["model_Skylake-Server", "spec-ctrl"]),
        ("unchecked MSR access error: WRMSR to 0x48 (tried to write 0x0) at rIP: 0xffffffff8a0793b4 (native_write_msr+0x4/0x20)", None),
        ("prctl(ARCH_REQ_XCOMP_GUEST_PERM) failure for feature bit 18", ["amx_tile"]),
        ("Fatal glibc error: CPU does not support x86-64-v3", None),
        ("internal error: Unknown CPU feature arch-facilities", ["arch-facilities"]),
        ("Feature 'cpuid.avx2' was absent, but must be present.", ["avx2"]),
        ("map[cpu-feature.node.kubevirt.io/fsrm:true]", []),
        ("avx2", ["avx2"]),
        ("ss,fma,movbe", ["ss", "fma", "movbe"]),
        ("missing features: ss fma movbe", ["ss", "fma", "movbe"]),
        ("+avx2, -rtm", ["avx2", "rtm"]),
    ],
)
def test_the_features_of_a_text(text: str, expected: list[str] | None) -> None:
    found = names(text)
    if expected is None:
        assert len(found) > 1
    else:
        assert found == expected


def test_cloud_hypervisors_registers_are_taken_apart() -> None:
    text = (
        "Detected incompatible CPUID entry: leaf=0x07 (subleaf=0x00), register='EBX', compatible_check='BitwiseSubset', "
        "source VM feature='0x00000120', destination VM feature='0x00000100'."
    )
    assert names(text) == ["avx2"]


def test_without_a_host_each_rule_that_clears_the_bit_is_a_possible_cause_and_none_is_chosen() -> None:
    (finding,) = diagnose("Host CPU does not provide required features: svm").findings
    assert finding.explanation is None
    assert {cause.rule.id for cause in finding.causes} >= {"kvm.svm.nested"}
    assert all(cause.vendors == ("AMD",) for cause in finding.causes if cause.rule.id.startswith("kvm.svm"))


@pytest.mark.long
@pytest.mark.parametrize("feature", ["pdcm", "vmx-ept", "avx512f", "rtm", "nx", "pku", "monitor", "rdseed"])
def test_a_cause_is_possible_where_it_is_the_cause_on_a_capture(feature: str) -> None:
    wanted = find(feature)
    for name in captures.names("kvm")[::10]:
        host = captures.host(name)
        chain = explain(wanted, resolve("host", host=Setup.of(host))).chain
        decided = {reason.rule.id for reason in chain if reason.feature == wanted.name and reason.party in ("linux", "kvm")}
        assert decided - {"silicon.lacks"} <= {cause.rule.id for cause in possible(wanted)}, name


def test_with_a_host_and_a_cpu_it_is_explains_chain_and_checks_proposal() -> None:
    host, stack = captures.host(SKYLAKE), Stack(qemu="10.0")
    text = "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.07H:EBX.rtm [bit 11]"
    found = diagnose(text, host, "Skylake-Server", stack)
    (finding,) = found.findings
    assert finding.explanation is not None
    assert finding.explanation.chain == explain(find("rtm"), resolve("Skylake-Server", host=host, stack=stack)).chain
    proposal = verdict("Skylake-Server", host, stack).proposal
    assert proposal is not None
    assert any(proposal in remedy for remedy in found.remedies)
    assert finding.explanation.remedy in found.remedies


def test_the_cpu_of_a_command_line_in_the_paste_is_taken() -> None:
    text = "-machine q35 -cpu Skylake-Server,vmx=on,hv-time -m 4G\nhost doesn't support requested feature: CPUID.07H:EBX.rtm [bit 11]"
    found = diagnose(text, captures.host(SKYLAKE), stack=Stack(qemu="10.0"))
    assert found.cpu == "Skylake-Server,vmx=on,hv-time"
    assert found.verdict is not None


def test_a_cpu_that_qemu_refuses_leaves_possible_causes_and_is_said() -> None:
    found = diagnose("Host CPU does not provide required features: rtm", captures.host(SKYLAKE), "Skylak", Stack(qemu="10.0"))
    assert found.findings[0].explanation is None
    assert any("Skylak" in remark for remark in found.remarks)


def test_the_controls_that_this_kvm_refuses_are_named() -> None:
    host = captures.host(SKYLAKE)
    own = host.msrs[0x48E]
    ept = find("vmx-secondary-ctls")
    assert ept.bit is not None
    lacking = own & ~(1 << (32 + ept.bit.position))
    text = f"error: failed to set MSR 0x48e to {own:#x}"
    refusing = Setup.of(host).with_host(captures.host(SKYLAKE))
    assert not [one for one in diagnose(text, refusing).findings if one.named.name == "vmx-secondary-ctls"]
    from dataclasses import replace

    from vcpuid.cpuid import MsrTable

    poorer = replace(host, msrs=MsrTable({**host.msrs, 0x48E: lacking}))
    assert diagnose(text, poorer).findings[0].named.name == "vmx-secondary-ctls"


@pytest.mark.skipif(not instructions.available(), reason="the library iced-x86 is not installed")
def test_the_instruction_of_a_code_line() -> None:
    text = "traps: init[1] trap invalid opcode ip:7efe sp:7ffd error:0\nCode: 90 90 48 89 <c5> fd ef c0 c5 fd 6f 00"
    found = diagnose(text)
    assert found.instruction is not None
    assert found.instruction.text == "vpxor ymm0,ymm0,ymm0"
    assert found.findings[0].named.name == "avx2"


@pytest.mark.parametrize("text", ["", "hello", "the quick brown fox", "Code: zz", "Code: <0f>"])
def test_what_is_no_message_is_not_recognised(text: str) -> None:
    assert not diagnose(text).recognised


def test_forms_that_look_like_it_are_named() -> None:
    found = diagnose("guest processor doesn't match the specification, it has some missing features here")
    assert not found.recognised
    assert {message.id for message in found.near} & {"libvirt.live.missing", "libvirt.live.bare", "libvirt.live.extra"}


def test_the_features_of_a_log_or_of_a_list() -> None:
    assert [one.name for one in features(STACKED)] == ["rtm", "pcid"]
    assert [one.name for one in features("tsx")] == ["hle", "rtm"]
    with pytest.raises(vcpuid.InputError, match="avx2"):
        features("avxx2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"unavailable-features": ["avx512f", "pcid"]', ["avx512f", "pcid"]),
        ("avx512f", ["avx512f"]),
        ("guest CPU doesn't match specification: missing features: avx512-\nvnni,pcid\n", ["avx512_vnni", "pcid"]),
        ("│ guest CPU doesn't match specification: missing features: avx512f,\n│ pcid │\n", ["avx512f", "pcid"]),
    ],
)
def test_lists_as_windows_and_monitors_print_them(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_a_terminals_colours_are_left_out(tmp_path: Path) -> None:
    text = "\x1b[31mguest CPU doesn't match specification: missing features: avx2\x1b[0m\x1b[K\n"
    (tmp_path / "log").write_text(text, encoding="utf-8")
    told = vcpuid_command("diagnose", text, "--format", "csv")
    assert told.returncode == 0
    assert vcpuid_command("diagnose", "-", "--format", "csv", stdin=text) == told
    assert vcpuid_command("diagnose", str(tmp_path / "log"), "--format", "csv") == told
    assert vcpuid_command("names", "-", stdin=text).returncode == 0


def test_a_quoted_cpu_is_read() -> None:
    assert diagnose("qemu-system-x86_64 -cpu 'Haswell,+avx512f' -m 1G\n" + STACKED).cpu == "Haswell,+avx512f"


def test_a_cpu_that_mends_nothing_of_the_paste_is_not_proposed() -> None:
    host = captures.host(SKYLAKE)
    asked = "-cpu Haswell,+avx512vnni\nthe guest misses "
    lacking = diagnose(f"{asked}\nhost doesn't support requested feature: CPUID.07H:ECX.avx512vnni [bit 11]", host)
    assert lacking.proposal is not None
    assert "avx512vnni" not in lacking.proposal or "-avx512vnni" in lacking.proposal
    other = diagnose(f"{asked}\nguest CPU doesn't match specification: missing features: sse4a", host)
    assert other.findings
    assert other.proposal is None


@pytest.mark.parametrize("who", ["TCG", "tcg"])
@pytest.mark.parametrize("host", [(), ("--host", str(captures.capture(SKYLAKE)))], ids=["no host", "host"])
def test_what_tcg_does_not_emulate_is_no_matter_of_the_host(who: str, host: tuple[str, ...]) -> None:
    text = f"{who} doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]"
    (row,) = vcpuid_command("diagnose", text, *host, "--format", "csv").stdout.splitlines()[1:]
    assert "QEMU's TCG does not emulate it" in row
    assert not diagnose(text).causes


def test_a_path_without_a_file_is_no_message_and_a_cpu_is_none_either() -> None:
    assert vcpuid_command("diagnose", "./none.log") == (3, "", "vcpuid: ./none.log: No such file or directory\n")
    done = vcpuid_command("diagnose", "-", stdin="CPU:\n   0x00000000 0x00: eax=0x00000007 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n")
    assert done.returncode == 1
    assert "--host takes it" in done.stdout


def test_backslashes_and_names_that_come_again_cost_no_square() -> None:
    """Each took minutes when it was looked at anew at every place."""
    assert not diagnose("\\" * 60_000).recognised
    line = "guest CPU doesn't match specification: missing features: " + ",".join(f"g{n}z" for n in range(40)) + "\n"
    assert len(diagnose(line * 500).findings) == 40


def test_an_error_that_this_host_does_not_give_is_another_hosts() -> None:
    told = diagnose("host doesn't support requested feature: CPUID.07H:EBX.avx2 [bit 5]", captures.host(SKYLAKE))
    assert told.findings[0].explanation is not None
    assert told.findings[0].explanation.visible
    ((advice,),) = told.advice
    assert advice.startswith("give the host, the -cpu and the releases of the guest that failed")
