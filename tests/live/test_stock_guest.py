"""A stock guest of a stock QEMU on a stock KVM, kvm_amd of a kernel in QEMU's emulator, from its first instruction to its last.

`vcpuid trace --check --symbols`, `vcpuid record -- COMMAND`, `--host` and `--vm` watch it there, as they are installed here; tracefs counts
beside them. VCPUID_KERNEL names the kernel, both around it and in it, VCPUID_QEMU the emulator.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.command import vcpuid
from support.python_guest import add_command_line, add_first_process
from vcpuid.cpuid import bits
from vcpuid.formats.recorded_calls import Recording
from vcpuid.formats.recording import read_recording

pytestmark = [pytest.mark.slow, pytest.mark.qemu]

VCPUS = 2
GUEST = (
    f"/bin/qemu-system-x86_64 -L /firmware -name guest=web1,debug-threads=on -accel kvm -M q35 -m 256 -smp {VCPUS} -cpu EPYC -nodefaults "
    "-display none -serial file:/watched/console -monitor unix:/watched/monitor,server=on,wait=off -no-reboot -no-shutdown -S "
    "-kernel /kernel -initrd /initrd -append"
)
AROUND = "quiet nokaslr"
"""Without KASLR the symbols of the kernel around the guest are those of its System.map; the guest's own kernel goes where it likes."""
HIT = re.compile(r"\{ function: *([0-9a-f]+), index: *([0-9a-f]+) \} hitcount: *([0-9]+)")
SECONDS = 1800
"""It takes some 150 s of processor time, and on a busy machine several times as long."""


class Watched:
    """What the machine's console has."""

    def __init__(self, console: str) -> None:
        found = re.findall(r"^FILE (\S+) (\S+)$", console, re.MULTILINE)
        self.files = {name: gzip.decompress(base64.b64decode(content)).decode(errors="replace") for name, content in found}

    def json(self, name: str) -> Any:
        return json.loads(self.files[name])

    def recording(self, name: str) -> Recording:
        return read_recording(self.files[name], name)


@pytest.fixture(scope="module")
def watched(booting: ModuleType, kernel: Path, qemu: str) -> Watched:
    told = subprocess.run([qemu, "--version"], capture_output=True, text=True).stdout if shutil.which(qemu) else ""
    if (found := re.search(r"version ([0-9]+)\.", told)) is None or int(found[1]) < 10:
        pytest.skip("takes QEMU 10.0 or newer, which lets a KVM in its guest see XSETBV (VCPUID_QEMU names one)")
    host = booting.Initrd()
    add_first_process(host, "stock_guest")
    command = [*GUEST.split(), "console=ttyS0 panic=-1"]
    host.add("words.json", json.dumps({"vcpuid": add_command_line(host), "guest": command}).encode())
    try:
        booting.add_inner(host, kernel, booting.crash_initrd(libraries=False))
        console = booting.boot(kernel, host.pack(), cpu=booting.NESTING, qemu=qemu, append=AROUND, memory=2048, seconds=SECONDS)
    except booting.Lacking as lack:
        pytest.skip(str(lack))
    watched = Watched(console)
    assert "statuses" in watched.files, console[-20000:]
    return watched


def test_every_verb_ends_well(watched: Watched) -> None:
    statuses = watched.json("statuses")
    assert {name: statuses[name] for name in ("trace", "kept", "vmm", "host")} == {"trace": 0, "kept": 0, "vmm": 0, "host": 0}
    errors = {name: text for name, text in watched.files.items() if name.endswith(".errors") and not name.startswith("vmm")}
    assert set(errors.values()) == {""}, errors


def test_exits_are_those_that_tracefs_counted_by_itself(watched: Watched) -> None:
    trace, hits = watched.json("trace.json"), HIT.findall(watched.files["hist"])
    assert (trace["way"], trace["missed"], trace["lost"]) == ("bpf", 0, 0)
    counted: Counter[tuple[int, int]] = Counter()
    for row in trace["rows"]:
        counted[int(row["function"], 16), int(row["index"], 16)] += row["count"]
    assert counted == {(int(function, 16), int(index, 16)): int(count) for function, index, count in hits}
    assert counted.total() == trace["exits"] > 100 * VCPUS


def test_every_answer_is_the_models(watched: Watched) -> None:
    trace = watched.json("trace.json")
    assert trace["check"]["agrees"] is True
    assert (trace["check"]["held"], trace["check"]["not_told"]) == (trace["exits"], 0)
    assert {(row["vm"], row["vcpu"]) for row in trace["rows"]} == {("web1", number) for number in range(VCPUS)}


def test_a_whole_system_map_names_the_guests_kernel_wherever_it_runs(watched: Watched) -> None:
    assert watched.json("machine")["symbols"] > 50_000
    kernel_half = [row for row in watched.json("trace.json")["rows"] if row["place"] == "kernel half"]
    assert kernel_half
    assert all(row["symbol"] for row in kernel_half)
    by_function: Counter[str] = Counter()
    for row in kernel_half:
        by_function[row["symbol"].partition("+")[0]] += row["count"]
    assert by_function["native_cpuid"] > 0.9 * by_function.total()


def test_the_vmms_talk_is_the_models_and_what_anybody_on_the_host_sees(watched: Watched, tmp_path: Path) -> None:
    of_command, of_host = watched.recording("vmm.jsonl"), watched.recording("host.jsonl")
    assert (of_command.by, of_host.by) == ("ptrace", "bpf")
    tables = [vcpu.handed.table for vcpu in of_command.vcpus if vcpu.handed is not None]
    assert len(tables) == VCPUS
    assert all(call.result == 0 for vcpu in of_command.vcpus for call in vcpu.sets)
    assert [call.table for call in of_host.calls] == tables
    path = tmp_path / "vmm.jsonl"
    path.write_text(watched.files["vmm.jsonl"], encoding="utf-8")
    told = vcpuid("explain", "sse2", "--recording", str(path))
    assert told.returncode == 0
    assert re.search(r"the model of QEMU \S+ makes the same tables", told.stderr)
    assert "recording." not in vcpuid("check", "--recording", str(path), "--format", "lines").stdout


def test_what_its_vcpus_keep_is_read_by_a_modules_btf(watched: Watched) -> None:
    assert {"vmlinux", "kvm"} <= set(watched.json("machine")["btf"])  # KVM is a module there, whose BTF counts on from the kernel's
    handed = [vcpu.handed.table for vcpu in watched.recording("vmm.jsonl").vcpus if vcpu.handed is not None]
    kept = [vcpu.kept for vcpu in watched.recording("kept.jsonl").vcpus]
    assert len(kept) == VCPUS
    for given, found in zip(handed, kept, strict=True):
        assert given is not None
        assert found is not None
        differing = {(one[:2], one.ecx ^ other.ecx) for one, other in zip(given, found, strict=True) if one != other}
        assert differing <= {((1, 0), bits.OSXSAVE.mask)}
        assert [entry[:2] for entry in given] == [entry[:2] for entry in found]


def test_a_vcpus_table_is_seen_when_it_enters_its_guest_for_the_first_time(watched: Watched) -> None:
    """By kvm_entry, which a KVM that interprets does not have. Sizes in leaf 0xD follow the guest's XCR0."""
    first = watched.json("first")
    (seen,) = first["seen"]
    assert len(seen) > 20
    assert [entry for entry in seen if entry[0] != 0xD] == [entry for entry in first["kept"] if entry[0] != 0xD]
