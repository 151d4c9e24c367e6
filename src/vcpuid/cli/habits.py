"""What every verb has without saying so: the habits of other command lines.

-o for --format, --quiet, --no-color, examples in the help; HOST and CPU also by name, as --host and --cpu, where a verb takes them by
their place, and HOST by its place where a verb takes it by name alone; and a lead, by spelling or by meaning, where a verb or an option is
none. A verb's own module declares what is its own.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any

import click

from vcpuid.cli import streams

_BY_NAME = _CPU, _HOST = "--cpu", "--host"
_ABOUT = {_CPU: "CPU, by name instead of by its place.", _HOST: "HOST, by name instead of by its place."}
VERBS_BELOW = "VERB [ARGS]..."
"""How the usage of a group ends."""
_HOSTS, _CPUS = ("HOST", "SOURCE"), ("CPU",)
"""What verbs call the argument that is a host, and the one that is a CPU."""


def equipped(command: click.Command) -> click.Command:
    """Return a command, or a group with all that is below it, with these habits."""
    if not isinstance(command, click.Group):
        return Verb(command)
    made = VerbGroup(**_attributes(command), subcommand_metavar=VERBS_BELOW)
    for name, below in command.commands.items():
        made.add_command(equipped(below), name)
    return made


def _attributes(command: click.Command) -> dict[str, Any]:
    names = ("name", "context_settings", "callback", "params", "help", "epilog", "short_help", "options_metavar", "hidden", "deprecated")
    return {name: getattr(command, name) for name in names}


class VerbGroup(click.Group):
    """A group that lists its verbs with all of their first sentence, and knows where a word leads that is none of them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs."""
        from vcpuid.cli.choices import summary

        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary(self.commands[name])) for name in self.list_commands(ctx)])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; raises UsageError with a lead."""
        require(self, ctx, args)
        return super().resolve_command(ctx, args)


def require(group: click.Group, ctx: click.Context, args: Sequence[str]) -> None:
    """Raise UsageError with a lead where the first word is neither a verb of the group nor an option."""
    word = args[0]
    if not ctx.resilient_parsing and not word.startswith("-") and group.get_command(ctx, word) is None:
        from vcpuid.cli import meant

        raise click.UsageError(meant.no_verb(word, ctx.command_path, group.list_commands(ctx), first=ctx.parent is None), ctx)


