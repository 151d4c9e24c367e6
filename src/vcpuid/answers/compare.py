"""Why does a guest show what its host does not, and the reverse? Differences line by line, each with the party that caused it.

The guest is a snapshot, or what the path makes of a -cpu argument. In the first case the path attributes only the differences that it
leads to as well; of all others it says that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vcpuid.answers.certainty import depends, followed, open_bits
from vcpuid.answers.explanation import sentence
from vcpuid.answers.order import Order
from vcpuid.answers.ordered import explained
from vcpuid.answers.survey import cause_of, cpuid_features, deciding_stage, host_words, in_words, shows, turned_on_later, words_of
from vcpuid.cpuid import SIGNIFICANT_INDEX, Bit, CpuidTable, CpuidWord, Snapshot
from vcpuid.cpuid.by_name import with_named_bits
from vcpuid.cpuid.names import Feature
from vcpuid.cpuid.words import INDEXED_FUNCTIONS, REGISTERS, Word
from vcpuid.errors import InputError, KvmError, RefusedError
from vcpuid.path.pipeline import Path, guest_snapshot, resolve
from vcpuid.path.words import GuestWords
from vcpuid.reasons import Step
from vcpuid.releases import Release
from vcpuid.setup import Setup, Stack, joined
from vcpuid.told.completions import tells
from vcpuid.told.facts import Fact, hidden, listed
from vcpuid.vmm import Vmm
from vcpuid.vmm.known import named

_SHOWN = 40
UNKNOWN = "unknown"
"""The party where the path does not explain a difference."""

NOT_TOLD = "not told"
"""The party where one side does not tell whether there is a difference."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which guest and host differ.

    `what` names it (a feature, a register, a flag), `place` says where it is; `host` and `guest` are its values. `party` caused it, `why`
    says how, by the rules of `rules`. `word` and `mask` are the bits that differ; a flag of /proc/cpuinfo is in no word. A side that does
    not tell is None, and the party NOT_TOLD.
    """

    what: str
    place: str
    host: bool | int | None
    guest: bool | int | None
    party: str
    why: str
    rules: tuple[str, ...] = ()
    word: Word | None = None
    mask: int = 0

    def as_dict(self) -> dict[str, object]:
        """For JSON; registers in eight hexadecimal digits."""
        return {
            "what": self.what,
            "host": _spelled(self.host),
            "guest": _spelled(self.guest),
            "party": self.party,
            "why": self.why,
            "place": self.place,
            "rules": list(self.rules),
        }


def _spelled(value: bool | int | None) -> bool | str | None:
    return value if value is None or isinstance(value, bool) else f"{value:08x}"


@dataclass(frozen=True, slots=True)
class Sides:
    """A guest and the path to it. `observed` tells that the guest is a snapshot of its own, `guessed` that its -cpu is a guess.

    `order` is how a domain led to the path's -cpu, None where that was given.
    """

    path: Path
    guest: Snapshot
    observed: bool
    guessed: bool
    order: Order | None = None

    def tell(self, word: Word, mask: int = 0xFFFFFFFF) -> bool:
        """Whether it is known what the guest's register holds: a table that was made has no leaves but its own."""
        return not self.observed or tells(self.guest, word, mask)

    @property
    def not_run(self) -> bool:
        """Whether the guest's kernel has not run yet: it is made, now or when vcpuid wrote its snapshot."""
        return not self.observed or self.guest.table is not None

    @property
    def words(self) -> GuestWords:
        """The guest's registers; what its snapshot leaves out, KVM answers by its look-up rules."""
        return _registers(self.guest.raw, self.path.setup.kernel)


