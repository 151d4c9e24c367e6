"""vcpuid libvirt: what libvirt says of a host and of a domain, as virsh prints it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import click

from vcpuid.cli import choices
from vcpuid.cli.asking import Asking, answered, finish, libvirt_options
from vcpuid.cli.domain import libvirt_option, named, read_file
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.setup import Asked, host_argument, stack_options
from vcpuid.cli.streams import repeat
from vcpuid.errors import InputError

_FILE = click.Path()
_FEATURES = ["name", "policy"]

virt_option = click.option(
    "--virttype", "virt", type=click.Choice(["kvm", "qemu"]), default="kvm", show_default=True, help="The type of the domains: qemu is TCG."
)
hypervisor_option = click.option(
    "--hypervisor", is_flag=True, help="Ask what QEMU and KVM can give, as hypervisor-cpu-… of virsh does, and not the processor alone."
)


@click.group(name="libvirt")
def command() -> None:
    """What virsh prints of a host and of a domain: libvirt's part."""


@command.command()
@host_argument
@libvirt_options
def capabilities(asking: Asking, form: str) -> None:
    """Print what `virsh capabilities` says of HOST's CPU."""
    from vcpuid.libvirt import report, virsh

    answer, error = answered(asking, {"do": "capabilities"})
    xml = None if answer is None else answer["cpu"]
    if xml is not None and "'invtsc'" in xml.replace('"', "'") and "<counter" not in xml:
        asking.remark("HOST does not tell its TSC's frequency: libvirt's <counter name='tsc'> is left out")
    data = {**asking.begun("capabilities"), "cpu": report.cpu(xml), "error": report.refusal(error)}
    rows = report.features(xml)
    finish(Sheet(_FEATURES, rows, data), form, [] if answer is None else virsh.capabilities(answer), good=error is None)


@command.command()
@host_argument
@virt_option
@click.option("--disable-deprecated-features", "not_deprecated", is_flag=True, help="As virsh has it.")
@click.option("--expand-cpu-features", "expanded", is_flag=True, help="List host-model's own features too.")
@click.option("--supported-cpu-features", "supported", is_flag=True, help="List those that QEMU gives if asked.")
@libvirt_options
def domcapabilities(virt: str, not_deprecated: bool, expanded: bool, supported: bool, asking: Asking, form: str) -> None:
    """Print what `virsh domcapabilities` says of the CPUs that domains on HOST can have.

    The flags are those that libvirt 12.9 knows; older ones refuse some.
    """
    from vcpuid.libvirt import report, virsh
    from vcpuid.libvirt.daemon import EMULATOR

    answer, error = answered(asking, {"do": "domcapabilities", "virt": virt, "flags": not_deprecated | expanded << 1 | supported << 2})
    nothing = dict.fromkeys(("machine", "modes", "host_model", "models", "hyperv", "xml"))
    told = nothing if answer is None else report.domcapabilities(answer)
    data = {**asking.begun("domcapabilities"), "virt": virt, **told, "error": report.refusal(error)}
    columns = ["model", "usable", "deprecated", "vendor", "canonical", "blockers"]
    rows = [] if answer is None else report.models(answer["cpu"])
    text = [] if answer is None else virsh.domcapabilities(answer, virt, EMULATOR)
    finish(Sheet(columns, rows, data), form, text, good=error is None)


@command.command()
@host_argument
@libvirt_options
def models(asking: Asking, form: str) -> None:
    """Print the CPU models that libvirt knows, as `virsh cpu-models x86_64` does; HOST makes no difference."""
    answer, _ = answered(asking, {"do": "models"})
    assert answer is not None
    names: list[str] = answer["models"]
    data = {**asking.begun("models"), "models": names}
    finish(Sheet(["model"], [{"model": name} for name in names], data), form, names, good=True)


