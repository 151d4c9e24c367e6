"""vcpuid names: one feature, many spellings."""

from __future__ import annotations

from collections.abc import Iterator

import click

from vcpuid.cli import choices
from vcpuid.cli.examples import lacking
from vcpuid.cli.layout import folded
from vcpuid.cli.output import Sheet, emit, format_option, width
from vcpuid.cli.setup import print_warnings
from vcpuid.cpuid.features import Feature
from vcpuid.errors import InputError
from vcpuid.releases import KERNELS, QEMUS

COLUMNS = ["name", "place", "symbol", "cpuinfo", "property", "libvirt"]
TITLES = {"symbol": "linux", "property": "qemu"}
WIDTH = 100
"""Letters of a line of remarks."""
CARDS = 3
"""More features than this are listed a line each instead of a card each."""


@click.command(name="names")
@click.argument("texts", metavar="NAME...", nargs=-1, shell_complete=choices.features_or_words)
@click.option("--all", "everything", is_flag=True, help="List every feature of the table.")
@click.option(
    "--kernel", default=KERNELS[-1], show_default=True, metavar="RELEASE", shell_complete=choices.kernels,
    help="The kernel whose headers the remarks are about.",
)  # fmt: skip
@format_option
def command(texts: tuple[str, ...], everything: bool, kernel: str, form: str) -> None:
    """Show all spellings of a feature, or all features of a word.

    NAME is any spelling: avx2, X86_FEATURE_SPEC_CTRL, arch-capabilities, 7.0.ebx.5; a word: 7.0.ebx, CPUID_7_EDX, CPUID_LNX_4,
    FEAT_7_0_EBX; or a line of a log, or a list of names, '-' on standard input.

    A name that several features share gives them all, the likeliest first. An unknown one is
    answered with names near to it, and exit status 3.
    """
    from vcpuid.cli.spelled import unparted
    from vcpuid.cpuid.card import report
    from vcpuid.cpuid.names import all_features
    from vcpuid.cpuid.notes import notes
    from vcpuid.releases import linux

    if bool(texts) == everything:
        raise lacking("give a NAME, or --all")
    release = linux(kernel)
    print_warnings(() if release.remark is None else (release.remark,))
    tables = release.tables
    found = all_features() if everything else tuple(dict.fromkeys(f for text in unparted(texts) for f in _meant(text, tables)))
    if form == "table" and len(found) <= CARDS:
        columns = min(width() or WIDTH, WIDTH)
        for number, feature in enumerate(found):
            if number:
                print()
            rows: list[dict[str, object]] = [{"what": what, "spelled": spelled} for what, spelled in _card(feature)]
            remarks = (line for note in notes(feature, tables) for line in folded(note.text, columns))
            emit(Sheet(["what", "spelled"], rows, foot=["", *remarks]), form)
    else:
        data = report(found, release) if form == "json" else None
        emit(Sheet(COLUMNS, [_row(feature) for feature in found], data, titles=TITLES), form)


def _meant(text: str, tables: str) -> tuple[Feature, ...]:
    from vcpuid.cli.spelled import features
    from vcpuid.cpuid.card import look_up

    try:
        return look_up(text, tables)
    except InputError:
        return features([text])


def _row(feature: Feature) -> dict[str, object]:
    values = (feature.name, str(feature.place), feature.linux, feature.cpuinfo, feature.qemu, feature.libvirt)
    return dict(zip(COLUMNS, values, strict=True))


def _card(feature: Feature) -> Iterator[tuple[str, object]]:
    yield "name", feature.name
    yield "place", str(feature.place)
    if feature.description:
        yield "meaning", feature.description
    for linux in feature.linux_names:
        number = "" if linux.number is None else f" ({linux.number // 32}*32+{linux.number % 32})"
        yield f"Linux {_spans(linux.kernels, KERNELS)}", linux.symbol + number
        yield "/proc/cpuinfo", linux.cpuinfo or "hidden"
    for qemu in feature.qemu_names:
        yield f"QEMU {_spans(qemu.releases, QEMUS)}", " ".join((qemu.name, *qemu.aliases))
    if feature.libvirt:
        yield "libvirt", feature.libvirt
    if feature.manual:
        yield "manuals", feature.manual
    if feature.others:
        yield "others", " ".join(feature.others)


def _spans(releases: tuple[str, ...], known: tuple[str, ...]) -> str:
    """Say which releases these are of all that are known: first and last of each row without a gap."""
    found: list[list[str]] = []
    for release in releases:
        if found and known.index(release) == known.index(found[-1][-1]) + 1:
            found[-1].append(release)
        else:
            found.append([release])
    return ", ".join(row[0] if len(row) == 1 else f"{row[0]} to {row[-1]}" for row in found)
