"""The guest's CPU as a whole: every feature that it sees, and every one that it gained or lost against the host, by party."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from vcpuid.answers.certainty import open_bits, rests
from vcpuid.answers.explain import explain
from vcpuid.answers.explanation import MIRRORS, Explanation, Stage
from vcpuid.answers.order import Order
from vcpuid.answers.ordered import behind, explained
from vcpuid.answers.overruling import put_back
from vcpuid.cpuid import CpuidTable, CpuidWord, Word
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.names import Feature, all_features, by_bit
from vcpuid.kvm.answers import kvm_says
from vcpuid.path.pipeline import Path
from vcpuid.path.words import TableWords
from vcpuid.reasons import read_bit, read_register
from vcpuid.told.assumptions import Assumption
from vcpuid.told.completions import tells
from vcpuid.told.facts import NotTold, listed

SCHEMA = "vcpuid/guest/3"
"""The form of `Survey.as_dict`."""


NOT_TOLD_CHANGE = "not told"
"""The change of a feature of which nobody can tell whether the guest sees it."""

PUT_BACK_CHANGE = "put back"
"""The change of a feature that the VMM takes away and KVM puts back; it may be lost or gained besides, held against the host."""


@dataclass(frozen=True, slots=True)
class Survey:
    """`seen` are the features that the path's guest sees for certain.

    `lost` and `gained` explain those in which it differs from the host's CPUID, by deciding party; `not_told` are those of which the host
    does not tell enough to say whether the guest sees them. `put_back` are those that the VMM leaves out and KVM shows all the same.
    `set_by_guest` are those that the guest's kernel turns on itself, so that they are not lost, and `of_host` those that the host shows.
    """

    path: Path
    seen: tuple[Feature, ...]
    lost: FrozenMap[str, tuple[Explanation, ...]]
    gained: FrozenMap[str, tuple[Explanation, ...]]
    not_told: tuple[Explanation, ...] = ()
    put_back: tuple[Explanation, ...] = ()
    set_by_guest: tuple[Feature, ...] = ()
    of_host: tuple[Feature, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what the guest sees, each once: two bits may share one, as KVM's two clocks do."""
        return _names(self.seen)

    def verdict(self) -> str:
        """Say in a sentence how many features the guest sees, how many of these the host shows, and how many it does not."""
        seen, host, gained = set(self.names), set(_names(self.of_host)), _of_all(self.gained)
        kept, unknown = len(seen & host), len(seen - host - gained)
        parts = [f"all {kept} of the host's" if seen >= host else f"{kept} of the host's {len(host)}"]
        parts += [f"{len(gained)} that the host does not show"] if gained else []
        parts += [f"{unknown} of which the host tells nothing"] if unknown else []
        open_ = number(found.feature for found in self.not_told)
        untold = f"; of {open_} more it is not told" if open_ else ""
        return f"The guest sees {len(seen)} features: {', and '.join(parts)}{untold}."

    @staticmethod
    def counts(by_party: Mapping[str, tuple[Explanation, ...]]) -> dict[str, int]:
        """Count the features of `lost` or `gained` by layer."""
        return {party: number(found.feature for found in explanations) for party, explanations in by_party.items()}

    def by_layer(self) -> Iterator[str]:
        """Say how many features each layer takes, and how many it adds: a line each, none where there is nothing.

        What the guest's kernel turns on itself is neither, and makes up what is wanting to the number of the host's.
        """
        if self.lost:
            yield f"Lost {self._layers(self.lost)}."
        if own := _names(self.set_by_guest):
            yield f"Turned on later {len(own)}, by the guest's own kernel: {' '.join(own)}."
        if self.gained:
            yield f"Gained {self._layers(self.gained)}."

    def _layers(self, by_party: Mapping[str, tuple[Explanation, ...]]) -> str:
        layers = ", ".join(f"{party} {count}" for party, count in self.counts(by_party).items())
        return f"{len(_of_all(by_party))}, by layer: {layers}"

    def own_kvm(self) -> str | None:
        """Say why the guest sees what the VMM left out, where KVM puts that back; None where it does not."""
        if not self.put_back:
            return None
        modules = kvm_says(self.path.setup).odd_modules
        own = f"this machine's KVM ({', '.join(modules)})" if modules else "this machine's KVM"
        count = number(found.feature for found in self.put_back)
        features, it = ("1 feature is", "it") if count == 1 else (f"{count} features are", "them")
        return f"{features} there although {self.path.vmm.spoken} leaves {it} out: {own} adds {it}, as stock Linux's would not."

    def changes(self) -> list[dict[str, object]]:
        """Give a row for each feature lost, gained, put back or not told: `change`, `party`, `feature`, and `why` as the party did it."""
        rows: list[dict[str, object]] = [
            {"change": change, "party": party, "feature": found.feature.name, "why": _why(found, party)}
            for change, by_party in (("lost", self.lost), ("gained", self.gained))
            for party, explanations in by_party.items()
            for found in explanations
        ]
        rows += [
            {"change": PUT_BACK_CHANGE, "party": "vcpu", "feature": found.feature.name, "why": _put_back(found)} for found in self.put_back
        ]
        for found in self.not_told:
            why = f"depends on {listed(found.depends)}" if found.depends else found.stages[-1].why
            rows.append({"change": NOT_TOLD_CHANGE, "party": "", "feature": found.feature.name, "why": why})
        first: dict[tuple[object, object], dict[str, object]] = {}
        for row in rows:
            first.setdefault((row["change"], row["feature"]), row)  # of two bits of one name, once
        return list(first.values())

    def open(self) -> tuple[NotTold, ...]:
        """Give what is not told by name, with the facts on which it depends."""
        return tuple(NotTold(found.feature.name, found.depends) for found in self.not_told)

    def unknown(self) -> tuple[str, ...]:
        """Say of what hangs on no fact of the host's why it is not known: a sentence for all that have the reason in common."""
        by_reason: dict[str, list[str]] = {}
        for found in self.not_told:
            if not found.depends:
                by_reason.setdefault(found.stages[-1].why, []).append(found.feature.name)
        return tuple(f"{' '.join(names)}: {why}." for why, names in by_reason.items())

    def assumes(self) -> dict[Assumption, tuple[str, ...]]:
        """Give the settings that nobody gave and that are taken to be the usual ones, each with the features that hang on it."""
        features, names = cpuid_features(), {found.feature.name for found in self.not_told}
        words, places = words_of(features), [(feature.name, *feature.place) for feature in features]

        def seen(path: Path) -> dict[str, bool]:
            values: dict[Word, int] = {word: read_register(path.trace.steps[-1].after, word) for word in words}
            return {name: bool(values[word] >> position & 1) for name, word, position in places}

        return rests(self.path, seen, names)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        assumes = [{**assumption.as_dict(), "features": list(names)} for assumption, names in self.assumes().items()]
        return {
            "schema": SCHEMA,
            **self.path.as_dict(),
            "basis": self.path.trace.steps[-1].basis.value,
            "features": list(self.names),
            "set_by_guest": list(_names(self.set_by_guest)),
            "changes": self.changes(),
            "not_told": [found.as_dict() for found in self.open()],
            "assumes": assumes,
        }


