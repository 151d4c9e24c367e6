"""What came of trying one instruction, and what that means for the feature that stands for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from vcpuid.cpuid.names import find
from vcpuid.probe.instructions import Instruction

WORKS, CANNOT_TELL, CANNOT_ENABLE, HANGS = "works", "cannot tell", "cannot enable", "hangs"
HAZARD, HIDDEN, OK, ABSENT = "hazard", "hidden, yet works", "ok", "absent"
VERDICTS = (HAZARD, HIDDEN, CANNOT_ENABLE, CANNOT_TELL, OK, ABSENT)
"""All of them, the gravest first: advertised and faults; not advertised and works; two results that decide nothing; both; neither."""

_FAULT_OF_SIGNAL = {"SIGSEGV": "#GP"}
"""A signal that stands for an exception only a processor with the feature raises: the memory of every experiment is there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One instruction in one place.

    `advertised`: whether CPUID, executed in that place, shows the feature. Of a guest that is what its kernel reads; `to_user` is what
    user code reads there, which differs under a KVM that cannot intercept it, and `asked` what the table given to KVM says. Both are
    None in this process.

    `result` is "works", an exception ("#UD") or, in a process, the signal that Linux makes of any but #UD ("SIGSEGV"), "as BSR" where
    the bytes ran as an older instruction, "hangs", "cannot tell" or "cannot enable"; `detail` says more where there is more to say.
    """

    feature: str
    instruction: str
    advertised: bool
    result: str
    detail: str = ""
    asked: bool | None = None
    to_user: bool | None = None

    @property
    def verdict(self) -> str:
        """What it means: one of the verdicts above, or the result where that decides nothing."""
        if self.result in (CANNOT_TELL, CANNOT_ENABLE):
            return self.result
        if self.result == WORKS:
            return OK if self.advertised else HIDDEN
        return HAZARD if self.advertised or self.to_user else ABSENT

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "verdict": self.verdict}


def judge(instruction: Instruction, raised: str | None, answer: int) -> tuple[str, str]:
    """Tell result and detail from what was seen: the exception or signal, None for none, and EAX afterwards."""
    if raised is not None:
        if instruction.knows and instruction.knows == _FAULT_OF_SIGNAL.get(raised, raised):
            return WORKS, f"{raised}, as only a processor that knows it raises"
        return raised, ""
    if instruction.silent:
        return CANNOT_TELL, instruction.silent
    if instruction.answer is not None and answer & 0xFFFFFFFF != instruction.answer:
        return f"as {instruction.instead}", f"EAX is {answer & 0xFFFFFFFF:#x}, not {instruction.answer:#x}"
    return WORKS, ""


def feature_name(instruction: Instruction) -> str:
    """Give the short name of an instruction's feature."""
    return find(instruction.feature).name
