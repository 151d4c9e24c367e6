"""oracle/capture.py and what it is made of: what is read, compared and refused, without booting anything."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vcpuid.errors import InputError, UnavailableError
from vcpuid.qemu.catalog import catalog

ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "tests" / "captures"
SCRIPT = ROOT / "oracle" / "capture.py"
ROW = {"qemu": "7.2", "machine": "q35", "cpu": "max", "smp": "1", "host": "a@6.1", "rc": 0, "stderr": [], "vcpus": [["00000000.0 f0 1"]]}

Import = Callable[[str], ModuleType]


class FakeEmulator:
    """A QEMU that is only asked for its release."""

    def __init__(self, release: str) -> None:
        self.release = release

    def version(self) -> str:
        return self.release


class FakePlayer:
    """A QEMU under the shim."""

    version = "7.2.22"

    def __init__(self, _emulator: object) -> None:
        pass

    def __enter__(self) -> FakePlayer:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def verified(oracle: Import, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = oracle("verified")
    for each in (module, oracle("remade")):
        monkeypatch.setattr(each, "find_kernel", Path)
        monkeypatch.setattr(each, "Player", FakePlayer)
    return module


def written(path: Path, lines: list[str]) -> Path:
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def test_a_host_is_read_off_a_capture_or_off_a_key_of_many(oracle: Import) -> None:
    kinds = oracle("kinds")
    capture = CAPTURES / "kvm" / "kvm-amd.EPYC-v1@6.12.txt.gz"
    whole = gzip.decompress(capture.read_bytes()).decode().splitlines()
    lines = kinds.host_lines(str(capture))
    assert lines == [line for line in whole if line.split()[0] in ("RAW", "SUP", "HV", "MSR")]
    hosts = CAPTURES / "qemu" / "hosts.json.gz"
    assert kinds.host_lines(f"{hosts}:tcg/EPYC-v1@6.12") == json.loads(gzip.decompress(hosts.read_bytes()))["tcg/EPYC-v1@6.12"]


def test_drawn_arguments_are_the_seeds_and_of_the_release(oracle: Import) -> None:
    drawn, tables = oracle("drawn"), catalog("10.0")
    found = list(drawn.draw("a", tables, ["x", "y"], 200))
    assert found == list(drawn.draw("a", tables, ["x", "y"], 200)) != list(drawn.draw("b", tables, ["x", "y"], 200))
    assert {run.host for run in found} == {"x", "y"}
    assert {run.cpu.partition(",")[0] for run in found} <= {*tables.models, *tables.model_aliases, "host", "max", "base"}
    assert {run.machine.partition(",")[0] for run in found} <= {*tables.machine_names, "q35", "pc"}


def test_what_is_no_host_is_refused(oracle: Import, tmp_path: Path) -> None:
    kinds = oracle("kinds")
    (tmp_path / "empty").write_text("RAW 00000000.0 1 2 3 4\n", encoding="utf-8")
    (tmp_path / "bad").write_bytes(b"\x1f\x8bcut")
    for name, cause in (("empty", "no line SUP"), ("bad", "not UTF-8 text"), ("none", "No such file"), ("empty:key", "no host key")):
        with pytest.raises(InputError, match=cause):
            kinds.host_lines(str(tmp_path / name))


@pytest.mark.parametrize("path", sorted((CAPTURES / "vcpu").glob("*@6.12.txt.gz")), ids=lambda path: path.name)
def test_the_scale_of_the_tsc_is_the_one_that_kernels_computed(verified: ModuleType, path: Path) -> None:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    (khz,) = {int(line.split()[1]) for line in lines if line.startswith("KHZ ")}
    shown = {" ".join(line.split()[4:]) for line in lines if line.startswith("GUEST 40000103.0 ")}
    assert shown == {"00000033 00000044", verified.time_scale(khz)}  # the former is what the table was given


def test_a_tsc_below_one_ghz_is_scaled_up(verified: ModuleType) -> None:
    assert verified.time_scale(966695) == "8468f000 00000001"  # as Linux 6.12 had it
    assert verified.time_scale(1000000) == "80000000 00000001"


def test_only_the_frequency_of_the_tsc_is_passed_over(verified: ModuleType) -> None:
    def lines(khz: int, eax: int = 0x11) -> list[str]:
        words = f"{eax:08x} 00000022 {verified.time_scale(khz)}"
        return [f"KHZ {khz}", f"GUEST 40000103.1 {words}", f"GOT 40000103.2 f1 {khz:08x}"]

    assert verified.without_tsc(lines(2596127)) == verified.without_tsc(lines(966695))
    assert verified.without_tsc(lines(2596127)) != verified.without_tsc(lines(2995200, eax=0x12))
    wrong = [*lines(2596127)[:2], "GOT 40000103.2 f1 00000001"]
    assert verified.without_tsc(wrong) != verified.without_tsc(lines(2596127))
    assert verified.without_tsc("40000010.0 f0 00279d04 000f4240 00000000 00000000") == "40000010.0 f0 TSC 000f4240 00000000 00000000"
    assert verified.without_tsc("40000011.0 f0 00279d04 000f4240") == "40000011.0 f0 00279d04 000f4240"
    message = "TSC frequency mismatch between VM (2600000 kHz) and host ({} kHz), and TSC scaling unavailable"
    assert verified.without_tsc(message.format(1)) == verified.without_tsc(message.format(2)) == message.format("TSC")
    assert verified.without_tsc(7) == 7


def test_a_capture_of_lines_is_remade_from_what_its_head_tells(
    verified: ModuleType, oracle: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = ["CPU EPYC,+svm", "QEMU 11.1.3 tcg", "KERNEL 6.12.107+deb13-cloud-amd64", "CPUINFO flags fpu"]
    path = written(tmp_path / "capture.txt.gz", [*head, "RAW 00000000.0 1 2 3 4"])
    asked: list[tuple[Path, str]] = []

    def make(_emulator: object, kernel: Path, cpu: str) -> list[str]:
        asked.append((kernel, cpu))
        return [*head, f"RAW 00000000.0 1 2 3 {3 + len(asked)}"]

    monkeypatch.setattr(oracle("remade"), "kernel_lines", make)
    emulator = FakeEmulator("11.1.3")
    assert verified.verify(path, emulator) == 0
    assert verified.verify(path, emulator) == 1
    assert asked == [(Path("linux-image-6.12.107+deb13-cloud-amd64"), "EPYC,+svm")] * 2
    assert capsys.readouterr().out.splitlines()[-2:] == ["-RAW 00000000.0 1 2 3 4", "+RAW 00000000.0 1 2 3 5"]
    with pytest.raises(UnavailableError, match=r"QEMU 11\.1\.3 tcg, not 10\.0\.13"):
        verified.verify(path, FakeEmulator("10.0.13"))


def test_a_capture_that_names_no_qemu_is_remade_without(
    verified: ModuleType, oracle: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = written(tmp_path / "capture.txt.gz", ["CPU max", "KERNEL 6.1.0", "CASE supported"])
    monkeypatch.setattr(oracle("remade"), "lookup_lines", lambda *_: ["CPU max", "QEMU 11.1.3 tcg", "KERNEL 6.1.0", "CASE supported"])
    assert verified.verify(path, FakeEmulator("11.1.3")) == 0
    with pytest.raises(UnavailableError, match=r"11\.1\.3"):
        verified.verify(path, FakeEmulator("7.2.22"))


@pytest.mark.parametrize(
    ("lines", "error", "cause"),
    [
        (["CPU bochs arrow_lake", "Bochs 3.0", "KERNEL 6.1.0", "RAW 0"], UnavailableError, "Bochs"),
        (["CPU max", "KERNEL 6.1.0"], InputError, "no lines of any kind"),
        (["CPU max", "RAW 00000000.0 1 2 3 4"], InputError, "no capture of a kernel"),
        (["{}"], InputError, "no capture of a kernel"),
        ([], InputError, "no lines of any kind"),
    ],
)
def test_what_cannot_be_remade_is_refused(
    verified: ModuleType, tmp_path: Path, lines: list[str], error: type[Exception], cause: str
) -> None:
    with pytest.raises(error, match=cause):
        verified.verify(written(tmp_path / "capture.txt.gz", lines), FakeEmulator("11.1.3"))


Remake = Callable[..., int]


@pytest.fixture
def remade(verified: ModuleType, oracle: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Remake:
    """Verify a file of rows where QEMU always makes the row `made`."""

    def verify(committed: list[dict[str, Any]], made: dict[str, Any], count: int = 0) -> int:
        written(tmp_path / "hosts.json.gz", [json.dumps({"a@6.1": ["SUP 00000000.0 f0 1 2 3 4"]})])
        monkeypatch.setattr(oracle("remade"), "qemu_row", lambda *_: dict(made))
        path = written(tmp_path / "rows.jsonl.gz", [json.dumps(row) for row in committed])
        status: int = verified.verify(path, FakeEmulator("7.2.22"), rows=count)
        return status

    return verify


def test_rows_are_compared_key_by_key(remade: Remake, capsys: pytest.CaptureFixture[str]) -> None:
    made = {key: value for key, value in ROW.items() if key != "host"}
    of_another_qemu = {**ROW, "qemu": "10.0", "rc": 1}
    assert remade([ROW, of_another_qemu, {**ROW, "vcpus_kept": "first,last"}], made) == 0
    assert capsys.readouterr().out == "rows.jsonl.gz: 2 of 2 rows the same\n"
    assert remade([ROW, {**ROW, "rc": 1}], made) == 1
    assert "q35 -cpu max on a@6.1: rc differ" in capsys.readouterr().out
    assert remade([ROW, {**ROW, "rc": 1}], made, count=1) == 0


def test_a_warning_that_a_machine_is_deprecated_says_nothing_of_the_cpu(remade: Remake) -> None:
    warning = "qemu-system-x86_64: warning: Machine type 'pc-q35-6.1' is deprecated"
    assert remade([ROW], {**ROW, "stderr": [warning]}) == 0
    assert remade([ROW], {**ROW, "stderr": [warning, "another"]}) == 1


def test_rows_without_one_of_this_qemu_are_refused(remade: Remake) -> None:
    with pytest.raises(UnavailableError, match=r"no row of rows\.jsonl\.gz was made with QEMU 7\.2\.22"):
        remade([{**ROW, "qemu": "10.0"}], ROW)


def test_a_capture_like_another_is_made_of_another_kernel_or_qemu(
    verified: ModuleType, oracle: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    remade = oracle("remade")
    path = written(tmp_path / "capture.txt.gz", ["CPU max", "KERNEL 6.1.0", "CASE supported"])
    monkeypatch.setattr(remade, "lookup_lines", lambda _emulator, kernel, cpu: [f"{kernel} {cpu}"])
    assert remade.again(path, FakeEmulator("11.1.3"), kernel="linux-image-9.9", of=None) == ["linux-image-9.9 max"]
    written(tmp_path / "hosts.json.gz", [json.dumps({"a@6.1": ["SUP 00000000.0 f0 1 2 3 4"]})])
    options = {key: ROW[key] for key in ("qemu", "machine", "cpu", "smp", "host", "stderr")}
    rows = written(tmp_path / "rows.jsonl.gz", [json.dumps(row) for row in (ROW, options, {**ROW, "qemu": "10.0"})])
    monkeypatch.setattr(remade, "qemu_row", lambda *_: {**ROW, "qemu": "11.1", "rc": 1, "vcpus": []})
    made = [json.loads(line) for line in remade.again(rows, FakeEmulator("11.1.3"), kernel=None, of="7.2")]
    assert made == [{**ROW, "qemu": "11.1", "rc": 1, "vcpus": []}, {**options, "qemu": "11.1"}]
    for of, cause in ((None, "--of"), ("9.9", r"no row was made with QEMU 9\.9")):
        with pytest.raises(InputError, match=cause):
            remade.again(rows, FakeEmulator("11.1.3"), kernel=None, of=of)


def test_a_module_comes_after_those_that_it_needs(oracle: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    emulated = oracle("emulated")
    content = {"kvm-amd": b"\0depends=kvm,ccp\0", "kvm": b"\0depends=irq_bypass\0", "ccp": b"\0depends=\0", "irq-bypass": b"nothing"}
    monkeypatch.setattr(emulated.boot_guest, "module", lambda _kernel, name: content[name])
    assert list(emulated.modules(Path("vmlinuz"), "kvm-amd")) == ["irq-bypass", "kvm", "ccp", "kvm-amd"]


def test_a_guest_that_does_not_come_to_its_end_is_no_capture(oracle: Import) -> None:
    emulated = oracle("emulated")
    assert emulated.captured("SeaBIOS\r\nKERNEL 6.1.0\r\nSUP 1\r\nCAPTURED\r\nreboot\r\n") == ["KERNEL 6.1.0", "SUP 1"]
    for console, last in (("KERNEL 6.1.0\nSUP 1\nOops\n\n", "Oops"), ("CAPTURED\nKERNEL 6.1.0\n", "KERNEL 6.1.0"), ("", "nothing")):
        with pytest.raises(emulated.FailedError, match=f"the last line on its console: {last}"):
            emulated.captured(console)


def test_a_guest_that_panics_is_booted_again(oracle: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    emulated = oracle("emulated")
    monkeypatch.setattr(emulated, "modules", lambda *_: {"kvm-amd": b""})
    monkeypatch.setattr(emulated, "build", lambda _source, program, *_flags: program.write_bytes(b""))
    (tmp_path / "vmlinuz").write_bytes(b"")
    consoles = ["Kernel panic", "Kernel panic", "KERNEL 6.1.0\nCAPTURED\n"]
    monkeypatch.setattr(emulated, "_console", lambda _command: consoles.pop(0))
    assert emulated.run(emulated.Emulator(), tmp_path / "vmlinuz", "max", "kvm_dump.c") == ["KERNEL 6.1.0"]
    consoles = ["Kernel panic"] * 4
    with pytest.raises(emulated.FailedError, match="Kernel panic"):
        emulated.run(emulated.Emulator(), tmp_path / "vmlinuz", "max", "kvm_dump.c")
    assert len(consoles) == 1


@pytest.mark.parametrize("name", ["; rm", "linux-image-6.1 x", "busybox", "linux-image-$(x)", "linux-image-6.1/../x"])
def test_what_is_no_kernel_is_not_looked_for(oracle: Import, name: str) -> None:
    with pytest.raises(InputError, match="neither a file nor a package"):
        oracle("kernels").find_kernel(name)


def test_a_package_that_was_unpacked_is_not_downloaded_again(oracle: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VCPUID_ORACLE", str(tmp_path))
    kernels = oracle("kernels")
    for package, image in (("linux-image-6.1_trixie", "boot/vmlinuz-6.1"), ("linux-image-7.3", "usr/lib/modules/7.3/vmlinuz")):
        (tmp_path / "kernels" / package / image).parent.mkdir(parents=True)
        (tmp_path / "kernels" / package / image).write_bytes(b"")
    assert kernels.find_kernel("linux-image-6.1/trixie").name == "vmlinuz-6.1"
    assert kernels.find_kernel("linux-image-7.3").name == "vmlinuz"


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, "verify", tmp_path / "none"], capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"capture.py: {tmp_path / 'none'}: No such file or directory\n"
