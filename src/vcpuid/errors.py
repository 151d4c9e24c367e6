"""Everything that vcpuid raises on purpose.

    VcpuidError            the root: catch this to catch all of them
    ├── InputError         what was read or asked for makes no sense: a cut dump, an unknown name, a wrong value
    │   └── NotKnownError  what was asked for may well be, but is newer than the tables that stand for the release asked for
    ├── UnavailableError   the machine lacks something: no /dev/kvm, no QEMU, not an x86 processor
    ├── KvmError           KVM refuses; carries the errno that the ioctl gives
    ├── RefusedError       a VMM refuses; the text is its own message
    │   ├── QemuError      QEMU does
    │   ├── FirecrackerError  Firecracker does; the text is the part of its message that names the cause
    │   └── LibvirtError   libvirt does, or the QEMU that it started; carries libvirt's own numbers
    └── NotToldError       whether a VMM or KVM refuses hangs on what the host does not tell

    RemarkWarning          a warning, no error: the answer stands on something else than what was asked for

`exit_status` is what the command line ends with when the error reaches it.
"""

from __future__ import annotations

import errno as _errno
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

_WORD, _HEAD, _TAIL = 200, 130, 60
_LONG_WORD = re.compile(rf"\S{{{_WORD + 1},}}")
_LINE = 2000
"""Characters of an error as it is shown: a listing of all parameters' names has some hundred."""


def bounded(text: str) -> str:
    """Bound the length of an error's text, which may repeat what somebody gave: of a long word the middle is left out."""
    told = _LONG_WORD.sub(lambda found: f"{found[0][:_HEAD]}…{found[0][-_TAIL:]}", text)
    return told if len(told) <= _LINE else f"{told[:_LINE]}…"


class VcpuidError(Exception):
    """Root of the tree."""

    exit_status = 3


class InputError(VcpuidError):
    """Bad input. `source` and `line` say where, when it came from a file (lines count from 1)."""

    def __init__(self, cause: str, *, source: str | None = None, line: int | None = None) -> None:
        self.cause, self.source, self.line = cause, source, line
        named = source or "''"  # an empty name is one as well
        where = "" if source is None else f"{named}: " if line is None else f"{named}:{line}: "
        super().__init__(where + cause)

    def __reduce__(self) -> tuple[Callable[..., InputError], tuple[object, ...]]:
        return partial(type(self), source=self.source, line=self.line), (self.cause,)


class NotKnownError(InputError):
    """What was asked for is in none of the tables that stand for a release, which may have it all the same."""


class UnavailableError(VcpuidError):
    """The environment lacks something that the request needs."""

    exit_status = 4


class KvmError(VcpuidError):
    """KVM refuses an ioctl: `errno` as the caller of the ioctl would see it, `reason` in words."""

    exit_status = 1

    def __init__(self, errno: int, reason: str) -> None:
        self.errno, self.reason = errno, reason
        super().__init__(f"{_errno.errorcode.get(errno, errno)}: {reason}")

    def __reduce__(self) -> tuple[type[KvmError], tuple[int, str]]:
        return KvmError, (self.errno, self.reason)


class RefusedError(VcpuidError):
    """A VMM refuses to start.

    `message` is what it prints, without the program name, `warnings` what it has printed before; `hint` is vcpuid's own word on what may
    have been meant, None where it has none; Python shows it below the message as a note.
    """

    exit_status = 1

    def __init__(self, message: str, warnings: Sequence[str] = (), hint: str | None = None) -> None:
        self.message, self.warnings, self.hint = message, tuple(warnings), hint
        super().__init__(message)
        if hint is not None:
            self.add_note(hint)

    def __reduce__(self) -> tuple[type[RefusedError], tuple[str, tuple[str, ...], str | None]]:
        return type(self), (self.message, self.warnings, self.hint)


class QemuError(RefusedError):
    """QEMU refuses to start."""


class MisnamedError(QemuError):
    """QEMU refuses a model or a property in -cpu whose name no QEMU that is known has: the input is wrong, whatever the host."""

    exit_status = InputError.exit_status


class FirecrackerError(RefusedError):
    """Firecracker refuses to start a guest."""


class LibvirtError(RefusedError):
    """libvirt refuses: `code` and `domain` are its numbers (VIR_ERR_*, VIR_FROM_*), `message` what virsh prints after "error: ".

    Of a start that got as far as QEMU, `cpu` is the -cpu argument and `log` what QEMU had printed. `causes` are the features that led to
    it, each a `vcpuid.libvirt.Ruling`.
    """

    def __init__(
        self, code: int, domain: int, message: str, cpu: str | None = None, log: Sequence[str] = (), causes: Sequence[object] = ()
    ) -> None:
        self.code, self.domain, self.cpu, self.log, self.causes = code, domain, cpu, tuple(log), tuple(causes)
        super().__init__(message, log)

    def __reduce__(self) -> tuple[type[LibvirtError], tuple[object, ...]]:  # type: ignore[override]  # with more of its own
        return LibvirtError, (self.code, self.domain, self.message, self.cpu, self.log, self.causes)

    def as_dict(self) -> dict[str, object]:
        """For JSON, and as captures have it."""
        found: dict[str, object] = {"code": self.code, "domain": self.domain, "message": self.message}
        if self.cpu is not None:
            found["-cpu"] = self.cpu
        if self.log:
            found["log"] = list(self.log)
        return found


class NotToldError(VcpuidError):
    """Whether a VMM or KVM refuses hangs on facts that the host does not tell; the text names them and how to give them."""

    exit_status = 1


class RemarkWarning(UserWarning):
    """What a public function has to say of its answer: another release's tables were used, a parameter has no effect."""


FAULT = 70
"""EX_SOFTWARE of sysexits.h: the exit status of an error that nobody foresaw."""

USED_UP = frozenset({_errno.EMFILE, _errno.ENFILE, _errno.ENOMEM, _errno.EAGAIN})
"""Descriptors, memory, processes: whoever needs one and is refused has found no fault."""


def tell_fault(fault: BaseException, whose: str, more: str) -> tuple[int, str]:
    """Return the exit status for an error that nobody foresaw, and a line to report it with.

    `whose` fault it is comes with a version, `more` says how to see the rest. Where only the machine has none left of something, status and
    line say that.
    """
    if isinstance(fault, MemoryError) or (isinstance(fault, OSError) and fault.errno in USED_UP):
        return UnavailableError.exit_status, getattr(fault, "strerror", None) or "out of memory"
    told = " ".join(str(fault).split())[:200]
    return FAULT, f"a fault of {whose}, please report it: {type(fault).__name__}: {told} ({_place(fault)}{more})"


def _place(error: BaseException) -> str:
    """Tell where an error comes from, as `vcpuid.qemu.smp:120`: the last line of vcpuid's own that it passed, or else the last of all."""
    passed, step = [("nowhere", 0)], error.__traceback__
    while step is not None:  # not by `traceback`, which would have to be imported in whatever state this process is
        passed.append((str(step.tb_frame.f_globals.get("__name__")), step.tb_lineno))
        step = step.tb_next
    ours = [(module, line) for module, line in passed if module.split(".")[0] in ("vcpuid", "__main__")]
    return ":".join(map(str, (ours or passed)[-1]))


def warn_caller(remark: str) -> None:
    """Warn of what an answer has to say, at the place outside vcpuid that asked for it."""
    frame: FrameType | None = sys._getframe()
    level = 1
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "vcpuid":
        frame, level = frame.f_back, level + 1
    warnings.warn(remark, RemarkWarning, stacklevel=level)
