"""Arguments in each other's place: a host where a CPU or a feature stands, a CPU where a host does."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

import click

from vcpuid.errors import InputError

DOMAIN_ENDS = (".xml", ".xml.gz")
"""How the name of a domain's file ends, which may stand wherever a CPU does."""


def cpu_first(cpu: str, sources: Sequence[str]) -> None:
    """Refuse the file of a host in CPU's place, with the call that was likely meant; raises UsageError."""
    if cpu.endswith(DOMAIN_ENDS) or not _is_host(cpu):
        return
    others = [source for source in sources if source.endswith(DOMAIN_ENDS) or not _is_host(source)]
    first = others[0] if len(others) == 1 else "CPU"
    call = shlex.join([first, cpu, *(source for source in sources if source not in others)])
    raise click.UsageError(f"CPU comes before HOST: {click.get_current_context().command_path} {call}")


def cpu_alone(cpu: str) -> None:
    """Refuse a file as the value of --cpu, with the option that takes one; raises UsageError."""
    if _is_host(cpu):
        option = "--domain" if cpu.endswith(DOMAIN_ENDS) else "--host"
        what = "a file" if os.path.exists(cpu) else "this machine"
        raise click.UsageError(f"--cpu takes a CPU as QEMU's -cpu does, and {cpu} is {what}: did you mean {option} {shlex.quote(cpu)}?")


def no_host(source: str, error: InputError) -> InputError:
    """Say of a HOST that cannot be read that it is a CPU, where it is the one and not the other."""
    if os.path.exists(source) or not _is_cpu(source):
        return error
    context = click.get_current_context(silent=True)
    options = () if context is None else [text for parameter in context.command.params for text in parameter.opts]
    take = f"did you mean --cpu {shlex.quote(source)}?" if "--cpu" in options else "HOST is a file, or live"
    return InputError(f"{error.cause}; QEMU has a CPU model of that name: {take}", source=error.source)


def no_feature(text: str, error: InputError) -> InputError:
    """Say of a name that no feature has that it is a file, where it is."""
    if not os.path.isfile(text):
        return error
    return InputError(f"{error.cause}; it is a file: give a host with --host, and a log on standard input, as '-'")


def _is_host(text: str) -> bool:
    from vcpuid.sources import is_machine, numbered

    return (is_machine(text) or os.path.exists(numbered(text)[0])) and not _is_cpu(text)


def _is_cpu(text: str) -> bool:
    from vcpuid.qemu.catalog import catalog
    from vcpuid.qemu.unknown import has_model
    from vcpuid.releases import QEMUS

    return any(has_model(catalog(release), text.partition(",")[0]) for release in reversed(QEMUS))
