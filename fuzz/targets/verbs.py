"""Every verb with its options, by their own declarations: values that completion would offer, values by their grammar, and junk."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import NoReturn
from unittest.mock import patch

import click
from click.core import ParameterSource

from fuzz import grammar, hosts, mutate, trees
from fuzz.inprocess import run
from fuzz.printed import hold_clean
from fuzz.seeds import host_lines, machines
from fuzz.target import Broken, Case, Target, hold
from fuzz.targets import readers
from vcpuid.cli import cli
from vcpuid.errors import UnavailableError
from vcpuid.fleet.remote import Way
from vcpuid.fleet.targets import Target as Host

_RARE = {"probe": 0.03, "collect": 0.2}
"""Verbs that take long: how often they are taken where others are always."""

_FAULT = 70
_FRAME = re.compile(r'File ".*?/src/vcpuid/(\S+?)", line \d+, in (\S+)')
_ERROR = re.compile(r"[\w.]+(?:Error|Exception|Interrupt|Exit)\b")

JUNK = (
    "", "x", "0", "1", "-1", "2", "64", "0x10", "0xzz", "08", "²", "٣", "1e9", "on", "a=b", "=", "=x", "x=", "avx2", "+avx2", "all", "host",
    "max", "nope", "7", "7.0", "7.0.ebx.5", "d.2", "80000008", "ffffffff.ffffffff", "100000000", "6.12", "99.9", "raw", "9" * 4400,
    "0x" + "f" * 6000, "é", "日本", "\udcff", "a\nb", "\x1b[31m", "\x9b31m", "%s", "{}", "*", "nested=N", "x86-64-v3", "2.36", "--", "-h",
    "...", "a" * 10000, "=cmd|calc!A0", "@x",
)  # fmt: skip

_PLACES = ("out.txt", "nosuch/out.txt", ".", "/dev/full", "-", "é\n")
"""Where a verb is told to write."""

GRAMMARS: dict[str, Callable[[Random], str | None]] = {
    "--cpu": grammar.cpu, "cpu": grammar.cpu, "arguments": grammar.cpu, "--smp": grammar.smp, "--machine": grammar.machine,
    "--kernel": grammar.kernel, "--guest-kernel": grammar.kernel, "--qemu": grammar.qemu, "--global": grammar.global_property,
    "--param": lambda random: "{}={}".format(*grammar.param(random)), "feature": grammar.place, "features": grammar.place,
    "texts": grammar.place, "wanted": grammar.place, "leaves": grammar.place, "--ignore": grammar.place,
}  # fmt: skip
"""Grammars of what a parameter takes, by its first spelling."""


@cache
def verbs() -> dict[tuple[str, ...], click.Command]:
    """All verbs, each by its words."""
    return dict(_commands(cli))


def _commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*words, name))
        elif command is not None:
            yield (*words, name), command


@cache
def _offered(words: tuple[str, ...], place: int) -> tuple[str, ...]:
    """What completion offers for a parameter of a verb; files stand for themselves."""
    command = verbs()[words]
    found: list[str] = []
    for item in command.params[place].shell_complete(click.Context(command), ""):
        found += _files() if item.type in ("file", "dir") else [item.value]
    return tuple(found)


@cache
def _contents() -> dict[str, bytes]:
    """The files of the folder in which a verb runs, but for the one that a case brings."""
    found = {f"host{number}.txt": "\n".join(host_lines(name)) + "\n" for number, name in enumerate(machines()[::30])}
    found |= {
        "cut.txt": "RAW 00000000.0 0000\n",
        "empty.txt": "",
        "part.txt": "RAW 00000007.0 00000000 00000000 00000000 00000000\n",
        "named.txt": "NAMED avx2 on\nNAMED zzz off\n",
        "sup.txt": "SUP empty\n",
        "tab.txt": "TAB 00000007.0 f1 00000000 00000000 00000000 00000000\n",
        "escape.txt": "RAW 00000000.0 00000001 5b1b3d2b 6d313320 0a0d0762\n",
        f"{_FLEET}/one.txt": "\n".join(host_lines(machines()[0])) + "\n",
        f"{_FLEET}/east/two.txt": "\n".join(host_lines(machines()[1])) + "\n",
        f"{_FLEET}/east/cut.txt": "RAW 00000000.0 0000\n",
        **_DOCUMENTS,
    }
    return {name: text.encode() for name, text in found.items()} | _store(found)


def _store(texts: dict[str, str]) -> dict[str, bytes]:
    """A fleet's file, where DuckDB is installed."""
    if find_spec("duckdb") is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("one", "two"):
            Path(folder, f"{name}.txt").write_text(texts[f"{_FLEET}/{'east/' * (name == 'two')}{name}.txt"], encoding="utf-8")
        store = Path(folder, "store.duckdb")
        done = run(["fleet", "add", str(store), f"{folder}/one.txt", f"{folder}/two.txt", "--seen", "2026-11-01"])
        hold(done.status == 0, "a store can be made", done.stderr)
        return {store.name: store.read_bytes()}


