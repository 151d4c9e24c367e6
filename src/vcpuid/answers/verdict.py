"""Does QEMU run `-cpu CPU` on a host with all that was asked? If not, what is missing, by whose doing, and which -cpu would run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vcpuid.answers.certainty import hanging, settings, starting
from vcpuid.answers.explain import Explanation, Reason, explain
from vcpuid.answers.in_words import InWords, in_words
from vcpuid.answers.nearest import nearest
from vcpuid.answers.overruling import put_back, withheld
from vcpuid.answers.proposal import enforced, lenient, propose
from vcpuid.answers.settings import Amendment, repaired
from vcpuid.answers.starting import REFUSES, STARTS, Start, mended, started
from vcpuid.answers.survey import cpuid_features
from vcpuid.cpuid import Bit, Snapshot
from vcpuid.cpuid.names import Feature, by_bit
from vcpuid.errors import KvmError, NotKnownError, QemuError, UnavailableError
from vcpuid.kvm.effect import advised
from vcpuid.path.pipeline import Path, resolve, tried, warned
from vcpuid.path.probing import Probe
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.managers import remarked
from vcpuid.qemu.startup import RunningKvm
from vcpuid.qemu.unknown import Guess, guesses
from vcpuid.reasons import Action, Basis, Rule, Trace
from vcpuid.setup import Setup, Stack, joined
from vcpuid.told.assumptions import Assumption
from vcpuid.told.facts import NotTold
from vcpuid.vmm.known import named

OWN_DOING = Rule(
    "observed.otherwise", "this machine's kernel or KVM differs from stock Linux", "the host's snapshot",
    remedy="compare this KVM with stock Linux's: vcpuid kvm supported --check; no option of QEMU changes it",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Missing:
    """A feature that was asked for and that the host does not give.

    `forced` says that the guest is told of it all the same (x-force-features=on). `explanation` is its fate on the path without force.
    """

    feature: Feature
    forced: bool
    explanation: Explanation

    @property
    def cause(self) -> Reason:
        """The first cause: a party that does otherwise than its rules say, else the last reason of the chain, else QEMU's own."""
        stages, chain = self.explanation.stages, self.explanation.chain
        odd = next((stage for stage in stages if stage.disagrees and not stage.value), None)
        if odd is not None:
            return Reason(odd.party, self.feature.name, Action.CLEARED, OWN_DOING, odd.why)
        return chain[-1] if chain else next(stage.reasons[-1] for stage in reversed(stages) if stage.reasons)

    @property
    def remedy(self) -> str | None:
        """What a user can do about it."""
        return self.explanation.remedy or self.cause.rule.remedy

    @property
    def put_back(self) -> bool:
        """Whether the guest sees it all the same, since KVM puts it back."""
        return self.explanation.put_back

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "feature": self.feature.name,
            "bit": str(self.feature.place),
            "forced": self.forced,
            "put_back": self.put_back,
            "cause": self.cause.as_dict(),
            "chain": [reason.as_dict() for reason in self.explanation.chain],
            "remedy": self.remedy,
        }


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
    another, but for the features that it drops. `nearest` is the model that runs as it is with the settings kept and differs least from the
    one asked for; it is looked for where the proposal drops features or there is none. `put_back` are features that QEMU leaves out and KVM
    shows the guest all the same, `withheld` those that QEMU gives and KVM does not show: of a KVM that was asked and is not Linux's own.
    `by_libvirt` says that libvirt asked, and judges by itself what QEMU drops without a word.
    `setup` is what it was asked of, `path` the resolved CPU, None where QEMU or KVM refuse it before they try.
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
        all_ = _gives_all(self.path, self.by_libvirt)
        return tuple(assumption for assumption, path in given if _gives_all(path, self.by_libvirt) != all_)

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
        }


def _gives_all(path: Path | None, by_libvirt: bool) -> bool:
    return path is not None and not _lost(path, by_libvirt)


