"""What would give a class the features that it lacks: what a host with the same processor has otherwise, and a newer kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vcpuid.fleet import words
from vcpuid.fleet.changes import changed
from vcpuid.fleet.members import Group
from vcpuid.releases import KERNELS, REBUILT
from vcpuid.setup import Setup, Stack

_MICROCODE, _SILICON, _QEMU = "microcode ", "silicon", "qemu"
_OF_SOFTWARE = (_MICROCODE, "kernel ")
_BY_KERNEL = frozenset({"linux", "kvm"})


def twin(party: str | None, group: Group, others: Sequence[tuple[Group, words.Words]], lost: words.Words) -> str | None:
    """Say what a member with the same processor, which is known to give all that is lost, has otherwise; None where there is none.

    What of microcode, kernel and parameters is not the same stands there; where all of it is, the firmware is what is left. What the
    processor itself does not report, no kernel gives.
    """
    same = [other for other, known in others if _signature(other) == _signature(group) and not words.without(lost, known)]
    if _signature(group) is None or not same:
        return None
    other = same[0]
    told = [text for text in changed(group.kind, other.kind) if _may_mend(text, party)]
    has = f"{other.spoken}, with the same processor, gives {'it' if words.count(lost) == 1 else 'them'}"
    return f"{has}: {'; '.join(told)}" if told else f"{has}: compare the settings of their firmware"


def _may_mend(text: str, party: str | None) -> bool:
    """Tell of a change whether it is one of microcode, and but for what the processor lacks, of the kernel or a parameter.

    What QEMU does not give, another QEMU may.
    """
    if party in (_SILICON, _QEMU):
        return text.startswith(_MICROCODE if party == _SILICON else "QEMU ")
    return text.startswith(_OF_SOFTWARE) or "." in text.partition(" ")[0]


def _signature(group: Group) -> tuple[str, int] | None:
    leaf = group.facts.raw.get(1)
    return None if leaf is None else (group.facts.vendor, leaf.eax)


def newer_kernel(party: str | None, group: Group, setup: Setup, stack: Stack | None, lost: words.Words) -> str | None:
    """Say which kernel's KVM would give all that is lost, by the rules; None where Linux and KVM are not who takes it, or none would."""
    if party not in _BY_KERNEL or (stack is not None and stack.kernel is not None):
        return None
    for name in KERNELS[KERNELS.index(setup.kernel.tables) + 1 :]:
        if name in REBUILT:  # a distribution's, which runs nowhere else
            continue
        other = Setup.of(group.facts, replace(stack or Stack(), kernel=name))
        if not words.without(lost, words.known(other)):
            return f"Linux {name}, whose KVM gives {'it' if words.count(lost) == 1 else 'them'}"
    return None
