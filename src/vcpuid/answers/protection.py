"""Whether a path's guest protects itself against a vulnerability, and of what it lacks for more, which party has it so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vcpuid.answers.explanation import Explanation
from vcpuid.answers.fate import NO_HARDWARE, followed
from vcpuid.answers.file_verdict import FileVerdict
from vcpuid.answers.sysfs import Lack, Sysfs, hanging_on
from vcpuid.answers.vulnerabilities import told, told_inside
from vcpuid.cpuid.names import find
from vcpuid.path.pipeline import Path

_NEWER = "update the host's microcode, or run the guest on a processor with what is missing"
"""What helps where the processor does not report what microcode gives it."""


def reported(path: Path, files: Sequence[str]) -> tuple[Sysfs, ...]:
    """Give what the kernels of a path's host and guest say in files of sysfs, and what the guest would need for more."""
    host, (inside, _), kernel = told(path.setup), told_inside(path), str(path.guest_linux)
    verdicts = ((file, host.of(file), inside.of(file)) for file in files)
    return tuple(Sysfs(file, of_host, guest, kernel, tuple(_missing(guest, path))) for file, of_host, guest in verdicts)


def _missing(guest: FileVerdict | None, path: Path) -> Iterator[Lack]:
    if guest is None:
        return
    for name, says in (*((name, None) for name in guest.needs), *guest.more):
        fate = followed(find(name), path)
        why = fate.chain[-1].text if fate.chain else "KVM does not offer it"
        by_hardware = bool(fate.chain) and fate.chain[-1].rule is NO_HARDWARE
        yield Lack(name, says, why, _NEWER if by_hardware else fate.remedy)


def parts(found: Sysfs, path: Path) -> tuple[Explanation, ...]:
    """Follow the bits on which a file hangs: those that the hardware or the guest has, and those that the guest would need."""
    wanted = {find(one.feature) for one in found.missing}
    followed_ = (followed(feature, path) for feature in hanging_on(found.file))
    return tuple(part for part in followed_ if part.feature in wanted or part.stages[0].value or part.visible is not False)
