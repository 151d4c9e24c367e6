"""The processor while Linux identifies it: struct cpuinfo_x86 in the making, with a ledger of what changed which flag."""

from __future__ import annotations

from vcpuid.cpuid.registers import Registers, Snapshot
from vcpuid.linux import rules
from vcpuid.linux.machine import Machine
from vcpuid.linux.tables import NOWHERE, RANKS, Match, Place, Tables, candidates
from vcpuid.reasons import Ledger, Rule

_CORE_TYPES = {0x20: "atom", 0x40: "core"}


_IN_FORCE: dict[str, dict[str, bool]] = {}
"""Whether a release has a rule, which is asked for over and over: an id names one rule."""


def _in_force(rule: Rule, release: str) -> bool:
    if release in rule.lacking or release in rule.also:
        return release in rule.also
    return (rule.since is None or RANKS[release] >= RANKS[rule.since]) and (rule.until is None or RANKS[release] <= RANKS[rule.until])


class Cpu:
    """One processor as the booting kernel knows it so far.

    Features and bugs are named as in the kernel, without X86_FEATURE_ and X86_BUG_. A name that the release does not have is never set,
    and setting it does nothing; so does a rule that the release does not have (its `since` and `until`).
    """

    __slots__ = (
        "_dropped", "_forced", "_in_force", "caps", "extended_level", "family", "ledger", "level", "machine", "microcode", "model",
        "phys_bits", "platform", "power", "raw", "stepping", "tables", "vendor", "virt_bits", "vmx",
    )  # fmt: skip

    def __init__(self, host: Snapshot, tables: Tables, machine: Machine, ledger: Ledger) -> None:
        self.tables, self.machine, self.raw = tables, machine, host.raw
        self.ledger = ledger
        self.caps = [0] * len(tables.words)
        self._in_force = _IN_FORCE.setdefault(tables.release, {})
        self._forced: dict[int, int] = {}
        self._dropped: dict[int, int] = {}
        self.vendor, self.family, self.model, self.stepping = "unknown", 4, 0, 0
        self.level = self.extended_level = self.power = self.microcode = self.platform = 0
        self.phys_bits, self.virt_bits = 36, 48
        self.vmx = [0] * 5

    def leaf(self, function: int, index: int = 0) -> Registers:
        """Execute CPUID; zeros where the snapshot has no such leaf."""
        return self.raw.registers(function, index)

    def since(self, release: str) -> bool:
        """Tell whether the kernel is this release or a newer one."""
        return self.tables.since(release)

    def is_release(self, *releases: str) -> bool:
        """Tell whether the kernel is one of these very releases: read as they were before a change that older ones' stable updates have."""
        return self.tables.release in releases

    def has(self, feature: str) -> bool:
        """Tell whether a feature is set (boot_cpu_has)."""
        word, mask = self.tables.features.get(feature, NOWHERE)
        return self.caps[word] & mask != 0

    def has_bug(self, bug: str) -> bool:
        """Tell whether a bug is set (boot_cpu_has_bug)."""
        word, mask = self.tables.bugs.get(bug, NOWHERE)
        return self.caps[word] & mask != 0

    def is_one_of(self, table: str) -> Match | None:
        """Find the first row of a list of models that this processor matches (x86_match_cpu in match.c)."""
        for row in candidates(self.tables.release, table, self.vendor, self.family, self.model):
            if (
                row.steppings >> self.stepping & 1
                and (row.kind is None or row.kind == self.core_type)
                and (row.platforms is None or row.platforms >> self.platform & 1)
            ):
                return row
        return None

    @property
    def core_type(self) -> str | None:
        """The type of core that leaf 0x1A reports: "atom", "core" or None."""
        return _CORE_TYPES.get(self.leaf(0x1A).eax >> 24) if self.level >= 0x1A else None

    def intel(self, family: int, first: int, last: int | None = None) -> bool:
        """Tell whether this is an Intel processor of that family, with a model in that range."""
        return self.vendor == "intel" and self.family == family and first <= self.model <= (first if last is None else last)

    def set(self, feature: str, rule: Rule, cause: str | None = None) -> None:
        """Turn a feature on (set_cpu_cap)."""
        self._set(self.tables.features.get(feature, NOWHERE), rule, cause)

    def set_bug(self, bug: str, rule: Rule, cause: str | None = None) -> None:
        """Mark a bug (set_cpu_bug, setup_force_cpu_bug)."""
        self._set(self.tables.bugs.get(bug, NOWHERE), rule, cause)

    def force(self, feature: str, rule: Rule, cause: str | None = None) -> None:
        """Turn a feature on for good (setup_force_cpu_cap): it comes back whatever clears it meanwhile."""
        place = self.tables.features.get(feature, NOWHERE)
        self._set(place, rule, cause)
        if place.mask and self._holds(rule):
            self._forced[place.word] = self._forced.get(place.word, 0) | place.mask

    def clear(self, feature: str, rule: Rule, cause: str | None = None) -> None:
        """Turn a feature off, with all that depend on it (clear_cpu_cap)."""
        if self._holds(rule):
            self._clear(feature, rule, cause)

    def drop(self, feature: str, rule: Rule, cause: str | None = None) -> None:
        """Turn a feature off for good, with all that depend on it (setup_clear_cpu_cap)."""
        if self._holds(rule):
            for word, mask in self._clear(feature, rule, cause):
                self._dropped[word] = self._dropped.get(word, 0) | mask

    def apply_forced(self) -> None:
        """Turn off what was dropped and on what was forced (apply_forced_caps in common.c)."""
        words, caps = self.tables.words, self.caps
        for word, mask in self._dropped.items():
            caps[word] = self.ledger.clear(words[word], caps[word], mask & ~self._forced.get(word, 0), rules.DROPPED)
        for word, mask in self._forced.items():
            caps[word] = self.ledger.set(words[word], caps[word], mask, rules.FORCED)

    def _holds(self, rule: Rule) -> bool:
        if (known := self._in_force.get(rule.id)) is None:
            known = self._in_force[rule.id] = _in_force(rule, self.tables.release)
        return known

    def _set(self, place: Place, rule: Rule, cause: str | None) -> None:
        word, mask = place
        before = self.caps[word]
        if mask & ~before and self._holds(rule):
            bit = None if cause is None else self.tables.bits.get(cause)
            self.caps[word] = self.ledger.set(self.tables.words[word], before, mask, rule, bit)

    def _clear(self, feature: str, rule: Rule, cause: str | None) -> list[Place]:
        places, bits = self.tables.features, self.tables.bits
        if feature not in places:
            return []
        words, caps, ledger = self.tables.words, self.caps, self.ledger
        word, mask = places[feature]
        caps[word] = ledger.clear(words[word], caps[word], mask, rule, None if cause is None else bits.get(cause))
        gone = [places[feature]]
        for name, needed in self.tables.dependents(feature):
            word, mask = places[name]
            gone.append(places[name])
            if caps[word] & mask:
                caps[word] = ledger.clear(words[word], caps[word], mask, rules.DEPENDS, bits.get(needed))
        return gone
