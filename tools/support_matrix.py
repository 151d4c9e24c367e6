"""Write the support matrix of a conformance run: kernels × QEMUs × vendors × how verified.

    pytest --figures=FIGURES.json
    python tools/support_matrix.py FIGURES.json PAGE.md

Releases are those of vcpuid.releases, all of them, captured or not; what exactly they are tables of is those tables' own "source".
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from figures import HOW, PARTIES, Figure, listed, name_of, of_groups, read_figures, table, told, totals
from vcpuid import data
from vcpuid.cpuid.vendors import LINUX_KINDS as KNOWN_TO_LINUX
from vcpuid.errors import InputError
from vcpuid.releases import KERNELS, QEMUS

KERNEL_PARTIES, QEMU_PARTIES, LIVE_PARTIES = of_groups(["Linux", "KVM"]), of_groups(["QEMU"]), of_groups(["live"])
SOURCES_ONLY = "sources only"
_HOW_KNOWN = {"program": "asked of", "source": "read off"}
"""How the tables of a QEMU are known (`vcpuid.qemu.catalog.Catalog.known`)."""

INTRODUCTION = """# Support matrix

*Is my kernel, my QEMU, my processor's vendor covered, and how do you know?*

- *24 of 24*: so many answers of the real thing were compared, so many of ours were equal to the last bit. Fewer than all stand in bold.
- *skipped*: not compared, though there is something to compare.
- *sources only*: there are tables and rules of that release, read off its sources; nothing real was compared.
- A dash: nothing was compared.

