"""Answers fit a terminal of 24 lines and 100 columns unless all is asked for, begin with the answer, and say where they are cut."""

from __future__ import annotations

import pytest

from support.tools import load_tool

TRANSCRIPTS = load_tool("transcripts")
SKYLAKE, MILAN, UNTOLD = (
    f"tests/captures/{name}.txt.gz"
    for name in ("kvm/kvm-intel.corei7_skylake_x@6.12", "kvm/kvm-amd.EPYC-Milan-v2@7.3", "reports/cascade-lake-without-msrs")
)
QEMU = "--qemu 11.1"

ANSWERS = {
    f"guest --host {SKYLAKE} {QEMU}": "The guest sees ",
    f"guest --host {MILAN} --cpu Haswell {QEMU}": "The guest sees ",
    f"guest --host {UNTOLD} {QEMU}": "The guest sees ",
    f"worth --host {SKYLAKE} --cpu qemu64 {QEMU}": "The guest reaches x86-64, its host x86-64-v4",
    f"diff {SKYLAKE} --cpu Haswell {QEMU}": "46 features differ",
    f"diff {SKYLAKE} {MILAN} --flags": "",
    f"diff {SKYLAKE} --cpu host --by register {QEMU}": "",
    f"drift {MILAN} --from kernel=6.1,qemu=7.2 --to kernel=7.3,qemu=11.1,nested=0": "The guest loses ",
    "rules kvm": "",
}
"""What begins the first line of an answer."""


@pytest.mark.process
@pytest.mark.parametrize("command", ANSWERS)
def test_an_answer_is_a_screen_and_begins_with_the_answer(command: str) -> None:
    _, lines = TRANSCRIPTS.run(f"vcpuid {command}")
    assert lines[0].startswith(ANSWERS[command])
    assert len(lines) <= 24
    assert max(map(len, lines)) <= TRANSCRIPTS.COLUMNS
    assert any("--all prints" in line for line in lines[-2:]), "a cut answer says so"
    _, whole = TRANSCRIPTS.run(f"vcpuid {command} --all")
    assert whole[0] == lines[0]
    assert len(whole) > len(lines)
