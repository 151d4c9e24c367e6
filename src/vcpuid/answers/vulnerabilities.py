"""What sysfs says of vulnerabilities, on a host or in its guest, as far as it is certain, and what would let a kernel say better."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from vcpuid.answers.certainty import hanging, rests
from vcpuid.answers.file_verdict import FileVerdict
from vcpuid.answers.flags import inside
from vcpuid.answers.helping import adding, by_rules, helping
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.registers import VULNERABILITY
from vcpuid.linux.sysfs import FILES, OF_HOSTS, vulnerabilities
from vcpuid.params import CMDLINE, with_option
from vcpuid.path.pipeline import Path
from vcpuid.releases import Release
from vcpuid.setup import Setup, Stack
from vcpuid.told.assumptions import Assumption, as_dicts, assumed, changing
from vcpuid.told.completions import first_leaves, nameless
from vcpuid.told.doubt import doubts
from vcpuid.told.facts import Fact

SCHEMA = "vcpuid/linux-vulnerabilities/2"
"""The form of `Verdicts.as_dict`."""

EVERY_FILE = "every vulnerability"
_OFF = "mitigations=off"
_BY_CHOICE = Assumption("no mitigations= on the kernel's command line", "as is usual", _OFF)
_WITHOUT_KVM = Assumption("kvm_intel is not loaded", "nothing tells that it is", "kvm_intel loaded")


class Verdicts(NamedTuple):
    """All files of a kernel; `assumes` are the settings that are taken to be the usual ones, each with the files that hang on it."""

    files: tuple[FileVerdict, ...]
    assumes: Mapping[Assumption, tuple[str, ...]] = FrozenMap()

    def of(self, file: str) -> FileVerdict | None:
        """Find a file; None where the release has none of that name."""
        return next((verdict for verdict in self.files if verdict.file == file), None)

    def named(self, protection: str) -> list[str]:
        """List the files of one word."""
        return [verdict.file for verdict in self.files if verdict.protection == protection]

    @property
    def observed(self) -> bool:
        """Whether they were read where they are, and not worked out."""
        return any(verdict.observed for verdict in self.files)

    @property
    def protected(self) -> bool:
        """Whether every file is told, and says that the processor is not affected or that the kernel mitigates it, not in part alone."""
        return all(verdict.protected for verdict in self.files)

    def summary(self, who: str) -> str:
        """Say it in a sentence."""
        told = [f"{does} {', '.join(names)}" for state, does in _DOES.items() if (names := self.named(state))]
        first = [f"{who} {'; '.join(told)}"] if told else []
        if missing := self.named("not told"):
            first.append(f"{'what it' if told else f'What {who[0].lower()}{who[1:]}'} says of {', '.join(missing)} is not told")
        if any(verdict.protected for verdict in self.files):
            others = "all others" if first else "all vulnerabilities that it knows"
            first.append(f"{'it' if missing else ''}{'' if first else who} is not affected by, or mitigates, {others}".strip())
        return f"{'; '.join(first)}."

    def as_dict(self, setup: Setup, path: Mapping[str, object] | None = None) -> dict[str, object]:
        """For JSON; `path` is the path to the guest whose Linux it is."""
        head = {"schema": SCHEMA, "setup": setup.as_dict(vmm=False), "remarks": list(setup.remarks), "path": path}
        return {**head, "files": [verdict.as_dict() for verdict in self.files], "assumes": as_dicts(self.assumes)}


_DOES = {
    "vulnerable": "reports itself vulnerable to",
    "unaware": "takes itself wrongly for not affected by",
    "unknown": "cannot tell about",
    "partly": "mitigates in part",
}
"""By a verdict's word, the worst first."""


@lru_cache(maxsize=4)
def told(setup: Setup) -> Verdicts:
    """Say what sysfs says on a settled host, as far as it tells: what its own files said stands before what rules say."""
    if seen := _observed(setup):
        verdicts = (FileVerdict(file, text, observed=True) for file, text in seen.items())
        return Verdicts(tuple(_helped_by(verdict, setup) for verdict in verdicts))
    if blind := first_leaves(setup.host):
        return Verdicts((FileVerdict(EVERY_FILE, None, blind),))
    base = vulnerabilities(setup)
    found = doubts(setup, vulnerabilities)
    taken = {} if "flags" in setup.host.cpuinfo else assumed(setup, vulnerabilities, found)
    return _verdicts(base, found, {**taken, **_by_choice(setup, base, found), **_by_kvm(setup, base, found)}, setup)


