"""What sysfs says of vulnerabilities, on a host or in its guest, as far as it is certain, and what would let a kernel say better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from vcpuid.answers.certainty import hanging, rests
from vcpuid.answers.flags import inside
from vcpuid.cpuid import Bit, MsrWord, bits
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.registers import VULNERABILITY
from vcpuid.cpuid.showing import showing
from vcpuid.cpuid.vendors import design_of, linux_kind
from vcpuid.linux.machine import ARCH_CAPABILITIES, machine_of
from vcpuid.linux.sysfs import FILES, NOT_AFFECTED, vulnerabilities
from vcpuid.params import CMDLINE, MSR, with_option
from vcpuid.path.pipeline import Path
from vcpuid.setup import Setup, Stack
from vcpuid.told.assumptions import Assumption, as_dicts, assumed, changing
from vcpuid.told.completions import first_leaves, nameless
from vcpuid.told.doubt import doubts
from vcpuid.told.facts import Fact, listed

SCHEMA = "vcpuid/linux-vulnerabilities/1"
"""The form of `Verdicts.as_dict`."""

EVERY_FILE = "every vulnerability"
_OFF = "mitigations=off"
_BY_CHOICE = Assumption("no mitigations= on the kernel's command line", "as is usual", _OFF)


_WELL = frozenset({"not affected", "mitigated", "partly"})


class FileVerdict(NamedTuple):
    """What a file says; `text` is None where that is not told, and `depends` names the facts on which it hangs then.

    It is `observed` where the machine's own file was read. `needs` are features of CPUID and of feature MSRs that the processor lacks
    and that would each let the kernel mitigate it, all of which `needs` in `together` where no single one does.
    """

    file: str
    text: str | None
    depends: tuple[Fact, ...] = ()
    needs: tuple[str, ...] = ()
    observed: bool = False

    @property
    def state(self) -> str:
        """One word: "not affected", "mitigated", "partly", "vulnerable", "unknown", or "not told"."""
        if self.text is None:
            return "not told"
        if self.text == NOT_AFFECTED:
            return "not affected"
        if self.text.startswith("Unknown"):
            return "unknown"
        if "Mitigation" in self.text:
            return "partly" if "ulnerable" in self.text else "mitigated"
        return "vulnerable" if "ulnerable" in self.text else "unknown"  # no kernel writes anything else

    @property
    def well(self) -> bool:
        """Whether that asks for nothing."""
        return self.state in _WELL

    @property
    def said(self) -> str:
        """What the file says, or on what it hangs."""
        return f"not told: depends on {listed(self.depends)}" if self.text is None else self.text

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        depends = [fact.as_dict() for fact in self.depends]
        told = {"file": self.file, "state": self.state, "text": self.text, "observed": self.observed}
        return {**told, "depends": depends, "needs": list(self.needs)}


class Verdicts(NamedTuple):
    """All files of a kernel; `assumes` are the settings that are taken to be the usual ones, each with the files that hang on it."""

    files: tuple[FileVerdict, ...]
    assumes: Mapping[Assumption, tuple[str, ...]] = FrozenMap()

    def of(self, file: str) -> FileVerdict | None:
        """Find a file; None where the release has none of that name."""
        return next((verdict for verdict in self.files if verdict.file == file), None)

    def named(self, state: str) -> list[str]:
        """List the files of a state."""
        return [verdict.file for verdict in self.files if verdict.state == state]

    @property
    def observed(self) -> bool:
        """Whether they were read where they are, and not worked out."""
        return any(verdict.observed for verdict in self.files)

    @property
    def protected(self) -> bool:
        """Whether no file says that the processor is vulnerable, or that the kernel cannot know, and none is not told."""
        return all(verdict.well for verdict in self.files)

    def summary(self, who: str) -> str:
        """Say it in a sentence."""
        words = (("vulnerable", "reports itself vulnerable to"), ("partly", "mitigates in part"), ("unknown", "cannot tell about"))
        told = [f"{does} {', '.join(names)}" for state, does in words if (names := self.named(state))]
        missing = self.named("not told")
        if any(verdict.well for verdict in self.files):
            told.append(f"is not affected by, or mitigates, {'all others' if told or missing else 'all vulnerabilities that it knows'}")
        is_open = f"What {'it' if told else who[0].lower() + who[1:]} says of {', '.join(missing)} is not told."
        return " ".join([*([f"{who} {'; '.join(told)}."] if told else []), *([is_open] if missing else [])])

    def as_dict(self, setup: Setup, path: Mapping[str, object] | None = None) -> dict[str, object]:
        """For JSON; `path` is the path to the guest whose Linux it is."""
        head = {"schema": SCHEMA, "setup": setup.as_dict(vmm=False), "remarks": list(setup.remarks), "path": path}
        return {**head, "files": [verdict.as_dict() for verdict in self.files], "assumes": as_dicts(self.assumes)}


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
    return _verdicts(base, found, {**taken, **_by_choice(setup, base, found)}, setup)


def _observed(setup: Setup) -> dict[str, str]:
    """Give the files that were read on the host, which hold of how it ran: none where another command line is asked for.

    A line without a text, or with a name that no such file has, tells nothing.
    """
    if setup.params.linux:
        return {}
    lines = ((name.removeprefix(VULNERABILITY), text) for name, text in setup.host.cpuinfo.items() if name.startswith(VULNERABILITY))
    return {file: text for file, text in lines if text and file.isidentifier()}


def told_inside(path: Path, kernel: Stack | None = None) -> tuple[Verdicts, Setup]:
    """Say what sysfs says in the guest under a kernel of its own, by default the host's; return that, and the guest as a host."""
    kernel = kernel or Stack(path.setup.kernel.asked)
    guest = inside(path, kernel)
    if blind := nameless(path.host):
        return Verdicts((FileVerdict(EVERY_FILE, None, blind),)), guest

    def files(of: Path) -> Mapping[str, object]:
        return vulnerabilities(inside(of, kernel))

    base = vulnerabilities(guest)
    found = hanging(path.cpu, path.setup, path.vmm, lambda other: None if other is None else files(other))
    return _verdicts(base, found, {**rests(path, files, found), **_by_choice(guest, base, found)}, guest), guest


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
    asked = verdict.state == "vulnerable" and verdict.file in _KNOWN
    return verdict._replace(needs=helping(setup, verdict.file)) if asked else verdict


