"""vcpuid help: what --help prints, and all verbs at once."""

from __future__ import annotations

from collections.abc import Iterator

import click

from vcpuid.cli import choices
from vcpuid.cli.lazy import LazyGroup
from vcpuid.cli.output import Sheet, emit

_ALL = "all"
_COLUMNS = ("verb", "what it does")


@click.command(name="help")
@click.argument("words", metavar="[VERB...]", nargs=-1, shell_complete=choices.verbs)
def command(words: tuple[str, ...]) -> None:
    """Show the help of a verb, or of all.

    VERB is one word or two, as in vcpuid help qemu models. It is what VERB --help prints. vcpuid help all lists every verb and what
    it does, also those of kvm, qemu, libvirt, linux and fleet.
    """
    context = click.get_current_context().find_root()
    if words == (_ALL,):
        emit(Sheet(_COLUMNS, [dict(zip(_COLUMNS, row, strict=True)) for row in _verbs(context)], styles={_COLUMNS[0]: "bold"}), "table")
        return
    rest = list(words)
    while rest:
        group = context.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{context.command_path} has no verbs below it")
        name, found, rest = group.resolve_command(context, rest)
        if found is None:
            raise click.UsageError(f"{words[0]!r} is no verb")
        context = click.Context(found, context, name, **found.context_settings)
    print(context.get_help())


def _verbs(context: click.Context) -> Iterator[tuple[str, str]]:
    """Give all verbs, those of groups behind their group, each with the first sentences of its help."""
    root = context.command
    assert isinstance(root, LazyGroup)
    for name, about in root.verbs.items():
        yield name, about
        group = root.get_command(context, name)
        if isinstance(group, click.Group):
            yield from ((f"{name} {below}", choices.summary(group.commands[below])) for below in group.list_commands(context))