def _of_all(by_party: Mapping[str, tuple[Explanation, ...]]) -> set[str]:
    """Name what is lost or gained, whichever the layer."""
    return {found.feature.name for explanations in by_party.values() for found in explanations}


def number(features: Iterable[Feature]) -> int:
    """Count features by their names, wherever any are counted: two bits may share one, as KVM's two clocks do."""
    return len(_names(features))


def _names(features: Iterable[Feature]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(feature.name for feature in features))


def _put_back(explanation: Explanation) -> str:
    """Say who left it out before KVM put it back: KVM itself or the VMM."""
    by_kvm = next(stage for stage in explanation.stages if stage.party == "kvm").value is False
    left_out = "KVM does not offer it" if by_kvm else f"{explanation.path.vmm.spoken} leaves it out"
    return f"{left_out}, yet this KVM adds it to the vCPU's table"


def _why(explanation: Explanation, party: str) -> str:
    return in_words(next(stage for stage in explanation.parties if stage.party == party))


def in_words(stage: Stage) -> str:
    """Give a layer's reasons where it stands beside them that a feature is lost or gained."""
    if stage.depends or stage.said is not None or stage.disagrees or not stage.reasons:
        return stage.why
    return "; ".join(dict.fromkeys(reason.text for reason in stage.reasons))


