"""Whether a guest can move from one host to another: for QEMU, which compares nothing, and for the guest, which must not notice.

The other host's QEMU makes the CPU anew from the same -cpu, and what comes along of the guest's state is loaded into it. So a guest moves
safely where both make the same CPU; where they do not and QEMU starts all the same, it is accepted and unsafe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from vcpuid.answers.verdict import START, Verdict, unadvised
from vcpuid.cpuid import Bit, CpuidWord, MsrWord, Snapshot, Word
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.words import positions
from vcpuid.fleet import clocks
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.members import Census, Group, hosts_of, spoken
from vcpuid.fleet.outcome import Table, seen, stays, unlike, unsettled
from vcpuid.fleet.proof import CUT, listed_words, prove
from vcpuid.fleet.software import eldest, on_each, remarks, settled
from vcpuid.kvm.answers import kvm_says
from vcpuid.libvirt import connect
from vcpuid.libvirt.migration import Migration, migrate
from vcpuid.path.pipeline import Path, tried
from vcpuid.qemu import KvmHost, messages
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.supported import AMD_ALIASES
from vcpuid.qemu.unknown import guesses
from vcpuid.releases import Release
from vcpuid.setup import Setup, Stack
from vcpuid.told.completions import untold
from vcpuid.told.doubt import doubts
from vcpuid.told.facts import NotTold
from vcpuid.vmm.known import named

Outcome = Literal["yes", "refused", "unsafe", "not told"]

_KINDS = {
    0x0: "levels", 0x80000000: "levels", 0x2: "caches", 0x4: "caches", 0x80000005: "caches", 0x80000006: "caches", 0x8000001D: "caches",
    0x5: "MWAIT", 0xA: "performance counters", 0xB: "topology", 0x1F: "topology", 0x8000001E: "topology", 0xD: "XSAVE layout", 0x12: "SGX",
    0x14: "processor trace", 0x15: "frequencies", 0x16: "frequencies", 0x40000010: "frequencies", 0x1C: "last branch records",
    0x80000008: "address bits", 0x80000002: "the processor's name", 0x80000003: "the processor's name", 0x80000004: "the processor's name",
}  # fmt: skip

_XSAVE = 0xD
_AMDS_SECOND = CpuidWord(0x80000001, 0, "edx")

_HARM = {
    "features": "instructions that the guest knows of raise #UD, or it never learns of others",
    "XSAVE layout": "state that the guest saved on the one host is read at another place on the other",
    "address bits": "addresses that the guest uses may not exist there",
    "frequencies": "clocks run at another rate than the guest measured",
    "performance counters": "the guest's counters change their number or their events",
    "feature MSRs": "the guest believes itself immune to, or able to do, what holds on the one host alone",
}
_CLOCK = "TSC"
_OTHER_HARM = "what the guest read once is no longer true"


class Deviation(NamedTuple):
    """What is another CPU for the guest: of what kind, which features, words or names, and what that means for a running guest."""

    kind: str
    names: tuple[str, ...]
    harm: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"what": self.kind, "differs": list(self.names), "harm": self.harm}


@dataclass(frozen=True)
class Move:
    """What comes of moving a guest. `by` says who refuses, in `words`; of an unsafe one `differences` say why.

    `not_told` is what hangs on facts that either host does not tell; `setups` are the software on both, on each kind of their cores.
    """

    outcome: Outcome
    by: str | None = None
    words: str | None = None
    differences: tuple[Deviation, ...] = ()
    not_told: tuple[NotTold, ...] = ()
    remarks: tuple[str, ...] = ()
    setups: tuple[Setup, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "outcome": self.outcome,
            "by": self.by,
            "words": self.words,
            "remarks": list(self.remarks),
            "differences": [found.as_dict() for found in self.differences],
            "not_told": [found.as_dict() for found in self.not_told],
        }


def move(cpu: str, a: Setup, b: Setup) -> Move:
    """Move a running guest with a -cpu from one host to another. Raises InputError as `vcpuid.resolve` does."""
    return replace(_moved(cpu, a, b), remarks=(*_remarks(a, b), *map(str, guesses(cpu, a.vmm.tables))))


def between(ask: Callable[[Setup, Setup], Move], a: HostClass, b: HostClass, stack: Stack | None) -> Move:
    """Ask about two hosts, from each kind of core of the one to each of the other, and return the worst that can come of it.

    Nobody says on which core QEMU makes the CPU. Raises InputError as `Setup.of` does.
    """
    settled_on = on_each([*a.cores, *b.cores], stack)
    ones, others = settled_on[: len(a.cores)], settled_on[len(a.cores) :]
    found = max((ask(one, other) for one in ones for other in others), key=lambda move: _BY_HARM.index(move.outcome))
    cut = [f"{name}: {CUT}" for name, kind in (("A", a), ("B", b)) if not kind.whole]
    outcome = "not told" if cut and found.outcome == "yes" else found.outcome
    return replace(found, outcome=outcome, remarks=(*found.remarks, *cut), setups=settled_on)


_BY_HARM: tuple[Outcome, ...] = ("yes", "not told", "unsafe", "refused")


def _remarks(a: Setup, b: Setup) -> tuple[str, ...]:
    """Return what is to be said of the software on the hosts, and of which of them where it is not said of both."""
    of_a, of_b = (dict.fromkeys(setup.remarks) for setup in (a, b))
    both = {**of_a, **of_b}
    of_one = {remark: "A" if remark in of_a else "B" for remark in both if remark not in of_a or remark not in of_b}
    return tuple(f"{of_one[remark]}: {remark}" if remark in of_one else remark for remark in both)


def _moved(cpu: str, a: Setup, b: Setup) -> Move:
    here, there = unadvised(cpu, a), unadvised(cpu, b)
    open_ = tuple(dict.fromkeys((*_untold(here, there), *_open(cpu, here, there))))
    for name, found in (("A's QEMU", here), ("B's QEMU", there)):
        if found.refusal is not None and START not in {one.what for one in found.not_told}:
            return Move("refused", name, found.refusal.partition("\n")[0])
    if here.path is None or there.path is None:
        return Move("not told", not_told=open_)
    if blocker := stays(here):
        return Move("refused", "A's QEMU", blocker)
    if refusal := _no_such_clock(here, a, b):
        return refusal
    one, other = _table(here), _table(there)
    if changes := (*differences(one, other), *_other_clock(here, a, b)):
        return Move("not told" if open_ else "unsafe", differences=changes, not_told=open_)
    open_ = (*open_, *_open_clock(a.host, b.host))
    return Move("not told", not_told=open_) if open_ else Move("yes")


def move_domain(domain: str, a: Setup, b: Setup, libvirt: Release) -> Move:
    """Move a domain of libvirt's, its XML, which looks at more than QEMU does, and at less than the guest.

    Both hosts have that release of libvirt. Raises InputError for what is no domain's XML, and as `vcpuid.resolve` does.
    """
    told = _remarks(a, b) if libvirt.remark is None else (*_remarks(a, b), libvirt.remark)

    def outcome(one: Setup, other: Setup) -> Migration:
        return migrate(domain, *(connect(setup, libvirt.tables, KvmHost(xcr0=kvm_says(setup).xcr0)) for setup in (one, other)))

    found = outcome(a, b)
    on_a = doubts(a, lambda setup: {_ON_A: outcome(setup, b).outcome})
    on_b = doubts(b, lambda setup: {_ON_B: outcome(a, setup).outcome})
    open_ = tuple(NotTold(what, facts) for what, facts in {**on_a, **on_b}.items())
    if open_:
        return Move("not told", not_told=open_, remarks=told)
    if found.refusal is not None:
        who = "B's libvirt" if found.step == "arrive" else "A's libvirt"
        return Move("refused", who, found.refusal.message.partition("\n")[0], remarks=told)
    started = connect(a, libvirt.tables, KvmHost(xcr0=kvm_says(a).xcr0)).planned({"do": "argv", "domain": domain})
    of_it = replace(a, machine=started.machine, smp=started.smp), replace(b, machine=found.machine or b.machine, smp=found.smp)
    one, other = (
        tried(cpu, setup, named()) for cpu, setup in zip((started.started, found.argument or started.started), of_it, strict=True)
    )
    if not isinstance(one, Path) or not isinstance(other, Path):
        return Move("not told", remarks=told)
    unlike_ = tuple(differences(*(seen(path.made.tables[0], path.made.msrs) for path in (one, other))))
    return Move("unsafe" if unlike_ else "yes", differences=unlike_, remarks=told)


_ON_A, _ON_B = "what becomes of it on A", "what becomes of it on B"


def _untold(*found: Verdict) -> tuple[NotTold, ...]:
    return tuple(dict.fromkeys(open_ for one in found for open_ in one.not_told))


def _open(cpu: str, *found: Verdict) -> Iterator[NotTold]:
    """Give what else of the guest's CPU either host does not tell: words of its table, and feature MSRs."""
    for one in found:
        if words := unsettled(cpu, one):
            yield NotTold(listed_words(words), untold(one.setup))


