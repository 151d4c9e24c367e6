"""What nobody foresaw ends with status 70 and one line that asks for a report; what the machine has none left of is no such thing."""

from __future__ import annotations

import errno
import os

import pytest

from support.command import Done, vcpuid
from vcpuid import __version__
from vcpuid.cpuid import card

LINE = "vcpuid: a fault of vcpuid {} itself, please report it: {} ({})\n"
NAMES = ("names", "avx2")


def where(done: Done) -> str:
    return done.stderr.rpartition("(")[2].split(")")[0].split(",")[0]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Exception:
    """The verb meets an error that it does not know."""
    error: Exception = getattr(request, "param", RuntimeError("two\nlines"))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(card, "look_up", fail)
    return error


@pytest.mark.usefixtures("broken")
def test_a_fault_is_one_line_with_version_and_place_and_status_70() -> None:
    done = vcpuid(*NAMES)
    assert (done.returncode, done.stdout) == (70, "")
    module, _, line = where(done).partition(":")
    assert module == "vcpuid.cli.names"
    assert line.isdecimal()
    assert done.stderr == LINE.format(__version__, "RuntimeError: two lines", f"{where(done)}, --traceback shows the rest")


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("arguments", [("--traceback", *NAMES), (*NAMES, "--traceback")])
def test_traceback_shows_the_rest_wherever_it_stands(arguments: tuple[str, ...]) -> None:
    done = vcpuid(*arguments)
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("RuntimeError: two\nlines\n" + LINE.format(__version__, "RuntimeError: two lines", where(done)))


@pytest.mark.parametrize(
    "broken", [BrokenPipeError(errno.EPIPE, "Broken pipe"), EOFError("no more"), OSError(errno.EIO, "I/O")], indirect=True
)
def test_click_answers_no_fault_by_itself(broken: Exception) -> None:
    """It takes a broken pipe for a reader that has gone, and EOFError for Ctrl-D."""
    done = vcpuid(*NAMES)
    assert done.returncode == 70
    assert f"{type(broken).__name__}: {broken} (vcpuid.cli.names:" in done.stderr


@pytest.mark.parametrize(
    ("broken", "told"),
    [(OSError(number, os.strerror(number)), os.strerror(number)) for number in (errno.EMFILE, errno.ENOMEM, errno.EAGAIN)]
    + [(MemoryError(), "out of memory")],
    indirect=["broken"],
)
@pytest.mark.usefixtures("broken")
def test_what_the_machine_has_none_left_of_is_no_fault(told: str) -> None:
    assert vcpuid(*NAMES) == (4, "", f"vcpuid: {told}\n")
