"""The VMM's place on the path: whoever takes KVM_GET_SUPPORTED_CPUID and hands a table to KVM_SET_CPUID2.

QEMU is one (`vcpuid.vmm.qemu`), Firecracker another (`vcpuid.vmm.firecracker`). `vcpuid.vmm.recorded` is one of which only its table is
known. The path knows none of them by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vcpuid.cpuid import Bit, CpuidTable, Word
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.kvm.answers import Answers
from vcpuid.reasons import Decision
from vcpuid.releases import Release
from vcpuid.setup import Setup

__all__ = ["Made", "Vmm"]


@dataclass(frozen=True)
class Made:
    """What a VMM makes of a CPU that somebody asked for.

    `tables` are those for KVM_SET_CPUID2, one a vCPU; `msrs` the feature MSRs that it sets, and `decisions` lead from
    KVM_GET_SUPPORTED_CPUID to the first table. `denied` are the bits that were asked for and are not given, or with `forced` are given
    all the same, `dropped` those that are not given either and of which the VMM says nothing; `warnings` what it prints on the way.
    `observed` says that a recording shows the tables, and no rule made them; `kept` is what the first vCPU made of its table, where that
    was seen. `available` are the bits that the VMM could give a guest
    on this host, where that is known. `remarks` say what of it is not known for sure; `open` are bits that the tables in use take away
    and that the release asked for may know all the same, each with what is not known of it. `detail` is the VMM's own: only its own
    advice reads it.
    """

    tables: tuple[CpuidTable, ...]
    msrs: Mapping[Word, int] = field(default_factory=FrozenMap)
    decisions: Sequence[Decision] = field(default=(), compare=False)
    denied: Sequence[Bit] = field(default=(), compare=False)
    dropped: Sequence[Bit] = field(default=(), compare=False)
    forced: bool = False
    warnings: tuple[str, ...] = ()
    observed: bool = False
    kept: CpuidTable | None = None
    available: Mapping[Word, int] | None = field(default=None, compare=False)
    remarks: tuple[str, ...] = ()
    open: Mapping[Bit, str] = field(default_factory=FrozenMap, compare=False)
    detail: object = field(default=None, compare=False)


class Vmm(Protocol):
    """A VMM. `name` is its party's id, `spoken` how a person says it, `title` what its step on the path is."""

    @property
    def name(self) -> str:
        """The party's id, such as "qemu"."""

    @property
    def spoken(self) -> str:
        """Its name for a person, such as "QEMU"."""

    @property
    def title(self) -> str:
        """What its step hands on."""

    def __hash__(self) -> int:
        """Hash what it is: two that are equal make the same of the same."""

    def release(self, asked: str | None) -> Release:
        """Choose the tables for a release, of None the newest; raises InputError."""

    def describe(self, asked: str, setup: Setup, remark: str = "") -> str:
        """Say in a line what was asked of which software, with a remark on what was asked; what people copy ends the line.

        Such as "QEMU 11.1, q35, Linux 6.12, guessed: -cpu host".
        """

    def alike(self, table: CpuidTable, setup: Setup) -> Iterable[str]:
        """Name what could have been asked for by the guest whose CPUID `table` is, likeliest first."""

    def make(self, asked: str, setup: Setup, kvm: Answers) -> Made:
        """Make the tables of a guest. Raises the VMM's own VcpuidError where it would refuse, InputError for what makes no sense."""

    def unspecific(self, warning: str) -> str:
        """Return one of its warnings with the numbers in it left open that are the host's, and not of what was asked."""
