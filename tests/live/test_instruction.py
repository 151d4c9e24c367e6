"""This machine's CPUID: executed, through the kernel's device, by the `cpuid` tool and by KVM, all the same."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vcpuid.cpuid import Registers
from vcpuid.cpuid.walk import walk
from vcpuid.errors import UnavailableError
from vcpuid.formats.lines import format_snapshot, parse_snapshot
from vcpuid.live import dev_cpu
from vcpuid.live import instruction as live
from vcpuid.live import observe as machine
from vcpuid.live.dev_cpu import cpuid_device
from vcpuid.live.instruction import instruction, pinned
from vcpuid.sources import read, this_machine

CPUS = sorted(os.sched_getaffinity(0))
ABSENT = 99_999

pytestmark = pytest.mark.x86
needs_device = pytest.mark.skipif(not os.access("/dev/cpu/0/cpuid", os.R_OK), reason="no readable /dev/cpu/0/cpuid")
needs_tool = pytest.mark.skipif(shutil.which("cpuid") is None, reason="no cpuid tool installed")


@pytest.mark.parametrize("cpu", CPUS[:4])
@needs_device
def test_the_instruction_and_the_kernels_device_agree(cpu: int) -> None:
    with pinned(cpu), cpuid_device(cpu) as device:
        assert walk(instruction()) == walk(device)


@pytest.mark.parametrize("cpu", CPUS[:4])
@needs_tool
def test_the_cpuid_tool_agrees(cpu: int) -> None:
    with pinned(cpu):  # a child inherits the affinity
        ours = {entry[:2]: entry.registers for entry in walk(instruction())}
        text = subprocess.run(["cpuid", "-1", "-r"], capture_output=True, text=True, check=True).stdout
    line = re.compile(r"^\s+0x(\w+) 0x(\w+): eax=0x(\w+) ebx=0x(\w+) ecx=0x(\w+) edx=0x(\w+)$", re.MULTILINE)
    theirs = {}
    for match in line.finditer(text):
        function, index, *registers = (int(word, 16) for word in match.groups())
        theirs[function, index] = Registers(*registers)
    assert len(theirs) > 10
    common = ours.keys() & theirs.keys()
    assert {key: ours[key] for key in common} == {key: theirs[key] for key in common}
    # Beyond the common ones, the walk has the sub-leaf that ends a row, and the tool a second range of hypervisors and spare sub-leaves.
    assert not [key for key in theirs.keys() - common if any(theirs[key]) and not 0x40000100 <= key[0] < 0x40010000]
    assert not [key for key in ours.keys() - common if ours[key].eax & 0x1F]


def test_leaves_that_every_processor_has() -> None:
    table = read("live").raw
    assert table.registers(0).eax >= 1
    assert table.registers(0x80000000).eax >= 0x80000001
    assert table.registers(1).edx & 1 << 26, "an x86-64 processor has SSE2"


@pytest.mark.parametrize("cpu", CPUS[:4])
def test_a_cpu_of_choice(cpu: int) -> None:
    """The APIC ID tells CPUs apart; /proc/cpuinfo has it, too."""
    blocks = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")
    block = next(each for each in blocks if re.search(rf"^processor\s*: {cpu}$", each, re.MULTILINE))
    apic_id = re.search(r"^initial apicid\s*: (\d+)$", block, re.MULTILINE)
    assert apic_id is not None
    assert read(f"live:{cpu}").raw.registers(1).ebx >> 24 == int(apic_id[1]) & 0xFF


def test_a_function_outlives_the_page_that_nobody_else_holds() -> None:
    cpuid = instruction()
    others = [instruction() for _ in range(50)]
    del others
    assert cpuid(0, 0) == instruction()(0, 0)


def test_affinity_is_restored() -> None:
    before = os.sched_getaffinity(0)
    with pinned(CPUS[-1]) as cpu:
        assert cpu == CPUS[-1]
        assert os.sched_getaffinity(0) == {cpu}
    assert os.sched_getaffinity(0) == before
    with pinned() as cpu:
        assert os.sched_getaffinity(0) == {CPUS[0]} == {cpu}
    assert os.sched_getaffinity(0) == before


def test_affinity_is_restored_when_the_walk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise UnavailableError("no memory")

    monkeypatch.setattr(machine, "instruction", fail)
    before = os.sched_getaffinity(0)
    with pytest.raises(UnavailableError, match="no memory"):
        read("live")
    assert os.sched_getaffinity(0) == before


def test_only_the_calling_thread_is_pinned() -> None:
    seen: list[set[int]] = []
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait(10)
        seen.append(os.sched_getaffinity(0))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with pinned(CPUS[0]):
        inside.set()
        done.wait(10)
    thread.join()
    assert seen == [set(CPUS)]


@pytest.mark.parametrize("cpu", [ABSENT, 10**9, 2**40, -1])
def test_a_cpu_that_is_not_there(cpu: int) -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(UnavailableError, match=f"CPU {cpu}"):
        this_machine(cpu)
    assert os.sched_getaffinity(0) == before


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UnavailableError, match=rf"^/dev/cpu/{ABSENT}/cpuid: No such file or directory"):
        read(f"cpu:{ABSENT}")


@needs_device
def test_the_device_by_its_path() -> None:
    assert read("/dev/cpu/0/cpuid") == read(Path("/dev/cpu/0/cpuid")) == read("cpu:0")
    assert read("cpu:0").raw == read("live:0").raw


@pytest.mark.parametrize(("size", "words"), [(0, "leaf 0.0"), (15, "leaf 0.0")])
def test_a_device_that_answers_short(size: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_cpu.os, "open", lambda *_: os.dup(0))
    monkeypatch.setattr(dev_cpu.os, "pread", lambda *_: bytes(size))
    with cpuid_device(0) as cpuid, pytest.raises(UnavailableError, match=words):
        cpuid(0, 0)


def test_live_asks_no_kvm_and_knows_the_kernel() -> None:
    snapshot = read("live")
    assert snapshot.supported is None
    assert snapshot.kernel == platform.release()
    assert snapshot.cpuinfo["vendor_id"] == snapshot.vendor
    assert "fpu" in snapshot.cpuinfo["flags"].split()


@pytest.mark.kvm
def test_kvm_reports_no_leaf_that_the_walk_missed() -> None:
    snapshot = read("kvm")
    assert snapshot.supported is not None
    highest = {base: snapshot.raw.registers(base).eax for base in (0, 0x80000000)}
    told = {entry[:2] for entry in snapshot.supported if entry.function <= highest.get(entry.function & 0xC0000000, 0)}
    assert told
    assert told <= {entry[:2] for entry in snapshot.raw}
    assert snapshot.supported.registers(0)[1:] == snapshot.raw.registers(0)[1:]


@pytest.mark.kvm
@pytest.mark.parametrize("cpu", CPUS[:4])
def test_kvm_answers_for_the_same_cpu(cpu: int) -> None:
    snapshot = this_machine(cpu)
    assert snapshot.supported is not None
    assert snapshot.supported.registers(1).ebx >> 24 == snapshot.raw.registers(1).ebx >> 24


@pytest.mark.kvm
def test_a_snapshot_of_everything() -> None:
    snapshot = this_machine()
    assert snapshot.supported == read("kvm").supported
    assert snapshot.raw == read("live").raw
    assert snapshot.msrs
    assert parse_snapshot(format_snapshot(snapshot)) == snapshot
    for name, value in snapshot.params.items():
        module, _, parameter = name.partition(".")
        assert Path(f"/sys/module/{module}/parameters/{parameter}").read_text(encoding="utf-8").split() == value.split()


def test_kvm_that_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoKvm:
        def __init__(self) -> None:
            raise UnavailableError("/dev/kvm: No such file or directory")

    monkeypatch.setattr(machine, "Kvm", NoKvm)
    with pytest.raises(UnavailableError, match="No such file"):
        read("kvm")
    snapshot = this_machine()
    assert snapshot.notes[0] == "nothing of KVM: /dev/kvm: No such file or directory"
    assert snapshot.supported is None
    assert parse_snapshot(format_snapshot(snapshot)) == snapshot


REFUSING = """
import ctypes, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(77)
from vcpuid.errors import UnavailableError
from vcpuid.sources import read, this_machine
try:
    read("live")
