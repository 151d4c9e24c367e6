"""The parameters of one vendor module: as given, else as the snapshot tells, else the kernel's default. `vcpuid.params` lists them."""

from __future__ import annotations

from vcpuid.params import COMMON, MODULES, read
from vcpuid.setup import Setup


class ModuleParams:
    """Parameters for one vendor module ("kvm_intel" or "kvm_amd")."""

    __slots__ = ("_given", "_module", "_snapshot")

    def __init__(self, module: str, setup: Setup) -> None:
        self._module, self._snapshot, self._given = module, setup.host.params, setup.params.kvm

    def fact(self, name: str) -> int | None:
        """Return a fact that was given, None where it was not."""
        value = self._given.get(name)
        return None if value is None else read(name, value)

    def parameter(self, name: str) -> int:
        """Return a module parameter."""
        module = "kvm" if name in COMMON else self._module
        full = f"{module}.{name}"
        for value in (self._given.get(full), self._given.get(name), self._snapshot.get(full)):
            if value is not None:
                return read(full, value)
        return MODULES[module][name]
