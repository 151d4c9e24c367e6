"""Guest and host held together as /proc/cpuinfo shows them: each side's flags as its Linux printed them, else as it would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from vcpuid.answers.certainty import hanging
from vcpuid.answers.compare import NOT_TOLD, UNKNOWN, Difference, Sides, by_feature
from vcpuid.answers.explanation import sentence
from vcpuid.cpuid.names import Feature, all_features
from vcpuid.linux import BootCpu, boot_cpu, cpuinfo
from vcpuid.linux.cpuinfo import named
from vcpuid.path.pipeline import Path, guest_snapshot
from vcpuid.reasons import Decision
from vcpuid.setup import Setup, Stack
from vcpuid.told.doubt import doubts
from vcpuid.told.facts import Fact, listed

HOST_LINUX, GUEST_LINUX = "host's linux", "guest's linux"
"""Parties that no CPUID bit stands behind: a kernel that worked a flag out."""


def by_flag(both: Sides, guest_kernel: str | None = None) -> list[Difference]:
    """List the flags, bugs and VMX flags that one side's /proc/cpuinfo shows and the other's does not.

    The guest's kernel is `guest_kernel`, else the one its snapshot names, else the host's. Where a CPUID bit is behind the difference,
    the party is the one that changed that bit; else one of the two kernels worked the flag out.
    """
    guest = guest_setup(both, guest_kernel)
    inside = None if both.observed else _inside(both, guest_kernel)
    bits = {difference.place: difference for difference in by_feature(both)}
    return by_kernels(both.path.setup, guest, bits, ("on the host", "in the guest"), inside=inside)


def by_kernels(
    host: Setup,
    guest: Setup,
    bits: Mapping[str, Difference],
    spoken: tuple[str, str],
    parties: tuple[str, str] = (HOST_LINUX, GUEST_LINUX),
    inside: Mapping[tuple[str, str], tuple[Fact, ...]] | None = None,
) -> list[Difference]:
    """List in what two machines' /proc/cpuinfo differ, each by its own kernel.

    `bits` are the differences of their CPUID, by place, `spoken` says where each of them is, `parties` names their kernels. `inside` is
    what the second does not tell, where its own snapshot does not say that.
    """
    shown = (cpuinfo(host, observed=True), cpuinfo(guest, observed=True))
    kernels = _Kernels(host, guest, bits, spoken, parties)
    hidden = (doubts(host, shows), doubts(guest, shows) if inside is None else inside)
    found: list[Difference] = []
    for line in ("flags", "bugs", "vmx_flags"):
        ours, theirs = (getattr(side, line) for side in shown)
        open_ = list(dict.fromkeys(name for side in hidden for of, name in side if of == line))
        found += [kernels.difference(line, name, name in ours) for name in _merged(ours, theirs) if name not in open_]
        for name in open_:
            on_host, in_guest = hidden[0].get((line, name), ()), hidden[1].get((line, name), ())
            why = f"depends on {listed(on_host or in_guest)}"
            sides = (None if on_host else name in ours, None if in_guest else name in theirs)
            found.append(Difference(name, line.replace("_", " "), *sides, NOT_TOLD, why))
    return found


def shown_flags(both: Sides, guest_kernel: str | None = None) -> set[tuple[str, str]]:
    """Give the names that either side's /proc/cpuinfo shows, each with its line as differences spell it."""
    sides = (both.path.setup, guest_setup(both, guest_kernel))
    return {(line.replace("_", " "), name) for side in sides for line, name in shows(side)}


def shows(setup: Setup) -> dict[tuple[str, str], bool]:
    """Give what a machine's /proc/cpuinfo shows, by line and name."""
    return named(cpuinfo(setup, observed=True))


