"""Tries instructions in this process's own world: in children that may die, on the processor and under the kernel that we run on."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterable

from vcpuid.cpuid import bits
from vcpuid.errors import UnavailableError
from vcpuid.live.instruction import instruction as cpuid_instruction
from vcpuid.numbers import U64, decimal
from vcpuid.probe.advertised import Seen, advertises, places
from vcpuid.probe.instructions import AMX_DATA, CR4_FSGSBASE, CR4_OSXSAVE, CR4_PKE, INSTRUCTIONS, Instruction, Needs
from vcpuid.probe.outcome import CANNOT_ENABLE, CANNOT_TELL, HANGS, Outcome, feature_name, judge

_XGETBV = bytes.fromhex("0f 01 d0")
_START_UP = 10.0
_AT_HWCAP2, _HWCAP2_FSGSBASE = 26, 2
_SIGILL = f"signal {signal.SIGILL.value}"


def process(instructions: Iterable[Instruction] = INSTRUCTIONS, *, seconds: float = 1.0) -> list[Outcome]:
    """Try every instruction that user code may execute, each for so many seconds at the most.

    A child runs them, each in a fork of its own, so that a fault or a hang costs nothing. Raises UnavailableError where this is not Linux
    on x86-64, or where the system forbids executable memory or starting a Python.
    """
    tried = [instruction for instruction in instructions if instruction.ring == 3]
    cpuid = cpuid_instruction()
    seen = {place: cpuid(*place) for place in places(tried)}
    orders = [f"permit {AMX_DATA.bit_length() - 1}", *(f"run {code.hex()} {seconds}" for code in (_XGETBV, *(i.code for i in tried)))]
    permitted, xgetbv, *answers = _ask(orders, _START_UP + seconds * len(orders))
    xcr0 = decimal(xgetbv.removeprefix("answer "), U64) or 0
    return [_outcome(instruction, answer, seen, xcr0, permitted == "0") for instruction, answer in zip(tried, answers, strict=True)]


def _outcome(instruction: Instruction, answer: str, seen: Seen, xcr0: int, permitted: bool) -> Outcome:
    lacking = _lacking(instruction.needs, seen, xcr0, permitted)
    result, detail = (CANNOT_ENABLE, lacking) if lacking else _result(instruction, answer)
    return Outcome(feature_name(instruction), instruction.name, advertises(seen, instruction), result, detail)


def _lacking(needs: Needs, seen: Seen, xcr0: int, permitted: bool) -> str:
    """Say what Linux has not switched on for us, empty where all is there."""
    if needs.cr4 & CR4_OSXSAVE and not seen[1, 0].ecx & bits.OSXSAVE.mask:
        return "this kernel has not set CR4.OSXSAVE"
    if needs.xcr0 & ~xcr0:
        return f"this kernel has set XCR0 to {xcr0:#x}, not {needs.xcr0:#x}"
    if needs.xcr0 & AMX_DATA and not permitted:
        return "this kernel does not permit the process AMX's tiles"
    if needs.cr4 & CR4_FSGSBASE and not _hwcap2() & _HWCAP2_FSGSBASE:
        return "this kernel has not set CR4.FSGSBASE"
    if needs.cr4 & CR4_PKE and not seen[7, 0].ecx & bits.OSPKE.mask:
        return "this kernel has not set CR4.PKE"
    return ""


def _result(instruction: Instruction, answer: str) -> tuple[str, str]:
    kind, _, number = answer.partition(" ")
    if kind == "time":
        return HANGS, "killed when its time was up"
    if kind == "answer":
        return judge(instruction, None, decimal(number, U64) or 0)
    try:
        raised = signal.Signals(decimal(number) or 0).name
    except ValueError:
        return CANNOT_TELL, f"the child ended with status {number}"
    return judge(instruction, "#UD" if answer == _SIGILL else raised, 0)


def _ask(orders: list[str], seconds: float) -> list[str]:
    """Have the child carry out orders; gives its line for each."""
    import subprocess
    import sys
    from importlib.resources import files

    script = files(__package__).joinpath("child.py").read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", script],
            input="\n".join(orders) + "\n",
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"no child to try instructions in: {error}") from None
    answers = done.stdout.splitlines()
    if len(answers) != len(orders):
        said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise UnavailableError(f"the child that tries instructions did not finish: {said[-1]}")
    return answers


def _hwcap2() -> int:
    """Read AT_HWCAP2, in which Linux tells user code what CPUID cannot (arch/x86/include/uapi/asm/hwcap2.h)."""
    with open("/proc/self/auxv", "rb") as file:
        pairs: dict[int, int] = dict(struct.iter_unpack("<QQ", file.read()))
    return pairs.get(_AT_HWCAP2, 0)
