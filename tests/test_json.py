"""JSON is an interface: a document is what its schema says, what golden/ holds, and what the schema's version promised before.

golden/NAME.json is what the command CASES[NAME] prints, laid out a row a line so that a change is easily read. `pytest tests/test_json.py
--renew-golden` writes all of them anew, and adds to golden/promised.txt what the schemas say by now; of what stands there under a version
that a schema still has, nothing may go.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from support.traces import COST, MACHINE, program_trace, traced
from vcpuid import data, kvm
from vcpuid.cli import cli
from vcpuid.cpuid import CpuidTable
from vcpuid.errors import InputError
from vcpuid.fleet.adding import Added
from vcpuid.fleet.history import Changes, Observation
from vcpuid.formats import parse
from vcpuid.formats.writing import write
from vcpuid.live.qemu_import import Imported
from vcpuid.live.tiny_guest import ExitTime, GuestReading
from vcpuid.probe import Outcome
from vcpuid.sources import read

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
PROMISED = GOLDEN / "promised.txt"
SCHEMAS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((data.FOLDER / "schemas").iterdir())}

HYBRID = "tests/golden/hybrid.txt"
SKYLAKE, MILAN, IVY = (
    f"tests/captures/kvm/kvm-{name}.txt.gz"
    for name in ("intel.corei7_skylake_x@6.12", "amd.EPYC-Milan-v2@7.3", "intel.corei7_ivy_bridge_3770k@6.1")
)
LIBKRUN = "tests/captures/vmm/libkrun-msb-0.7.11.txt.gz"
QEMU = ("--qemu", "11.1")
LIBVIRT = (*QEMU, "--libvirt", "11.3")
FLEET = "tests/golden/fleet"
OLDER = ("--to", "kernel=6.1,qemu=11.1", "--from", "qemu=11.1")
UPGRADED = ("--from", "libvirt=9.0,qemu=11.1", "--to", "libvirt=12.9,qemu=11.1")
DOMAIN, PASSED, STRICT, CHECKED = (f"tests/golden/{name}.xml" for name in ("host-model", "host-passthrough", "haswell", "icelake"))
ON_SKYLAKE = ("--host", SKYLAKE, *QEMU)

LIBVIRT_IN_NOVA = (
    "Unacceptable CPU info: CPU doesn't have compatibility.\n"
    "libvirtError: operation failed: guest CPU doesn't match specification: missing features: rtm,pcid,avx1024"
)

CASES: dict[str, tuple[str, ...]] = {
    "explain-dropped": ("explain", "vmx-ept", "--cpu", "Skylake-Server-v4", *ON_SKYLAKE),
    "explain-seen": ("explain", "avx2", "--cpu", "Haswell", "--param", "nested=0", *ON_SKYLAKE),
    "explain-linux": ("explain", "constant_tsc", *ON_SKYLAKE),
    "explain-firecracker": ("explain", "avx512f", "--vmm", "firecracker:1.14", "--template", "T2", "--smp", "2", "--host", SKYLAKE),
    "explain-recorded": ("explain", "hypervisor", "--table", LIBKRUN, "--host", LIBKRUN),
    "explain-several": ("explain", "missing features: avx2,rtm", "vmx-ept", "--cpu", "Haswell", *ON_SKYLAKE),
    "diagnose": ("diagnose", LIBVIRT_IN_NOVA),
    "diagnose-host": ("diagnose", LIBVIRT_IN_NOVA, "--cpu", "Skylake-Server", *ON_SKYLAKE),
    "diagnose-unknown": ("diagnose", "the guest processor does not match a specification"),
    "guest": ("guest", "--cpu", "Haswell-noTSX", *ON_SKYLAKE),
    "check-lacks": ("check", "Skylake-Server", SKYLAKE, *QEMU),
    "check-refused": ("check", "Haswel", SKYLAKE, *QEMU),
    "check-hazards": ("check", "Haswell-noTSX,+rtm,x-force-features=on", SKYLAKE, *QEMU),
    "check-amended": ("check", "x86-64-v2-AES,hv-stimer,phys-bits=52", SKYLAKE, *QEMU),
    "check-not-known": ("check", "DiamondRapids", MILAN, "--qemu", "10.3"),
    "check-table": ("check", "--table", SKYLAKE, IVY),
    "check-hosts": ("check", "Haswell-noTSX", SKYLAKE, IVY, "tests/golden/host-model.xml", *QEMU),
    "diff-feature": ("diff", SKYLAKE, "--cpu", "Skylake-Client-v3", *QEMU),
    "diff-register": ("diff", SKYLAKE, "--cpu", "host", "--by", "register", *QEMU),
    "diff-flag": ("diff", SKYLAKE, "--cpu", "host", "--flags", *QEMU),
    "diff-hosts": ("diff", IVY, SKYLAKE),
    "diff-field": ("diff", HYBRID + "#0", HYBRID + "#2", "--by", "field"),
    "drift": ("drift", MILAN, "--from", "kernel=6.1,qemu=7.2", "--to", "kernel=7.3,qemu=11.1,nested=0"),
    "drift-domains": ("drift", IVY, "--domain", CHECKED, "--to-domain", DOMAIN, *UPGRADED),
    "drift-refused": ("drift", SKYLAKE, "--cpu", "Skylake-Server", "--from", "qemu=7.2", "--to", "qemu=7.2,machine=pc-q35-10.0"),
    "fleet-add": ("fleet", "add", "hosts.duckdb", FLEET),
    "fleet-collect": ("fleet", "collect", FLEET, "node7", "--cluster", "rack1", "--ssh", "false"),
    "fleet-classes": ("fleet", "classes", FLEET),
    "fleet-baseline": ("fleet", "baseline", FLEET, *QEMU),
    "fleet-baseline-words": ("fleet", "baseline", FLEET, "--cluster", "rack1", "--for", "libvirt", "--qemu", "10.0"),
    "fleet-drift": ("fleet", "drift", FLEET, "--cpu", "EPYC-Milan", "--cluster", "rack2", *OLDER),
    "fleet-models": ("fleet", "models", FLEET, "--cluster", "rack1", "--qemu", "7.2"),
    "fleet-export": ("fleet", "export", FLEET, "--cluster", "rack1", "--to", "kubevirt", *QEMU),
    "fleet-export-firecracker": ("fleet", "export", FLEET, "--cluster", "rack1", "--to", "firecracker", *QEMU),
    "fleet-export-prometheus": ("fleet", "export", FLEET, "--to", "prometheus", *QEMU),
    "fleet-blame": ("fleet", "blame", FLEET, "--cluster", "rack1", *QEMU),
    "fleet-migrate": ("fleet", "migrate", FLEET, "node1", "node3", "--cpu", "Skylake-Server-v1", *QEMU),
    "fleet-migrate-refused": ("fleet", "migrate", FLEET, "node1", "node4", "--cpu", "Skylake-Server-v1,enforce", *QEMU),
    "fleet-migrate-all": ("fleet", "migrate", FLEET, "--cpu", "Skylake-Server-v1,-pku", *QEMU),
    "fleet-migrate-domain": ("fleet", "migrate", FLEET, "node1", "node3", "--domain", DOMAIN, *LIBVIRT),
    "fleet-changes": ("fleet", "changes", "hosts.duckdb", "--since", "2026-11-01", "--until", "2026-11-29"),
    "fleet-remove": ("fleet", "remove", "hosts.duckdb", "node9"),
    "fleet-history": ("fleet", "history", "hosts.duckdb", "node1"),
    "probe": ("probe", "sse2", "avx2", "abm"),
    "trace": ("trace", "--seconds", "1", "--by", "vcpu,leaf,rip,stack"),
    "trace-checked": ("trace", "--seconds", "1", "--check"),
    "trace-program": ("trace", "--step", "--", "true"),
    "worth": ("worth", "--cpu", "Haswell,x-force-features=on", "--host", IVY, "--qemu", "10.0", "--glibc", "2.41"),
    "worth-table": ("worth", HYBRID, "--glibc", "2.36"),
    "hyperv": ("hyperv", "--cpu", "host,hv-relaxed,hv-time,hv-synic,hv-vpindex", *ON_SKYLAKE),
    "hyperv-table": ("hyperv", LIBKRUN),
    "hyperv-fields": ("hyperv", "--fields", "--cpu", "host,hv-relaxed", *ON_SKYLAKE),
    "names": ("names", "spec_ctrl", "constant_tsc"),
    "rules": ("rules", "linux.option.fred-not-on"),
    "decode": ("decode", HYBRID),
    "decode-leaf": ("decode", SKYLAKE, "7.0", "--part", "supported"),
    "decode-each": ("decode", HYBRID, "1f", "--each"),
    "decode-all-cpus": ("decode", HYBRID, "--all-cpus"),
    "kvm-supported": ("kvm", "supported", MILAN),
    "kvm-supported-check": ("kvm", "supported", SKYLAKE, "--check", "--param", "ept=0"),
    "kvm-emulated": ("kvm", "emulated", MILAN, "--kernel", "6.10"),
    "kvm-set": ("kvm", "set", SKYLAKE, "--cr4", "0x40000"),
    "kvm-lookup": ("kvm", "lookup", SKYLAKE, "7", "d.1", "77777777"),
    "kvm-run": ("kvm", "run", SKYLAKE, "7", "d"),
    "kvm-run-time": ("kvm", "run", SKYLAKE, "--time"),
    "qemu-models": ("qemu", "models", SKYLAKE, "--qemu", "7.2"),
    "qemu-expand": ("qemu", "expand", "Haswell", SKYLAKE, *QEMU),
    "qemu-table": ("qemu", "table", "Haswell", SKYLAKE, "--smp", "2", "--vcpu", "1", *QEMU),
    "qemu-import": ("qemu", "import", "/opt/qemu/bin/qemu-system-x86_64"),
    "libvirt-capabilities": ("libvirt", "capabilities", SKYLAKE, *LIBVIRT),
    "libvirt-domcapabilities": ("libvirt", "domcapabilities", SKYLAKE, "--libvirt", "9.0", "--qemu", "7.2"),
    "libvirt-domcapabilities-refused": ("libvirt", "domcapabilities", IVY, "--disable-deprecated-features", "--libvirt", "9.0", *QEMU),
    "libvirt-models": ("libvirt", "models", SKYLAKE, "--libvirt", "9.0", *QEMU),
    "libvirt-argv": ("libvirt", "argv", DOMAIN, SKYLAKE, *LIBVIRT),
    "libvirt-start": ("libvirt", "start", DOMAIN, SKYLAKE, *LIBVIRT),
    "libvirt-start-refused": ("libvirt", "start", STRICT, IVY, *LIBVIRT),
    "libvirt-compare": ("libvirt", "compare", STRICT, SKYLAKE, *LIBVIRT),
    "libvirt-compare-error": ("libvirt", "compare", STRICT, IVY, "--hypervisor", "--error", *LIBVIRT),
    "libvirt-baseline": ("libvirt", "baseline", STRICT, SKYLAKE, "--hypervisor", *LIBVIRT),
    "libvirt-migrate": ("libvirt", "migrate", DOMAIN, SKYLAKE, IVY, *LIBVIRT),
    "libvirt-migrate-unchecked": ("libvirt", "migrate", PASSED, IVY, SKYLAKE, "--libvirt", "9.0", "--qemu", "7.2"),
    "libvirt-migrate-taken": ("libvirt", "migrate", DOMAIN, IVY, IVY, *LIBVIRT),
    "explain-domain": ("explain", "mpx", "--domain", DOMAIN, "--host", SKYLAKE, *LIBVIRT),
    "explain-domain-refused": ("explain", "mpx", "fma", "--domain", CHECKED, "--host", IVY, "--libvirt", "9.0", *QEMU),
    "check-domain": ("check", DOMAIN, SKYLAKE, *LIBVIRT),
    "check-domain-refused": ("check", STRICT, IVY, *LIBVIRT),
    "diff-domain": ("diff", SKYLAKE, "--domain", DOMAIN, *LIBVIRT),
    "linux-flags": ("linux", "flags", IVY),
    "linux-flags-guest": ("linux", "flags", SKYLAKE, "--guest", "--cpu", "Haswell-noTSX,+vmx", *QEMU),
    "linux-vulnerabilities": ("linux", "vulnerabilities", SKYLAKE),
    "linux-vulnerabilities-guest": ("linux", "vulnerabilities", SKYLAKE, "--guest", "--cpu", "Haswell-v1", *QEMU),
    "snapshot": ("convert", IVY, "--to", "json"),
}
"""What is run for each golden file; its name begins with that of its schema."""

OTHERS: tuple[tuple[str, ...], ...] = (
    *(("explain", feature, *QEMU, "--host") for feature in ("rtm", "vmx-ept", "arch-capabilities", "kvmclock", "bmi2", "spectre_v1")),
    ("guest", "--cpu", "EPYC-Rome", "--qemu", "10.0", "--host"),
    ("guest", "--vmm", "firecracker", "--host"),
    ("guest", "--table", LIBKRUN, "--host"),
    ("check", "Haswell,enforce", *QEMU),
    ("check", "host,+avx512f,-xsave", "--qemu", "7.2"),
    ("check", "--table"),
    *(("drift", "--cpu", cpu, "--from", "kernel=6.1,qemu=7.2", "--to", "kernel=7.1,qemu=11.1") for cpu in ("host", "EPYC,enforce")),
    *(("diff", "--cpu", "max", *QEMU, *more) for more in ((), ("--by", "register"), ("--flags",), ("--by", "field"))),
    ("worth", "--cpu", "max", *QEMU, "--host"),
    ("worth",),
    ("hyperv", "--cpu", "host,hv-passthrough", *QEMU, "--host"),
    ("hyperv", "--fields"),
    ("decode",),
    ("decode", "--part", "supported", "--each"),
    ("kvm", "supported", "--kernel", "6.18"),
    ("kvm", "supported", "--check"),
    ("kvm", "emulated"),
    ("kvm", "set", "--no-apic"),
    ("qemu", "models", "--qemu", "7.2", "--machine", "pc"),
    ("qemu", "expand", "max", "--qemu", "10.0"),
    ("qemu", "table", "max", *QEMU),
    ("linux", "flags"),
    ("linux", "flags", "--guest", *QEMU),
    *(("libvirt", verb, *QEMU) for verb in ("capabilities", "domcapabilities", "models")),
    ("libvirt", "domcapabilities", "--virttype", "qemu", "--libvirt", "9.0", *QEMU),
    *(("libvirt", verb, file, *QEMU) for verb in ("argv", "start", "compare", "baseline") for file in (DOMAIN, STRICT)),
    ("libvirt", "migrate", STRICT, SKYLAKE, *QEMU),
    ("libvirt", "migrate", DOMAIN, SKYLAKE, *LIBVIRT),
    ("convert", "--to", "json"),
)
"""Commands whose answers are held against their schemas on several hosts, with the host behind them."""

ROWS_ALONE = {
    "check": {"what", "about", "why", "breaks"},
    "decode": {"value"},
    "libvirt-models": {"model"},
    "linux-flags": {"line", "names"},
    "probe": {"process_advertised", "process_result", "guest_advertised", "guest_result", "note"},
    "qemu-expand": {"property", "value"},
    "worth": {"topic", "item", "value"},
}
"""What rows of CSV and JSON lines have and JSON has not: words for several kinds of rows at once, or several of its values in one."""

OUTCOMES = (
    Outcome("sse2", "paddb", True, "works", asked=True, to_user=True),
    Outcome("avx2", "vpaddb", True, "#UD", asked=True, to_user=True),
    Outcome("sse2", "paddb", True, "works"),
    Outcome("abm", "lzcnt", False, "as BSR", "EAX is 0x0, not 0x20"),
)


@pytest.fixture
def other_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that answers the same everywhere: KVM, the processor and an installed QEMU are played."""

    def read_cpuid(table: CpuidTable, leaves: list[tuple[int, int]], **_: object) -> GuestReading:
        kept = CpuidTable(entry._replace(ebx=0x240) if entry[:2] == (0xD, 0) else entry for entry in table)  # XCR0 is 1
        return GuestReading(kept, {leaf: kvm.lookup(kept, *leaf, kernel="6.12") for leaf in leaves})

    monkeypatch.setattr("vcpuid.live.tiny_guest.read_cpuid", read_cpuid)
    monkeypatch.setattr("vcpuid.live.tiny_guest.time_exit", lambda *_, **__: ExitTime(1234.56, None, 1000))
    monkeypatch.setattr("vcpuid.live.kvm_device.Kvm.__init__", lambda _: None)
    monkeypatch.setattr("vcpuid.live.kvm_device.Kvm.close", lambda _: None)
    monkeypatch.setattr("vcpuid.cli.probe._table", lambda *_: CpuidTable())
    monkeypatch.setattr("vcpuid.probe.process", lambda _: list(OUTCOMES[2:]))
    monkeypatch.setattr("vcpuid.probe.guest", lambda *_: list(OUTCOMES[:2]))
    monkeypatch.setattr("vcpuid.probe.report.machine", lambda: MACHINE)
    monkeypatch.setattr("vcpuid.trace.counting.Counting.run", traced)
    monkeypatch.setattr("vcpuid.trace.program.stepping", lambda command, _seconds: program_trace(command))
    monkeypatch.setattr("vcpuid.trace.cost.here", lambda: COST)
    made = Imported("11.0.3-imported", Path("/home/me/qemu-11.0.3-imported.json"), "QEMU 11.0.3", 120, ("NewModel",), 42, ("a remark",))
    monkeypatch.setattr("vcpuid.live.qemu_import.import_qemu", lambda *_: made)
    added = Added(5, 4, ("6e8821756b8444d0",), ("rack1/node3",))
    monkeypatch.setattr("vcpuid.fleet.store.Store.add", lambda *_: added)
    seen = Observation("rack1", 1764375000, 1764461400, 0x6E8821756B8444D0, ("kernel 6.1 → 6.12",))
    monkeypatch.setattr("vcpuid.fleet.history.of_host", lambda *_: (seen,))
    monkeypatch.setattr("vcpuid.fleet.store.Store.remove", lambda *_, **__: ("rack1/node9",))
    newer = Changes(("rack1/node1", "rack1/node2"), "79b3334948d409e7", "6e8821756b8444d0", ("kernel 6.1 → 6.12",))
    monkeypatch.setattr("vcpuid.fleet.store.Store.changes", lambda *_: [])
    monkeypatch.setattr("vcpuid.fleet.history.between_days", lambda _: (newer,))
    monkeypatch.chdir(ROOT)


