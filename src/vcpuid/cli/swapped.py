"""Words in each other's place: a host where a CPU or a feature stands, a CPU where a host does, a property apart from its CPU.

Which was meant where is told by what the words are, and said with the whole call. Nothing is asked of QEMU's tables as long as no word is
odd in its place: a file that is not there, one in the place of a CPU or a feature, a word too many. A call is said only where it is taken
when it is typed so, and has all that was typed; where something is missing in it, that is said instead.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click

from vcpuid.cli.examples import lacking
from vcpuid.cli.safe import message
from vcpuid.errors import InputError

DOMAIN_ENDS = (".xml", ".xml.gz")
"""How the name of a domain's file ends, which may stand wherever a CPU does."""

CPU, HOST, FEATURE, SETTING = "a CPU", "a host", "a feature", "a property of a CPU"
"""What a word can be."""

_TABLE, _OTHER_HOST = _STAY = ("table_source", "to_host")
"""Options whose host stays where it is; a table does not where there is a CPU."""
_PLACES = {
    **dict.fromkeys(("cpu", "named_cpu"), CPU),
    **dict.fromkeys(("source", "host_source", "guest_source", "placed_host", "table", "a", "b", "store", "stores", "places"), HOST),
    **dict.fromkeys(("named_host", *_STAY), HOST),
    "texts": FEATURE,
    "features": FEATURE,
}
"""What stands in each parameter of the verbs, by its name."""
_CPU_THEN_HOSTS = "arguments"
_OF_FOLDERS = {_CPU_THEN_HOSTS, "store", "stores", "places"}
"""Arguments that may be folders of hosts."""
_STORE_AND_TWO = 3
_FOREIGN = {"program", "hosts", "host"}
"""Arguments of verbs whose words are others': a command, hosts by the names that they have in a network or a store."""

_MODEL = re.compile(r"[A-Za-z0-9_-]{1,60}")
_SETTING = re.compile(r"[+-](?P<switched>[a-z][a-z0-9_.-]{1,60})|(?P<set>[a-z][a-z0-9_.-]{1,60})=[^,\s]{0,200}")
_KEY, _TRIED = "vcpuid.cli.swapped", "vcpuid.cli.swapped.tried"
_HERE = "host"
"""The CPU that is called as this machine is."""


class PlacedWord(NamedTuple):
    """A word of a command line: the parameter in whose place it stands, "" for one too many, and what belongs there, None for that."""

    parameter: str
    place: str | None
    text: str


class _OddError(click.UsageError):
    """A call that was thought of has words in each other's place itself."""


