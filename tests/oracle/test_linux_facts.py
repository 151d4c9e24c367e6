"""oracle/linux_facts.py: what it reads of small made-up kernel sources, and what it refuses."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vcpuid.errors import InputError

SCRIPT = Path(__file__).parents[2] / "oracle" / "linux_facts.py"

MAKEFILE = "VERSION = 9\nPATCHLEVEL = 2\nSUBLEVEL = 5\nEXTRAVERSION =\nNAME = A name\n"

CPUFEATURES = """
/*
 * Note: If the comment begins with a quoted string, that string is used in /proc/cpuinfo.
 */
#define NCAPINTS\t\t2
#define X86_FEATURE_FPU\t\t( 0*32+ 0) /* "fpu" Onboard FPU */
#define X86_FEATURE_HIDDEN\t( 0*32+ 1) /* Not shown */
/* FREE, was #define X86_FEATURE_K7\t( 0*32+ 5) "k7" Athlon */
#define X86_FEATURE_MBA\t\t(1*32 + 18) /* "mba" Memory Bandwidth Allocation */
#define X86_FEATURE_SGX1\t( 1*32+ 9)
#define X86_BUG(x)\t\t(NCAPINTS*32 + (x))
#define X86_BUG_F00F\t\tX86_BUG(0) /* "f00f" Intel F00F */
/* unused, was #define X86_BUG_OLD\tX86_BUG(1) "old" A bug */
#define X86_BUG_SRSO\t\tX86_BUG( 1*32+ 0) /* "srso" AMD SRSO bug */
"""

CPUFEATURE = """
enum cpuid_leafs
{
\tCPUID_1_EDX\t\t= 0,
\tCPUID_LNX_1,
\tNR_CPUID_WORDS,
};
"""

REVERSE = """
enum kvm_only_cpuid_leafs {
\tCPUID_12_EAX\t = NCAPINTS,
};
#define KVM_X86_FEATURE(w, f)\t\t((w)*32 + (f))
#define KVM_X86_FEATURE_SGX1\tKVM_X86_FEATURE(CPUID_12_EAX, 0)
#define X86_FEATURE_ONLY_KVM\tKVM_X86_FEATURE(CPUID_12_EAX, 11) /* no word of Linux */
static const struct cpuid_reg reverse_cpuid[] = {
\t[CPUID_1_EDX]         = {         1, 0, CPUID_EDX},
\t[CPUID_12_EAX]        = {0x00000012, 0, CPUID_EAX},
};
static __always_inline u32 __feature_translate(int x86_feature)
{
#define KVM_X86_TRANSLATE_FEATURE(f)\t\\
\tcase X86_FEATURE_##f: return KVM_X86_FEATURE_##f
\tKVM_X86_TRANSLATE_FEATURE(SGX1);
}
"""

SCATTERED = """
static const struct cpuid_bit cpuid_bits[] = {
\t{ X86_FEATURE_MBA,\t\tCPUID_EBX,  3, 0x00000010, 0 },
\t{ X86_FEATURE_SGX1,\t\tCPUID_EAX,  0, 0x00000012, 0 },
\t{ X86_FEATURE_MBA,\t\tCPUID_EBX,  6, 0x80000008, 0 },
\t{ 0, 0, 0, 0, 0 }
};
"""

DEPS = """
static const struct cpuid_dep cpuid_deps[] = {
\t{ X86_FEATURE_SGX1,\t\tX86_FEATURE_FPU      },
\t{ X86_FEATURE_MBA,\t\tX86_FEATURE_FPU,     },
\t{}
};
"""

KVM_CPUID = """
#define F(name)\t\t\t\\
({\t\t\t\t\\
\tfeature_bit(name);\t\\
})
void kvm_initialize_cpu_caps(void)
{
\tkvm_cpu_cap_init(CPUID_1_EDX,
\t\tF(FPU),
\t\t/* F(NOT_THIS), */
\t\tVENDOR_F(HIDDEN),
\t);
\tkvm_cpu_cap_init(CPUID_12_EAX,
\t\tSCATTERED_F(SGX1),
\t\tF(ONLY_KVM),
\t);
\tif (!tdp_enabled || !boot_cpu_has(X86_FEATURE_FPU))
\t\tkvm_cpu_cap_clear(X86_FEATURE_FPU);
}
"""

VMX = """
#define NVMXINTS\t\t\t3
#define VMX_FEATURE_INTR_EXITING\t( 0*32+  0) /* VM-Exit on vectored interrupts */
#define VMX_FEATURE_VIRTUAL_NMIS\t( 0*32+  5) /* "vnmi" NMI virtualization */
#define VMX_FEATURE_TSC_OFFSETTING\t( 1*32+  3) /* "tsc_offset" Offset hardware TSC when read in guest */
"""

PARA = """
#define KVM_CPUID_FEATURES\t0x40000001
#define KVM_FEATURE_CLOCKSOURCE\t\t0
/* #define KVM_FEATURE_NOT_THIS\t\t1 */
#define KVM_FEATURE_STEAL_TIME\t\t5
#define KVM_HINTS_REALTIME      0
#define KVM_STEAL_ALIGNMENT_BITS 5
"""

MSRS = """
#define MSR_IA32_ARCH_CAPABILITIES\t0x0000010a
#define ARCH_CAP_RDCL_NO\t\tBIT(0)\t/* Not susceptible to Meltdown */
#define ARCH_CAP_XAPIC_DISABLE\t\tBIT_ULL(21)
#define MSR_IA32_CORE_CAPS_SPLIT_LOCK_DETECT_BIT  5
#define MSR_IA32_CORE_CAPS_SPLIT_LOCK_DETECT\t  BIT(MSR_IA32_CORE_CAPS_SPLIT_LOCK_DETECT_BIT)
"""

COMMON = """
void get_cpu_cap(struct cpuinfo_x86 *c)
{
\tc->x86_capability[CPUID_1_EDX] = edx;
\t/* c->x86_capability[NOT_THIS] = cpuid_eax(0x00000001); */
}
"""

FILES = {
    "Makefile": MAKEFILE,
    "arch/x86/kernel/cpu/common.c": COMMON,
    "arch/x86/include/asm/vmxfeatures.h": VMX,
    "arch/x86/include/asm/msr-index.h": MSRS,
    "arch/x86/include/uapi/asm/kvm_para.h": PARA,
    "arch/x86/include/asm/cpufeatures.h": CPUFEATURES,
    "arch/x86/include/asm/cpufeature.h": CPUFEATURE,
    "arch/x86/kvm/reverse_cpuid.h": REVERSE,
    "arch/x86/kernel/cpu/scattered.c": SCATTERED,
    "arch/x86/kernel/cpu/cpuid-deps.c": DEPS,
    "arch/x86/kvm/cpuid.c": KVM_CPUID,
    "arch/x86/kvm/svm/svm.c": "\tkvm_cpu_cap_set(X86_FEATURE_HIDDEN);\n\tkvm_cpu_cap_check_and_set(X86_FEATURE_MBA);\n",
    "arch/x86/kvm/svm/sev.c": "",
    "arch/x86/kvm/vmx/vmx.c": "\t/* kvm_cpu_cap_set(X86_FEATURE_FPU) */\n\tif (kvm_cpu_cap_has(X86_FEATURE_FPU))\n",
    "arch/x86/kvm/x86.c": "\tkvm_cpu_cap_clear(X86_FEATURE_SGX1);\n",
}


@pytest.fixture
def tool(oracle: Callable[[str], ModuleType]) -> ModuleType:
    return oracle("linux_facts")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def change(tree: Path, name: str, old: str, new: str) -> None:
    path = next(tree / each for each in FILES if each.endswith(name))
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_whole_tree(tool: ModuleType, tree: Path) -> None:
    assert tool.read(tree) == {
        "kernel": "9.2.5",
        "features": {
            "FPU": {"word": 0, "bit": 0, "cpuinfo": "fpu"},
            "HIDDEN": {"word": 0, "bit": 1, "cpuinfo": None},
            "MBA": {"word": 1, "bit": 18, "cpuinfo": "mba"},
            "SGX1": {"word": 1, "bit": 9, "cpuinfo": None},
        },
        "bugs": {"F00F": {"bit": 0, "cpuinfo": "f00f"}, "SRSO": {"bit": 32, "cpuinfo": "srso"}},
        "cpuid_leafs": ["CPUID_1_EDX", "CPUID_LNX_1", "NR_CPUID_WORDS"],
        "kvm_only_features": {"SGX1": ["CPUID_12_EAX", 0], "ONLY_KVM": ["CPUID_12_EAX", 11]},
        "kvm_translated": ["SGX1"],
        "reverse_cpuid": {"CPUID_1_EDX": [1, 0, "edx"], "CPUID_12_EAX": [0x12, 0, "eax"]},
        "scattered": [["MBA", 0x10, 0, "ebx", 3], ["SGX1", 0x12, 0, "eax", 0], ["MBA", 0x80000008, 0, "ebx", 6]],
        "cpuid_deps": [["SGX1", "FPU"], ["MBA", "FPU"]],
        "kvm_caps": {"CPUID_1_EDX": [["F", "FPU"], ["VENDOR_F", "HIDDEN"]], "CPUID_12_EAX": [["SCATTERED_F", "SGX1"], ["F", "ONLY_KVM"]]},
        "kvm_cap_calls": [
            ["cpuid.c", "kvm_cpu_cap_clear", "FPU"],
            ["svm.c", "kvm_cpu_cap_set", "HIDDEN"],
            ["svm.c", "kvm_cpu_cap_check_and_set", "MBA"],
            ["x86.c", "kvm_cpu_cap_clear", "SGX1"],
        ],
        "vmx_features": {
            "INTR_EXITING": {"word": 0, "bit": 0, "cpuinfo": None},
            "VIRTUAL_NMIS": {"word": 0, "bit": 5, "cpuinfo": "vnmi"},
            "TSC_OFFSETTING": {"word": 1, "bit": 3, "cpuinfo": "tsc_offset"},
        },
        "kvm_features": {"KVM_FEATURE_CLOCKSOURCE": 0, "KVM_FEATURE_STEAL_TIME": 5, "KVM_HINTS_REALTIME": 0},
        "msr_bits": {
            "10a": {"ARCH_CAP_RDCL_NO": 0, "ARCH_CAP_XAPIC_DISABLE": 21},
            "cf": {"MSR_IA32_CORE_CAPS_SPLIT_LOCK_DETECT": 5},
        },
    }


def test_an_older_header_shows_a_flag_without_a_string_and_hides_one_with_an_empty_string(tool: ModuleType, tree: Path) -> None:
    change(tree, "cpufeatures.h", "/* Not shown */", "/* Shown as its macro */")
    change(tree, "cpufeatures.h", "( 1*32+ 9)\n", '( 1*32+ 9) /* "" Not shown */\n')
    features = tool.read(tree)["features"]
    assert {name: features[name]["cpuinfo"] for name in ("FPU", "HIDDEN", "SGX1")} == {"FPU": "fpu", "HIDDEN": "hidden", "SGX1": None}


def test_the_form_up_to_6_12_has_masks_and_variables(tool: ModuleType, tree: Path) -> None:
    old = """void kvm_set_cpu_caps(void)
{
\tunsigned int f_lm = F(LM);
\tkvm_cpu_cap_mask(CPUID_1_EDX,
\t\tF(FPU) | 0 /* Reserved, DS */ | f_lm |
\t\tBIT(2) /* a bit without a name */ | __feature_bit(KVM_X86_FEATURE_PSFD)
\t);
\tkvm_cpu_cap_init_kvm_defined(CPUID_12_EAX, SF(SGX1));
}
"""
    (tree / "arch/x86/kvm/cpuid.c").write_text(old, encoding="utf-8")
    assert tool.read(tree)["kvm_caps"] == {"CPUID_1_EDX": [["F", "FPU"], ["COND", "f_lm"]], "CPUID_12_EAX": [["SF", "SGX1"]]}


def test_the_form_up_to_5_11_has_no_words_of_kvms_own(tool: ModuleType, tree: Path) -> None:
    begin, end = (REVERSE.index(text) for text in ("static const struct", "static __always_inline"))
    (tree / "arch/x86/kvm/reverse_cpuid.h").unlink()
    (tree / "arch/x86/kvm/cpuid.h").write_text(REVERSE[begin:end], encoding="utf-8")
    change(tree, "kvm/cpuid.c", "\t\tF(ONLY_KVM),\n", "")
    facts = tool.read(tree)
    assert (facts["kvm_only_features"], facts["kvm_translated"]) == ({}, [])
    assert facts["reverse_cpuid"] == {"CPUID_1_EDX": [1, 0, "edx"], "CPUID_12_EAX": [0x12, 0, "eax"]}


def test_a_word_that_linux_reads_and_kvm_has_not_is_placed(tool: ModuleType, tree: Path) -> None:
    change(tree, "cpu/common.c", "\tc->x86_capability[CPUID_1_EDX] = edx;", "\tc->x86_capability[CPUID_LNX_1] = cpuid_eax(0x8000001f);")
    assert tool.read(tree)["reverse_cpuid"]["CPUID_LNX_1"] == [0x8000001F, 0, "eax"]


def test_a_release_candidate_is_named(tool: ModuleType) -> None:
    assert tool.release(MAKEFILE.replace("SUBLEVEL = 5\nEXTRAVERSION =", "SUBLEVEL = 0\nEXTRAVERSION = -rc7")) == "9.2.0-rc7"


@pytest.mark.parametrize(
    ("name", "old", "new", "cause"),
    [
        ("cpuid-deps.c", "X86_FEATURE_FPU,     }", "X86_FEATURE_FPU | 0 }", "1 of 2 rows"),
        ("scattered.c", "CPUID_EAX,  0, 0x00000012, 0", "CPUID_EAX,  BIT(0), 0x00000012, 0", "2 of 3 rows"),
        ("reverse_cpuid.h", "{         1, 0, CPUID_EDX}", "CPUID(1, 0, EDX)", "1 of 2 rows"),
        ("reverse_cpuid.h", "KVM_X86_FEATURE(CPUID_12_EAX, 0)", "KVM_X86_FEATURE(CPUID_12_EAX, 0 + 0)", "1 of 2 rows"),
        ("reverse_cpuid.h", "\t[CPUID_12_EAX]        = {0x00000012, 0, CPUID_EAX},\n", "", "no row for CPUID_12_EAX"),
        ("cpufeatures.h", "( 0*32+ 1)", "FEATURE(0, 1)", "3 of 4 rows"),
        ("cpufeatures.h", "( 0*32+ 1)", "( 2*32+ 1)", "word 2"),
        ("cpufeature.h", "enum cpuid_leafs", "enum leafs", "no enum cpuid_leafs"),
        ("kvm/cpuid.c", "F(FPU),", "F(UNKNOWN),", "names UNKNOWN"),
        ("kvm/cpuid.c", "kvm_initialize_cpu_caps", "kvm_init_caps", "no kvm_set_cpu_caps"),
        ("Makefile", "PATCHLEVEL", "PATCH", "tells no release"),
        ("vmxfeatures.h", "( 1*32+  3)", "BIT(35)", "2 of 3 rows"),
        ("msr-index.h", "SPLIT_LOCK_DETECT_BIT  5", "SPLIT_LOCK_DETECT_SHIFT  5", "CORE_CAPS"),
    ],
)
def test_what_is_spelled_otherwise_is_refused(tool: ModuleType, tree: Path, name: str, old: str, new: str, cause: str) -> None:
    change(tree, name, old, new)
    with pytest.raises(InputError, match=cause):
        tool.read(tree)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_named(tool: ModuleType, tree: Path, name: str) -> None:
    (tree / name).unlink()
    with pytest.raises(InputError, match=name):
        tool.read(tree)


def test_the_command_writes_the_same_file_each_time(tree: Path, tmp_path: Path) -> None:
    outputs: list[bytes] = []
    for name in ("one.json.gz", "two.json.gz"):
        subprocess.run([sys.executable, SCRIPT, tree, "-o", tmp_path / name], check=True)
        outputs.append((tmp_path / name).read_bytes())
    assert outputs[0] == outputs[1]
    shown = subprocess.run([sys.executable, SCRIPT, tree], check=True, capture_output=True, text=True, encoding="utf-8").stdout
    facts: dict[str, Any] = json.loads(gzip.decompress(outputs[0]))
    assert json.loads(shown) == facts


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "not a kernel source tree" in done.stderr
