"""The parameters of one vendor module: as given, else as the snapshot tells, else the kernel's default. `vcpuid.params` lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vcpuid.params import COMMON, MODULES, Value, read
from vcpuid.setup import Setup


@dataclass(frozen=True, slots=True)
class ModuleParams:
    """Parameters for one vendor module ("kvm_intel" or "kvm_amd"): `told` by the host's snapshot, `given` by the caller."""

    module: str
    told: Mapping[str, str]
    given: Mapping[str, Value]

    @classmethod
    def of(cls, module: str, setup: Setup) -> ModuleParams:
        """Take them from a setup."""
        return cls(module, setup.host.params, setup.params.kvm)

    def fact(self, name: str) -> int | None:
        """Return a fact that was given, None where it was not."""
        value = self.given.get(name)
        return None if value is None else read(name, value)

    def parameter(self, name: str) -> int:
        """Return a module parameter."""
        module = "kvm" if name in COMMON else self.module
        full = f"{module}.{name}"
        for value in (self.given.get(full), self.given.get(name), self.told.get(full)):
            if value is not None:
                return read(full, value)
        return MODULES[module][name]
