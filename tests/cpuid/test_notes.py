"""The questions that people ask of names, and the answers."""

from __future__ import annotations

import json

import pytest

from vcpuid.cpuid.card import card, look_up
from vcpuid.cpuid.feature_words import LINUX_WORDS
from vcpuid.cpuid.names import all_features, find
from vcpuid.cpuid.notes import SET_BY, SUMMED_UP, notes
from vcpuid.errors import InputError
from vcpuid.releases import KERNELS, QEMUS


def topics(text: str, kernel: str = KERNELS[-1]) -> dict[str, str]:
    return {note.topic: note.text for note in notes(find(text), kernel)}


def test_what_a_number_of_linux_means() -> None:
    said = topics("avx2")["number"]
    assert said.startswith("X86_FEATURE_AVX2 is 9*32+5: word 9 of Linux' array x86_capability is a copy of CPUID[eax=07h,ecx=00h].EBX")
    assert said.endswith("means nothing to hardware.")
    assert "to which Linux copies CPUID[eax=12h,ecx=00h].EAX [bit 0] at boot" in topics("sgx1")["number"]
    assert topics("X86_FEATURE_RETPOLINE")["number"].endswith("No register of the hardware holds it.")
    assert "number" not in topics("rdctl-no")


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_why_spec_ctrl_is_hidden(kernel: str) -> None:
    said = topics("spec_ctrl", kernel)["hidden"]
    assert f"Linux {kernel} gives this bit no name in /proc/cpuinfo" in said
    assert topics("spec_ctrl", kernel)["summed"] == "Where the bit is set, /proc/cpuinfo shows ibrs and ibpb for it."
    assert "says nothing about the processor" in said


def test_why_others_are_hidden() -> None:
    assert "only KVM has a word for it" in topics("avx-vnni-int8")["hidden"]
    assert "a bit that KVM offers to guests" in topics("kvmclock")["hidden"]
    assert "a bit of an MSR" in topics("rdctl-no")["hidden"]
    assert "in vmxfeatures.h" in topics("vmx-hlt-exit")["hidden"]
    assert "hidden" not in topics("avx2")
    assert "hidden" not in topics("hv-relaxed")
    assert topics("vmx-ept")["shown"] == "/proc/cpuinfo shows ept in the line `vmx flags`, not in `flags`."


def test_what_linux_own_words_hold() -> None:
    said = topics("X86_FEATURE_SPLIT_LOCK_DETECT")
    assert said["word"] == f"CPUID_LNX_4 holds {LINUX_WORDS['CPUID_LNX_4']}."
    assert "MSR 33H" in said["own"]
    assert said["shared"] == "split_lock_detect is also a name of MSR(CFh) [bit 5]."


def test_other_notes() -> None:
    assert "repeat bit CPUID[eax=01h].EDX [bit 0] here" in topics("80000001.0.edx.0")["copy"]
    assert topics("hv-time")["several"].startswith("QEMU's hv-time stands for 2 bits: CPUID[eax=40000003h].EAX [bit 1], ")
    assert "high half" in topics("vmx-ept")["counted"]
    assert "counted" not in topics("vmx-true-ctls")
    assert "vendor, family, model" in topics("cpu_meltdown")["bug"]


def test_symbols_that_the_notes_name_exist() -> None:
    symbols = {name.symbol for feature in all_features() for name in feature.linux_names}
    assert SUMMED_UP.keys() | SET_BY.keys() <= symbols
    shown = {name.cpuinfo for feature in all_features() for name in feature.linux_names}
    assert {flag for flags in SUMMED_UP.values() for flag in flags} <= shown


@pytest.mark.long
def test_every_feature_has_a_card_fit_for_json() -> None:
    for feature in all_features():
        for kernel in KERNELS:
            told = card(feature, kernel)
            assert json.loads(json.dumps(told)) == told


def test_a_card() -> None:
    told = card(find("avx2"))
    assert told["name"] == "avx2"
    assert told["place"] == "CPUID[eax=07h,ecx=00h].EBX [bit 5]"
    assert told["linux"] == [
        {"symbol": "X86_FEATURE_AVX2", "number": "9*32+5", "word": "CPUID_7_0_EBX", "cpuinfo": "avx2", "kernels": list(KERNELS)}
    ]
    assert told["qemu"] == [{"property": "avx2", "aliases": [], "releases": list(QEMUS)}]
    assert told["libvirt"] == "avx2"
    assert "7.0.ebx.5" in told["spellings"]  # type: ignore[operator]  # a list


def test_look_up_takes_features_and_words() -> None:
    assert look_up("avx2") == (find("avx2"),)
    assert find("avx2") in look_up("7.0.ebx")
    assert [feature.name for feature in look_up("CPUID_LNX_6")][:2] == ["overflow_recov", "succor"]
    assert look_up("CPUID_LNX_6", "6.1") == ()
    with pytest.raises(InputError, match="did you mean avx2"):
        look_up("axv2")
