"""Write the manual of the command line as the command line itself tells it: `man` pages, or one Markdown page of all verbs.

    python tools/man_pages.py man FOLDER         FOLDER/vcpuid.1, vcpuid-explain.1, vcpuid-kvm-set.1 …
    python tools/man_pages.py markdown FILE

Nothing is typed here: names, arguments, options and sentences come from the click commands, so a page cannot fall behind its verb.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from vcpuid.cli import cli
from vcpuid.errors import InputError

EXIT_STATUS = "0 yes, 1 no, 2 usage, 3 bad input, 4 the environment lacks something."


def contexts(context: click.Context) -> Iterator[click.Context]:
    """Give a command's context, then those of all verbs below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            verb = context.command.get_command(context, name)
            if verb is not None:
                yield from contexts(click.Context(verb, info_name=name, parent=context))


def all_contexts() -> list[click.Context]:
    """Give the contexts of vcpuid and all its verbs."""
    return list(contexts(click.Context(cli, info_name="vcpuid", help_option_names=["-h", "--help"])))


def options(context: click.Context) -> list[tuple[str, str]]:
    """Give a verb's options as --help shows them: how it is written, what it does."""
    records = (parameter.get_help_record(context) for parameter in context.command.get_params(context))
    return [record for record in records if record is not None]


def usage(context: click.Context) -> str:
    """Give the arguments as --help shows them."""
    return " ".join(context.command.collect_usage_pieces(context))


def paragraphs(context: click.Context) -> list[str]:
    """Give the help text; the first paragraph is the summary."""
    return [" ".join(part.split()) for part in (context.command.help or "").split("\n\n")]


def verbs(context: click.Context) -> list[click.Context]:
    """Give the contexts of the verbs right below a group, none for a verb."""
    return [below for below in contexts(context) if below.parent is context]


def groff(text: str) -> str:
    """Escape text: no backslash, hyphen or leading dot may mean anything to groff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\\&" + escaped if escaped.startswith(".") else escaped


def man_page(context: click.Context) -> str:
    """Lay one verb out as a man page, in the man macros."""
    name = context.command_path.replace(" ", "-")
    summary, *rest = paragraphs(context)
    lines = [
        f'.TH "{groff(name.upper())}" 1 "" "vcpuid {groff(version("vcpuid"))}" "vcpuid"',
        *(".SH NAME", f"{groff(name)} \\- {groff(summary)}"),
        *(".SH SYNOPSIS", f".B {groff(context.command_path)}", groff(usage(context))),
        *(".SH DESCRIPTION", groff(summary)),
    ]
    for paragraph in rest:
        lines += [".PP", groff(paragraph)]
    lines.append(".SH OPTIONS")
    for written, told in options(context):
        lines += [".TP", f".B {groff(written)}", groff(told)]
    if below := verbs(context):
        lines.append(".SH VERBS")
        for verb in below:
            lines += [".TP", f".B {groff(verb.command_path.replace(' ', '-'))}(1)", groff(paragraphs(verb)[0])]
    lines += [".SH EXIT STATUS", groff(EXIT_STATUS)]
    if context.parent is not None:
        lines += [".SH SEE ALSO", f".BR {groff(context.parent.command_path.replace(' ', '-'))} (1)"]
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """Lay all verbs out as one Markdown page."""
    parts = ["# Verbs", f"Exit status of every verb: {EXIT_STATUS}"]
    for context in all_contexts():
        parts += [f"## {context.command_path}", f"    {context.command_path} {usage(context)}", *map(plain, paragraphs(context))]
        parts.append("\n".join(f"- `{written}`: {plain(told)}" for written, told in options(context)))
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Escape what Markdown would read as emphasis, HTML or a link."""
    return "".join(f"\\{letter}" if letter in "\\*_<>[]`" else letter for letter in text)


def main(form: str, target: Path) -> None:
    """Write the pages; raises InputError for a form that is neither man nor markdown."""
    if form == "man":
        target.mkdir(parents=True, exist_ok=True)
        for context in all_contexts():
            (target / f"{context.command_path.replace(' ', '-')}.1").write_text(man_page(context), encoding="utf-8")
    elif form == "markdown":
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(markdown(), encoding="utf-8")
    else:
        raise InputError(f"{form!r} is neither man nor markdown")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
