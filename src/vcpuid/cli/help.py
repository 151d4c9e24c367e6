"""vcpuid help: what --help prints."""

from __future__ import annotations

import click

from vcpuid.cli import choices


@click.command(name="help")
@click.argument("words", metavar="[VERB...]", nargs=-1, shell_complete=choices.verbs)
def command(words: tuple[str, ...]) -> None:
    """Show the help of a verb, or of all.

    VERB is one word or two, as in vcpuid help qemu models. It is what VERB --help prints.
    """
    context = click.get_current_context().find_root()
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