class CommandLine:
    """A command line: the verb, what was `found` for its parameters by their names, in the `order` of these, the words that were `left`."""

    def __init__(self, context: click.Context, found: Mapping[str, Any], order: Sequence[click.Parameter], left: Sequence[str]) -> None:
        self._context, self._found, self._order = context, found, order
        self._arguments = [one for one in context.command.params if isinstance(one, click.Argument)]
        self._names = {str(one.name) for one in context.command.params}
        self._words = [*self._placed(), *(PlacedWord("", None, text) for text in left)]

    def check(self, *, unknown: bool = False) -> None:
        """Raise UsageError where words stand in each other's place: with the call that was meant, or what is missing in it; else return.

        Words in the place of features are looked at where they are files, or all of them where one is `unknown`.
        """
        if self._context.resilient_parsing or self._names & _FOREIGN or self._otherwise():
            return
        if all(_kind(word, unknown) == word.place for word in self._words):
            return
        kinds = self._settled([_kind(word, True) for word in self._words])
        odd = [(word, kind) for word, kind in zip(self._words, kinds, strict=True) if kind != word.place]
        if odd and _TRIED in self._context.meta:
            raise _OddError("")
        if odd and None not in kinds:
            self._tell(self._said(*odd[0], kinds), kinds)

    def _tell(self, said: str, kinds: Sequence[str | None]) -> None:
        """Raise UsageError with the calls that are taken when they are typed; where none is, with what is wrong with them."""
        if self._needs_cpu() and not {CPU, SETTING} & {*kinds}:
            raise lacking(f"{said}; missing CPU")
        calls, wrong = list[str](), list[str]()
        for verb, words in self._calls(kinds):
            try:
                _try(verb, words)
            except _OddError:
                continue
            except click.UsageError as error:
                wrong.append(" ".join(error.format_message().split()))
            else:
                calls.append(shlex.join([*verb.command_path.split(), *words]))
        told = f"{said}: did you mean {' or '.join(calls)}?"
        if calls:  # a name that has to be spelled otherwise to be shown names another file when it is pasted
            raise click.UsageError(told if told.isprintable() and message(told) == told else said, self._context)
        if wrong:
            raise click.UsageError(f"{said}; {wrong[0][0].lower()}{wrong[0][1:]}", self._context)

    def _otherwise(self) -> bool:
        """Whether the words stand for something else: for a host alone beside a table, for two hosts by the names that a store has."""
        places = _texts(self._found.get("places"))
        by_name = len(places) == _STORE_AND_TWO and not os.path.isfile(places[0]) and os.path.exists(places[0])
        return by_name or (_CPU_THEN_HOSTS in self._names and bool({_TABLE, "recording"} & self._found.keys()))

    def _placed(self) -> Iterator[PlacedWord]:
        """Give the words with their places; a domain's file has none where --cpu stands before it, and has --domain."""
        for parameter in self._context.command.params:
            name, texts = str(parameter.name), _texts(self._found.get(str(parameter.name)))
            if name == _CPU_THEN_HOSTS:
                first = 0 if "named_cpu" in self._found else 1
                yield from (PlacedWord(name, CPU if number < first else HOST, text) for number, text in enumerate(texts))
            elif name == "cpu" and isinstance(parameter, click.Option):
                yield from (PlacedWord(name, None if text.endswith(DOMAIN_ENDS) else CPU, text) for text in texts if self._takes_cpu())
            elif name in _PLACES:
                yield from (PlacedWord(name, _PLACES[name], text) for text in texts)

    def _settled(self, kinds: list[str | None]) -> list[str | None]:
        """Take for the CPU, where there is none, the one word of which nobody knows what it is, or the one file of a domain."""
        sure = any(kind not in (None, word.place) for word, kind in zip(self._words, kinds, strict=True))
        if CPU in kinds or not sure:
            return kinds
        strange = [number for number, kind in enumerate(kinds) if kind is None]
        domains = [number for number, word in enumerate(self._words) if word.text.endswith(DOMAIN_ENDS)]
        meant = strange or domains
        return [CPU if [number] == meant else kind for number, kind in enumerate(kinds)]

    def _said(self, word: PlacedWord, kind: str | None, kinds: Sequence[str | None]) -> str:
        """Say what the first word is that stands where it does not belong."""
        if kind == CPU and not self._takes_cpu():
            return f"{word.text} is {kind}, and {self._context.command_path} takes none"
        if kind == CPU and kinds.count(CPU) > 1:
            meant, other, *_ = self._of(kinds, CPU)
            return f"{other} is {kind}, as {meant} is, and HOST a file, or left out for this machine"
        return f"{word.text} is {_host(word.text) if kind == HOST or word.text.endswith(DOMAIN_ENDS) else kind}"

    def _of(self, kinds: Sequence[str | None], kind: str) -> list[str]:
        """Give the words of a kind; of CPUs first one that is not called as this machine is, and stands where it belongs."""
        pairs = zip(self._words, kinds, strict=True)
        found = [word for word, one in pairs if one == kind and (kind == CPU or word.parameter not in _STAY)]
        return [word.text for word in sorted(found, key=lambda word: (word.text == _HERE, word.place != kind) if kind == CPU else ())]

    def _takes_cpu(self) -> bool:
        return _CPU_THEN_HOSTS in self._names or any(one.name == "cpu" and one.metavar == "CPU" for one in self._context.command.params)

    def _needs_cpu(self) -> bool:
        return any(_PLACES.get(str(one.name)) == CPU or one.name == _CPU_THEN_HOSTS for one in self._arguments)

    def _calls(self, kinds: Sequence[str | None]) -> Iterator[tuple[click.Context, list[str]]]:
        """Give the call with all in its place, by its verb and the words behind that.

        Of a verb that takes no CPU it is the one without it, and the check of that CPU.
        """
        cpus, features, settings = (self._of(kinds, kind) for kind in (CPU, FEATURE, SETTING))
        hosts = [f"./{text}" if text.startswith("-") and text != "-" else text for text in self._of(kinds, HOST)]
        several = len({cpu for cpu in cpus if cpu != _HERE}) > 1 or (settings and any(cpu.endswith(DOMAIN_ENDS) for cpu in cpus))
        homeless = features and FEATURE not in map(_PLACES.get, self._names)
        if several or homeless or (any(map(os.path.isdir, hosts)) and not self._names & _OF_FOLDERS):
            return
        if cpus and not self._takes_cpu():
            root = self._context.find_root()
            assert isinstance(root.command, click.Group)
            check = root.command.get_command(root, "check")
            assert check is not None
            calls = [(self._context, self._call([], hosts, features)), (click.Context(check, root, "check"), [cpus[0], *hosts])]
        else:
            if settings and self._takes_cpu():
                cpus = [",".join(text.strip(",") for text in (*(cpus[:1] or [_HERE]), *settings))]
            calls = [(self._context, self._call(cpus, hosts, features))]
        yield from ((verb, words) for verb, words in calls if words is not None)

    def _call(self, cpus: Sequence[str], hosts: list[str], features: Sequence[str]) -> list[str] | None:
        """Give the words behind the verb; None where a host or a CPU is left over."""
        words, hosts, by_name, placed = list[str](), [*hosts], [*cpus[:1]], False
        for argument in self._arguments:
            name = str(argument.name)
            if name == _CPU_THEN_HOSTS:
                words += [*cpus[:1], *hosts]
                by_name, hosts = [], []
            elif _PLACES.get(name) == CPU:
                words += cpus[:1]
                by_name = []
            elif _PLACES.get(name) == FEATURE:
                words += features
            elif name == "table" and cpus:  # which would have no effect beside a table
                continue
            elif _PLACES.get(name) == HOST:
                most = len(hosts) if argument.nargs == -1 else 1
                words, hosts, placed = [*words, *hosts[:most]], hosts[most:], True
            else:
                words += _texts(self._found.get(name))
        if hosts and not placed and self._names & {"source", "named_host"}:
            words += ["--host", hosts.pop(0)]
        if by_name:
            option = "domain" if by_name[0].endswith(DOMAIN_ENDS) else "cpu"
            if option not in self._names:
                return None
            words += [*(["--guest"] if "guest" in self._names - self._found.keys() else []), f"--{option}", *by_name]
        return None if hosts else [*words, *self._options(cpus)]

    def _options(self, cpus: Sequence[str]) -> Iterator[str]:
        """Give the options that name no place, or a host that stays there, as they were given."""
        for option in dict.fromkeys(self._order):
            name, texts = str(option.name), _texts(self._found.get(str(option.name)))
            stays = (name == _TABLE and not cpus) or (name == _OTHER_HOST and texts != [*cpus])
            if not isinstance(option, click.Option) or (name in _PLACES and not stays):
                continue
            for text in [None] if option.is_flag else texts:
                yield from [option.opts[0], *([] if text is None else [text])]