class Verb(click.Command):
    """A verb with these habits."""

    def __init__(self, command: click.Command) -> None:
        places = _places(command)
        super().__init__(**_attributes(command) | {"params": [*_own(command), *places, *_more(command)]})
        self._by_name = {str(option.name): option for option in places if isinstance(option, click.Option)}
        self._by_place = next((str(place.name) for place in places if isinstance(place, click.Argument)), None)

    def make_parser(self, ctx: click.Context) -> Any:
        """Make the parser, which puts what was named into its place, and what was placed under its name."""
        parser: Any = super().make_parser(ctx)
        parse: Callable[[list[str]], tuple[dict[str, Any], list[str], list[click.Parameter]]] = parser.parse_args

        def placed(args: list[str]) -> tuple[dict[str, Any], list[str], list[click.Parameter]]:
            found, left, order = parse(args)
            if not ctx.resilient_parsing:
                from vcpuid.cli import swapped

                _each_once(order)
                typed = dict(found)
                try:
                    self._put_into_place(found)
                except click.UsageError:
                    swapped.CommandLine(ctx, typed, order, left).check()
                    raise
                line = swapped.CommandLine(ctx, found, order, left)
                line.check()
                swapped.remember(line)
            return found, left, order

        parser.parse_args = placed
        return parser

    def _put_into_place(self, found: dict[str, Any]) -> None:
        if self._by_place is not None and isinstance(text := found.pop(self._by_place, None), str):
            if isinstance(found.get("source"), str):
                raise click.UsageError(f"HOST is named twice: {text!r} and {_HOST} {found['source']!r}")
            found["source"] = text
        named = {option: found.pop(name) for name, option in self._by_name.items() if name in found}
        if named:
            slots = [parameter for parameter in self.params if isinstance(parameter, click.Argument)]
            texts = [text for slot in slots for text in _texts(found.pop(str(slot.name), None))]
            found.update(_filled(slots, texts, {option.opts[0]: _texts(value) for option, value in named.items()}))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; where an option is none, lead to one that may be meant, or to where its value belongs.

        Where an argument is missing, show an example.
        """
        from vcpuid.cli import swapped

        given = [*args]
        if loose := swapped.settings(given):
            rest = [text for number, text in enumerate(given) if number not in loose]
            self._otherwise(ctx, rest, [given[number] for number in loose])
        try:
            rest = super().parse_args(ctx, args)
            if not ctx.resilient_parsing:
                from vcpuid.cli import demands

                demands.require(self.callback, ctx.params)
            return rest
        except click.MissingParameter as error:
            from vcpuid.cli.examples import lacking

            if not isinstance(error.param, click.Argument):
                raise
            with ctx.scope(cleanup=False):
                raise lacking(" ".join(error.format_message().split()).rstrip(".")) from None
        except click.NoSuchOption as error:
            from vcpuid.cli import meant

            known = [text for parameter in self.get_params(ctx) for text in (*parameter.opts, *parameter.secondary_opts)]
            if error.option_name in _BY_NAME:
                self._otherwise(ctx, *swapped.named(given, error.option_name))
            raise click.UsageError(meant.no_option(error.option_name, known), ctx) from None

    def _otherwise(self, ctx: click.Context, args: list[str], words: Sequence[str]) -> None:
        """Parse what is left of a command line without some words; raises UsageError with the call where it is known how they are meant."""
        from vcpuid.cli import swapped

        try:
            found, left, order = super().make_parser(ctx).parse_args(args)
        except click.UsageError:
            return
        swapped.CommandLine(ctx, found, order, [*left, *words]).check()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb, which knows its own parameters alone."""
        if self._by_place is not None:
            ctx.params.pop(self._by_place, None)
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples."""
        from vcpuid.cli.examples import of

        if found := of(ctx):
            with formatter.section("Examples"):
                for example in found:
                    formatter.write_text(f"{example.about}:")
                    formatter.write(f"{' ' * (formatter.current_indent + 2)}{example.command}\n")
        super().format_epilog(ctx, formatter)


def _each_once(given: Sequence[click.Parameter]) -> None:
    """Raise UsageError where an option that takes one value has several: which of them is meant nobody can say."""
    single = [option for option in given if isinstance(option, click.Option) and not (option.multiple or option.is_flag or option.count)]
    for option in single:
        if single.count(option) > 1:
            raise click.UsageError(f"{option.opts[0]} takes one value and is given {single.count(option)} times")


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(text) for text in value] if isinstance(value, list | tuple) else []


def _place_of(argument: click.Argument) -> list[str]:
    """Give the names that an argument has as an option."""
    called = (argument.metavar or "").strip("[]")
    if argument.nargs == 1:
        return [_HOST] if called in _HOSTS else [_CPU] if called in _CPUS else []
    return [_CPU, _HOST] if called.startswith("CPU") and "HOST" in called else []


def _filled(slots: Sequence[click.Argument], texts: list[str], named: dict[str, list[str]]) -> dict[str, Any]:
    """Put what was named into its places, and what stood behind each other into the others, in their order."""
    found: dict[str, Any] = {}
    for slot in slots:
        mine = [name for name in _place_of(slot) if name in named]
        if slot.nargs == -1:
            found[str(slot.name)] = (*(named[_CPU] if _CPU in mine else ()), *texts, *(named[_HOST] if _HOST in mine else ()))
            texts = []
        elif mine:
            found[str(slot.name)] = named[mine[0]][0]
        elif texts:
            found[str(slot.name)] = texts.pop(0)
    if texts:
        raise click.UsageError(f"{' and '.join(named)} {'names' if len(named) == 1 else 'name'} it already: what is {texts[0]!r}?")
    return found


def _places(command: click.Command) -> list[click.Parameter]:
    """Make the options for what a verb takes by its place, or the argument for what it takes by name."""
    from vcpuid.cli import choices

    offered = {_CPU: choices.cpus_or_files, _HOST: choices.hosts}
    taken = {text for parameter in command.params for text in parameter.opts}
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    found: list[click.Parameter] = []
    for argument in arguments:
        for name in _place_of(argument):
            if name not in taken:
                several = argument.nargs == -1 and name == _HOST
                found.append(
                    click.Option(
                        [name, f"named_{name[2:]}"], metavar=name[2:].upper(), expose_value=False, multiple=several,
                        shell_complete=offered[name], help=_ABOUT[name],
                    )
                )  # fmt: skip
    if not arguments and any(_HOST in parameter.opts and parameter.name == "source" for parameter in command.params):
        found.append(click.Argument(["placed_host"], metavar="[HOST]", required=False, shell_complete=choices.hosts))
    return found


def _own(command: click.Command) -> list[click.Parameter]:
    """Give a verb's own parameters: -o is --format's, unless it names a file."""
    writes = any("-o" in parameter.opts and "--output" in parameter.opts for parameter in command.params)
    return [_own_of(parameter, writes) for parameter in command.params]


def _own_of(parameter: click.Parameter, writes: bool) -> click.Parameter:
    if "--format" in parameter.opts:
        own = copy.copy(parameter)
        own.opts = ["--format"] if writes else ["--format", "-o"]
        return own
    if "--output" in parameter.opts:
        own = copy.copy(parameter)
        own.callback = _file
        return own
    return parameter


def _file(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a form where a file is to be named."""
    from vcpuid.cli.output import FORMATS

    if value in FORMATS and not ctx.resilient_parsing:
        how = next((f"--format {value} chooses how the answer is printed" for one in ctx.command.params if "--format" in one.opts), None)
        how = how or "vcpuid convert SOURCE --to chooses a form"
        raise click.UsageError(f"-o names the file to write here; {how}. A file of that name is ./{value}")
    return value


def _quiet(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        streams.hush()


def _no_color(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        os.environ["NO_COLOR"] = "1"


def no_color_option() -> click.Option:
    """Make --no-color."""
    told = "Do not colour, as NO_COLOR in the environment has it."
    return click.Option(["--no-color"], is_flag=True, expose_value=False, callback=_no_color, help=told)


def _more(command: click.Command) -> list[click.Parameter]:
    """Make the options that every verb has: --quiet where there is an answer to be read off the exit status."""
    answers = any("--format" in parameter.opts for parameter in command.params)
    told = "Print errors alone: the exit status is the answer."
    quiet = click.Option(["--quiet", "-q"], is_flag=True, expose_value=False, callback=_quiet, help=told)
    return [*([quiet] if answers else []), no_color_option()]
