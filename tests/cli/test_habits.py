"""The habits of other command lines: what every verb takes, and what is said to who types a verb or an option that is none."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from support.captures import capture
from support.command import commands, vcpuid
from vcpuid.cli import VERBS, cli
from vcpuid.cli.examples import EXAMPLES
from vcpuid.cli.meant import MEANT, OPTIONS, near
from vcpuid.spelling import distance

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
QEMU = ("--qemu", "11.1")
LEAVES = {" ".join(path): command for path, command in commands(cli) if not isinstance(command, click.Group)}
OPTS = {verb: {text for parameter in command.params for text in parameter.opts} for verb, command in LEAVES.items()}


def test_nothing_asked_shows_three_commands_and_where_the_rest_is() -> None:
    done = vcpuid()
    assert (done.returncode, done.stderr) == (2, "")
    shown = [line.split("  ")[1] for line in done.stdout.splitlines() if line.startswith("  vcpuid ")]
    assert len(shown) == 3
    assert all(line.split()[1] in VERBS for line in shown)
    assert "vcpuid --help" in done.stdout
    assert len(done.stdout.splitlines()) < 10


@pytest.mark.parametrize("verb", LEAVES)
def test_every_verb_takes_what_all_take(verb: str) -> None:
    options = OPTS[verb]
    assert "--no-color" in options
    assert ("--quiet" in options) == ("--format" in options)
    by_opt = {text: parameter for parameter in LEAVES[verb].params for text in parameter.opts}
    assert len(by_opt) == sum(len(parameter.opts) for parameter in LEAVES[verb].params)
    if "--output" not in options and "--format" in options:
        assert by_opt["-o"] is by_opt["--format"]
    for parameter in LEAVES[verb].params:
        if isinstance(parameter, click.Argument) and parameter.metavar in ("HOST", "[HOST]", "SOURCE", "CPU"):
            assert {"CPU": "--cpu"}.get(parameter.metavar, "--host") in options


@pytest.mark.parametrize(("verb", "option"), [("collect", "-o"), ("convert", "--output"), ("record", "-o"), ("fleet export", "-o")])
@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_form_where_a_file_is_named_is_refused(verb: str, option: str, form: str, tmp_path: Path) -> None:
    more = {"convert": (HOST, "--to", "json"), "fleet export": (str(tmp_path), "--to", "libvirt")}
    done = vcpuid(*verb.split(), *more.get(verb, ()), option, form, cwd=tmp_path)
    assert done.returncode == 2
    assert f"./{form}" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", LEAVES)
def test_an_option_of_one_value_is_not_silently_the_last(verb: str) -> None:
    for parameter in LEAVES[verb].params:
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            name = parameter.opts[0]
            value = str(parameter.type.choices[0]) if isinstance(parameter.type, click.Choice) else "1"
            args = [*verb.split(), name, value, name, value]
            done = vcpuid(*args, "--help")  # which comes after the options are read, before anything is asked
            assert done.returncode == (0 if parameter.multiple else 2)
            assert (f"{name} takes one value and is given 2 times" in done.stderr) is not parameter.multiple


def test_o_is_format() -> None:
    args = ("check", "Haswell", HOST, *QEMU)
    assert vcpuid(*args, "-o", "json") == vcpuid(*args, "--format", "json")
    assert json.loads(vcpuid(*args, "-o", "json").stdout)["runs"] is False


ASKED = {
    "check CPU HOST": ("check", "Haswell", HOST, *QEMU),
    "qemu table CPU HOST": ("qemu", "table", "Haswell", HOST, *QEMU),
    "decode SOURCE": ("decode", HOST, "7.0"),
    "diff HOST": ("diff", HOST, HOST, "--by", "field"),
    "libvirt argv": ("libvirt", "argv", str(Path(__file__).parents[1] / "golden" / "haswell.xml"), HOST, *QEMU),
    "guest": ("guest", "--host", HOST, "--cpu", "Haswell", *QEMU),
    "drift HOST": ("drift", HOST, "--from", "kernel=6.1", "--to", "kernel=6.12", *QEMU[:0]),
}
NAMED = {
    "check CPU HOST": [
        ("check", "--cpu", "Haswell", HOST, *QEMU),
        ("check", "--host", HOST, "Haswell", *QEMU),
        ("check", "--host", HOST, "--cpu=Haswell", *QEMU),
    ],
    "qemu table CPU HOST": [
        ("qemu", "table", HOST, "--cpu", "Haswell", *QEMU),
        ("qemu", "table", "Haswell", "--host", HOST, *QEMU),
        ("qemu", "table", "--cpu", "Haswell", "--host", HOST, *QEMU),
    ],
    "decode SOURCE": [("decode", "--host", HOST, "7.0"), ("decode", "7.0", "--host", HOST)],
    "diff HOST": [("diff", "--host", HOST, HOST, "--by", "field")],
    "libvirt argv": [(*ASKED["libvirt argv"][:3], "--host", HOST, *QEMU)],
    "guest": [("guest", HOST, "--cpu", "Haswell", *QEMU)],
    "drift HOST": [("drift", "--from", "kernel=6.1", "--to", "kernel=6.12", "--host", HOST)],
}


@pytest.mark.parametrize(("case", "named"), [(case, named) for case, many in NAMED.items() for named in many])
def test_what_stands_in_a_place_may_be_named(case: str, named: tuple[str, ...]) -> None:
    assert vcpuid(*named, "-o", "json") == vcpuid(*ASKED[case], "-o", "json")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("guest", HOST, "--host", HOST), "HOST is named twice"),
        (("qemu", "models", HOST, "--host", HOST), "--host names it already"),
        (("qemu", "table", "Haswell", HOST, "--cpu", "Haswell", "--host", HOST), "--cpu and --host name it already"),
        (("qemu", "table", "--host", HOST), "Missing argument 'CPU'"),
    ],
)
def test_what_is_named_twice_or_not_at_all_is_a_usage_error(args: tuple[str, ...], says: str) -> None:
    done = vcpuid(*args)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (("check", "Haswell-noTSX", HOST, *QEMU), 0),
        (("check", "Haswell", HOST, *QEMU), 1),
        (("explain", "avx512f", "--host", HOST, "--cpu", "Haswell", "--kernel", "6.5"), 1),
        (("guest", "--host", HOST, "-o", "json"), 0),
        (("decode", HOST, "--each"), 0),
        (("libvirt", "capabilities", HOST), 0),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_quiet_is_the_exit_status_alone(args: tuple[str, ...], status: int) -> None:
    loud = vcpuid(*args)
    assert loud.returncode == status
    assert loud.stdout
    assert vcpuid(*args, "--quiet") == vcpuid(*args, "-q") == (status, "", "")


def test_quiet_tells_errors_and_the_next_run_is_not_quiet() -> None:
    done = vcpuid("check", "Haswell", "/no/such/file", "-q")
    assert (done.returncode, done.stdout) == (3, "")
    assert "/no/such/file" in done.stderr
    assert vcpuid("version").stdout.startswith("vcpuid ")


@pytest.mark.parametrize("args", [("completion",), ("fleet", "export", "folder"), ("convert", HOST)], ids=lambda args: args[0])
def test_what_is_missing_is_one_line_with_all_that_it_may_be(args: tuple[str, ...]) -> None:
    done = vcpuid(*args)
    assert done.returncode == 2
    assert "\t" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: Missing ")
    assert "Choose from: " in last


def test_a_file_that_cannot_be_read_is_told_where_all_else_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "junk.txt").write_text("junk", encoding="utf-8")
    verbs = ["decode --each", "check Haswell"] + ["fleet add s.duckdb"] * bool(find_spec("duckdb"))
    for verb in verbs:
        done = vcpuid(*verb.split(), str(tmp_path), "-q", cwd=tmp_path)
        assert "junk.txt" in done.stderr, verb
        assert (done.returncode != 0, done.stdout) == (True, ""), verb


def test_a_name_that_no_qemu_has_is_told_once_where_all_else_is_quiet() -> None:
    for hosts in ((HOST,), (HOST, str(capture("kvm-intel.corei7_ivy_bridge_3770k@6.1")))):
        done = vcpuid("check", "Haswel", *hosts, *QEMU, "-q")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1)
        assert "did you mean Haswell" in done.stderr


def test_help_is_what_help_prints_and_version_what_version_prints() -> None:
    assert vcpuid("help").stdout == vcpuid("--help").stdout
    for verb in ("explain", "kvm", "qemu models"):
        assert vcpuid("help", *verb.split()).stdout == vcpuid(*verb.split(), "--help").stdout
    assert vcpuid("version") == vcpuid("--version")
    for words, says in (
        (("explian",), "vcpuid explain"),
        (("explain", "avx2"), "no verbs below"),
        (("qemu", "modles"), "vcpuid qemu models"),
    ):
        done = vcpuid("help", *words)
        assert done.returncode == 2
        assert says in done.stderr


def test_help_all_lists_every_verb_with_those_of_groups() -> None:
    told = {line.split("   ")[0].strip(): line.split("   ", 1)[1].strip() for line in vcpuid("help", "all").stdout.splitlines()[2:]}
    assert {"check", "kvm", "kvm supported", "qemu models", "linux flags", "libvirt baseline", "fleet migrate"} <= told.keys()
    assert all(told.values())
    narrow = vcpuid("help", "all", env={"COLUMNS": "80"}).stdout
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow, "nothing is cut"


@pytest.mark.parametrize(
    ("typed", "lead"),
    [
        ("explian", "vcpuid explain"),
        ("expl", "vcpuid explain"),
        ("chekc", "vcpuid check"),
        ("baseline", "vcpuid fleet baseline"),
        ("cpu-baseline", "vcpuid fleet baseline"),
        ("cpu_baseline", "vcpuid fleet baseline"),
        ("compare", "vcpuid diff"),
        ("common", "vcpuid fleet baseline"),
        ("migrate", "vcpuid fleet migrate"),
        ("migratable", "vcpuid fleet migrate"),
        ("capabilities", "vcpuid libvirt capabilities"),
        ("domcapabilities", "vcpuid libvirt domcapabilities"),
        ("features", "vcpuid linux flags"),
        ("flags", "vcpuid linux flags"),
        ("cpuid", "vcpuid decode"),
        ("dump", "vcpuid collect"),
        ("models", "vcpuid qemu models"),
        ("modles", "vcpuid qemu models"),
        ("list", "vcpuid qemu models"),
        ("info", "vcpuid decode"),
        ("show", "vcpuid guest"),
        ("lscpu", "vcpuid linux flags"),
        ("why", "vcpuid explain"),
        ("avx512f", "vcpuid explain avx512f"),
        ("X86_FEATURE_AVX2", "vcpuid explain X86_FEATURE_AVX2"),
        (HOST, f"vcpuid decode {HOST}"),
        ("missing features: hle", "vcpuid diagnose"),
    ],
)
def test_a_word_that_is_no_verb_leads_to_one(typed: str, lead: str) -> None:
    done = vcpuid(typed)
    assert done.returncode == 2
    assert lead in done.stderr.splitlines()[-1]


def test_words_that_mean_nothing_lead_nowhere() -> None:
    done = vcpuid("xyzzy")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "Error: There is no verb 'xyzzy' in vcpuid. vcpuid --help lists them all."


def test_every_lead_is_a_verb_and_every_option_is_somewhere() -> None:
    known = {" ".join(path) for path, _ in commands(cli)}
    assert {verb for leads in MEANT.values() for verb, _ in leads} <= known
    assert not MEANT.keys() & set(VERBS)
    every = set().union(*OPTS.values()) | {"--help"}
    assert {text.split()[0] for texts in OPTIONS.values() for text in texts} <= every
    assert EXAMPLES.keys() == LEAVES.keys()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("explain", "avx2", "--kernle", "6.1"), "Did you mean --kernel?"),
        (("explain", "avx2", "--json"), "Did you mean --format json?"),
        (("explain", "avx2", "--jsno"), "Did you mean --format json?"),
        (("explain", "avx2", "--model", "Haswell"), "Did you mean --cpu?"),
        (("check", "Haswell", "--snapshot", HOST), "Did you mean --host?"),
        (("linux", "flags", "--guset"), "Did you mean --guest?"),
        (("kvm", "supported", "--cpu", "Haswel"), "No such option '--cpu'."),
        (("names", "avx2", "--host", HOST), "No such option '--host'."),
    ],
)
def test_an_option_that_is_none_leads_to_one_or_nowhere(args: tuple[str, ...], says: str) -> None:
    done = vcpuid(*args)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(says)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("guest", "guset", 1),
        ("host", "guest", 3),
        ("cpu", "smp", 3),
        ("kernel", "kernle", 1),
        ("ca", "abc", 3),
    ],
)
def test_the_distance_of_two_spellings(one: str, other: str, apart: int) -> None:
    assert distance(one, other) == distance(other, one) == apart


def test_a_long_word_is_near_to_nothing_at_once() -> None:
    assert near("x" * 100_000, VERBS) == []


def test_a_file_or_folder_in_the_place_of_a_verb_is_quoted_in_the_commands_that_take_it(tmp_path: Path) -> None:
    (tmp_path / "my host.txt").touch()
    (tmp_path / "my hosts").mkdir()
    (tmp_path / "my\nhost.txt").touch()
    told = [vcpuid(name, cwd=tmp_path).stderr for name in ("my host.txt", "my hosts", "my\nhost.txt")]
    assert "vcpuid decode 'my host.txt' (" in told[0]
    assert "vcpuid fleet classes 'my hosts' (" in told[1]
    assert "host.txt (" not in told[2]