except UnavailableError as error:
    print(error)
snapshot = this_machine()
print(snapshot.notes[0])
print(len(snapshot.raw))
"""


@needs_device
def test_a_system_that_refuses_executable_memory() -> None:
    run = subprocess.run([sys.executable, "-c", REFUSING], capture_output=True, text=True)
    if run.returncode == 77:
        pytest.skip("this kernel cannot refuse executable memory (PR_SET_MDWE, Linux 6.3)")
    refused, note, size = run.stdout.splitlines()
    assert "no executable memory to put a CPUID instruction in ([Errno 13] Permission denied)" in refused
    assert note.startswith(f"CPUID is the kernel's, from /dev/cpu/{CPUS[0]}/cpuid: no executable memory")
    assert int(size) == len(read("live").raw)


def test_another_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.os, "uname", lambda: os.uname_result(("Linux", "host", "6.12.0", "#1", "aarch64")))
    with pytest.raises(UnavailableError, match="x86-64"):
        instruction()


def test_proc_cpuinfo_of_another_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nflags\t\t: fpu\nvmx flags\t: ept\n\nprocessor\t: 10\nmodel name\t: A\x1bB\nflags\t\t: fpu vme\nbugs\t\t:\n\n"
    monkeypatch.setattr(machine, "_text", lambda path: text)
    assert machine.read_cpuinfo(0) == {"flags": "fpu", "vmx_flags": "ept"}
    assert machine.read_cpuinfo(10) == {"model_name": "A?B", "flags": "fpu vme", "bugs": ""}
    assert machine.read_cpuinfo(1) == {}


def test_what_sysfs_says_of_vulnerabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"mds": "Not affected\n", "spectre_v2": "Mitigation: A\x1bB; C\n", "empty": ""}
    monkeypatch.setattr(machine, "_names", lambda folder: list(texts) if folder.endswith("/vulnerabilities") else [])
    monkeypatch.setattr(machine, "_text", lambda path: texts[path.rpartition("/")[2]])
    assert machine.read_vulnerabilities() == {"vulnerability_mds": "Not affected", "vulnerability_spectre_v2": "Mitigation: A?B; C"}
