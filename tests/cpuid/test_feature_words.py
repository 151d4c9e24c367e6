from __future__ import annotations

import pytest

from vcpuid import data
from vcpuid.cpuid.feature_words import LINUX_WORDS, MSR_NAMES, describe, in_word, parse_word, word_names
from vcpuid.cpuid.names import all_features
from vcpuid.cpuid.words import CpuidWord, LinuxWord, MsrWord, Word
from vcpuid.errors import InputError
from vcpuid.releases import KERNELS

LEAF7 = CpuidWord(7, 0, "ebx")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("7.0.ebx", LEAF7),
        ("7.ebx", LEAF7),
        ("0x7.0.EBX", LEAF7),
        ("CPUID[eax=07h,ecx=00h].EBX", LEAF7),
        ("CPUID.07H:EBX", LEAF7),
        ("CPUID_7_0_EBX", LEAF7),
        ("feat_7_0_ebx", LEAF7),
        ("CPUID_12_EAX", CpuidWord(0x12, 0, "eax")),
        ("FEAT_KVM_HINTS", CpuidWord(0x40000001, 0, "edx")),
        ("msr.10a", MsrWord(0x10A)),
        ("MSR(10AH)", MsrWord(0x10A)),
        ("FEAT_ARCH_CAPABILITIES", MsrWord(0x10A)),
        ("CPUID_LNX_4", LinuxWord("CPUID_LNX_4")),
        ("bugs_1", LinuxWord("BUGS_1")),
        ("VMX_WORD_0", LinuxWord("VMX_WORD_0")),
    ],
)
def test_parse_word(text: str, word: Word) -> None:
    assert parse_word(text) == word


@pytest.mark.parametrize("text", ["", "avx2", "CPUID_LNX_99", "7.0.fbx", "9"])
def test_no_word(text: str) -> None:
    with pytest.raises(InputError, match="is not a word such as"):
        parse_word(text)


def test_features_of_a_word_by_bit() -> None:
    names = [feature.name for feature in in_word(LEAF7)]
    assert names[:7] == ["fsgsbase", "tsc_adjust", "sgx", "bmi1", "hle", "avx2", "fdp-excptn-only"]
    own = LinuxWord("CPUID_LNX_4")
    assert [f.name for f in in_word(own)][4:7] == ["fence_swapgs_user", "fence_swapgs_kernel", "split_lock_detect"]
    assert "clear_cpu_buf" in [f.name for f in in_word(own, "6.1")]
    assert "clear_cpu_buf" not in [f.name for f in in_word(own, "6.12")]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_word_of_linux_own_is_described(kernel: str) -> None:
    used = {name.place.word for f in all_features() if (name := f.in_linux(kernel)) is not None and name.place is not None}
    own = {str(word) for word in used if str(word).startswith(("CPUID_LNX_", "BUGS_", "VMX_WORD_"))}
    assert own <= set(LINUX_WORDS)
    empty = {"CPUID_LNX_5"} if kernel == "5.10" else set()
    assert {name for name, place in data.load(f"linux-{kernel}")["words"] if place is None} - own == empty


def test_examples_in_the_descriptions_are_in_their_words() -> None:
    import re

    for name, text in LINUX_WORDS.items():
        for group in re.findall(r"\(([^)]*)\)", text):
            for example in group.split(", "):
                assert example.lower() in {
                    spelling for feature in in_word(LinuxWord(name)) for spelling in (feature.cpuinfo, _symbol(feature.linux))
                }, (name, example)


def _symbol(symbol: str | None) -> str | None:
    return symbol and symbol.removeprefix("X86_FEATURE_").lower()


def test_describe() -> None:
    assert describe(LEAF7) == (
        "CPUID[eax=07h,ecx=00h].EBX is register EBX of CPUID leaf 7H, sub-leaf 0H, called CPUID_7_0_EBX and FEAT_7_0_EBX."
    )
    assert describe(CpuidWord(1, 0, "eax")) == "CPUID[eax=01h].EAX is register EAX of CPUID leaf 1H."
    assert "word 11 of Linux' array; no register of the processor holds it" in describe(LinuxWord("CPUID_LNX_4"))
    assert "split_lock_detect" in describe(LinuxWord("CPUID_LNX_4"))
    assert describe(MsrWord(0x48B)).endswith("Controls are counted in its high half: bit 0 is bit 32 of the register.")
    assert word_names(MsrWord(0x10A)) == ("FEAT_ARCH_CAPABILITIES", "IA32_ARCH_CAPABILITIES")


def test_every_msr_of_the_table_has_a_name() -> None:
    msrs = {feature.bit.word.msr for feature in all_features() if feature.bit is not None and isinstance(feature.bit.word, MsrWord)}
    assert msrs == set(MSR_NAMES)
