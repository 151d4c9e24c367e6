"""What is asked is settled in one place: every verb and every public function takes the host's own release where none is given, says where
other tables stand for a release, refuses a parameter that nobody knows and says which has no effect here."""

from __future__ import annotations

import ast
import inspect
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
import pytest

import vcpuid
from support import captures, command
from support.captures import capture
from support.command import commands
from vcpuid import Setup, Stack, kvm, linux, qemu
from vcpuid.cli import cli
from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError, RemarkWarning
from vcpuid.releases import KERNELS, QEMUS

NAME = "kvm-intel.corei7_skylake_x@6.12"
HOST = str(capture(NAME))
DOMAIN = str(Path(__file__).parent / "golden" / "host-model.xml")
FLEET = str(Path(__file__).parent / "golden" / "fleet")
NEWER = "kvm-amd.EPYC-Milan-v2@7.3"


def host(name: str = NAME) -> Snapshot:
    return captures.host(name)


# The command line

VERBS: dict[tuple[str, ...], list[str]] = {
    ("diagnose",): ["Host CPU does not provide required features: rtm", "--host", HOST],
    ("explain",): ["avx2", "--host", HOST],
    ("guest",): ["--host", HOST],
    ("explore",): [HOST, "--save", os.devnull],
    ("check",): ["Haswell", HOST],
    ("diff",): [HOST, "--cpu", "Haswell"],
    ("drift",): [HOST, "--to", "kernel=7.3"],
    **{("fleet", verb): [FLEET] for verb in ("baseline", "blame", "migrate", "models")},
    ("fleet", "export"): [FLEET, "--to", "qemu"],
    ("fleet", "drift"): [FLEET, "--to", "kernel=7.3", "--cpu", "qemu64"],
    ("probe",): ["avx2", "--host", HOST, "--cpu", "Haswell"],
    ("worth",): ["--host", HOST],
    ("hyperv",): ["--host", HOST],
    ("names",): ["avx2"],
    ("kvm", "supported"): [HOST],
    ("kvm", "emulated"): [HOST],
    ("kvm", "set"): [HOST],
    ("kvm", "lookup"): [HOST, "7"],
    ("qemu", "models"): [HOST],
    ("qemu", "expand"): ["Haswell", HOST],
    ("qemu", "table"): ["Haswell", HOST],
    ("linux", "flags"): [HOST],
    ("linux", "vulnerabilities"): [HOST],
    **{("libvirt", verb): [HOST] for verb in ("capabilities", "domcapabilities", "models")},
    **{("libvirt", verb): [DOMAIN, HOST] for verb in ("argv", "start", "compare", "baseline")},
    ("libvirt", "migrate"): [DOMAIN, HOST, HOST],
    ("convert",): [DOMAIN, "--to", "qemu", "--host", HOST],
}
"""A call of each verb that takes a release or a parameter; it asks about a captured host."""

_INSIDE = {("linux", "flags"): ["--guest"], ("linux", "vulnerabilities"): ["--guest"]}
NEEDS = {"--guest-kernel": {("diff",): ["--flags"], **_INSIDE}, "--qemu": _INSIDE}
"""What else a verb needs for an option to have an effect."""


ALL = {path: command for path, command in commands(cli) if not isinstance(command, click.Group)}
OPTIONS = ("--kernel", "--guest-kernel", "--qemu", "--param")
TAKING = [(path, option) for path, command in ALL.items() for option in OPTIONS if any(option in p.opts for p in command.params)]


def call(path: tuple[str, ...], option: str, value: str) -> list[str]:
    extra = NEEDS.get(option, {}).get(path, [])
    return [*path, *VERBS[path], *extra, option, value]


def marked(pairs: list[tuple[tuple[str, ...], str]]) -> list[object]:
    """A guest's table for `probe` needs KVM; all else asks files alone."""
    return [
        pytest.param(*pair, id=" ".join((*pair[0], pair[1])), marks=[pytest.mark.kvm] if pair[0] == ("probe",) else []) for pair in pairs
    ]


def test_every_verb_that_takes_a_release_or_a_parameter_is_walked() -> None:
    assert {path for path, _ in TAKING} == VERBS.keys()