def _observed(setup: Setup) -> dict[str, str]:
    """Give the files that were read on the host, which hold of how it ran: none where another command line is asked for.

    A line without a text, or with a name that no such file has, tells nothing.
    """
    if setup.params.linux:
        return {}
    lines = ((name.removeprefix(VULNERABILITY), text) for name, text in setup.host.cpuinfo.items() if name.startswith(VULNERABILITY))
    return {file: text for file, text in lines if text and file.isidentifier()}


@lru_cache(maxsize=4)
def told_inside(path: Path, kernel: Stack | None = None) -> tuple[Verdicts, Setup]:
    """Say what sysfs says in the guest under a kernel of its own, by default the path's; return that, and the guest as a host."""
    kernel = kernel or Stack(path.guest_linux.asked)
    guest = inside(path, kernel)
    if blind := nameless(path.host):
        return Verdicts((FileVerdict(EVERY_FILE, None, blind),)), guest

    def files(of: Path) -> Mapping[str, object]:
        return vulnerabilities(inside(of, kernel))

    base = vulnerabilities(guest)
    found = hanging(path.cpu, path.setup, path.vmm, lambda other: None if other is None else files(other))
    taken = {**rests(path, files, found), **_by_choice(guest, base, found), **_by_kvm(guest, base, found)}
    verdicts = _verdicts(base, found, taken, guest)
    return verdicts._replace(files=tuple(_beside_host(verdict, path.setup, guest.kernel) for verdict in verdicts.files)), guest


def _beside_host(verdict: FileVerdict, setup: Setup, kernel: Release) -> FileVerdict:
    """Hold it against the host where a guest's kernel takes its processor for not affected: it knows only the one that it is shown.

    What the host's own kernel has no file for is what one of the guest's release would say there.
    """
    if verdict.state != "not affected" or verdict.file in OF_HOSTS:
        return verdict
    host = _on_host(verdict.file, told(setup)) or _on_host(verdict.file, told(by_rules(replace(setup, kernel=kernel))))
    if host is None or host.state == "not affected":
        return verdict
    return verdict._replace(depends=host.depends) if host.text is None else verdict._replace(host=host.text)


def _on_host(file: str, host: Verdicts) -> FileVerdict | None:
    return host.of(file) or host.of(EVERY_FILE)


def _verdicts(
    base: Mapping[str, str], found: Mapping[str, tuple[Fact, ...]], assumes: Mapping[Assumption, tuple[str, ...]], setup: Setup
) -> Verdicts:
    verdicts = []
    for file, text in base.items():
        depends = found.get(file, ())
        verdicts.append(_helped_by(FileVerdict(file, None if depends else text, depends), setup))
    return Verdicts(tuple(verdicts), FrozenMap(assumes))


_KNOWN = frozenset(file.name for file in FILES)


def _helped_by(verdict: FileVerdict, setup: Setup) -> FileVerdict:
    """Put beside a file what helps; of one that no kernel with tables has, nothing is known."""
    if verdict.file not in _KNOWN or verdict.state in ("not affected", "not told"):
        return verdict
    if verdict.state == "vulnerable":
        return verdict._replace(needs=helping(setup, verdict.file))
    return verdict._replace(more=adding(setup).get(verdict.file, ()))


def _by_choice(setup: Setup, base: Mapping[str, str], but: Mapping[str, object]) -> dict[Assumption, tuple[str, ...]]:
    given = str(setup.params.linux.get(CMDLINE, ""))
    if "mitigations=" in given:
        return {}
    cmdline = with_option(given, _OFF)
    off = None if cmdline is None else vulnerabilities(setup.with_param(CMDLINE, cmdline))
    same = [file for file, text in base.items() if off is not None and off.get(file) == text]
    return changing(vulnerabilities(by_rules(setup)), [(_BY_CHOICE, off)], {*but, *same})


def _by_kvm(setup: Setup, base: Mapping[str, str], but: Container[str]) -> dict[Assumption, tuple[str, ...]]:
    """Say what files hang on it whether KVM is loaded: some tell what it does to a guest, or that VMX is off as long as nobody uses it."""
    return {} if setup.kvm_loaded else changing(base, [(_WITHOUT_KVM, vulnerabilities(replace(setup, kvm_loaded=True)))], but)
