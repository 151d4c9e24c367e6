"""Joins the parties into one path: silicon, Linux, KVM, the VMM, the vCPU's table, the guest's CPUID instruction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

from vcpuid import kvm, linux
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, MsrTable, MsrWord, Snapshot, Word, bits
from vcpuid.cpuid.feature_words import CONTROL_MSRS, PLAIN_CONTROLS
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError, KvmError, RefusedError, UnavailableError, VcpuidError
from vcpuid.kvm.answers import ask_ahead, kvm_says
from vcpuid.kvm.effect import advised
from vcpuid.linux.boot import BootCpu, booted_once
from vcpuid.path.beside import Beside
from vcpuid.path.possible import possible
from vcpuid.path.probing import GUEST, Probe, kept_as, observe
from vcpuid.path.words import GuestWords, TableWords, guest_words, table_words
from vcpuid.reasons import Basis, Result, Step, Trace
from vcpuid.reasons.lazy import LazyMapping, LazySequence
from vcpuid.releases import Release
from vcpuid.setup import Setup, Stack, joined, overruled
from vcpuid.told.completions import nameless
from vcpuid.told.doubt import weighed
from vcpuid.told.facts import Fact, NotTold, whether
from vcpuid.told.tried import Tried
from vcpuid.vmm import Made, Vmm
from vcpuid.vmm.known import named

SILICON = "the host's CPUID instruction"
KVM = "KVM_GET_SUPPORTED_CPUID"
_LINUX = "Linux {}'s boot_cpu_data"


@dataclass(frozen=True)
class Path:
    """One guest CPU and all that led to it.

    `cpu` is what was asked of `vmm`, `made` what that made of it, and `kept` what the first vCPU keeps of its table. `host` is the
    setup's: of a snapshot, what holds for this kernel. `remarks` are vcpuid's own on what stands for what. What the VMM prints is told as
    `warnings`, as far as it is certain, and as `warnings_not_told`; both are worked out when they are looked at. `guest_kernel` is the
    guest's Linux, None where that is of the host's release.
    """

    cpu: str
    setup: Setup
    vmm: Vmm
    made: Made
    kept: CpuidTable
    trace: Trace = field(compare=False)
    remarks: tuple[str, ...] = ()
    guest_kernel: Release | None = None

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
        """What the VMM prints, whatever it is that the host does not tell; `made` has what it prints where nothing of that is there."""
        return warned(self.cpu, self.setup, self.vmm).certain

    @property
    def warnings_not_told(self) -> tuple[NotTold, ...]:
        """What the VMM prints or not by facts that the host does not tell: each warning with these facts."""
        return warned(self.cpu, self.setup, self.vmm).not_told

    @property
    def said(self) -> tuple[str, ...]:
        """All that is to be said to a person on the way: vcpuid's remarks, the VMM's warnings, and those that are not told."""
        return (*self.remarks, *warned(self.cpu, self.setup, self.vmm).said(self.vmm))

    @cached_property
    def beside(self) -> Beside:
        """The path held against those of its CPU on the other hosts that its own could be."""
        made = paths(self.cpu, self.setup, self.vmm)
        return Beside(self.trace, made.map(lambda path: None if path is None else path.trace))

    @cached_property
    def inside(self) -> BootCpu | None:
        """What the guest's Linux makes of its CPU; None where that does not tell what it is."""
        guest = guest_snapshot(self)
        return booted_once(Setup.of(guest, Stack(self.guest_linux.asked))) if guest.raw else None

    @property
    def guest_linux(self) -> Release:
        """The release of the guest's Linux."""
        return self.guest_kernel or self.setup.kernel

    def __getstate__(self) -> dict[str, object]:
        """Leave `beside` and `inside` out of a pickle: they are worked out again when asked."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __str__(self) -> str:
        return self.headline()

    def headline(self, remark: str = "", most: int | None = None) -> str:
        """Say what was asked, of which software, in a line, which ends with what people copy.

        `remark` stands before the CPU; of one that is longer than `most`, the beginning is shown.
        """
        cpu = self.cpu if most is None or len(self.cpu) <= most else f"{self.cpu[:most]}…"
        return self.vmm.describe(cpu, self.setup, remark)

    def as_dict(self) -> dict[str, object]:
        """For JSON: what was asked and settled, and what was said on the way; it is part of every answer about a path."""
        return {
            "cpu": self.cpu,
            "setup": self.setup.as_dict(),
            "warnings": list(self.warnings),
            "warnings_not_told": [found.as_dict() for found in self.warnings_not_told],
            "remarks": list(self.remarks),
        }


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
    return _followed(cpu, advised(joined(host, stack, vmm.release)), vmm, probe)


def _followed(cpu: str, setup: Setup, vmm: Vmm, probe: Probe | None = None) -> Path:
    silicon, kernel_step, supported = _host_steps(setup)
    made = vmm.make(cpu, setup, kvm_says(setup))
    table, msrs, kernel = made.tables[0], FrozenMap(made.msrs), setup.kernel
    basis = Basis.OBSERVED if made.observed else Basis.MODELLED
    machine = Step(vmm.name, vmm.spoken, vmm.title, supported.after, table_words(table, msrs), made.decisions, basis)
    kept, basis = kvm.set_cpuid(table, host=setup), assumed(setup)
    vcpu = Step("vcpu", "KVM's vCPU", "the vCPU's table in KVM", machine.after, table_words(kept.table, msrs), kept.decisions, basis)
    decisions = LazySequence(lambda: kvm.seen(kept.table, kernel=kernel).decisions)
    guest = Step("guest", "KVM's look-up", GUEST, vcpu.after, guest_words(kept.table, msrs, kernel), decisions, basis)
    if made.kept is not None:
        vcpu, guest = kept_as(made.kept, vcpu, msrs, kernel)
    elif probe is not None:
        vcpu, guest = observe(probe, table, vcpu, msrs, kernel)
    trace = Trace((silicon, kernel_step, supported, machine, vcpu, guest))
    return Path(cpu, setup, vmm, made, made.kept or kept.table, trace, (*setup.remarks, *_kvm_remarks(setup), *made.remarks))


@lru_cache(maxsize=4)
def others(cpu: str, setup: Setup, vmm: Vmm) -> Tried[Path | VcpuidError]:
    """Resolve a CPU on each host that the setup's could be, with each table that a known part could be of; none where all is told.

    Where the VMM or KVM refuses it, that is the error.
    """
    hosts = possible(setup, vmm)
    ask_ahead([completion.setup for completion in hosts.completions])
    return hosts.tried(lambda host, maker: tried(cpu, host, maker))


@lru_cache(maxsize=4)
def paths(cpu: str, setup: Setup, vmm: Vmm) -> Tried[Path | None]:
    """Give the paths alone, None where there is none."""
    return others(cpu, setup, vmm).map(lambda outcome: outcome if isinstance(outcome, Path) else None)


def tried(cpu: str, setup: Setup, vmm: Vmm) -> Path | VcpuidError:
    """Resolve a CPU; return the error where the VMM or KVM refuses it, or where it makes no sense."""
    try:
        return _followed(cpu, setup, vmm)
    except VcpuidError as error:
        return error


def probed(path: Path, probe: Probe | None) -> Path:
    """Let a real vCPU have the table, where it takes it and runs; what the guest sees is then observed."""
    if probe is None:
        return path
    try:
        return resolve(path.cpu, host=path.setup, probe=probe)
    except (KvmError, UnavailableError):
        return path


ANY_WARNING = "any warning"
"""What is not told of a processor that does not say who made it, and which it is."""


class Warned(NamedTuple):
    """What a VMM prints of a CPU, each text once: what is certain, and what hangs on facts that the host does not tell."""

    certain: tuple[str, ...] = ()
    not_told: tuple[NotTold, ...] = ()

    def said(self, vmm: Vmm) -> tuple[str, ...]:
        """Give a line for each warning that is certain, as the VMM's own words, and for each set of facts on which others hang."""
        return (*(f"{vmm.spoken}: warning: {text}" for text in self.certain), *whether(f"{vmm.spoken} warns", self.not_told))


