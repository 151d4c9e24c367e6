"""From what stands in a message to features: a function for each vocabulary, by the name that a row of the table has for it.

A message's groups have fixed names. `bit` is a label of QEMU's; `features`, `feature` are names that are missing, `extra` names that are
too many; `msr` and `value`, `leaf`, `subleaf`, `register`, `have`, `want`, `component`, `level` are numbers of these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from vcpuid.cpuid import Bit, CpuidWord
from vcpuid.cpuid.feature_table import key_of
from vcpuid.cpuid.names import COLLECTIVE, Feature, by_bit, by_word, find, meant, near, parse_place
from vcpuid.cpuid.words import REGISTERS, positions
from vcpuid.diagnosis import msrs
from vcpuid.numbers import decimal, hexadecimal

MISSING, EXTRA, POSSIBLE = "missing", "extra", "possible"
"""What a message says of a feature: that it is missing, that it is one too many, that it may be one of those that are missing."""


@dataclass(frozen=True)
class Named:
    """A feature as a message names it: `text` is its spelling there, `feature` None where nobody knows it, `near` names like it then.

    `remark` says what about the spelling makes no sense, None where nothing does.
    """

    text: str
    feature: Feature | None
    state: str = MISSING
    near: tuple[str, ...] = ()
    remark: str | None = None

    @property
    def name(self) -> str:
        """The feature's name, or the text where it is unknown."""
        return self.text if self.feature is None else self.feature.name


Groups = dict[str, str]
_SEPARATORS = re.compile(r"[\s,;:\[\](){}'\"|]+")
_HEADING = re.compile(r"^[^:\n]{0,200}(?:features|flags)[\"']?[ \t]*:", re.IGNORECASE)
_AROUND = re.compile(
    r"^(?:cpuid\.|(?:cpu-feature|host-model-required-features)\.node\.kubevirt\.io/"
    r"|x86_cpuid_(?:amd_|ext_)?(?:feature_|stext_feature_)?e[abcd]x_)",
    re.IGNORECASE,
)
_MODEL = re.compile(
    r"^(?:model_|(?:cpu-model|cpu-model-migration|host-model-cpu)\.node\.kubevirt\.io/)(?P<model>[\w.-]{1,80})$", re.IGNORECASE
)
"""A CPU model among features, as oVirt and KubeVirt list them: libvirt must call it usable on the host."""
_SET = re.compile(r"(?:\"?[:=][ \t]?\"?true)\"?(?![\w.-])", re.IGNORECASE)
"""What stands behind a label that is set, in JSON, YAML or a table."""
_LABEL = re.compile(r"[\w-]{1,40}\.node\.kubevirt\.io/[\w.-]{1,80}", re.IGNORECASE)
_XCR0 = CpuidWord(0xD, 0, "eax")
_COMPONENTS = {
    2: ("avx",), 3: ("mpx",), 4: ("mpx",), 5: ("avx512f",), 6: ("avx512f",), 7: ("avx512f",), 8: ("intel-pt",), 9: ("pku",),
    10: ("enqcmd",), 11: ("cet-ss", "cet-ibt"), 12: ("cet-ss", "cet-ibt"), 14: ("uintr",), 15: ("arch-lbr",), 17: ("amx-tile",),
    18: ("amx-tile",), 19: ("apxf",),
}  # fmt: skip
"""Of which features a component of XSAVE holds the state (Intel SDM vol. 1, 13.1)."""


def named(text: str, state: str = MISSING) -> Iterator[Named]:
    """Find what one word names: a feature in any spelling, several that have one name, those that promise an MSR, or a model."""
    word = text.strip("+-.")
    if (model := _MODEL.match(word)) is not None:
        says = f"the CPU model {model['model']}, which libvirt must call usable on the host: vcpuid check {model['model']} HOST tells"
        yield Named(text, None, state, remark=f"{text}: {says}")
        return
    bare = _AROUND.sub("", word)
    if key_of(bare) in COLLECTIVE:
        yield from (Named(text, find(one), state) for one in COLLECTIVE[key_of(bare)])
    elif found := meant(bare):
        yield Named(text, found[0], state)
    elif promise := msrs.promised_by_name(bare):
        yield from (Named(text, feature, POSSIBLE) for feature in promise)
    else:
        yield Named(text, None, state)


