"""A signal ends vcpuid as it ends a program that knows nothing of signals: without a word, by the signal itself, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.captures import capture

pytestmark = pytest.mark.process
HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
STARTS = {"script": [str(Path(sys.executable).with_name("vcpuid"))], "module": [sys.executable, "-m", "vcpuid"]}
KILL = "import os, signal; os.kill(os.getpid(), signal.{})\n"
MOMENTS = {
    "while the command line is imported": ("click.py", "{}"),
    "while a verb is imported": ("csv.py", "{}"),
    "where Python passes over errors": ("csv.py", "class Last:\n    def __del__(self):\n        {}Last()\nraise SystemExit(0)\n"),
    "when the interpreter ends": ("sitecustomize.py", "import atexit\n@atexit.register\ndef last():\n    {}"),
}
"""Where a module of this name on the way sends the signal."""
QEMU = """\
#!{python}
import os, sys, time
print('{{"QMP": {{"version": {{"qemu": {{"major": 11, "minor": 1, "micro": 0}}}}}}}}', flush=True)
open({pid!r}, "w").write(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_at_any_moment(moment: str, start: str, number: signal.Signals, tmp_path: Path) -> None:
    name, code = MOMENTS[moment]
    (tmp_path / name).write_text(code.format(KILL.format(number.name)), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*STARTS[start], "decode", HOST], env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (-number, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_children_are_ended_and_half_written_files_taken_away(number: signal.Signals, tmp_path: Path) -> None:
    binary, pid = tmp_path / "qemu", tmp_path / "pid"
    binary.write_text(QEMU.format(python=sys.executable, pid=str(pid)), encoding="utf-8")
    binary.chmod(0o755)
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    process = subprocess.Popen([*STARTS["module"], "qemu", "import", str(binary)], env=env, stderr=subprocess.PIPE)
    while not (pid.exists() and pid.read_text(encoding="utf-8")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert (process.communicate(timeout=60)[1], process.returncode) == (b"", -number)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text(encoding="utf-8")), 0)
    assert not list(tmp_path.glob("data/**/*"))


def test_while_it_waits_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    process = subprocess.Popen([*STARTS["module"], "decode", str(tmp_path / "fifo")], stderr=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=60)[1], process.returncode) == (b"", -signal.SIGINT)


def test_while_nobody_reads_on() -> None:
    """What is left to write would wait for ever."""
    inner, outer = os.pipe()
    os.set_blocking(outer, False)
    try:
        while True:
            os.write(outer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(outer, True)
    process = subprocess.Popen([*STARTS["module"], "decode", HOST], stdout=outer, stderr=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    try:
        assert (process.communicate(timeout=20)[1], process.returncode) == (b"", -signal.SIGTERM)
    finally:
        process.kill()
        os.close(inner)
        os.close(outer)


def test_one_that_was_ignored_stays_so(tmp_path: Path) -> None:
    (tmp_path / "csv.py").write_text(KILL.format("SIGINT") + "raise SystemExit(7)\n", encoding="utf-8")
    command = 'trap "" INT; exec "$@"'
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(["sh", "-c", command, "-", *STARTS["module"], "decode", HOST], env=env, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, b"")
