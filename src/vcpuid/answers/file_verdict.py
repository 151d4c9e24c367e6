"""What one file of /sys/devices/system/cpu/vulnerabilities says, in a word, and what its kernel would need to say better."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.linux.sysfs import NOT_AFFECTED
from vcpuid.told.facts import Fact, listed

SEVERITY = ("vulnerable", "unaware", "unknown", "not told", "partly", "mitigated", "not affected")
"""What a verdict comes to in a word, the worst first."""

_WELL = frozenset({"not affected", "mitigated", "partly"})


class More(NamedTuple):
    """A feature that the processor lacks, by QEMU's name, and what the file would say besides if it had that."""

    feature: str
    says: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return self._asdict()


class FileVerdict(NamedTuple):
    """What a file says; `text` is None where that is not told, and `depends` names the facts on which it hangs then.

    It is `observed` where the machine's own file was read. `needs` are features of CPUID and of feature MSRs that the processor lacks
    and that together would let the kernel mitigate it: none where it does. `more` are those with each of which it would do more about it
    than it does.
    """

    file: str
    text: str | None
    depends: tuple[Fact, ...] = ()
    needs: tuple[str, ...] = ()
    observed: bool = False
    more: tuple[More, ...] = ()
    host: str | None = None

    @property
    def state(self) -> str:
        """The verdict in one word, of `SEVERITY`: "unaware" is a guest's kernel that takes itself for not affected, and is."""
        if self.text is None or self.depends:
            return "not told"
        if self.text == NOT_AFFECTED:
            return "not affected" if self.host is None else "unaware"
        if self.text.startswith("Unknown"):
            return "unknown"
        if "Mitigation" in self.text:
            return "partly" if "ulnerable" in self.text else "mitigated"
        return "vulnerable" if "ulnerable" in self.text else "unknown"  # no kernel writes anything else

    @property
    def protection(self) -> str:
        """The same word, but "partly" also where a feature is missing with which the kernel would do more."""
        return "partly" if self.more and self.state == "mitigated" else self.state

    @property
    def well(self) -> bool:
        """Whether the kernel does something about it, or need not."""
        return self.state in _WELL

    @property
    def protected(self) -> bool:
        """Whether that asks for nothing more."""
        return self.protection in ("not affected", "mitigated")

    @property
    def said(self) -> str:
        """What the file says, or on what it hangs; with what the host's processor is where the guest's kernel does not know."""
        if self.state == "not told":
            return f"{f'{self.text}; whether the host is, is ' if self.text else ''}not told: depends on {listed(self.depends)}"
        return f"{self.text} (the host: {self.host})" if self.host is not None else str(self.text)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        depends = [fact.as_dict() for fact in self.depends]
        told = {"file": self.file, "state": self.state, "text": self.text, "observed": self.observed, "host": self.host}
        return {**told, "depends": depends, "needs": list(self.needs), "more": [one.as_dict() for one in self.more]}
