"""Where the fields of a tracepoint's record stand is read off its `format`, which differs by release."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcpuid.errors import UnavailableError
from vcpuid.trace.tracepoints import Events, RecordField, read_format, tracepoint

COMMON = """\
name: {name}
ID: {number}
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""
FIELDS = {
    "kvm_cpuid": ("unsigned int function", "unsigned long rax", "unsigned long rbx", "unsigned long rcx", "unsigned long rdx"),
    "kvm_exit": ("unsigned int exit_reason", "unsigned long guest_rip", "u32 isa"),
    "kvm_emulate_insn": ("__u64 rip", "__u32 csbase", "__u8 insn[15]"),
}


def tree(folder: Path, **other: tuple[str, ...]) -> str:
    """Lay out a tracefs of KVM's events, each field 8 bytes behind the one before."""
    for number, (name, fields) in enumerate({**FIELDS, **other}.items(), 100):
        event = folder / "events" / "kvm" / name
        event.mkdir(parents=True)
        (event / "id").write_text(f"{number}\n", encoding="ascii")
        lines = "".join(f"\tfield:{field};\toffset:{8 + 8 * at};\tsize:8;\tsigned:0;\n" for at, field in enumerate(fields))
        (event / "format").write_text(COMMON.format(name=name, number=number) + lines, encoding="ascii")
    return str(folder)


def test_fields_are_read_by_name_arrays_among_them() -> None:
    told = read_format(COMMON.format(name="x", number=1) + "\tfield:__u8 insn[15];\toffset:21;\tsize:15;\tsigned:0;\n")
    assert told == {"common_type": RecordField(0, 2), "common_pid": RecordField(4, 4), "insn": RecordField(21, 15)}


@pytest.mark.parametrize(
    "line", ["field:int x;\toffset:;\tsize:4;", "field:int x;\toffset:99999999999;\tsize:4;", "field:int ٣;", "\0", ""]
)
def test_what_is_no_field_is_passed_over(line: str) -> None:
    assert read_format(line) == {}


def test_kvms_events_are_found_with_their_numbers(tmp_path: Path) -> None:
    events = Events.of_kvm(tree(tmp_path))
    assert [event.number for event in (events.cpuid, events.exit, events.emulate)] == [100, 101, 102]
    assert not events.cpuid.has("index")  # as before Linux 4.11 or so


def test_events_that_do_not_tell_what_is_needed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="kvm:kvm_exit does not tell exit_reason isa guest_rip"):
        Events.of_kvm(tree(tmp_path, kvm_exit=("unsigned int reason",)))


def test_a_kernel_without_kvm_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no tracepoint kvm:kvm_cpuid: KVM is not loaded"):
        Events.of_kvm(str(tmp_path))
    tree(tmp_path)
    with pytest.raises(UnavailableError, match=r"no tracepoint kvm:kvm_other$"):
        tracepoint(str(tmp_path), "kvm", "kvm_other")
