"""Does QEMU run `-cpu CPU` on a host with all that was asked? If not, what is missing, by whose doing, and which -cpu would run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from vcpuid.answers.attempt import Attempt
from vcpuid.answers.certainty import hanging, settings, starting
from vcpuid.answers.counts import NO_COUNTS, Requested, distinct, kept, wanted
from vcpuid.answers.in_words import InWords, in_words
from vcpuid.answers.missing import Missing, gives_all, lost, missing_of, resolved
from vcpuid.answers.nearest import nearest
from vcpuid.answers.overruling import put_back, withheld
from vcpuid.answers.proposal import enforced, lenient, propose
from vcpuid.answers.settings import Amendment, repaired, switch
from vcpuid.answers.settings import joined as joined_cpu
from vcpuid.answers.starting import REFUSES, STARTS, Start, mended, started
from vcpuid.answers.survey import cpuid_features
from vcpuid.cpuid import Bit, Snapshot
from vcpuid.cpuid.names import Feature, by_bit
from vcpuid.errors import NotKnownError
from vcpuid.kvm.answers import kvm_says
from vcpuid.kvm.effect import advised
from vcpuid.path.pipeline import Path, probed, warned
from vcpuid.path.probing import Probe
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.hyperv import ignored
from vcpuid.qemu.managers import remarked
from vcpuid.qemu.startup import RunningKvm
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.unknown import Guess, guesses, lacking, spelled
from vcpuid.reasons import Basis, Trace
from vcpuid.setup import Setup, Stack, joined
from vcpuid.told.assumptions import Assumption
from vcpuid.told.facts import NotTold, in_common, listed
from vcpuid.vmm.known import named

_KVM_ERROR = re.compile(r"E[A-Z0-9]+: ")

START = "whether QEMU starts"
"""What is not told where QEMU or KVM refuses the CPU or not by facts that are not told."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer.

    `runs` says that QEMU starts the guest and gives it all that was asked; it is None where that is not told, and `not_told` names what it
    depends on; with `start`, how QEMU's start ends and how that is known, also where that is by rules that are not this KVM's.
    `refusal` is QEMU's or KVM's message where they refuse or QEMU aborts, `not_known` says what the tables cannot tell where they are older
    than the QEMU asked for, and `warnings` is what QEMU prints on the way for certain, each once; `warnings_not_told` are those that hang
    on facts that are not told. `meant` are guesses at what names that QEMU does not have stand for. `proposal` is the nearest -cpu that
    keeps the model (in any of its versions) and the user's properties as far as they can be kept and runs without a warning: the CPU
    itself where none is certain, None where there is none; `amendments` tells in what it is
    another, but for the features that it drops. `nearest` is the model that runs as it is with the settings kept and keeps the most of what
    was asked for: the proposal itself where that drops no feature. `counts` says how many features each of them keeps,
    and which the guest lacks. `put_back` are features that QEMU leaves out and KVM
    shows the guest all the same, `withheld` those that QEMU gives and KVM does not show: of a KVM that was asked and is not Linux's own.
    `ignored` are the properties that QEMU takes and that do nothing here, those of Hyper-V where the host's KVM has none.
    `by_libvirt` says that libvirt asked, and judges by itself what QEMU drops without a word.
    `setup` is what it was asked of, `path` the resolved CPU, None where QEMU or KVM refuse it before they try; `seen` is the same as a real
    vCPU took it, where one was asked.
    """

    cpu: str
    setup: Setup
    runs: bool | None
    refusal: str | None
    warnings: tuple[str, ...]
    missing: tuple[Missing, ...]
    not_told: tuple[NotTold, ...]
    proposal: str | None
    nearest: str | None
    path: Path | None
    amendments: tuple[Amendment, ...] = ()
    meant: tuple[Guess, ...] = ()
    not_known: str | None = None
    start: Start | None = None
    put_back: tuple[Feature, ...] = ()
    withheld: tuple[Feature, ...] = ()
    by_libvirt: bool = False
    warnings_not_told: tuple[NotTold, ...] = ()
    counts: Requested = NO_COUNTS
    ignored: tuple[str, ...] = ()
    seen: Path | None = None

    def __str__(self) -> str:
        return _sentence(self)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of what stands for what, and of what has no effect."""
        return self.setup.remarks if self.path is None else self.path.remarks

    @property
    def assumes(self) -> tuple[Assumption, ...]:
        """The settings that nobody gave, taken to be the usual ones, with which the verdict would be another if they were not."""
        if self.runs is None:
            return ()
        given = settings(self.cpu, self.setup, named())
        all_ = gives_all(self.path, self.by_libvirt)
        return tuple(assumption for assumption, path in given if gives_all(path, self.by_libvirt) != all_)

    @property
    def keeping(self) -> str | None:
        """Say how many of the features asked for the proposal keeps, and how many KVM adds all the same; None where nothing is counted."""
        asked, kept = len(self.counts.asked), self.counts.proposal_keeps
        if kept is None or not asked:
            return None
        said = f"keeps all {asked} features asked for" if kept == asked else f"keeps {kept} of the {asked} features asked for"
        put_back = {missing.called for missing in self.missing if missing.put_back}
        return said + (f"; this machine's KVM shows the guest {len(put_back)} more of them all the same" if put_back else "")

    def written(self, manager: str) -> InWords | None:
        """Write the -cpu that runs in the words of one of `in_words.MANAGERS`; None where there is none."""
        return None if self.proposal is None else in_words(self.proposal, manager, catalog(self.setup.vmm.tables))

    def as_dict(self) -> dict[str, object]:
        """For JSON, as a part: `vcpuid.hazards.report` adds the hazards."""
        return {
            "cpu": self.cpu,
            "setup": self.setup.as_dict(),
            "warnings": list(self.warnings),
            "warnings_not_told": [found.as_dict() for found in self.warnings_not_told],
            "remarks": list(self.remarks),
            "runs": self.runs,
            "refusal": self.refusal,
            "start": None if self.start is None else self.start.as_dict(),
            "not_known": self.not_known,
            "meant": [guess.as_dict() for guess in self.meant],
            "missing": [missing.as_dict() for missing in self.missing],
            "put_back": [feature.name for feature in self.put_back],
            "withheld": [feature.name for feature in self.withheld],
            "not_told": [open_.as_dict() for open_ in self.not_told],
            "assumes": [assumption.as_dict() for assumption in self.assumes],
            "proposal": self.proposal,
            "amendments": [amendment.as_dict() for amendment in self.amendments],
            "nearest": self.nearest,
            "features": self.counts.as_dict(),
            "ignored": list(self.ignored),
        }