@pytest.mark.long
@pytest.mark.parametrize(("path", "option"), marked([pair for pair in TAKING if pair[1] != "--param"]))
def test_a_verb_says_which_tables_stand_for_a_release(path: tuple[str, ...], option: str) -> None:
    program, asked, tables = ("QEMU", "10.3", "10.2") if option == "--qemu" else ("Linux", "6.10", "6.8")
    status, _, said = command.vcpuid(*call(path, option, asked))
    assert status in (0, 1), said
    start = f"vcpuid: no tables of {program} {asked}: those of {tables} are used; what changed between the two is not known here"
    assert sum(line.startswith(start) for line in said.splitlines()) == 1


@pytest.mark.parametrize(("path", "option"), marked(TAKING))
def test_a_verb_refuses_what_makes_no_sense(path: tuple[str, ...], option: str) -> None:
    value, says = (
        ("nonsense=1", "unknown parameter 'nonsense'") if option == "--param" else ("nonsense", "'nonsense' is not a release number")
    )
    status, out, said = command.vcpuid(*call(path, option, value))
    assert (status, out) == (3, "")
    assert says in said


@pytest.mark.long
@pytest.mark.parametrize(("path", "option"), marked([pair for pair in TAKING if pair[1] == "--param"]))
def test_a_verb_says_which_parameter_has_no_effect(path: tuple[str, ...], option: str) -> None:
    status, _, said = command.vcpuid(*call(path, option, "npt=0"))
    assert status in (0, 1)
    whose = "node1 node2 node3: " if path[0] == "fleet" else ""
    assert f"vcpuid: {whose}the parameter npt has no effect: this host's processor is GenuineIntel's, and its module is kvm_intel\n" in said


IN_VAIN = "nested: this host's KVM was asked as it ran, and what it answered holds; with --what-if"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["linux", "flags", HOST, "--qemu", "10.0"], "--qemu has no effect: these are the host's own flags; --guest asks for a guest's"),
        (["linux", "flags", HOST, "--param", "nested=0"], "the parameter nested is KVM's: it changes no flag of the host"),
        (
            ["hyperv", "tests/captures/vmm/libkrun-msb-0.7.11.txt.gz", "--qemu", "10.0"],
            "--qemu has no effect: TABLE is given, and no QEMU makes it",
        ),
        (
            ["worth", "tests/captures/vmm/libkrun-msb-0.7.11.txt.gz", "--smp", "2"],
            "--smp has no effect: TABLE is given, and no QEMU makes it",
        ),
        (["diff", HOST, HOST, "--by", "field", "--kernel", "6.1"], "--kernel has no effect: with --by field two dumps are compared"),
        (["diff", HOST, "--cpu", "host", "--guest-kernel", "6.1"], "--guest-kernel has no effect: it is for --flags"),
        (["check", "--table", HOST, "--param", "nested=0"], "--param has no effect: the table is checked by itself, on no host"),
        (["explain", "avx2", "--host", HOST, "--param", "nested=0"], IN_VAIN),
        (["guest", "--host", HOST, "--param", "nested=0"], IN_VAIN),
        (["qemu", "models", HOST, "--param", "nested=0"], IN_VAIN),
        (["qemu", "expand", "host", HOST, "--param", "nested=0"], IN_VAIN),
        (["qemu", "table", "host", HOST, "--param", "nested=0"], IN_VAIN),
        (["explain", "avx2", "--host", HOST, "--table", HOST, "--qemu", "10.0"], "--qemu has no effect: --table gives the table"),
    ],
)
def test_an_option_in_vain_is_said(arguments: list[str], says: str) -> None:
    status, _, said = command.vcpuid(*arguments)
    assert status in (0, 1)
    assert f"vcpuid: {says}" in said


# The library

TABLE = qemu.guest_tables("Haswell", host=host()).tables[0]
ARGUMENTS: dict[str, object] = {"host": host(), "cpu": "Haswell", "table": TABLE, "kept": TABLE, "function": 7}
"""What a public function needs besides releases and parameters."""


def functions(parameter: str) -> list[object]:
    found = []
    for package in (vcpuid, linux, kvm, qemu):
        for name in package.__all__:
            member = getattr(package, name)
            if inspect.isfunction(member) and parameter in inspect.signature(member).parameters:
                found.append(pytest.param(member, id=f"{package.__name__}.{name}"))
    return found


def ask(function: Callable[..., object], **given: object) -> None:
    """Call it; that a vCPU which has run refuses another table than it keeps is no matter here."""
    needed = inspect.signature(function).parameters
    with suppress(vcpuid.KvmError):
        function(**{name: value for name, value in ARGUMENTS.items() if name in needed}, **given)


