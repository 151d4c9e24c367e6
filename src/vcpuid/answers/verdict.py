"""Does QEMU run `-cpu CPU` on a host with all that was asked? If not, what is missing, by whose doing, and which -cpu would run."""

from __future__ import annotations

from dataclasses import dataclass

from vcpuid.answers.certainty import hanging, settings
from vcpuid.answers.explain import Explanation, Reason, explain
from vcpuid.answers.nearest import nearest
from vcpuid.answers.proposal import enforced, lenient, propose
from vcpuid.answers.settings import Amendment, repaired
from vcpuid.cpuid import Snapshot
from vcpuid.cpuid.names import Feature, by_bit
from vcpuid.errors import KvmError, NotKnownError, QemuError
from vcpuid.path.pipeline import Path, resolve
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.unknown import Guess, guesses
from vcpuid.reasons import Action, Rule
from vcpuid.setup import Setup, Stack, joined
from vcpuid.told.assumptions import Assumption
from vcpuid.told.facts import NotTold
from vcpuid.vmm.known import named

OWN_DOING = Rule(
    "observed.otherwise", "this machine does otherwise than the rules say", "the host's snapshot",
    remedy="find out with vcpuid kvm supported --check what its kernel or its settings change",
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

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "feature": self.feature.name,
            "bit": str(self.feature.place),
            "forced": self.forced,
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
    depends on. `refusal` is QEMU's or KVM's message where they refuse, `not_known` says what the tables cannot tell where they are older
    than the QEMU asked for, and `warnings` is what QEMU prints on the way, each once. `meant` are guesses at what names that QEMU does not
    have stand for. `proposal` is the nearest -cpu that keeps the model (in any of its versions) and the user's properties as far as they
    can be kept and runs without a warning: the CPU itself where that is so, None where there is none; `amendments` tells in what it is
    another, but for the features that it drops. `nearest` is the model that runs as it is with the settings kept and differs least from the
    one asked for; it is looked for where the proposal drops features or there is none. `setup` is what it was asked of, `path` the resolved
    CPU, None where QEMU or KVM refuse it.
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
        return tuple(assumption for assumption, path in given if _gives_all(path) != _gives_all(self.path))

    def as_dict(self) -> dict[str, object]:
        """For JSON, as a part: `vcpuid.hazards.report` adds the hazards."""
        return {
            "cpu": self.cpu,
            "setup": self.setup.as_dict(),
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
            "runs": self.runs,
            "refusal": self.refusal,
            "not_known": self.not_known,
            "meant": [guess.as_dict() for guess in self.meant],
            "missing": [missing.as_dict() for missing in self.missing],
            "not_told": [open_.as_dict() for open_ in self.not_told],
            "assumes": [assumption.as_dict() for assumption in self.assumes],
            "proposal": self.proposal,
            "amendments": [amendment.as_dict() for amendment in self.amendments],
            "nearest": self.nearest,
        }


def _gives_all(path: Path | None) -> bool:
    return path is not None and not path.made.denied


def verdict(cpu: str, host: Snapshot | Setup, stack: Stack | None = None) -> Verdict:
    """Judge a -cpu argument on a host; `host` and `stack` are as in `resolve`.

    What QEMU or KVM refuse is the verdict itself. Raises InputError for a host that tells nothing and for a wrong release or parameter.
    """
    setup = joined(host, stack)
    try:
        path, refusal, warnings = _resolve(cpu, setup)
    except NotKnownError as error:
        return Verdict(cpu, setup, None, None, (), (), (), None, None, None, not_known=error.cause)
    denied = _missing(cpu, setup, path)
    not_told = _not_told(cpu, setup)
    hidden = {found.what for found in not_told}
    missing = tuple(missing for missing in denied if missing.feature.name not in hidden)
    runs: bool | None = refusal is None and not denied and enforced(cpu, setup)
    if not_told and not missing and (refusal is None or START in hidden):
        runs = None
    if runs is not False and (runs is None or not warnings):
        return Verdict(cpu, setup, runs, refusal, tuple(dict.fromkeys(warnings)), missing, not_told, cpu if runs else None, None, path)
    tables = catalog(setup.vmm.tables)
    meant = () if refusal is None else guesses(cpu, tables.release)
    found, near = propose(cpu, setup), None
    if found is None or found.missing:
        name, settings, _ = repaired(cpu, tables)
        near = nearest(name, settings if found is None else found.settings, setup)
    proposal, amendments = (None, ()) if found is None else (found.cpu, found.amendments)
    told = tuple(dict.fromkeys(warnings))
    return Verdict(cpu, setup, runs, refusal, told, missing, not_told, proposal, near, path, amendments, meant)


def _not_told(cpu: str, setup: Setup) -> tuple[NotTold, ...]:
    """Find what the host's untold facts decide: whether QEMU starts at all, and which of the features asked for it gives."""
    start = hanging(cpu, setup, named(), lambda path: {None: path is None})
    given = hanging(lenient(cpu), setup, named(), lambda path: None if path is None else dict.fromkeys(path.made.denied, True))
    features = ((by_bit(bit) or Feature(bit), facts) for bit, facts in given.items())
    return (*(NotTold(START, facts) for facts in start.values()), *(NotTold(feature.name, facts) for feature, facts in features))


def _resolve(cpu: str, setup: Setup) -> tuple[Path | None, str | None, tuple[str, ...]]:
    """Resolve a CPU; return the path or the refusal, and what QEMU warns of."""
    try:
        path = resolve(cpu, host=setup)
    except QemuError as error:
        return None, error.message, error.warnings
    except KvmError as error:
        return None, str(error), ()
    return path, None, path.warnings


def _missing(cpu: str, setup: Setup, path: Path | None) -> tuple[Missing, ...]:
    """Explain what QEMU denied. A CPU that says `enforce` is looked at without, one that forces features without force."""
    forced = path is not None and path.made.forced
    if path is None or forced:
        path, _, _ = _resolve(lenient(cpu), setup)
    if path is None:
        return ()
    features = (by_bit(bit) or Feature(bit) for bit in path.made.denied)
    return tuple(Missing(feature, forced, explain(feature, path)) for feature in features)
