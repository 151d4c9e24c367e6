"""Names of /proc/cpuinfo: whether the guest's kernel shows a flag there, and out of which bits of its CPU Linux makes it.

A name of /proc/cpuinfo means what /proc/cpuinfo means, though a bit of hardware may have it too: AMD's 80000008h.EBX[14] is QEMU's `ibrs`,
and Linux shows `ibrs` on Intel's processors, which lack that bit, for another.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from vcpuid.answers.certainty import hanging
from vcpuid.answers.flags import inside
from vcpuid.cpuid import CpuidWord, MsrWord
from vcpuid.cpuid.feature_table import key_of
from vcpuid.cpuid.names import Feature, all_features, find, find_all, meant
from vcpuid.cpuid.notes import SUMMED_UP
from vcpuid.cpuid.words import LinuxWord
from vcpuid.kvm.feature_msrs import VMX
from vcpuid.linux.cpuinfo import cpuinfo
from vcpuid.path.pipeline import Path
from vcpuid.reasons import Decision
from vcpuid.releases import Release
from vcpuid.setup import Setup, Stack
from vcpuid.told.facts import Fact
from vcpuid.vmm import Vmm

_SYMBOL = "X86_FEATURE_"
_AMD = ("X86_FEATURE_AMD_", "X86_FEATURE_VIRT_")
_SVM = 0x8000000A


class ShownFlag(NamedTuple):
    """Whether the guest's /proc/cpuinfo shows a flag; `value` None where that hangs on facts, `depends`, that the host does not tell.

    `kernel` is the guest's.
    """

    name: str
    value: bool | None
    kernel: str
    depends: tuple[Fact, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"name": self.name, "value": self.value, "kernel": self.kernel, "depends": [fact.as_dict() for fact in self.depends]}


def as_printed(text: str, kernel: str) -> Feature:
    """Find what a spelling means: the flag of /proc/cpuinfo where it is the name of one, else what `find` gives. Raises InputError."""
    key = key_of(text.strip().lstrip("+-"))
    printed = (feature for feature in meant(text) if (name := flag_name(feature, kernel)) is not None and key_of(name) == key)
    return next(printed, None) or find(text)


def flag_name(feature: Feature, kernel: str) -> str | None:
    """Return the name by which a kernel shows a feature on the line "flags"; None where it does not."""
    name = feature.in_linux(kernel)
    return name.cpuinfo if name is not None and name.symbol.startswith(_SYMBOL) else None


def printed(feature: Feature, path: Path) -> bool | None:
    """Tell whether the guest's Linux prints a flag where the host is as far as it is told; None for what that release has no name for."""
    kernel = path.guest_linux.tables
    symbol = feature.in_linux(kernel)
    if symbol is None or flag_name(feature, kernel) is None or path.inside is None:
        return None
    return path.inside.has(symbol.symbol.removeprefix(_SYMBOL))


def shown(feature: Feature, path: Path) -> ShownFlag | None:
    """Tell whether the guest's Linux shows a feature; None for what its release has no name for."""
    kernel = path.guest_linux.tables
    name, boot, value = flag_name(feature, kernel), path.inside, printed(feature, path)
    if name is None or boot is None or value is None:
        return None
    if depends := _hanging(path.cpu, path.setup, path.vmm, path.guest_linux).get(name, ()):
        return ShownFlag(name, None, boot.kernel, depends)
    return ShownFlag(name, value, boot.kernel)


def decided(feature: Feature, path: Path) -> tuple[Decision, ...]:
    """List what the guest's Linux decided about a flag, in that order."""
    linux = feature.in_linux(path.guest_linux.tables)
    places = {bit for bit in (feature.bit, linux.place if linux else None) if bit is not None}
    made = () if path.inside is None else path.inside.decisions
    return tuple(one for one in made if any(one.word == bit.word and one.mask & bit.mask for bit in places))


@lru_cache(maxsize=4)
def _hanging(cpu: str, setup: Setup, vmm: Vmm, linux: Release) -> dict[str, tuple[Fact, ...]]:
    """Give the flags of the guest's Linux that are not told, each with the facts on which it hangs."""
    kernel = Stack(linux.asked)

    def flags(of: Path | None) -> dict[str, object] | None:
        return None if of is None else dict.fromkeys(cpuinfo(inside(of, kernel)).flags, True)

    return hanging(cpu, setup, vmm, flags)


def sources(feature: Feature, vendor: str) -> tuple[Feature, ...]:
    """List the bits of hardware out of which Linux makes a flag of its own, those first that processors of this vendor have."""
    name = feature.cpuinfo
    if name is None:
        return ()
    same = [other for other in find_all(name) if other.bit is not None]
    made = [other for other in all_features() if other.linux in SUMMED_UP and name in SUMMED_UP[other.linux]]
    return tuple(sorted(dict.fromkeys((*made, *same)), key=lambda other: maker(other) not in (None, vendor)))


def maker(feature: Feature) -> str | None:
    """Name the vendor whose processors alone have a bit, as Linux calls it; None where others have it too, or where that is not known."""
    if feature.bit is None or isinstance(feature.bit.word, LinuxWord):
        return None
    if feature.linux is not None and feature.linux.startswith(_AMD):
        return "amd"
    if isinstance(feature.bit.word, CpuidWord) and feature.bit.word.function == _SVM:
        return "amd"
    of_vmx = isinstance(feature.bit.word, MsrWord) and feature.bit.word.msr in VMX
    return "intel" if of_vmx or feature.linux in SUMMED_UP else None
