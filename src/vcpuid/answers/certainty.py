"""Which bits of a path are not told: those that would be otherwise if the host told more, and what that is."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from functools import lru_cache
from typing import NoReturn, TypeVar

from vcpuid.cpuid import Bit, CpuidWord, Snapshot, Word
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.decode.parties import HYPERVISOR_LEAVES
from vcpuid.errors import KvmError, NotToldError, RefusedError
from vcpuid.path.pipeline import Path, paths, resolve, tried, warned
from vcpuid.path.possible import unnamed_table
from vcpuid.path.probing import Probe
from vcpuid.reasons import Basis, Step, read_bit
from vcpuid.setup import Setup, Stack, joined
from vcpuid.told.assumptions import Assumption, alternatives, changing
from vcpuid.told.completions import nameless, tells
from vcpuid.told.doubt import weighed
from vcpuid.told.facts import Fact, listed, remedy
from vcpuid.vmm import Vmm
from vcpuid.vmm.known import named

K = TypeVar("K", bound=Hashable)
_ALL = -1
"""All bits of a word, however long that is."""


def depends(path: Path, position: int, bits: Iterable[Bit]) -> tuple[Fact, ...]:
    """Return the facts on which a feature depends after the step at this position, which looks at the first of `bits` that it has.

    There are none where the answer is the same whatever the host does not tell.
    """
    step, places = path.trace.steps[position], tuple(bits)
    if position == 0:
        return () if step.basis is Basis.NOT_TOLD else tuple(Fact(*bit) for bit in places if not tells(path.host, bit.word, bit.mask))
    if _settled(step):
        return ()
    recorded = step.party == path.vmm.name and path.made.observed
    if blind := (() if recorded else nameless(path.host)) or _lacking(path, position, [bit.word for bit in places]):
        return blind
    return path.beside.changing(position, places)


def _lacking(path: Path, position: int, words: Iterable[Word]) -> tuple[Fact, ...]:
    """Name leaves 0 and 1 where the table lacks them, and with them what is looked at.

    A table's own leaf is told without them; but a guest asks for no leaf past the last one, which leaf 0 tells, or the first of the
    extended ones, and for none of a hypervisor's before the first of them, which tells whose they are.
    """
    lacking, party = unnamed_table(path.vmm), path.trace.steps[position].party
    if not lacking or party not in (path.vmm.name, "vcpu", "guest"):
        return ()
    reached = party != "guest" or all(path.tables[0].get(first) is not None for word in words for first in _asked_before(word))
    return () if reached and all(_in_table(path, word) for word in words) else lacking


def _asked_before(word: Word) -> tuple[int, ...]:
    """Return the leaves that a guest asks for before it asks for a word's."""
    if not isinstance(word, CpuidWord) or word.function < HYPERVISOR_LEAVES.start:
        return (0,)
    return 0, word.function & (~0xFF if word.function in HYPERVISOR_LEAVES else ~0xFFFF)


def _in_table(path: Path, word: Word) -> bool:
    return isinstance(word, CpuidWord) and path.tables[0].get(word.function, word.index) is not None


def hanging(cpu: str, setup: Setup, vmm: Vmm, answer: Callable[[Path | None], Mapping[K, object] | None]) -> dict[K, tuple[Fact, ...]]:
    """Return those answers about a CPU's path that are not told, each with the facts on which it depends.

    `answer` gives all answers of a path, by what they are about. It is asked of None where the VMM or KVM refuses the CPU, and may answer
    None to that: then there is nothing to say.
    """
    blind, made = nameless(setup.host), paths(cpu, setup, vmm)
    if not blind and not made:
        return {}
    base = answer(_resolved(cpu, setup, vmm)) or {}
    return dict.fromkeys(base, blind) if blind else weighed(base, made.map(answer))


def starting(cpu: str, setup: Setup, vmm: Vmm) -> tuple[Fact, ...]:
    """Return the facts on which it depends whether the VMM and KVM take a CPU at all; none where that is certain."""
    return hanging(cpu, setup, vmm, lambda path: {None: path is None}).get(None, ())


def followed(
    cpu: str,
    *,
    host: Snapshot | Setup,
    stack: Stack | None = None,
    probe: Probe | None = None,
    vmm: Vmm | None = None,
) -> Path:
    """Follow a guest CPU as `resolve` does, but take no refusal for certain that hangs on what the host does not tell.

    Raises NotToldError for such a one, and else what `resolve` raises, a refusal with those warnings alone that are certain.
    """
    vmm = vmm or named()
    setup = joined(host, stack, vmm.release)
    try:
        return resolve(cpu, host=setup, probe=probe, vmm=vmm)
    except (RefusedError, KvmError) as error:
        refuse(error, cpu, setup, vmm)


def refuse(error: RefusedError | KvmError, cpu: str, setup: Setup, vmm: Vmm) -> NoReturn:
    """Raise a refusal with the warnings that are certain; where it hangs on what is not told, a NotToldError."""
    if facts := starting(cpu, setup, vmm):
        lines = f"whether {vmm.spoken} starts is not told: it depends on {listed(facts)}; {remedy(facts)}"
        raise NotToldError(f"{lines} (where nothing of that is there, it says: {error})") from error
    if isinstance(error, RefusedError):
        error.warnings = warned(cpu, setup, vmm).certain
    raise error


def _resolved(cpu: str, setup: Setup, vmm: Vmm) -> Path | None:
    outcome = tried(cpu, setup, vmm)
    return outcome if isinstance(outcome, Path) else None


def _settled(step: Step) -> bool:
    """Whether a real vCPU was asked, which leaves nothing open."""
    return step.basis is Basis.OBSERVED and step.party in ("vcpu", "guest")


@lru_cache(maxsize=4)
def settings(cpu: str, setup: Setup, vmm: Vmm) -> tuple[tuple[Assumption, Path | None], ...]:
    """Resolve a CPU with each setting otherwise that nobody gave; None where the VMM or KVM refuses it then."""
    return tuple((assumption, _resolved(cpu, other, vmm)) for assumption, other in alternatives(setup))


def rests(path: Path, answer: Callable[[Path], Mapping[K, object]], but: Container[K] = ()) -> dict[Assumption, tuple[K, ...]]:
    """Return the assumptions on which answers about a path's guest rest, each with what these are about.

    `answer` gives all answers of a path; those about what is in `but` are not told. A setting with which QEMU or KVM would refuse the CPU
    says nothing of them.
    """
    if _settled(path.trace.steps[-1]):
        return {}
    given = settings(path.cpu, path.setup, path.vmm)
    return changing(answer(path), ((taken, None if other is None else answer(other)) for taken, other in given), but)


def open_bits(path: Path, words: Iterable[Word]) -> Mapping[Word, int]:
    """Return those bits of words of CPUID or of feature MSRs of which it is not told whether the guest sees them, as masks.

    A bit that is off, and that the VMM asked for may know though its tables do not (`Made.open`), is one of them.
    """
    guest, places = path.trace.steps[-1], tuple(words)
    if _settled(guest):
        return FrozenMap()
    if nameless(path.host):
        return FrozenMap((word, _ALL) for word in places)
    last = len(path.trace.steps) - 1
    found: dict[Word, int] = {word: _ALL for word in places if _lacking(path, last, (word,))}
    for word in places:
        found[word] = found.get(word, 0) | path.beside.open(last, word)
    for bit in path.made.open:
        if bit.word in found and not read_bit(guest.after, bit):
            found[bit.word] |= bit.mask
    return FrozenMap((word, mask) for word, mask in found.items() if mask)
