"""Joins the parties into one path: silicon, Linux, KVM, the VMM, the vCPU's table, the guest's CPUID instruction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from vcpuid import kvm, linux
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, MsrTable, MsrWord, Registers, Snapshot, Word, bits
from vcpuid.cpuid.feature_words import CONTROL_MSRS, PLAIN_CONTROLS
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError, KvmError
from vcpuid.kvm.answers import kvm_says
from vcpuid.reasons import Basis, Result, Step, Trace
from vcpuid.reasons.lazy import LazyMapping, LazySequence
from vcpuid.releases import Release
from vcpuid.setup import Setup, Stack, joined, overruled
from vcpuid.vmm import Made, Vmm
from vcpuid.vmm.known import named

SILICON = "the host's CPUID instruction"
KVM = "KVM_GET_SUPPORTED_CPUID"
GUEST = "the guest's CPUID instruction"
_LINUX = "Linux {}'s boot_cpu_data"


class VcpuReading(Protocol):
    """What a real vCPU made of a table: the table it kept and what CPUID returned inside."""

    @property
    def kept(self) -> CpuidTable:
        """KVM_GET_CPUID2 after KVM_SET_CPUID2."""

    @property
    def seen(self) -> Mapping[tuple[int, int], Registers]:
        """CPUID's answers in the guest, by function and index."""


class Probe(Protocol):
    """Hands a table to a real vCPU and reads leaves inside a guest; `vcpuid.live.tiny_guest.read_cpuid` is one."""

    def __call__(self, table: CpuidTable, leaves: Sequence[tuple[int, int]]) -> VcpuReading:
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
    """What the guest's CPUID instruction returns, by KVM's look-up rules; feature MSRs as the VMM set them."""

    def __init__(self, kept: CpuidTable, msrs: Mapping[Word, int], kernel: Release) -> None:
        super().__init__(kept, msrs)
        self._kernel = kernel

    def __getitem__(self, word: Word) -> int:
        if isinstance(word, CpuidWord):
            value: int = getattr(self.leaf(word.function, word.index), word.register)
            return value
        return self._msrs[word]

    def leaf(self, function: int, index: int) -> Registers:
        """All four registers at once."""
        return kvm.lookup(self._table, function, index, kernel=self._kernel)


