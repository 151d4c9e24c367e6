"""Memory stays bounded in a process that answers on and on: about other hosts, with other arguments, whatever verb asks."""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vcpuid
from fuzz.inprocess import run
from support.captures import capture
from vcpuid.qemu.kept import kept

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))

OURS = {
    # of a release or a name in tables of ours: as many answers as rows
    "vcpuid.answers.compare_flags._shown", "vcpuid.cli.layout._code",
    "vcpuid.cpuid.by_name._printed", "vcpuid.data.load", "vcpuid.explore.page._file",
    "vcpuid.hazards.features.needs",
    "vcpuid.hazards.xsave._states", "vcpuid.kvm.leaves.build.indexed", "vcpuid.kvm.lookup._takes_any",
    "vcpuid.kvm.plan.plan_of", "vcpuid.libvirt.cpu_map.cpu_map",
    "vcpuid.linux.identify._cpuid_words", "vcpuid.linux.tables._dependents", "vcpuid.linux.tables.tables",
    "vcpuid.qemu.caches._legacy", "vcpuid.qemu.caches._model", "vcpuid.qemu.caches.descriptors", "vcpuid.qemu.catalog.caches",
    "vcpuid.qemu.catalog.catalog", "vcpuid.qemu.leaves.xsave._users", "vcpuid.qemu.leaves.xsave.sizes",
    "vcpuid.qemu.leaves.xsave.subleaves", "vcpuid.qemu.models._component_users", "vcpuid.qemu.tcg._able",
    "vcpuid.software.glibc._places", "vcpuid.trace.btf.of_module",
    # of the bounds of fields, and of numbers that the disassembler has
    "vcpuid.diagnosis.instructions._feature", "vcpuid.numbers._places",
}  # fmt: skip
"""Answers without a bound on how many are kept, since what they are about is ours; one that is asked nothing has one answer."""


def caches() -> Iterator[tuple[str, Any]]:
    """Give what keeps answers, by the function behind it, of all modules that can be imported here."""
    for module in pkgutil.walk_packages(vcpuid.__path__, "vcpuid."):
        if not module.name.endswith("__main__"):
            with_extras = ("vcpuid.diagnosis.instructions",)
            try:
                importlib.import_module(module.name)
            except ImportError:
                assert module.name in with_extras
    gc.unfreeze()  # what is frozen, as conftest.py does now and then, is not among the objects that are told
    for found in gc.get_objects():
        if isinstance(found, functools._lru_cache_wrapper) and str(found.__module__).startswith("vcpuid."):
            yield f"{found.__module__}.{found.__qualname__}", found


def test_no_cache_without_a_bound_is_about_what_others_wrote() -> None:
    for name, cache in caches():
        asked = cache.__wrapped__.__code__.co_argcount
        if cache.cache_info().maxsize is None and asked:
            assert name in OURS, f"{name} keeps an answer for each of its arguments for good: give it a bound, or say here whose they are"


def test_of_long_arguments_a_few_answers_are_kept() -> None:
    asked: list[str] = []

    @kept(100)
    def length(text: str, more: tuple[str, ...] = ()) -> int:
        asked.append(text)
        return len(text)

    for _ in range(2):
        for number in range(50):
            assert length(f"{number}") == len(f"{number}")
    assert len(asked) == 50
    asked.clear()
    for _ in range(2):
        for number in range(50):
            assert length(f"{number}", more=("x" * 10_000,)) == len(f"{number}")
    assert len(asked) == 100
    asked.clear()
    assert length("x" * 10_000) == length("x" * 10_000) == 10_000
    assert len(asked) == 1


ARGUMENTS = """
import sys, tracemalloc
import vcpuid
from vcpuid.qemu import catalog, global_option, plan, properties, smp
from vcpuid.qemu.guest import make
from vcpuid.qemu.kvmhost import KvmHost
from vcpuid.setup import Setup, Stack
host = vcpuid.read(sys.argv[1])
long = ",+avx2" * 4000
def ask(number):
    cpu = f"Haswell,model-id={number}" + long
    properties.parse(cpu, (11, 1))
    plan.plan("11.1", "q35", cpu)
    global_option.parse(f"cpu.model-id={number}" + long)
    smp.parse("1" + ",cores=1" * 2000 + f",maxcpus={number + 1}", "11.1", "q35")
    catalog.machine("11.1", "q35" + ",kernel-irqchip=split" * 1000 + f",max-ram-below-4g={number + 1}G")
    make(cpu, Setup.of(host, Stack(qemu="11.1")), KvmHost())
for number in range(6):
    ask(number)
tracemalloc.start()
ask(6)
before = tracemalloc.get_traced_memory()[0]
for number in range(7, 27):
    ask(number)
print(tracemalloc.get_traced_memory()[0] - before)
"""


