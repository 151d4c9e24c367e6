"""Which named model of a QEMU runs on a host as it is and keeps the most of what another -cpu asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vcpuid.answers.attempt import Attempt
from vcpuid.answers.counts import wanted
from vcpuid.answers.fitting import TRY
from vcpuid.answers.settings import joined, repaired
from vcpuid.cpuid import CpuidWord
from vcpuid.qemu.catalog import HOST_MODELS, Catalog, Model, catalog
from vcpuid.setup import Setup
from vcpuid.told.completions import completions

LONG_MODE = "lm"
"""The feature without which a CPU runs no 64-bit guest."""


def nearest(name: str, settings: Iterable[str], setup: Setup) -> str | None:
    """Name the model that runs without a warning and has the most of the features that `name` with `settings` asks for.

    The settings stay with it. Models of the host's own maker come before all others: QEMU hands on the host's vendor, and a guest takes
    family and model for that vendor's. Of those that keep as much, the one with the fewest features that nobody asked for wins. A model
    that is no 64-bit CPU does not stand for one that is. None where no model runs with the settings, or QEMU has no model of that name.
    """
    attempt, kept = Attempt(setup), tuple(settings)
    if attempt.machine is None:
        return None
    if attempt.model(name) is None and name != "base":
        host = joined("host", kept)
        return host if name in HOST_MODELS and attempt.clean(host) else None
    made = attempt.run(joined(name, [*kept, TRY]))
    if made is None:
        return None
    asked, names = wanted(made), attempt.names
    wide = attempt.catalog.flags[LONG_MODE]
    needed = asked.get(wide.word, 0) & wide.mask
    others = [
        model for model in attempt.catalog.models.values() if not model.deprecated and model.features.get(wide.word, 0) & needed == needed
    ]
    others.sort(
        key=lambda model: (
            model.vendor != setup.host.vendor,
            -_common(model, asked),
            _besides(attempt.catalog, model, asked),
            len(names[model.name]),
        )
    )
    texts = (joined(names[model.name], kept) for model in others)
    return next((text for text in texts if attempt.clean(text)), None)


def possible(cpu: str, setup: Setup) -> str | None:
    """Name the model that `nearest` finds for a -cpu where the host has all that it does not tell; None where it tells all."""
    name, settings, _ = repaired(cpu, catalog(setup.vmm.tables))
    return next((nearest(name, settings, made.setup) for made in completions(setup) if made.full), None)


def _common(model: Model, asked: Mapping[str, int]) -> int:
    return sum((value & asked.get(word, 0)).bit_count() for word, value in model.features.items())


def _besides(tables: Catalog, model: Model, asked: Mapping[str, int]) -> int:
    """Count the CPUID features that a model has unasked; what MSRs tell of nested guests weighs nothing."""
    words = (row.name for row in tables.words if isinstance(row.word, CpuidWord))
    return sum((model.features.get(word, 0) & ~asked.get(word, 0)).bit_count() for word in words)