_FLEET = "fleet"
_CPU = "<cpu mode='custom' match='exact'><model>Haswell</model><feature policy='require' name='vmx'/></cpu>"
_OS = "<os><type arch='x86_64' machine='{}'>hvm</type></os>"
_DOCUMENTS = {
    "domain.xml": f"<domain type='kvm'><name>a</name><memory>1048576</memory><vcpu>2</vcpu>{_OS.format('q35')}{_CPU}</domain>",
    "host-model.xml": f"<domain type='kvm'><name>a</name>{_OS.format('pc')}<cpu mode='host-model' check='full'/></domain>",
    "cpu.xml": _CPU,
    "cpus.xml": f"<cpus>{_CPU}<cpu><arch>x86_64</arch><model>Skylake-Client</model><vendor>Intel</vendor></cpu></cpus>",
    "hosts.ini": "lonely\n[east]\none ansible_host=192.0.2.1 ansible_port=22\nweb[01:03:2]\n[west:children]\neast\n[east:vars]\nx=a\n",
    "hosts.json": '{"_meta": {"hostvars": {"one": {"ansible_host": "192.0.2.1"}}}, "all": {"children": ["east"]}, '
    '"east": {"hosts": ["one"]}}',
    "list.txt": "# hosts\nroot@one\nssh://two:2222\n",
}
"""What is no dump: domains and CPUs of libvirt's, inventories of Ansible's, a list of hosts."""


def _files() -> list[str]:
    return [*sorted(_contents()), _FLEET, f"{_FLEET}/east", _MADE]


_command = Way.command

_MADE = "made.txt"
"""The file that a case brings."""


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="vcpuid-fuzz-"))


_found: dict[str, tuple[int, int]] = {}
"""Size and time of each file of the folder as it was laid out."""


