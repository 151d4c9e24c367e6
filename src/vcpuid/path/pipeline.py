"""Joins the parties into one path: silicon, Linux, KVM, QEMU, the vCPU's table, the guest's CPUID instruction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from vcpuid import kvm, linux, qemu
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, MsrTable, MsrWord, Registers, Snapshot, Word
from vcpuid.cpuid.feature_words import CONTROL_MSRS
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError
from vcpuid.kvm.params import split
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.state import CpuState
from vcpuid.reasons import Basis, Step, Trace
from vcpuid.reasons.lazy import LazyMapping, LazySequence
from vcpuid.releases import kernel as kernel_tables
from vcpuid.setup import Stack, settle

GUEST = "the guest's CPUID instruction"
PLAIN_CONTROLS = {0x48D: 0x481, 0x48E: 0x482, 0x48F: 0x483, 0x490: 0x484}
"""VMX's "true" controls, which QEMU sets, and the plain ones that KVM answers likewise (vmx_get_vmx_msr, arch/x86/kvm/vmx/nested.c)."""

AMX = 3 << 17
"""XCR0: the configuration and the data of AMX's tiles."""

VMX, SVM = CpuidWord(1, 0, "ecx"), CpuidWord(0x80000001, 0, "ecx")


class Reading(Protocol):
    """What a real vCPU made of a table: the table it kept and what CPUID returned inside."""

    @property
    def kept(self) -> CpuidTable:
        """KVM_GET_CPUID2 after KVM_SET_CPUID2."""

    @property
    def seen(self) -> Mapping[tuple[int, int], Registers]:
        """CPUID's answers in the guest, by function and index."""


class Probe(Protocol):
    """Hands a table to a real vCPU and reads leaves inside a guest; `vcpuid.live.tiny_guest.read_cpuid` is one."""

    def __call__(self, table: CpuidTable, leaves: Sequence[tuple[int, int]]) -> Reading:
        """Set the table, run the guest, return what it read."""


class TableWords(Mapping[Word, int]):
    """A table's registers and feature MSRs, word by word; looked up when asked for, since most words of a path never are."""

    def __init__(self, table: CpuidTable, msrs: Mapping[Word, int]) -> None:
        self._table, self._msrs = table, msrs

    def __getitem__(self, word: Word) -> int:
        if not isinstance(word, CpuidWord):
            return self._msrs[word]
        if self._table.get(word.function, word.index) is None:
            raise KeyError(word)
        return self._table.word(word)

    def __iter__(self) -> Iterator[Word]:
        yield from self._table.words()
        yield from self._msrs

    def __len__(self) -> int:
        return len(self._table.by_key()) * len(REGISTERS) + len(self._msrs)


class GuestWords(TableWords):
    """What the guest's CPUID instruction returns, by KVM's look-up rules; feature MSRs as QEMU set them."""

    def __init__(self, kept: CpuidTable, msrs: Mapping[Word, int], kernel: str) -> None:
        super().__init__(kept, msrs)
        self._kernel = kernel

    def __getitem__(self, word: Word) -> int:
        if isinstance(word, CpuidWord):
            value: int = getattr(kvm.lookup(self._table, word.function, word.index, kernel=self._kernel), word.register)
            return value
        return self._msrs[word]