@pytest.mark.parametrize(("parameter", "function"), [(p, *f.values) for p in ("kernel", "qemu") for f in functions(p)])  # type: ignore[attr-defined]
def test_a_function_warns_of_other_tables_and_refuses_nonsense(parameter: str, function: Callable[..., object]) -> None:
    asked, remark = (
        ("6.10", "no tables of Linux 6.10: those of 6.8 are used; what changed between the two is not known here")
        if parameter == "kernel"
        else ("10.3", "no tables of QEMU 10.3")
    )
    with pytest.warns(RemarkWarning, match=remark):
        ask(function, **{parameter: asked})
    with pytest.raises(InputError, match="not a release number"):
        ask(function, **{parameter: "nonsense"})


@pytest.mark.parametrize("function", functions("params"))
def test_a_function_refuses_unknown_parameters_and_warns_of_idle_ones(function: Callable[..., object]) -> None:
    with pytest.raises(InputError, match="unknown parameter 'nonsense'"):
        ask(function, params={"nonsense": 1})
    if function.__module__.startswith("vcpuid.linux"):
        with pytest.raises(InputError, match="npt is KVM's"):
            ask(function, params={"npt": 0})
        return
    with pytest.warns(RemarkWarning, match="npt has no effect"):
        ask(function, params={"npt": 0})


@pytest.mark.parametrize("function", functions("params"))
def test_a_function_that_rests_on_what_kvm_said_warns_of_parameters_it_did_not_run_with(function: Callable[..., object]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with suppress(InputError):  # a parameter of KVM's, asked of Linux
            ask(function, params={"nested": 0})
    said = any("nested: this host's KVM was asked as it ran" in str(warning.message) for warning in caught)
    assert said == function.__module__.startswith("vcpuid.qemu")


@pytest.mark.long
@pytest.mark.parametrize("name", [NAME, NEWER, "kvm-intel.corei7_skylake_x@6.1"])
def test_the_snapshots_own_release_is_the_default_everywhere(name: str) -> None:
    snapshot, own = host(name), name.partition("@")[2]
    assert linux.boot_cpu(snapshot).kernel == own
    assert linux.cpuinfo(snapshot, params={"cmdline": ""}) == linux.cpuinfo(snapshot, own, params={"cmdline": ""})
    assert kvm.supported(snapshot) == kvm.supported(snapshot, own)
    assert kvm.emulated(snapshot) == kvm.emulated(snapshot, own)
    assert kvm.hyperv_supported(snapshot) == kvm.hyperv_supported(snapshot, own)
    assert kvm.set_cpuid(TABLE, host=snapshot) == kvm.set_cpuid(TABLE, host=snapshot, kernel=own)
    assert qemu.guest_tables("Haswell", host=snapshot).tables == qemu.guest_tables("Haswell", host=snapshot, kernel=own).tables
    for path in (vcpuid.resolve("host", host=snapshot), vcpuid.explain("avx2", host=snapshot).path):
        assert path.setup.kernel.tables == own
        assert path.setup.vmm.tables == QEMUS[-1]
        assert path.trace.step("kvm").basis.value == "observed"


def test_a_snapshot_that_names_no_kernel_gets_the_newest() -> None:
    bare = Snapshot(raw=host().raw)
    assert linux.boot_cpu(bare).kernel == KERNELS[-1]
    assert Setup.of(bare).kernel.tables == KERNELS[-1]


def test_observations_hold_for_their_kernel_in_every_function() -> None:
    other = kvm.supported(host(), "6.1").table
    assert qemu.guest_tables("host", host=host(), kernel="6.1").supported == other
    assert vcpuid.resolve("host", host=host(), stack=Stack(kernel="6.1")).made.tables == qemu.guest_tables(
        "host", host=Setup.of(host(), Stack(kernel="6.1")), kvm=qemu.KvmHost(xcr0=kvm.caps(host(), "6.1").xcr0)
    ).tables  # fmt: skip


@pytest.mark.long
def test_no_signature_has_a_release_of_its_own() -> None:
    known = {*KERNELS, *QEMUS}
    found = []
    for file in Path(vcpuid.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
                found += [f"{file}:{node.lineno}" for default in defaults if isinstance(default, ast.Constant) and default.value in known]
    assert not found
