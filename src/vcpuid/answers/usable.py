"""Which named models of a QEMU run on a host without warnings, and how much of what the host gives each keeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vcpuid.answers.attempt import Attempt
from vcpuid.answers.counts import distinct
from vcpuid.answers.nearest import LONG_MODE
from vcpuid.qemu.catalog import HOST_MODELS
from vcpuid.qemu.models import ModelInfo
from vcpuid.setup import Setup


class Usable(NamedTuple):
    """A model that runs, in one of its versions: the other names that it has here, and how many of the features of -cpu host it keeps.

    `narrow` says that it is no 64-bit CPU, though the host is one.
    """

    model: ModelInfo
    called: tuple[str, ...]
    keeps: int
    own_maker: bool
    narrow: bool = False


class Models(NamedTuple):
    """The models that run, and how many there are.

    `usable` are those that run, 64-bit ones first, of these those of the host's maker before all others and of these the ones that keep
    the most; `number` is how many there are at all, a version each, `open` of how many of them that is not told, and `features` how many
    -cpu host gives; None where QEMU does not start with it. What it can tell a guest that runs guests itself (vmx-…) does not count: it
    hangs on vmx, which few models have.
    """

    usable: tuple[Usable, ...]
    number: int
    features: int | None
    open: int = 0

    @property
    def best(self) -> Usable | None:
        """The one to take: deprecated ones are nobody's choice, nor is one that runs no 64-bit guest on a host that does."""
        return next((found for found in self.usable if not found.model.deprecated and not found.narrow), None)


def usable(found: Iterable[ModelInfo], setup: Setup) -> Models:
    """Rank what `vcpuid.qemu.models` found; base, host and max are no named models."""
    attempt = Attempt(setup)
    named = [model for model in found if model.name not in HOST_MODELS and model.name != "base"]
    called: dict[str, list[str]] = {}
    for model in named:
        if model.alias_of is not None:
            called.setdefault(model.alias_of, []).append(model.name)
    whole = _features(attempt, "host")
    versions = [model for model in named if model.alias_of is None]
    runs = [_usable(attempt, model, tuple(called.get(model.name, ())), whole) for model in versions if model.usable]
    runs.sort(key=lambda one: (one.narrow, not one.own_maker, -one.keeps, one.model.name))
    return Models(tuple(runs), len(versions), len(whole) or None, sum(model.usable is None for model in versions))


def _usable(attempt: Attempt, model: ModelInfo, called: tuple[str, ...], whole: frozenset[str]) -> Usable:
    own = _features(attempt, model.name)
    return Usable(model, called, len(whole & own), _of_maker(attempt, model.name), LONG_MODE in whole and LONG_MODE not in own)


def _features(attempt: Attempt, cpu: str) -> frozenset[str]:
    made = attempt.run(cpu)
    names = () if made is None else distinct(attempt.catalog, made.state.features)
    return frozenset(name for name in names if not name.startswith("vmx-"))


def _of_maker(attempt: Attempt, name: str) -> bool:
    model = attempt.model(name)
    return model is not None and model.vendor == attempt.setup.host.vendor
