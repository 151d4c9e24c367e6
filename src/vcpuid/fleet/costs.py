"""What a baseline costs: features, the psABI level, what programs choose without them, and mitigations that the guest is not told of.

A class pays what a guest of its own could have (-cpu max, of what may move) and the baseline's has not. An alternative to the best model
costs what all members could give together and its guests do not get, and what programs have less than with the best.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from vcpuid.cpuid import CpuidTable
from vcpuid.path.pipeline import Path, tried
from vcpuid.setup import Setup
from vcpuid.software.cpu import software_cpu
from vcpuid.software.glibc import RELEASES
from vcpuid.software.psabi import level
from vcpuid.software.report import worth
from vcpuid.vmm.known import named

ALL = "max,migratable=on"
"""The CPU that has all that a host can give and that may move."""

CONTROLS = frozenset(
    {"spec-ctrl", "stibp", "ssbd", "md-clear", "flush-l1d", "arch-capabilities", "intel-psfd", "ipred-ctrl", "rrsba-ctrl", "bhi-ctrl",
     "ddpd-u", "ibpb", "ibrs", "amd-stibp", "stibp-always-on", "amd-ssbd", "virt-ssbd", "amd-psfd", "lfence-always-serializing",
     "verw-clear", "auto-ibrs", "eraps", "sbpb", "ibpb-brtype", "ibrs-all", "skip-l1dfl-vmentry", "tsx-ctrl", "fb-clear", "rfds-clear",
     "no-nested-data-bp", "amd-no-ssb"}
)  # fmt: skip
"""Features by which a guest's kernel mitigates a flaw of the processor, by QEMU's names; besides them those that promise to have none."""

_IMMUNITY = "-no"


def security(names: Iterable[str]) -> tuple[str, ...]:
    """Return those features, of QEMU's names, without which a guest mitigates less, or more than it must."""
    return tuple(name for name in names if name in CONTROLS or name.endswith(_IMMUNITY))


@dataclass(frozen=True)
class ProgramChoice:
    """Something that programs choose by the CPU: what they could have, and what they get."""

    topic: str
    item: str
    could: str
    gets: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"topic": self.topic, "item": self.item, "could": self.could, "gets": self.gets}


@dataclass(frozen=True)
class Cost:
    """What is lost: features by QEMU's names, of them those that serve `security`; psABI levels; choices of programs."""

    features: tuple[str, ...]
    could: int
    level: int
    choices: tuple[ProgramChoice, ...]

    @property
    def security(self) -> tuple[str, ...]:
        """The features that serve mitigations."""
        return security(self.features)

    @property
    def spoken(self) -> str:
        """Say it in a line, but for the features themselves: nothing where programs have the same."""
        parts = [f"x86-64-v{self.could} → v{self.level}"] if self.could > self.level else []
        for topic in dict.fromkeys(choice.topic for choice in self.choices if choice.topic != _LEVEL):
            items = [choice for choice in self.choices if choice.topic == topic]
            parts.append(f"{topic}: {items[0].item} {items[0].gets}, not {items[0].could}" + _more(len(items) - 1))
        return "; ".join(parts)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "features": list(self.features),
            "security": list(self.security),
            "psabi_level_could": self.could,
            "psabi_level": self.level,
            "software": [choice.as_dict() for choice in self.choices],
        }


_LEVEL = "level"
_START = "start"
"""How many CPUIDs a program's start takes, which is nobody's choice."""


def _more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""


def cost(features: Iterable[str], could: CpuidTable, gets: CpuidTable) -> Cost:
    """Hold what a guest could have against what it gets."""
    best, here = _answers(could), _answers(gets)
    choices = (ProgramChoice(*item, value, here.get(item, "")) for item, value in best.items() if here.get(item, "") != value)
    return Cost(tuple(features), level(software_cpu(could)), level(software_cpu(gets)), tuple(choices))


@lru_cache(maxsize=256)
def _answers(table: CpuidTable) -> Mapping[tuple[str, str], str]:
    told = worth(software_cpu(table), None, RELEASES[-1:], "")
    return {(topic, item): value for topic, item, value, _ in told.answers() if topic != _START}


def could_have(setup: Setup) -> CpuidTable | None:
    """Return the CPUID of a guest with all that a host gives and that may move; None where such a guest does not start."""
    return guest_of(ALL, setup)


def guest_of(cpu: str, setup: Setup) -> CpuidTable | None:
    """Return the CPUID that QEMU makes of a -cpu on a host; None where it does not start."""
    path = tried(cpu, setup, named())
    return path.made.tables[0] if isinstance(path, Path) else None