@lru_cache(maxsize=4)
def warned(cpu: str, setup: Setup, vmm: Vmm) -> Warned:
    """Say what the VMM prints of a CPU, also of one that it refuses.

    Certain is what it prints on every host that the setup's could be and on which it starts, or refuses, as here. Numbers of the host's are
    left open in what is not told. Of a recorded table it is not known what was printed, and nothing is said.
    """
    base = tried(cpu, setup, vmm)
    if isinstance(base, Path) and base.made.observed:
        return Warned()
    if blind := nameless(setup.host):
        return Warned((), (NotTold(ANY_WARNING, blind),))
    printed, starts = _printed(base), isinstance(base, Path)
    given = others(cpu, setup, vmm)
    hanging = weighed(printed, given.map(lambda outcome: _printed(outcome) if isinstance(outcome, Path) is starts else None))
    open_: dict[str, dict[Fact, None]] = {}
    for warning, facts in hanging.items():
        open_.setdefault(vmm.unspecific(warning), {}).update(dict.fromkeys(facts))
    certain = (warning for warning in printed if warning not in hanging)
    return Warned(tuple(certain), tuple(NotTold(warning, tuple(facts)) for warning, facts in open_.items()))


def _printed(outcome: Path | VcpuidError) -> dict[str, bool]:
    """Give the warnings of a VMM that starts, and those before a refusal, each once."""
    if isinstance(outcome, Path):
        return dict.fromkeys(outcome.made.warnings, True)
    return dict.fromkeys(outcome.warnings, True) if isinstance(outcome, RefusedError) else {}


