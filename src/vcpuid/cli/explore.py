"""vcpuid explore: the whole path on a page, served to a browser of this machine or saved as a file."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from vcpuid.cli import choices, streams
from vcpuid.cli.demands import demand
from vcpuid.cli.domain import AskedCpu, domain_options, kvm_host, read_file
from vcpuid.cli.drift import named_stack, one_cpu_after
from vcpuid.cli.setup import Asked, cpu_option, host_argument, print_warnings, probe_for, read_host, stack_options, trial_for
from vcpuid.cli.vmm import AskedGuest, vmm_options
from vcpuid.errors import UnavailableError

if TYPE_CHECKING:
    from vcpuid.cli.setup import Host
    from vcpuid.explore import bench
    from vcpuid.explore.server import Server
    from vcpuid.explore.subject import Subject

_EXPLAINS = ("cpu", "domain", "libvirt_release", "vmm", "template", "table_source", "recording", "no_probe", *Asked.__dataclass_fields__)
"""Parameters that `vcpuid explain` has too."""


@click.command(name="explore")
@host_argument
@click.option(
    "--to",
    "after",
    metavar="STACK",
    default="",
    shell_complete=choices.stacks,
    help="Compare with this software: a STACK as in drift.",
)
@click.option("--to-host", metavar="HOST", shell_complete=choices.hosts, help="Compare with this host.")
@click.option("--to-cpu", metavar="CPU", shell_complete=choices.cpus, help="Compare with this CPU.")
@click.option("--to-domain", metavar="FILE", type=click.Path(), help="The same, as the XML of a libvirt domain.")
@cpu_option
@domain_options
@vmm_options
@click.option("--no-probe", is_flag=True, help="Model what a vCPU keeps of the table; do not ask this machine's KVM.")
@stack_options()
@click.option(
    "--save",
    "path",
    metavar="FILE",
    type=click.Path(),
    help="Write the page as one self-contained file, gzipped where its name ends in .gz.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the loopback address to serve at.  [default: a free one]")
@click.option("--no-browser", is_flag=True, help="Print the page's address, and open no browser.")
@demand(one_cpu_after)
def command(
    source: str | None, after: str, to_host: str | None, to_cpu: str | None, to_domain: str | None, guest: AskedGuest, no_probe: bool,
    asked: Asked, path: str | None, port: int, no_browser: bool,
) -> None:  # fmt: skip
    """Show the whole path on a page in a browser, or save it.

    The page shows every bit through all layers. It is served to this machine alone, until Ctrl-C, and its address has a secret in it. Host,
    CPU and software can be changed there, and dumps, domain XML and error texts dropped onto it. With --save, it is a file that loads
    nothing and needs no server. With --to, --to-host, --to-cpu or --to-domain it compares two paths; what these do not name is the same.
    """
    host = guest.host(source)
    named = {"host": source} if source is not None else {}
    sides = [(host, guest, asked, {**_typed(), **named})]
    if after or to_host or to_cpu or to_domain:
        sides.append(_other(sides[0], after, to_host, to_cpu, to_domain))
    names = _called([options for *_, options in sides])
    subjects = [_subject(name, *side, no_probe=no_probe) for name, side in zip(names, sides, strict=True)]
    print_warnings(dict.fromkeys(remark for subject in subjects for remark in subject.path.remarks))
    if path is not None:
        _save(path, subjects)
        return
    from vcpuid.explore.server import Server

    wanted = [_wanted(name, side) for name, side in zip(names, sides, strict=True)]
    with Server(_bench(subjects, sides, wanted[0], no_probe=no_probe), port) as server:
        _serve(server, _fragment(wanted[1:]), no_browser)


Options = dict[str, Any]
Side = tuple["Host", AskedGuest, Asked, Options]


def _typed() -> Options:
    """Give what was typed of the options that explain has too, by the names of their parameters."""
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    raw = {name: value for name, value in context.params.items() if name in _EXPLAINS}
    return {name: value for name, value in raw.items() if context.get_parameter_source(name) is typed}


def _spelled(options: Options) -> tuple[str, ...]:
    """Spell options for the command line."""
    context = click.get_current_context()
    names = {one.name: one.opts[0] for one in context.command.params} | {"host": "--host"}
    told: list[str] = []
    for name, value in options.items():
        for each in value if isinstance(value, tuple) else (value,):
            told += [names[name]] if each is True else [names[name], str(each)]
    return tuple(told)


def _other(first: Side, after: str, to_host: str | None, to_cpu: str | None, to_domain: str | None) -> Side:
    """Put what the other side names in place of what the first one has."""
    host, guest, asked, options = first
    chosen, release = named_stack(asked, "--to", after)
    chosen = replace(chosen, kernel=chosen.kernel or asked.kernel, qemu=chosen.qemu or asked.qemu, what_if=asked.what_if or chosen.what_if)
    options = dict(options)
    if to_host is not None:
        host, options["host"] = read_host(to_host), to_host
    cpu = guest.asked
    if to_cpu is not None or to_domain is not None or release is not None:
        if not isinstance(cpu, AskedCpu):
            raise click.UsageError("--to-cpu, --to-domain and libvirt= are for guests of QEMU")
        release = release or cpu.release
        cpu = AskedCpu("host", to_domain, release) if to_domain else AskedCpu(to_cpu) if to_cpu else replace(cpu, release=release)
        options = {name: value for name, value in options.items() if name not in ("cpu", "domain", "libvirt_release")}
        options |= {"cpu": cpu.cpu} if cpu.domain is None else {"domain": cpu.domain, **({"libvirt_release": release} if release else {})}
    for name in ("kernel", "qemu", "machine"):
        if getattr(chosen, name) != getattr(asked, name):
            options[name] = getattr(chosen, name)
    if chosen.params != asked.params:
        options |= {"params": tuple(f"{name}={value}" for name, value in chosen.params.items()), "what_if": True}
    return host, replace(guest, asked=cpu), chosen, options


def _subject(name: str, host: Host, guest: AskedGuest, asked: Asked, options: Options, *, no_probe: bool) -> Subject:
    """Work a path out as explain does."""
    from vcpuid.answers.certainty import followed
    from vcpuid.answers.ordered import judged
    from vcpuid.answers.starting import remarked
    from vcpuid.explore.subject import Subject

    cpu, setup, order = guest.ordered(host, asked)
    path = followed(cpu, host=setup, probe=None if no_probe or guest.partial else probe_for(host), vmm=guest.vmm)
    path = remarked(path, None if no_probe else trial_for(host, setup))
    shown = None if guest.recorded is None else guest.recorded.shown
    return Subject(name, path, None if order is None else judged(order, path), _spelled(options), shown)


def _called(sides: list[Options]) -> list[str]:
    """Name the hosts without their folders, which are nobody's business, where that tells them apart."""
    sources = [options.get("host") or options.get("recording", "this machine") for options in sides]
    names = [os.path.basename(source) for source in sources]
    return names if len(set(names)) == len(set(sources)) else sources