def _lay_out() -> Path:
    """Bring the folder back to what it was before any verb wrote there, so that each case is one by itself."""
    folder = _folder()
    wanted = {folder / name for name in _contents()}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path in file.parents for file in wanted):
                path.rmdir()
        elif path not in wanted:
            path.unlink()
    for name, content in _contents().items():
        path = folder / name
        if not path.is_file() or _found.get(name) != _state(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            _found[name] = _state(path)
    return folder


def _state(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_size, told.st_mtime_ns


def make(random: Random) -> Case:
    """Make a command line."""
    while True:
        words = random.choice(list(verbs()))
        if random.random() < _RARE.get(words[0], 1):
            break
    command = verbs()[words]
    arguments: list[str] = []
    for place, parameter in enumerate(command.params):
        if isinstance(parameter, click.Argument):
            most = random.choice((1, 1, 1, 2, 3)) if parameter.nargs == -1 else 1
            if parameter.required or random.random() < (0.1 if parameter.name == "placed_host" else 0.9):
                arguments += [_value(random, words, place) for _ in range(most)]
        elif (parameter.opts[0] in ("--host", "--to") and not _named(parameter)) or random.random() < (0.04 if _named(parameter) else 0.12):
            arguments += _option(random, words, place)
    if random.random() < 0.05:
        arguments.insert(random.randrange(len(arguments) + 1), random.choice(JUNK))
    made = _dump(random) if any(_MADE in argument for argument in arguments) else ""
    return {"arguments": [*words, *map(_typed, arguments)], "made": made}


def _dump(random: Random) -> str:
    """What stands in the file that a case brings: a made-up host, a changed document, or what the readers are given."""
    draw = random.random()
    if draw < 0.5:
        return "".join(line + "\n" for line in hosts.lines(random))
    if draw < 0.75:
        return _changed(random, random.choice(list(_DOCUMENTS.values())).encode()).decode("latin-1")
    text: str = readers.make(random)["text"]
    return text


def _changed(random: Random, data: bytes) -> bytes:
    """Change a document, as one by its nodes where it has some."""
    change = trees.change_xml if data.startswith(b"<") else trees.change_json if data.startswith(b"{") else None
    changed = None if change is None or random.random() < 0.4 else change(random, data)
    return random.choice(mutate.CHANGES)(random, data) if changed is None else changed


def _named(parameter: click.Parameter) -> bool:
    """Whether an option names what may stand in its place, and mostly does."""
    return str(parameter.name).startswith("named_")


def _option(random: Random, words: tuple[str, ...], place: int) -> list[str]:
    option = verbs()[words].params[place]
    name = random.choice(option.opts)
    if isinstance(option, click.Option) and option.is_flag:
        return [name]
    value = _value(random, words, place)
    return [f"{name}={value}"] if name.startswith("--") and random.random() < 0.2 else [name, value]


def _value(random: Random, words: tuple[str, ...], place: int) -> str:
    parameter = verbs()[words].params[place]
    if isinstance(parameter.type, click.Path):
        if parameter.name == "path":
            return random.choice(_PLACES)
        return _MADE if random.random() < 0.3 else random.choice(("/bin/true", "/bin/false", *_PLACES, *_files()))
    draw = random.random()
    if draw < 0.1:
        return random.choice(JUNK)
    by_grammar = GRAMMARS.get(parameter.opts[0])
    if by_grammar is not None and draw < 0.4:
        return by_grammar(random) or ""
    offered = _offered(words, place)
    if not offered:
        return random.choice(grammar.NUMBERS if draw < 0.6 else JUNK)
    value = _MADE if "host0.txt" in offered and draw < 0.5 else random.choice(offered)
    return value + random.choice(grammar.VALUES) if value.endswith("=") else value


def _typed(text: str) -> str:
    """A text as a process can be given it: without zero characters, what is no text as its bytes."""
    return (
        text.replace("\0", "")
        .encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")
        .decode("utf-8", "surrogateescape")
    )


def _nobody(way: Way, target: Host) -> list[str]:
    """Take what --ssh says apart, and run what answers nothing: no case is to reach a host, or to choose a program."""
    _command(way, target)
    return ["/bin/false"]


@contextmanager
def _over() -> Iterator[Callable[[], bool]]:
    """Say that a signal has come: a verb that goes on until Ctrl-C ends at once, with its answer."""
    yield lambda: True


def _no_spark(master: str | None = None) -> NoReturn:
    """Start no Java runtime, for which an input has no memory, and reach for no cluster."""
    raise UnavailableError("Spark does not start")


WAITING = {"vcpuid.cli.record.interrupted": _over, "vcpuid.cli.trace.interrupted": _over, "vcpuid.cli.explore._serve": lambda *_: None}
"""What would go on until somebody ends it, and what stands for it."""


def check(case: Case) -> str:
    """Run it, and hold what it prints to the laws."""
    folder, arguments = _lay_out(), case["arguments"]
    (folder / _MADE).write_bytes(case["made"].encode("latin-1"))
    before = os.getcwd()
    os.chdir(folder)
    try:
        places = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
        with ExitStack() as held:
            held.enter_context(patch.dict(os.environ, {**places, "COLUMNS": "100"}))
            held.enter_context(patch.object(Way, "command", _nobody))
            for place, instead in {**WAITING, "vcpuid.fleet.engines.spark_session": _no_spark}.items():
                held.enter_context(patch(place, instead))
            done = run(arguments)
            if done.status == _FAULT:
                done = run(["--traceback", *arguments])  # raises what it was, or prints it
    finally:
        os.chdir(before)
    if done.status == _FAULT:
        raise _fault(done.stderr)
    hold_clean(done, form_of(arguments), " ".join(_words(arguments)))
    return f"status {done.status}"


def form_of(arguments: list[str]) -> str | None:
    """The form of the answer that a command line asks for, as the verb itself reads it: options behind a program are the program's."""
    words = _words(arguments)
    if not words or {"--schema", "-h", "--help"} & set(arguments):
        return None
    context = verbs()[words].make_context(words[-1], arguments[len(words) :], resilient_parsing=True)
    given = context.get_parameter_source("form") is ParameterSource.COMMANDLINE
    return context.params.get("form") if given else None


def _fault(printed: str) -> Broken:
    """Make of a printed traceback what is the same for all that fail alike: the error's name and where it was raised."""
    places = _FRAME.findall(printed)
    names = [line.partition(":")[0] for line in printed.splitlines() if _ERROR.match(line)]
    place = ":".join(places[-1]) if places else "an unknown place"
    return Broken(f"no fault, {names[-1] if names else 'an error'} in {place}", printed[-600:])


def _words(arguments: list[str]) -> tuple[str, ...]:
    """The words of a command line that name the verb."""
    return next((words for words in verbs() if tuple(arguments[: len(words)]) == words), ())


TARGET = Target("verbs", "verbs with their options", make, check, share=2.0, seconds=15.0, mebibytes=512, prepare=_contents)
