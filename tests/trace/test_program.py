"""A program's CPUIDs are counted to the last one, by faulting and by stepping, those of its threads and children too."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command import vcpuid
from support.elf import ENTRY, EXIT, FORK, THREAD, WAIT, cpuids, create, exit_with, forked, write_program
from vcpuid.errors import InputError, UnavailableError
from vcpuid.live import faulting as live_faulting
from vcpuid.live.faulting import NoFaultError, require_faulting
from vcpuid.trace.objects import CodePlace
from vcpuid.trace.program import ProgramTrace, cpuid_length, faulting, stepping

pytestmark = pytest.mark.x86

Tracer = Callable[[list[str]], ProgramTrace]
FIRST = ENTRY + 16
"""Where the CPUID of `cpuids` stands in the file."""


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(params=[faulting, stepping], ids=lambda way: way.__name__)
def tracer(request: pytest.FixtureRequest) -> Tracer:
    if request.param is faulting:
        try:
            require_faulting()
        except UnavailableError as lack:
            pytest.skip(str(lack))
    way: Tracer = request.param
    return way


def test_each_cpuid_is_counted_with_its_leaf_and_place(tmp_path: Path, tracer: Tracer) -> None:
    program = write_program(tmp_path / "seven", cpuids(7, function=4, index=2) + cpuids(1, function=0x80000000) + EXIT)
    found = tracer([program])
    assert (found.total, found.execs, found.threads, found.status) == (8, 1, 1, 0)
    first, second = sorted(found.counts, key=lambda kind: kind.function)
    assert (first.program, first.place, first.function, first.index) == ("seven", CodePlace("seven", FIRST), 4, 2)
    assert (second.function, found.counts[second]) == (0x80000000, 1)


@pytest.mark.parametrize("instruction", ["480fa2", "660fa2", "67660fa2", "f30fa2", "2e640fa2"])
def test_prefixes_change_nothing(tmp_path: Path, tracer: Tracer, instruction: str) -> None:
    assert tracer([write_program(tmp_path / "prefixed", cpuids(3, instruction) + EXIT)]).total == 3


@pytest.mark.parametrize("start", [FORK, THREAD], ids=["child", "thread"])
def test_children_and_threads_are_followed(tmp_path: Path, tracer: Tracer, start: bytes) -> None:
    found = tracer([write_program(tmp_path / "two", cpuids(2) + start + cpuids(5, function=1) + WAIT + EXIT)])
    assert (found.total, found.threads, found.left) == (12, 2, 0)


@pytest.mark.long
def test_it_is_over_when_the_command_is_and_what_that_leaves_goes_on(tmp_path: Path, tracer: Tracer) -> None:
    """The child is let go in the middle of its CPUIDs, of which each takes long under a tracer."""
    child = cpuids(3_000_000) + create(tmp_path / "marker")
    found = tracer([write_program(tmp_path / "leaves", cpuids(2) + forked(child, cpuids(3) + exit_with(7)))])
    assert (found.status, found.left, found.threads) == (7, 1, 2)
    assert 5 <= found.total < 1_000_000
    assert not (tmp_path / "marker").exists()
    wait_for(lambda: (tmp_path / "marker").exists())


@pytest.mark.parametrize(("ends", "status"), [(exit_with(0), 0), (exit_with(9), 9), (b"\x0f\x0b", 128 + signal.SIGILL)])
def test_the_verb_ends_as_the_command_does(tmp_path: Path, ends: bytes, status: int) -> None:
    program = write_program(tmp_path / "ends", cpuids(1) + forked(cpuids(1_000_000) + EXIT, ends))
    done = vcpuid("trace", "--step", "--", program)
    assert done.returncode == status
    assert f"; ended with status {status}\n" in done.stdout
    assert "\nIt left 1 process running, of which nothing is counted from then on\n" in done.stdout


def test_what_is_left_waiting_waits_on(tmp_path: Path) -> None:
    """As a daemon that reads from a pipe does: the call that it is in goes on as if nothing had been."""
    inner, outer = os.pipe()
    read = bytes.fromhex(f"b800000000 bf{inner:02x}000000 4889e6 ba01000000 0f05")
    os.set_inheritable(inner, True)
    child = read + create(tmp_path / "marker")
    found = stepping([write_program(tmp_path / "waits", forked(child, exit_with(0)))])
    assert (found.status, found.left) == (0, 1)
    time.sleep(0.3)
    assert not (tmp_path / "marker").exists()
    os.write(outer, b"x")
    wait_for(lambda: (tmp_path / "marker").exists())
    os.close(inner)
    os.close(outer)


def test_a_stop_is_seen_of_which_another_thread_took_the_signal(tmp_path: Path, tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process's SIGCHLD goes to any of its threads, and one that ignores it takes it away from the one that is about to wait for it."""
    wait, done = os.waitpid, threading.Event()

    def late(pid: int, options: int) -> tuple[int, int]:
        found = wait(pid, options)
        if not found[0]:
            time.sleep(0.02)
        return found

    monkeypatch.setattr("vcpuid.live.tracees.os.waitpid", late)
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        assert tracer([write_program(tmp_path / "two", cpuids(2) + FORK + cpuids(5, function=1) + WAIT + EXIT)]).total == 12
    finally:
        done.set()
        other.join()