@dataclass(frozen=True, slots=True)
class Path:
    """One guest CPU and all that led to it. `tables` are what QEMU hands to KVM_SET_CPUID2, one a vCPU; `kept` is what the first keeps.

    `state` is QEMU's CPU behind the tables.
    """

    cpu: str
    host: Snapshot
    stack: Stack
    tables: tuple[CpuidTable, ...]
    kept: CpuidTable
    trace: Trace
    state: CpuState
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def resolve(cpu: str, *, host: Snapshot, stack: Stack | None = None, probe: Probe | None = None) -> Path:
    """Follow a guest CPU from the host's silicon to the guest.

    `cpu` is QEMU's -cpu argument. What the host snapshot tells of KVM is used as observed, where it holds for `stack` (see `settle`), and
    the model's answer kept beside it; the rest is modelled. With a `probe`, the vCPU's table and the guest's reading are observed too.
    Raises QemuError or KvmError where QEMU or KVM would refuse, InputError for what makes no sense.
    """
    stack = stack or Stack()
    host = settle(host, stack)
    remarks = (*stack.remarks, *_kvm_remarks(host))
    kernel = kernel_tables(stack.kernel)
    silicon, kernel_step, supported = _host_steps(host, kernel, stack)
    made = qemu_tables(cpu, host, stack)
    table = made.tables[0]
    msrs = _guest_msrs(made.state)
    machine = Step(
        "qemu", "QEMU's table for KVM_SET_CPUID2", supported.after, TableWords(table, msrs), LazySequence(lambda: made.decisions)
    )
    kept = kvm.set_cpuid(table, host=host, kernel=kernel, params=stack.params)
    vcpu = Step("vcpu", "the vCPU's table in KVM", machine.after, TableWords(kept.table, msrs), kept.decisions)
    guest = Step(
        "guest",
        GUEST,
        vcpu.after,
        GuestWords(kept.table, msrs, kernel),
        LazySequence(lambda: kvm.seen(kept.table, kernel=kernel).decisions),
    )
    if probe is not None:
        vcpu, guest = _observe(probe, table, vcpu, msrs, kernel)
    trace = Trace((silicon, kernel_step, supported, machine, vcpu, guest))
    return Path(cpu, host, stack, tuple(made.tables), kept.table, trace, made.state, tuple(made.warnings), remarks)


def _kvm_remarks(host: Snapshot) -> Iterator[str]:
    """Say where the host's KVM is not one of Linux's own, as its modules' parameters show, and where there can be none."""
    modules = {name.partition(".")[0] for name in host.params}
    for module in sorted(modules - {"kvm", "kvm_intel", "kvm_amd"}):
        yield f"this host's KVM runs on {module}, which is not one of Linux's own vendor modules: where it was asked, its answers hold"
    if host.supported is None and host.raw and not (host.raw.word(VMX) & 1 << 5 or host.raw.word(SVM) & 1 << 2):
        yield "this processor reports neither VMX nor SVM: KVM's part is what it would be if KVM could run here"


def qemu_tables(cpu: str, host: Snapshot, stack: Stack) -> qemu.QemuResult:
    """Ask QEMU's part alone: the tables for KVM_SET_CPUID2, as `vcpuid.qemu.guest_tables` makes them, on this host's KVM."""
    return qemu.guest_tables(
        cpu,
        host=host,
        qemu=stack.qemu,
        machine=stack.machine,
        smp=stack.smp,
        kernel=stack.kernel,
        params=stack.params,
        kvm=kvm_host(host, stack),
    )


def kvm_host(host: Snapshot, stack: Stack) -> qemu.KvmHost:
    """Tell what QEMU learns of KVM besides CPUID, as far as the host shows it.

    QEMU asks for the permission to use AMX and then for the XSAVE components (KVM_X86_XCOMP_GUEST_SUPP); who took the snapshot's SUP lines
    need not have asked, and leaf 0xD then lacks the state of AMX's tiles.
    """
    if not host.raw:
        return qemu.KvmHost()
    offered = kvm.caps(host, stack.kernel, stack.params).xcr0
    if host.supported is not None:
        leaf = host.supported.registers(0xD)
        offered = leaf.eax | leaf.edx << 32 | offered & AMX
    return qemu.KvmHost(xcr0=offered)


def guest_view(path: Path) -> CpuidTable:
    """Return what the guest's CPUID instruction answers for every leaf of its table, in the table's order."""
    words = path.trace.step("guest").after
    return CpuidTable(Entry(*place, 0, *(words[CpuidWord(*place, register)] for register in REGISTERS)) for place in path.kept.by_key())


def guest_snapshot(path: Path) -> Snapshot:
    """Return the guest as a snapshot: what its CPUID and its feature MSRs answer, the table set and the table kept.

    It is a host again, for a guest within the guest. Of the VMX controls only what may be 1 is known.
    """
    msrs: dict[int, int] = {}
    for word, value in path.trace.step("guest").after.items():
        if isinstance(word, MsrWord):
            msrs[word.msr] = value << 32 if word.msr in CONTROL_MSRS else value
            if word.msr in PLAIN_CONTROLS:
                msrs[PLAIN_CONTROLS[word.msr]] = msrs[word.msr]
    return Snapshot(cpu=path.cpu, raw=guest_view(path), msrs=MsrTable(msrs), table=path.tables[0], kept=path.kept)


