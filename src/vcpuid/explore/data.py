"""What the page shows, as one document: the dictionaries of answers, and what they are about. Nothing is worked out here.

The document is `{"schema": SCHEMA, "names": …, "subjects": [subject, …]}`; a subject is its `path` and those of its `PARTS` that were
asked for. In the file and over the wire it is packed (`vcpuid.explore.pack`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from operator import or_

from vcpuid import decode, hazards, qemu
from vcpuid.answers.explanation import Explanation
from vcpuid.answers.ordered import explained
from vcpuid.answers.survey import turned_on_later
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, LinuxWord, Word
from vcpuid.cpuid.feature_table import key_of
from vcpuid.cpuid.feature_words import describe, word_names
from vcpuid.cpuid.names import COLLECTIVE, Feature, all_features, find, meant, short_place, spellings
from vcpuid.cpuid.parts import TABLES, pick
from vcpuid.cpuid.words import positions
from vcpuid.decode import report as decoding
from vcpuid.decode.drawing import WIDTH
from vcpuid.explore.subject import Subject
from vcpuid.explore.words import rows
from vcpuid.hazards import report as checking
from vcpuid.kvm.answers import kvm_says
from vcpuid.path.pipeline import Path, guest_view
from vcpuid.path.probing import GUEST
from vcpuid.qemu.models import assumes, report

SCHEMA = "vcpuid/explore/1"
"""The form of the document."""


def document(subjects: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Put subjects, as `whole` or `first` give them, into a document with the features' names."""
    return {"schema": SCHEMA, "names": names(), "subjects": [*subjects]}


def whole(subject: Subject) -> dict[str, object]:
    """Give all that there is to say of a subject. Raises what its parts raise."""
    return {**first(subject), **{name: part(subject) for name, part in PARTS.items()}}


def first(subject: Subject) -> dict[str, object]:
    """Give what is shown first of a subject: its path, word by word and feature by feature."""
    return {"path": _path(subject)}


def _path(subject: Subject) -> dict[str, object]:
    path, order = subject.path, subject.order
    found = {place: explained(feature, path, order) for place, feature in _features(path)}
    words = dict.fromkeys(place.word for place in found)
    unnamed = {word: tuple(rows(path, word, _unnamed(word, found))) for word in words}
    for word, after in unnamed.items():
        for position in positions(reduce(or_, (row.value or 0 for row in after))):
            bit = Bit(word, position)
            found[bit] = explained(Feature(bit), path, order)
    parties = next(iter(found.values())).parties
    return {
        "host": subject.host,
        "headline": path.headline(),
        "options": list(subject.options),
        "libvirt": None if order is None else [*order.head()],
        **path.as_dict(),
        "parties": [{"party": stage.party, "spoken": stage.spoken, "title": stage.title} for stage in parties],
        "words": [{**_word(word), "unnamed": [row.as_dict() for row in after]} for word, after in unnamed.items()],
        "features": [_fate(told, place) for place, told in found.items()],
    }


def _fate(told: Explanation, place: Bit) -> dict[str, object]:
    """Give what `explain` answers of a feature, with its place in the grid instead of the bit's whole name, which says the same."""
    answer = {key: value for key, value in told.fate().items() if key != "bit"}
    return {"id": identity(told.feature), "word": str(place.word), "position": place.position, **change(told), **answer}


def _features(path: Path) -> Iterator[tuple[Bit, Feature]]:
    """Give the features of hardware, and of Linux's own words those that the path's kernel has, each with its place."""
    kernel = path.setup.kernel.tables
    for feature in all_features():
        linux = feature.in_linux(kernel)
        place = feature.bit or (None if linux is None else linux.place)
        if place is not None:
            yield place, feature


def _unnamed(word: Word, found: Mapping[Bit, object]) -> int:
    """Return the bits of a word that have no name, as a mask; what Linux has beside in a word of its own has no bits of its own."""
    if isinstance(word, LinuxWord):
        return 0
    return sum(1 << position for position in range(word.width) if Bit(word, position) not in found)


