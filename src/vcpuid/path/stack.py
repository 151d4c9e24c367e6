"""The software between the silicon and the guest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from vcpuid.versions import KERNELS, QEMUS, choose, choose_qemu

Params = Mapping[str, int | str | bool]
"""Kernel module parameters and boot parameters by name, as the kernel spells them."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Releases and settings of the host's kernel and of QEMU.

    `kernel` and `qemu` are releases as the programs print them ("6.18.44-fc", "7.2.22"); the newest tables that are not newer stand for
    them. `machine` is QEMU's -M, `smp` its -smp. `params` are kernel parameters that differ from the host snapshot's and the kernel's
    defaults.
    """

    kernel: str = KERNELS[-1]
    qemu: str = QEMUS[-1]
    machine: str = "q35"
    smp: str = "1"
    params: Params = field(default_factory=lambda: MappingProxyType({}))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What stands for what: one sentence for each release without tables of its own. Raises InputError for a wrong release."""
        chosen = (choose(self.kernel, KERNELS, "Linux"), choose_qemu(self.qemu))
        return tuple(c.remark for c in chosen if c.remark)