_NAMES_ALONE = 1 << 16
"""Characters of a text of names alone."""

_ASKED = 50
"""Unknown names for which ones like them are looked for: it costs a millisecond each."""


def asked(found: Iterable[Named]) -> Iterator[Named]:
    """Add to names that nobody knows those that look like them: to ask whether one is meant. Of very many, the first ones."""
    count = 0
    for one in found:
        if one.feature is None and one.remark is None and count < _ASKED:
            count += 1
            yield replace(one, near=near(_AROUND.sub("", one.text.strip("+-."))))
        else:
            yield one


_LABELS = re.compile(
    r"(?P<bit>(?:CPUID\.[0-9a-f]{2,8}h:e[abcd]x|CPUID\[eax=[0-9a-f]{1,8}h(?:,ecx=[0-9a-f]{1,8}h)?\]\.e[abcd]x|MSR\([0-9a-f]{1,8}h\))"
    r"(?:\.(?P<feature>[\w.-]{1,80}))?(?:[ \t]{0,9}\[bit [0-9]{1,9}\])?)",
    re.IGNORECASE,
)
"""QEMU's names of features, which have blanks and brackets in them."""


def listed(text: str, state: str = MISSING) -> Iterator[Named]:
    """Find what a list names, whatever stands between its words."""
    at = 0
    for found in _LABELS.finditer(text):
        yield from _words(text[at : found.start()], state)
        yield from _label({name: value for name, value in found.groupdict().items() if value is not None})
        at = found.end()
    yield from _words(text[at:], state)


def _words(text: str, state: str) -> Iterator[Named]:
    for word in _SEPARATORS.split(_SET.sub(" ", text)):
        if word != "and" and word.strip("+-."):
            yield from named(word, state)


def _names(groups: Groups) -> Iterator[Named]:
    for group, state in (("features", MISSING), ("feature", MISSING), ("flags", MISSING), ("extra", EXTRA)):
        if groups.get(group):
            yield from listed(groups[group], state)


def _label(groups: Groups) -> Iterator[Named]:
    label, name = groups["bit"], groups.get("feature")
    place = parse_place(label)
    if name is not None and (called := meant(name)) and not any(_at(feature, place) for feature in called):
        there = "there is no such bit" if place is None else f"that bit is {(by_bit(place) or Feature(place)).name}"
        yield Named(
            label, called[0], remark=f"{label} contradicts itself: {name} is {called[0].place}, and {there}. It is taken by its name."
        )
    elif place is None:
        yield Named(label, None, remark=f"{label}: there is no such bit.")
    elif place.word == _XCR0 and place.position in _COMPONENTS:
        yield from _component({"component": str(place.position)})
    else:
        yield Named(label, by_bit(place) or Feature(place))


def _at(feature: Feature, place: Bit | None) -> bool:
    """Whether a feature stands at a place; QEMU before 10.1 leaves out which sub-leaf of the leaf it is."""
    own = feature.place
    if place is None or own.position != place.position:
        return False
    if isinstance(own.word, CpuidWord) and isinstance(place.word, CpuidWord):
        return (own.word.function, own.word.register) == (place.word.function, place.word.register)
    return own.word == place.word


def _msr(groups: Groups) -> Iterator[Named]:
    number = next((hexadecimal(groups[name]) for name in ("msr", "msr2", "read", "write") if groups.get(name)), None)
    if number is not None:
        yield from (Named(f"MSR 0x{number:x}", feature) for feature in msrs.promised(number))


