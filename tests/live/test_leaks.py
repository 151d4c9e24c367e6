"""What asks this machine gives back descriptors, mappings, children and threads, however often it is asked and wherever it fails."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.captures import capture
from vcpuid import probe, sources
from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.errors import VcpuidError
from vcpuid.live import kvm_structs, qemu_import, qemu_version, tiny_guest
from vcpuid.live.kvm_device import Kvm
from vcpuid.live.trial import Trial
from vcpuid.trace.first_entry import FirstEntries

TIMES = 20
NO_TABLE = CpuidTable(Entry(number, 0, 0, 0, 0, 0, 0) for number in range(300))


def table() -> CpuidTable:
    with Kvm() as kvm:
        return kvm.supported_cpuid()


def trial() -> None:
    made = Trial()
    assert made.listed
    with made.vcpu() as vcpu:
        vcpu.set_cpuid(table())


def endless() -> None:
    """A guest that does not leave: it is stopped by a signal from a thread."""
    with tiny_guest.machine(table(), code=bytes.fromhex("ebfe")) as (vcpu, _):
        vcpu.set_regs(kvm_structs.Regs(rip=tiny_guest.CODE))
        vcpu.run(0.02)


def program(text: str) -> Callable[[Path], object]:
    def run(folder: Path) -> object:
        binary = folder / "qemu-system-x86_64"
        binary.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        binary.chmod(0o755)
        return qemu_import.import_qemu(str(binary)) if "QMP" in text else qemu_version.qemu_version(str(binary))

    return run


HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))


def first_entries() -> None:
    with FirstEntries() as watching:
        tiny_guest.read_cpuid(table(), [(0, 0)])
        watching.take()


ANYWHERE: dict[str, Callable[[Path], object]] = {
    "a file": lambda _: sources.read(HOST),
    "a damaged file": lambda folder: ((folder / "cut").write_bytes(Path(HOST).read_bytes()[:999]), sources.read(folder / "cut")),
    "a folder": sources.read,
    "no KVM": lambda _: Kvm("/dev/null"),
    "no device": lambda _: sources.read("cpu:99999"),
    "a QEMU's release": program("echo version 9.2.1"),
    "no QEMU": program("exit 1"),
    "what is no QEMU": program("echo no QMP; exec sleep 60"),
    "a QEMU that ends": program("""echo '{"QMP": {"version": {}}}'"""),
}
HERE: dict[str, Callable[[], object]] = {
    "the processor": lambda: sources.read("live"),
    "all": sources.this_machine,
    "instructions": lambda: probe.process(probe.INSTRUCTIONS[:2]),
}
WITH_KVM: dict[str, Callable[[], object]] = {
    "KVM": lambda: sources.read("kvm"),
    "a guest": lambda: tiny_guest.read_cpuid(table(), [(0, 0)]),
    "a guest without a table": lambda: tiny_guest.read_cpuid(NO_TABLE, [(0, 0)]),
    "a guest without end": endless,
    "exits": lambda: tiny_guest.time_exit(table(), rounds=10),
    "first entries": first_entries,
    "a trial": trial,
    "instructions in a guest": lambda: probe.guest(table(), probe.INSTRUCTIONS[:2]),
}


def held() -> tuple[dict[str, str], int]:
    """The descriptors that this process holds, and its threads; that it has no children is looked at at once."""
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the folder's own
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found, threading.active_count()


def mappings() -> int:
    gc.collect()
    return len(Path("/proc/self/maps").read_text(encoding="utf-8").splitlines())


@contextmanager
def everything_given_back() -> Iterator[None]:
    before = held()
    yield
    assert held() == before


def repeated(ask: Callable[[], object], times: int = TIMES) -> None:
    def once() -> None:
        with suppress(VcpuidError):
            ask()

    once()  # imports, and what is kept for good
    several = mappings()
    with everything_given_back():
        for _ in range(times):
            once()
    assert mappings() < several + times // 2


@pytest.mark.process
@pytest.mark.parametrize("ask", ANYWHERE.values(), ids=ANYWHERE)
def test_whatever_is_asked(ask: Callable[[Path], object], tmp_path: Path) -> None:
    repeated(lambda: ask(tmp_path))


@pytest.mark.x86
@pytest.mark.process
@pytest.mark.parametrize("ask", HERE.values(), ids=HERE)
def test_this_processor(ask: Callable[[], object]) -> None:
    repeated(ask)


@pytest.mark.long
@pytest.mark.kvm
@pytest.mark.parametrize("ask", WITH_KVM.values(), ids=WITH_KVM)
def test_this_kvm(ask: Callable[[], object]) -> None:
    repeated(ask)


@pytest.mark.kvm
@pytest.mark.parametrize("ask", WITH_KVM.values(), ids=WITH_KVM)
@pytest.mark.parametrize("failing", kvm_structs.NAMES.values())
def test_wherever_kvm_fails(failing: str, ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    ioctl = fcntl.ioctl

    def fail(descriptor: int, request: int, argument: int | bytearray = 0) -> int:
        if kvm_structs.NAMES[request] == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return ioctl(descriptor, request, argument)

    with everything_given_back(), suppress(VcpuidError):
        ask()
    monkeypatch.setattr(fcntl, "ioctl", fail)
    with everything_given_back(), suppress(VcpuidError):
        ask()