def verdict(
    cpu: str,
    host: Snapshot | Setup,
    stack: Stack | None = None,
    *,
    probe: Probe | None = None,
    kvm: RunningKvm | None = None,
    by_libvirt: bool = False,
) -> Verdict:
    """Judge a -cpu argument on a host; `host`, `stack` and `probe` are as in `resolve`.

    `kvm` is the host's own KVM, on which what QEMU sets at start is tried (`vcpuid.live.trial.Trial`); without it nobody knows whether
    a KVM that is not Linux's own takes that. `by_libvirt` says that libvirt asks, which looks itself at what QEMU made: what QEMU drops
    without a word is then no lack. What QEMU or KVM refuse is the verdict itself. Raises InputError for a host that tells nothing and
    for a wrong release or parameter.
    """
    found = unadvised(cpu, host, stack, probe=probe, kvm=kvm, by_libvirt=by_libvirt)
    if found.not_known is not None or (found.runs is not False and (found.runs is None or not found.warnings)):
        return found
    proposal, amendments, near = _better(found.cpu, found.setup, kvm, found.ignored)
    tables = catalog(found.setup.vmm.tables)
    meant = () if found.path is not None else guesses(found.cpu, tables.release)
    attempt, counts = Attempt(found.setup), found.counts
    counts = counts._replace(proposal_keeps=kept(attempt, proposal, counts.asked), nearest_keeps=kept(attempt, near, counts.asked))
    return replace(found, proposal=proposal, amendments=amendments, nearest=near, meant=meant, counts=counts)


