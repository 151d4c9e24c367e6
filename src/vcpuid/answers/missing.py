"""What a guest lacks of what its -cpu asks for: which features those are, by whose doing, and what helps."""

from __future__ import annotations

from dataclasses import dataclass

from vcpuid.answers.counts import called
from vcpuid.answers.explain import explain
from vcpuid.answers.explanation import Explanation, Reason
from vcpuid.answers.proposal import lenient
from vcpuid.cpuid import Bit
from vcpuid.cpuid.names import Feature, by_bit
from vcpuid.errors import KvmError, QemuError
from vcpuid.path.pipeline import Path, probed, tried
from vcpuid.path.probing import Probe
from vcpuid.qemu.catalog import catalog
from vcpuid.setup import Setup
from vcpuid.vmm.known import named


@dataclass(frozen=True, slots=True)
class Missing:
    """A feature that was asked for and that the host does not give.

    `forced` says that the guest is told of it all the same (x-force-features=on). `explanation` is its fate on the path without force,
    `called` QEMU's name for it, which is vcpuid's own where QEMU has none.
    """

    feature: Feature
    forced: bool
    explanation: Explanation
    called: str

    @property
    def cause(self) -> Reason:
        """The first cause: the last reason of the chain, else QEMU's own."""
        stages, chain = self.explanation.stages, self.explanation.chain
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
            "called": self.called,
            "bit": str(self.feature.place),
            "forced": self.forced,
            "put_back": self.put_back,
            "cause": self.cause.as_dict(),
            "chain": [reason.as_dict() for reason in self.explanation.chain],
            "remedy": self.remedy,
        }


def gives_all(path: Path | None, by_libvirt: bool) -> bool:
    """Tell whether a guest gets all that was asked for; it does not where QEMU or KVM refuse the CPU."""
    return path is not None and not lost(path, by_libvirt)


def lost(path: Path, by_libvirt: bool) -> tuple[Bit, ...]:
    """List the bits asked for that the guest does not get; what QEMU drops without a word counts where libvirt did not ask."""
    return (*path.made.denied, *(() if by_libvirt else path.made.dropped))


def missing_of(cpu: str, setup: Setup, path: Path | None, probe: Probe | None, by_libvirt: bool) -> tuple[Missing, ...]:
    """Explain what QEMU denied. A CPU that says `enforce` is looked at without, one that forces features without force."""
    forced = path is not None and path.made.forced
    if path is None or forced:
        plain, _ = resolved(lenient(cpu), setup)
        path = None if plain is None else probed(plain, probe)
    if path is None:
        return ()
    tables = catalog(setup.vmm.tables)
    features = ((bit, by_bit(bit) or Feature(bit)) for bit in lost(path, by_libvirt))
    return tuple(Missing(feature, forced, explain(feature, path), called(tables, bit) or feature.name) for bit, feature in features)


def resolved(cpu: str, setup: Setup) -> tuple[Path | None, str | None]:
    """Resolve a CPU; return the path or the refusal. Raises what is neither, as `resolve` does."""
    outcome = tried(cpu, setup, named())
    if isinstance(outcome, Path):
        return outcome, None
    if isinstance(outcome, QemuError):
        return None, outcome.message
    if isinstance(outcome, KvmError):
        return None, str(outcome)
    raise outcome
