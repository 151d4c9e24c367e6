"""A vulnerability by its name: what the host's kernel and the guest's say of it in sysfs, and what a guest would need for more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vcpuid.answers.file_verdict import FileVerdict
from vcpuid.cpuid.feature_table import key_of
from vcpuid.cpuid.features import short_symbol
from vcpuid.cpuid.names import Feature, find
from vcpuid.linux.serving import SERVING
from vcpuid.linux.sysfs import DEPENDENT, FILES, OF_HOSTS, UNLISTED
from vcpuid.told.assumptions import Assumption
from vcpuid.told.facts import listed, remedy

_BUG = "X86_BUG_"
_SERVING = ("X86_FEATURE_", "ARCH_CAP_")
_PARTS = {"SPECTRE_V2_USER": "spectre_v2", "BHI": "spectre_v2", "EIBRS_PBRSB": "spectre_v2", "MSBDS_ONLY": "mds", "SWAPGS": "spectre_v1",
          "ITS_NATIVE_ONLY": "indirect_target_selection"}  # fmt: skip
"""Bugs that have no file of their own, and are told in another's."""


class Lack(NamedTuple):
    """A feature that a guest lacks, and why: `says` is what its kernel would write besides, None where that would mitigate at all."""

    feature: str
    says: str | None
    why: str
    remedy: str | None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return self._asdict()


class Sysfs(NamedTuple):
    """What the kernels say in a file: the host's, and the guest's; None where that release has no such file.

    `kernel` is the release of the guest's, `missing` what it would need to do more, and `helps` what can be done where it does not know
    its processor. `alike` says whether it is shown the host's own vendor, family and model, `chosen` whether the host's command line is
    given; `assumes` are the settings that nobody gave and on which the verdicts rest.
    """

    file: str
    host: FileVerdict | None
    guest: FileVerdict | None
    kernel: str
    missing: tuple[Lack, ...] = ()
    alike: bool = True
    chosen: bool = False
    helps: str | None = None
    assumes: tuple[Assumption, ...] = ()

    @property
    def answer(self) -> str:
        """Say whether the guest is protected, first, then in its kernel's words; and what is missing, and why."""
        if self.guest is None:
            return f"Linux {self.kernel} does not know of {self.file}: the guest's kernel has no such file."
        if self.guest.text is None:
            return f"Whether the guest protects itself against {self.file} is not told: that depends on {listed(self.guest.depends)}."
        if self.guest.state == "not told":
            return (
                f"Whether the guest needs protection against {self.file} is not told: its kernel takes itself for not affected"
                f" ({self.guest.text}), and whether the host's processor is depends on {listed(self.guest.depends)}."
            )
        begin = _ANSWERS[self.guest.protection].format(self.file)
        if self.guest.state == "unaware":
            affected = "may be affected" if self.guest.host == UNLISTED else "is affected"
            takes = f"its kernel takes itself for not affected ({self.guest.text}), for it is shown {self.shown}, which {affected}"
            return f"{begin}: {takes}. {self.of_host()}"
        known = _UNKNOWN.get(self.guest.text)
        why = f", since {known}" if known else ", which is for the host to see to" if self._spared_as_guest else ""
        return f"{begin}{why}: {self.guest.text}. {self.lacks}".rstrip()

    @property
    def shown(self) -> str:
        """Say what a guest is shown that takes itself wrongly for not affected."""
        return "less than the host's processor" if self.alike else "another processor than the host's"

    @property
    def _spared_as_guest(self) -> bool:
        return self.file in OF_HOSTS and self.state == "not affected"

    @property
    def lacks(self) -> str:
        """Say what is missing, why, and what it would do; nothing where nothing is."""
        would = (f'say "{one.says}"' if one.says is not None else f"mitigate {self.file}" for one in self.missing)
        return " ".join(
            f"The guest lacks {find(one.feature).name} ({one.why}), with which its kernel would {does}."
            for one, does in zip(self.missing, would, strict=True)
        )

    def sentence(self) -> str:
        """Say it, the guest's first, then what the host's kernel says."""
        return self.answer if self.state == "unaware" else f"{self.answer} {self.of_host()}"

    def of_host(self) -> str:
        """Say what the host's kernel says: read there, or by rules, which know its command line only where that is given."""
        if self.host is None:
            return "The host's kernel has no such file."
        if self.host.text is None:
            return f"What the host's kernel says is {self.host.said}."
        by = "" if self.host.observed else ", with the command line given" if self.chosen else ", by its defaults"
        same = self.guest is not None and self.host.text == self.guest.text
        return f"The host's kernel says the same{by}." if same else f"The host's kernel says{by}: {self.host.text}."

    @property
    def state(self) -> str:
        """Say in a word what the guest's kernel makes of it: a verdict's state, or that this release has no such file."""
        return "not reported" if self.guest is None else self.guest.protection

    @property
    def remedy(self) -> str | None:
        """Say what helps a guest that is not told of, or lacks something; None where nothing is known to."""
        if self.guest is not None and self.guest.depends:
            return remedy(self.guest.depends)
        return "; ".join(dict.fromkeys(one.remedy for one in self.missing if one.remedy)) or self.helps

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        told = {"host": self.host, "guest": self.guest}
        verdicts = {who: None if verdict is None else verdict.as_dict() for who, verdict in told.items()}
        return {"file": self.file, "kernel": self.kernel, **verdicts, "missing": [one.as_dict() for one in self.missing]}


