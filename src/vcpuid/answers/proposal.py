"""Which -cpu would run on a host without a warning, when the one asked for does not. Nothing is proposed that was not tried."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from vcpuid import kvm, qemu
from vcpuid.cpuid import CpuidWord
from vcpuid.cpuid.words import positions
from vcpuid.errors import KvmError, QemuError
from vcpuid.kvm.answers import kvm_says
from vcpuid.qemu import CpuState
from vcpuid.qemu.catalog import Catalog, Flag, MachineType, Model, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.setup import Setup

CURES = ("topoext=on", "pmu=off", "avx10-version=1", "avx10-version=0")
"""Settings that end a warning which nothing that is taken away would end: of AMD's threads, a PMU unlike the host's, AVX10's version."""

_TRY = "enforce=off"
"""Lets QEMU tell what is missing instead of refusing."""


def propose(cpu: str, setup: Setup) -> str | None:
    """Find the shortest -cpu that keeps the model, in any of its versions, and runs without a warning; None where there is none.

    What the user set stays as far as it can. Features that the host lacks are dropped with -feature, or by not asking for them.
    """
    attempt = _Attempt(setup)
    if attempt.machine is None:
        return None
    name, *settings = cpu.split(",")
    settings = [s for s in settings if s and not s.startswith(("x-force-features", "+x-force-features"))]
    found = [fitted for other in attempt.relatives(name) if (fitted := attempt.fit(other, settings)) is not None]
    return min(found, key=lambda text: (len(text), text.count(",-")), default=None)


def enforced(cpu: str, setup: Setup) -> bool:
    """Tell whether QEMU itself would be content: `enforce` is its own way to ask (AVX10's version counts, and is no bit)."""
    return _Attempt(setup).run(f"{cpu},enforce=on") is not None


def lenient(cpu: str) -> str:
    """Change a -cpu argument so that QEMU tells what is missing, instead of refusing it or of giving it all the same."""
    return f"{cpu},{_TRY},x-force-features=off"


def nearest(cpu: str, setup: Setup) -> str | None:
    """Name the model that runs on the host without a warning and differs in the fewest features from the one asked for.

    Of an unknown model, the one whose name looks most alike is taken as meant. Models of the host's own maker come first.
    """
    attempt = _Attempt(setup)
    if attempt.machine is None:
        return None
    wanted = attempt.model(cpu.partition(",")[0]) or attempt.misspelled(cpu.partition(",")[0])
    if wanted is None:
        return "host" if attempt.clean("host") else None
    listed = qemu.models(setup, xcr0=kvm_says(setup).xcr0)
    usable = [(info.name, model) for info in listed if info.usable and not info.deprecated and (model := attempt.model(info.name))]
    ranked = sorted(
        usable, key=lambda pair: (pair[1].vendor != setup.host.vendor, _distance(attempt.catalog, pair[1], wanted), len(pair[0]))
    )
    return next((name for name, _ in ranked if attempt.clean(name)), None)


def _distance(tables: Catalog, one: Model, other: Model) -> int:
    """Count the CPUID features that one has and the other has not; what MSRs tell of nested guests weighs nothing."""
    words = (row.name for row in tables.words if isinstance(row.word, CpuidWord))
    return sum((one.features.get(word, 0) ^ other.features.get(word, 0)).bit_count() for word in words)