def test_the_answers_are_the_processors(tmp_path: Path, tracer: Tracer) -> None:
    """The program exits with AL of CPUID's leaf 0."""
    leave = bytes.fromhex("89c7 b83c000000 0f05")
    program = write_program(tmp_path / "highest", cpuids(1) + leave)
    assert tracer([program]).status == subprocess.run([program]).returncode


def test_a_programs_own_faults_stay_its_own(tmp_path: Path, tracer: Tracer) -> None:
    """What is no CPUID kills as without a tracer: a bad address, and a breakpoint."""
    bad = write_program(tmp_path / "bad", cpuids(1) + bytes.fromhex("8b042500000000"))
    assert tracer([bad]).status == 128 + signal.SIGSEGV
    for name, address in (("nowhere", 0), ("kernels", 0xFFFFFFFF81000000)):
        astray = write_program(tmp_path / name, cpuids(1) + b"\x48\xb8" + address.to_bytes(8, "little") + bytes.fromhex("ffe0"))
        found = tracer([astray])
        assert (found.total, found.status) == (1, 128 + signal.SIGSEGV)
    trap = write_program(tmp_path / "trap", cpuids(1) + b"\xcc" + EXIT)
    assert tracer([trap]).status == 128 + signal.SIGTRAP


def test_a_folder_is_said_to_be_no_program(tmp_path: Path, tracer: Tracer) -> None:
    with pytest.raises(InputError, match=r"it is a folder, and no program$"):
        tracer([str(tmp_path)])


def test_a_name_of_two_lines_makes_one_row(tmp_path: Path) -> None:
    done = vcpuid("trace", "--step", "--by", "program,leaf", "--", write_program(tmp_path / "a\nb", cpuids(3, function=4) + EXIT))
    assert [line.split() for line in done.stdout.splitlines() if line.startswith("a")] == [["a\\nb", "00000004", "0", "3"]]


def test_a_command_that_is_not_there_is_bad_input(tracer: Tracer) -> None:
    with pytest.raises(InputError, match="no-such-program: there is no such program"):
        tracer(["no-such-program"])


def test_after_some_seconds_it_is_ended(tmp_path: Path) -> None:
    pause = write_program(tmp_path / "pause", cpuids(1) + bytes.fromhex("b822000000 0f05"))
    found = stepping([pause], 0.3)
    assert (found.total, found.status) == (1, 128 + signal.SIGTERM)


@pytest.mark.slow
def test_a_shell_and_what_it_starts(tracer: Tracer) -> None:
    found = tracer(["sh", "-c", "true; /bin/true | cat"])
    assert found.execs == 3
    assert {"true", "cat"} < {kind.program for kind in found.counts}
    assert {kind.place.object for kind in found.counts} == {"ld-linux-x86-64.so.2"}


@pytest.mark.slow
def test_faulting_and_stepping_count_the_same() -> None:
    try:
        by_fault = faulting(["true"])
    except UnavailableError as lack:
        pytest.skip(str(lack))
    assert by_fault.counts.total() == stepping(["true"]).counts.total()


@pytest.mark.parametrize(
    ("code", "cs", "length"),
    [
        ("0fa2", 0x33, 2),
        ("480fa2", 0x33, 3),
        ("480fa2", 0x23, 0),  # DEC EAX, and only then CPUID
        ("660fa2", 0x23, 3),
        ("0fa3", 0x33, 0),
        ("0f", 0x33, 0),
        ("66" * 14, 0x33, 0),
        ("", 0x33, 0),
    ],
)
def test_what_is_a_cpuid(code: str, cs: int, length: int) -> None:
    assert cpuid_length(bytes.fromhex(code), cs) == length


def test_where_nothing_faults_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call that does not do what it says is as good as none: it is tried, not believed."""
    monkeypatch.setattr(live_faulting, "ARCH_PRCTL", 39)  # getpid, which is no failure only where it is 0: refused
    with pytest.raises(NoFaultError, match=r"does not let Linux make it$"):
        require_faulting()
    told = vcpuid("trace", "--by", "leaf,program", "--", "echo", "a b")
    assert (told.returncode, told.stdout) == (4, "")
    assert told.stderr.endswith(": vcpuid trace --step --by leaf,program -- echo 'a b'\n")
    monkeypatch.setattr(live_faulting, "ARCH_PRCTL", 24)  # sched_yield: it succeeds, and nothing faults
    with pytest.raises(NoFaultError, match="said that it would"):
        require_faulting()