def _table(found: Verdict) -> Table:
    assert found.path is not None
    return seen(found.path.made.tables[0], found.path.made.msrs)


def _asked_rate(found: Verdict) -> int:
    """Return the rate that -cpu names, in kHz; 0 where it names none."""
    assert found.path is not None
    state = found.path.made.detail
    assert isinstance(state, CpuState)
    asked = state.props.get("tsc-frequency")
    return asked // 1000 if isinstance(asked, int) else 0


def _no_such_clock(here: Verdict, a: Setup, b: Setup) -> Move | None:
    """Refuse a guest whose -cpu names a TSC that a host neither has nor can make; None where that is not told, or no rate is named."""
    asked = _asked_rate(here)
    for who, host in (("A's QEMU", a.host), ("B's QEMU", b.host)):
        rate = clocks.rate(host)
        if asked and rate is not None and clocks.scales(host) is False and not clocks.alike(asked, rate):
            return Move("refused", who, messages.TSC_MISMATCH(asked=asked, host=rate))
    return None


def _other_clock(here: Verdict, a: Setup, b: Setup) -> Iterator[Deviation]:
    """Say that the TSC runs at another rate there, where KVM cannot scale it: QEMU takes the guest all the same."""
    one, other = clocks.rate(a.host), clocks.rate(b.host)
    if one is not None and other is not None and not _asked_rate(here) and clocks.scales(b.host) is False and not clocks.alike(one, other):
        yield Deviation(_CLOCK, (f"{one} kHz → {other} kHz, and no TSC scaling",), _HARM["frequencies"])


