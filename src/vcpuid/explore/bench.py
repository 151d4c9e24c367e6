"""What somebody asks of a live page, worked out by the functions that the verbs call: a path, its parts, a file to read, an error.

A page asks by a route and a body; the answer is a document, or a VcpuidError. It makes no difference whether a server carries them, or a
Python within the browser itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from vcpuid.answers.certainty import followed
from vcpuid.answers.order import Order, order
from vcpuid.answers.ordered import judged
from vcpuid.answers.starting import remarked
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import Snapshot
from vcpuid.diagnosis import diagnose
from vcpuid.errors import InputError, QemuError, VcpuidError, bounded
from vcpuid.explore import data
from vcpuid.explore.pack import pack
from vcpuid.explore.subject import Subject
from vcpuid.formats import identify
from vcpuid.formats.documents import parse_json
from vcpuid.formats.files import text_of
from vcpuid.kvm.answers import kvm_says
from vcpuid.kvm.effect import advised
from vcpuid.libvirt.request import start
from vcpuid.params import given
from vcpuid.path.probing import Probe
from vcpuid.qemu import KvmHost
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.startup import RunningKvm
from vcpuid.releases import KERNELS, LIBVIRTS, QEMUS, libvirt
from vcpuid.setup import Setup, Stack
from vcpuid.sources import Dump

_HOSTS = 64
"""Hosts that are kept at a time; one more takes the place of the oldest that was dropped on the page."""
_SUBJECTS = 8
"""Paths that are kept, since their parts are asked for one by one."""
_DOMAIN = re.compile(r"<domain[\s>]")


def _told(setup: Setup) -> KvmHost:
    return KvmHost(xcr0=kvm_says(setup).xcr0)


@dataclass(frozen=True)
class HostAtHand:
    """A host that can be asked about. `options` are those by which the command line reads it.

    What runs here has a `probe` and a `trial` of its own KVM, as for the verbs, the running `kernel` and the installed `qemu` where the
    snapshot names none, and `kvm` says what libvirt and QEMU ask of KVM besides CPUID.
    """

    snapshot: Snapshot
    options: tuple[str, ...] = ()
    kernel: str | None = None
    qemu: str | None = None
    probe: Probe | None = None
    trial: Callable[[Setup], RunningKvm | None] = lambda _: None
    kvm: Callable[[Setup], KvmHost] = _told


@dataclass(frozen=True)
class PathAsked:
    """What the page's form asks for; what is empty is left to the host, or to the newest."""

    host: str = ""
    cpu: str = ""
    kernel: str = ""
    qemu: str = ""
    machine: str = ""
    smp: str = ""
    params: tuple[str, ...] = ()
    what_if: bool = False
    domain: str = ""
    libvirt: str = ""

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> PathAsked:
        """Take it out of a request; raises InputError for what is none."""
        told: dict[str, Any] = {}
        for one in fields(cls):
            name, usual = one.name, one.default
            value = body.get(name, usual)
            if isinstance(usual, tuple) and isinstance(value, list) and all(isinstance(text, str) for text in value):
                value = tuple(value)
            if type(value) is not type(usual):
                raise InputError(f"{name} of the request is no {type(usual).__name__}")
            told[name] = value
        return cls(**told)

    def as_dict(self) -> dict[str, object]:
        """For JSON: what is not empty."""
        told = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items() if value}

    def options(self) -> tuple[str, ...]:
        """Spell it as options of the command line, but for the host; the domain is a file there."""
        named = {"--cpu": self.cpu, "--kernel": self.kernel, "--qemu": self.qemu, "--machine": self.machine, "--smp": self.smp}
        if self.domain:
            named = {
                "--domain": "DOMAIN.xml",
                "--libvirt": self.libvirt,
                "--kernel": self.kernel,
                "--qemu": self.qemu,
                "--machine": self.machine,
            }
        told = [part for option, value in named.items() if value for part in (option, value)]
        return (*told, *(part for text in self.params for part in ("--param", text)), *(["--what-if"] if self.what_if else []))