def _lost(path: Path, by_libvirt: bool) -> tuple[Bit, ...]:
    """The bits that were asked for and that the guest does not get; what QEMU drops without a word counts where libvirt did not ask."""
    return (*path.made.denied, *(() if by_libvirt else path.made.dropped))


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
    proposal, amendments, near = _better(found.cpu, found.setup, kvm)
    tables = catalog(found.setup.vmm.tables)
    meant = () if found.path is not None else guesses(found.cpu, tables.release)
    return replace(found, proposal=proposal, amendments=amendments, nearest=near, meant=meant)


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
        path, refusal = _resolve(cpu, setup)
    except NotKnownError as error:
        return Verdict(cpu, setup, None, None, (), (), (), None, None, None, not_known=error.cause)
    seen = None if path is None else _observed(path, probe)
    denied = _missing(cpu, setup, seen, probe, by_libvirt)
    not_told = _not_told(cpu, setup, by_libvirt)
    hidden = {found.what for found in not_told}
    missing = tuple(missing for missing in denied if missing.feature.name not in hidden)
    runs: bool | None = refusal is None and not denied and enforced(cpu, setup)
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
        warnings_not_told=open_warnings,
    )  # fmt: skip


def _better(cpu: str, setup: Setup, kvm: RunningKvm | None) -> tuple[str | None, tuple[Amendment, ...], str | None]:
    """Find a proposal, in what it is another, and the nearest model; with a KVM to try them on, only such as start there."""
    found, near = propose(cpu, setup), None
    if found is None or found.missing:
        name, settings, _ = repaired(cpu, catalog(setup.vmm.tables))
        near = nearest(name, settings if found is None else found.settings, setup)
    if kvm is not None and near is not None and mended(near, setup, kvm) != (near, ()):
        near = None
    if found is None:
        return None, (), near
    if kvm is None:
        return found.cpu, found.amendments, near
    better = mended(found.cpu, setup, kvm)
    return (None, (), near) if better is None else (better[0], (*found.amendments, *better[1]), near)


def _observed(path: Path, probe: Probe | None) -> Path:
    """Let a real vCPU have the table, where it takes it and runs; what the guest sees is then observed."""
    if probe is None:
        return path
    try:
        return resolve(path.cpu, host=path.setup, probe=probe)
    except (KvmError, UnavailableError):
        return path


def _overruled(path: Path | None, test: Callable[[Trace, Bit], bool]) -> tuple[Feature, ...]:
    """Find the features in which the guest is shown something else than QEMU's table has; none where no vCPU was asked."""
    if path is None or path.trace.step("vcpu").basis is not Basis.OBSERVED:
        return ()
    return tuple(feature for feature in cpuid_features() if test(path.trace, feature.place))


def _not_told(cpu: str, setup: Setup, by_libvirt: bool) -> tuple[NotTold, ...]:
    """Find what the host's untold facts decide: whether QEMU starts at all, and which of the features asked for it gives."""
    start = starting(cpu, setup, named())
    given = hanging(lenient(cpu), setup, named(), lambda path: None if path is None else dict.fromkeys(_lost(path, by_libvirt), True))
    features = ((by_bit(bit) or Feature(bit), facts) for bit, facts in given.items())
    return (*([NotTold(START, start)] if start else []), *(NotTold(feature.name, facts) for feature, facts in features))


def _resolve(cpu: str, setup: Setup) -> tuple[Path | None, str | None]:
    """Resolve a CPU; return the path or the refusal. Raises what is neither, as `resolve` does."""
    outcome = tried(cpu, setup, named())
    if isinstance(outcome, Path):
        return outcome, None
    if isinstance(outcome, QemuError):
        return None, outcome.message
    if isinstance(outcome, KvmError):
        return None, str(outcome)
    raise outcome


def _missing(cpu: str, setup: Setup, path: Path | None, probe: Probe | None, by_libvirt: bool) -> tuple[Missing, ...]:
    """Explain what QEMU denied. A CPU that says `enforce` is looked at without, one that forces features without force."""
    forced = path is not None and path.made.forced
    if path is None or forced:
        plain, _ = _resolve(lenient(cpu), setup)
        path = None if plain is None else _observed(plain, probe)
    if path is None:
        return ()
    features = (by_bit(bit) or Feature(bit) for bit in _lost(path, by_libvirt))
    return tuple(Missing(feature, forced, explain(feature, path)) for feature in features)