class _Attempt:
    """Tries -cpu arguments on one host and one QEMU."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.kvm = setup, qemu.KvmHost(xcr0=kvm_says(setup).xcr0)
        self.catalog: Catalog = catalog(setup.vmm.tables)
        try:
            self.machine: MachineType | None = find_machine(self.catalog.release, setup.machine)
        except QemuError:
            self.machine = None

    def run(self, cpu: str) -> qemu.QemuResult | None:
        """Give QEMU's answer, None where it refuses."""
        try:
            return qemu.guest_tables(cpu, host=self.setup, kvm=self.kvm)
        except QemuError:
            return None

    def clean(self, cpu: str) -> bool:
        """Tell whether QEMU runs this without a warning and with all that is asked, and KVM takes its table."""
        made = self.run(f"{cpu},enforce=on")
        if made is None or made.warnings:
            return False
        try:
            kvm.set_cpuid(made.tables[0], host=self.setup)
        except KvmError:
            return False
        return True

    def model(self, name: str) -> Model | None:
        """Return the model behind a name, None for host, max and base, and for a name that is none."""
        assert self.machine is not None
        try:
            return self.catalog.models.get(self.catalog.resolve_model(name, self.machine))
        except QemuError:
            return None

    def misspelled(self, name: str) -> Model | None:
        """Return the model whose name looks most like this one."""
        known = {other.lower(): other for other in (*self.catalog.models, *self.catalog.model_aliases)}
        near = difflib.get_close_matches(name.lower(), known, n=1)
        return self.model(known[near[0]]) if near else None

    def relatives(self, name: str) -> Iterator[str]:
        """Give the name itself, then every name of the model's other versions."""
        yield name
        wanted = self.model(name)
        if wanted is None:
            return
        for other in (*self.catalog.models, *self.catalog.model_aliases):
            model = self.model(other)
            if model is not None and model is not wanted and model.base == wanted.base and not model.deprecated:
                yield other

    def fit(self, name: str, settings: list[str]) -> str | None:
        """Make a model with these settings run: without the settings that ask for too much, and without features that are missing."""
        for kept in self._reductions(settings):
            fitted = self._drop(name, kept)
            if fitted is not None:
                return fitted
        return None

    def _reductions(self, settings: list[str]) -> Iterator[list[str]]:
        """Give the settings as they are, less one, with a cure added, and none."""
        yield settings
        yield from (settings[:at] + settings[at + 1 :] for at in range(len(settings)))
        yield from ([*settings, cure] for cure in CURES)
        if len(settings) > 1:
            yield []

    def _drop(self, name: str, settings: list[str]) -> str | None:
        made = self.run(_join(name, [*settings, _TRY], ()))
        if made is not None and made.state.filtered:
            settings = [setting for setting in settings if not self._asks(setting, made.state)]
            made = self.run(_join(name, [*settings, _TRY], ()))
        if made is None:
            return None
        missing = list(self._names(made.state))
        if not self.clean(_join(name, settings, missing)):
            return None
        for feature in [feature for feature in missing if self._follows(feature)]:
            fewer = [other for other in missing if other != feature]
            if self.clean(_join(name, settings, fewer)):
                missing = fewer
        return _join(name, settings, missing)

    def _asks(self, setting: str, state: CpuState) -> bool:
        """Tell whether a setting asks for something that is missing."""
        feature, equals, value = setting.lstrip("+").replace("_", "-").partition("=")
        flag = self.catalog.flags.get(self.catalog.aliases.get(feature, feature))
        return (
            flag is not None and setting[0] != "-" and (not equals or value == "on") and bool(state.filtered.get(flag.word, 0) & flag.mask)
        )

    def _names(self, state: CpuState) -> Iterator[str]:
        """Name what is missing, XSAVE components by the features that use them; other bits without a name cannot be dropped."""
        found: dict[str, None] = {}
        for row in self.catalog.words:
            for position in positions(state.filtered.get(row.name, 0)):
                if position in row.names:
                    found[row.names[position]] = None
                elif row.name == "FEAT_XSAVE_XCR0_LO":
                    found.update(dict.fromkeys(self._users(position, state)))
        return iter(found)

    def _users(self, component: int, state: CpuState) -> Iterator[str]:
        for number, word, mask, _ in self.catalog.components:
            if number == component and state.features[word] & mask:
                yield self.catalog.by_name[word].names[mask.bit_length() - 1]

    def _follows(self, feature: str) -> bool:
        """Tell whether QEMU drops a feature by itself where another is off."""
        flag: Flag = self.catalog.flags[feature]
        return any(row.needs == flag.word and row.needs_mask & flag.mask for row in self.catalog.dependencies)


def _join(name: str, settings: Iterable[str], missing: Iterable[str]) -> str:
    return ",".join([name, *settings, *(f"-{feature}" for feature in missing)])
