"""Which model of a QEMU runs on a host as it is and is most like another one."""

from __future__ import annotations

from collections.abc import Iterable

from vcpuid.answers.attempt import Attempt
from vcpuid.answers.settings import joined
from vcpuid.cpuid import CpuidWord
from vcpuid.qemu.catalog import Catalog, Model
from vcpuid.qemu.unknown import guesses
from vcpuid.setup import Setup


def nearest(name: str, settings: Iterable[str], setup: Setup) -> str | None:
    """Name the model that runs without a warning and differs in the fewest features from another; `settings` stay with it.

    Of an unknown model, the one whose name looks most alike is taken as meant. Models of the host's own maker come first. Where no model
    runs with the settings, none does.
    """
    attempt, kept = Attempt(setup), tuple(settings)
    if attempt.machine is None:
        return None
    wanted = attempt.model(name) or _alike(attempt, name)
    if wanted is None:
        host = joined("host", kept)
        return host if attempt.clean(host) else None
    others = [model for model in attempt.catalog.models.values() if not model.deprecated]
    names = attempt.names
    others.sort(key=lambda model: (model.vendor != setup.host.vendor, _distance(attempt.catalog, model, wanted), len(names[model.name])))
    texts = (joined(names[model.name], kept) for model in others)
    return next((text for text in texts if attempt.clean(text)), None)


def _alike(attempt: Attempt, name: str) -> Model | None:
    """Return the model whose name looks most like this one."""
    return next((attempt.model(guess.meant[0]) for guess in guesses(name, attempt.catalog.release) if guess.meant), None)


def _distance(tables: Catalog, one: Model, other: Model) -> int:
    """Count the CPUID features that one has and the other has not; what MSRs tell of nested guests weighs nothing."""
    words = (row.name for row in tables.words if isinstance(row.word, CpuidWord))
    return sum((one.features.get(word, 0) ^ other.features.get(word, 0)).bit_count() for word in words)
