"""Exits of real guests are counted to the last one, guests get what the model says, and nothing is left behind, however tracing ends."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from support.tiny_vmm import TinyVmm, tiny_vmm
from vcpuid.errors import UnavailableError
from vcpuid.live.tiny_guest import CODE
from vcpuid.trace import btf, guests
from vcpuid.trace.bpf import syscalls
from vcpuid.trace.by_bpf import ByBpf
from vcpuid.trace.counting import Counting
from vcpuid.trace.exits import Tally, WantedExits
from vcpuid.trace.tables import KernelTables
from vcpuid.trace.tracepoints import Events, tracefs
from vcpuid.trace.ways import WAYS, watch

pytestmark = pytest.mark.kvm

VCPUID = str(Path(sys.executable).with_name("vcpuid"))
COUNT = 3000
HOSTILE = "\x1b[31m\nvm\t\x9b"


@pytest.fixture(scope="module", autouse=True)
def _may_trace() -> None:
    """Skip all of this where nobody may trace."""
    try:
        with watch(WantedExits()):
            pass
    except UnavailableError as lack:
        pytest.skip(str(lack))


def of(tally: Tally, vmm: TinyVmm) -> int:
    """Count the exits of one VMM."""
    return sum(count for exit_, count in tally.exits.items() if exit_.pid == vmm.pid)


def counted(way: str, wanted: WantedExits, *vmms: TinyVmm) -> Tally:
    """Count by one way while these VMMs run, all at once."""
    with watch(wanted, (way,)) as watching:
        for vmm in vmms:
            vmm.run(wait=False)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:  # perf's rings have room for a moment only
            watching.way.read()
            time.sleep(watching.way.pause)
        for vmm in vmms:
            vmm.done()
        watching.way.stop()
        return watching.way.read()


# Counts


@pytest.mark.parametrize(
    "wanted", [WantedExits(), WantedExits(answers=True, rip=True, stack=True)], ids=["plain", "with addresses and back-traces"]
)
def test_bpf_counts_every_exit_of_every_guest(wanted: WantedExits) -> None:
    with tiny_vmm(COUNT) as first, tiny_vmm(COUNT - 1) as second:
        tally = counted("bpf", wanted, first, second)
        assert (of(tally, first), of(tally, second)) == (COUNT, COUNT - 1)
        assert (tally.missed, tally.lost) == (0, 0)


@pytest.mark.slow
def test_none_of_300_000_is_lost_under_load() -> None:
    with tiny_vmm(150_000) as first, tiny_vmm(150_000) as second:
        tally = counted("bpf", WantedExits(), first, second)
        assert of(tally, first) + of(tally, second) == 300_000
        assert (tally.missed, tally.lost) == (0, 0)


@pytest.mark.parametrize("way", ["perf", "tracefs"])
def test_the_fallbacks_say_what_they_lost(way: str) -> None:
    with tiny_vmm(COUNT) as vmm:
        tally = counted(way, WantedExits(), vmm)
        assert of(tally, vmm) <= COUNT <= of(tally, vmm) + tally.lost


def test_what_a_ring_of_perf_has_no_room_for_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcpuid.trace.rings.PAGES", 1)
    with tiny_vmm(COUNT) as vmm, watch(WantedExits(), ("perf",)) as watching:
        vmm.run()
        watching.way.stop()
        tally = watching.way.read()
        assert of(tally, vmm) < COUNT <= of(tally, vmm) + tally.lost


@pytest.mark.parametrize("way", WAYS)
def test_of_one_process_alone(way: str) -> None:
    with tiny_vmm(COUNT) as vmm, tiny_vmm(100) as other:
        tally = counted(way, WantedExits(pid=other.pid), vmm, other)
        assert {exit_.pid for exit_ in tally.exits} <= {other.pid}
        assert of(tally, other) <= 100 <= of(tally, other) + tally.lost


def test_addresses_and_back_traces_are_those_of_the_guest_and_of_kvm() -> None:
    with tiny_vmm(100) as vmm:
        tally = counted("bpf", WantedExits(vmm.pid, rip=True, stack=True), vmm)
    assert {exit_.rip for exit_ in tally.exits} == {CODE + 5}  # behind two MOVs
    assert {exit_.tid for exit_ in tally.exits} == {vmm.pid}
    assert all(len(exit_.stack) > 3 for exit_ in tally.exits)


def test_more_kinds_than_there_is_room_for_are_missed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcpuid.trace.by_bpf._KINDS", 4)
    with tiny_vmm(COUNT) as vmm:
        tally = counted("bpf", WantedExits(vmm.pid), vmm)
    assert len(tally.exits) == 4
    assert tally.missed > 0
    assert tally.counted + tally.missed == COUNT


# The verb


def started(*args: str) -> subprocess.Popen[str]:
    """Start vcpuid trace."""
    return subprocess.Popen([VCPUID, "trace", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(what: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.process
def test_ctrl_c_ends_it_with_the_answer() -> None:
    before = bpf_programs()
    with tiny_vmm(COUNT, HOSTILE) as vmm:
        tracer = started("--pid", str(vmm.pid), "--by", "vm,vcpu", "--format", "json")
        wait_for(lambda: bpf_programs() - before)
        vmm.run()
        tracer.send_signal(signal.SIGINT)
        out, err = tracer.communicate(timeout=30)
    assert (tracer.returncode, err) == (0, "")
    told = json.loads(out)
    assert (told["way"], told["exits"], told["missed"], told["lost"]) == ("bpf", COUNT, 0, 0)
    assert [(row["vm"], row["thread"], row["count"]) for row in told["rows"]] == [
        (HOSTILE.encode()[:15].decode("utf-8", "surrogateescape"), vmm.pid, COUNT)
    ]


@pytest.mark.process
@pytest.mark.parametrize("form", ["table", "csv", "lines", "jsonl"])
def test_a_hostile_name_of_a_thread_does_nothing_to_a_terminal(form: str) -> None:
    before = bpf_programs()
    with tiny_vmm(COUNT, HOSTILE) as vmm:
        tracer = started("--pid", str(vmm.pid), "--by", "vm", "--format", form)
        wait_for(lambda: bpf_programs() - before)
        vmm.run()
        tracer.send_signal(signal.SIGINT)
        out, _ = tracer.communicate(timeout=30)
    assert tracer.returncode == 0
    assert all(character.isprintable() or character in "\n\t" for character in out)


@pytest.mark.process
def test_guests_get_what_the_model_says() -> None:
    before = bpf_programs()
    with tiny_vmm(COUNT) as vmm:
        tracer = started("--pid", str(vmm.pid), "--check", "--format", "json")
        wait_for(lambda: bpf_programs() - before)
        vmm.run()
        tracer.send_signal(signal.SIGINT)
        out, err = tracer.communicate(timeout=30)
    if tracer.returncode == UnavailableError.exit_status:
        pytest.skip(err)
    check = json.loads(out)["check"]
    assert (tracer.returncode, check["agrees"], check["not_told"], check["differences"]) == (0, True, 0, [])
    assert check["held"] > 0


def test_without_btf_a_check_ends_before_anybody_waits_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    btf.kernel.cache_clear()
    monkeypatch.setattr(btf, "FOLDER", tmp_path)
    try:
        with pytest.raises(UnavailableError, match="CONFIG_DEBUG_INFO_BTF is off"):
            Counting(tables=KernelTables()).run(None)
    finally:
        btf.kernel.cache_clear()


# Who may not, and what is not there


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become somebody else")
def test_who_may_not_is_told_in_one_line() -> None:
    told = "tracefs: it may not be read here: tracing takes root, or CAP_BPF, CAP_PERFMON and the right to read /sys/kernel/tracing"
    child = os.fork()
    if child == 0:
        status = 0
        try:
            os.setgroups([])
            os.setresuid(65534, 65534, 65534)
            with watch(WantedExits()):
                status = 1
        except UnavailableError as error:
            status = error.exit_status if str(error) == told else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == UnavailableError.exit_status


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to give privileges away")
def test_root_is_not_needed_where_two_capabilities_and_tracefs_are_given() -> None:
    """CAP_BPF and CAP_PERFMON, with tracefs open already: all else that root has is dropped."""
    with tracefs() as path, tiny_vmm(100) as vmm:
        events = Events.of_kvm(path)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                keep_capabilities(38, 39)  # CAP_PERFMON, CAP_BPF
                with closing(ByBpf(events, WantedExits(vmm.pid))) as way:
                    vmm.run()
                    way.stop()
                    status = 0 if way.read().counted == 100 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def keep_capabilities(*numbers: int) -> None:
    """Become somebody else who has these capabilities and no others."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
    low, high = (sum(1 << number % 32 for number in numbers if number // 32 == half) for half in (0, 1))
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
    sets = ctypes.create_string_buffer(struct.pack("<6I", low, low, 0, high, high, 0))
    assert libc.capset(header, sets) == 0


def refusing(number: int) -> Callable[..., int]:
    def call(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSYS, "this kernel has none"), (errno.EPERM, "it takes ")])