def assumed(setup: Setup) -> Basis:
    """How it is known what this host's KVM does where it was not asked: by the rules of Linux's own, which it need not be."""
    return Basis.NOT_TRIED if kvm_says(setup).odd_modules else Basis.MODELLED


def _kvm_remarks(setup: Setup) -> Iterator[str]:
    """Say what an answer about this host's KVM stands on: one that is not Linux's own, one that ran otherwise, or none."""
    host = setup.host
    for module in kvm_says(setup).odd_modules:
        yield f"this host's KVM ({module}) is none of Linux's own modules: what it did not answer itself follows stock Linux's rules"
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

    It is a host again, for a guest within the guest: the MSRs are what RDMSR reads there, and stand for what a KVM there would offer. Of
    the VMX controls only what may be 1 is known.
    """
    values: dict[int, int] = {}
    for word, value in path.made.msrs.items():
        if isinstance(word, MsrWord):
            values[word.msr] = value << 32 if word.msr in CONTROL_MSRS else value
            if word.msr in PLAIN_CONTROLS:
                values[PLAIN_CONTROLS[word.msr]] = values[word.msr]
    msrs = MsrTable(values)
    return Snapshot(cpu=path.cpu, raw=guest_view(path), msrs=msrs, hardware_msrs=msrs, table=path.tables[0], kept=path.kept)


def _host_steps(setup: Setup) -> tuple[Step, Step, Step]:
    """Silicon, Linux and KVM; a snapshot without RAW lines leaves the first two unknown."""
    host, msrs = setup.host, kvm_says(setup).msr_words
    if not host.raw:
        if host.supported is None:
            raise InputError("the host tells neither its CPUID (RAW lines) nor what its KVM supports (SUP lines)")
        silicon = Step("silicon", "the hardware", SILICON, {}, {}, basis=Basis.NOT_TOLD)
        kernel_step = Step("linux", "Linux", _LINUX.format(setup.kernel.tables), {}, {}, basis=Basis.NOT_TOLD, whole=False)
        return silicon, kernel_step, Step("kvm", "KVM", KVM, {}, table_words(host.supported, msrs), basis=Basis.OBSERVED)
    raw = TableWords(host.raw, {})
    silicon = Step("silicon", "the hardware", SILICON, {}, raw, basis=Basis.OBSERVED)
    made = kvm_says(setup).feature_msrs
    before = TableWords(host.raw, kvm_says(setup).msr_words_before)
    if host.supported is None:
        model = kvm.supported(setup)
        decisions = LazySequence(lambda: (*model.decisions, *made.decisions))
        step = Step("kvm", "KVM", KVM, before, table_words(model.table, msrs), decisions, assumed(setup))
    else:  # the model is worked out when somebody holds the two side by side
        observed = host.supported
        modelled = LazyMapping(lambda: TableWords(_model(setup, observed).table, msrs))
        decisions = LazySequence(lambda: (*_model(setup, observed).decisions, *made.decisions))
        step = Step("kvm", "KVM", KVM, before, table_words(observed, msrs), decisions, Basis.OBSERVED, modelled)
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