def _word(word: Word) -> dict[str, object]:
    short = short_place(Bit(word, 0)).rpartition(".")[0]
    logged = [f"CPUID.{word.function:02X}H:{word.register.upper()}"] if isinstance(word, CpuidWord) else []
    names = list(dict.fromkeys((str(word), short, *logged, *word_names(word))))
    return {"word": str(word), "spellings": names, "about": describe(word), "width": word.width}


LOST, GAINED, RETURNED, NOT_TOLD = "lost", "gained", "put back", "not told"
"""What can have become of a feature on the way: a party took it away, one put it there that the first who tells of it has not, one put it
back; or nobody can tell."""


def change(told: Explanation) -> dict[str, object]:
    """Say what became of a feature on the way, and which party's doing it is.

    Both are None where no party changed it, or where only a guest that has not run yet lacks it.
    """
    if told.depends or not told.known:
        return {"change": NOT_TOLD, "by": None}
    turn = told.turn
    began = next((stage.value for stage in told.stages if stage.value is not None), None)
    if turn is None or (began and turned_on_later(told.feature, told.path.trace.steps[-1].after)):
        return {"change": None, "by": None}
    return {"change": LOST if not told.stages[-1].value else RETURNED if began else GAINED, "by": turn.party}


def identity(feature: Feature) -> str:
    """Name a feature by what every path calls the same, and verbs take: its place in hardware, else Linux's symbol.

    A symbol that came to mean a bit of hardware has behind it the newest kernel in which it meant this one, of which verbs know no name.
    """
    if feature.bit is not None:
        return short_place(feature.bit)
    symbol = feature.linux_names[0]
    return symbol.symbol if find(symbol.symbol) == feature else f"{symbol.symbol}@{symbol.kernels[-1]}"


def names() -> dict[str, object]:
    """Give what features are called: of each its names, and of each spelling that several share whom it means, the likeliest first.

    `ask` is the name by which verbs are asked for it. Places are no spellings here: words have them.
    """
    called: dict[str, list[str]] = {}
    cards = []
    for feature in all_features():
        *spelled, _, _ = spellings(feature)  # its place comes last, and stands with its word
        own = feature.name if find(feature.name) == feature else identity(feature).partition("@")[0]
        cards.append({"id": identity(feature), "name": feature.name, "ask": own, "about": feature.description, "spellings": spelled})
        for key in dict.fromkeys(map(key_of, spelled)):
            called.setdefault(key, []).append(identity(feature))
    shared = {key: [identity(feature) for feature in meant(key)] for key, ids in called.items() if len(ids) > 1}
    collective = {key_of(text): [identity(find(name)) for name in several] for text, several in COLLECTIVE.items() if text not in called}
    return {"features": cards, "shared": {**shared, **collective}}


def _hazards(subject: Subject) -> dict[str, object]:
    path, order = subject.path, subject.order
    if subject.shown is not None:
        return checking.report(hazards.of_recording(subject.shown, path))
    answer = verdict(path.cpu, path.setup, by_libvirt=order is not None) if path.vmm.name == "qemu" else None
    return checking.report(hazards.of_path(path), answer, order=order)


def _models(subject: Subject) -> dict[str, object] | None:
    setup = subject.path.setup
    if subject.path.vmm.name != "qemu":
        return None
    xcr0 = kvm_says(setup).xcr0
    found = qemu.models(setup, xcr0=xcr0)
    return report(found, setup, assumes(found, setup, xcr0))


def _leaves(subject: Subject) -> dict[str, object]:
    part, table = pick(subject.path.host, None)
    return {"host": _decoded(part, TABLES[part], table), "guest": _decoded("raw", GUEST, guest_view(subject.path))}


def _decoded(part: str, what: str, table: CpuidTable) -> dict[str, object]:
    cpus = decode.Cpus([table])
    drawn = {"head": decoding.head(table), "foot": decoding.foot(table, cpus, WIDTH)}
    return {"what": what, **drawn, **decoding.decoded(part, table, cpus)}


PARTS: dict[str, Callable[[Subject], dict[str, object] | None]] = {"hazards": _hazards, "models": _models, "leaves": _leaves}
"""What else there is to say of a subject, by name; None where the VMM has nothing of the kind."""
