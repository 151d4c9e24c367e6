"""What an answer takes for granted of the software, since nobody said: the defaults, and what else could be.

Unlike a fact of the hardware (`vcpuid.told.completions`), a setting that is not given has a usual value, and the answer is that of the
usual value. Where another would change it, the answer rests on an assumption, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from vcpuid import params as parameters
from vcpuid import releases
from vcpuid.cpuid import Bit, bits, vendors
from vcpuid.cpuid.vendors import AMD_AND_HYGON, linux_kind
from vcpuid.kvm.hardware import module_of
from vcpuid.linux import machine
from vcpuid.linux.machine import machine_of, usual_tsx_mode
from vcpuid.params import CMDLINE, MSR, TSX_MODE, with_option
from vcpuid.setup import Setup


class Assumption(NamedTuple):
    """A setting that nobody gave: what is taken for granted, why, and what else it could be."""

    taken: str
    because: str
    otherwise: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return self._asdict()

    def __str__(self) -> str:
        return f"{self.taken}, {self.because}; with {self.otherwise} it would be otherwise"


K = TypeVar("K", bound=Hashable)


def assumed(setup: Setup, answer: Callable[[Setup], Mapping[K, object] | None], but: Container[K] = ()) -> dict[Assumption, tuple[K, ...]]:
    """Return the assumptions on which answers of a setup rest, each with what these are about; `answer` and `but` are as in `changing`."""
    others = list(alternatives(setup))
    return changing(answer(setup) or {}, ((taken, answer(other)) for taken, other in others), but) if others else {}


def changing(
    base: Mapping[K, object], given: Iterable[tuple[Assumption, Mapping[K, object] | None]], but: Container[K] = ()
) -> dict[Assumption, tuple[K, ...]]:
    """Return those assumptions with which, if they do not hold, answers are otherwise than `base`, each with what these are about.

    `given` are the answers where they do not, by what they are about; None says nothing. What is in `but` is left out: it is not told.
    """
    found: dict[Assumption, tuple[K, ...]] = {}
    for taken, answers in given:
        both = base if answers is None else answers
        if changed := tuple(key for key in dict.fromkeys((*base, *both)) if base.get(key) != both.get(key) and key not in but):
            found[taken] = changed
    return found


_NAMED = 12
"""As many names stand in a sentence."""


def granted(found: Mapping[Assumption, Sequence[str]]) -> list[str]:
    """Say in a line each what is taken for granted, and of what it decides; alternatives that decide of the same share a line."""
    alike: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for one, names in found.items():
        alike.setdefault((one.taken, one.because, tuple(names)), []).append(one.otherwise)
    lines = []
    for (what, because, names), others in alike.items():
        taken = Assumption(what, because, _any_of(others))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"Taken for granted: {taken}: {' '.join(names[:_NAMED])}{more}")
    return lines


def _any_of(others: Sequence[str]) -> str:
    """Join alternatives, with the word that all begin with once: Linux 6.1 and Linux 6.6 are Linux 6.1 or 6.6."""
    if len(others) == 1:
        return others[0]
    begin = others[0].partition(" ")[0] + " "
    shared = begin if all(other.startswith(begin) for other in others) else ""
    *first, last = (other.removeprefix(shared) for other in others)
    return f"{shared}{', '.join(first)} or {last}"


def as_dicts(found: Mapping[Assumption, Sequence[str]]) -> list[dict[str, object]]:
    """For JSON."""
    return [{**taken.as_dict(), "what": list(names)} for taken, names in found.items()]


def alternatives(setup: Setup) -> Iterator[tuple[Assumption, Setup]]:
    """Give what is assumed of a setup, each with the setup in which it is otherwise."""
    yield from _modules(setup)
    if setup.host.raw:
        yield from _linux(setup)
        if "flags" not in setup.host.cpuinfo:
            yield from _firmware(setup)
    if "kernel" in setup.assumed:
        for release in releases.KERNELS:
            if release != setup.kernel.tables:
                taken = Assumption(f"Linux {setup.kernel}", "the newest with tables", f"Linux {release}")
                yield taken, replace(setup, kernel=releases.linux(release))


def _modules(setup: Setup) -> Iterator[tuple[Assumption, Setup]]:
    """Module parameters that neither the snapshot tells nor a caller gives."""
    module = module_of(linux_kind(setup.host.vendor))
    given = {name.rpartition(".")[2] for name in (*setup.params.kvm, *setup.host.params)}
    for of in ("kvm", module):
        for name, usual in parameters.MODULES[of].items():
            if name not in given:
                taken = Assumption(f"{of}.{name}={usual}", "the module's default", f"{name}={1 - usual}")
                yield taken, setup.with_param(name, 1 - usual)


class _Firmware(NamedTuple):
    """What firmware decides by an MSR: whose processors have it, the feature without which it is of no matter, the other value."""

    vendors: frozenset[str]
    feature: Bit
    msr: int
    otherwise: int
    taken: str
    other: str


_INTEL = frozenset({vendors.INTEL})
_FIRMWARE = (
    _Firmware(_INTEL, bits.VMX, machine.FEAT_CTL, 1, "VMX is on in the firmware", "VMX locked off"),
    _Firmware(_INTEL, bits.SGX, machine.FEAT_CTL, 0b101, "SGX is on in the firmware", "SGX locked off"),
    _Firmware(_INTEL, bits.ERMS, machine.MISC_ENABLE, 0, "fast strings are on in the firmware", "fast strings off"),
    _Firmware(_INTEL, bits.TME, machine.TME_ACTIVATE, 6 << 32 | 0b11, "memory is not encrypted", "memory encryption on"),
    _Firmware(AMD_AND_HYGON, bits.SVM, machine.VM_CR, 1 << 4, "SVM is on in the firmware", "SVM turned off"),
    _Firmware(AMD_AND_HYGON, bits.SME, machine.SYSCFG, 1 << 23, "memory is not encrypted", "memory encryption on"),
)
"""FEAT_CTL locked without its bits of VMX, and of SGX; MISC_ENABLE's fast strings; TME_ACTIVATE with 6 bits of keys; VM_CR's SVMDIS;
SYSCFG's MEM_ENCRYPT."""


def _firmware(setup: Setup) -> Iterator[tuple[Assumption, Setup]]:
    """What firmware left in MSRs that are not told, on a host whose flags are not told, either."""
    known = machine_of(setup)
    for row in _FIRMWARE:
        if setup.host.vendor in row.vendors and setup.host.raw.has(row.feature) and not known.tells(row.msr):
            taken = Assumption(row.taken, "as is usual", f"{row.other} (MSR {row.msr:x}h)")
            yield taken, setup.with_param(f"{MSR}{row.msr:x}", row.otherwise)


def _linux(setup: Setup) -> Iterator[tuple[Assumption, Setup]]:
    options = machine_of(setup).options
    if setup.host.raw.has(bits.RTM) and "tsx" not in options and TSX_MODE not in setup.params.linux:
        usual = usual_tsx_mode(setup)
        other = "tsx=on" if usual == "off" else "tsx=off"
        taken = Assumption(f"tsx={usual}", "as Debian builds its kernels", f"{other} on the host's command line")
        if (cmdline := with_option(str(setup.params.linux.get(CMDLINE, "")), other)) is not None:
            yield taken, setup.with_param(CMDLINE, cmdline)
