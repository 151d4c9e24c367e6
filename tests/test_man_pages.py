"""The man pages that `make man` writes: one a verb, each naming all of its options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from support.tools import TOOLS
from vcpuid.cli import cli


def walk(context: click.Context) -> list[click.Context]:
    found, group = [context], context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            verb = group.get_command(context, name)
            assert verb is not None
            found += walk(click.Context(verb, info_name=name, parent=context))
    return found


def test_every_verb_has_a_page_that_names_every_option(tmp_path: Path) -> None:
    subprocess.run([sys.executable, TOOLS / "man_pages.py", "man", tmp_path], check=True, timeout=60)
    contexts = {context.command_path.replace(" ", "-") + ".1": context for context in walk(click.Context(cli, info_name="vcpuid"))}
    assert {path.name for path in tmp_path.iterdir()} == set(contexts)
    for page, context in contexts.items():
        text = (tmp_path / page).read_text(encoding="utf-8").replace("\\-", "-")
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                assert all(option in text for option in parameter.opts), f"{page}: {parameter.opts}"