def test_without_bpf_perf_counts_and_says_so(monkeypatch: pytest.MonkeyPatch, number: int, told: str) -> None:
    monkeypatch.setattr("vcpuid.trace.bpf.maps.bpf", refusing(number))
    with tiny_vmm(100) as vmm, watch(WantedExits(vmm.pid)) as watching:
        assert watching.way.name == "perf"
        assert told in watching.remarks[0]
        assert watching.remarks[0].endswith("; exits are counted by perf instead")
        vmm.run()
        watching.way.stop()
        assert of(watching.way.read(), vmm) == 100


def test_without_bpf_and_perf_tracefs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcpuid.trace.bpf.maps.bpf", refusing(errno.EPERM))
    monkeypatch.setattr("vcpuid.trace.rings.perf_event_open", refusing(errno.EACCES))
    with tiny_vmm(100) as vmm, watch(WantedExits(vmm.pid)) as watching:
        assert watching.way.name == "tracefs"
        assert len(watching.remarks) == 2
        vmm.run()
        watching.way.stop()
        assert of(watching.way.read(), vmm) == 100
    assert not instances()


def test_where_no_way_is_open_the_best_ones_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcpuid.trace.bpf.maps.bpf", refusing(errno.EPERM))
    with pytest.raises(UnavailableError, match=r"bpf\(2\): Operation not permitted: it takes "), watch(WantedExits(), ("bpf",)):
        pass


