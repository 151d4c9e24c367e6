"""A fleet's CPU in the form of whoever starts the guests, read back and worked on each member.

Managers of QEMU get the baseline, in their own words (`answers.in_words`); Firecracker a template that it works out of KVM's answers
(`template`), Cloud Hypervisor what its --cpus can settle. What was written is read as its reader does, and the guest that comes of it is
held on every class against the baseline's: what a form cannot hold is told, and so is each class on which the guest is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from vcpuid import releases
from vcpuid.answers.from_words import ManagerStarts, from_words
from vcpuid.answers.in_words import MANAGERS, in_words
from vcpuid.errors import FirecrackerError, InputError, VcpuidError
from vcpuid.fleet import cloud_hypervisor
from vcpuid.fleet.baseline import Baseline
from vcpuid.fleet.members import Census, Group, spoken
from vcpuid.fleet.moves import differences
from vcpuid.fleet.outcome import Table, seen
from vcpuid.fleet.software import eldest
from vcpuid.fleet.template import fitted, shown
from vcpuid.fleet.words import fullest
from vcpuid.formats.firecracker_template import read_template, write_template
from vcpuid.kvm.answers import kvm_says
from vcpuid.libvirt import connect
from vcpuid.path.pipeline import Path, tried
from vcpuid.qemu import KvmHost
from vcpuid.qemu.catalog import catalog
from vcpuid.releases import Release
from vcpuid.setup import Setup
from vcpuid.vmm.firecracker import Firecracker, released
from vcpuid.vmm.known import named

FORMS = (*MANAGERS, "cloud-hypervisor", "firecracker")
"""Whose forms there are."""

_STRICT = frozenset({"qemu", "incus", "lxd"})
"""Managers that let QEMU start a guest without what it asks for, unless they are told to say enforce."""

_NAMED = 3
"""Clusters that are named in a sentence."""

_OPEN = "it depends on what the host does not tell"

_DOMAIN = """<domain type='kvm'><name>guest</name><memory>1</memory><os><type machine='{machine}'>hvm</type></os>{cpu}</domain>"""


@dataclass(frozen=True)
class ReadBack:
    """What came of reading the form on a class: whether the guest is the one that was meant (None: not told), and why not."""

    group: Group
    same: bool | None
    why: str = ""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.group.as_dict(), "same": self.same, "why": self.why}


@dataclass(frozen=True)
class Export:
    """The text, notes on where it belongs, what it cannot hold, and what came of reading it back on each class.

    `alike` tells whether the guest is one CPU on all of them, be it the one that was meant or not; None where it starts on none.
    """

    form: str
    census: Census
    cpu: str | None
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    read_back: tuple[ReadBack, ...] = ()
    alike: bool | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is lost, all members can be read, and the guest is the one that was meant on all."""
        return bool(self.lines) and not self.lost and not self.census.unread and all(one.same for one in self.read_back)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": "vcpuid/fleet-export/1",
            "form": self.form,
            **self.census.as_dict(),
            "cpu": self.cpu,
            "text": "\n".join(self.lines) if self.lines else None,
            "notes": list(self.notes),
            "lost": list(self.lost),
            "alike": self.alike,
            "classes": [one.as_dict() for one in self.read_back],
        }