def unadvised(
    cpu: str,
    host: Snapshot | Setup,
    stack: Stack | None = None,
    *,
    probe: Probe | None = None,
    kvm: RunningKvm | None = None,
    by_libvirt: bool = False,
) -> Verdict:
    """Judge a -cpu argument as `verdict` does, without looking for one that runs instead, which takes ten times as long."""
    cpu, setup = remarked(cpu, advised(joined(host, stack)))
    try:
        path, refusal = resolved(cpu, setup)
    except NotKnownError as error:
        return Verdict(cpu, setup, None, None, (), (), (), None, None, None, not_known=error.cause)
    seen = None if path is None else probed(path, probe)
    denied = missing_of(cpu, setup, seen, probe, by_libvirt)
    not_told = _not_told(cpu, setup, by_libvirt)
    hidden = {found.what for found in not_told}
    missing = tuple(missing for missing in denied if missing.feature.name not in hidden)
    idle = _ignored(path)
    runs: bool | None = refusal is None and not denied and not idle and enforced(cpu, setup)
    if not_told and not missing and (refusal is None or START in hidden):
        runs = None
    warnings, open_warnings = warned(cpu, setup, named())
    start = Start(REFUSES, Basis.MODELLED, refusal) if path is None else started(path, kvm)
    if start.outcome != STARTS:
        runs, refusal = (runs if path is None else False), start.message
    elif runs and start.basis is Basis.NOT_TRIED:
        runs = None
    return Verdict(
        cpu, setup, runs, refusal, warnings, missing, not_told, cpu if runs else None, None, path,
        start=start, put_back=_overruled(seen, put_back), withheld=_overruled(seen, withheld), by_libvirt=by_libvirt,
        warnings_not_told=open_warnings, counts=_counts(cpu, setup, missing, whole=bool(runs)), ignored=idle, seen=seen,
    )  # fmt: skip


def _counts(cpu: str, setup: Setup, missing: tuple[Missing, ...], *, whole: bool) -> Requested:
    """Count what is asked for and lost; a CPU that gives the `whole` of it is its own proposal."""
    attempt = Attempt(setup)
    made = None if attempt.machine is None else attempt.run(lenient(cpu))
    asked = () if made is None else distinct(attempt.catalog, wanted(made))
    lacks = tuple(dict.fromkeys(lost.called for lost in missing if not lost.put_back))
    return Requested(asked, lacks, len(asked) if whole else None)


def _ignored(path: Path | None) -> tuple[str, ...]:
    state = None if path is None else path.made.detail
    return ignored(state.props, kvm_says(path.setup).hyperv) if path is not None and isinstance(state, CpuState) else ()


def _better(
    cpu: str, setup: Setup, kvm: RunningKvm | None, idle: tuple[str, ...] = ()
) -> tuple[str | None, tuple[Amendment, ...], str | None]:
    """Find a proposal, in what it is another, and the nearest model; with a KVM to try them on, only such as start there.

    `idle` are settings that do nothing here, and which a proposal need not have.
    """
    without, gone = _without(cpu, idle)
    found, near = propose(without, setup), None
    if found is not None and gone:
        found = replace(found, amendments=(*gone, *found.amendments))
    if found is None or found.missing:
        name, settings, _ = repaired(cpu, catalog(setup.vmm.tables))
        near = nearest(name, settings if found is None else found.settings, setup)
    else:
        near = found.cpu  # a version of the model, as it is
    if kvm is not None and near is not None and mended(near, setup, kvm) != (near, ()):
        near = None
    if found is None:
        return None, (), near
    if kvm is None:
        return found.cpu, found.amendments, near
    better = mended(found.cpu, setup, kvm)
    return (None, (), near) if better is None else (better[0], (*found.amendments, *better[1]), near)


def _without(cpu: str, idle: tuple[str, ...]) -> tuple[str, tuple[Amendment, ...]]:
    name, *settings = cpu.split(",")
    dropped = [setting for setting in settings if setting and switch(setting)[0] in idle]
    why = "QEMU ignores it, since this host's KVM offers no Hyper-V"
    kept = [setting for setting in settings if setting not in dropped]
    return joined_cpu(name, kept), tuple(Amendment("left-out", setting, why) for setting in dropped)