@dataclass
class Bench:
    """The hosts, and the paths that were asked for.

    `first` is what the page shows before anything is asked of it, `wanted` how its form spells that.
    """

    hosts: dict[str, HostAtHand]
    first: Subject | None = None
    wanted: PathAsked = PathAsked()
    _kept: dict[PathAsked, Subject] = field(default_factory=dict)
    _dropped: list[str] = field(default_factory=list)

    def answer(self, route: str, body: bytes, name: str = "") -> dict[str, Any]:
        """Answer a request, packed; `name` is what somebody calls the file that the body is.

        Raises InputError for a route or a body that is none, and what the answers raise.
        """
        if route == "read":
            return pack(self.read(body, name or "the text"))
        if route not in self.routes:
            raise InputError(f"{route[:40]!r} is nothing that can be asked for")
        said = parse_json(text_of(body, "the request"), "the request")
        if len(said) != 1 or not isinstance(said[0], dict):
            raise InputError("it is no object of JSON", source="the request")
        try:
            json.dumps(said[0], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError("half a character is in it, which no file could hold", source="the request") from None
        return pack(self.routes[route](said[0]))

    @property
    def routes(self) -> dict[str, Callable[[dict[str, Any]], object]]:
        """What can be asked for in JSON."""
        parts = {name: self._part(name) for name in data.PARTS}
        return {"begin": self.begin, "path": self.path, "diagnose": self.diagnose, **parts}

    def begin(self, _: Mapping[str, Any]) -> dict[str, object]:
        """Give what the page needs before it asks for a path: names, and what can be chosen."""
        known = catalog(QEMUS[-1])
        models = sorted((*known.models, *known.model_aliases), key=str.lower)
        choices = {"qemu": QEMUS[::-1], "kernel": KERNELS[::-1], "libvirt": LIBVIRTS[::-1], "models": ["host", "max", *models]}
        return {"schema": data.SCHEMA, "names": data.names(), "choices": choices, "hosts": [*self.hosts]}

    def path(self, body: Mapping[str, Any]) -> dict[str, object]:
        """Give a subject's path; an empty request means the first subject."""
        wanted = PathAsked.read(body)
        asked = self.wanted if wanted == PathAsked() else wanted
        return {"asked": asked.as_dict(), **data.first(self.subject(wanted))}

    def _part(self, name: str) -> Callable[[Mapping[str, Any]], object]:
        return lambda body: data.PARTS[name](self.subject(PathAsked.read(body)))

    def subject(self, wanted: PathAsked) -> Subject:
        """Work a path out. Raises what the answers raise; a refusal of QEMU's has the -cpu that would run as its hint."""
        if wanted in (PathAsked(), self.wanted) and self.first is not None:
            return self.first
        if wanted not in self._kept:
            while len(self._kept) >= _SUBJECTS:
                self._kept.pop(next(iter(self._kept)))
            self._kept[wanted] = self._worked_out(wanted)
        return self._kept[wanted]

    def _worked_out(self, wanted: PathAsked) -> Subject:
        host, setup = self._setup(wanted)
        cpu, found = wanted.cpu or "host", None
        if wanted.domain:
            cpu, setup, found = _ordered(wanted, setup, host)
        try:
            path = remarked(followed(cpu, host=setup, probe=host.probe), host.trial(setup))
        except QemuError as refusal:
            runs = verdict(cpu, setup).proposal
            raise QemuError(str(refusal), refusal.warnings, f"-cpu {runs} would run" if runs else refusal.hint) from None
        name = self._name(wanted)
        return Subject(name, path, None if found is None else judged(found, path), (*wanted.options(), *host.options))

    def _name(self, wanted: PathAsked) -> str:
        name = wanted.host or next(iter(self.hosts), "")
        if name not in self.hosts:
            raise InputError(
                f"there is no host {name[:80]!r}: read one first" if name else "there is no host: read a dump or a snapshot first"
            )
        return name

    def _setup(self, wanted: PathAsked) -> tuple[HostAtHand, Setup]:
        host = self.hosts[self._name(wanted)]
        kernel = wanted.kernel or (None if host.snapshot.kernel else host.kernel)
        qemu = wanted.qemu or (None if host.snapshot.qemu else host.qemu)
        stack = Stack(kernel, qemu, wanted.machine or "q35", wanted.smp or "1", given(wanted.params), wanted.what_if)
        return host, advised(Setup.of(host.snapshot, stack))

    def read(self, body: bytes, name: str) -> dict[str, object]:
        """Read what somebody dropped: a host's dump or snapshot, which can be asked about from then on; a domain's XML; an error text."""
        text = text_of(body, name, colours=True)
        if _DOMAIN.search(text):
            return {"kind": "domain", "text": text}
        try:
            form, cpus = identify(text, name)
        except InputError as unknown:
            try:
                known = diagnose(text).recognised
            except InputError:
                known = False
            if not known:
                raise unknown from None
            return {"kind": "text", "text": text}
        dump = Dump(cpus, None, noted="notes" not in form.holds)
        return {"kind": "host", "host": self._keep(name, dump.first), "form": form.title, "remarks": dump.remarks()}

    def _keep(self, name: str, snapshot: Snapshot) -> str:
        """Put a host on the bench and return what it is called: another of the name has a number behind it."""
        known = next((key for key in self.hosts if self.hosts[key].snapshot == snapshot), None)
        if known is not None:
            return known
        called, number = name, 2
        while called in self.hosts:
            called, number = f"{name} ({number})", number + 1
        while len(self._dropped) >= _HOSTS:
            self.hosts.pop(self._dropped.pop(0))
            self._kept.clear()  # which are called by their hosts' names
        self.hosts[called] = HostAtHand(snapshot, ("--host", name))
        self._dropped.append(called)
        return called

    def diagnose(self, body: Mapping[str, Any]) -> dict[str, object]:
        """Say what an error text means, on the host that the page shows where there is one."""
        text = body.get("text")
        if not isinstance(text, str):
            raise InputError("text of the request is no str")
        wanted = PathAsked.read({name: value for name, value in body.items() if name != "text"})
        if not self.hosts:
            return diagnose(text).as_dict()
        _, setup = self._setup(wanted if wanted != PathAsked() else replace(self.wanted, domain=""))
        return diagnose(text, setup, wanted.cpu or None).as_dict()


def _ordered(wanted: PathAsked, setup: Setup, host: HostAtHand) -> tuple[str, Setup, Order]:
    """Lead from a domain to QEMU's -cpu."""
    release = libvirt(wanted.libvirt or None)
    found = order(start(wanted.domain), setup, release, host.kvm(setup))
    if found.planned.domain.virt != "kvm":
        raise InputError(f"a domain of type {found.planned.domain.virt}, whose CPU no KVM makes")
    started = found.on(setup)
    said = [remark for remark in (release.remark, found.objection) if remark is not None]
    return found.argument, replace(started, remarks=(*started.remarks, *said, *found.remarks())), found


def told(error: VcpuidError) -> dict[str, object]:
    """Put an error into words for the page."""
    hint = getattr(error, "hint", None)
    return {"error": bounded(f"{error} ({hint})" if hint else str(error)), "status": error.exit_status}
