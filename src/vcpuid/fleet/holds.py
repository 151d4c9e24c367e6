"""What the form of whoever starts the guests can hold of a -cpu: asked of its writer (`answers.in_words`), which names what it loses."""

from __future__ import annotations

from collections.abc import Iterable

from vcpuid.answers.in_words import in_words
from vcpuid.qemu.catalog import Catalog

_ANY = "qemu64"
"""A model that every form and every QEMU has."""

_OF_WIDTH = ("host-phys-bits", "host-phys-bits-limit", "guest-phys-bits")
"""Settings without which a guest's addresses have the width that QEMU gives by itself, which is the same on all hosts too."""


class Holds:
    """A manager's form, or none, which holds everything."""

    def __init__(self, manager: str | None, tables: Catalog) -> None:
        self._manager, self._tables = manager, tables
        self._features: dict[str, bool] = {}

    def whole(self, cpu: str) -> bool:
        """Whether all of a -cpu has a place."""
        return self._manager is None or not in_words(cpu, self._manager, self._tables).lost

    def features(self, names: Iterable[str]) -> list[str]:
        """Leave the features that have a name."""
        given = list(names)
        for name in given:
            if name not in self._features:
                self._features[name] = self.whole(f"{_ANY},+{name}")
        return [name for name in given if self._features[name]]

    def settings(self, model: str, settings: tuple[str, ...]) -> tuple[str, ...] | None:
        """Leave the settings that have a place; None where the form has none for the model, or for one that it takes to be one CPU."""
        others = tuple(setting for setting in settings if setting.partition("=")[0] not in _OF_WIDTH)
        return next((some for some in (settings, others) if self.whole(",".join((model, *some)))), None)