def _overruled(path: Path | None, test: Callable[[Trace, Bit], bool]) -> tuple[Feature, ...]:
    """Find the features in which the guest is shown something else than QEMU's table has; none where no vCPU was asked."""
    if path is None or path.trace.step("vcpu").basis is not Basis.OBSERVED:
        return ()
    return tuple(feature for feature in cpuid_features() if test(path.trace, feature.place))


def _not_told(cpu: str, setup: Setup, by_libvirt: bool) -> tuple[NotTold, ...]:
    """Find what the host's untold facts decide: whether QEMU starts at all, and which of the features asked for it gives."""
    start = starting(cpu, setup, named())
    given = hanging(lenient(cpu), setup, named(), lambda path: None if path is None else dict.fromkeys(lost(path, by_libvirt), True))
    features = ((by_bit(bit) or Feature(bit), facts) for bit, facts in given.items())
    return (*([NotTold(START, start)] if start else []), *(NotTold(feature.name, facts) for feature, facts in features))


def _sentence(answer: Verdict) -> str:
    """Say the verdict in a sentence."""
    cpu, qemu = f"-cpu {spelled(answer.cpu)}", f"QEMU {answer.setup.vmm}"
    if answer.not_known is not None:
        return f"{cpu}: {answer.not_known}"
    if answer.runs is None:
        return _open(answer)
    asked, lacks = len(answer.counts.asked), len(answer.counts.lacks)
    if answer.refusal is not None:
        return _refusal(answer, cpu, qemu, f"the host lacks {lacks} of the {asked} features asked for" if lacks else "")
    if answer.runs:
        return f"{cpu} starts with every requested feature"
    if any(missing.forced for missing in answer.missing):
        return f"{cpu} starts, and shows the guest {_many(lacks)} that this host does not have"
    if lacks:
        return f"{cpu} starts, but the guest lacks {lacks} of its {asked} features"
    if answer.missing:
        return f"{cpu} starts with warnings, and yet the guest sees every requested feature"
    if answer.ignored:
        return f"{cpu} starts, but this host's KVM offers no Hyper-V: QEMU ignores {', '.join(answer.ignored)}"
    return f"{cpu} starts, but not with all that was requested"


def _many(number: int) -> str:
    return "1 feature" if number == 1 else f"{number} features"


def _open(answer: Verdict) -> str:
    if not answer.not_told:
        module = _odd_kvm(answer)
        kvm = f"this host's KVM ({module})" if module else "this host's KVM"
        return f"-cpu {answer.cpu}: not tried; it starts with every requested feature on stock Linux, and {kvm} is another one"
    facts = in_common([found.depends for found in answer.not_told])
    return f"-cpu {answer.cpu}: whether it starts with every requested feature depends on what the host does not tell: {listed(facts)}"


def _refusal(answer: Verdict, cpu: str, qemu: str, why: str) -> str:
    said = "; ".join(str(answer.refusal).splitlines())
    unknown = lacking(answer.cpu, answer.setup.vmm.tables) if answer.path is None else None
    if unknown is not None:
        kind = "model" if unknown == answer.cpu.partition(",")[0] else f"property {spelled(unknown)}"
        guesses = [guess.about for guess in answer.meant if guess.said == unknown]
        return "; ".join([f"{cpu}: no such {kind} in {qemu}" if kind == "model" else f"{cpu}: no {kind} in {qemu}", *guesses])
    if answer.start is not None and answer.start.outcome == "aborts":
        return f"{qemu} aborts with {cpu}: this KVM refuses what QEMU sets at start: {said}"
    if _KVM_ERROR.match(said):
        return f"KVM refuses the table that {qemu} makes of {cpu}: {said}"
    return f"{qemu} refuses {cpu}: {said}" + (f" ({why})" if why else "")


def _odd_kvm(answer: Verdict) -> str:
    return " and ".join(kvm_says(answer.setup).odd_modules)