@command.command()
@click.argument("domain", metavar="DOMAIN.xml", type=_FILE)
@host_argument
@libvirt_options
def argv(domain: str, asking: Asking, form: str) -> None:
    """Print QEMU's arguments for a domain as far as the CPU hangs on them, as `virsh domxml-to-native qemu-argv` does."""
    from vcpuid.libvirt import report, virsh

    name, text = read_file(domain)
    answer, error = answered(asking, {"do": "argv", "domain": text}, name)
    rows = [{"option": option, "value": value} for option, value in (answer or {}).items()]
    data = {**asking.begun("argv"), "file": name, "arguments": None if answer is None else rows, "error": report.refusal(error)}
    finish(Sheet(["option", "value"], rows, data), form, [] if answer is None else [virsh.arguments(answer)], good=error is None)


@command.command()
@click.argument("domain", metavar="DOMAIN.xml", type=_FILE)
@host_argument
@click.option("--migratable", is_flag=True, help="Print the <cpu> for a migration, as dumpxml --migratable does.")
@libvirt_options
def start(domain: str, migratable: bool, asking: Asking, form: str) -> None:
    """Start a domain and print the <cpu> that `virsh dumpxml` then shows; QEMU's warnings are printed as libvirt's log has them."""
    from vcpuid.libvirt import report
    from vcpuid.libvirt.layout import laid_out

    name, text = read_file(domain)
    answer, error = answered(asking, {"do": "start", "domain": text}, name)
    told: Any = answer or {}
    log = list(told.get("log", () if error is None else error.log))
    if error is None:
        repeat(log)
    kept = told.get("migratable", told.get("cpu"))
    data = {
        **asking.begun("start"),
        "file": name,
        "cpu": report.cpu(told.get("cpu")),
        "migratable": kept,
        "cpu_argument": told.get("-cpu") if error is None else error.cpu,
        "log": log,
        "error": report.refusal(error),
    }
    shown = kept if migratable else told.get("cpu")
    rows = report.features(shown)
    finish(Sheet(_FEATURES, rows, data), form, [] if shown is None else laid_out(shown, 1), good=error is None)


@command.command()
@click.argument("file", metavar="CPU.xml", type=_FILE)
@host_argument
@hypervisor_option
@virt_option
@click.option("--error", "fail", is_flag=True, help="Take a CPU that is incompatible for an error, which names the features.")
@libvirt_options
def compare(file: str, hypervisor: bool, virt: str, fail: bool, asking: Asking, form: str) -> None:
    """Compare HOST's CPU with a file's, as `virsh cpu-compare` does, or `hypervisor-cpu-compare`; exit 1 where they do not go together.

    The file has a <cpu>, a domain, or what capabilities or domcapabilities print: its first CPU counts.
    """
    from vcpuid.libvirt import report, virsh

    name, cpus = _cpus(file)
    do = "hypervisor_compare" if hypervisor else "compare"
    answer, error = answered(asking, {"do": do, "cpu": cpus[0], "virt": virt, "flags": int(fail)}, name)
    result = None if answer is None else virsh.RESULTS[answer["result"]]
    row = {"file": name, "result": result}
    data = {**asking.begun("compare"), "hypervisor": hypervisor, **row, "error": report.refusal(error)}
    text = [] if result is None else [virsh.compared(result, name, hypervisor=hypervisor)]
    sheet = Sheet(["file", "result"], [] if result is None else [row], data)
    finish(sheet, form, text, good=result is not None and result != "incompatible")


