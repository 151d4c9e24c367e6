"""How verbs ask a libvirt: HOST, the options that name the software, its answers and refusals as virsh prints them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from vcpuid.cli.domain import kvm_host, libvirt_option, named, release_of
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import Asked, print_warnings, read_host, stack_options
from vcpuid.cli.streams import repeat
from vcpuid.errors import LibvirtError
from vcpuid.setup import Setup, overruled

if TYPE_CHECKING:
    from vcpuid.libvirt import Libvirt
    from vcpuid.qemu import KvmHost
    from vcpuid.releases import Release
    from vcpuid.told.facts import NotTold

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Asking:
    """A libvirt that is asked. `remarks` are what is to be said besides; with each answer there may come more.

    Those in `said` were printed for another libvirt before. `not_told` is what of the answers hangs on what the host does not tell.
    """

    release: Release
    setup: Setup
    kvm: KvmHost
    said: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)
    not_told: list[NotTold] = field(default_factory=list)

    @classmethod
    def on(cls, source: str | None, release: str | None, asked: Asked, said: Sequence[str] = ()) -> Asking:
        """Find the libvirt of a host."""
        host = read_host(source)
        setup, chosen = asked.setup(host), release_of(release)
        made = cls(chosen, setup, kvm_host(host, setup), tuple(said))
        made.remark(*setup.remarks, *overruled(setup), *([chosen.remark] if chosen.remark else []))
        return made

    @property
    def libvirt(self) -> Libvirt:
        """The libvirt itself."""
        return self.over(self.setup)

    def over(self, setup: Setup) -> Libvirt:
        """Return the same libvirt on another setup."""
        from vcpuid.libvirt import connect

        return connect(setup, self.release.tables, self.kvm)

    def remark(self, *remarks: str) -> None:
        """Say something besides the answer."""
        print_warnings(remark for remark in remarks if remark not in self.said)
        self.remarks.extend(remarks)

    def doubt(self, what: str, answer: Callable[[Libvirt], object]) -> None:
        """Say of an answer that it hangs on what the host does not tell, or which lines of it do, where any does."""
        from vcpuid.told.doubt import doubts
        from vcpuid.told.facts import NotTold, grouped, sentences

        found = doubts(self.setup, lambda setup: _settled(what, answer, self.over(setup)))
        if found and found.keys() >= _settled(what, answer, self.libvirt).keys():  # all of it, so that no line need be named
            found = {what: tuple(dict.fromkeys(fact for facts in found.values() for fact in facts))}
        open_ = [NotTold(name, facts) for name, facts in found.items()]
        self.not_told.extend(open_)
        self.remark(*sentences(NotTold(_first(what, names), facts) for facts, names in grouped(open_).items()))

    def begun(self, verb: str) -> dict[str, object]:
        """Begin a document for programs."""
        from vcpuid.libvirt import report

        return report.begun(verb, self.release, self.setup, self.remarks, [found.as_dict() for found in self.not_told])


_MOST = 6
"""As many lines are named to people, of those that depend on the same."""


def _first(what: str, names: Sequence[str]) -> str:
    """Name the first of some lines of an answer."""
    if list(names) == [what]:
        return what
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"in {what} {', '.join(names[:_MOST])}{more}"


def _settled(what: str, answer: Callable[[Libvirt], object], libvirt: Libvirt) -> dict[str, object]:
    """Give an answer part by part; a refusal is one answer."""
    from vcpuid.libvirt import report

    try:
        return report.parts(what, answer(libvirt))
    except LibvirtError as error:
        return {what: error.message}


def libvirt_options(command: F) -> F:
    """Add HOST, the release, and the options that name the software; they reach the verb as one argument `asking`, beside `form`."""

    @libvirt_option
    @stack_options("smp", "globals")
    @format_option
    @functools.wraps(command)
    def wrapped(*args: Any, source: str | None, libvirt_release: str | None, asked: Asked, **kwargs: Any) -> Any:
        return command(*args, asking=Asking.on(source, libvirt_release, asked), **kwargs)

    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the look of the command, not its type


def answered(asking: Asking, request: dict[str, Any], file: str = "") -> tuple[dict[str, Any] | None, LibvirtError | None]:
    """Ask, and print libvirt's refusal as virsh does; errors about XML name the file."""
    from vcpuid.libvirt import virsh

    try:
        with named(file):
            answer = asking.libvirt.answer(request)
            asking.doubt("libvirt's answer", lambda other: other.answer(request))
            return answer, None
    except LibvirtError as error:
        asking.doubt("libvirt's refusal", lambda other: other.answer(request))
        repeat(line for text in virsh.errors(str(request["do"]), error.message, file) for line in text.splitlines())
        return None, error


def finish(sheet: Sheet, form: str, text: Sequence[str], *, good: bool) -> None:
    """Print an answer, for people as virsh does, and end with 1 where virsh would."""
    if form in ("table", "lines"):
        print("".join(f"{line}\n" for line in text), end="")
    else:
        emit(sheet, form)
    if not good:
        sys.exit(1)
