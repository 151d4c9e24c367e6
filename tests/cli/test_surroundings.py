"""What vcpuid answers hangs on no terminal's width but for folded lines, nor on the locale, who asks, or how little a process may have."""

from __future__ import annotations

import os
import pty
import re
import resource
import select
import subprocess
import sys
import tempfile
from functools import cache
from itertools import product
from pathlib import Path

import pytest

import vcpuid as package
from support.captures import capture, some
from support.command import program, vcpuid
from support.elf import EXIT, cpuids, write_program

pytestmark = pytest.mark.process
HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
GUEST = ("guest", "--host", HOST, "--cpu", "Haswell", "--qemu", "11.1", "--all")
ASKED = {"guest": GUEST, "decode": ("decode", HOST), "explain": ("explain", "avx512f", "--host", HOST), "help": ("--help",)}
VERBS = pytest.mark.parametrize("args", ASKED.values(), ids=ASKED)
LEAST = 5
"""Descriptors without which Python itself does not start where the package is an editable one."""


@cache
def usually(*args: str) -> subprocess.CompletedProcess[str]:
    """What is answered in the surroundings of this run."""
    return program(*args)


@VERBS
@pytest.mark.parametrize("width", ["1", "20", "-1", "99999999"])
def test_a_width(width: str, args: tuple[str, ...]) -> None:
    """What is no terminal has none, unless it is told; the same is said in any."""
    done, usual = program(*args, env={"COLUMNS": width}), usually(*args)
    assert (done.returncode, done.stderr) == (usual.returncode, usual.stderr)
    if args[0] in ("guest", "explain"):  # --help is cut to its width, and so are the bars of decode
        names, wanted = (set(re.findall(r"[\w.-]+", text)) for text in (done.stdout, usual.stdout))
        assert names == wanted


@VERBS
@pytest.mark.parametrize("width", ["1", "20", "160"])
def test_a_terminal_of_a_width(width: str, args: tuple[str, ...]) -> None:
    with tempfile.TemporaryFile() as errors:
        child, terminal = pty.fork()
        if child == 0:
            os.dup2(errors.fileno(), 2)
            os.execve(sys.executable, [sys.executable, "-m", "vcpuid", *args], {**os.environ, "COLUMNS": width, "TERM": "xterm"})
        shown = b""
        try:
            while part := os.read(terminal, 1 << 16):
                shown += part
        except OSError:
            pass  # the other end is closed
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        errors.seek(0)
        assert (status, errors.read().decode()) == (vcpuid(*args).returncode, usually(*args).stderr)
    assert shown


@VERBS
@pytest.mark.parametrize("locale", ["C", "POSIX", "nosuch"])
def test_a_locale(locale: str, args: tuple[str, ...]) -> None:
    env = {"LANG": locale, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done, usual = program(*args, env=env, encoding="ascii"), usually(*args)
    assert done.returncode == usual.returncode
    assert len(done.stdout) == len(usual.stdout)
    assert done.stderr == usual.stderr


@pytest.mark.parametrize("args", [GUEST, ("decode", HOST), ("collect",), ("guest",), ("probe",), ("qemu", "import", "true")], ids=" ".join)
def test_few_descriptors(args: tuple[str, ...]) -> None:
    """Either they suffice, or one line says so, with status 4: it is neither a fault nor a no."""
    usual = usually(*args)
    for count in (LEAST, 6, 7, 10, 13):
        limit = (count, count)
        done = program(*args, preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, limit))
        if done.returncode != usual.returncode or usual.returncode == 4:
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), (count, done.stderr)
        assert "fault" not in done.stderr
        assert "Traceback" not in done.stderr


EMPTY_DEV = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 2>/dev/null || : >/dev/null; exec "$@"'


@pytest.mark.parametrize(
    "args",
    [GUEST, ("decode", HOST), ("collect",), ("guest",), ("check", "host"), ("kvm", "supported"), ("probe",), ("decode", "kvm")],
    ids=" ".join,
)
def test_no_devices(args: tuple[str, ...]) -> None:
    """Without /dev/kvm and /dev/cpu what is asked of a file is answered as ever; the rest by what is left, or it is said what lacks."""
    alone = ["unshare", "--mount", "--map-root-user", "sh", "-c", EMPTY_DEV, "sh"]
    try:
        if subprocess.run([*alone, "test", "!", "-e", "/dev/kvm"], capture_output=True).returncode:
            pytest.skip("this user cannot have an empty /dev")
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    done = subprocess.run(
        [*alone, sys.executable, "-m", "vcpuid", *args], capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}
    )
    if HOST in args:
        usual = program(*args, env={"COLUMNS": "80"})
        assert (done.returncode, done.stdout, done.stderr) == (usual.returncode, usual.stdout, usual.stderr)
    assert "Traceback" not in done.stderr
    assert "fault" not in done.stderr
    assert done.returncode in (0, 1, 4), done.stderr
    assert done.returncode != 4 or ("/dev/kvm" in done.stderr and not done.stdout)


