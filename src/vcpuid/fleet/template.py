"""The custom CPU template with which Firecracker gives every member of a fleet the same table.

What KVM answers on each member is met field by field (`policies`), of the rest the largest class's value is taken, and hypervisors in the
guest go. Then Firecracker's own part is worked on each member: where tables still differ, the features without which they would not go
too, until nothing more does. What differs then, a template cannot settle: leaves that Firecracker copies from the host behind it, and
leaves that not all members have, which a template must not name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vcpuid.cpuid import CpuidTable, CpuidWord, MsrWord, Word, bits, xfeatures
from vcpuid.cpuid.words import REGISTERS, positions, range_of
from vcpuid.errors import FirecrackerError
from vcpuid.fleet.outcome import Table, seen
from vcpuid.fleet.policies import meet, met_msr
from vcpuid.fleet.proof import carriers, differing
from vcpuid.formats.firecracker_template import Bitmap, CpuidModifier, Template
from vcpuid.kvm.answers import kvm_says
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.releases import QEMUS, Release
from vcpuid.setup import Setup
from vcpuid.vmm import Made
from vcpuid.vmm.firecracker import Firecracker

_NAME = "the fleet's"
_ALL, _ALL_64 = (1 << 32) - 1, (1 << 64) - 1
_FEATURES = 0x7
_ARCH_CAPABILITIES = 0x10A
_ROUNDS = 64
"""A round drops a feature at least."""

_SIZES = (CpuidWord(0xD, 0, "ebx"), CpuidWord(0xD, 0, "ecx"))
"""How large an XSAVE area is with all components of the guest: both, before KVM puts what the guest has switched on into EBX."""


@dataclass(frozen=True)
class Fitted:
    """A template, what it makes of each class (the words with which Firecracker refuses where it does), and the words that differ."""

    template: Template
    tables: tuple[Table | str, ...]
    differs: Mapping[Word, int]


def fitted(setups: Sequence[Setup], release: Release) -> Fitted:
    """Fit a template of Firecracker's for hosts, the most important first."""
    own = [replace(setup, vmm=release, smp="1") for setup in setups]
    bare = [_made(Template(), setup) for setup in own]
    tables = [made.tables[0] for made in bare if isinstance(made, Made)]
    if len(tables) < len(own):
        return Fitted(Template(), tuple(made if isinstance(made, str) else shown(made) for made in bare), {})
    shared = set.intersection(*({entry[:2] for entry in kvm_says(setup).supported} for setup in own))
    modifiers = _Modifiers(tables, shared)
    known = catalog(QEMUS[-1])
    made: list[Made | str] = []
    for _ in range(_ROUNDS):
        template = modifiers.template(_msrs(own))
        made = [_made(template, setup) for setup in own]
        alike = [shown(one) for one in made if isinstance(one, Made)]
        unequal = differing([(table, ()) for table in alike])
        if len(alike) < len(made) or not modifiers.drop(carriers(unequal, known), known):
            break
    return Fitted(template, tuple(one if isinstance(one, str) else shown(one) for one in made), unequal)


def _made(template: Template, setup: Setup) -> Made | str:
    try:
        return Firecracker(custom=template).make(_NAME, setup, kvm_says(setup))
    except FirecrackerError as error:
        return error.message


def shown(made: Made) -> Table:
    """Return what a guest finds: not the entries that lie behind the highest leaf of which it is told, or the highest sub-leaf of 7."""
    table = made.tables[0]
    last = table.registers(_FEATURES).eax
    told = CpuidTable(
        entry
        for entry in table
        if entry.function <= table.registers(range_of(entry.function)).eax and (entry.function != _FEATURES or entry.index <= last)
    )
    return seen(told, {word: value for word, value in made.msrs.items() if isinstance(word, MsrWord)})


def _msrs(setups: Iterable[Setup]) -> tuple[tuple[int, Bitmap], ...]:
    """Set IA32_ARCH_CAPABILITIES to what holds for all; nothing where a member does not tell it, or all have the same."""
    values = [kvm_says(setup).msrs.get(_ARCH_CAPABILITIES) for setup in setups]
    told = [value for value in values if value is not None]
    if len(told) < len(values) or len(set(told)) == 1:
        return ()
    return ((_ARCH_CAPABILITIES, Bitmap(_ALL_64, met_msr(_ARCH_CAPABILITIES, told))),)


