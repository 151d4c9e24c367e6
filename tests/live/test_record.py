"""vcpuid record on this machine: VMMs recorded for real, running guests read, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command import program
from vcpuid.cpuid import CpuidTable
from vcpuid.formats.files import read_text
from vcpuid.formats.recorded_calls import Recording
from vcpuid.formats.recording import read_recording
from vcpuid.live.kvm_device import Kvm
from vcpuid.sources import read, read_all

pytestmark = [pytest.mark.kvm, pytest.mark.process]

VMM = """
import os, sys, threading
from vcpuid.live.kvm_device import Kvm

def guest(vcpus=1, run=False, again=False):
    with Kvm(os.environ.get("KVM", "/dev/kvm")) as kvm, kvm.create_vm() as vm:
        table = kvm.supported_cpuid()
        kvm.emulated_cpuid(); kvm.feature_msrs()
        held = []
        for number in range(vcpus):
            vcpu = vm.create_vcpu(number)
            held.append(vcpu)
            vcpu.set_cpuid(table)
            vcpu.set_msrs([(0x10, 0)])
            vcpu.get_cpuid()
            if run:
                try: vcpu.run(0.2)
                except Exception: pass
            if again:
                try: vcpu.set_cpuid(table)
                except Exception: pass
        if "hold" in sys.argv: print("up", flush=True); sys.stdin.read()
        for vcpu in held: vcpu.close()