def run(*args: str) -> tuple[int, str]:
    """Run vcpuid in this process; return its exit status and what it prints."""
    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()):
        try:
            status = cli.main(args, "vcpuid", standalone_mode=False)
        except SystemExit as end:
            status = end.code
    return int(status or 0), stdout.getvalue()


def formatted(args: tuple[str, ...], form: str) -> tuple[str, ...]:
    """Add --format to a command, before the words of another program's."""
    end = args.index("--") if "--" in args else len(args)
    return (*args[:end], "--format", form, *args[end:])


def told(*args: str) -> Any:
    """Give the documents that a verb prints as JSON."""
    status, text = run(*args) if args[0] == "convert" else run(*formatted(args, "json"))
    assert status in (0, 1) or (status == 3 and args[0] == "check")  # which tells programs of what cannot be read, too
    return json.loads(text)


def schema_of(verb: str) -> str:
    """Name the schema that a golden file or a dashed command begins with."""
    return max((name for name in SCHEMAS if f"{verb}-".startswith(f"{name}-")), key=len)


def of_command(args: tuple[str, ...]) -> str:
    return "snapshot" if args[0] == "convert" else schema_of("-".join(args[:2]))


def problems(document: Any, name: str) -> list[str]:
    found = Draft202012Validator(SCHEMAS[name]).iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