def sides(
    host: Snapshot | Setup,
    guest: Snapshot | None = None,
    cpu: str | None = None,
    stack: Stack | None = None,
    vmm: Vmm | None = None,
    order: Order | None = None,
) -> Sides:
    """Put a guest beside its host; `host`, `stack` and `vmm` are as in `resolve`, and `order` is how a domain led to `cpu`.

    Without a `guest`, it is what the path makes of `cpu`; without a `cpu`, that is guessed from the guest's CPUID. Raises QemuError or
    KvmError where QEMU or KVM refuse `cpu`, NotToldError where that hangs on what the host does not tell, InputError where there is neither
    guest nor CPU, or the guest tells nothing.
    """
    if guest is None:
        if cpu is None:
            raise InputError("neither a guest nor its -cpu is given")
        path = followed(cpu, host=host, stack=stack, vmm=vmm)
        return Sides(path, guest_snapshot(path), observed=False, guessed=False, order=order)
    guest = with_named_bits(guest)
    if not guest.raw:
        raise InputError("the guest's snapshot does not tell its CPUID (RAW lines)")
    path = _guess(host, guest, stack, vmm) if cpu is None else followed(cpu, host=host, stack=stack, vmm=vmm)
    return Sides(path, guest, observed=True, guessed=cpu is None, order=order)


def _registers(raw: CpuidTable, kernel: Release) -> GuestWords:
    entries = (e._replace(flags=SIGNIFICANT_INDEX if e.function in INDEXED_FUNCTIONS else 0) for e in raw)
    return GuestWords(CpuidTable(entries), {}, kernel)


def _guess(host: Snapshot | Setup, guest: Snapshot, stack: Stack | None, vmm: Vmm | None) -> Path:
    """Try what the VMM has that looks like the guest's CPU; take the path that leads nearest to what the guest shows."""
    vmm = vmm or named()
    setup = joined(host, stack, vmm.release)
    paths = []
    for cpu in vmm.alike(guest.raw, setup):
        try:
            paths.append(resolve(cpu, host=setup, vmm=vmm))
        except (RefusedError, KvmError):
            continue
    if not paths:
        raise InputError("no CPU of QEMU's is like this guest's: say with --cpu which it was given")
    words = _registers(guest.raw, setup.kernel)
    return min(paths, key=lambda path: sum(shows(words, feature) != _ends(path, feature) for feature in cpuid_features()))


def _short(cpu: str) -> str:
    return cpu if len(cpu) <= _SHOWN else f"{cpu[:_SHOWN]}…"


def _ends(path: Path, feature: Feature) -> bool:
    return shows(path.trace.steps[-1].after, feature)


def by_feature(both: Sides) -> list[Difference]:
    """List the features that one side has and the other has not, by leaf."""
    host, guest = host_words(both.path), both.words
    found = []
    features = cpuid_features()
    hidden = {} if both.observed else open_bits(both.path, words_of(features))
    for feature in features:
        bit = feature.place
        before = shows(host, feature) if tells(both.path.host, bit.word, bit.mask) else None
        after = shows(guest, feature) if both.tell(bit.word, bit.mask) and not hidden.get(bit.word, 0) & bit.mask else None
        if before is None or after is None:
            if before is not after:
                found.append(_open(both, feature, before, after))
        elif before != after and not (both.not_run and turned_on_later(feature, guest)):
            found.append(_of_feature(both, feature, before, after))
    return found


def _open(both: Sides, feature: Feature, before: bool | None, after: bool | None) -> Difference:
    """A feature that one side tells and the other does not."""
    bit = feature.place
    facts = (Fact(*bit),) if before is None or both.observed else depends(both.path, len(both.path.trace.steps) - 1, (bit,))
    side = "the host" if before is None or not both.observed else "the guest"
    if any(not fact.of_kernel for fact in facts):
        why = f"{side} does not tell {listed(facts)}"
    else:
        why = explained(feature, both.path, both.order).stages[-1].why
    return Difference(feature.name, str(bit), before, after, NOT_TOLD, why, (), bit.word, bit.mask)


