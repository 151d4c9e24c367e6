"""A command under ptrace runs as it would alone, stops where a filter says, and never outlives its tracer."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.system() != "Linux" or platform.machine() != "x86_64", reason="ptrace as on Linux on x86-64")

BEGIN = """
import os, sys
from vcpuid.live import ptrace, seccomp
from vcpuid.live.tracees import Kind, Tracees
GETPPID, UMASK = 110, 95
filter_ = seccomp.program({UMASK: (0, [0o123, 0o124])})
seen = []
with Tracees(sys.argv[1:], filter_) as tracees:
    for stop in tracees.stops(20):
"""
GO = """
        if stop.kind is Kind.CALL:
            seen.append(("call", *ptrace.call(stop.tid)[1:]))
            ptrace.go_to_call(stop.tid)
        elif stop.kind is Kind.RETURN:
            seen.append(("returned", ptrace.returned(stop.tid)))
            ptrace.go(stop.tid)
        elif stop.kind is Kind.EXEC:
            ptrace.go(stop.tid)
        elif stop.kind is Kind.SIGNAL:
            ptrace.go(stop.tid, stop.signal)
"""
END = """
print(tracees.status, seen)
"""


def traced(*command: str, script: str = BEGIN + GO + END, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, timeout=60, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(("ends", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)])
def test_a_commands_own_end_is_told_as_a_shell_tells_it(ends: str, status: int) -> None:
    assert traced("sh", "-c", ends).stdout == f"{status} []\n"


CALLS = "import os, sys, threading; os.umask(0o22); run = lambda: (os.umask(0o123), os.umask(0o22)); "
BECOME = "os.execv(sys.executable, [sys.executable, '-c', 'import os; os.umask(0o22); os.umask(0o123)'])"


@pytest.mark.parametrize(
    "program",
    [
        "run()",
        "t = threading.Thread(target=run); t.start(); t.join()",
        "p = os.fork(); run() if p == 0 else os.waitpid(p, 0)",
        BECOME,
        f"threading.Thread(target=lambda: {BECOME}).start()",
    ],
    ids=["itself", "in a thread", "in a child", "after exec", "after exec of a thread"],
)
def test_the_calls_that_the_filter_names_are_seen_wherever_they_are_made(program: str) -> None:
    done = traced(sys.executable, "-c", CALLS + program)
    assert "('call', 95, (83, " in done.stdout, done
    assert "('returned', 18)" in done.stdout
    assert "(18, " not in done.stdout


def test_a_call_is_made_for_a_stopped_thread_and_leaves_no_trace_in_it() -> None:
    made = "            seen.append(ptrace.make_call(stop.tid, GETPPID) == os.getpid())"
    script = BEGIN + GO.replace("Kind.EXEC:\n", f"Kind.EXEC:\n{made}\n") + END
    assert traced("sh", "-c", "exit 3", script=script).stdout == "3 [True]\n"


def test_signals_reach_the_command_and_its_own_handling_counts() -> None:
    assert traced("sh", "-c", "trap 'exit 9' USR1; kill -USR1 $$; sleep 9").stdout == "9 []\n"


def test_a_signal_to_the_tracer_is_the_commands() -> None:
    script = BEGIN + GO + END
    with subprocess.Popen([sys.executable, "-c", script, "sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"],
                          stdout=subprocess.PIPE, text=True) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "5 []\n"


def test_what_the_command_leaves_running_gets_the_signal_in_its_place() -> None:
    left = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
    command = [sys.executable, "-c", BEGIN + GO + END, "sh", "-c", f'setsid sh -c "{left}" & exit 6']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "6 []\n"


def test_what_ignores_sigterm_is_ended_when_the_time_is_over_or_the_tracer_closes() -> None:
    script = (BEGIN + GO + END).replace("stops(20)", "stops(0.2)")
    assert traced("sh", "-c", "exec sleep 99", script=script).stdout == "143 []\n"


@pytest.mark.long
def test_sigkill_of_the_tracer_leaves_nothing_behind(tmp_path: Path) -> None:
    command = f"echo $$ > {tmp_path}/parent; (echo $(exec sh -c 'echo $PPID') > {tmp_path}/child; while :; do sleep 0.1; done)"
    process = subprocess.Popen([sys.executable, "-c", BEGIN + GO + END, "sh", "-c", command])
    numbers = [tmp_path / "parent", tmp_path / "child"]
    wait_for(lambda: all(file.exists() and file.read_text(encoding="utf-8").strip() for file in numbers))
    process.kill()
    process.wait()
    wait_for(lambda: not any(os.path.exists(f"/proc/{file.read_text(encoding='utf-8').strip()}") for file in numbers))


def wait_for(so: object) -> None:
    for _ in range(400):
        if so():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to be in 20 s")


def test_a_command_that_is_not_there_is_bad_input() -> None:
    assert "InputError: no-such-program: there is no such program" in traced("no-such-program").stderr
    assert "InputError: /: it is a folder, and no program" in traced("/").stderr
    assert "InputError: '': there is no such program" in traced("").stderr
