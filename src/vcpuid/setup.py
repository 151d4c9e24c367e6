"""The software between the silicon and the guest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from vcpuid.cpuid import Snapshot
from vcpuid.releases import KERNELS, QEMUS, choose, choose_qemu, kernel

Params = Mapping[str, int | str | bool]
"""Kernel module parameters and boot parameters by name, as the kernel spells them."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Releases and settings of the host's kernel and of QEMU.

    `kernel` and `qemu` are releases as the programs print them ("6.18.44-fc", "7.2.22"); the newest tables that are not newer stand for
    them. `machine` is QEMU's -M, `smp` its -smp. `params` are kernel parameters that differ from the host snapshot's and the kernel's
    defaults. `what_if` says that the host did not run with them: what its KVM and Linux answered then tells nothing of them.
    """

    kernel: str = KERNELS[-1]
    qemu: str = QEMUS[-1]
    machine: str = "q35"
    smp: str = "1"
    params: Params = field(default_factory=lambda: MappingProxyType({}))
    what_if: bool = False

    @property
    def remarks(self) -> tuple[str, ...]:
        """What stands for what: one sentence for each release without tables of its own. Raises InputError for a wrong release."""
        chosen = (choose(self.kernel, KERNELS, "Linux"), choose_qemu(self.qemu))
        return tuple(c.remark for c in chosen if c.remark)


def settle(host: Snapshot, stack: Stack) -> Snapshot:
    """Keep of a host's observations those that hold for a stack: none of its kernel's, where that is another one or a what-if.

    A snapshot without RAW lines is left as it is, since there is nothing to model its KVM from; so is one that tells no kernel.
    """
    other = host.kernel is not None and kernel(host.kernel) != kernel(stack.kernel)
    if not host.raw or not (other or stack.what_if):
        return host
    return replace(host, supported=None, emulated=None, hyperv=None, kept=None, set_result=None, cpuinfo=MappingProxyType({}))