def _by_choice(setup: Setup, base: Mapping[str, str], but: Mapping[str, object]) -> dict[Assumption, tuple[str, ...]]:
    given = str(setup.params.linux.get(CMDLINE, ""))
    if "mitigations=" in given:
        return {}
    cmdline = with_option(given, _OFF)
    off = None if cmdline is None else vulnerabilities(setup.with_param(CMDLINE, cmdline))
    same = [file for file, text in base.items() if off is not None and off.get(file) == text]
    return changing(vulnerabilities(_by_rules(setup)), [(_BY_CHOICE, off)], {*but, *same})


def _by_rules(setup: Setup) -> Setup:
    """Let rules alone answer, as they do for what is held against a setup: what a running kernel printed holds only of how it ran."""
    return setup.with_param(CMDLINE, setup.params.linux.get(CMDLINE, ""))


_CONTROLS = {
    "intel": (
        bits.SPEC_CTRL,
        bits.SPEC_CTRL_SSBD,
        bits.INTEL_STIBP,
        bits.MD_CLEAR,
        bits.FLUSH_L1D,
        bits.SRBDS_CTRL,
        bits.ARCH_CAP_FB_CLEAR,
        bits.ARCH_CAP_RFDS_CLEAR,
        bits.ARCH_CAP_GDS_CTRL,
        bits.ARCH_CAP_TSX_CTRL_MSR,
    ),
    "amd": (bits.AMD_IBPB, bits.AMD_IBRS, bits.AMD_STIBP, bits.AMD_SSBD, bits.VIRT_SSBD, bits.VERW_CLEAR, bits.IBPB_BRTYPE, bits.SBPB),
}
"""What microcode gives a processor for a kernel to use, by the vendor that has it."""


@lru_cache(maxsize=256)
def helping(setup: Setup, file: str) -> tuple[str, ...]:
    """Name what a vulnerable processor lacks and would let its kernel mitigate this: the first control, or the first two, that do.

    This is found out by giving them to it. None is named where it lacks nothing, and its kernel was told not to mitigate.
    """
    setup = _by_rules(setup)
    if _helped(setup, file):
        return ()
    lacking = [bit for bit in _CONTROLS.get(design_of(linux_kind(setup.host.vendor)), ()) if not _has(setup, bit)]
    for wanted in [*([bit] for bit in lacking), *([one, other] for at, one in enumerate(lacking) for other in lacking[at + 1 :])]:
        if _helped(_given(setup, wanted), file):
            return tuple(_spelled(bit) for bit in wanted)
    return ()


def _helped(setup: Setup, file: str) -> bool:
    return FileVerdict(file, vulnerabilities(setup).get(file, "")).well


def _spelled(bit: Bit) -> str:
    feature = by_bit(bit)
    assert feature is not None, "a bit that rules ask for has a name"
    return feature.qemu or feature.name


def _capabilities(setup: Setup) -> int:
    """Return IA32_ARCH_CAPABILITIES, zero where CPUID does not announce it."""
    return (machine_of(setup).msr(ARCH_CAPABILITIES) or 0) if setup.host.raw.has(bits.ARCH_CAPABILITIES) else 0


def _has(setup: Setup, bit: Bit) -> bool:
    return bool(_capabilities(setup) & bit.mask) if isinstance(bit.word, MsrWord) else setup.host.raw.has(bit)


def _given(setup: Setup, wanted: Sequence[Bit]) -> Setup:
    """Give a processor features, and with those of IA32_ARCH_CAPABILITIES that MSR."""
    value, raw = _capabilities(setup), setup.host.raw
    for bit in wanted:
        in_msr = isinstance(bit.word, MsrWord)
        value |= bit.mask if in_msr else 0
        raw = showing(raw, bits.ARCH_CAPABILITIES if in_msr else bit)
    given = setup.with_host(replace(setup.host, raw=raw))
    return given.with_param(f"{MSR}{ARCH_CAPABILITIES:x}", value) if any(isinstance(bit.word, MsrWord) for bit in wanted) else given