def _of_feature(both: Sides, feature: Feature, before: bool, after: bool) -> Difference:
    place, bit = str(feature.place), feature.place
    if _ends(both.path, feature) != after:
        why = f"HOST with -cpu {_short(both.path.cpu)} {'would give a guest this' if before else 'would not give a guest this'}"
        return Difference(feature.name, place, before, after, UNKNOWN, why, (), bit.word, bit.mask)
    cause = cause_of(feature)
    found = explained(cause, both.path, both.order)
    depends_on = found.unsettled or found.depends
    if depends_on and not both.observed:
        why = f"depends on {hidden(depends_on)}"
        return Difference(feature.name, place, before, None, NOT_TOLD, why, (), bit.word, bit.mask)
    stage = deciding_stage(found, before, after)
    rules = tuple(reason.rule.id for reason in stage.reasons)
    return Difference(feature.name, place, before, after, stage.party, in_words(stage), rules, bit.word, bit.mask)


def registers(both: Sides) -> list[CpuidWord]:
    """List the registers that are compared: those that either side has, by leaf, sub-leaf and register."""
    words = {word for word in (*host_words(both.path), *both.words) if isinstance(word, CpuidWord)}
    return sorted(words, key=lambda word: (word.function, word.index, REGISTERS.index(word.register)))


def by_register(both: Sides) -> list[Difference]:
    """List the registers in which the sides differ, by leaf, sub-leaf and register."""
    host, guest = host_words(both.path), both.words
    order = registers(both)
    hidden = {} if both.observed else open_bits(both.path, order)
    found = []
    for word in order:
        before, after = host.get(word, 0), guest.get(word, 0)
        if not tells(both.path.host, word):
            found.append(_open_register(both, word, None, after))
        elif not both.tell(word) or hidden.get(word):
            found.append(_open_register(both, word, before, None))
        elif before != after:
            found.append(_of_register(both, word, before, after))
    return found


def _open_register(both: Sides, word: CpuidWord, before: int | None, after: int | None) -> Difference:
    side = "the host" if before is None else "the guest" if both.observed else "what the host does not tell decides what the guest"
    says = "does not tell it" if before is None or both.observed else "sees there"
    unknown = None if both.observed else _unknown(both.path, word)
    return Difference(register_name(word), str(word), before, after, NOT_TOLD, unknown or f"{side} {says}", (), word, 0xFFFFFFFF)


def _unknown(path: Path, word: CpuidWord) -> str | None:
    """Say what of the releases asked for is not known and leaves a register open; None where it hangs on what the host does not tell."""
    last = len(path.trace.steps) - 1
    found = [why for bit, why in path.made.open.items() if bit.word == word]
    facts = dict.fromkeys(fact for position in range(32) for fact in depends(path, last, (Bit(word, position),)))
    if facts and all(fact.of_kernel for fact in facts):
        found.append(f"depends on {hidden(tuple(facts))}")
    return found[0] if found else None


def register_name(word: CpuidWord) -> str:
    """Spell a register as leaf, sub-leaf and name."""
    return f"{word.function:x}.{word.index:x}.{word.register}"


def _of_register(both: Sides, word: CpuidWord, before: int, after: int) -> Difference:
    name = register_name(word)
    ends = both.path.trace.steps[-1].after.get(word, 0)
    mask = before ^ after
    if ends != after:
        why = f"HOST with -cpu {_short(both.path.cpu)} would give a guest {ends:08x}"
        return Difference(name, str(word), before, after, UNKNOWN, why, (), word, mask)
    changed = list(handed_on(both.path, word))
    decisions = [d for step in changed for d in step.decisions if d.word == word and d.mask & mask]
    rules = {decision.rule.id: sentence(decision) for decision in decisions}
    party = changed[-1].party if changed else UNKNOWN
    return Difference(name, str(word), before, after, party, "; ".join(rules.values()), tuple(rules), word, mask)


def handed_on(path: Path, word: CpuidWord) -> Iterator[Step]:
    """Give the parties that handed a register on otherwise than they were given it; Linux hands none on."""
    last: int | None = None
    for step in path.trace.steps:
        if not step.whole:
            continue
        value = step.after.get(word, 0)
        if last is not None and value != last:
            yield step
        last = value
