"""What nobody foresaw ends with status 70 and one line that asks for a report."""

from __future__ import annotations

import sys

import pytest

from vcpuid import cli
from vcpuid.cpuid import card


def fail(*_: object) -> None:
    raise RuntimeError("two\nlines")


@pytest.fixture(autouse=True)
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "look_up", fail)


def test_a_fault_is_one_line_and_status_70(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["vcpuid", "names", "avx2"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (70, "")
    assert told.err == "vcpuid: a fault of vcpuid itself, please report it: RuntimeError: two lines (--traceback shows where)\n"


@pytest.mark.parametrize("arguments", [["--traceback", "names", "avx2"], ["names", "avx2", "--traceback"]])
def test_traceback_shows_it_wherever_it_stands(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vcpuid", *arguments])
    with pytest.raises(RuntimeError, match="two"):
        cli.main()