def _component(groups: Groups) -> Iterator[Named]:
    text = groups.get("component") or groups.get("supervisor")
    number = decimal(text, 63) if text else None
    if number is not None:
        yield from (Named(f"XSAVE component {number}", find(feature)) for feature in _COMPONENTS.get(number, ()))


def _level(groups: Groups) -> Iterator[Named]:
    from vcpuid.data import load

    levels = load("psabi")["levels"]
    for text in re.findall(r"v[234]", (groups.get("level") or groups.get("missing") or "").lower()):
        yield from (Named(f"x86-64-{text}: {name}", find(place), POSSIBLE) for name, place in levels[f"x86-64-{text}"].items())


def _register(groups: Groups) -> Iterator[Named]:
    """Whole registers: those bits of the first value that the second lacks; without values, all that the register has a name for."""
    if not groups.get("register") or not groups.get("leaf"):
        return
    register = next(name for name in REGISTERS if name == groups["register"].lower())
    leaf, index = hexadecimal(groups["leaf"]), hexadecimal(groups.get("subleaf") or "0")
    if leaf is None or index is None:
        return
    word = CpuidWord(leaf, index, register)
    have, want = (hexadecimal(groups.get(name) or "x") for name in ("have", "want"))
    if have is not None and want is not None:
        for position in positions(have & ~want):
            yield Named(str(Bit(word, position)), by_bit(Bit(word, position)) or Feature(Bit(word, position)))
    else:
        yield from (Named(str(word), feature, POSSIBLE) for feature in by_word(word))


def _enlightenment(groups: Groups) -> Iterator[Named]:
    for group in ("feature", "needs"):
        said = groups.get(group, "").lower()
        text = re.search(r"\((hv-[\w-]+)\)", said)
        word = text[1] if text else said
        if word:
            yield Named(word if word.startswith("hv-") else f"hv-{word}", None)


def _property(groups: Groups) -> Iterator[Named]:
    for group in ("property", "plus"):
        if groups.get(group):
            yield from named(groups[group])


def _selectors(groups: Groups) -> Iterator[Named]:
    """Labels that a node must have: of which it lacks one, nobody says where they are a pod's."""
    for group, state in (("labels", MISSING), ("demanded", POSSIBLE)):
        for label in _LABEL.findall(groups.get(group, "")):
            if _AROUND.match(label) or _MODEL.match(label):
                yield from named(label, state)


def _unnamed(groups: Groups) -> Iterator[Named]:
    """A message that names no feature."""
    return iter(())


VOCABULARIES: dict[str, Callable[[Groups], Iterator[Named]]] = {
    "names": _names,
    "label": _label,
    "msr": _msr,
    "component": _component,
    "level": _level,
    "register": _register,
    "enlightenment": _enlightenment,
    "property": _property,
    "selectors": _selectors,
    "": _unnamed,
    "model": _unnamed,
    "code": _unnamed,
}
"""By what a row of the table says of its groups."""


def unknown(one: Named) -> str | None:
    """Say that nobody knows a name, and which ones look like it; None for what is known, and for enlightenments, which are no features."""
    if one.feature is not None or one.text.startswith("hv-"):
        return None
    return one.remark or (
        f"{one.text}: no feature of that name is known" + (f"; did you mean {' or '.join(one.near)}?" if one.near else "")
    )


def features_in(text: str) -> tuple[Named, ...]:
    """Find what a text of names alone says: one in any spelling, or a list; none where it is no such text, or is above 64 KiB.

    Of a list every word is a feature; with commas between single words some are enough, and the others are names that nobody knows.
    """
    if len(text) > _NAMES_ALONE:
        return ()
    if found := meant(text):
        return (Named(text.strip(), found[0]),)
    bare = _HEADING.sub("", text)
    commas = "," in bare and all(len(part.split()) < 2 for part in bare.split(","))
    words: list[Named] = []
    for one in listed(bare):
        if one.feature is None and one.remark is None and not commas:
            return ()
        words.append(one)
    return tuple(words) if any(one.feature is not None for one in words) else ()
