"""A CPU on its way to be realized: what has been settled so far, and the ways in which its features change.

QEMU, target/i386/cpu.c: X86CPU, x86_cpu_set_bit_prop, mark_unavailable_features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vcpuid.cpuid.words import Bit, positions
from vcpuid.qemu.catalog import Catalog, Flag, MachineType
from vcpuid.qemu.hyperv import HyperV
from vcpuid.qemu.maker import Maker
from vcpuid.qemu.supported import Supported
from vcpuid.reasons import Ledger, Rule


class FeatureSwitch(NamedTuple):
    """One feature property being set: its bits, on or off, by whom. `asked` tells whether QEMU takes it for the user's own wish."""

    flag: Flag
    on: bool
    rule: Rule
    asked: bool = True


@dataclass(slots=True)
class Draft(Maker):
    """X86CPU before it is realized.

    `base` is what the model has before anything is switched: None for max and host, which take what the host can give. `switches` are
    applied in order. `user` are bits that somebody asked for or against, `asked` those that -cpu switches on, `filtered` those that the
    guest should have had and will not get.
    """

    catalog: Catalog
    machine: MachineType
    supported: Supported
    ledger: Ledger
    base: dict[str, int] | None
    switches: tuple[FeatureSwitch, ...]
    props: dict[str, Any]
    features: dict[str, int] = field(default_factory=dict)
    user: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    filtered: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    late_warnings: list[str] = field(default_factory=list)
    once: list[str] = field(default_factory=list)
    hyperv: HyperV | None = None

    @property
    def vendor(self) -> str:
        """The property vendor."""
        return str(self.props["vendor"])

    def has(self, name: str, mask: int) -> bool:
        """Tell whether any of these bits is on; no release that lacks the word has them."""
        return bool(self.features.get(name, 0) & mask)

    def give(self, name: str, mask: int, rule: Rule) -> None:
        """Turn bits on."""
        self.features[name] = self.ledger.set(self.catalog.by_name[name].word, self.features[name], mask, rule)

    def take(self, name: str, mask: int, rule: Rule, cause: Bit | None = None) -> None:
        """Turn bits off."""
        self.features[name] = self.ledger.clear(self.catalog.by_name[name].word, self.features[name], mask, rule, cause)

    def refuse(self, name: str, mask: int, rule: Rule, message: Callable[..., str] | None, cause: Bit | None = None) -> None:
        """Take bits that the guest will not get, unless x-force-features keeps them, and warn (mark_unavailable_features)."""
        if not mask:
            return
        if not self.props["x-force-features"]:
            self.take(name, mask, rule, cause)
        self.filtered[name] = self.filtered.get(name, 0) | mask
        if message is not None:
            self.warnings += [message(feature=self.catalog.describe(name, bit)) for bit in positions(mask)]
