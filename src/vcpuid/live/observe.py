"""Everything that this machine tells of one of its CPUs, as a snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.registers import VULNERABILITIES, VULNERABILITY, CpuidTable, MsrTable, Snapshot, vendor_name
from vcpuid.cpuid.walk import walk
from vcpuid.errors import KvmError, UnavailableError
from vcpuid.formats.proc_cpuinfo import cpuinfo_blocks, plain
from vcpuid.live.dev_cpu import cpuid_device
from vcpuid.live.dev_msr import read_msrs
from vcpuid.live.instruction import instruction, pinned
from vcpuid.live.kvm_device import Kvm

_CAP_HYPERV = 44
"""KVM_CAP_HYPERV: a KVM without it has no Hyper-V leaves, and a VMM asks it for none."""


def observe(cpu: int | None = None, *, device: bool | None = None, kvm: bool | None = None) -> Snapshot:
    """Take a snapshot of this machine, on CPU `cpu` or else the first that this process may run on.

    `device`: whether CPUID comes from the kernel's /dev/cpu/N/cpuid (True) or from executing the instruction (False). `kvm`: whether
    /dev/kvm is asked (True) or not (False). None for either takes what the machine has, and a note in the snapshot says why where it
    lacks something. Raises UnavailableError where what was asked for, or any CPUID at all, is not to be had.
    """
    notes: list[str] = []
    # The kernel's device needs nobody on the CPU that it is asked of; the instruction and KVM answer for the one they run on.
    place = nullcontext(cpu) if device and kvm is False and cpu is not None else pinned(cpu)
    with place as chosen:
        raw = _raw(chosen, device, notes)
        answers = _kvm(kvm, notes)
        hardware = _hardware_msrs(chosen, vendor_name(raw.registers(0)), notes)
    cpuinfo = read_cpuinfo(chosen)
    return Snapshot(
        raw=raw,
        **answers._asdict(),
        hardware_msrs=hardware,
        cpuinfo=FrozenMap({**cpuinfo, **read_vulnerabilities()}),
        params=FrozenMap(read_params()),
        cpu=cpuinfo.get("model_name"),
        kernel=os.uname().release,
        notes=tuple(notes),
    )


def _raw(cpu: int, device: bool | None, notes: list[str]) -> CpuidTable:
    if not device:
        try:
            return walk(instruction())
        except UnavailableError as error:
            if device is False:
                raise
            notes.append(f"CPUID is the kernel's, from /dev/cpu/{cpu}/cpuid: {error}")
    with cpuid_device(cpu) as cpuid:
        return walk(cpuid)


def _hardware_msrs(cpu: int, vendor: str, notes: list[str]) -> MsrTable:
    try:
        return read_msrs(cpu, vendor)
    except UnavailableError as error:
        notes.append(f"nothing of the hardware's MSRs: {error}")
        return MsrTable()


class _Answers(NamedTuple):
    """KVM's part of a snapshot; the names are the snapshot's."""

    supported: CpuidTable | None = None
    emulated: CpuidTable | None = None
    hyperv: CpuidTable | None = None
    msrs: MsrTable = MsrTable()


def _kvm(wanted: bool | None, notes: list[str]) -> _Answers:
    """Ask KVM on the CPU that the thread is pinned to, since its answers have that CPU's APIC ID."""
    if wanted is False:
        return _Answers()
    try:
        with Kvm() as kvm:
            return _Answers(
                supported=kvm.supported_cpuid(),
                emulated=_table("EMU", kvm.emulated_cpuid, notes),
                hyperv=_table("HV", kvm.hyperv_cpuid, notes) if kvm.check_extension(_CAP_HYPERV) else CpuidTable(),
                msrs=kvm.feature_msrs(),
            )
    except (UnavailableError, KvmError) as error:
        if wanted:
            raise UnavailableError(str(error)) from None
        notes.append(f"nothing of KVM: {error}")
        return _Answers()


def _table(kind: str, ask: Callable[[], CpuidTable], notes: list[str]) -> CpuidTable | None:
    """Ask for a table that older kernels do not give."""
    try:
        return ask()
    except KvmError as error:
        notes.append(f"{kind} ERR {error}")
        return None


def read_cpuinfo(cpu: int) -> dict[str, str]:
    """Read the lines of /proc/cpuinfo about one CPU that a snapshot keeps; empty where the kernel does not tell."""
    return next((lines for number, lines in cpuinfo_blocks(_text("/proc/cpuinfo")) if number == str(cpu)), {})


def read_vulnerabilities() -> dict[str, str]:
    """Read what the running kernel says of each vulnerability, as {"vulnerability_mds": "Not affected"}; empty where it does not tell."""
    texts = {name: plain(_text(f"{VULNERABILITIES}/{name}").strip()) for name in _names(VULNERABILITIES)}
    return {f"{VULNERABILITY}{name}": text for name, text in texts.items() if text}


def read_params() -> dict[str, str]:
    """Read the parameters of KVM's modules that this process may read, as {"kvm_intel.nested": "Y"}."""
    params: dict[str, str] = {}
    for module in _names("/sys/module"):
        if module == "kvm" or module.startswith("kvm_"):
            folder = f"/sys/module/{module}/parameters"
            for name in _names(folder):
                if value := _text(f"{folder}/{name}").strip():
                    params[f"{module}.{name}"] = " ".join(value.split())
    return params


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
