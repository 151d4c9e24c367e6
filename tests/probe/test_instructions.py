from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vcpuid.cpuid import CpuidWord
from vcpuid.cpuid.names import find
from vcpuid.errors import InputError
from vcpuid.probe import INSTRUCTIONS, Instruction, instructions_of
from vcpuid.probe.instructions import AVX, AVX512, CR4_OSXSAVE, NOTHING

IDS = [f"{instruction.feature}-{instruction.name}" for instruction in INSTRUCTIONS]
YOUNG = {"vpdpwsud", "vsha512msg1", "vsm3msg1", "vsm4key4", "tcmmimfp16ps"}
"""What assemblers older than binutils 2.42 do not know."""


def assemble(text: str, folder: Path) -> bytes:
    source, result, flat = (folder / f"code.{ending}" for ending in ("s", "o", "bin"))
    source.write_text(f".intel_syntax noprefix\n{text}\n", encoding="utf-8")
    subprocess.run(["as", "--64", "-o", result, source], check=True, capture_output=True, text=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", result, flat], check=True, capture_output=True, text=True)
    return flat.read_bytes()


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("as") and shutil.which("objcopy")), reason="no GNU assembler (binutils)")
@pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=IDS)
def test_the_bytes_are_what_the_assembler_makes(instruction: Instruction, tmp_path: Path) -> None:
    try:
        made = assemble(instruction.assembly, tmp_path)
    except subprocess.CalledProcessError as error:
        if instruction.name in YOUNG and "no such instruction" in error.stderr:
            pytest.skip(f"this assembler does not know {instruction.name}")
        raise
    assert instruction.code == made


@pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=IDS)
def test_every_feature_is_a_bit_of_cpuid(instruction: Instruction) -> None:
    bit = find(instruction.feature).bit
    assert bit is not None
    assert isinstance(bit.word, CpuidWord)


def test_each_row_has_a_name_of_its_own() -> None:
    names = [(find(instruction.feature).name, instruction.name) for instruction in INSTRUCTIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=IDS)
def test_vector_instructions_need_their_state(instruction: Instruction) -> None:
    """A VEX or EVEX instruction on vector registers (all begin with V here) needs XCR0, and XCR0 needs CR4.OSXSAVE."""
    if instruction.name.startswith("v"):
        wide = instruction.code[0] == 0x62
        assert instruction.needs == (AVX512 if wide else AVX)
    assert bool(instruction.needs.xcr0) <= bool(instruction.needs.cr4 & CR4_OSXSAVE)
    assert instruction.ring in (0, 3)
    assert (instruction.answer is None) == (not instruction.instead)


def test_the_notes_own_fault_is_among_them() -> None:
    (xtest,) = (instruction for instruction in INSTRUCTIONS if instruction.name == "xtest")
    assert (xtest.feature, xtest.code, xtest.needs) == ("rtm", b"\x0f\x01\xd6", NOTHING)


def test_the_instructions_of_a_feature() -> None:
    assert instructions_of(()) == INSTRUCTIONS
    assert [i.name for i in instructions_of(["X86_FEATURE_BMI1", "rtm"])] == ["andn", "tzcnt", "xtest", "xbegin"]
    with pytest.raises(InputError, match="nx has no instruction"):
        instructions_of(["nx"])
    with pytest.raises(InputError, match="avx22"):
        instructions_of(["avx22"])