@VERBS
def test_another_user(args: tuple[str, ...], tmp_path: Path) -> None:
    """One who may look into no home, ours least of all, and has none."""
    tmp_path.chmod(0o700)
    nobody = {"user": 65533, "group": 65533, "extra_groups": [], "cwd": "/"}
    starts = [sys.executable, "-c", f"open({package.__file__!r}); open({HOST!r})"]
    try:
        if subprocess.run(starts, capture_output=True, **nobody).returncode:
            pytest.skip("another user cannot read these files")
    except PermissionError:
        pytest.skip("this user cannot be another, or another cannot start this Python")
    done = program(*args, env={"HOME": str(tmp_path)}, **nobody)
    assert (done.returncode, done.stdout) == vcpuid(*args)[:2] or args == ("--help",)
    assert not done.returncode & ~1


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two hosts, into which everybody may look."""
    folder = tmp_path_factory.mktemp("hosts")
    for name in ("kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@6.12"):
        (folder / f"{name}.txt.gz").write_bytes(capture(name).read_bytes())
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def asks(hosts: Path) -> str:
    """A program that executes CPUID and ends, which everybody may execute; beside the hosts."""
    return write_program(hosts.parent / "asks", cpuids(1) + EXIT)


MANY = {
    "fleet": ("fleet", "classes", "{hosts}"),
    "baseline": ("fleet", "baseline", "{hosts}"),
    "explore": ("explore", HOST, "--save", "{own}/page.html"),
    "record": ("record", "--no-snapshot", "-o", "{own}/recording.jsonl", "--", "true"),
    "trace": ("trace", "--step", "--", "{program}"),
    "trace guests": ("trace", "--seconds", "0.1"),
}
"""Verbs about many hosts and about what runs here, which write files, keep answers, or ask the kernel."""
PLACES = {
    "no home": {"HOME": ""},
    "a home that is no folder": {"HOME": "/dev/null"},
    "a home where nothing can be written": {"HOME": "/proc", "XDG_CACHE_HOME": "/proc/nosuch"},
    "a narrow terminal": {"COLUMNS": "20"},
    "the locale C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def told(done: subprocess.CompletedProcess[str]) -> tuple[int, list[str]]:
    """Return how a verb ended, which is no fault, and in how many words it said what on standard error."""
    assert done.returncode in (0, 1, 4), done.stderr
    assert "Traceback" not in done.stderr
    assert "fault" not in done.stderr
    return done.returncode, [" ".join(line.split()[:3]) for line in done.stderr.splitlines()]


@pytest.mark.parametrize(("verb", "place"), some(product(MANY, PLACES), 2))
def test_verbs_about_many_and_about_what_runs(verb: str, place: str, hosts: Path, asks: str, tmp_path: Path) -> None:
    args = [arg.format(hosts=hosts, own=tmp_path, program=asks) for arg in MANY[verb]]
    usual, there = told(program(*args)), told(program(*args, env=PLACES[place]))
    assert usual == there
    assert not list(hosts.glob(".*"))


@pytest.mark.parametrize("verb", MANY)
def test_the_same_as_another_user(verb: str, hosts: Path, asks: str, tmp_path: Path) -> None:
    nobody = {"user": 65533, "group": 65533, "extra_groups": [], "cwd": "/"}
    readable = [sys.executable, "-c", f"import os; open({package.__file__!r}); os.listdir({str(hosts)!r})"]
    try:
        if subprocess.run(readable, capture_output=True, **nobody).returncode:
            pytest.skip("another user cannot read these files")
    except PermissionError:
        pytest.skip("this user cannot be another, or another cannot start this Python")
    tmp_path.chmod(0o700)
    args = [arg.format(hosts=hosts, own=tmp_path, program=asks) for arg in MANY[verb]]
    status, said = told(program(*args, env={"HOME": str(tmp_path)}, **nobody))
    assert status == 0 or said, "what another may not do is said"
    writes = any("{own}" in arg for arg in MANY[verb])
    assert not writes or status == 4, "the folder is not another's to write into"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_is_told_on_standard_error_is_there_at_once(unbuffered: str) -> None:
    """A verb that takes long says how far it has come; where Python was told not to buffer, too."""
    code = "import sys; from vcpuid.cli import streams; streams.guard(); streams.tell('one of two'); sys.stdin.read()"
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        readable, _, _ = select.select([process.stderr], [], [], 10)
        process.stdin.close()
        assert readable
        assert process.stderr.read() == b"vcpuid: one of two\n"