def _try(verb: click.Context, words: Sequence[str]) -> None:
    """Raise UsageError where a call would be answered with one; nothing is read, printed or run."""
    acting = {
        text for one in verb.command.get_params(verb) if isinstance(one, click.Option) and one.is_flag and one.callback for text in one.opts
    }
    verb.meta[_TRIED] = True
    try:
        verb.command.make_context(verb.info_name, [text for text in words if text not in acting], verb.parent)
    finally:
        del verb.meta[_TRIED]


def remember(line: CommandLine) -> None:
    """Keep a command line, for when a word turns out to be none."""
    line._context.meta[_KEY] = line


def no_feature(error: InputError) -> InputError:
    """Return the error of a word that is no feature; raises UsageError, with the call that was meant, where it is a CPU or a host."""
    context = click.get_current_context(silent=True)
    if context is not None and _KEY in context.meta:
        context.meta[_KEY].check(unknown=True)
    return error


def named(arguments: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """Part a command line into its words without an option, and what was given to that."""
    rest, given, words = list[str](), list[str](), iter(arguments)
    for text in words:
        if text == option:
            given += [value for value in [next(words, None)] if value is not None]
        elif text.startswith(f"{option}="):
            given.append(text.partition("=")[2])
        else:
            rest.append(text)
    return rest, given


def settings(arguments: Sequence[str]) -> list[int]:
    """Tell where words of a command line begin with a dash and yet are no option, but a property that -cpu turns off."""
    found = []
    for number, text in enumerate(arguments):
        if text == "--":
            break
        value = number > 0 and arguments[number - 1].startswith("--") and "=" not in arguments[number - 1]
        if text.startswith("-") and not value and _is_setting(text):
            found.append(number)
    return found


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(text) for text in value] if isinstance(value, list | tuple) else []


def _kind(word: PlacedWord, unknown: bool) -> str | None:
    """Tell what a word is; None where nobody knows."""
    text, place = word.text, word.place
    host = _is_host(text)
    if place == HOST and host:
        return HOST
    if place == CPU and not host and not (unknown and _is_feature(text) and not _is_cpu(text)):
        return CPU
    if place == FEATURE and (text == "-" or not (host or unknown) or _is_feature(text)):
        return FEATURE
    if _is_cpu(text) or (host and text.endswith(DOMAIN_ENDS)):
        return CPU
    return HOST if host else SETTING if _is_setting(text) else FEATURE if place == FEATURE or _is_feature(text) else None


def _is_host(text: str) -> bool:
    from vcpuid.sources import is_machine, numbered

    return text == "-" or is_machine(text) or os.path.exists(numbered(text)[0])


def _host(text: str) -> str:
    """Say what a host, or a file, is."""
    from vcpuid.sources import is_machine

    return "this machine" if is_machine(text) else "standard input" if text == "-" else "a folder" if os.path.isdir(text) else "a file"


def _is_feature(text: str) -> bool:
    from vcpuid.answers.sysfs import bug_of
    from vcpuid.cpuid.names import meant

    return bool(meant(text)) or bug_of(text) is not None


def _is_cpu(text: str) -> bool:
    from vcpuid.qemu.catalog import catalog
    from vcpuid.qemu.unknown import has_model
    from vcpuid.releases import QEMUS

    model = text.partition(",")[0]
    return _MODEL.fullmatch(model) is not None and any(has_model(catalog(release), model) for release in reversed(QEMUS))


def _is_setting(text: str) -> bool:
    """Whether a word is one of -cpu's properties, as +avx2, -avx2 and avx2=off are."""
    from vcpuid.qemu.catalog import catalog
    from vcpuid.qemu.unknown import has_property
    from vcpuid.releases import QEMUS

    found = _SETTING.fullmatch(text.strip(","))
    return found is not None and has_property(catalog(QEMUS[-1]), found["switched"] or found["set"])