def _open_clock(here: Snapshot, there: Snapshot) -> Iterator[NotTold]:
    """Say that it is not told whether the TSC goes on as it did, or whether KVM there can make it."""
    same, scales = clocks.same(here, there), clocks.scales(there)
    if not (same or scales or (same is False and scales is False)):
        yield NotTold("whether the TSC runs at the same rate there, or KVM scales it", clocks.untold(here, there))


def differences(one: Table, other: Table) -> Iterator[Deviation]:
    """Say what is another CPU in the second guest's table and feature MSRs than in the first's."""
    found: dict[str, dict[str, None]] = {}
    for word, mask in unlike(one, other).items():
        kind, told = _told(word, mask, one, other)
        found.setdefault(kind, {}).update(dict.fromkeys(told))
    for kind, names in found.items():
        yield Deviation(kind, tuple(names), _HARM.get(kind, _OTHER_HARM))


def _told(word: Word, mask: int, one: Table, other: Table) -> tuple[str, list[str]]:
    """Say what a word tells in which two guests differ: its features by name, with - for those that are lost, or its two values."""
    values = [f"{word} {one.get(word, 0):#x} → {other.get(word, 0):#x}"]
    if word == _AMDS_SECOND and not mask & ~AMD_ALIASES:
        return "vendor", values  # on AMD it repeats leaf 1
    named = _features(word, mask & ~AMD_ALIASES if word == _AMDS_SECOND else mask, one)
    if isinstance(word, MsrWord):
        return "feature MSRs", named or values
    assert isinstance(word, CpuidWord)
    if named and not (word.function == _XSAVE and word.index == 0) and kind_of(word) not in ("vendor", "signature"):
        return "features", named
    return kind_of(word), values