class _Modifiers:
    """The registers of a template, as they are found."""

    def __init__(self, tables: Sequence[CpuidTable], places: set[tuple[int, int]]) -> None:
        self._places = places
        self._flags = {entry[:2]: entry.flags for entry in tables[0]}
        words = [table.words() for table in tables]
        met = meet(tables)
        first = words[0]
        self._bits: dict[CpuidWord, Bitmap] = {}
        self._whole = {word: first[word] & ~one.mask | one.value for word, one in met.items() if (word.function, word.index) in places}
        for word, value in self._whole.items():
            if any(one[word] != value for one in words):
                self._bits[word] = Bitmap(_ALL, value)
        for feature in (bits.VMX, bits.SVM):
            self._clear(feature.word, 1 << feature.position)

    def _clear(self, word: Word, mask: int) -> bool:
        """Take bits out of the guest's CPU; False where there is nothing to take."""
        if not isinstance(word, CpuidWord) or not self._whole.get(word, 0) & mask:
            return False
        self._whole[word] &= ~mask
        old = self._bits.get(word, Bitmap(0, 0))
        self._bits[word] = Bitmap(old.filter | mask, old.value & ~mask)
        return True

    def drop(self, names: Iterable[str], known: Catalog) -> bool:
        """Drop features by QEMU's names, with the state that they alone have, and with those that need them; False where none is left."""
        dropped = False
        for name in list(dict.fromkeys(names)):
            if name in known.flags:
                flag = known.flags[name]
                dropped |= self._clear(known.by_name[flag.word].word, flag.mask)
        if dropped:
            self._settle(known)
        return dropped

    def _settle(self, known: Catalog) -> None:
        """Take away what depends on what is gone: features, then components of XSAVE's state that no feature uses."""
        changed = True
        while changed:
            changed = False
            for row in known.dependencies:
                if not self._has(known, row.word, row.mask):
                    changed |= self._clear(known.by_name[row.needs].word, row.needs_mask)
        used: dict[int, bool] = {}
        for area in known.components:
            used[area.number] = used.get(area.number, False) or self._has(known, area.word, area.mask)
        for number, needed in used.items():
            if not needed and not xfeatures.LEGACY >> number & 1:
                for place, low, high in ((0, "eax", "edx"), (1, "ecx", "edx")):
                    self._clear(CpuidWord(0xD, place, high if number >= 32 else low), 1 << number % 32)  # type: ignore[arg-type]

    def _has(self, known: Catalog, name: str, mask: int) -> bool:
        word = known.by_name[name].word
        return not isinstance(word, CpuidWord) or word not in self._whole or bool(self._whole[word] & mask)

    def template(self, msrs: tuple[tuple[int, Bitmap], ...]) -> Template:
        """Return the template as it stands."""
        found = dict(self._bits)
        size = self._size()
        for word in _SIZES:
            if self._whole.get(word, size) != size or word in found:
                found[word] = Bitmap(_ALL, size)
        registers: dict[tuple[int, int], list[tuple[str, Bitmap]]] = {}
        for word in sorted(found, key=lambda word: (word.function, word.index, REGISTERS.index(word.register))):
            registers.setdefault((word.function, word.index), []).append((word.register, found[word]))
        rows = (CpuidModifier(*place, self._flags[place], tuple(rows)) for place, rows in registers.items())  # type: ignore[arg-type]
        return Template(tuple(rows), msrs)

    def _size(self) -> int:
        """Count the bytes of an XSAVE area with all components that the guest may use."""
        usable = self._whole.get(CpuidWord(0xD, 0, "eax"), 0) | self._whole.get(CpuidWord(0xD, 0, "edx"), 0) << 32
        ends = (
            self._whole.get(CpuidWord(0xD, number, "eax"), 0) + self._whole.get(CpuidWord(0xD, number, "ebx"), 0)
            for number in positions(usable)
            if number > 1
        )
        return max((xfeatures.LEGACY_AREA, *ends))
