"""Which -cpu would run on a host without a warning, and serve as the one asked for would, when that one does not.

Nothing is proposed that was not tried. Every version of the model is fitted to the host, and the nearest one wins: the guest's Linux lists
the fewest bugs, most of the user's settings stay, and then the fewest features are lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from vcpuid.answers.attempt import Attempt
from vcpuid.answers.fitting import TRY, Fit, Fitting, Proposal
from vcpuid.answers.settings import Amendment, joined, repaired
from vcpuid.cpuid.words import positions
from vcpuid.qemu.catalog import Catalog
from vcpuid.setup import Setup

_GUARDS = frozenset(
    {"spec-ctrl", "stibp", "ssbd", "md-clear", "arch-capabilities", "flush-l1d", "ibpb", "ibrs", "amd-stibp", "stibp-always-on", "amd-ssbd",
     "virt-ssbd", "amd-no-ssb", "amd-psfd", "auto-ibrs", "sbpb", "srso-no", "srso-user-kernel-no", "ibpb-brtype", "verw-clear",
     "tsa-sq-no", "tsa-l1-no", "intel-psfd", "ipred-ctrl", "rrsba-ctrl", "ddpd-u", "bhi-ctrl", "mcdt-no", "smep", "smap", "umip", "nx"}
)  # fmt: skip
"""Features by which a guest protects itself; so are all of ARCH_CAPABILITIES."""

_MOST_NAMED = 6
"""Names that a sentence takes before it counts the rest."""


def propose(cpu: str, setup: Setup) -> Proposal | None:
    """Find the nearest -cpu that keeps the model, in any of its versions, and runs without a warning; None where there is none.

    What QEMU asks for is added before anything is dropped. What the user set stays as far as it can. Features that the host lacks are
    dropped with -feature, or by not asking for them. The version stays where another is not nearer.
    """
    attempt = Attempt(setup)
    if attempt.machine is None:
        return None
    name, settings, amendments = repaired(cpu, attempt.catalog)
    fitting = Fitting(attempt)
    own = fitting.fit(name, settings)
    others = fitting.relatives(name, settings, own)
    found = [*([own] if own is not None else []), *others]
    if not found:
        return None
    rank = _Rank(attempt, name, settings, own or found[0])
    best = min(found, key=rank) if len(found) > 1 else found[0]
    chosen = fitting.shortened(best.proposal)
    told = [amendment for amendment in amendments if amendment.kind != "added" or amendment.what in chosen.settings]
    told += fitting.account(chosen, settings)
    if best is not own and chosen.name != name:
        told.insert(0, Amendment("version", chosen.name, rank.why(best, own)))
    return Proposal(chosen.name, chosen.settings, chosen.missing, tuple(told))


def enforced(cpu: str, setup: Setup) -> bool:
    """Tell whether QEMU itself would be content: `enforce` is its own way to ask (AVX10's version counts, and is no bit)."""
    return Attempt(setup).run(f"{cpu},enforce=on") is not None


def lenient(cpu: str) -> str:
    """Change a -cpu argument so that QEMU tells what is missing, instead of refusing it or of giving it all the same.

    One that asks for neither is left as it is.
    """
    return f"{cpu},{TRY},x-force-features=off" if "force" in cpu else cpu


class _Rank:
    """Which of the fits is nearest to what was asked for: a key, the lower the nearer."""

    def __init__(self, attempt: Attempt, name: str, settings: list[str], first: Fit) -> None:
        made = attempt.run(joined(name, [*first.proposal.settings, TRY]))
        state = first.state if made is None else made.state
        self._attempt, self._name, self._settings = attempt, name, settings
        self._wanted = {word: value | state.filtered.get(word, 0) for word, value in state.features.items()}
        self._guards = _guards(attempt.catalog)
        self._bugs: dict[str, tuple[str, ...]] = {}

    def __call__(self, fit: Fit) -> tuple[int, ...]:
        proposal, lost = fit.proposal, self._lost(fit)
        kept = set(proposal.settings)
        return (
            len(self._listed(fit)),
            sum(setting not in kept for setting in self._settings),
            _count({word: mask & self._guards.get(word, 0) for word, mask in lost.items()}),
            _count(lost),
            _count({word: value & ~self._wanted.get(word, 0) for word, value in fit.state.features.items()}),
            len(proposal.missing),
            proposal.name != self._name,
            len(proposal.cpu),
        )

    def why(self, best: Fit, own: Fit | None) -> str:
        """Say why another version than the one asked for is proposed."""
        if own is None:
            return f"{self._name} does not run without a warning, whatever is left out"
        bugs = self._listed(own)
        if len(bugs) > len(self._listed(best)):
            return (
                f"with {self._name} the guest's Linux would list more bugs: {_list([bug for bug in bugs if bug not in self._listed(best)])}"
            )
        if lost := self._names(self._lost(best), self._lost(own)):
            return f"{self._name} would lose more: {_list(lost)}"
        without = [name for name in own.proposal.missing if name not in best.proposal.missing]
        return f"it is {self._name} without {_list(without)}" if without else f"it loses no more than {self._name} would"

    def _listed(self, fit: Fit) -> tuple[str, ...]:
        cpu = fit.proposal.cpu
        if cpu not in self._bugs:
            self._bugs[cpu] = self._attempt.bugs(cpu)
        return self._bugs[cpu]

    def _lost(self, fit: Fit) -> dict[str, int]:
        return {word: value & ~fit.state.features.get(word, 0) for word, value in self._wanted.items()}

    def _names(self, here: Mapping[str, int], there: Mapping[str, int]) -> list[str]:
        """Name the bits that are there and not here."""
        rows = ((row, there.get(row.name, 0) & ~here.get(row.name, 0)) for row in self._attempt.catalog.words)
        return [row.names[position] for row, mask in rows for position in positions(mask) if position in row.names]


def _guards(tables: Catalog) -> dict[str, int]:
    """The bits of each feature word by which a guest protects itself."""
    found: dict[str, int] = {"FEAT_ARCH_CAPABILITIES": -1}
    for name in _GUARDS:
        if (flag := tables.flags.get(name)) is not None:
            found[flag.word] = found.get(flag.word, 0) | flag.mask
    return found


def _count(words: Mapping[str, int]) -> int:
    return sum(mask.bit_count() for mask in words.values())


def _list(names: list[str]) -> str:
    shown = names if len(names) <= _MOST_NAMED else [*names[: _MOST_NAMED - 1], f"{len(names) - _MOST_NAMED + 1} others"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
