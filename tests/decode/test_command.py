"""vcpuid decode as a user meets it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vcpuid import decode, sources
from vcpuid.cli.decode import command
from vcpuid.cli.output import FORMATS
from vcpuid.errors import InputError

CAPTURES = Path(__file__).parents[1] / "captures" / "kvm"
HOST = str(CAPTURES / "kvm-intel.corei7_skylake_x@6.12.txt.gz")


def run(*args: str) -> Result:
    return CliRunner().invoke(command, args, catch_exceptions=False)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("more", [(), ("--full",), ("7", "d.1"), ("--all-cpus",)], ids=" ".join)
def test_every_format_prints_and_parses(more: tuple[str, ...], form: str) -> None:
    done = run(HOST, *more, "--format", form)
    assert done.exit_code == 0
    if form == "json":
        assert isinstance(json.loads(done.stdout), dict | list)
    elif form == "jsonl":
        assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
    elif form == "csv":
        assert len({len(row) for row in csv.reader(io.StringIO(done.stdout))}) == 1


def test_a_person_sees_names_fields_and_drawings() -> None:
    shown = run(HOST).stdout
    assert "Skylake-X (Skylake)" in shown
    assert "avx512f" in shown
    assert "┌ package" in shown
    assert "ZMM_Hi256" in shown


def test_full_shows_every_bit() -> None:
    table = sources.read(HOST).raw
    lines = run(HOST, "--full", "--format", "lines").stdout
    assert lines == decode.spell(table)
    rows = list(csv.DictReader(io.StringIO(run(HOST, "7.0", "--full", "--format", "csv").stdout)))
    width = sum(int(high or low) - int(low) + 1 for high, low in ((r["bits"].split(":")[0], r["bits"].split(":")[-1]) for r in rows))
    assert width == 4 * 32


def test_json_has_the_fields_and_what_they_say_together() -> None:
    told = json.loads(run(HOST, "--format", "json").stdout)
    assert told["identity"]["design"] == "Skylake-X"
    assert told["xsave"]["components"]
    assert {"identity", "caches", "tlbs", "topology", "xsave", "frequencies", "facts", "leaves"} == set(told)
    (leaf,) = json.loads(run(HOST, "7.0", "--format", "json").stdout)["leaves"]
    (avx2,) = (field for field in leaf["fields"] if field["name"] == "avx2")
    assert (avx2["register"], avx2["bits"], avx2["raw"], avx2["text"]) == ("ebx", "5", 1, "yes")


def test_leaves_are_picked_with_and_without_a_sub_leaf() -> None:
    def leaves(*wanted: str) -> list[tuple[int, int]]:
        told = json.loads(run(HOST, *wanted, "--format", "json").stdout)
        return [(leaf["function"], leaf["index"]) for leaf in told["leaves"]]

    assert leaves("d.2") == [(0xD, 2)]
    assert leaves("0x80000008", "1") == [(1, 0), (0x80000008, 0)]
    assert len(leaves("d")) > 2


@pytest.mark.parametrize("wanted", ["seven", "7.x", ""])
def test_what_is_no_leaf_is_refused(wanted: str) -> None:
    with pytest.raises(InputError, match="is no leaf"):
        run(HOST, wanted)


def test_a_leaf_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="none of these leaves"):
        run(HOST, "77777777")


def test_all_cpus_shows_what_differs(tmp_path: Path) -> None:
    entries = [
        f"CPU {cpu}:\n   0x00000000 0x00: eax=0x0000001a ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
        f"   0x0000001a 0x00: eax=0x{core:x}000001 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n"
        for cpu, core in enumerate((0x40, 0x40, 0x20, 0x20, 0x40))
    ]
    file = tmp_path / "hybrid.txt"
    file.write_text("".join(entries))
    shown = run(str(file), "--all-cpus").stdout
    assert "5 CPUs, 1 fields that differ" in shown
    (row,) = json.loads(run(str(file), "--all-cpus", "--format", "json").stdout)
    assert row["value"] == "Core: CPU 0-1,4; Atom: CPU 2-3"
    assert json.loads(run(str(file), "1a", "--all-cpus", "--format", "json").stdout) == [row]
    assert json.loads(run(str(file), "0", "--all-cpus", "--format", "json").stdout) == []


@pytest.mark.x86
def test_this_machine_is_decoded_without_a_source() -> None:
    assert "package" in run().stdout
