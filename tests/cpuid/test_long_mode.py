"""Dumps of 32-bit programs on Intel: SYSCALL is not shown to them, and every answer is the 64-bit machine's."""

from __future__ import annotations

from dataclasses import replace

import pytest

import vcpuid
from support.captures import capture, host
from support.command import vcpuid as command
from support.peers import INSTLATX64, members
from vcpuid import kvm
from vcpuid.cpuid import CpuidTable, Entry, Snapshot, bits
from vcpuid.cpuid.long_mode import REMARK, in_64_bit_mode, of_32_bit_program
from vcpuid.cpuid.vendors import KVM, twelve
from vcpuid.formats import identify
from vcpuid.formats.writing import write
from vcpuid.setup import Setup, Stack

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
WORD = bits.SYSCALL.word


def without_syscall(table: CpuidTable) -> CpuidTable:
    return CpuidTable(e._replace(edx=e.edx & ~bits.SYSCALL.mask) if e.function == WORD.function else e for e in table)


def dump(name: str = SKYLAKE) -> Snapshot:
    """A capture as a 32-bit program would have dumped it, and nothing of its kernel."""
    return Snapshot(raw=without_syscall(host(name).raw))


def test_the_bit_counts_as_there_and_a_remark_says_so() -> None:
    setup = Setup.of(dump(), Stack(kernel="6.12"))
    assert setup.host == Snapshot(raw=host(SKYLAKE).raw)
    assert setup.remarks == (REMARK,)
    assert kvm.supported(setup).table == kvm.supported(Snapshot(raw=host(SKYLAKE).raw), kernel="6.12").table


def test_what_64_bit_programs_took_is_left_alone() -> None:
    assert not of_32_bit_program(host(SKYLAKE))
    assert in_64_bit_mode(host(SKYLAKE)) is host(SKYLAKE)
    assert not of_32_bit_program(replace(host(SKYLAKE), raw=CpuidTable()))


def test_amd_shows_it_in_every_mode() -> None:
    assert not of_32_bit_program(dump("kvm-amd.EPYC-Milan-v2@7.3"))


def test_a_processor_without_long_mode_has_none() -> None:
    short = CpuidTable(e._replace(edx=e.edx & ~bits.LM.mask) if e.function == WORD.function else e for e in dump().raw)
    assert not of_32_bit_program(Snapshot(raw=short))


def test_kvm_knows_better() -> None:
    """KVM_GET_SUPPORTED_CPUID is worked out by 64-bit code; a guest of KVM sees the table that was set, whatever its mode."""
    supported = host(SKYLAKE).supported
    assert supported is not None
    assert of_32_bit_program(replace(dump(), supported=supported))
    assert not of_32_bit_program(replace(dump(), supported=without_syscall(supported)))
    ebx, ecx, edx = twelve(KVM)
    guest = CpuidTable([Entry(0x40000000, 0, 0, 0x40000001, ebx, ecx, edx), *dump().raw])
    assert not of_32_bit_program(Snapshot(raw=guest))
    assert not of_32_bit_program(replace(dump(), table=dump().raw))


def test_verbs_answer_for_the_machine_and_decode_shows_the_dump(tmp_path: object) -> None:
    source = f"{tmp_path}/dump.txt"
    with open(source, "w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in write([dump()], "cpuid")))
    checked = command("check", "Haswell-noTSX", source, "--kernel", "6.12", "--qemu", "10.0")
    assert checked.stdout.startswith("-cpu Haswell-noTSX starts with every requested feature")
    assert checked.stderr == f"vcpuid: {REMARK}\n"
    worth = command("worth", source, "--format", "csv")
    assert "level,x86-64-v3,yes" in worth.stdout
    assert worth.stderr == f"vcpuid: {source}: {REMARK}\n"
    assert vcpuid.read(source).raw == dump().raw
    assert "SYSCALL" not in command("decode", source).stdout.upper()
    assert command("decode", str(capture(SKYLAKE))).stdout.upper().count("SYSCALL")


@pytest.mark.skipif(not INSTLATX64.is_file(), reason="needs the dumps of InstLatx64 (VCPUID_PEERS)")
@pytest.mark.long
def test_most_published_dumps_of_intel_are_of_32_bit_programs() -> None:
    firsts = [identify(text, name)[1][0] for name, text in members(INSTLATX64).items() if name.startswith("GenuineIntel")]
    long_mode = [cpu for cpu in firsts if cpu.vendor == "GenuineIntel" and cpu.raw.has(bits.LM)]
    assert sum(map(of_32_bit_program, long_mode)) > len(long_mode) / 2
    for cpu in long_mode:
        assert Setup.of(cpu).host.raw.has(bits.SYSCALL)