def survey(path: Path, order: Order | None = None) -> Survey:
    """Hold every CPUID feature that Linux or QEMU names against the host's; `order` is how a domain led to the path's -cpu.

    Features of MSRs are left out, since the host's own are not known, and so are AMD's copies of leaf 1 in leaf 0x80000001.
    """
    seen: list[Feature] = []
    lost: dict[str, list[Explanation]] = {}
    gained: dict[str, list[Explanation]] = {}
    not_told: list[Explanation] = []
    returned: list[Explanation] = []
    by_guest: list[Feature] = []
    of_host: list[Feature] = []
    host, guest = host_words(path), path.trace.steps[-1].after
    features = cpuid_features()
    hidden = open_bits(path, words_of(features))
    for feature in features:
        if any(hidden.get(place.word, 0) & place.mask for place in (feature.place, cause_of(feature).place)):
            not_told.append(explain(feature, path))
            continue
        before, after = shows(host, feature), shows(guest, feature)
        if before:
            of_host.append(feature)
        if after:
            seen.append(feature)
        if before and turned_on_later(feature, guest):
            by_guest.append(feature)
            continue
        if put_back(path.trace, feature.place):
            returned.append(explain(feature, path))
        if before != after and tells(path.host, feature.place.word, feature.place.mask):
            side, found = gained if after else lost, explained(feature, path, order)
            if found.unsettled:
                not_told.append(found)
                continue
            cause = explained(cause_of(feature), path, order)
            side.setdefault(deciding_stage(cause, before, after).party, []).append(replace(cause, feature=feature))
    return Survey(path, tuple(seen), _frozen(lost), _frozen(gained), tuple(not_told), tuple(returned), tuple(by_guest), tuple(of_host))


def turned_on_later(feature: Feature, guest: Mapping[Word, int]) -> bool:
    """Whether a guest that has not run yet lacks a feature only until its kernel turns that on in CR4."""
    if feature.bit not in MIRRORS or shows(guest, feature):
        return False
    _, needed = MIRRORS[feature.bit]
    return bool(read_bit(guest, needed))


def cause_of(feature: Feature) -> Feature:
    """Give the feature whose loss is another's: without the one that it takes, a guest's kernel turns nothing on. Mostly itself."""
    needed = None if feature.bit not in MIRRORS else by_bit(MIRRORS[feature.bit][1])
    return feature if needed is None else needed


def _frozen(by_party: dict[str, list[Explanation]]) -> FrozenMap[str, tuple[Explanation, ...]]:
    return FrozenMap((party, tuple(found)) for party, found in by_party.items())


def cpuid_features() -> list[Feature]:
    """Give the features of CPUID that Linux or QEMU names, without AMD's copies of leaf 1."""
    return [f for f in all_features() if isinstance(f.place.word, CpuidWord) and not f.copy_of and (f.linux_names or f.qemu_names)]


def words_of(features: Iterable[Feature]) -> list[CpuidWord]:
    """Give the words of CPUID in which features are, each once."""
    return list(dict.fromkeys(feature.place.word for feature in features if isinstance(feature.place.word, CpuidWord)))


def shows(words: Mapping[Word, int], feature: Feature) -> bool:
    """Tell whether CPUID shows a feature."""
    return bool(read_bit(words, feature.place))


def host_words(path: Path) -> Mapping[Word, int]:
    """Return the host's CPUID, or what its KVM supports where the snapshot tells no more."""
    return TableWords(path.host.raw or path.host.supported or CpuidTable(), {})


def deciding_stage(found: Explanation, before: bool, after: bool) -> Stage:
    """Return the last stage after which a feature is otherwise than before it, from what the host shows to what the guest shows.

    What a party hands on that is not told decides nothing. Where the VMM did as it was asked, it is the stage of who asked.
    """
    (first, _), *between, (last, _) = zip(found.stages, found.path.trace.steps, strict=True)
    place = found.feature.place
    handed = [(first, before), *((stage, None if stage.depends else step.value(place)) for stage, step in between), (last, after)]
    known = [(stage, value) for stage, value in handed if value is not None]
    return behind(found, [stage for (_, given), (stage, value) in pairwise(known) if value != given][-1])