@dataclass(frozen=True)
class Path:
    """One guest CPU and all that led to it.

    `cpu` is what was asked of `vmm`, `made` what that made of it, and `kept` what the first vCPU keeps of its table. `host` is the
    setup's: of a snapshot, what holds for this kernel. `warnings` are the VMM's, `remarks` vcpuid's own on what stands for what.
    """

    cpu: str
    setup: Setup
    vmm: Vmm
    made: Made
    kept: CpuidTable
    trace: Trace = field(compare=False)
    remarks: tuple[str, ...] = ()

    @property
    def host(self) -> Snapshot:
        """What the host tells, as far as it holds here."""
        return self.setup.host

    @property
    def tables(self) -> tuple[CpuidTable, ...]:
        """What the VMM hands to KVM_SET_CPUID2, one table a vCPU."""
        return self.made.tables

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the VMM prints."""
        return self.made.warnings

    def headline(self, remark: str = "") -> str:
        """Say what was asked, of which software, in a line; `remark` is put behind the CPU."""
        return f"{self.vmm.describe(self.cpu + remark, self.setup)}, Linux {self.setup.kernel}"

    def as_dict(self) -> dict[str, object]:
        """For JSON: what was asked and settled, and what was said on the way; it is part of every answer about a path."""
        return {"cpu": self.cpu, "setup": self.setup.as_dict(), "warnings": list(self.warnings), "remarks": list(self.remarks)}


def resolve(
    cpu: str,
    *,
    host: Snapshot | Setup,
    stack: Stack | None = None,
    probe: Probe | None = None,
    vmm: Vmm | None = None,
) -> Path:
    """Follow a guest CPU from the host's silicon to the guest.

    `cpu` is what is asked of the VMM: of QEMU, the usual one, the argument of -cpu. `host` is a snapshot, and `stack` the software on
    it, by default the host's own kernel and the newest QEMU; or `host` is a Setup, which holds both. What the snapshot tells of KVM is
    used as observed, where it holds for the stack, and the model's answer kept beside it; the rest is modelled. With a `probe`, the vCPU's
    table and the guest's reading are observed too. Raises QemuError, KvmError or the VMM's own error where one of them would refuse,
    InputError for what makes no sense, TypeError for a Setup and a stack besides.
    """
    vmm = vmm or named()
    setup = joined(host, stack, vmm.release)
    silicon, kernel_step, supported = _host_steps(setup)
    made = vmm.make(cpu, setup, kvm_says(setup))
    table, msrs, kernel = made.tables[0], made.msrs, setup.kernel
    basis = Basis.OBSERVED if made.observed else Basis.MODELLED
    machine = Step(vmm.name, vmm.spoken, vmm.title, supported.after, TableWords(table, msrs), made.decisions, basis)
    kept, basis = kvm.set_cpuid(table, host=setup), assumed(setup)
    vcpu = Step("vcpu", "KVM's vCPU", "the vCPU's table in KVM", machine.after, TableWords(kept.table, msrs), kept.decisions, basis)
    decisions = LazySequence(lambda: kvm.seen(kept.table, kernel=kernel).decisions)
    guest = Step("guest", "KVM's look-up", GUEST, vcpu.after, GuestWords(kept.table, msrs, kernel), decisions, basis)
    if probe is not None:
        vcpu, guest = _observe(probe, table, vcpu, msrs, kernel)
    trace = Trace((silicon, kernel_step, supported, machine, vcpu, guest))
    return Path(cpu, setup, vmm, made, kept.table, trace, (*setup.remarks, *_kvm_remarks(setup), *made.remarks))


def assumed(setup: Setup) -> Basis:
    """How it is known what this host's KVM does where it was not asked: by the rules of Linux's own, which it need not be."""
    return Basis.NOT_TRIED if kvm_says(setup).odd_modules else Basis.MODELLED


def _kvm_remarks(setup: Setup) -> Iterator[str]:
    """Say what an answer about this host's KVM stands on: one that is not Linux's own, one that ran otherwise, or none."""
    host = setup.host
    for module in kvm_says(setup).odd_modules:
        yield (
            f"this host's KVM runs on {module}, which is none of Linux's own modules: what it answered is observed, "
            "and the rest, which goes by the rules of Linux's own KVM, is not tried"
        )
    yield from overruled(setup)
    if host.supported is None and host.raw.get(1) is not None and not (host.raw.has(bits.VMX) or host.raw.has(bits.SVM)):
        yield "this processor reports neither VMX nor SVM: KVM's part is what it would be if KVM could run here"


def guest_view(path: Path) -> CpuidTable:
    """Return what the guest's CPUID instruction answers for every leaf of its table, in the table's order."""
    words = path.trace.step("guest").after
    if isinstance(words, GuestWords):
        return CpuidTable(Entry(*place, 0, *words.leaf(*place)) for place in path.kept.by_key())
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


def _host_steps(setup: Setup) -> tuple[Step, Step, Step]:
    """Silicon, Linux and KVM; a snapshot without RAW lines leaves the first two unknown."""
    host, msrs = setup.host, kvm_says(setup).msr_words
    if not host.raw:
        if host.supported is None:
            raise InputError("the host tells neither its CPUID (RAW lines) nor what its KVM supports (SUP lines)")
        silicon = Step("silicon", "the hardware", SILICON, {}, {}, basis=Basis.NOT_TOLD)
        kernel_step = Step("linux", "Linux", _LINUX.format(setup.kernel.tables), {}, {}, basis=Basis.NOT_TOLD, whole=False)
        return silicon, kernel_step, Step("kvm", "KVM", KVM, {}, TableWords(host.supported, msrs), basis=Basis.OBSERVED)
    raw = TableWords(host.raw, {})
    silicon = Step("silicon", "the hardware", SILICON, {}, raw, basis=Basis.OBSERVED)
    made = kvm_says(setup).feature_msrs
    before = TableWords(host.raw, kvm_says(setup).msr_words_before)
    if host.supported is None:
        model = kvm.supported(setup)
        decisions = LazySequence(lambda: (*model.decisions, *made.decisions))
        step = Step("kvm", "KVM", KVM, before, TableWords(model.table, msrs), decisions, assumed(setup))
    else:  # the model is worked out when somebody holds the two side by side
        observed = host.supported
        modelled = LazyMapping(lambda: TableWords(_model(setup, observed).table, msrs))
        decisions = LazySequence(lambda: (*_model(setup, observed).decisions, *made.decisions))
        step = Step("kvm", "KVM", KVM, before, TableWords(observed, msrs), decisions, Basis.OBSERVED, modelled)
    return silicon, _linux_step(setup, raw), step


def _model(setup: Setup, observed: CpuidTable) -> Result:
    """What the rules say beside an observed answer: nothing of their own where KVM would refuse this processor's CPUID as too long."""
    try:
        return kvm.supported(setup)
    except KvmError:
        return Result(observed)


def _linux_step(setup: Setup, raw: Mapping[Word, int]) -> Step:
    """Linux's words; the flags that the host's own /proc/cpuinfo shows are observed."""
    title, boot = _LINUX.format(setup.kernel.tables), linux.boot_cpu(setup)
    modelled = LazyMapping(boot.words)
    if "flags" not in setup.host.cpuinfo:
        return Step("linux", "Linux", title, raw, modelled, boot.decisions, whole=False)
    seen: Mapping[Word, int] = LazyMapping(lambda: linux.boot_cpu(setup, observed=True).words())
    return Step("linux", "Linux", title, raw, seen, boot.decisions, Basis.OBSERVED, modelled, whole=False)


def _observe(probe: Probe, table: CpuidTable, vcpu: Step, msrs: Mapping[Word, int], kernel: Release) -> tuple[Step, Step]:
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
    guest = Step("guest", "KVM's look-up", GUEST, real.after, {**seen, **msrs}, decisions, Basis.OBSERVED, looked_up)
    return real, guest