def test_lockdown_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "lockdown"
    told.write_text("none integrity [confidentiality]\n", encoding="ascii")
    monkeypatch.setattr(syscalls, "_LOCKDOWN", told)
    assert "kernel lockdown (confidentiality) forbids" in str(syscalls.bpf_lacking(PermissionError(errno.EPERM, "x")))


# Nothing is left behind


def bpf_programs() -> set[int]:
    """The numbers of the kernel's BPF programs that are vcpuid's."""
    found, number = set(), 0
    while True:
        room = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), syscalls.ATTRIBUTES)
        if syscalls_next(room) < 0:
            return found
        number = struct.unpack_from("<I", room.raw, 4)[0]
        try:
            fd = syscalls.bpf(13, struct.pack("<I", number))  # BPF_PROG_GET_FD_BY_ID
        except OSError:
            continue
        info = ctypes.create_string_buffer(232)
        syscalls.bpf(15, struct.pack("<IIQ", fd, 232, ctypes.addressof(info)))
        os.close(fd)
        if info.raw[64:80].rstrip(b"\0") == b"vcpuid":
            found.add(number)


def syscalls_next(room: ctypes.Array[ctypes.c_char]) -> int:
    """BPF_PROG_GET_NEXT_ID, which writes its answer into the attributes."""
    return int(ctypes.CDLL(None).syscall(321, 11, ctypes.byref(room), syscalls.ATTRIBUTES))


def instances() -> list[str]:
    with tracefs() as path:
        return [name for name in os.listdir(f"{path}/instances") if name.startswith("vcpuid-")]