The figures are those of a conformance run, from which this page was written; [what the columns mean](#how-each-is-verified) is told below.
A kernel or QEMU between those named is answered by the nearest older one's tables, and vcpuid says so."""

STANDING = (
    "Kernels on real silicon: the processors of the kernel captures were emulated, AMD's and Hygon's by QEMU, Intel's by Bochs. How far "
    "vcpuid agrees with what KVM and QEMU told on real machines is told in [What vcpuid is held against](../conformance.md), difference by "
    "difference.",
    "Other builds: patches and configurations of distributions other than Debian may differ. `vcpuid kvm supported --check` compares the "
    "KVM that runs on a machine with its release's model.",
)


def page(figures: list[Figure]) -> str:
    """Lay out the whole page."""
    sections = (kernels, qemus, vendors, live, verified, uncovered)
    return "\n\n".join([INTRODUCTION, *(section(figures) for section in sections)]) + "\n"


def of(figures: Iterable[Figure], parties: Iterable[str]) -> list[Figure]:
    """Select the figures of some parties."""
    wanted = set(parties)
    return [figure for figure in figures if figure.party in wanted]


def cells(figures: Iterable[Figure], place: Callable[[Figure], tuple[str | None, ...]]) -> dict[tuple[str | None, ...], list[Figure]]:
    """Put each figure into its place of a table."""
    found: dict[tuple[str | None, ...], list[Figure]] = defaultdict(list)
    for figure in figures:
        found[place(figure)].append(figure)
    return found


def makers(figures: Iterable[Figure]) -> list[str]:
    """Name the vendors in these figures, that with the most comparisons first."""
    counts: dict[str, int] = defaultdict(int)
    for figure in figures:
        if figure.maker is not None:
            counts[figure.maker] += figure.tried
    return sorted(counts, key=lambda vendor: (-counts[vendor], vendor))


def release_of(kind: str, release: str) -> str:
    """Give the exact release that a table was read off: `Linux 6.12.107`."""
    return str(data.load(f"{kind}-{release}")["source"]).partition(",")[0]


def verified_with(parties: list[str]) -> str:
    """Say what these parties are held against."""
    by_how: dict[str, list[str]] = defaultdict(list)
    for party in parties:
        by_how[HOW[PARTIES[party].how]].append(party)
    return "\n".join(f"- {listed(those)}: held against {how}" for how, those in by_how.items())


def kernels(figures: list[Figure]) -> str:
    """Lay out kernels × vendors, a column for each party of the host's kernel."""
    measured = of(figures, KERNEL_PARTIES)
    found = cells(measured, lambda figure: (figure.linux, figure.maker, figure.party))
    rows = [
        [release, vendor, *(told(found.get((release, vendor, party), []), SOURCES_ONLY) for party in KERNEL_PARTIES)]
        for release in KERNELS
        for vendor in makers(measured) or ["any"]
    ]
    lines = []
    for release in KERNELS:
        builds = sorted({f"`{figure.kernel}`" for figure in measured if figure.linux == release})
        captured = f"captured on {listed(builds)}" if builds else "not captured"
        lines.append(f"- {release}: tables read off {release_of('linux', release)}; {captured}")
    heads = ["Linux", "vendor", *KERNEL_PARTIES]
    return "\n\n".join(["## Kernels", verified_with(KERNEL_PARTIES), table(heads, rows), "\n".join(lines)])


def qemus(figures: list[Figure]) -> str:
    """Lay out QEMUs × vendors of the host, then QEMUs × kernels of the host."""
    measured = of(figures, QEMU_PARTIES)
    found = cells(measured, lambda figure: (figure.qemu, figure.maker, figure.party))
    by_vendor = [
        [release, vendor, *(told(found.get((release, vendor, party), [])) for party in QEMU_PARTIES)]
        for release in QEMUS
        for vendor in makers(measured) or ["any"]
    ]
    together = cells(measured, lambda figure: (figure.qemu, figure.linux))
    by_kernel = [[release, *(told(together.get((release, kernel), [])) for kernel in KERNELS)] for release in QEMUS]
    return "\n\n".join(
        [
            "## QEMUs",
            verified_with(QEMU_PARTIES),
            "By the vendor of the host that QEMU saw:",
            table(["QEMU", "vendor", *QEMU_PARTIES], by_vendor),
            "All of these together, by the host's kernel, whose KVM's answers QEMU saw:",
            table(["QEMU", *(f"Linux {kernel}" for kernel in KERNELS)], by_kernel),
            "\n".join(
                f"- {release}: tables {_HOW_KNOWN[data.load(f'qemu-{release}')['known']]} {release_of('qemu', release)}"
                for release in QEMUS
            ),
        ]
    )


def vendors(figures: list[Figure]) -> str:
    """Lay out every vendor × the parts of the path."""
    groups = list(dict.fromkeys(party.group for party in PARTIES.values() if party.how != "live"))
    measured = [figure for figure in of(figures, of_groups(groups)) if figure.tried]
    found = cells(measured, lambda figure: (figure.maker, PARTIES[figure.party].group))
    rows = [[vendor or "none told", *(told(found.get((vendor, group), [])) for group in groups)] for vendor in [*makers(measured), None]]
    return "\n\n".join(["## Vendors", table(["vendor (leaf 0)", *groups], rows)])


def live(figures: list[Figure]) -> str:
    """Lay out what the machine of the run itself answered."""
    measured = of(figures, LIVE_PARTIES)
    machine = [
        *(f"Linux {release}" for release in sorted({figure.kernel for figure in measured if figure.kernel})),
        *(f"QEMU {release}" for release in sorted({figure.qemu for figure in measured if figure.qemu})),
        *(f"a processor of {vendor}" for vendor in makers(measured)),
    ]
    told_of = f"This run's machine had {listed(machine)}." if machine else "This run asked no running kernel and no running QEMU."
    rows = [[party, told(of(measured, [party]), "not run")] for party in LIVE_PARTIES]
    return "\n\n".join(["## Live", told_of, table(["party", "exact"], rows)])


def verified(figures: list[Figure]) -> str:
    """Lay out every party: what is compared, how it is verified, by which test."""
    rows = [[party, row.what, HOW[row.how], *totals(figures, party)] for party, row in PARTIES.items()]
    return "\n\n".join(["## How each is verified", table(["party", "what is compared", "with", "exact", "in tests/"], rows)])


def uncovered(figures: list[Figure]) -> str:
    """Say what no figure above covers."""
    tried = [figure for figure in figures if figure.tried]
    host, qemu = of(tried, KERNEL_PARTIES), of(tried, QEMU_PARTIES)
    lines: list[str] = []
    for release in KERNELS:
        lines += gaps(f"Linux {release}", KERNEL_PARTIES, makers(host), [figure for figure in host if figure.linux == release])
    for release in QEMUS:
        lines += gaps(f"QEMU {release}", QEMU_PARTIES, makers(qemu), [figure for figure in qemu if figure.qemu == release])
    if strangers := [vendor for vendor in map(name_of, KNOWN_TO_LINUX) if vendor not in makers(host)]:
        lines.append(f"Processors of {listed(strangers)}: what kernels do there rests on the sources.")
    if idle := [party for party in PARTIES if not of(tried, [party])]:
        lines.append(f"Not tried in this run, which lacked what it takes: {listed(idle)}.")
    return "\n\n".join(["## What no capture covers", "\n".join(f"- {line}" for line in [*lines, *STANDING])])


def gaps(what: str, parties: list[str], vendors: list[str], found: list[Figure]) -> Iterator[str]:
    """Say of one release which parties no figure covers, and which of these vendors lack where others were captured."""
    if not found:
        yield f"{what}: nothing was captured; all of it rests on the sources."
        return
    if missing := [party for party in parties if not of(found, [party])]:
        yield f"{what}: no capture of {listed(missing)}; these rest on the sources."
    by_vendors: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for party in (party for party in parties if party not in missing):
        by_vendors[tuple(vendor for vendor in vendors if vendor not in makers(of(found, [party])))].append(party)
    for lacking, those in by_vendors.items():
        if lacking:
            yield f"{what} on {listed(lacking)}: no capture of {listed(those)}."


def main(source: Path, target: Path) -> None:
    """Write the page; raises InputError for figures that are none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(read_figures(source)), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except InputError as error:
        sys.exit(str(error))