def laid_out(node: Any, indent: int = 0, lead: int = 0) -> str:
    """Write JSON with what fits into a line on one."""
    line = json.dumps(node, ensure_ascii=False)
    if not isinstance(node, dict | list) or indent + lead + len(line) < 140 or not node:
        return line
    margin = " " * (indent + 2)
    if isinstance(node, list):
        rows, (first, last) = [laid_out(item, indent + 2) for item in node], "[]"
    else:
        keys = {key: json.dumps(key, ensure_ascii=False) + ": " for key in node}
        rows, (first, last) = [keys[key] + laid_out(node[key], indent + 2, len(keys[key])) for key in node], "{}"
    return f"{first}\n" + ",\n".join(margin + row for row in rows) + f"\n{' ' * indent}{last}"


@pytest.mark.usefixtures("other_machine")
@pytest.mark.parametrize("case", CASES)
def test_a_command_prints_what_its_golden_file_holds(case: str, request: pytest.FixtureRequest) -> None:
    document = told(*CASES[case])
    assert problems(document, schema_of(case)) == []
    file, text = GOLDEN / f"{case}.json", laid_out(document) + "\n"
    if request.config.option.renew_golden:
        file.write_text(text, encoding="utf-8")
    assert text.splitlines() == file.read_text(encoding="utf-8").splitlines()