def _inside(both: Sides, guest_kernel: str | None) -> dict[tuple[str, str], tuple[Fact, ...]]:
    """Return what the guest's kernel would show or not by facts that the host does not tell."""
    path, kernel = both.path, Stack(kernel=guest_kernel or both.path.setup.kernel.asked)

    def answer(other: Path | None) -> dict[tuple[str, str], bool] | None:
        return None if other is None else shows(Setup.of(guest_snapshot(other), kernel))

    return hanging(path.cpu, path.setup, path.vmm, answer)


def guest_setup(both: Sides, guest_kernel: str | None = None) -> Setup:
    """Settle the guest as a host of its own kernel: `guest_kernel`, else the one that its snapshot names, else the host's."""
    return Setup.of(both.guest, Stack(kernel=guest_kernel or both.guest.kernel or both.path.setup.kernel.asked))


def _merged(ours: Sequence[str], theirs: Sequence[str]) -> Iterator[str]:
    """Give the names of one side alone: the host's in its order, then the guest's."""
    yield from (name for name in ours if name not in theirs)
    yield from (name for name in theirs if name not in ours)


_PREFIXES = {"flags": "X86_FEATURE_", "bugs": "X86_BUG_", "vmx_flags": "VMX_FEATURE_"}


class _Kernels:
    """What both kernels decided, and what the path did to the bits behind their flags."""

    def __init__(
        self, host: Setup, guest: Setup, bits: Mapping[str, Difference], spoken: tuple[str, str], parties: tuple[str, str]
    ) -> None:  # fmt: skip
        self._sides = (
            (parties[0], True, host.kernel.tables, boot_cpu(host)),
            (parties[1], False, guest.kernel.tables, boot_cpu(guest)),
        )
        self._spoken = spoken
        self._bits = bits
        self._vmx = next((d for d in self._bits.values() if d.what == "vmx"), None)

    def difference(self, line: str, name: str, on_host: bool) -> Difference:
        """Tell who caused the difference in one name of a line of /proc/cpuinfo."""
        feature = self._feature(name, _PREFIXES[line])
        bit = self._vmx if line == "vmx_flags" else self._bits.get(str(feature.bit)) if feature is not None and feature.bit else None
        place = line.replace("_", " ")
        if bit is not None and bit.host == on_host:
            why = f"vmx: {bit.why}" if bit is self._vmx and name != "vmx" else bit.why
            return Difference(name, place, on_host, not on_host, bit.party, why, bit.rules)
        for party, is_host, release, boot in self._sides:
            decision = None if feature is None else _decision(feature, release, boot, on_host == is_host)
            if decision is not None:
                why = f"{self._spoken[0 if is_host else 1]}: {sentence(decision)}"
                return Difference(name, place, on_host, not on_host, party, why, (decision.rule.id,))
        return Difference(name, place, on_host, not on_host, UNKNOWN, "no rule of a layer or of either kernel leads to it")

    def _feature(self, name: str, prefix: str) -> Feature | None:
        return next((f for _, _, release, _ in self._sides if (f := _shown(release).get((prefix, name))) is not None), None)


@cache
def _shown(release: str) -> dict[tuple[str, str], Feature]:
    """Features by what /proc/cpuinfo calls them, and the prefix of their symbol."""
    found: dict[tuple[str, str], Feature] = {}
    for feature in all_features():
        own = feature.in_linux(release)
        if own is not None and own.cpuinfo is not None:
            found.setdefault((own.symbol[: own.symbol.index("_", own.symbol.index("_") + 1) + 1], own.cpuinfo), feature)
    return found


def _decision(feature: Feature, release: str, boot: BootCpu, on: bool) -> Decision | None:
    """Find a kernel's last decision that turned the feature on, or off."""
    own = feature.in_linux(release)
    places = {own.place if own is not None else None, feature.bit}
    made = (d for d in reversed(boot.decisions) for bit in places if bit is not None and d.word == bit.word and d.mask & bit.mask)
    last = next(made, None)
    if last is None or any(bool(last.value & bit.mask) != on for bit in places if bit is not None and bit.word == last.word):
        return None
    return last
