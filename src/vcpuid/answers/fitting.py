"""Makes a CPU model run on a host: without the settings that QEMU refuses there, and without the features that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vcpuid.answers.attempt import Attempt
from vcpuid.answers.settings import Amendment, joined, needs, switch
from vcpuid.cpuid.words import positions
from vcpuid.qemu import CpuState, QemuResult

CURES = ("topoext=on", "pmu=off", "avx10-version=1", "avx10-version=0")
"""Settings that end a warning which nothing that is taken away would end: of AMD's threads, a PMU unlike the host's, AVX10's version."""

TRY = "enforce=off"
"""Lets QEMU tell what is missing instead of refusing."""

_TRIES = 128
"""Sets of settings that are tried of one -cpu: one of many settings, in many versions of its model, would be tried for minutes."""

_ASKED_ABOUT = 64
"""Settings of which QEMU is asked one by one what it says to them."""
_NOT_ASKED = f"QEMU was asked of the first {_ASKED_ABOUT} settings alone what it says to them"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A -cpu that runs: its model, the settings that it has, the features that it leaves out, and what is other than was asked for."""

    name: str
    settings: tuple[str, ...]
    missing: tuple[str, ...]
    amendments: tuple[Amendment, ...] = ()

    @property
    def cpu(self) -> str:
        """The argument of -cpu."""
        return joined(self.name, self.settings, self.missing)


@dataclass(frozen=True, slots=True)
class Fit:
    """A version of the model made to run, and its CPU."""

    proposal: Proposal
    state: CpuState


class Fitting:
    """Makes versions of a model run."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt, self._catalog = attempt, attempt.catalog
        self._left = _TRIES

    def relatives(self, name: str, settings: list[str], own: Fit | None) -> Iterator[Fit]:
        """Fit the model's other versions, with the settings that the version asked for could keep before all others."""
        wanted = self._attempt.model(name)
        if wanted is None:
            return
        for model in self._catalog.models.values():
            if model.base == wanted.base and model is not wanted and not model.deprecated:
                other = self._attempt.names[model.name]
                fit = None if own is None else self._drop(other, own.proposal.settings)
                fit = fit or self.fit(other, settings)
                if fit is not None:
                    yield fit

    def fit(self, name: str, settings: list[str]) -> Fit | None:
        """Make a model with these settings run: without the settings that ask for too much, and without features that are missing."""
        kept = self._accepted(name, settings)
        if kept is None:
            return None
        for tried in self._reductions(kept):
            if not self._left:
                return None
            self._left -= 1
            if (fit := self._drop(name, tried)) is not None:
                return fit
        return None

    def shortened(self, proposal: Proposal) -> Proposal:
        """Leave out each -feature that QEMU drops by itself where another one is off."""
        missing = list(proposal.missing)
        for feature in [feature for feature in missing if self._follows(feature)]:
            fewer = [other for other in missing if other != feature]
            if self._attempt.clean(joined(proposal.name, proposal.settings, fewer)) is not None:
                missing = fewer
        return Proposal(proposal.name, proposal.settings, tuple(missing))

    def account(self, proposal: Proposal, settings: Iterable[str]) -> Iterator[Amendment]:
        """Tell which settings a proposal has not, or has besides, and what QEMU says to it otherwise."""
        asked, kept = dict.fromkeys(settings), frozenset(proposal.settings)
        for setting in proposal.settings:
            if setting not in asked:
                yield Amendment("added", setting, self._complaint(proposal, [other for other in proposal.settings if other != setting]))
        for number, setting in enumerate(setting for setting in asked if setting not in kept):
            said = self._complaint(proposal, [*proposal.settings, setting]) if number < _ASKED_ABOUT else _NOT_ASKED
            yield Amendment("left-out", setting, said)

    def _complaint(self, proposal: Proposal, settings: Iterable[str]) -> str:
        told = self._attempt.tell(joined(proposal.name, [*settings, TRY], proposal.missing))
        said = told if isinstance(told, str) else next(iter(told.warnings), "QEMU does not give it here")
        return said.partition("\n")[0]

    def _accepted(self, name: str, settings: list[str]) -> list[str] | None:
        """Give the settings with which QEMU starts, in their order; None where it does not even without."""
        if self._attempt.run(joined(name, [*settings, TRY])) is not None:
            return settings
        if self._attempt.run(joined(name, [TRY])) is None:
            return None
        if len(settings) > _TRIES:
            return None
        kept: list[str] = []
        for setting in sorted(settings, key=lambda setting: len(list(needs([setting], self._catalog)))):  # what others need comes first
            if self._attempt.run(joined(name, [*kept, setting, TRY])) is not None:
                kept.append(setting)
        return [setting for setting in settings if setting in kept]

    @staticmethod
    def _reductions(settings: list[str]) -> Iterator[list[str]]:
        """Give the settings as they are, less one, with a cure added, and none."""
        yield settings
        yield from (settings[:at] + settings[at + 1 :] for at in range(len(settings)))
        yield from ([*settings, cure] for cure in CURES)
        if len(settings) > 1:
            yield []

    def _drop(self, name: str, settings: Iterable[str]) -> Fit | None:
        """Drop what is missing; None where there are warnings all the same."""
        kept = list(settings)
        made = self._attempt.run(joined(name, [*kept, TRY]))
        if made is not None and any(self._asks(setting, made) for setting in kept):
            kept = [setting for setting in kept if not self._asks(setting, made)]
            made = self._attempt.run(joined(name, [*kept, TRY]))
        if made is None:
            return None
        missing = tuple(self._missing(made))
        clean = self._attempt.clean(joined(name, kept, missing))
        return None if clean is None else Fit(Proposal(name, tuple(kept), missing), clean.state)

    def _asks(self, setting: str, made: QemuResult) -> bool:
        """Tell whether a setting asks for something that is missing."""
        name, on = switch(setting)
        flag = self._catalog.flags.get(self._catalog.aliases.get(name, name))
        return bool(on) and flag is not None and bool(made.denied.get(flag.word, 0) & flag.mask)

    def _missing(self, made: QemuResult) -> Iterator[str]:
        """Name what is missing, XSAVE components by the features that use them; other bits without a name cannot be dropped."""
        found: dict[str, None] = {}
        for row in self._catalog.words:
            for position in positions(made.denied.get(row.name, 0)):
                if position in row.names:
                    found[row.names[position]] = None
                elif row.name == "FEAT_XSAVE_XCR0_LO":
                    found.update(dict.fromkeys(self._users(position, made.state)))
        return iter(found)

    def _users(self, component: int, state: CpuState) -> Iterator[str]:
        for number, word, mask, _ in self._catalog.components:
            if number == component and state.features[word] & mask:
                yield self._catalog.by_name[word].names[mask.bit_length() - 1]

    def _follows(self, feature: str) -> bool:
        """Tell whether QEMU drops a feature by itself where another is off."""
        flag = self._catalog.flags[feature]
        return any(row.needs == flag.word and row.needs_mask & flag.mask for row in self._catalog.dependencies)
