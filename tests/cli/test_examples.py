"""The examples of every verb's help are run as they stand there, on captured hosts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import click
import pytest

from support.command import commands, vcpuid
from support.example_files import lay_out
from vcpuid.cli import cli
from vcpuid.cli.examples import EXAMPLES, Example
from vcpuid.cli.layout import lines_of
from vcpuid.cli.short import SCREEN

VERBS = {" ".join(path): command for path, command in commands(cli) if not isinstance(command, click.Group)}
ALL = [(verb, example) for verb, examples in EXAMPLES.items() for example in examples]
ELSEWHERE = {
    "root": "it traces guests that run",
    "ssh": "it asks hosts by ssh",
    "browser": "it serves a page until Ctrl-C",
    "vmm": "it starts a guest",
}
"""What is not run here, and why: other tests do, with what they bring."""
MARKED = {"kvm": pytest.mark.kvm, "qemu": pytest.mark.qemu, "x86": pytest.mark.x86}
SHELL = re.compile("[>|$]")


def test_every_verb_has_two_examples_and_shows_them() -> None:
    assert EXAMPLES.keys() == VERBS.keys()
    for verb, examples in EXAMPLES.items():
        assert len(examples) == 2
        shown = vcpuid("help", *verb.split()).stdout
        assert "\nExamples:\n" in shown
        for example in examples:
            assert f"    {example.command}\n" in shown
            assert verb in example.command or verb == "version"


def words(example: Example) -> list[str]:
    """The words of vcpuid's own part of an example."""
    inside = re.search(r"\$\((.*)\)", example.command)
    return shlex.split(re.split("[>|]", inside[1] if inside else example.command)[0])[1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that examples name."""
    folder = tmp_path_factory.mktemp("examples")
    lay_out(folder)
    return folder


@pytest.mark.parametrize(("verb", "example"), ALL, ids=[example.command for _, example in ALL])
def test_an_example_is_taken(verb: str, example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options and arguments are the verb's."""
    monkeypatch.chdir(folder)
    given = words(example)
    if verb == "version" and given == ["--version"]:
        return
    count = len(verb.split())
    assert given[:count] == verb.split()
    command = VERBS[verb]
    context = click.Context(cli)
    context.command = command
    with command.make_context(verb.split()[-1], given[count:], parent=context) as made:
        assert made.params is not None


RUN = [example for _, example in ALL if example.needs not in ELSEWHERE]


@pytest.mark.long
@pytest.mark.parametrize(
    "example", [pytest.param(example, marks=MARKED.get(example.needs, ()), id=example.command) for example in RUN]
)  # fmt: skip
def test_an_example_answers(example: Example, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if example.needs == "duckdb" and not find_spec("duckdb"):
        pytest.skip("there is no DuckDB")
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for name, value in {"XDG_CACHE_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    if example.needs == "duckdb" and " add " not in example.command:
        assert vcpuid("fleet", "add", "hosts.duckdb", "hosts", "--seen", "2026-11-20", cwd=tmp_path).returncode in (0, 1)
    before = {path.name for path in tmp_path.iterdir()}
    if SHELL.search(example.command):
        shell = shutil.which("fish" if "source" in example.command else "bash")
        if shell is None:
            pytest.skip("that shell is not installed")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = [shell, "-c", example.command.replace("host.txt", "made.txt")]
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert all(line.startswith("vcpuid: ") for line in done.stderr.splitlines())
        return
    done = vcpuid(*words(example), cwd=tmp_path)
    made = {path.name for path in tmp_path.iterdir()} - before
    assert done.returncode in (0, 1), done.stderr
    refused = done.returncode == 1 and done.stderr.startswith("error: ")  # libvirt's own answer, where virsh prints it
    assert bool(done.stdout or made or refused) != ("--quiet" in example.command), done.stderr
    shown = done.stdout.splitlines()
    assert all(line == line.rstrip() for line in shown)
    assert not shown or all(one or other for one, other in pairwise(["", *shown, ""])), "what stands apart is so by one empty line"
    if cut_to_a_screen(example):
        assert sum(lines_of(line, 80) for line in shown) <= SCREEN


WHOLE = {
    "--for": "XML that was asked for is whole",
    "--fields": "all fields were asked for",
    "supported": "a table of CPUID is whole, for its --check alone there is --all",
    "-o": "programs get all",
}


def cut_to_a_screen(example: Example) -> bool:
    """Whether an example's verb cuts its answers, and the example does not ask for what is whole."""
    given = words(example)
    verb = VERBS.get(" ".join(given[:2])) or VERBS.get(given[0])
    options = {name for parameter in verb.params for name in parameter.opts} if verb is not None else set()
    return {"--all", "-v"} <= options and not WHOLE.keys() & set(given)


TOLD_BY_OPTIONS = {"check", "diagnose", "diff", "drift", "names", "record"}
"""Verbs without an argument that must be there, which need to be told something all the same."""


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_is_told_nothing_asks_with_an_example(verb: str) -> None:
    """Those that answer without a word, of this machine or of all that there is, are not run."""
    command = VERBS[verb]
    if verb not in TOLD_BY_OPTIONS and not any(isinstance(one, click.Argument) and one.required for one in command.params):
        return
    done = vcpuid(*verb.split(), stdin="")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"(example: {EXAMPLES[verb][0].command})")