@pytest.fixture
def quiet() -> tuple[set[int], list[str]]:
    """What there was before."""
    return bpf_programs(), instances()


@pytest.mark.process
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda end: end.name)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_behind_at_any_end(way: str, end: signal.Signals, quiet: tuple[set[int], list[str]]) -> None:
    programs, before = quiet
    tracer = started("--way", way, "--format", "json")
    try:
        if way == "bpf":
            wait_for(lambda: bpf_programs() - programs)
        elif way == "tracefs":
            wait_for(lambda: set(instances()) - set(before))
        else:
            wait_for(lambda: any("perf_event" in os.readlink(fd) for fd in Path(f"/proc/{tracer.pid}/fd").iterdir() if fd.is_symlink()))
    finally:
        tracer.send_signal(end)
        out, err = tracer.communicate(timeout=30)
    assert tracer.returncode == (-end if end is signal.SIGKILL else 0)
    assert bool(out) == (end is not signal.SIGKILL)
    assert err == ""
    wait_for(lambda: not bpf_programs() - programs)
    wait_for(lambda: not set(instances()) - set(before))


def test_an_instance_that_both_deaths_left_is_taken_away_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with tracefs() as path:
        left = f"{path}/instances/vcpuid-4194304-1-dead"
        other = f"{path}/instances/vcpuid-of-somebody"
        os.mkdir(left)
        os.mkdir(other)
        try:
            with watch(WantedExits(), ("tracefs",)):
                assert not os.path.exists(left)
                assert os.path.exists(other)
        finally:
            os.rmdir(other)
    assert not instances()


# Names


def test_a_guest_is_found_by_its_name_and_by_its_program() -> None:
    with tiny_vmm(1, "my guest") as vmm:
        assert guests.RunningGuest(vmm.pid, "my guest") in list(guests.running())
        assert guests.named("my guest") == vmm.pid
    with pytest.raises(UnavailableError, match="no guest named 'my guest' runs here"):
        guests.named("my guest")


def test_in_a_namespace_of_its_own_no_number_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "numbers_are_ours", lambda: False)
    known = guests.Guests()
    known.learn([(os.getpid(), os.getpid())], {(os.getpid(), os.getpid()): "CPU 3/KVM"})
    assert (known.guest(os.getpid()).name, known.vcpu(os.getpid(), os.getpid())) == ("CPU 3/KVM", 3)


def test_a_number_that_is_no_process_is_told() -> None:
    with tiny_vmm(1) as vmm:
        guests.require(vmm.pid)
    with pytest.raises(UnavailableError, match=f"there is no process {vmm.pid}"):
        guests.require(vmm.pid)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(UnavailableError, match=f"{thread.native_id} is a thread of process {os.getpid()}"):
            guests.require(thread.native_id or 0)
    finally:
        done.set()
        thread.join()


@pytest.mark.process
def test_live_draws_on_a_terminal_and_leaves_the_answer() -> None:
    before, (ours, theirs) = bpf_programs(), pty.openpty()
    with tiny_vmm(COUNT, "web1") as vmm:
        command = [VCPUID, "trace", "--live", "--pid", str(vmm.pid), "--by", "vm"]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as tracer:
            os.close(theirs)
            wait_for(lambda: bpf_programs() - before)
            vmm.run()
            shown = b""
            while b"web1" not in shown:
                shown += os.read(ours, 1 << 16)
            tracer.send_signal(signal.SIGINT)
            answer = b""
            with suppress(OSError):  # EIO at its end
                while part := os.read(ours, 1 << 16):
                    answer += part
    os.close(ours)
    assert tracer.returncode == 0
    assert b"\x1b[?1049h" in shown  # a screen of its own
    assert f"{COUNT} CPUIDs in".encode() in answer.rpartition(b"\x1b[?1049l")[2]


@pytest.mark.process
def test_live_is_no_use_to_a_pipe() -> None:
    done = subprocess.run([VCPUID, "trace", "--live"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--live needs a terminal" in done.stderr
