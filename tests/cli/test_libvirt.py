"""libvirt on the command line: its verbs, and domains wherever a CPU may stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.captures import CAPTURES, capture
from support.command import vcpuid
from vcpuid.cli.output import FORMATS
from vcpuid.live import installed
from vcpuid.releases import LIBVIRTS

SKYLAKE, IVY = (str(capture(f"kvm-intel.corei7_{name}@6.12")) for name in ("skylake_x", "ivy_bridge_3770k"))
OF = ("--libvirt", "11.3", "--qemu", "10.0")
DOMAIN = """<domain type='{virt}'>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <features><hyperv><relaxed state='on'/></hyperv></features>
  {cpu}
</domain>
"""
ARGUMENT = "Nehalem,hv-relaxed=on"


def written(path: Path, cpu: str, virt: str = "kvm", machine: str = "q35") -> str:
    path.write_text(DOMAIN.format(cpu=cpu, virt=virt, machine=machine), encoding="utf-8")
    return str(path)


@pytest.fixture
def nehalem(tmp_path: Path) -> str:
    return written(tmp_path / "nehalem.xml", "<cpu mode='custom'><model>Nehalem</model></cpu>")


@pytest.fixture
def haswell(tmp_path: Path) -> str:
    return written(tmp_path / "haswell.xml", "<cpu mode='custom'><model>Haswell</model></cpu>")


def test_domcapabilities_is_laid_out_as_virsh_does() -> None:
    lines = vcpuid("libvirt", "domcapabilities", SKYLAKE, *OF).stdout.splitlines()
    assert lines[:6] == [
        "<domainCapabilities>",
        "  <path>/usr/bin/qemu-system-x86_64</path>",
        "  <domain>kvm</domain>",
        "  <machine>pc-q35-10.0</machine>",
        "  <arch>x86_64</arch>",
        "  <cpu>",
    ]
    assert "      <model usable='yes' vendor='Intel' canonical='Nehalem-v1'>Nehalem</model>" in lines
    assert lines[-1] == "</domainCapabilities>"


def test_capabilities_without_a_frequency_says_so() -> None:
    done = vcpuid("libvirt", "capabilities", SKYLAKE, *OF)
    assert done.stdout.splitlines()[:5] == ["<capabilities>", "", "  <host>", "    <cpu>", "      <arch>x86_64</arch>"]
    assert "      <feature name='invtsc'/>" in done.stdout
    assert done.stderr == "vcpuid: HOST does not tell its TSC's frequency: libvirt's <counter name='tsc'> is left out\n"


def test_models() -> None:
    assert vcpuid("libvirt", "models", SKYLAKE, *OF).stdout.startswith("486\n")


def test_argv(nehalem: str) -> None:
    done = vcpuid("libvirt", "argv", nehalem, SKYLAKE, *OF)
    machine = "pc-q35-10.0,usb=off,dump-guest-core=off,memory-backend=pc.ram,acpi=on"
    assert done.stdout == f"-machine {machine} -accel kvm -cpu {ARGUMENT} -smp 2,sockets=2,cores=1,threads=1\n"


def test_start_and_its_refusal(nehalem: str, haswell: str) -> None:
    done = vcpuid("libvirt", "start", nehalem, SKYLAKE, *OF)
    assert done.stdout.splitlines()[:2] == [
        "  <cpu mode='custom' match='exact' check='full'>",
        "    <model fallback='forbid'>Nehalem</model>",
    ]
    kept = vcpuid("libvirt", "start", nehalem, SKYLAKE, *OF, "--migratable").stdout.splitlines()
    assert kept == ["  <cpu mode='custom' match='exact' check='partial'>", "    <model fallback='allow'>Nehalem</model>", "  </cpu>"]
    done = vcpuid("libvirt", "start", haswell, IVY, *OF)
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first == f"error: Failed to create domain from {haswell}"
    assert second.startswith("error: the CPU is incompatible with host CPU: Host CPU does not provide required features: ")


def test_compare(nehalem: str, haswell: str) -> None:
    done = vcpuid("libvirt", "compare", nehalem, SKYLAKE, *OF)
    assert (done.returncode, done.stdout) == (0, f"Host CPU is a superset of CPU described in {nehalem}\n")
    done = vcpuid("libvirt", "compare", haswell, IVY, "--hypervisor", *OF)
    assert done.stdout == f"CPU described in {haswell} is incompatible with the CPU provided by hypervisor on the host\n"
    assert done.returncode == 1
    done = vcpuid("libvirt", "compare", haswell, IVY, "--error", *OF)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: Failed to compare host CPU with {haswell}\nerror: the CPU is incompatible with host CPU: ")


def test_baseline_of_what_capabilities_print(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.xml"
    hosts.write_text("".join(vcpuid("libvirt", "capabilities", host, *OF).stdout for host in (SKYLAKE, IVY)), encoding="utf-8")
    done = vcpuid("libvirt", "baseline", str(hosts), IVY, *OF)
    assert done.stdout.startswith("<cpu mode='custom' match='exact'>\n  <model fallback='")
    assert "avx2" not in done.stdout
    assert len(vcpuid("libvirt", "baseline", str(hosts), IVY, "--features", *OF).stdout) > len(done.stdout)
    ignored = vcpuid("libvirt", "baseline", str(hosts), IVY, "--ignore-host", *OF)
    assert (ignored.returncode, ignored.stderr) == (1, "error: unsupported flags (0x4) in function qemuConnectBaselineCPU\n")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_of_migrate(form: str, tmp_path: Path) -> None:
    domain = written(tmp_path / "d.xml", "<cpu mode='host-model'/>")
    done = vcpuid("libvirt", "migrate", domain, SKYLAKE, IVY, *OF, "--format", form)
    assert done.returncode == 1
    assert "avx2" in done.stdout
    if form == "table":
        assert done.stdout.startswith("B's libvirt 11.3 does not take the guest:\nerror: operation failed: guest CPU doesn't match ")
    if form == "jsonl":
        rows = {row["feature"]: row for row in map(json.loads, done.stdout.splitlines())}
        assert (rows["avx2"]["change"], rows["avx2"]["party"]) == ("missing", "silicon")
        assert rows["vmx-xsaves"]["party"] == "qemu"


def test_migrate_to_the_like(tmp_path: Path) -> None:
    domain = written(tmp_path / "d.xml", "<cpu mode='host-model'/>")
    done = vcpuid("libvirt", "migrate", domain, IVY, IVY, *OF, "--to-libvirt", "12.9", "--to-qemu", "11.1")
    assert done.returncode == 0
    assert done.stdout == "B's libvirt 12.9 takes the guest: its QEMU makes all features that A's libvirt 11.3 wrote down, and no more.\n"
    passed = written(tmp_path / "p.xml", "<cpu mode='host-passthrough'/>")
    done = vcpuid("libvirt", "migrate", passed, IVY, SKYLAKE, *OF, "--format", "lines")
    assert done.returncode == 1
    assert done.stdout.endswith("since its CPU is the host's; it is another one on B.\n")
    stuck = written(tmp_path / "s.xml", "<cpu mode='host-passthrough' migratable='off'/>")
    rows = [
        json.loads(line) for line in vcpuid("libvirt", "migrate", stuck, SKYLAKE, SKYLAKE, *OF, "--format", "jsonl").stdout.splitlines()
    ]
    assert [(row["feature"], row["change"]) for row in rows] == [("invtsc", "blocks")]


# Bad input


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<domain>\n<vcpu>\n</domain>", ":3: damaged or cut XML: mismatched tag: line 3, column 2"),
        ("", ":1: damaged or cut XML: no element found: line 1, column 0"),
        ("<!DOCTYPE x>\n<domain/>", ":1: XML with a document type is not read"),
        ("<domain type='xen'/>", ": a domain of type xen, not kvm or qemu"),
    ],
)
@pytest.mark.parametrize("verb", ["argv", "start", "check"])
def test_bad_xml_is_one_line(verb: str, text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "d.xml"
    file.write_text(text, encoding="utf-8")
    done = vcpuid("check", str(file), SKYLAKE, *OF) if verb == "check" else vcpuid("libvirt", verb, str(file), SKYLAKE, *OF)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"vcpuid: {file}{said}\n")


@pytest.mark.parametrize(
    "verb", [("check", "FILE", SKYLAKE), ("explain", "avx", "--domain", "FILE", "--host", SKYLAKE)], ids=["check", "explain"]
)
def test_a_damaged_cpu_alone_is_named_by_its_file(verb: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "cpu.xml"
    file.write_text("<cpu mode='custom'>\n<model>Nehalem</cpu>", encoding="utf-8")
    done = vcpuid(*(str(file) if arg == "FILE" else arg for arg in verb), *OF)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"vcpuid: {file}:2: damaged or cut XML: mismatched tag: line 2, column 16\n"


def test_what_libvirt_refuses_of_xml_is_in_its_words(tmp_path: Path) -> None:
    file = tmp_path / "d.xml"
    file.write_text("<network/>", encoding="utf-8")
    done = vcpuid("libvirt", "argv", str(file), SKYLAKE, *OF)
    assert (done.returncode, done.stderr) == (1, "error: XML error: expecting root element of 'domain', not 'network'\n")
    done = vcpuid("libvirt", "compare", str(file), SKYLAKE, *OF)
    assert done.returncode == 3
    assert done.stderr.startswith(f"vcpuid: File '{file}' does not contain any <cpu> element or valid domain XML,")
    assert (
        vcpuid("libvirt", "argv", str(tmp_path / "none.xml"), SKYLAKE).stderr == f"vcpuid: {tmp_path}/none.xml: No such file or directory\n"
    )


def test_a_release_is_one() -> None:
    assert vcpuid("libvirt", "models", SKYLAKE, "--libvirt", "newest").returncode == 3
    done = vcpuid("libvirt", "models", SKYLAKE, "--libvirt", "10.5", "--qemu", "10.0")
    assert done.stderr == "vcpuid: no tables of libvirt 10.5: those of 9.0 are used; what changed between the two is not known here\n"


def test_the_default_is_the_installed_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installed, "_LIBRARIES", (tmp_path, tmp_path / "none"))
    assert (installed.libvirt_release(), installed.default_libvirt()) == (None, LIBVIRTS[-1])
    for name in ("libvirt.so.0", "libvirt.so.0.9000.0", "libvirt.so.0.11003.0", "libvirt-qemu.so.0.12009.0"):
        (tmp_path / name).touch()
    assert installed.libvirt_release() == "11.3"
    assert json.loads(vcpuid("libvirt", "models", SKYLAKE, "--format", "json").stdout)["libvirt"]["release"] == "11.3"


def test_what_a_host_does_not_tell_is_said_to_matter() -> None:
    done = vcpuid("libvirt", "domcapabilities", "tests/golden/hybrid.txt", *OF, cwd=Path(__file__).parents[2])
    assert "vcpuid: Not told: libvirt's answer: depends on CPUID[eax=01h].\n" in done.stderr


@pytest.mark.long
def test_which_lines_hang_on_what_a_host_does_not_tell_is_said() -> None:
    host = str(CAPTURES / "reports" / "cascade-lake-without-msrs.txt.gz")
    done = vcpuid("libvirt", "domcapabilities", host, "--kernel", "6.12", *OF, "--format", "json")
    told = {row["what"]: [fact["place"] for fact in row["depends"]] for row in json.loads(done.stdout)["not_told"]}
    assert told["<feature policy='require' name='vmx-true-ctls'/>"] == ["MSR(480h)"]
    assert "<model usable='yes' vendor='Intel' canonical='Cascadelake-Server-v1'>Cascadelake-Server</model>" in told
    assert "Cascadelake-Server-noTSX: <feature name='mds-no'/>" in told
    assert not any("'avx512f'" in line for line in told)
    said = (
        "vcpuid: Not told: in libvirt's answer <feature policy='require' name='pdcm'/>: depends on full-width-write (MSR(345h) [bit 13]).\n"
    )
    assert said in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 900


# A domain in the place of a CPU

ABOVE = ("domain,", "libvirt,")
"""Rows of parties above QEMU."""
REMARK = "vcpuid: libvirt 11.3 starts QEMU with this -cpu, -machine pc-q35-10.0 and -smp 2,sockets=2,cores=1,threads=1\n"


@pytest.mark.parametrize(
    ("verb", "by_cpu"),
    [
        (("check", "DOMAIN", SKYLAKE), ("check", ARGUMENT, SKYLAKE)),
        (("guest", "--domain", "DOMAIN", "--host", SKYLAKE), ("guest", "--cpu", ARGUMENT, "--host", SKYLAKE)),
        (("explain", "avx", "--domain", "DOMAIN", "--host", SKYLAKE), ("explain", "avx", "--cpu", ARGUMENT, "--host", SKYLAKE)),
        (("hyperv", "DOMAIN", "--host", SKYLAKE), ("hyperv", "--cpu", ARGUMENT, "--host", SKYLAKE)),
        (("hyperv", "--domain", "DOMAIN", "--host", SKYLAKE), ("hyperv", "--cpu", ARGUMENT, "--host", SKYLAKE)),
        (("worth", "DOMAIN", "--host", SKYLAKE), ("worth", "--cpu", ARGUMENT, "--host", SKYLAKE)),
        (("worth", "--domain", "DOMAIN", "--host", SKYLAKE), ("worth", "--cpu", ARGUMENT, "--host", SKYLAKE)),
        (("diff", SKYLAKE, "--domain", "DOMAIN"), ("diff", SKYLAKE, "--cpu", ARGUMENT)),
        (("diff", SKYLAKE, "--domain", "DOMAIN", "--by", "field"), ("diff", SKYLAKE, "--cpu", ARGUMENT, "--by", "field")),
        (("linux", "flags", SKYLAKE, "--guest", "--domain", "DOMAIN"), ("linux", "flags", SKYLAKE, "--guest", "--cpu", ARGUMENT)),
        (("qemu", "table", "DOMAIN", SKYLAKE), ("qemu", "table", ARGUMENT, SKYLAKE)),
        (("qemu", "expand", "DOMAIN", SKYLAKE), ("qemu", "expand", ARGUMENT, SKYLAKE)),
    ],
    ids=lambda args: " ".join(args[:2]) if args[0] != "check" else "check",
)
def test_a_domain_stands_for_what_libvirt_starts(verb: tuple[str, ...], by_cpu: tuple[str, ...], nehalem: str) -> None:
    args = [nehalem if arg == "DOMAIN" else arg for arg in verb]
    smp = () if verb[:2] == ("qemu", "expand") else ("--smp", "2,sockets=2,cores=1,threads=1")
    form = ("--format", "csv")  # above its table, a verb that tells of libvirt says so
    by_domain, typed = vcpuid(*args, *OF, *form), vcpuid(*by_cpu, *smp, "--qemu", "10.0", "--machine", "pc-q35-10.0", *form)
    rows = [line for line in by_domain.stdout.splitlines() if not line.startswith(ABOVE)]
    assert (by_domain.returncode, rows) == (typed.returncode, typed.stdout.splitlines())
    assert len(rows) > 1
    assert by_domain.stderr.replace(REMARK, "") == typed.stderr
    assert REMARK in by_domain.stderr


def test_a_cpu_alone_is_a_domain_that_has_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "cpu.xml"
    file.write_text("<?xml version='1.0'?>\n<!-- mine -->\n<cpu mode='custom'><model>Nehalem</model></cpu>", encoding="utf-8")
    done = vcpuid("check", str(file), SKYLAKE, *OF)
    first, basis, third, *_ = done.stdout.splitlines()
    assert first == "-cpu Nehalem starts with every requested feature"
    assert basis.startswith("QEMU 10.0, pc-q35-10.0, Linux 6.12")
    assert third == "libvirt 11.3: the domain has the model Nehalem"
    assert "with this -cpu, -machine pc-q35-10.0 and -smp 1," in done.stderr


REFUSES = "libvirt 11.3 refuses: the CPU is incompatible with host CPU: Host CPU does not provide "


@pytest.mark.parametrize(
    "verb", [("guest", "--domain"), ("worth", "--domain"), ("linux", "flags", "--guest", "--domain"), ("qemu", "table")]
)
def test_where_libvirt_refuses_there_is_no_guest_to_tell_of(verb: tuple[str, ...], haswell: str) -> None:
    host = [IVY] if verb[-1] == "table" or verb[0] == "linux" else ["--host", IVY]
    done = vcpuid(*verb, haswell, *host, *OF)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"vcpuid: {REFUSES}")


@pytest.mark.parametrize(
    "verb", [("check", "DOMAIN", IVY), ("explain", "avx2", "--domain", "DOMAIN", "--host", IVY), ("diff", IVY, "--domain", "DOMAIN")]
)
@pytest.mark.parametrize("form", FORMATS)
def test_a_refusal_is_part_of_what_is_told_of_libvirt(verb: tuple[str, ...], form: str, haswell: str) -> None:
    done = vcpuid(*(haswell if arg == "DOMAIN" else arg for arg in verb), *OF, "--format", form)
    assert done.returncode == 1
    assert done.stdout
    told = done.stdout if form == "table" else done.stderr
    assert sum(text.count(REFUSES) for text in (done.stdout, done.stderr)) >= 1
    assert REFUSES in told
    if form == "table":
        assert done.stdout.splitlines()[verb[0] == "explain"].startswith(REFUSES)
        assert REFUSES not in done.stderr


def test_check_tells_what_libvirt_makes_of_the_start(tmp_path: Path) -> None:
    file = written(tmp_path / "full.xml", "<cpu mode='custom' check='full'><model>qemu64</model></cpu>")
    done = vcpuid("check", file, SKYLAKE, *OF)
    assert done.returncode == 1
    first, second, _, third, *_ = done.stdout.splitlines()
    assert first.startswith("libvirt 11.3 refuses: operation failed: guest CPU doesn't match specification: extra features: ")
    assert (second, third) == (
        "-cpu qemu64,hv-relaxed=on starts with every requested feature",
        "libvirt 11.3: the domain has the model qemu64",
    )
    rows = [json.loads(line) for line in vcpuid("check", file, SKYLAKE, *OF, "--format", "jsonl").stdout.splitlines()]
    assert [rows[0]["what"], rows[0]["about"]] == ["refused", "qemu64,hv-relaxed=on"]
    extra = [row for row in rows if row["rule"] == "libvirt.full.extra"]
    assert {name for row in extra for name in row["about"].split("; ")} >= {"x2apic", "hypervisor"}
    told = json.loads(vcpuid("check", file, SKYLAKE, *OF, "--format", "json").stdout)["libvirt"]["objection"]
    assert (told["code"], told["domain"]) == (9, 31)
    assert told["features"] == [cause["feature"] for cause in told["causes"]]
    assert set(told["features"]) == {name for row in rows if row["rule"].startswith("libvirt.full") for name in row["about"].split("; ")}


def test_explain_names_who_asked(tmp_path: Path) -> None:
    file = written(tmp_path / "d.xml", "<cpu check='none'><model>Skylake-Server</model><feature policy='disable' name='avx2'/></cpu>")
    done = vcpuid("explain", "avx2", "--domain", file, "--host", SKYLAKE, *OF)
    rows = {line.split("   ")[0]: line for line in done.stdout.splitlines()}
    assert rows["domain"].split() == ["domain", "no", "observed", "<feature", "policy='disable'", "name='avx2'/>"]
    assert rows["libvirt"].split() == ["libvirt", "no", "modelled", "-cpu", "has", "avx2=off"]
    assert "Because: avx2: -cpu switches it off" in done.stdout
    assert "    and: avx2: the domain's <cpu> has <feature policy='disable' name='avx2'/>  [libvirt.domain.asked" in done.stdout
    assert "\nWhat you can do: leave it out of <cpu>\n" in done.stdout
    absent = vcpuid("explain", "vmx", "--domain", file, "--host", SKYLAKE, *OF).stdout
    assert "    and: vmx: the domain has the model Skylake-Server  [libvirt.domain.asked" in absent
    assert "\nWhat you can do: write <feature policy='require' name='vmx'/> in the domain's <cpu>\n" in absent


def test_diff_and_guest_name_the_party_above_qemu(tmp_path: Path) -> None:
    file = written(tmp_path / "d.xml", "<cpu mode='host-passthrough'><feature policy='disable' name='avx2'/></cpu>")
    for verb, key, name in ((("diff", SKYLAKE), "what", "avx2"), (("guest", "--host", SKYLAKE), "feature", "avx2")):
        lines = vcpuid(*verb, "--domain", file, *OF, "--format", "jsonl").stdout.splitlines()
        row = next(row for row in map(json.loads, lines) if row[key] == name)
        assert (row["party"], row["why"]) == ("domain", "<feature policy='disable' name='avx2'/>")


def test_options_that_do_not_go_together(nehalem: str) -> None:
    for verb in (("guest",), ("diff", SKYLAKE)):
        done = vcpuid(*verb, "--cpu", "max", "--domain", nehalem, *OF)
        assert done.returncode == 2
        assert "--cpu and --domain both name the guest's CPU" in done.stderr
    assert vcpuid("hyperv", nehalem, "--cpu", "max").returncode == 2
    assert vcpuid("explain", "avx", "--domain", nehalem, "--table", SKYLAKE).returncode == 2
    said = "vcpuid: --libvirt has no effect: there is no domain, so that no libvirt starts QEMU\n"
    for args in (
        ("guest", "--host", SKYLAKE),
        ("check", "Nehalem", SKYLAKE),
        ("qemu", "table", "Nehalem", SKYLAKE),
        ("diff", SKYLAKE, "--cpu", "max"),
    ):
        assert said in vcpuid(*args, *OF).stderr
    assert "--smp has no effect: libvirt starts QEMU" in vcpuid("guest", "--domain", nehalem, "--host", SKYLAKE, "--smp", "4", *OF).stderr


def test_a_domain_without_kvm_is_none_of_ours(tmp_path: Path) -> None:
    file = written(tmp_path / "tcg.xml", "", virt="qemu")
    done = vcpuid("guest", "--domain", file, "--host", SKYLAKE, *OF)
    assert (done.returncode, done.stderr) == (3, f"vcpuid: {file}: a domain of type qemu, whose CPU no KVM makes\n")