"""


def recorded(tmp_path: Path, *command: str, status: int = 0, **more: object) -> Recording:
    path = tmp_path / "r.jsonl.gz"
    done = program("record", "-o", str(path), "--", *command, **more)
    assert done.returncode == status, done.stderr
    return read_recording(read_text(path)[1], str(path))


def fake(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", VMM + code, *arguments]


def names(recording: Recording) -> list[str]:
    return [call.name for call in recording.calls]


def test_a_vmms_talk_is_recorded_whole(tmp_path: Path) -> None:
    found = recorded(tmp_path, *fake("guest(2)"))
    assert [name for name in names(found) if name.startswith("KVM_SET") or "SUPPORTED_C" in name] == [
        "KVM_GET_SUPPORTED_CPUID", "KVM_SET_CPUID2", "KVM_SET_MSRS", "KVM_SET_CPUID2", "KVM_SET_MSRS",
    ]  # fmt: skip
    assert {"ARCH_REQ_XCOMP_GUEST_PERM", "KVM_CHECK_EXTENSION", "KVM_CREATE_VM", "KVM_GET_EMULATED_CPUID"} <= set(names(found))
    (guest,) = found.guests
    assert [vcpu.number for vcpu in guest] == [0, 1]
    assert guest[0].handed is not None
    assert guest[0].handed.table == found.host.supported
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu:  # a KVM may add entries, and leave others out
        vcpu.set_cpuid(guest[0].handed.table or CpuidTable())
        assert [entry[:2] for entry in guest[0].kept or ()] == [entry[:2] for entry in vcpu.get_cpuid()]
    assert (guest[0].handed.vcpu, guest[1].handed and guest[1].handed.vcpu) == (0, 1)
    host = read("kvm")
    assert (found.host.msrs, found.kernel) == (host.msrs, host.kernel)
    assert found.host.raw.get(0) == host.raw.get(0)  # the snapshot that goes with it
    assert found.program(guest[0]) is not None


@pytest.mark.parametrize(
    "code",
    [
        "t = threading.Thread(target=guest); t.start(); t.join()",
        "p = os.fork(); guest() if p == 0 else os.waitpid(p, 0)",
        "p = os.fork(); guest(); os._exit(0) if p == 0 else os.waitpid(p, 0)",
        "os.environ.pop('ONCE', '') and os.execv(sys.executable, [sys.executable, '-c', sys.orig_argv[2]]); guest()",
        "os.setsid() if os.fork() == 0 else os._exit(0); guest()",
    ],
    ids=["thread", "child", "both", "exec", "daemon"],
)  # fmt: skip
def test_threads_children_and_programs_that_it_becomes_are_recorded(code: str, tmp_path: Path) -> None:
    found = recorded(tmp_path, *fake(code), env={"ONCE": "1"})
    assert len(found.guests) == (2 if "os._exit(0) if p == 0" in code else 1)
    assert all(len(guest) == 1 for guest in found.guests)


def test_a_table_after_the_vcpu_ran_is_late(tmp_path: Path) -> None:
    (vcpu,) = recorded(tmp_path, *fake("guest(1, run=True, again=True)")).vcpus
    assert [call.ran for call in vcpu.sets] == [False, True]


def test_the_exit_status_is_the_commands_own(tmp_path: Path) -> None:
    for status in (0, 1, 7):
        assert program("record", "-o", str(tmp_path / "r"), "--", "sh", "-c", f"exit {status}").returncode == status
    assert program("record", "-o", str(tmp_path / "r"), "--", "sh", "-c", "kill -SEGV $$").returncode == 139
    done = program("record", "-o", str(tmp_path / "r"), "--", "no-such-vmm")
    assert (done.returncode, done.stderr) == (3, "vcpuid: no-such-vmm: there is no such program\n")
    done = program("record", "-o", str(tmp_path / "r"), "--", "")
    assert (done.returncode, done.stderr) == (3, "vcpuid: '': there is no such program\n")
    done = program("record", "-o", str(tmp_path / "none" / "r"), "--", "true")
    assert done.returncode == 4
    assert done.stderr.endswith("none/r: cannot be written: No such file or directory\n")


def test_what_says_nothing_to_kvm_is_told(tmp_path: Path) -> None:
    assert program("record", "-o", str(tmp_path / "r"), "--", "true").stderr == "vcpuid: nothing in it set or asked for CPUID at KVM\n"


def test_the_command_has_its_own_input_and_output(tmp_path: Path) -> None:
    done = program("record", "-o", str(tmp_path / "r"), "--", "sh", "-c", "cat; echo err >&2", input="in")
    assert done.stdout == "in"
    assert done.stderr.startswith("err\n")


@contextmanager
def running(*command: str, ready: str = "up\n") -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == ready
            yield process
        finally:
            process.kill()


def recorder(path: Path, *command: str) -> list[str]:
    return [sys.executable, "-m", "vcpuid", "record", "-o", str(path), "--", *command]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_vmm_and_the_recording_is_whole(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    with running(*recorder(path, *fake("guest(1)", "hold"))) as process:
        process.send_signal(number)
        process.wait(30)
    assert process.returncode in ((1, 130) if number is signal.SIGINT else (143,))  # Python tells of a Ctrl-C itself
    assert len(read_all(path)) == 1


def test_sigkill_of_the_recorder_leaves_no_vmm(tmp_path: Path) -> None:
    marker = f"mark-{os.getpid()}-{tmp_path.name}"
    with running(*recorder(tmp_path / "r", *fake("guest(1)", "hold", marker))) as process:
        assert marked(marker) == 2
        process.kill()
        process.wait()
        for _ in range(200):
            if not marked(marker):
                break
            time.sleep(0.05)
    assert not marked(marker)


def test_sigkill_of_the_recorder_leaves_what_was_said_up_to_then(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with running(*recorder(path, *fake("guest(1)", "hold"))) as process:
        process.kill()
        process.wait()
    assert [snapshot.table is not None for snapshot in read_all(path)] == [True]


def marked(marker: str) -> int:
    """Count the processes with a word on their command line."""
    found = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found += marker.encode() in command
    return found


def test_a_running_guest_is_read_without_touching_it_and_by_asking_in_its_name(tmp_path: Path) -> None:
    with running(*fake("guest(2)", "hold")) as process:
        asked = tmp_path / "asked.jsonl"
        done = program("record", "--pid", str(process.pid), "--inject", "-o", str(asked))
        assert done.returncode == 0, done.stderr
        kept = program("record", "--pid", str(process.pid))
        assert process.poll() is None
        assert Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").count("TracerPid:\t0") == 1
    inside = [snapshot.kept for snapshot in read_all(asked)]
    assert len(inside) == 2
    assert all(inside)
    if kept.returncode == 4:
        pytest.skip(kept.stderr)
    read_by_bpf = tmp_path / "kept.jsonl"
    read_by_bpf.write_text(kept.stdout, encoding="utf-8")
    assert [snapshot.kept for snapshot in read_all(read_by_bpf)] == inside


def test_a_vmm_under_a_filter_of_its_own_is_asked_past_it_or_left_alone(tmp_path: Path) -> None:
    mmap = "from vcpuid.live import seccomp; seccomp.install(seccomp.program({9: (0, [0])}))"  # without a tracer, such an mmap fails
    code = f"""
