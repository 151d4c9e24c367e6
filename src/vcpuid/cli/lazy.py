"""Verbs that are imported only when they are run, so that --help stays quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

from vcpuid.cli import habits

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Unforeseen(Exception):
    """Carries an error past click."""


class LazyGroup(click.Group):
    """A group whose verb `name` is made of the object `command` of the module `package.name` (a dash becomes an underscore)."""

    def __init__(self, *args: object, verbs: dict[str, str], package: str, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own arguments, passed on
        self.verbs, self.package = verbs, package
        self._found: dict[str, click.Command] = {}

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; it lets neither error out on purpose, and click would take them for a reader that has gone, and for a Ctrl-D."""
        try:
            return super().invoke(ctx)
        except (OSError, EOFError) as error:
            raise Unforeseen from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the verbs in the order of the table."""
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module; give the verb the habits of all."""
        if cmd_name not in self.verbs:
            return None
        if cmd_name not in self._found:
            self._found[cmd_name] = habits.equipped(import_module(f"{self.package}.{cmd_name.replace('-', '_')}").command)
        return self._found[cmd_name]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; raises UsageError with a lead where there is none of that name."""
        habits.require(self, ctx, args)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(self.verbs.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the verbs without importing them, and what every command offers."""
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(verb, help=told) for verb, told in self.verbs.items() if verb.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]
