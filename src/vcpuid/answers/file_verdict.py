"""What one file of /sys/devices/system/cpu/vulnerabilities says, in a word, and what its kernel would need to say better."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.linux.sysfs import NOT_AFFECTED
from vcpuid.told.facts import Fact, listed

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

    @property
    def state(self) -> str:
        """The text in one word: "not affected", "mitigated", "partly", "vulnerable", "unknown", or "not told"."""
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
    def protection(self) -> str:
        """The same word, but "partly" also where a feature is missing with which the kernel would do more."""
        return "partly" if self.more and self.state == "mitigated" else self.state

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
        return {**told, "depends": depends, "needs": list(self.needs), "more": [one.as_dict() for one in self.more]}
