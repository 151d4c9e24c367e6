"""What no CPU has is refused before it takes memory and time: thousands of entries in one table; and text that cannot be written back."""

from __future__ import annotations

import json

import pytest

from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import parse
from vcpuid.formats.lines import ENTRY_LIMIT, MSR_LIMIT
from vcpuid.formats.writing import write

MOST = CpuidTable(Entry(number, 0, 0, 1, 2, 3, 4) for number in range(ENTRY_LIMIT))
MORE = CpuidTable([*MOST, Entry(ENTRY_LIMIT, 0, 0, 1, 2, 3, 4)])
RAW = [{"function": "0", "index": "0", "flags": 0, "eax": "0", "ebx": "0", "ecx": "0", "edx": "0"}]
CAUSE = f"more than {ENTRY_LIMIT} entries in one table"


def text_of(*lines: str) -> str:
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("kind", ["RAW {:08x}.0", "SUP {:08x}.0 f0", "TAB {:08x}.0 f0", "GOT {:08x}.0 f0"])
def test_a_snapshots_table(kind: str) -> None:
    lines = [f"{kind.format(entry.function)} 00000001 00000002 00000003 00000004" for entry in MORE]
    (cpu,) = parse(text_of(*lines[:-1]), "host.txt")
    assert MOST in (cpu.raw, cpu.supported, cpu.table, cpu.kept)
    with pytest.raises(InputError, match=f"^host.txt:{ENTRY_LIMIT + 1}: {CAUSE}"):
        parse(text_of(*lines), "host.txt")


@pytest.mark.bounds
@pytest.mark.parametrize("part", ["raw", "supported", "table"])
def test_a_table_in_json(part: str) -> None:
    text = text_of(*write([Snapshot(**{part: MOST})], "json"))  # type: ignore[arg-type]
    assert getattr(parse(text, "host.json")[0], part) == MOST
    value = json.loads(text)
    value[part].append({**value[part][0], "function": "ffff"})
    with pytest.raises(InputError, match=rf"^host.json: not of the form of vcpuid's JSON: .* at most {ENTRY_LIMIT} entries"):
        parse(json.dumps(value), "host.json")


@pytest.mark.parametrize("kind", ["MSR", "HWMSR"])
def test_a_snapshots_msrs(kind: str) -> None:
    lines = [f"{kind} {index:x} {index & 1} 0" for index in range(MSR_LIMIT + 1)]
    raw = "RAW 00000000.0 00000000 00000000 00000000 00000000"
    (cpu,) = parse(text_of(raw, *lines[:-1]), "host.txt")
    assert MSR_LIMIT // 2 in {len(msrs.refused) for msrs in (cpu.msrs, cpu.hardware_msrs)}
    with pytest.raises(InputError, match=f"^host.txt:{MSR_LIMIT + 2}: more than {MSR_LIMIT} {kind} lines: no CPU has as many"):
        parse(text_of(raw, *lines), "host.txt")
    with pytest.raises(InputError, match=f"not of the form of vcpuid's JSON: a snapshot has at most {MSR_LIMIT} MSRs"):
        parse(json.dumps({"raw": RAW, "refused_msrs": [f"{index:x}" for index in range(MSR_LIMIT + 1)]}), "host.json")


@pytest.mark.parametrize(
    "cpu",
    [
        Snapshot(raw=MOST, msrs=MsrTable(refused=range(MSR_LIMIT + 1))),
        Snapshot(raw=MORE),
        Snapshot(supported=MORE),
        Snapshot(raw=MOST, cpu="\udc80"),
    ],
)
def test_what_would_not_be_read_is_not_written(cpu: Snapshot) -> None:
    with pytest.raises(InputError, match="a snapshot"):
        list(write([cpu], "snapshot"))


@pytest.mark.parametrize(
    "told", [{"cpu": "\ud800"}, {"notes": ["a \udfff"]}, {"cpuinfo": {"flags": "\ud834"}}, {"params": {"\udd1e": "Y"}}]
)
def test_half_of_a_character_in_json(told: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"^host.json: not of the form of vcpuid's JSON: .* half of a character"):
        parse(json.dumps({"raw": RAW, **told}), "host.json")


def test_both_halves_of_a_character_in_json() -> None:
    text = json.dumps({"raw": RAW, "cpu": "\U0001f600"})
    assert "\\ud83d\\ude00" in text
    assert "".join(write(parse(text, "host.json"), "json")).encode()