def export(found: Baseline, form: str, *, libvirt: str | Release | None = None, firecracker: str | Release | None = None) -> Export:
    """Write a baseline in one of FORMS; `libvirt` is the release that reads it for managers which start guests by libvirt.

    Raises InputError for a form or a release that is none.
    """
    if form not in FORMS:
        raise InputError(f"{form[:40]!r} is no form of a fleet's CPU: {', '.join(FORMS)} are")
    if form == "firecracker":
        return _firecracker(found, released(firecracker))
    if form == "cloud-hypervisor":
        return _cloud_hypervisor(found)
    if found.cpu is None:
        return Export(form, found.census, None, (), lost=("no model of QEMU can be made to run on all",))
    asked = f"{found.cpu},enforce=on" if form in _STRICT else found.cpu
    words = in_words(asked, form, catalog(eldest(found.setups).vmm.tables))
    started, release = from_words("\n".join(words.lines), form), releases.libvirt(libvirt)
    back, tables = [], list[Table | str]()
    for group, setup in _classes(found):
        meant = ",".join((found.cpu, *started.added))
        there = _started(started, setup, release)
        tables.append(there)
        full = fullest(setup)
        read = _read_back(group, _guest(meant, setup), there)
        if full is not None and read.same is not _read_back(group, _guest(meant, full), _started(started, full, release)).same:
            read = ReadBack(group, None, _OPEN)
        back.append(read)
    lost = words.lost or tuple(dict.fromkeys(f"the guest is another one: {one.why}" for one in back if one.same is False))
    notes = words.notes if started.xml is None else (*words.notes, *_remark(release))
    if any("vendor=" in what for what in words.lost):
        notes = (*notes, *_apart(found.census))
    return Export(form, found.census, found.cpu, words.lines, notes, lost, tuple(back), _alike(tables))


def _apart(census: Census) -> tuple[str, ...]:
    """Say how hosts of several vendors get a CPU for each vendor; nothing where all are of one."""
    whose = {group.kind.id: group.facts.vendor for group in census.groups}
    vendors: dict[str, list[Group]] = {}
    for group in census.groups:
        vendors.setdefault(group.facts.vendor, []).append(group)
    clusters: dict[str, set[str]] = {}
    for count in census.counts:
        clusters.setdefault(count.cluster, set()).add(whose[count.id])
    if len(vendors) < 2:
        return ()
    if all(name and len(within) == 1 for name, within in clusters.items()):
        named = " and ".join(f"--cluster {name}" for name in [*clusters][:_NAMED])
        return (f"hosts of {len(vendors)} vendors want a CPU for each: export {named}{' and so on' if len(clusters) > _NAMED else ''}",)
    parts = "; ".join(f"{vendor}: {spoken(groups)}" for vendor, groups in vendors.items())
    return (
        f"hosts of {len(vendors)} vendors want a CPU for each: put those of each into clusters of their own, and export each ({parts})",
    )


def _remark(release: Release) -> tuple[str, ...]:
    """Say which tables stand for a release, where it has none."""
    return () if release.remark is None else (release.remark,)


def _alike(tables: Iterable[Table | str]) -> bool | None:
    given = list(tables)
    started = [table for table in given if not isinstance(table, str)]
    return None if not started else len(started) == len(given) and all(table == started[0] for table in started)


def _classes(found: Baseline) -> Iterator[tuple[Group, Setup]]:
    return zip(found.census.cores, found.setups, strict=True)


def _read_back(group: Group, meant: Table | str, there: Table | str) -> ReadBack:
    """Hold the guest that came of a form against the one that was meant; each may be the words with which it is refused."""
    if isinstance(there, str) or isinstance(meant, str):
        return ReadBack(group, False, there if isinstance(there, str) else str(meant))
    return ReadBack(group, meant == there, "; ".join(_summed({one.kind: one.names for one in differences(meant, there)})))


def _started(started: ManagerStarts, setup: Setup, libvirt: Release) -> Table | str:
    """Return the guest that a manager starts, or the words with which its QEMU or libvirt refuses."""
    try:
        asked = started.cpu if started.xml is None else _of_libvirt(started.xml, setup, libvirt)
    except VcpuidError as error:
        return str(error).partition("\n")[0]
    assert asked is not None
    return _guest(asked, setup)


def _of_libvirt(xml: str, setup: Setup, release: Release) -> str:
    """Return the -cpu that libvirt starts for a <cpu>; raises LibvirtError where it refuses."""
    libvirt = connect(setup, release.tables, KvmHost(xcr0=kvm_says(setup).xcr0))
    return libvirt.planned({"do": "argv", "domain": _DOMAIN.format(machine=setup.machine, cpu=xml)}).started


