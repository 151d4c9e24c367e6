"""A machine's own KVM held against the model: how a user finds out that a kernel is patched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcpuid import kvm
from vcpuid.answers.explanation import sentence
from vcpuid.cpuid import Bit, CpuidWord, Snapshot
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.whole import gaps
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError
from vcpuid.reasons import Result
from vcpuid.setup import Setup

SCHEMA = "vcpuid/kvm-supported/2"
"""The form of `report`, which the verb's answer without --check shares."""


@dataclass(frozen=True, slots=True)
class PatchedBit:
    """One bit of KVM_GET_SUPPORTED_CPUID: what the machine says, what the model says, and the rule by which the model says it."""

    bit: Bit
    feature: str
    machine: bool
    model: bool
    rule: str
    reason: str

    def as_dict(self) -> dict[str, object]:
        """For JSON; a bit without a name or a rule has None."""
        return {
            "bit": str(self.bit),
            "feature": self.feature or None,
            "machine": self.machine,
            "model": self.model,
            "rule": self.rule or None,
            "reason": self.reason,
        }


def report(found: Sequence[PatchedBit], setup: Setup) -> dict[str, object]:
    """Put what `differences` found into a document for programs."""
    rows = [difference.as_dict() for difference in found]
    return {"schema": SCHEMA, "setup": setup.as_dict(vmm=False), "remarks": list(setup.remarks), "differences": rows}


def differences(host: Snapshot, setup: Setup) -> list[PatchedBit]:
    """List the bits in which a snapshot's SUP table differs from the model of a setup, in the order of leaves.

    Raises InputError where the snapshot does not tell what its KVM supports, or a part of it only.
    """
    if host.supported is None:
        raise InputError("the snapshot has no SUP lines")
    if gap := next((gap for gap in gaps(host) if gap.field == "supported"), None):
        raise InputError(f"{gap}: there is no whole answer to check")
    model = kvm.supported(setup)
    theirs, ours = host.supported.words(), model.table.words()
    words = sorted(theirs.keys() | ours.keys(), key=lambda word: (word.function, word.index, REGISTERS.index(word.register)))
    return [
        _difference(Bit(word, position), word, ours.get(word, 0), model)
        for word in words
        for position in range(word.width)
        if (theirs.get(word, 0) ^ ours.get(word, 0)) >> position & 1
    ]


def _difference(bit: Bit, word: CpuidWord, ours: int, model: Result) -> PatchedBit:
    feature = by_bit(bit)
    name = feature.name if feature is not None else ""
    value = bool(ours & bit.mask)
    about = [d for d in model.decisions if d.word == word and d.mask & bit.mask]
    if not about:
        return PatchedBit(bit, name, not value, value, "", "KVM passes on what CPUID says")
    return PatchedBit(bit, name, not value, value, about[-1].rule.id, sentence(about[-1]))