def _host_steps(host: Snapshot, kernel: str, stack: Stack) -> tuple[Step, Step, Step]:
    """Silicon, Linux and KVM; a snapshot without RAW lines leaves the first two unknown."""
    raw = TableWords(host.raw, {})
    msrs = _host_msrs(host)
    title = "KVM_GET_SUPPORTED_CPUID"
    if not host.raw:
        silicon = Step("silicon", "the host's CPUID instruction", {}, {}, basis=Basis.UNKNOWN)
        kernel_step = Step("linux", f"Linux {kernel}'s boot_cpu_data", {}, {}, basis=Basis.UNKNOWN, whole=False)
        if host.supported is None:
            raise InputError("the host tells neither its CPUID (RAW lines) nor what its KVM supports (SUP lines)")
        return silicon, kernel_step, Step("kvm", title, {}, TableWords(host.supported, msrs), basis=Basis.OBSERVED)
    silicon = Step("silicon", "the host's CPUID instruction", {}, raw, basis=Basis.OBSERVED)
    kernel_step = _linux_step(host, kernel, stack, raw)
    model = kvm.supported(host, kernel, stack.params)
    modelled = TableWords(model.table, msrs)
    before = TableWords(host.raw, msrs)  # what KVM does to feature MSRs is not modelled: they count from here on
    if host.supported is None:
        return silicon, kernel_step, Step("kvm", title, before, modelled, model.decisions)
    observed = TableWords(host.supported, msrs)
    return silicon, kernel_step, Step("kvm", title, before, observed, model.decisions, Basis.OBSERVED, modelled)


def _host_msrs(host: Snapshot) -> dict[Word, int]:
    """KVM's feature MSRs as words; of VMX's controls the half that says what may be 1, as QEMU counts their bits."""
    return {MsrWord(index): value >> 32 if index in CONTROL_MSRS else value for index, value in host.msrs.items()}


def _guest_msrs(state: CpuState) -> dict[Word, int]:
    """The feature MSRs that QEMU gives the guest."""
    words = catalog(state.release).by_name
    return {words[name].word: value for name, value in state.features.items() if isinstance(words[name].word, MsrWord)}


def _linux_step(host: Snapshot, kernel: str, stack: Stack, raw: Mapping[Word, int]) -> Step:
    """Linux's words; the flags that the host's own /proc/cpuinfo shows are observed."""
    title = f"Linux {kernel}'s boot_cpu_data"
    params = split(stack.params)[1]
    boot = kvm.caps(host, kernel, stack.params).boot
    if "flags" not in host.cpuinfo:
        return Step("linux", title, raw, boot.words(), boot.decisions, whole=False)
    seen: Mapping[Word, int] = LazyMapping(lambda: linux.boot_cpu(host, kernel, params, observed=True).words())
    return Step("linux", title, raw, seen, boot.decisions, Basis.OBSERVED, boot.words(), whole=False)


def _observe(probe: Probe, table: CpuidTable, vcpu: Step, msrs: Mapping[Word, int], kernel: str) -> tuple[Step, Step]:
    """The last two steps as a real vCPU takes them; the model's answer beside each is to what that vCPU was given and kept."""
    reading = probe(table, list(table.by_key()))
    seen: dict[Word, int] = {
        CpuidWord(function, index, register): value
        for (function, index), registers in reading.seen.items()
        for register, value in zip(REGISTERS, registers, strict=True)
    }
    real = replace(vcpu, after=TableWords(reading.kept, msrs), basis=Basis.OBSERVED, modelled=vcpu.after)
    looked_up = GuestWords(reading.kept, msrs, kernel)
    decisions = LazySequence(lambda: kvm.seen(reading.kept, kernel=kernel).decisions)
    return real, Step("guest", GUEST, real.after, {**seen, **msrs}, decisions, Basis.OBSERVED, looked_up)