def _guest(cpu: str, setup: Setup) -> Table | str:
    path = tried(cpu, setup, named())
    return seen(path.made.tables[0], path.made.msrs) if isinstance(path, Path) else str(path).partition("\n")[0]


def _certain(read: ReadBack, guest: Callable[[Setup], Table | str], setup: Setup) -> ReadBack:
    """Leave open what would be another guest if the class had all that it does not tell of."""
    full = fullest(setup)
    return read if full is None or guest(full) == guest(setup) else ReadBack(read.group, None, _OPEN)


def _firecracker(found: Baseline, release: Release) -> Export:
    lines = tuple(write_template(fitted(found.setups, release).template))
    custom = Firecracker(custom=read_template("\n".join(lines), "the template"))

    def guest(setup: Setup) -> Table | str:
        return _of_template(custom, replace(setup, vmm=release, smp="1"))

    made = [(group, guest(setup)) for group, setup in _classes(found)]
    tables = [table for _, table in made if not isinstance(table, str)]
    read = [_read_back(group, tables[0] if tables else "", table) for group, table in made]
    back = [_certain(one, guest, setup) for one, setup in zip(read, found.setups, strict=True)]
    lost = [f"not the same on all, since Firecracker takes it from the host: {what}" for what in _unlike(tables)]
    lost += [f"{group.spoken}: Firecracker {release} refuses it: {table}" for group, table in made if isinstance(table, str)]
    notes = (
        f"it is for PUT /cpu-config of Firecracker {release.asked}",
        "the guest gets what KVM gives on all members together, and no model of QEMU's",
        *_remark(release),
    )
    return Export("firecracker", found.census, None, lines, notes, tuple(lost), tuple(back), _alike(table for _, table in made))


def _of_template(custom: Firecracker, setup: Setup) -> Table | str:
    try:
        return shown(custom.make("the fleet's", setup, kvm_says(setup)))
    except FirecrackerError as error:
        return error.message


def _cloud_hypervisor(found: Baseline) -> Export:
    answers = [kvm_says(setup) for setup in found.setups]

    def guest(setup: Setup) -> Table:
        return cloud_hypervisor.finds(cpus, kvm_says(setup))

    widths = [says.raw.registers(0x80000008).eax & 0xFF for says in answers]
    line = str(cloud_hypervisor.CpusOption(max_phys_bits=min(widths), nested=False))
    cpus = cloud_hypervisor.read(line)
    tables = [guest(setup) for setup in found.setups]
    read = [_read_back(group, tables[0], table) for (group, _), table in zip(_classes(found), tables, strict=True)]
    back = [_certain(one, guest, setup) for one, setup in zip(read, found.setups, strict=True)]
    lost = [f"not the same on all, since it has no place in --cpus: {what}" for what in _unlike(tables)]
    notes = (
        "it is for the command line, of Cloud Hypervisor 50 or newer: it has no place for a table, so that a guest finds what its host has",
        "its only profile is host, which it takes by itself; features=amx, the only one, lets a guest have AMX where the host has it",
        *_apart(found.census),
    )
    return Export("cloud-hypervisor", found.census, None, (line,), notes, tuple(lost), tuple(back), _alike(tables))


def _unlike(tables: Iterable[Table]) -> Iterator[str]:
    """Name by kind in what any guest differs from the first."""
    given = list(tables)
    found: dict[str, dict[str, None]] = {}
    for other in given[1:]:
        for one in differences(given[0], other):
            found.setdefault(one.kind, {}).update(dict.fromkeys(name.lstrip("+-") for name in one.names))
    return _summed(found)


def _summed(found: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Say what differs by kind: features by name, and how many registers of other things."""
    for kind, names in found.items():
        features = [name for name in names if " " not in name]
        registers = len({name.split()[0] for name in names if " " in name})
        counted = [f"{registers} register{'s' if registers > 1 else ''}"] if registers else []
        yield f"{kind} ({' '.join((*features, *counted))})"
