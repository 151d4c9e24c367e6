"""Whether a path's guest protects itself against a vulnerability, and of what it lacks for more, which party has it so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vcpuid.answers.explanation import Explanation
from vcpuid.answers.fate import followed
from vcpuid.answers.file_verdict import FileVerdict
from vcpuid.answers.sysfs import Lack, Sysfs, hanging_on
from vcpuid.answers.vulnerabilities import Verdicts, told, told_inside
from vcpuid.cpuid.names import find
from vcpuid.cpuid.registers import vendor_name
from vcpuid.cpuid.vendors import signature
from vcpuid.linux.sysfs import UNLISTED
from vcpuid.params import CMDLINE
from vcpuid.path.pipeline import Path


def reported(path: Path, files: Sequence[str]) -> tuple[Sysfs, ...]:
    """Give what the kernels of a path's host and guest say in files of sysfs, and what the guest would need for more."""
    return tuple(_reported(file, path, told(path.setup), told_inside(path)[0]) for file in files)


def _reported(file: str, path: Path, host: Verdicts, inside: Verdicts) -> Sysfs:
    guest, alike = inside.of(file), _alike(path)
    taken = (one for verdicts in (host, inside) for one, named in verdicts.assumes.items() if file in named)
    return Sysfs(
        file,
        host.of(file),
        guest,
        str(path.guest_linux),
        tuple(_missing(guest, path)),
        alike,
        CMDLINE in path.setup.params.linux,
        None if alike or guest is None else _known_by(guest, path),
        tuple(dict.fromkeys(taken)),
    )


def _alike(path: Path) -> bool:
    """Tell whether the guest is shown the host's vendor, family and model, by which its kernel knows from what its processor suffers."""
    host, guest = ((vendor_name(of.registers(0)), *signature(of.registers(1).eax)[:2]) for of in (path.host.raw, path.tables[0]))
    return host == guest


def _known_by(guest: FileVerdict, path: Path) -> str | None:
    """Say what lets a guest's kernel know its processor, where it does not."""
    if guest.state != "unaware" and guest.text != UNLISTED:
        return None
    by_qemu = path.vmm.name == "qemu"
    return "take -cpu host, or a model of the host's generation" if by_qemu else "show the guest the host's family and model"


def _missing(guest: FileVerdict | None, path: Path) -> Iterator[Lack]:
    if guest is None:
        return
    for name, says in (*((name, None) for name in guest.needs), *guest.more):
        fate = followed(find(name), path)
        yield Lack(name, says, fate.chain[-1].text if fate.chain else "KVM does not offer it", fate.remedy)


def parts(found: Sysfs, path: Path) -> tuple[Explanation, ...]:
    """Follow the bits on which a file hangs: those that the hardware or the guest has, and those that the guest would need."""
    wanted = {find(one.feature) for one in found.missing}
    followed_ = (followed(feature, path) for feature in hanging_on(found.file))
    return tuple(part for part in followed_ if part.feature in wanted or part.stages[0].value or part.visible is not False)