def _save(path: str, subjects: list[Subject]) -> None:
    from vcpuid.explore import data, page

    text = page.saved(data.document(data.whole(subject) for subject in subjects))
    with streams.opened(path) as file:
        file.write(text)


def _bench(subjects: list[Subject], sides: list[Side], wanted: bench.PathAsked, *, no_probe: bool) -> bench.Bench:
    """Lay out what the page can be asked about."""
    from vcpuid.explore.bench import Bench, HostAtHand
    from vcpuid.live.installed import kernel_release, qemu_release

    hosts = {}
    for subject, (host, _, _, options) in zip(subjects, sides, strict=True):
        source = options.get("host") or options.get("recording")
        hosts[subject.host] = HostAtHand(
            host.snapshot,
            _spelled({"host": source} if source else {}),
            kernel_release() if host.here else None,
            qemu_release() if host.here else None,
            None if no_probe else probe_for(host),
            lambda setup, host=host: None if no_probe else trial_for(host, setup),  # type: ignore[misc]
            lambda setup, host=host: kvm_host(host, setup),  # type: ignore[misc]
        )
    return Bench(hosts, subjects[0], wanted)


def _wanted(name: str, side: Side) -> bench.PathAsked:
    """Spell a side as the page's form does."""
    from vcpuid.explore.bench import PathAsked

    _, guest, asked, _ = side
    cpu = guest.asked if isinstance(guest.asked, AskedCpu) else AskedCpu("")
    return PathAsked(
        name, "" if cpu.domain else cpu.cpu, asked.kernel or "", asked.qemu or "", asked.machine, asked.smp,
        tuple(f"{name}={value}" for name, value in asked.params.items()), asked.what_if,
        read_file(cpu.domain)[1] if cpu.domain else "", cpu.release or "" if cpu.domain else "",
    )  # fmt: skip


def _fragment(others: list[bench.PathAsked]) -> str:
    """Lead to the comparison, where there is one."""
    from urllib.parse import urlencode

    told = {f"b.{name}": value for wanted in others for name, value in wanted.as_dict().items()}
    spelled = {name: " ".join(value) if isinstance(value, list) else "1" if value is True else value for name, value in told.items()}
    return "#" + urlencode({"view": "compare", **spelled}) if spelled else ""


def _serve(server: Server, fragment: str, no_browser: bool) -> None:
    """Print where the page is, open it where there is a screen, and serve it until somebody ends that.

    Who has read the address may close the pipe and come later, so that the page stays. Where nobody has it, nobody can come.
    """
    print(server.url + fragment, flush=True)
    screen = not no_browser and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if not screen and not streams.heard():
        raise UnavailableError("nobody learns the page's address: whoever read standard output has gone")
    streams.tell("serving the page until Ctrl-C")
    if screen:
        import webbrowser

        webbrowser.open(server.url + fragment)
    server.serve_forever()