class Filtered:
    def read(self):
        {mmap}
        print("up", flush=True)
        sys.__stdin__.read()
from vcpuid.live import seccomp
sys.stdin, sys.argv[1:] = Filtered(), ["hold"]
guest(1)"""
    with running(*fake(code)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        path = tmp_path / "r.jsonl"
        done = program("record", "--pid", str(process.pid), "--inject", "--no-snapshot", "-o", str(path))
        assert process.poll() is None
        assert "Seccomp:\t2" in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    if done.returncode == 4:
        assert "it runs under a seccomp filter, which might end it for a call of ours; only root can suspend that" in done.stderr
    else:
        assert [len(snapshot.kept or ()) > 20 for snapshot in read_all(path)] == [True]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda end: end.name)
def test_every_table_on_the_host_is_recorded_and_the_file_is_whole(end: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    command = [sys.executable, "-m", "vcpuid", "record", "--host", "-o", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(400):  # its first line stands there when it watches
            if process.poll() is not None or (path.exists() and path.stat().st_size):
                break
            time.sleep(0.05)
        if process.poll() == 4:
            assert process.stderr is not None
            pytest.skip(process.stderr.read())
        vmm = subprocess.Popen(fake("guest(2)"))
        other = subprocess.Popen(
            [sys.executable, "-c", "import fcntl; fcntl.ioctl(0, 0x4008AE90, bytes(8))"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert (vmm.wait(60), other.wait(60)) == (0, 1)  # what is no vCPU has no such call
        time.sleep(0.3)
        process.send_signal(end)
        process.wait(60)
    assert process.returncode == 0
    found = read_recording(read_text(path)[1], str(path))
    assert found.host.supported is not None
    tables = [call.table for call in found.calls if call.pid == vmm.pid]
    assert len(tables) == 2
    assert all(len(table or ()) > 20 for table in tables)
    assert other.pid not in {call.pid for call in found.calls}


def test_recording_the_host_into_a_pipe_ends_with_its_reader() -> None:
    command = [sys.executable, "-m", "vcpuid", "record", "--host", "--no-snapshot"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            pytest.skip(process.communicate()[1])
        process.stdout.close()
        try:
            assert subprocess.run(fake("guest(1)"), timeout=60).returncode == 0
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give one of COMMAND, --pid, --vm and --host"),
        (("--pid", "1", "--host"), "give one of COMMAND, --pid, --vm and --host, not --pid and --host"),
        (("--host", "--", "true"), "give one of COMMAND, --pid, --vm and --host, not COMMAND and --host"),
        (("--inject", "--", "true"), "--inject is for --pid and --vm"),
        (("--pid", "1", "--seconds", "2"), "--seconds is for COMMAND and --host"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(arguments: tuple[str, ...], says: str) -> None:
    done = program("record", *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_who_has_no_vcpu_or_is_not_there_is_told() -> None:
    for pid, says in ((os.getpid(), f"process {os.getpid()} has no vCPU"), (4_194_304, "there is no process 4194304")):
        done = program("record", "--no-snapshot", "--pid", str(pid))
        assert (done.returncode, done.stdout, done.stderr) == (4, "", f"vcpuid: {says}\n")


def other_python() -> list[str]:
    """A Python that other users may run, told where vcpuid and what it needs are."""
    found = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if os.geteuid() != 0 or found is None:
        pytest.skip("takes root, and a Python that others may run")
    import click

    import vcpuid

    folders = [str(Path(module.__file__ or "").parents[1]) for module in (vcpuid, click)]
    command = ["env", f"PYTHONPATH={':'.join(folders)}", found]
    check = subprocess.run([*command, "-c", "import sys, click, vcpuid; sys.exit(sys.version_info < (3, 11))"], user=65534, group=65534)
    if check.returncode:
        pytest.skip("no Python that other users may run has what vcpuid needs")
    return command


def test_another_user_in_the_group_of_kvm_records_without_root(tmp_path: Path) -> None:
    command, group = other_python(), 65533
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        device, path = f"{folder}/kvm", f"{folder}/r.jsonl"
        os.mknod(device, stat.S_IFCHR, os.stat("/dev/kvm").st_rdev)
        os.chown(device, 0, group)
        os.chmod(device, 0o660)
        vmm = [*command, "-c", VMM + "guest(1)"]
        as_other = {"user": 65534, "group": 65534, "cwd": "/", "capture_output": True, "text": True, "timeout": 60, "env": {"KVM": device}}
        for groups, status in ([], 4), ([group], 0):
            done = subprocess.run([*command, "-m", "vcpuid", "record", "-o", path, "--", *vmm], extra_groups=groups, **as_other)  # type: ignore[call-overload]
            if "Operation not permitted" in done.stderr:
                pytest.skip("no devices in the folder for temporary files")
            assert done.returncode == (status and 1), done.stderr
        (snapshot,) = read_all(path)
        assert snapshot.table


def test_without_privilege_the_ways_that_take_it_say_so_and_what_helps() -> None:
    command = [*other_python(), "-m", "vcpuid", "record", "--no-snapshot"]
    as_nobody = {"user": 65534, "group": 65534, "extra_groups": [], "capture_output": True, "text": True, "cwd": "/", "timeout": 60}
    done = subprocess.run([*command, "--host", "--seconds", "1"], **as_nobody)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), done.stderr
    assert "root" in done.stderr
    done = subprocess.run([*command, "--pid", str(os.getpid())], **as_nobody)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout) == (4, "")
    assert "its files are not to be seen: it is another user's" in done.stderr


def test_without_bpf_or_btf_injection_is_offered_and_not_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vcpuid.cli.record import _kept
    from vcpuid.errors import UnavailableError
    from vcpuid.trace import btf

    btf.kernel.cache_clear()
    btf.of_module.cache_clear()
    monkeypatch.setattr(btf, "FOLDER", tmp_path)
    try:
        with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu:
            vcpu.set_cpuid(CpuidTable())
            with pytest.raises(UnavailableError, match=r"CONFIG_DEBUG_INFO_BTF is off.*--inject asks KVM in the VMM's place instead"):
                _kept(os.getpid())
    finally:
        btf.kernel.cache_clear()
        btf.of_module.cache_clear()


@pytest.mark.qemu
def test_a_qemu_tells_its_release_and_is_what_the_model_makes(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    done = program(
        "record", "-o", str(path), "--", "qemu-system-x86_64", "-accel", "kvm", "-M", "q35", "-m", "64", "-smp", "2", "-cpu", "qemu64",
        "-nodefaults", "-display", "none", "-S", "-qmp", "stdio", input='{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = read_recording(read_text(path)[1], str(path))
    assert [vcpu.number for vcpu in found.vcpus] == [0, 1]
    assert json.loads(done.stdout.splitlines()[0])["QMP"]
    told = program("explain", "sse2", "--recording", str(path))
    assert told.returncode == 0, told.stderr
    assert "QEMU " in told.stdout
    assert re.search(r" -cpu qemu64$", told.stdout.partition("\n\n")[0], re.MULTILINE), told.stdout
    assert "makes the same tables" in told.stderr


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-", "<&-"])
def test_where_standard_streams_are_closed_the_recording_has_nothing_of_what_the_program_prints(closed: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    command = [
        *recorder(path, sys.executable, "-c", "import os; [os.write(fd, b'hi') for fd in (1, 2) if os.path.exists(f'/proc/self/fd/{fd}')]")
    ]
    subprocess.run(["bash", "-c", f'"$@" {closed}', "-", *command], capture_output=True, timeout=60)
    rows = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["schema"] for row in rows] == ["vcpuid/recording/1"]
