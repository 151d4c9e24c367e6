"""What became of a -cpu on one class: what is kept of its verdict and of the path behind it, small enough for thousands of classes.

It goes from process to process, and into the cache of `vcpuid.fleet.kept`; the path itself, with all its decisions, does neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from vcpuid.answers.attempt import Attempt
from vcpuid.answers.verdict import START, Verdict, unadvised
from vcpuid.cpuid import SIGNIFICANT_INDEX, CpuidTable, Word, bits
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.words import REGISTERS, CpuidWord
from vcpuid.fleet.words import fullest
from vcpuid.libvirt.migration import NO_INVTSC, NO_PASSTHROUGH
from vcpuid.qemu.guest import QemuResult
from vcpuid.qemu.state import CpuState
from vcpuid.setup import Setup
from vcpuid.told.completions import untold
from vcpuid.told.facts import Fact, NotTold

Table = Mapping[Word, int]
"""The registers of a guest's table and its feature MSRs; what is not in it is 0."""

_XSAVE = 0xD


@dataclass(frozen=True)
class CpuOutcome:
    """What a verdict says (`runs`, `why` it does not, `not_told`), and the guest's CPU.

    `known` is False where the tables are older than the QEMU asked for, `refused` says that QEMU or KVM do not start it, and `stays` why
    QEMU does not let the guest go to another host, None where it does. `cpuid`, `msrs` and `features` are the guest's, of feature words;
    `cpuid` is None where it does not start. `open` are the words of these that hang on what the host does not tell, which is `untold`.
    """

    runs: bool | None
    why: str | None
    known: bool = True
    refused: bool = False
    stays: str | None = None
    not_told: tuple[NotTold, ...] = ()
    untold: tuple[Fact, ...] = ()
    cpuid: CpuidTable | None = None
    msrs: Table = field(default_factory=FrozenMap)
    features: Mapping[str, int] = field(default_factory=FrozenMap)
    open: frozenset[Word] = frozenset()

    @cached_property
    def table(self) -> Table | None:
        """The guest's CPU; None where it does not start."""
        return None if self.cpuid is None else seen(self.cpuid, self.msrs)


def outcome(cpu: str, setup: Setup) -> CpuOutcome:
    """Work the path of a -cpu on a host."""
    found = unadvised(cpu, setup)
    open_ = unsettled(cpu, found)
    short = CpuOutcome(
        runs=False if found.warnings else found.runs,
        why=_why(found),
        known=found.not_known is None,
        refused=found.refusal is not None,
        not_told=found.not_told,
        untold=untold(setup) if open_ else (),
        open=open_,
    )
    if found.path is None:
        return short
    made = found.path.made
    assert isinstance(made.detail, CpuState)
    given = FrozenMap(made.detail.features)
    return CpuOutcome(**{**vars(short), "stays": stays(found), "cpuid": made.tables[0], "msrs": made.msrs, "features": given})


def _why(found: Verdict) -> str | None:
    if found.not_known is not None:
        return found.not_known
    if found.refusal is not None:
        return found.refusal.partition("\n")[0]
    if found.missing:
        return f"lacks {' '.join(missing.feature.name for missing in found.missing)}"
    if found.warnings:
        return found.warnings[0]
    if found.not_told:
        names = [open_.what for open_ in found.not_told]
        return f"not told: {START if START in names else ' '.join(names)}"
    if found.runs is None and found.start is not None:
        return found.start.message or "whether its KVM takes what QEMU sets at start is not tried"
    return None


def stays(found: Verdict) -> str | None:
    """Return why QEMU does not let the guest go (target/i386/kvm/kvm.c: hyperv_init_vcpu and kvm_arch_init_vcpu)."""
    assert found.path is not None
    state = found.path.made.detail
    assert isinstance(state, CpuState)
    if state.props.get("hv-passthrough"):
        return NO_PASSTHROUGH
    if found.path.made.tables[0].has(bits.CONSTANT_TSC) and not state.props.get("tsc-frequency"):
        return NO_INVTSC
    return None


def unsettled(cpu: str, found: Verdict) -> frozenset[Word]:
    """Return the words of a guest's table, and its feature MSRs, that are otherwise where all is there that its host does not tell."""
    full = None if found.path is None else fullest(found.setup)
    made = None if full is None else Attempt(full).run(cpu)
    if found.path is None or made is None:
        return frozenset()
    return frozenset(unlike(seen(found.path.made.tables[0], found.path.made.msrs), seen_of(made)))


def seen_of(made: QemuResult) -> dict[Word, int]:
    """Return what `seen` does of what QEMU made."""
    return seen(made.tables[0], made.msrs)


def seen(table: CpuidTable, msrs: Mapping[Word, int]) -> dict[Word, int]:
    """Return what a guest can find in its table and its feature MSRs, by word, but for zeros.

    QEMU 11 shows sub-leaves of leaf 0xD as the host has them, of components too that the guest may not use, for which XRSTOR and XSAVE
    never look: these do not count.
    """
    bounds, more = table.registers(_XSAVE), table.registers(_XSAVE, 1)
    usable = bounds.eax | bounds.edx << 32 | more.ecx | more.edx << 32
    found: dict[Word, int] = {word: value for word, value in msrs.items() if value}
    for function, index, flags, *registers in table:
        if function == _XSAVE and index > 1 and not usable >> index & 1:
            continue
        place = index if flags & SIGNIFICANT_INDEX else 0  # else KVM does not look at it, and QEMU leaves there what it has counted
        for register, value in zip(REGISTERS, registers, strict=True):
            if value:
                found[CpuidWord(function, place, register)] = value
    return found


def unlike(one: Table, other: Table) -> dict[Word, int]:
    """Return the words in which two guests' CPUs differ, each with the bits."""
    return {word: rest for word in {**one, **other} if (rest := one.get(word, 0) ^ other.get(word, 0))}
