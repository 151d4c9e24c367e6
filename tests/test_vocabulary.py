"""One vocabulary: a class is defined once, and the rules name feature bits by cpuid/bits.py and its neighbours, not by number."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import vcpuid
from vcpuid.cpuid import vendors

ROOT = Path(vcpuid.__file__).parent
RULES = ("linux", "kvm", "qemu", "vmm", "path", "answers", "hazards", "software")
"""Rooms whose modules ask for bits."""

NUMBERS = {
    ("kvm/cr4.py", "1 << 18"): (1, "CR4.OSXSAVE"),
    ("kvm/cr4.py", "1 << 22"): (1, "CR4.PKE"),
    ("kvm/feature_msrs.py", "1 << 1"): (1, "a bit of AMD's DE_CFG"),
    ("kvm/feature_msrs.py", "1 << 64"): (1, "a limit"),
    ("kvm/leaves/basic.py", "1 << 15"): (1, "a field of leaf 0xA that no table of features names"),
    ("kvm/lookup.py", "1 << 1"): (1, "a bit of IA32_TSX_CTRL"),
    ("kvm/pmu.py", "1 << 6"): (1, "a field of leaf 0xA that no table of features names"),
    ("kvm/perf_capabilities.py", "1 << 14"): (1, "a bit of IA32_PERF_CAPABILITIES that no table of features names"),
    ("kvm/perf_capabilities.py", "1 << 17"): (1, "a bit of IA32_PERF_CAPABILITIES that no table of features names"),
    ("kvm/perf_capabilities.py", "1 << 6"): (1, "a bit of IA32_PERF_CAPABILITIES that no table of features names"),
    ("kvm/perf_capabilities.py", "1 << 7"): (1, "a bit of IA32_PERF_CAPABILITIES that no table of features names"),
    ("linux/amd.py", "(cpu.machine.msr(machine.SYSCFG) or 0) >> 23 & 1"): (1, "a bit of SYSCFG"),
    ("linux/amd.py", "(cpu.machine.msr(machine.VM_CR) or 0) >> 4 & 1"): (1, "a bit of VM_CR"),
    ("linux/intel.py", "enabled >> 11 & 1"): (1, "a bit of IA32_MISC_ENABLE"),
    ("linux/intel.py", "enabled >> 12 & 1"): (1, "a bit of IA32_MISC_ENABLE"),
    ("linux/machine.py", "1 << 31"): (1, "a bit of PLATFORM_INFO"),
    ("linux/machine.py", "1 << 5"): (1, "a bit of MCU_OPT_CTRL"),
    ("linux/machine.py", "1 << 7"): (1, "a bit of IA32_PRED_CMD, written and never read"),
    ("linux/arch_cap.py", "1 << 64"): (1, "a limit"),
    ("linux/behind_kvm.py", "1 << 64"): (1, "a limit"),
    ("linux/vmx.py", "1 << 17"): (1, "a bit of IA32_FEAT_CTL"),
    ("linux/vmx.py", "1 << 18"): (2, "a bit of IA32_FEAT_CTL; a bit of a word that is Linux' own"),
    ("linux/vmx.py", "1 << 2"): (1, "a bit of IA32_FEAT_CTL"),
    ("linux/vmx.py", "1 << 24"): (1, "a bit of a word that is Linux' own"),
    ("linux/vmx.py", "1 << 25"): (1, "a bit of a word that is Linux' own"),
    ("linux/vmx.py", "ept >> 32 & 1"): (1, "a bit on its way to another place, by Linux' table of those"),
    ("qemu/expansion.py", "1 << 64"): (1, "a limit"),
    ("qemu/filter.py", "585 << 16"): (1, "a field of leaf 0x14"),
    ("qemu/filter.py", "63 << 16"): (1, "a field of leaf 0x14"),
    ("qemu/leaves/basic.py", "1024 << 16"): (1, "a field of leaf 0x1D"),
    ("qemu/leaves/basic.py", "585 << 16"): (1, "a field of leaf 0x14"),
    ("qemu/leaves/basic.py", "63 << 16"): (1, "a field of leaf 0x14"),
    ("qemu/leaves/basic.py", "64 << 8"): (1, "a field of leaf 0x1E"),
    ("qemu/leaves/basic.py", "8 << 16"): (1, "a field of leaf 0x1D"),
    ("qemu/leaves/basic.py", "8 << 8"): (1, "a field of leaf 1"),
    ("qemu/properties.py", "1 << 63"): (1, "a limit"),
    ("qemu/machine_option.py", "1 << 31"): (1, "a limit"),
    ("qemu/values.py", "1 << 63"): (2, "a limit, and half of one"),
    ("vmm/firecracker/msrs.py", "1 << 64"): (1, "a limit"),
}
"""Numbers that may stand for bits, how often each, and why it is none that has a name."""


@cache
def modules() -> dict[str, ast.Module]:
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def spelled_as_numbers(tree: ast.AST) -> Iterator[str]:
    """Yield `1 << 19`, `word >> 19 & 1` and `Bit(word, 19)`."""
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(left, ast.LShift(), right) if is_number(left) and is_number(right):
                yield ast.unparse(node)
            case ast.BinOp(ast.BinOp(_, ast.RShift(), position), ast.BitAnd(), ast.Constant(1)) if is_number(position):
                yield ast.unparse(node)
            case ast.Call(ast.Name("Bit"), [_, position]) if is_number(position):
                yield ast.unparse(node)


def test_what_counts_as_a_number() -> None:
    source = "A = 1 << 19\nB = w >> 3 & 1\nC = Bit(w, 7)\nD = 1 << n\nE = w >> n & 1\nF = w >> 8 & 0xFF\nG = Bit(w, n)\nH = 'x' << 3\n"
    assert sorted(spelled_as_numbers(ast.parse(source))) == ["1 << 19", "Bit(w, 7)", "w >> 3 & 1"]


def test_no_rule_spells_a_feature_bit_as_a_number() -> None:
    """Where this fails, write `bits.NAME` and run tools/bits.py; what is no feature goes into NUMBERS, with the reason."""
    found = Counter((name, text) for name, tree in modules().items() if name.split("/")[0] in RULES for text in spelled_as_numbers(tree))
    assert found == Counter({place: times for place, (times, _) in NUMBERS.items()})


def test_no_class_is_defined_twice() -> None:
    homes: dict[str, list[str]] = {}
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_names_in_cpuid_stand_in_one_module() -> None:
    names, spelled = {*vendors.KINDS, *vendors.HYPERVISORS}, set()
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
                if text.rstrip("\0") in names:
                    spelled.add((module, text))
    assert spelled == {("cpuid/vendors.py", name) for name in names}
