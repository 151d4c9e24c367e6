"""Where a rule comes from and how it is known: which release and commit brought it, and which capture of a real program shows it.

data/provenance.json has what was found out of releases and commits, a rule a row, with the evidence; data/captured-rules.json names for
each rule a capture in whose answer it decided a bit, all of which the tests hold to be exact. Of a rule that is not in the first, only
the tables are known that have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.data import load
from vcpuid.reasons.rule import Rule
from vcpuid.releases import LIBVIRTS, QEMUS, UPSTREAM, number


class Provenance(NamedTuple):
    """A row of data/provenance.json. `since` and `until` are the first and the last release of the program itself, not of a stable
    series that took the change over; None is not known, of `until` also that the newest release has the rule."""

    since: str | None = None
    until: str | None = None
    commit: str | None = None
    subject: str | None = None
    evidence: str | None = None


UNKNOWN = Provenance()

RELEASES = {"linux": UPSTREAM, "kvm": UPSTREAM, "qemu": QEMUS, "libvirt": LIBVIRTS}
"""The releases with tables of the program that a party is part of, oldest first; a party that is not here has none."""

SHOWN = ("silicon", "observed", "recorded")
"""Parties whose rules say what a machine or a table shows, and not what a program does."""


def party_of(identity: str) -> str:
    """Return the party of a rule: its id up to the first dot."""
    return identity.partition(".")[0]


@dataclass(frozen=True, slots=True)
class History:
    """Where a rule comes from. `first` and `last` are the oldest and the newest tables that have it, None where all on that side do.

    `provenance` is what was found out beyond; `capture` names a capture that shows the rule, None where none does. `of_program` is False
    for what says no more than what a machine shows.
    """

    releases: tuple[str, ...]
    first: str | None
    last: str | None
    provenance: Provenance
    capture: str | None
    of_program: bool

    @property
    def known(self) -> str | None:
        """How the rule is known: "captured", or "read" from the source alone; None for what a machine shows anyway."""
        return None if not self.of_program else "read" if self.capture is None else "captured"

    @property
    def backported(self) -> str | None:
        """The release with tables that has the rule though it is older than the release that brought it: its stable series took it over."""
        since = self.provenance.since
        oldest = self.first or (self.releases[0] if self.releases else None)
        return oldest if since is not None and oldest is not None and number(oldest) < number(since) else None

    def words(self) -> Iterator[str]:
        """Say it for a person, a clause at a time; nothing of what all tables have alike and nobody found out."""
        since, until, commit, subject, _ = self.provenance
        source = f"commit {commit}" + (f', "{subject}"' if subject else "") if commit else ""
        if since is not None:
            yield f"since {since}" + (f" ({source})" if source else "")
            if self.backported is not None:
                yield f"taken over into the stable series of {self.backported}"
        elif source:
            yield source
        if self.first in self.releases and since is None:
            yield f"in {self.first}'s tables, not in {self._beside(self.first, -1)}'s"
        if until is not None:
            yield f"until {until}"
        elif self.last in self.releases:
            yield f"in {self.last}'s tables, not in {self._beside(self.last, 1)}'s"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        since, until, commit, subject, _ = self.provenance
        return {
            "since": since,
            "until": until,
            "commit": commit,
            "subject": subject,
            "first_tables": self.first,
            "last_tables": self.last,
            "known": self.known,
        }

    def _beside(self, release: str, step: int) -> str:
        return self.releases[self.releases.index(release) + step]


def history(rule: Rule) -> History:
    """Find out where a rule comes from and how it is known."""
    party = party_of(rule.id)
    row = load("provenance")["rules"].get(rule.id)
    capture = load("captured-rules")["rules"].get(rule.id)
    found = Provenance(*row) if row else UNKNOWN
    return History(RELEASES.get(party, ()), rule.since, rule.until, found, capture, party not in SHOWN)


NOTHING = History((), None, None, UNKNOWN, None, False)
"""Of what no program brought."""
