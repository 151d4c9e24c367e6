"""A VMM of a recording: it is a party whose tables are observed. Of a QEMU it is also known how it comes to them.

Where our model of that QEMU makes the same tables of its command line, the model's decisions are the reasons. Where it does not, the
difference is told, and what the VMM changed on KVM's answer, as of any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vcpuid import releases
from vcpuid.cpuid import CpuidTable, MsrWord, Word
from vcpuid.cpuid.feature_words import CONTROL_MSRS
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.errors import InputError, VcpuidError
from vcpuid.formats.recorded_calls import SET_MSRS, RecordedVcpu, Recording, VmmProgram
from vcpuid.kvm.answers import Answers
from vcpuid.reasons import Decision, Ledger, Rule
from vcpuid.reasons.lazy import LazySequence
from vcpuid.releases import Release
from vcpuid.setup import Setup
from vcpuid.vmm import Made
from vcpuid.vmm.held import hanging, held
from vcpuid.vmm.qemu import QEMU
from vcpuid.vmm.qemu_line import QemuLine, read_line
from vcpuid.vmm.recorded import Recorded, account

_KEPT_ALONE = "the recording tells what KVM kept of the table, and not what it was given: what KVM rules itself counts as the VMM's"
_OR_KVM = " or KVM"
"""Who changed a bit of a table that was not seen before KVM kept it."""

SETS_MSR = Rule("recorded.msr", "the VMM gives this MSR a value of its own (KVM_SET_MSRS)", "the recorded calls")


@dataclass(frozen=True)
class ShownGuest:
    """What a recording shows of one guest: its vCPUs, in order, the first's table and all others', and what is known of its VMM."""

    vcpus: tuple[RecordedVcpu, ...]
    program: VmmProgram | None
    command: tuple[str, ...]

    @classmethod
    def of(cls, recording: Recording, number: int | None = None) -> ShownGuest:
        """Choose a guest: the first, or the one that the vCPU with this place in the file's order is of, which then comes first.

        Raises InputError where the recording has no guest's table.
        """
        if not recording.vcpus:
            raise InputError("no guest's table is in it", source=recording.source)
        chosen = recording.vcpus[number or 0]
        mates = [vcpu for vcpu in recording.vcpus if vcpu.vm == chosen.vm]
        ordered = mates if number is None else [chosen, *(vcpu for vcpu in mates if vcpu is not chosen)]
        return cls(tuple(ordered), recording.program(chosen), recording.command)

    @property
    def tables(self) -> tuple[CpuidTable, ...]:
        """The tables handed to KVM; where nobody saw that, those that were kept."""
        tables = ((vcpu.handed.table if vcpu.handed is not None else None) or vcpu.kept or CpuidTable() for vcpu in self.vcpus)
        return tuple(tables)

    @property
    def handed(self) -> bool:
        """Whether they were seen to be handed over."""
        return self.vcpus[0].handed is not None

    @property
    def msrs(self) -> dict[int, int]:
        """The MSRs that the first vCPU was given, and KVM took, the last value of each."""
        calls = (call for call in self.vcpus[0].calls if call.name == SET_MSRS)
        return {index: value for call in calls for index, value in call.msrs[: max(0, call.result)]}

    @property
    def name(self) -> str:
        """The VMM's program."""
        return self.program.name if self.program is not None else "the VMM"

    @property
    def line(self) -> QemuLine | None:
        """The command line, where the VMM is a QEMU."""
        if self.program is None or not self._is_qemu:
            return None
        own = self.program.arguments
        return read_line(own, own[0].rpartition("/")[2]) if own and own[0] else read_line(self.command, self.program.name)

    @property
    def release(self) -> str | None:
        """QEMU's release ("7.2.22"), where its program told."""
        version = None if self.program is None else self.program.version
        return version.split()[1] if version and self._is_qemu and len(version.split()) > 1 else None

    @property
    def _is_qemu(self) -> bool:
        program = self.program
        return program is not None and ("qemu" in program.name or (program.version or "").startswith("QEMU"))