_ANSWERS = {
    "not affected": "The guest needs no protection against {}",
    "unaware": "No, the guest does not protect itself against {}",
    "mitigated": "Yes, the guest protects itself against {}",
    "partly": "Partly, the guest protects itself against {}",
    "vulnerable": "No, the guest does not protect itself against {}",
    "unknown": "The guest cannot know whether it is protected against {}",
}
"""By a verdict's state."""


_UNKNOWN = {
    UNLISTED: "its kernel does not know the processor that it is shown",
    DEPENDENT: "that is up to the host's microcode, which no guest can ask",
}
"""Why a kernel cannot know, by what it says."""


def in_full(found: Sequence[Sysfs]) -> list[Sysfs]:
    """Choose those that the guest is affected by; none where there are more than can be told at length.

    Those that its kernel does not know of are told together, where there are others.
    """
    affected = _affected(found)
    told = [one for one in affected if one.state != "unaware"] or affected
    return told if len(told) <= 2 else []


def _affected(found: Sequence[Sysfs]) -> list[Sysfs]:
    return [one for one in found if one.guest is not None and one.guest.state != "not affected"]


def stakes(found: Sequence[Sysfs]) -> list[str]:
    """Say of several files whether the guest is protected, in lines: of one or two that it is affected by in its kernel's words."""
    at_length = in_full(found)
    others = [one for one in _affected(found) if one not in at_length]
    spared = [one.file for one in found if one.state == "not affected"]
    groups = ((does, ", ".join(one.file for one in others if one.state == state)) for state, does in _TOGETHER.items())
    told = "; ".join(f"{does} {names}" for does, names in groups if names)
    why = next((f", for it is shown {one.shown}" for one in others if one.state == "unaware"), "")
    summed = [f"The guest {told}{why}."] if told else []
    rest = [f"The guest needs no protection against {', '.join(spared)}."] if spared else []
    return [*(one.answer for one in at_length), *summed, *rest]


_TOGETHER = {
    "vulnerable": "does not protect itself against",
    "unknown": "cannot know whether it is protected against",
    "not told": "does not tell enough to say whether it is protected against",
    "partly": "partly protects itself against",
    "mitigated": "protects itself against",
    "unaware": "takes itself wrongly for not affected by",
}
"""By a verdict's state, the worst first; last what is said to be so and why."""


def served(feature: Feature) -> tuple[str, ...]:
    """Name the files of sysfs that hang on a feature which is there for mitigations, the best known first; none for any other."""
    names = {short_symbol(name.symbol).upper() for name in feature.linux_names if name.symbol.startswith(_SERVING)}
    return tuple(file for file, serving in SERVING.items() if names.intersection(serving))


def hanging_on(file: str) -> tuple[Feature, ...]:
    """List the bits of hardware that are there for mitigations and on which a file hangs."""
    found = dict.fromkeys(find(name) for name in SERVING.get(file, ()))
    return tuple(feature for feature in found if feature.bit is not None)


def bug_of(file: str) -> Feature | None:
    """Find the vulnerability that a file of sysfs is about; None where no file has that name."""
    key = key_of(file.strip())
    return next((find(_BUG + row.bugs[0]) for row in FILES if key_of(row.name) == key and row.bugs), None)


def file_of(feature: Feature) -> str | None:
    """Name the file of sysfs that tells of a bug; None for one of which none does."""
    for symbol in (name.symbol for name in feature.linux_names):
        bug = symbol.removeprefix(_BUG)
        if (file := _PARTS.get(bug) or next((file.name for file in FILES if bug in file.bugs), None)) is not None:
            return file
    return None