@command.command()
@click.argument("file", metavar="CPUS.xml", type=_FILE)
@host_argument
@hypervisor_option
@virt_option
@click.option("--features", is_flag=True, help="List the features of the model as well.")
@click.option("--migratable", is_flag=True, help="Without features that block a migration.")
@click.option("--ignore-host", is_flag=True, help="Do not look at what QEMU on HOST can give; with --hypervisor, since libvirt 12.9.")
@libvirt_options
def baseline(
    file: str, hypervisor: bool, virt: str, features: bool, migratable: bool, ignore_host: bool, asking: Asking, form: str
) -> None:  # fmt: skip
    """Print a CPU that all of a file's hosts can give, as `virsh cpu-baseline` does, or `hypervisor-cpu-baseline`.

    The file has several <cpu>, or what capabilities or domcapabilities print of several hosts, one behind the other.
    """
    from vcpuid.libvirt import daemon, report
    from vcpuid.libvirt.layout import laid_out

    name, cpus = _cpus(file)
    flags = features * daemon.EXPAND_FEATURES | migratable * daemon.MIGRATABLE | ignore_host * daemon.IGNORE_HOST
    do = "hypervisor_baseline" if hypervisor else "baseline"
    answer, error = answered(asking, {"do": do, "cpus": cpus, "virt": virt, "flags": flags}, name)
    xml = None if answer is None else answer["cpu"]
    data = {**asking.begun("baseline"), "hypervisor": hypervisor, "file": name, "cpu": report.cpu(xml), "error": report.refusal(error)}
    finish(Sheet(_FEATURES, report.features(xml), data), form, [] if xml is None else laid_out(xml), good=error is None)


def _cpus(file: str) -> tuple[str, list[str]]:
    """Return a file's name and its CPUs; raises InputError where there is none, in virsh's words."""
    from vcpuid.libvirt import virsh

    name, text = read_file(file)
    found = virsh.cpus_in(text, name)
    if not found:
        raise InputError(virsh.NO_CPU.format(file=name))
    return name, found


@command.command()
@click.argument("domain", metavar="DOMAIN.xml", type=_FILE)
@click.argument("a", metavar="A", shell_complete=choices.hosts)
@click.argument("b", metavar="B", shell_complete=choices.hosts)
@libvirt_option
@click.option("--to-libvirt", metavar="RELEASE", shell_complete=choices.libvirts, help="B's libvirt.  [default: as A's]")
@click.option("--to-qemu", metavar="RELEASE", shell_complete=choices.qemus, help="B's QEMU.  [default: as A's]")
@stack_options("smp", "globals")
@format_option
def migrate(
    domain: str, a: str, b: str, libvirt_release: str | None, to_libvirt: str | None, to_qemu: str | None, asked: Asked, form: str
) -> None:  # fmt: skip
    """Start a domain on host A and move it to host B: whether B's libvirt takes it, and if not, which features are the cause.

    A writes the CPU that the guest has into its XML; B's libvirt starts a QEMU with it, which has to make exactly that CPU.
    Exit status 0 where B takes the guest and it keeps its features, else 1.
    """
    from vcpuid.answers.moving import moving
    from vcpuid.cli.moving import grouped, text
    from vcpuid.libvirt import report
    from vcpuid.libvirt.migration import migrate as moved

    name, xml = read_file(domain)
    one = Asking.on(a, libvirt_release, asked)
    other = Asking.on(b, to_libvirt or libvirt_release, replace(asked, qemu=to_qemu or asked.qemu), one.remarks)
    with named(name):
        found = moved(xml, one.libvirt, other.libvirt)
        one.doubt("what becomes of it on A", lambda libvirt: moved(xml, libvirt, other.libvirt).outcome)
        other.doubt("what becomes of it on B", lambda libvirt: moved(xml, one.libvirt, libvirt).outcome)
    rows = moving(found, one.setup, other.setup)
    data = {
        **one.begun("migrate"),
        "file": name,
        "to_libvirt": other.release.as_dict(),
        "to_setup": other.setup.as_dict(),
        "to_remarks": list(other.remarks),
        "to_not_told": [found.as_dict() for found in other.not_told],
        **report.migration(found),
        "features": rows,
    }
    told = text(found, rows, str(one.release), str(other.release))
    sheet = Sheet(
        ["change", "party", "features", "why", "remedy"],
        grouped(rows),
        data,
        records=[dict(row) for row in rows],
        fields=["feature", "change", "party", "why", "remedy"],
        titles={"remedy": "do", "party": "layer"},
        lines=told,
        head=[*told, *([""] if rows else [])],
    )
    emit(sheet, form)
    if found.refusal is not None or rows:
        sys.exit(1)
