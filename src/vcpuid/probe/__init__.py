"""Does an advertised feature's instruction really work? Tries it: in this process, and in a real guest with a table of choice."""

from vcpuid.probe.advertised import override
from vcpuid.probe.guest import guest
from vcpuid.probe.instructions import INSTRUCTIONS, Instruction, instructions_of
from vcpuid.probe.outcome import ABSENT, CANNOT_ENABLE, CANNOT_TELL, HAZARD, HIDDEN, OK, VERDICTS, WORKS, Outcome
from vcpuid.probe.process import process

__all__ = [
    "ABSENT",
    "CANNOT_ENABLE",
    "CANNOT_TELL",
    "HAZARD",
    "HIDDEN",
    "INSTRUCTIONS",
    "OK",
    "VERDICTS",
    "WORKS",
    "Instruction",
    "Outcome",
    "guest",
    "instructions_of",
    "override",
    "process",
]