def test_every_golden_file_is_some_commands_and_every_schema_has_one() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(CASES)
    assert {schema_of(case) for case in CASES} == set(SCHEMAS)
    assert all(of_command(args) == schema_of(case) for case, args in CASES.items())


@pytest.mark.parametrize("host", [SKYLAKE, MILAN, IVY], ids=lambda host: host.partition("kvm-")[2])
@pytest.mark.parametrize("args", OTHERS, ids=" ".join)
def test_what_is_told_of_any_host_is_what_the_schema_says(args: tuple[str, ...], host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert problems(told(*args, host), of_command(args)) == []


def test_what_is_told_of_names_and_leaves_is_what_the_schema_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert problems(told("names", "--all"), "names") == []
    assert problems(told("rules"), "rules") == []
    assert problems(told("rules", "no such rule"), "rules") == []
    assert problems(told("kvm", "lookup", SKYLAKE, "0", "4.3"), "kvm-lookup") == []


@pytest.mark.x86
def test_what_this_process_tells_is_what_the_schema_says() -> None:
    assert problems(told("probe", "--no-guest"), "probe") == []


@pytest.mark.kvm
@pytest.mark.parametrize("args", [("probe", "sse2", "avx512f"), ("kvm", "run", SKYLAKE), ("kvm", "run", SKYLAKE, "--time")], ids=" ".join)
def test_what_a_real_guest_tells_is_what_the_schema_says(args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert problems(told(*args), of_command(args)) == []


# Rows


@pytest.mark.usefixtures("other_machine")
@pytest.mark.parametrize("case", [case for case in CASES if case != "snapshot"])
def test_rows_have_the_keys_of_json(case: str) -> None:
    name = schema_of(case)
    known = {key for node in objects(SCHEMAS[name]) for key in node["properties"]} | ROWS_ALONE.get(name, set())
    lines = [json.loads(line) for line in run(*formatted(CASES[case], "jsonl"))[1].splitlines()]
    columns, *_ = csv.reader(io.StringIO(run(*formatted(CASES[case], "csv"))[1]))
    keys = set(lines[0]) if lines else set(columns)
    assert keys <= known
    assert set(columns) <= keys
    assert all(set(line) == keys for line in lines)


# Schemas


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Give every part of a schema that is about an object with keys of its own."""
    if isinstance(node, dict):
        if "properties" in node and isinstance(node.get("additionalProperties"), bool):
            yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


VERBS = {"-".join(path): {option for parameter in command.params for option in parameter.opts} for path, command in commands(cli)}


def test_every_verb_that_prints_json_has_a_schema() -> None:
    assert {verb for verb, options in VERBS.items() if "--format" in options} == SCHEMAS.keys() - {"snapshot"}
    assert {verb for verb, options in VERBS.items() if "--schema" in options} == SCHEMAS.keys() - {"snapshot"} | {"convert"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_verb_prints_its_schema_without_its_arguments(name: str) -> None:
    path = ("convert",) if name == "snapshot" else next(path for path, _ in commands(cli) if "-".join(path) == name)
    assert run(*path, "--schema") == (0, data.schema(name))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_strict_and_names_its_version(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    documents = [schema["$defs"][one["$ref"].rpartition("/")[2]] for one in schema["oneOf"]] if "oneOf" in schema else [schema]
    for document in documents:
        assert re.fullmatch(rf"vcpuid/{name}/\d+", document["properties"]["schema"]["const"])
        assert "schema" in document["required"]
    for node in objects(schema):
        assert node["additionalProperties"] is False
        assert set(node["required"]) <= node["properties"].keys()
        assert all(re.fullmatch("[a-z][a-z0-9_]*", key) for key in node["properties"])
    used = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert used == set(schema.get("$defs", ()))


def test_what_schemas_share_is_the_same_in_all() -> None:
    shared: dict[str, dict[str, Any]] = {}
    own = {"part", "field", "fields", "difference"}  # words that mean a thing of the verb's
    for schema in SCHEMAS.values():
        for name, definition in schema.get("$defs", {}).items():
            if name not in own:
                assert shared.setdefault(name, definition) == definition, name


# Promises


def promises(schema: dict[str, Any]) -> Iterator[str]:
    """Give what a reader of a document may count on, a line each: which keys there are, which are always there, and what they hold."""

    def walk(node: dict[str, Any], path: str) -> Iterator[str]:
        if "$ref" in node:
            yield from walk(schema["$defs"][node["$ref"].rpartition("/")[2]], path)
            return
        for variant in (*node.get("oneOf", ()), *node.get("anyOf", ())):
            name = variant["$ref"].rpartition("/")[2] if "oneOf" in node else ""
            yield from walk(variant, f"{path}<{name}>" if name else path)
        if "items" in node:
            yield from walk(node["items"], f"{path}[]")
        if isinstance(node.get("additionalProperties"), dict):
            yield from walk(node["additionalProperties"], f"{path}{{}}")
        for key, value in node.get("properties", {}).items():
            yield f"{path}.{key} {'always' if key in node['required'] else 'sometimes'}"
            yield from walk(value, f"{path}.{key}")
        kinds = [node["type"]] if isinstance(node.get("type"), str) else node.get("type", [])
        values = node.get("enum", [node["const"]] if "const" in node else [])
        if told := [*kinds, *map(json.dumps, values), *([node["pattern"]] if "pattern" in node else [])]:
            yield f"{path}: {' '.join(told)}"

    version = re.search(r"vcpuid/[a-z-]+/\d+", json.dumps(schema))
    assert version is not None
    for line in dict.fromkeys(walk(schema, "")):
        yield f"{version[0]} {line}"


def version_of(line: str) -> str:
    return line.split(" ", 1)[0]


def test_what_a_version_of_a_schema_promised_it_still_says(request: pytest.FixtureRequest) -> None:
    now = {line: None for schema in SCHEMAS.values() for line in promises(schema)}
    before = PROMISED.read_text(encoding="utf-8").splitlines() if PROMISED.exists() else []
    broken = [line for line in before if line not in now and version_of(line) in map(version_of, now)]
    assert not broken, "this needs a new version: change `schema` in the schema's file and beside as_dict"
    if request.config.option.renew_golden:
        PROMISED.write_text("".join(f"{line}\n" for line in now), encoding="utf-8")
    assert list(now) == PROMISED.read_text(encoding="utf-8").splitlines(), "new promises: write them down with --renew-golden"


def drop_a_key(schema: dict[str, Any]) -> None:
    del schema["properties"]["present"]
    schema["required"].remove("present")


def let_a_key_be_missing(schema: dict[str, Any]) -> None:
    schema["required"].remove("present")


def let_a_key_be_null(schema: dict[str, Any]) -> None:
    schema["properties"]["present"]["type"] = ["boolean", "null"]


def add_a_word(schema: dict[str, Any]) -> None:
    schema["properties"]["enlightenments"]["items"]["properties"]["windows"]["enum"].append("guessed")


@pytest.mark.parametrize("change", [drop_a_key, let_a_key_be_missing, let_a_key_be_null, add_a_word])
def test_a_change_that_breaks_readers_breaks_a_promise(change: Callable[[dict[str, Any]], None]) -> None:
    schema = json.loads(data.schema("hyperv"))
    before = set(promises(schema))
    change(schema)
    assert not before <= set(promises(schema))


def test_a_key_may_be_added_within_a_version() -> None:
    schema = json.loads(data.schema("hyperv"))
    before = set(promises(schema))
    schema["properties"]["more"] = {"type": "string"}
    schema["required"].append("more")
    assert before < set(promises(schema))


# The documentation

PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
EXAMPLES: list[tuple[str, str]] = re.findall(r"^<!-- (\S+) -->\n```json\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)


def is_part(shown: Any, whole: Any) -> bool:
    """Whether an example is a document, less some keys and some items of its lists."""
    if isinstance(shown, dict):
        return isinstance(whole, dict) and all(key in whole and is_part(value, whole[key]) for key, value in shown.items())
    if isinstance(shown, list):
        return isinstance(whole, list) and all(any(is_part(item, other) for other in whole) for item in shown)
    return bool(shown == whole)


@pytest.mark.parametrize(("case", "text"), EXAMPLES, ids=[case for case, _ in EXAMPLES])
def test_an_example_is_part_of_a_golden_file(case: str, text: str) -> None:
    assert is_part(json.loads(text), json.loads((GOLDEN / f"{case}.json").read_text(encoding="utf-8")))


def test_every_document_has_an_example() -> None:
    alike = {"kvm-emulated": "kvm-supported", "kvm-lookup": "kvm-set"}
    assert {schema_of(case) for case, _ in EXAMPLES} == {alike.get(name, name) for name in SCHEMAS}


# Snapshots as JSON


def test_a_snapshot_of_vcpuid_0_1_is_read_and_one_of_a_later_version_refused() -> None:
    host = read(str(ROOT / IVY))
    text = "\n".join(write([host], "json"))
    assert text.startswith('{\n  "schema": "vcpuid/snapshot/1",\n')
    assert parse(text, "host.json") == parse(text.replace('  "schema": "vcpuid/snapshot/1",\n', ""), "host.json") == [host]
    with pytest.raises(InputError, match=r"^host.json: not of the form of vcpuid's JSON: its schema is 'vcpuid/snapshot/2'"):
        parse(text.replace("vcpuid/snapshot/1", "vcpuid/snapshot/2"), "host.json")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_keys_are_words_and_leaves_are_spelled_alike(path: Path) -> None:
    def look(value: Any) -> None:
        for each in value if isinstance(value, list) else ():
            look(each)
        for key, each in value.items() if isinstance(value, dict) else ():
            assert re.fullmatch(r"\S+", key)
            if key == "function" and "worth" not in path.stem:  # there it is one of glibc's
                assert re.fullmatch(r"[0-9a-f]{8}", each)
            look(each)

    look(json.loads(path.read_text(encoding="utf-8")))