def kind_of(word: CpuidWord) -> str:
    """Say what a register of a guest's table is about, but for features."""
    if word.register != "eax" and word.function in (0, 0x80000000):
        return "vendor"
    if word.register == "eax" and word.function in (1, 0x80000001):
        return "signature"
    return _KINDS.get(word.function, "other registers")


def _features(word: Word, mask: int, one: Table) -> list[str]:
    named = [(position, by_bit(Bit(word, position))) for position in positions(mask)]
    return [f"{'-' if one.get(word, 0) >> position & 1 else '+'}{feature.name}" for position, feature in named if feature is not None]


class Circle(NamedTuple):
    """Classes between all of which a guest moves freely: its CPU is the same on each."""

    groups: tuple[Group, ...]
    hosts: int


@dataclass(frozen=True)
class Circles:
    """Where a guest with a -cpu can go: the circles, the largest first, and the classes that do not start it, each with the words."""

    census: Census
    circles: tuple[Circle, ...]
    refused: tuple[tuple[Group, str], ...]
    not_told: tuple[tuple[Group, str], ...]
    remarks: tuple[str, ...] = ()
    setups: tuple[Setup, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            **self.census.as_dict(),
            "remarks": list(self.remarks),
            "circles": [
                {
                    "circle": number,
                    "hosts": circle.hosts,
                    "who": spoken(circle.groups),
                    "classes": [group.as_dict() for group in circle.groups],
                }
                for number, circle in enumerate(self.circles, 1)
            ],
            "refused": [{**group.as_dict(), "why": why} for group, why in self.refused],
            "not_told": [{**group.as_dict(), "why": why} for group, why in self.not_told],
        }


def circles(cpu: str, census: Census, stack: Stack | None = None) -> Circles:
    """Put classes together between which a guest moves freely in both directions; `stack` and errors as for a baseline."""
    found: dict[frozenset[tuple[Word, int]], list[Group]] = {}
    refused: list[tuple[Group, str]] = []
    open_: list[tuple[Group, str]] = []
    tables: dict[int, list[tuple[Group, Table]]] = {}
    setups = settled(census, stack)
    for proof in prove(cpu, census, setups):
        if proof.not_told or not proof.found.known:
            open_.append((proof.group, proof.why or ""))
        elif proof.table is None or proof.found.refused:
            refused.append((proof.group, proof.why or ""))
        elif blocker := proof.found.stays:
            refused.append((proof.group, blocker))
        elif not proof.told:
            open_.append((proof.group, proof.why or f"not told: {listed_words(proof.found.open)}"))
        else:
            tables.setdefault(proof.group.kind.id, []).append((proof.group, proof.table))
    told_of = {group.kind.id for group, _ in (*refused, *open_)}
    for id_, cores in tables.items():
        if id_ in told_of:
            continue  # on another kind of its cores
        if len({frozenset(table.items()) for _, table in cores}) > 1:
            open_.append((cores[0][0]._replace(core=None), OF_SEVERAL_KINDS))
        else:
            found.setdefault(frozenset(cores[0][1].items()), []).append(cores[0][0]._replace(core=None))
    made: list[Circle] = []
    for alike in found.values():
        parts, unclear = clocks.parted([group.facts for group in alike])
        parted = [tuple(alike[place] for place in part) for part in parts]
        made += [Circle(groups, hosts_of(groups)) for groups in parted]
        open_ += [(alike[place], _NO_CLOCK) for place in unclear]
    by_size = tuple(sorted(made, key=lambda circle: -circle.hosts))
    said = (*remarks(census, setups), *map(str, guesses(cpu, eldest(setups).vmm.tables)))
    return Circles(census, by_size, tuple(refused), tuple(open_), said, setups)


_NO_CLOCK = f"not told: {clocks.NOT_TOLD}"
OF_SEVERAL_KINDS = "not told: its cores are of several kinds, and the guest's CPU depends on which of them QEMU starts"
