"""Write the manual of the command line as the command line itself tells it: man pages, or the verbs' pages of the documentation's site.

    python tools/man_pages.py man FOLDER         FOLDER/vcpuid.1, vcpuid-explain.1, vcpuid-kvm-set.1 …
    python tools/man_pages.py markdown FOLDER    FOLDER/index.md, explain.md, kvm.md (with kvm set and so on) …

Nothing is typed here: names, arguments, options and sentences come from the click commands, so a page cannot fall behind its verb.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from vcpuid.cli import cli
from vcpuid.cli.examples import of
from vcpuid.errors import InputError

EXIT_STATUS = (
    "0 yes, 1 no, 2 usage, 3 bad input, 4 the environment lacks something or the output cannot be written. "
    "A reader that goes before the end, as head does, changes none of them."
)


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
    """Give what --help says of a verb's options: how each is written, what it does."""
    records = (parameter.get_help_record(context) for parameter in context.command.get_params(context))
    return [record for record in records if record is not None and record[1]]


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


def man_page(context: click.Context, release: str) -> str:
    """Lay one verb out as a man page, in the man macros."""
    name = context.command_path.replace(" ", "-")
    summary, *rest = paragraphs(context)
    lines = [
        f'.TH "{groff(name.upper())}" 1 "" "vcpuid {groff(release)}" "vcpuid"',
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
    if examples := of(context):
        lines.append(".SH EXAMPLES")
        for example in examples:
            lines += [".TP", groff(f"{example.about}:"), f".B {groff(example.command)}"]
    lines += [".SH EXIT STATUS", groff(EXIT_STATUS)]
    if context.parent is not None:
        lines += [".SH SEE ALSO", f".BR {groff(context.parent.command_path.replace(' ', '-'))} (1)"]
    return "\n".join(lines) + "\n"


def markdown(context: click.Context, depth: int = 1) -> str:
    """Lay one verb out in Markdown, the verbs below it as its sections."""
    name = context.command_path if depth > 1 or context.parent is None else context.info_name
    summary, *rest = map(plain, paragraphs(context))
    parts = [f"{'#' * depth} {name}", summary, f"```text\n{context.command_path} {usage(context)}\n```", *rest]
    parts += [f"`{written}`\n: {plain(told)}" for written, told in options(context)]
    if examples := of(context):
        parts.append("```text\n" + "\n".join(f"{example.command}   # {example.about}" for example in examples) + "\n```")
    return "\n\n".join([*parts, *(markdown(verb, depth + 1) for verb in verbs(context))])


def index(context: click.Context) -> str:
    """Lay the program itself out in Markdown: what it takes, and its verbs, each with a page."""
    below = verbs(context)
    rows = [f"| [{verb.info_name}]({verb.info_name}.md) | {plain(paragraphs(verb)[0])} |" for verb in below]
    pages = "\n".join(str(verb.info_name) for verb in below)
    return "\n\n".join(
        [
            "# Verbs",
            f"```text\n{context.command_path} {usage(context)}\n```",
            *map(plain, paragraphs(context)[1:]),
            f"Exit status of every verb: {EXIT_STATUS}",
            "\n".join(["| verb | |", "| --- | --- |", *rows]),
            f"```{{toctree}}\n:hidden:\n\n{pages}\n```",
        ]
    )


def plain(text: str) -> str:
    """Escape what Markdown would read as emphasis, HTML or a link."""
    return "".join(f"\\{letter}" if letter in "\\*_<>[]`" else letter for letter in text)


def pages(form: str, release: str = "") -> dict[str, str]:
    """Give each file's name and text; raises InputError for a form that is neither man nor markdown.

    `release` is vcpuid's, which man pages name: that of the installed package where it is not given.
    """
    everything = all_contexts()
    if form == "man":
        return {f"{context.command_path.replace(' ', '-')}.1": man_page(context, release or version("vcpuid")) for context in everything}
    if form == "markdown":
        root = everything[0]
        return {"index.md": index(root) + "\n", **{f"{verb.info_name}.md": markdown(verb) + "\n" for verb in verbs(root)}}
    raise InputError(f"{form!r} is neither man nor markdown")


def main(form: str, folder: Path) -> None:
    """Write the pages; raises InputError as `pages` does."""
    written = pages(form)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
