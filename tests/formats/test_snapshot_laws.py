"""The snapshot format loses nothing: what is written reads back equal, and every capture is written back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import captures
from support.captures import MACHINES, host
from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import identify
from vcpuid.formats.lines import _KINDS, _Reader, format_snapshot, parse_snapshot

u32 = st.integers(0, 2**32 - 1)
entries = st.builds(Entry, u32, u32, u32, u32, u32, u32, u32)
tables = st.none() | st.lists(entries, max_size=8).map(CpuidTable)
raws = st.dictionaries(st.tuples(u32, u32), st.tuples(u32, u32, u32, u32), min_size=1, max_size=8)
msr_values = st.dictionaries(u32, st.none() | st.integers(0, 2**64 - 1), max_size=8)
msr_tables = msr_values.map(
    lambda all_: MsrTable({i: v for i, v in all_.items() if v is not None}, [i for i, v in all_.items() if v is None])
)
lines = st.text(st.characters(exclude_categories=["Cs"]).filter(lambda character: character >= " " or character == "\t"), max_size=30)
names = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
pairs = st.dictionaries(names, lines.map(str.strip), max_size=4)
words = st.sampled_from(sorted(_KINDS)) | names
notes = st.builds("{} {}".format, words, lines) | st.builds("{} ERR {}".format, st.sampled_from(["SUP", "EMU", "HV"]), lines)


def is_note(line: str) -> bool:
    """A line is a note where the reader takes it for one."""
    if not line.strip() or line.startswith("#"):
        return False
    reader = _Reader()
    try:
        reader.line(line)
    except Exception:
        return False
    return reader.notes == [line]


snapshots = st.builds(
    Snapshot,
    raw=raws.map(lambda answers: CpuidTable(Entry(*key, 0, *registers) for key, registers in answers.items())),
    supported=tables,
    emulated=tables,
    hyperv=tables,
    table=tables,
    kept=tables,
    msrs=msr_tables,
    hardware_msrs=msr_tables,
    cpuinfo=pairs,
    params=pairs,
    set_result=st.none() | st.integers(-(2**31), 2**31 - 1),
    cpu=st.none() | lines,
    kernel=st.none() | lines,
    qemu=st.none() | lines,
    notes=st.lists(notes.filter(is_note), max_size=4).map(tuple),
)


@pytest.mark.long
@settings(deadline=None)  # the machine may be busy
@given(snapshots)
def test_what_is_written_reads_back_equal(snapshot: Snapshot) -> None:
    assert parse_snapshot(format_snapshot(snapshot)) == snapshot


@pytest.mark.long
@settings(deadline=None)  # the machine may be busy
@given(snapshots, notes)
def test_a_note_is_written_only_where_it_reads_back(snapshot: Snapshot, note: str) -> None:
    noted = Snapshot(raw=snapshot.raw, notes=(note,))
    try:
        text = list(format_snapshot(noted))
    except InputError:
        assert not is_note(note)
    else:
        assert parse_snapshot(text) == noted


@pytest.mark.parametrize(
    "snapshot",
    [
        Snapshot(cpu="two\nlines"),
        Snapshot(kernel="\x1b[2J"),
        Snapshot(notes=("a\rb",)),
        Snapshot(notes=("# a comment",)),
        Snapshot(notes=("  ",)),
        Snapshot(notes=("MSR contents are not to be had",)),
        Snapshot(cpuinfo={"model name": "a space in the name"}),
        Snapshot(cpuinfo={"flags": " fpu"}),
        Snapshot(params={"": "Y"}),
        Snapshot(raw=CpuidTable([Entry(7, 0, 1, 0, 0, 0, 0)])),
        Snapshot(raw=CpuidTable([Entry(7, 0, 0, 0, 0, 0, 0), Entry(7, 0, 0, 1, 0, 0, 0)])),
    ],
)
def test_what_would_not_read_back_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(InputError):
        list(format_snapshot(snapshot))


def test_no_table_and_an_empty_one_differ() -> None:
    raw = CpuidTable([Entry(0, 0, 0, 1, 2, 3, 4)])
    assert parse_snapshot(format_snapshot(Snapshot(raw=raw))).emulated is None
    assert parse_snapshot(format_snapshot(Snapshot(raw=raw, emulated=CpuidTable()))).emulated == CpuidTable()


def test_every_kind_of_line_has_a_reader() -> None:
    assert _Reader().kinds.keys() == _KINDS


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_a_capture_is_written_back_as_it_was(name: str) -> None:
    assert sorted(format_snapshot(host(name))) == sorted(captures.lines(name))


@pytest.mark.parametrize("name", MACHINES[::20])
@settings(deadline=None)  # the machine may be busy
@given(data=st.data())
def test_a_cut_capture_is_refused_or_holds_no_entry_that_it_had_not(name: str, data: st.DataObject) -> None:
    whole = "".join(line + "\n" for line in captures.lines(name))
    text = whole[: data.draw(st.integers(0, len(whole)))]
    refusal, cut = None, Snapshot()
    try:
        cut = parse_snapshot(text.splitlines(keepends=True), "host.txt")
    except InputError as error:
        refusal = error
    if refusal is not None:
        assert str(refusal).startswith("host.txt")
        assert refusal.line in (None, text.count("\n"), text.count("\n") + 1)
    for field in ("raw", "supported", "emulated", "hyperv", "kept"):
        had, has = getattr(host(name), field), getattr(cut, field) or ()
        assert tuple(has) == tuple(had)[: len(has)]
    assert cut.msrs.items() <= host(name).msrs.items()


def test_a_value_of_an_msr_at_the_end_may_be_cut_where_its_line_has_no_end() -> None:
    text = ["RAW 00000000.0 00000001 00000002 00000003 00000004\n", "MSR 8b 0 0\n", "MSR 10a 1 4000"]
    with pytest.raises(InputError, match=r"^host.txt:3: the file may be cut within this value: where it is whole"):
        parse_snapshot(text, "host.txt")
    assert parse_snapshot([*text[:2], f"{text[2]}\n"]).msrs == {0x10A: 0x4000}
    assert parse_snapshot([*text[:2], "MSR 10a 1 400000000c00005f"]).msrs == {0x10A: 0x400000000C00005F}
    assert parse_snapshot([line.rstrip("\n") for line in text]).msrs == {0x10A: 0x4000}  # lines that never had an end


LOOKS_LIKE_ANOTHER = (
    "CPUINFO flags features_hvm:0000000f-219c07ab",
    "CPUINFO model_name CPUID[0x00000007]: 00000000 219c91a9 00400004 00000000",
    "NAMED features:0000000f-219c07ab on",
    "CPUINFO bugs Gst: 00000007/0000  00000000 00002401 00000000 30000400",
)


@pytest.mark.parametrize("line", LOOKS_LIKE_ANOTHER)
def test_a_value_that_looks_like_another_form_is_the_snapshot_s(line: str) -> None:
    form, (snapshot,) = identify(f"{line}\n", "a snapshot")
    assert form.name == "snapshot"
    assert [*format_snapshot(snapshot)] == [line]


def test_a_note_on_a_qemu_is_none_on_the_one_that_is_installed() -> None:
    raw = "RAW 00000000.0 00000001 00000002 00000003 00000004"
    told = parse_snapshot(["QEMU 11.1.3 tcg", "VMM QEMU 10.0.3", raw])
    assert (told.qemu, told.notes) == ("10.0.3", ("QEMU 11.1.3 tcg",))
    with pytest.raises(InputError, match="'Firecracker' is no VMM"):
        parse_snapshot(["VMM Firecracker 1.16.1", raw])
