"""A list of features ends where the list ends, and a name is what it says: nothing else is read as if it were meant."""

from __future__ import annotations

import json

import pytest

from support.captures import capture
from support.command import vcpuid
from support.qemu_captures import qemu_rows
from vcpuid.diagnosis import diagnose
from vcpuid.diagnosis.recognise import recognise
from vcpuid.diagnosis.vocabulary import VOCABULARIES

LIVE = "operation failed: guest CPU doesn't match specification: missing features:"
REQUIRED = "error: the CPU is incompatible with host CPU: Host CPU does not provide required features:"


def names(text: str) -> list[str]:
    return [one.named.name for one in diagnose(text).findings]


@pytest.mark.parametrize("message", [LIVE, REQUIRED, "Host CPU does not provide required features:"])
@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        ("", []),
        ("\n\nDomain 'vm1' started", []),
        ("\nDomain 'vm1' started", []),
        ("\n\npcid", []),
        ("\r\n  \r\navx2 is what it needs", []),
        (" pcid,rtm\nht is another word", ["pcid", "rtm"]),
        (" pcid,\n\nht is another word", ["pcid"]),
        (" pcid,\nht is another word", ["pcid"]),
        (" pcid,\n    rtm", ["pcid", "rtm"]),
        ("\n  pcid, rtm\n", ["pcid", "rtm"]),
        (" pcid, hle and rtm", ["pcid", "hle", "rtm"]),
        (" pcid, hle, and rtm.", ["pcid", "hle", "rtm"]),
        (" pcid and then it ended", ["pcid"]),
        (" pcid and rtm", ["pcid", "rtm"]),
    ],
)
def test_a_list_ends_where_it_ends(message: str, behind: str, expected: list[str]) -> None:
    found = diagnose(message + behind)
    assert found.recognised
    assert [one.named.name for one in found.findings] == expected
    assert all(match.end <= len(message + behind) for match in found.matches)


def test_the_end_of_a_message_with_an_empty_list_is_its_colon() -> None:
    (match,) = recognise(f"{LIVE}\n\nDomain started\n")
    assert match.end <= len(LIVE)
    assert match.text.endswith("features:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("avx2, avx512f and pcid", ["avx2", "avx512f", "pcid"]),
        ("missing features: avx2, pcid and rtm", ["avx2", "pcid", "rtm"]),
        ("avx2 and pcid", ["avx2", "pcid"]),
        ("pcid,avx5122", ["pcid", "avx5122"]),
        ("and", []),
        ("the avx2, and more", []),
    ],
)
def test_lists_in_words(text: str, expected: list[str]) -> None:
    assert names(text) == expected


@pytest.mark.parametrize(
    ("label", "name", "remark"),
    [
        ("CPUID.07H:EBX.avx2 [bit 6]", "avx2", "contradicts itself"),
        ("CPUID.07H:EBX.avx2 [bit 99]", "avx2", "there is no such bit"),
        ("CPUID.07H:EBX [bit 99]", "CPUID.07H:EBX [bit 99]", "there is no such bit"),
        ("CPUID.01H:ECX.avx2 [bit 5]", "avx2", "contradicts itself"),
        ("CPUID[eax=07h,ecx=00h].EBX.avx2 [bit 7]", "avx2", "contradicts itself"),
        ("CPUID.07H:EBX.avx2 [bit 5]", "avx2", None),
        ("CPUID.07H:EBX [bit 5]", "avx2", None),
    ],
)
def test_a_label_that_contradicts_itself_is_remarked_on(label: str, name: str, remark: str | None) -> None:
    text = f"warning: host doesn't support requested feature: {label}"
    (finding,) = diagnose(text).findings
    assert finding.named.name == name
    assert (finding.named.remark or "") == "" if remark is None else remark in (finding.named.remark or "")
    assert (remark or "") in vcpuid("diagnose", text).stdout


def test_no_label_of_a_real_qemu_is_remarked_on() -> None:
    lines = {line for name in ("random", "sets") for row in qemu_rows(name) for line in row.get("stderr", ())}
    assert len(lines) > 500
    for line in lines:
        for match in recognise(line):
            assert not [one for one in VOCABULARIES[match.message.vocabulary](match.groups) if one.remark], line


def test_names_that_nobody_knows_are_asked_about_and_never_taken() -> None:
    (known, unknown) = diagnose(f"{LIVE} pcid,avx5122").findings
    assert known.named.name == "pcid"
    assert unknown.named.feature is None
    assert unknown.named.near
    told = vcpuid("explain", f"{LIVE} pcid,avx5122", "--cpu", "host", "--host", "tests/captures/kvm/kvm-intel.corei7_skylake_x@6.12.txt.gz")
    assert "avx5122: no feature of that name is known; did you mean" in told.stderr
    refused = vcpuid("explain", "pcid,avx5122")
    assert refused.returncode == 3
    assert "no CPU feature is called 'avx5122'; did you mean" in refused.stderr


LABELS = [
    "CPUID.07H:EBX.avx512f [bit 16]",
    "CPUID[eax=07h,ecx=00h].EBX.avx512dq [bit 17]",
    "MSR(10AH).rdctl-no [bit 0]",
    "CPUID.07H:EBX.avx512cd",
    "CPUID.0DH:EAX [bit 9]",
]
LABELLED = ["avx512f", "avx512dq", "rdctl-no", "avx512cd", "pku"]


@pytest.mark.parametrize("between", [" ", "\n", ", ", ",\n", " and ", "; ", "\n\n  "])
def test_each_of_several_labels_of_qemu_s_is_answered(between: str) -> None:
    assert names(between.join(LABELS)) == LABELLED


def test_a_label_among_names_is_one_of_them() -> None:
    assert names("avx2, CPUID.07H:EBX.avx512f [bit 16], rtm") == ["avx2", "avx512f", "rtm"]


def test_a_label_that_contradicts_itself_is_taken_by_its_name_and_said_to() -> None:
    one, other = diagnose("CPUID.07H:EBX.avx512f [bit 17] CPUID.07H:EBX.avx512cd [bit 28]").findings
    assert (one.named.name, other.named.name, other.named.remark) == ("avx512f", "avx512cd", None)
    assert "contradicts itself" in (one.named.remark or "")


@pytest.mark.parametrize(
    "typed",
    [
        [" ".join(LABELS[:2])],
        LABELS[:2],
        " ".join(LABELS[:2]).split(),
        ["CPUID.07H:EBX.avx512f", "[bit", "16]", "CPUID[eax=07h,ecx=00h].EBX.avx512dq"],
    ],
)
@pytest.mark.parametrize("verb", ["explain", "names"])
def test_labels_are_one_argument_or_several_or_what_a_shell_makes_of_them(verb: str, typed: list[str]) -> None:
    host = ("--host", str(capture("kvm-intel.corei7_skylake_x@6.12"))) if verb == "explain" else ()
    done = vcpuid(verb, *typed, *host, "--format", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    key = "feature" if verb == "explain" else "name"
    assert list(dict.fromkeys(row[key] for row in rows)) == ["avx512f", "avx512dq"]