@pytest.mark.bounds
def test_long_arguments_of_qemu_take_no_memory_for_good() -> None:
    """128 KiB is the longest argument of a program; a service may be asked with another one each time."""
    assert int(_python(ARGUMENTS, HOST)) < 1 << 20


HOSTS = """
import gc, json, os, sys, warnings
from dataclasses import replace
import vcpuid
from vcpuid import hazards
from vcpuid.decode import leaves
from vcpuid.cpuid import CpuidTable
from vcpuid.path.pipeline import resolve

warnings.simplefilter("ignore")
host = replace(vcpuid.read(sys.argv[1]), supported=None, emulated=None, hyperv=None)

def another(number):
    # as hostile hosts are: no two have the same name, family, features or last leaves
    entries = [entry._replace(eax=entry.eax + number) if entry.function in (1, 7, 0x80000004) else entry for entry in host.raw]
    far = entries[0]._replace(function=0x10000000 + number)
    return replace(host, raw=CpuidTable([*entries, far]), notes=(str(number),))

def ask(number):
    given = another(number)
    path = resolve("host", host=given)
    hazards.of_path(path)
    len(list(leaves(given.raw)))
    len(path.trace.steps[2].decisions)

def held():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

told = []
for number in range(int(sys.argv[2])):
    ask(number)
    if number % 50 == 49:
        told.append(held() >> 10)
print(json.dumps(told))
"""


@pytest.mark.bounds
@pytest.mark.long
def test_memory_stops_growing_however_many_hosts_are_asked_about() -> None:
    """Answers about the last 640 hosts are kept: when there are as many, each new one takes the place of another."""
    told = json.loads(_python(HOSTS, HOST, "900"))
    assert told[6] - told[2] > 2 << 10, "what is kept of hosts is not seen here"
    assert told[17] - told[13] < 2 << 10, told
    assert told[17] < 100 << 10, told


def _python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(folder: Path) -> list[list[str]]:
    """Give command lines that end well, that refuse their input, and that write."""
    part, bad, text = folder / "part.txt", folder / "bad.txt", folder / "error.txt"
    part.write_text(
        "RAW 00000000.0 0000001f 756e6547 6c65746e 49656e69\nRAW 00000001.0 00050654 00100800 7ffefbff bfebfbff\n", encoding="utf-8"
    )
    bad.write_text("RAW 0000\n", encoding="utf-8")
    text.write_text("host doesn't support requested feature: CPUID.07H:EBX.avx512f [bit 16]\n", encoding="utf-8")
    (folder / "fleet").mkdir(exist_ok=True)
    for name in ("one", "two"):
        (folder / "fleet" / f"{name}.txt").write_bytes(Path(HOST).read_bytes() if name == "one" else part.read_bytes())
    domain = folder / "domain.xml"
    domain.write_text(
        "<domain type='kvm'><name>a</name><memory>1048576</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>"
        "<cpu mode='host-model'/></domain>",
        encoding="utf-8",
    )
    return [
        ["decode", HOST], ["decode", "--each", str(folder / "fleet"), "7", "--format", "csv"],
        ["decode", str(bad)], ["decode", str(folder / "none")],
        ["guest", "--host", HOST], ["guest", "--domain", str(domain), "--host", HOST], ["guest", "--cpu", "nope", "--host", HOST],
        ["explain", "avx2", "--host", HOST], ["check", "host,enforce", HOST], ["check", str(bad), HOST], ["worth", "--host", HOST],
        ["convert", HOST, "--to", "libvirt"], ["convert", HOST, "--to", "json", "-o", str(folder / "out.json")],
        ["convert", HOST, "--to", "json", "-o", "/dev/full"], ["diagnose", str(text), "--host", HOST], ["linux", "flags", HOST],
        ["drift", HOST, "--from", "10.0", "--to", "11.1"], ["fleet", "classes", str(folder / "fleet")],
        ["fleet", "baseline", str(folder / "fleet")], ["libvirt", "domcapabilities", "--host", HOST],
    ]  # fmt: skip


@pytest.mark.bounds
@pytest.mark.long
def test_verbs_leave_no_descriptor_child_or_thread_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = lines(tmp_path)
    first = {tuple(command): run(command) for command in commands}
    assert {answered.status for answered in first.values()} >= {0, 3}
    before, threads, born = os.listdir("/proc/self/fd"), threading.active_count(), children()
    for command in commands:
        assert run(command) == first[tuple(command)]
    assert os.listdir("/proc/self/fd") == before
    assert threading.active_count() == threads
    assert children() <= born


def children() -> set[str]:
    """Give the processes that are children of this one, ended ones that nobody has waited for among them.

    Tests of other files may have left some in the same process: only what comes in addition is a verb's.
    """
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text(encoding="ascii").split()}