@dataclass(frozen=True, slots=True)
class Observed(Recorded):
    """A VMM of which a recording shows the tables.

    `kept` is what the first vCPU kept, where that was seen, `set_msrs` the MSRs that it was given. Without `handed`, nobody saw what it was
    given, and its table is the one that it keeps.
    """

    kept: CpuidTable | None = None
    set_msrs: Mapping[int, int] = FrozenMap()
    handed: bool = True

    @classmethod
    def shown(cls, shown: ShownGuest) -> Observed:
        """Take a guest of a recording."""
        title = f"the table that {shown.name} handed to KVM_SET_CPUID2" if shown.handed else "the table that the vCPU keeps"
        return cls(
            shown.tables,
            spoken=f"{shown.name}{'' if shown.handed else _OR_KVM} (observed)",
            title=title,
            kept=shown.vcpus[0].kept,
            set_msrs=FrozenMap(shown.msrs),
            handed=shown.handed,
        )

    def describe(self, asked: str, setup: Setup, remark: str = "") -> str:
        """Name the VMM and the source."""
        spoken = self.spoken.removesuffix(" (observed)").removesuffix(_OR_KVM)
        return f"{remark}{spoken}, as {asked} shows it, {setup.linux}"

    def make(self, asked: str, setup: Setup, kvm: Answers) -> Made:
        """Hand on what was recorded; the decisions lead from KVM's answer to the first table, and to the MSRs that the VMM set."""
        del asked, setup
        msrs = self._msrs(kvm)
        remarks = () if self.handed else (_KEPT_ALONE,)

        def decisions() -> tuple[Decision, ...]:
            of_table = account(kvm.supported, self.tables[0], kvm.host.raw, handed=self.handed)
            return (*of_table, *_of_msrs(kvm.msr_words, msrs))

        return Made(self.tables, FrozenMap(msrs), LazySequence(decisions), observed=True, remarks=remarks, kept=self.kept)

    def _msrs(self, kvm: Answers) -> dict[Word, int]:
        """The guest's feature MSRs: KVM gives a vCPU its own, and the VMM may give others."""
        own = dict(kvm.msr_words)
        for word in own:
            if isinstance(word, MsrWord) and word.msr in self.set_msrs:
                value = self.set_msrs[word.msr]
                own[word] = value >> 32 if word.msr in CONTROL_MSRS else value
        return own


def _of_msrs(before: Mapping[Word, int], after: Mapping[Word, int]) -> list[Decision]:
    ledger = Ledger()
    for word, value in after.items():
        ledger.compute(word, before.get(word, 0), value, SETS_MSR)
    return ledger.decisions


@dataclass(frozen=True, slots=True)
class ObservedQemu(Observed):
    """A QEMU of which a recording shows the tables. What is asked of it is its own -cpu; machine, smp and release are in the setup."""

    name: str = "qemu"

    @classmethod
    def shown(cls, shown: ShownGuest) -> ObservedQemu:
        """Take a guest of a recording."""
        seen = Observed.shown(shown)
        return cls(
            seen.tables, spoken="QEMU" if seen.handed else f"QEMU{_OR_KVM}", title=seen.title, kept=seen.kept, set_msrs=seen.set_msrs,
            handed=seen.handed,
        )  # fmt: skip

    def release(self, asked: str | None) -> Release:
        """Choose the tables of a QEMU's release."""
        return releases.qemu(asked)

    def describe(self, asked: str, setup: Setup, remark: str = "") -> str:
        """Name the software, and spell -cpu."""
        return QEMU.describe(asked, setup, f"recorded: {remark}")

    def make(self, asked: str, setup: Setup, kvm: Answers) -> Made:
        """Hand on what was recorded, with the model's decisions wherever the model makes the same, and say where it does not."""
        seen = Observed.make(self, asked, setup, kvm)
        if not self.handed:
            return seen
        try:
            made = QEMU.make(asked, setup, kvm)
        except VcpuidError as error:
            return replace(seen, remarks=(*seen.remarks, f"the model of QEMU {setup.vmm} makes no table: {error}"))
        if made.tables[: len(self.tables)] == self.tables:
            remark = f"the model of QEMU {setup.vmm} makes the same {'tables' if len(self.tables) > 1 else 'table'}"
            return replace(made, observed=True, kept=self.kept, remarks=(*made.remarks, remark))
        remark = held(f"QEMU {setup.vmm}", self.tables, made.tables, hanging(asked, setup, made.tables))
        others = frozenset(
            word for word in (*made.tables[0].words(), *self.tables[0].words()) if made.tables[0].word(word) != self.tables[0].word(word)
        )

        def decisions() -> tuple[Decision, ...]:
            by_model = (decision for decision in made.decisions if decision.word not in others)
            return (*by_model, *(decision for decision in seen.decisions if decision.word in others))

        return replace(
            made, tables=self.tables, decisions=LazySequence(decisions), observed=True, kept=self.kept, remarks=(*made.remarks, remark)
        )


def observed(shown: ShownGuest) -> Observed:
    """Return the VMM of a recording's guest."""
    return Observed.shown(shown) if shown.line is None else ObservedQemu.shown(shown)
