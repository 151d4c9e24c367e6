"""What shells are offered: something for every value that the command line takes, nothing that it refuses, and never a failure."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

from support.command import Done, commands, vcpuid
from vcpuid.cli import VERBS, cli
from vcpuid.cli.completion import SHELLS, VARIABLE
from vcpuid.cpuid.card import look_up
from vcpuid.cpuid.names import all_features, find
from vcpuid.cpuid.parts import TABLES
from vcpuid.params import Params
from vcpuid.qemu import properties, smp
from vcpuid.qemu.catalog import TYPE_SUFFIX, catalog, resolve_machine
from vcpuid.releases import KERNELS, LIBVIRTS, QEMUS

VCPUID = Path(sys.executable).with_name("vcpuid")

FREE = {
    "--hwcaps": "its values begin with -, which click takes for an option",
    "--guest-cmdline": "any text that a kernel can be booted with",
    "--label": "a name of the user's own",
    "pastes": "what somebody pastes, or a file of it",
    "--cr4": "a number",
    "--xcr0": "a number",
    "--vcpu": "a number",
    "--port": "a number",
    "--cluster": "a name of the user's own",
    "--as-of": "a day",
    "--seen": "a time",
    "--since": "a day or a time",
    "--until": "a day",
    "host": "a host of the store",
    "hosts": "hosts as ssh takes them, or a file of them",
    "--group": "a group of the inventory",
    "--jobs": "a number",
    "--timeout": "a number",
    "--ssh": "a command",
    "program": "a command",
    "--pid": "a number",
    "--vm": "the name of a guest that runs",
    "--seconds": "a number",
}
"""Options whose values are free text, with the reason."""


ALL = dict(commands(cli))
VALUES = [
    (path, parameter)
    for path, command in ALL.items()
    for parameter in command.params
    if not (isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count))
]


def items(*words: str) -> list[CompletionItem]:
    """What is offered for the last of the words."""
    return ShellComplete(cli, {}, "vcpuid", VARIABLE).get_completions(list(words[:-1]), words[-1])


def offered(*words: str) -> list[str]:
    return [item.value for item in items(*words) if item.type == "plain"]


# Everything has its completion


@pytest.mark.parametrize(("path", "parameter"), VALUES, ids=[f"{' '.join(path)} {parameter.opts[0]}" for path, parameter in VALUES])
def test_every_value_is_offered_or_free_text(path: tuple[str, ...], parameter: click.Parameter) -> None:
    if isinstance(parameter, click.Option):
        before = [parameter.opts[0]]
    else:
        arguments = [other for other in ALL[path].params if isinstance(other, click.Argument)]
        before = ["x"] * arguments.index(parameter)
    assert bool(items(*path, *before, "")) == (parameter.opts[0] not in FREE)


def test_free_text_is_what_some_verb_takes() -> None:
    assert {parameter.opts[0] for _, parameter in VALUES} >= set(FREE)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_verb_and_option_is_offered_with_its_help(path: tuple[str, ...]) -> None:
    assert all(item.help for item in items(*path) if item.value == path[-1])
    assert path[-1] in offered(*path)
    options = {item.value: item.help for item in items(*path, "--")}
    parameters = ALL[path].get_params(click.Context(ALL[path], **cli.context_settings))
    assert set(options) == {text for parameter in parameters for text in parameter.opts if text.startswith("--")}
    assert all(options.values())


# What is offered is taken


@pytest.mark.parametrize("typed", ["", "avx", "AVX", "X86_FEATURE_", "x86_bug", "arch_c", "arch-c", "7.0.ebx.", "msr.", "vmx-"])
def test_features(typed: str) -> None:
    found = offered("explain", typed)
    assert found
    assert all(text.lower().replace("_", "-").startswith(typed.lower().replace("_", "-")) and find(text) for text in found)
    assert len(found) == len(set(found))


def test_a_feature_is_offered_once_under_the_spelling_that_was_begun() -> None:
    assert set(offered("explain", "")) == {feature.name for feature in all_features()}
    assert offered("explain", "X86_FEATURE_SPEC_C") == ["X86_FEATURE_SPEC_CTRL", "X86_FEATURE_SPEC_CTRL_SSBD"]
    assert offered("explain", "spec-ct") == ["spec-ctrl"]
    assert offered("explain", "pni") == ["pni"]
    assert offered("explain", "sse4_1") == ["sse4_1"]
    assert offered("explain", "sse4.1") == ["sse4.1"]


def test_words_of_features() -> None:
    assert offered("names", "FEAT_7_0_E") == ["FEAT_7_0_EBX", "FEAT_7_0_ECX", "FEAT_7_0_EDX"]
    assert all(look_up(text) for text in offered("names", "CPUID_"))


@pytest.mark.parametrize("release", QEMUS)
def test_cpus(release: str) -> None:
    tables = catalog(release)
    machine = tables.machine("q35")
    models = offered("guest", "--qemu", release, "--cpu", "")
    assert {"host", "max", "base", *tables.models, *tables.model_aliases} == set(models)
    assert all(tables.resolve_model(model, machine) for model in models)
    for model in ("host", "Haswell-v4"):
        names = [text.removeprefix(f"{model},") for text in offered("guest", "--qemu", release, "--cpu", f"{model},")]
        assert len(names) > len(tables.flags)
        for text in names:
            assert text.endswith("=")
            assert properties.find(tables, model + TYPE_SUFFIX, text[:-1])
    for sign in "+-":
        found = offered("guest", "--qemu", release, "--cpu", f"Haswell,{sign}")
        assert set(found) >= {f"Haswell,{sign}{flag}" for flag in tables.flags}


def test_the_models_are_those_of_the_qemu_that_was_named() -> None:
    assert "GraniteRapids-v1" in offered("qemu", "table", "--qemu", "11.1", "")
    assert "GraniteRapids-v1" not in offered("qemu", "table", "--qemu", "7.2", "")


def test_a_models_properties_and_their_values() -> None:
    cpu = ("guest", "--qemu", "11.1", "--cpu")
    assert offered(*cpu, "Haswell,+avx2,-pmu") == ["Haswell,+avx2,-pmu"]
    assert offered(*cpu, "Haswell,+avx2,pmu=") == ["Haswell,+avx2,pmu=on", "Haswell,+avx2,pmu=off"]
    assert offered(*cpu, "Haswell,avx2=o") == ["Haswell,avx2=on", "Haswell,avx2=off"]
    assert offered(*cpu, "Haswell,hv-no-nonarch-coresharing=") == [
        f"Haswell,hv-no-nonarch-coresharing={value}" for value in ("on", "off", "auto")
    ]
    assert "Haswell,vendor=AuthenticAMD" in offered(*cpu, "Haswell,vendor=")
    assert offered(*cpu, "Haswell,sse4-1=o") == ["Haswell,sse4-1=on", "Haswell,sse4-1=off"]
    assert not offered(*cpu, "Haswell,family=")
    assert not offered(*cpu, "Haswell,realize_d")
    assert offered(*cpu, "host,migr") == ["host,migratable="]
    assert not offered(*cpu, "Haswell,migr")


def test_case_gives_way_where_nothing_begins_as_typed() -> None:
    assert offered("qemu", "table", "--qemu", "11.1", "haswell-v") == [f"Haswell-v{version}" for version in range(1, 5)]
    assert offered("qemu", "table", "--qemu", "11.1", "core2duo-v1") == ["core2duo-v1"]


def test_check_takes_a_cpu_and_then_a_host() -> None:
    assert "Haswell" in offered("check", "--qemu", "11.1", "")
    assert offered("check", "Haswell", "") == ["live", "kvm", "cpu"]
    assert offered("check", "--table", "guest.txt", "") == ["live", "kvm", "cpu"]


def test_domains_are_files_and_libvirts_have_tables() -> None:
    assert offered("libvirt", "argv", "--libvirt", "") == list(LIBVIRTS)
    assert offered("libvirt", "migrate", "guest.xml", "a.txt", "b.txt", "--to-libvirt", "11") == ["11.3"]
    assert [item.type for item in items("libvirt", "argv", "gue")] == ["file"]
    assert [(item.type, item.value) for item in items("check", "./gue")] == [("file", "./gue")]
    assert [item.type for item in items("guest", "--domain", "gue")] == ["file"]


def test_hosts_are_this_machine_or_files() -> None:
    assert [(item.type, item.value) for item in items("decode", "li")] == [("plain", "live"), ("file", "li")]
    numbers = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]
    assert offered("decode", "kvm:") == [f"kvm:{number}" for number in numbers]
    assert offered("collect", "--cpu", "") == numbers


@pytest.mark.parametrize("release", QEMUS)
def test_machines_and_topologies(release: str) -> None:
    machines = offered("qemu", "models", "--qemu", release, "--machine", "")
    assert {"q35", "pc", "microvm"} <= set(machines)
    assert all(resolve_machine(release, machine) for machine in machines)
    keys = offered("guest", "--qemu", release, "--smp", "4,")
    assert "4,cores=" in keys
    assert {text.removeprefix("4,").removesuffix("=") for text in keys} == set(smp.keys(release))


def test_releases() -> None:
    assert offered("kvm", "supported", "--kernel", "") == list(KERNELS)
    assert offered("guest", "--qemu", "")[: len(QEMUS)] == list(QEMUS)


def test_an_imported_qemu_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "vcpuid").mkdir()
    (tmp_path / "vcpuid" / "imported.json").write_text('{"10.3-mine": {"binary": "/opt/qemu", "size": 1, "mtime_ns": 1}}', encoding="utf-8")
    assert offered("guest", "--qemu", "10.3") == ["10.3-mine"]


def test_parameters() -> None:
    names = offered("kvm", "supported", "--param", "")
    assert {"kvm_intel.nested=", "nested=", "cmdline=", "microcode=", "smt="} <= set(names)
    known = Params.of({**dict.fromkeys((name.removesuffix("=") for name in names), "on"), "microcode": 1})
    assert len(known.kvm) + len(known.linux) == len(names)
    assert offered("kvm", "supported", "--param", "nested=") == ["nested=0", "nested=1"]
    assert not offered("kvm", "supported", "--param", "cmdline=")
    assert {"tsx_mode=off", "tsx_mode=on", "tsx_mode=auto"} == set(offered("kvm", "supported", "--param", "tsx_mode="))


def test_leaves() -> None:
    assert [(item.value, item.help) for item in items("decode", "live", "7")] == [("7", "Extended CPU features")]
    assert offered("kvm", "lookup", "host.txt", "0x8000001")[:2] == ["0x80000019", "0x8000001a"]
    assert [int(leaf, 16) for leaf in offered("decode", "live", "")] == sorted({int(leaf, 16) for leaf in offered("decode", "live", "")})


@pytest.mark.parametrize("verb", ["decode", "convert"])
def test_parts(verb: str) -> None:
    told = {item.value: item.help for item in items(verb, "live", "--part", "")}
    assert told == {field: TABLES[field] for field in ("raw", "table", "kept", "supported", "emulated", "hyperv")}


def test_features_of_probe() -> None:
    assert offered("probe", "avx512v")
    assert not offered("probe", "spec-ctrl")
    assert offered("probe", "--hide", "al")[0] == "all"
    assert "vmx-ept" not in offered("probe", "--force", "vmx")


# How shells are answered


def answer(shell: str, line: str, env: dict[str, str] | None = None) -> Done:
    """Ask as a shell's script does."""
    asked = {VARIABLE: f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": re.split("[ =:]", line)[-1]}
    return vcpuid(env={**asked, **(env or {})})


@pytest.mark.process
@pytest.mark.parametrize("verbs", ["vcpuid ", "vcpuid k"])
def test_verbs_are_offered_without_importing_any(verbs: str) -> None:
    code = """
import os, sys
from vcpuid.cli import cli
from vcpuid.cli.completion import Bash
os.environ.update(COMP_WORDS=sys.argv[1], COMP_CWORD="")
told = Bash(cli, {}, "vcpuid", "_VCPUID_COMPLETE").complete()
print(told.replace("plain,", ""))
print(*(name for name in sys.modules if name.startswith("vcpuid.")), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code, verbs], capture_output=True, text=True, check=True, timeout=60)
    typed = verbs.partition(" ")[2]
    assert done.stdout.split() == [verb.removeprefix(typed) for verb in VERBS if verb.startswith(typed)]
    assert set(done.stderr.split()) == {
        f"vcpuid.{name}" for name in ("cli", "cli.completion", "cli.habits", "cli.lazy", "cli.safe", "cli.streams", "errors")
    }


DAMAGES = {
    "open quote": ("vcpuid decode 'my host", {}),
    "open escape": ("vcpuid decode my\\", {}),
    "unknown verb": ("vcpuid nonsense --cpu Has", {}),
    "unknown option": ("vcpuid explain --nonsense Has", {}),
    "no release": ("vcpuid explain --qemu newest --cpu Has", {}),
    "wrong value": ("vcpuid explain --format nonsense --cpu ", {"XDG_CACHE_HOME": "/dev/null", "HOME": "/nonexistent"}),
    "not even the program": ("", {}),
    "broken list of QEMUs": ("vcpuid explain --qemu ", {"XDG_DATA_HOME": "{broken}"}),
    "broken default QEMU": ("vcpuid explain --cpu ", {"XDG_DATA_HOME": "{broken}"}),
    "no PATH": ("vcpuid explain --cpu Haswell-v1", {"PATH": ""}),
    "the shell says nothing": ("vcpuid explain avx", {"COMP_CWORD": "\x01"}),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_that_goes_wrong_shows(shell: str, damage: str, tmp_path: Path) -> None:
    (tmp_path / "vcpuid").mkdir()
    (tmp_path / "vcpuid" / "imported.json").write_text("{cut", encoding="utf-8")
    line, env = DAMAGES[damage]
    done = answer(shell, line, {name: text.replace("{broken}", str(tmp_path)) for name, text in env.items()})
    assert (done.returncode, done.stderr) == (0, "")
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_that_does_not_say_what_was_typed_is_offered_nothing(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMP_WORDS", raising=False)
    monkeypatch.delenv("COMP_CWORD", raising=False)
    assert SHELLS[shell](cli, {}, "vcpuid", VARIABLE).complete() == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_verb_prints_what_clicks_own_way_prints(shell: str) -> None:
    source = answer("", "", {VARIABLE: f"{shell}_source"}).stdout
    done = vcpuid("completion", shell)
    assert done.returncode == 0
    assert done.stdout.rstrip() == source.rstrip()
    assert "vcpuid" in source
    assert not done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_well_formed(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = SHELLS[shell](cli, {}, "vcpuid", VARIABLE).source_template % {
        "complete_func": "_vcpuid_completion",
        "complete_var": VARIABLE,
        "prog_name": "vcpuid",
    }
    done = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# In real shells

LAST = max(os.sched_getaffinity(0))
TYPED = {
    "vcpuid expla\t": "explain",
    "vcpuid kvm su\t": "kvm supported",
    "vcpuid convert --to instl\t": "convert --to instlatx64",
    "vcpuid decode live --part sup\t": "decode live --part supported",
    "vcpuid explain --no-pr\t": "explain --no-probe",
    "vcpuid explain avx512-vp2\t": "explain avx512-vp2intersect",
    "vcpuid explain AVX512-VP2\t": "explain avx512_vp2intersect",
    "vcpuid qemu table --qemu 11.1 skylake-client-n\t": "qemu table --qemu 11.1 Skylake-Client-noTSX-IBRS",
    "vcpuid guest --qemu 11.1 --cpu Haswell-v4,+hv-rel\t": "guest --qemu 11.1 --cpu Haswell-v4,+hv-relaxed",
    "vcpuid guest --qemu 11.1 --cpu Haswell-v4,pmu=of\t": "guest --qemu 11.1 --cpu Haswell-v4,pmu=off",
    "vcpuid guest --qemu 11.1 --cpu=Haswell-v4,+avx2,pmu=of\t": "guest --qemu 11.1 --cpu=Haswell-v4,+avx2,pmu=off",
    "vcpuid guest --qemu=11.1 --cpu=host,migr\ton": "guest --qemu=11.1 --cpu=host,migratable=on",
    "vcpuid guest --param kvm_intel.nes\t0": "guest --param kvm_intel.nested=0",
    f"vcpuid decode live:{LAST}\td.1": f"decode live:{LAST} d.1",
    "vcpuid decode my\t": "decode 'my host.txt'",
    "vcpuid decode 'my h\t": "decode 'my host.txt'",
    "vcpuid decode sub/inn\t": "decode sub/inner.txt",
    "vcpuid guest --host=sub/inn\t": "guest --host=sub/inner.txt",
    "vcpuid guest --host=./my\t": "guest --host='./my host.txt'",
    "vcpuid guest --host=liv\t": "guest --host=live",
    "vcpuid guest --host kv\t": "guest --host kvm",
}
"""What is typed, and which words stand there then. (Of fish the completion is asked for, without a terminal.)"""


class Terminal:
    """A shell at a terminal."""

    def __init__(self, argv: list[str], setup: str, folder: Path, env: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(argv[0], argv, env)
        self.run(f"{setup}; printf '%s\\n' rea''dy\n", r"ready\r")

    def run(self, keys: str, until: str) -> str:
        """Press keys and read until a pattern is found."""
        os.write(self.fd, keys.encode())
        seen, end = "", time.monotonic() + 30
        while not re.search(until, seen):
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{keys!r}: only {seen!r}")
            seen += os.read(self.fd, 4096).decode(errors="replace")
        return seen

    def complete(self, typed: str) -> list[str]:
        """Type a line, and have the shell print its words instead of running it."""
        seen = self.run(f"{typed}\x01printf '<%s>' \x05 end''\n", "vcpuid>.*<end>")
        return re.findall("<([^>]*)>", re.findall("vcpuid>(.*)<end>", seen)[-1])

    def close(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "my host.txt").touch()
    (folder / "sub").mkdir()
    (folder / "sub" / "inner.txt").touch()
    (folder / "bin").symlink_to(VCPUID.parent)
    return folder


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    if not VCPUID.exists():
        pytest.skip("the program vcpuid is not installed beside this Python")
    path = f"{VCPUID.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / ".cache"), "TERM": "dumb", "COLUMNS": "300"}


@pytest.fixture(scope="module")
def bash(folder: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    program = shutil.which("bash")
    if program is None:
        pytest.skip("bash is not installed")
    version = subprocess.run([program, "-c", "echo ${BASH_VERSINFO[0]} ${BASH_VERSINFO[1]}"], capture_output=True, text=True, check=True)
    if tuple(map(int, version.stdout.split())) < (4, 4):
        pytest.skip("bash is older than 4.4")
    terminal = Terminal([program, "--norc", "--noprofile"], 'eval "$(vcpuid completion bash)"', folder, environment)
    yield terminal
    terminal.close()


COMPINIT = "unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D"
ZSH = {
    "evaluated": f'{COMPINIT}; eval "$(vcpuid completion zsh)"',
    "in fpath": f"mkdir ~/functions; vcpuid completion zsh > ~/functions/_vcpuid; fpath=(~/functions $fpath); {COMPINIT}",
}


@pytest.fixture(scope="module", params=ZSH)
def zsh(folder: Path, environment: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Terminal]:
    program = shutil.which("zsh")
    if program is None:
        pytest.skip("zsh is not installed")
    terminal = Terminal([program, "-f", "-i"], ZSH[request.param], folder, environment)
    yield terminal
    terminal.close()


@pytest.mark.process
@pytest.mark.parametrize("typed", TYPED)
def test_bash(bash: Terminal, typed: str) -> None:
    assert bash.complete(typed) == shlex.split(TYPED[typed])


@pytest.mark.process
@pytest.mark.parametrize("typed", TYPED)
def test_zsh(zsh: Terminal, typed: str) -> None:
    assert zsh.complete(typed) == shlex.split(TYPED[typed])


@pytest.mark.process
def test_bash_finds_a_program_by_its_path(bash: Terminal) -> None:
    assert bash.complete("~/bin/vcpuid expla\t") == ["explain"]


@pytest.mark.process
def test_zsh_finds_a_program_by_its_path(zsh: Terminal) -> None:
    assert zsh.complete("~/bin/vcpuid expla\t") == ["explain"]


@pytest.mark.process
@pytest.mark.parametrize("typed", TYPED)
def test_fish(folder: Path, environment: dict[str, str], typed: str) -> None:
    program = shutil.which("fish")
    if program is None:
        pytest.skip("fish is not installed")
    line, _, behind = typed.partition("\t")
    code = "vcpuid completion fish | source; complete -C $argv[1]"
    done = subprocess.run(
        [program, "--no-config", "-c", code, line], capture_output=True, text=True, cwd=folder, env=environment, timeout=60
    )
    assert done.stderr == ""
    word = shlex.split(TYPED[typed])[len(split_arg_string(line)) - 2]
    assert [text.partition("\t")[0] for text in done.stdout.splitlines()] == [word.removesuffix(behind)]
