"""Work shared out among forks gives what it gives alone, in order, whatever becomes of the forks; and none of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.process

_START = """
import os, signal, sys, time
from vcpuid.fleet import hands
hands._processors = lambda: 3
here = os.getpid()
"""


def _run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, which has one thread."""
    return subprocess.run([sys.executable, "-c", _START + script], capture_output=True, text=True, timeout=60, check=False)


def test_forks_share_the_work_and_the_results_come_in_order() -> None:
    done = _run("""
found = list(hands.on_each(lambda item: (item * item, os.getpid()), range(100)))
assert [square for square, _ in found] == [item * item for item in range(100)]
assert len({pid for _, pid in found}) == 3 and here not in {pid for _, pid in found}
few = list(hands.on_each(lambda item: os.getpid(), range(2 * hands.SHARE - 1)))
assert set(few) == {here}
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_with_threads_does_it_alone() -> None:
    done = _run("""
import threading
threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
assert set(hands.on_each(lambda item: os.getpid(), range(100))) == {here}
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_fork_does_not_answer_is_worked_out_here_errors_and_all() -> None:
    done = _run("""
def work(item):
    if item == 40 and os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 90:
        raise ValueError("item 90")
    return item, os.getpid() == here

found = []
try:
    for one in hands.on_each(work, range(100)):
        found.append(one)
except ValueError as error:
    assert str(error) == "item 90"
assert [item for item, _ in found] == list(range(90))
assert [item for item, alone in found if alone] == list(range(40, 90, 3))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    sys.exit(0)
sys.exit("a fork is left")
""")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_no_fork_outlives_the_process_and_none_of_them_complains(ended_by: signal.Signals) -> None:
    script = """
for _ in hands.on_each(lambda item: time.sleep(0.01) or b"0" * 100_000, range(100_000)):
    print(here, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", _START + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    if ended_by is signal.SIGINT:
        os.killpg(process.pid, ended_by)  # as a terminal does
    else:
        process.kill()
    _, complaint = process.communicate(timeout=60)
    assert complaint.count("Traceback") == (ended_by is signal.SIGINT)
    for _ in range(200):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a fork is left")
