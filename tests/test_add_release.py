"""tools/add_release.py and tools/release_difference.py: the steps of adding a release, and the table of what it changed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from support.tools import load_tool
from vcpuid.releases import KERNELS, QEMUS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def adding() -> ModuleType:
    return load_tool("add_release")


@pytest.fixture(scope="module")
def difference() -> ModuleType:
    return load_tool("release_difference")


@pytest.fixture
def repository(adding: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A repository of a few files in tmp_path, whose scripts do nothing; gives their calls."""
    calls: list[tuple[str, ...]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        calls.append(tuple(part.removeprefix(f"{tmp_path}/") for part in command[1:]))
        if "oracle/linux_facts.py" in calls[-1][0]:
            (tmp_path / calls[-1][3]).touch()
        return subprocess.CompletedProcess(command, 7 if "kvm_tables" in command[1] and not KVM_WORKS else 0, stdout=b"made anew\n")

    monkeypatch.setattr(adding.subprocess, "run", run)
    for folder in ("src/vcpuid/data", "oracle/facts", "tree/tools/arch/x86/kcpuid"):
        (tmp_path / folder).mkdir(parents=True)
    for release in ("6.6", "6.12"):
        (tmp_path / f"oracle/facts/linux-{release}.json.gz").touch()
    (tmp_path / "src/vcpuid/releases.py").write_text('KERNELS = ("6.6", "6.12")\n"""Said."""\nQEMUS = ("9.2",)\n', encoding="utf-8")
    (tmp_path / "tree/Makefile").write_text("VERSION = 6\nPATCHLEVEL = 8\nSUBLEVEL = 12\n", encoding="utf-8")
    (tmp_path / "tree/tools/arch/x86/kcpuid/cpuid.csv").touch()
    return calls


KVM_WORKS = True


def test_a_kernel_is_added_by_one_command(adding: ModuleType, repository: list[tuple[str, ...]], tmp_path: Path) -> None:
    assert adding.main(["linux", str(tmp_path / "tree"), "--origin", "somebody's"], tmp_path) == 0
    facts = [f"oracle/facts/linux-{release}.json.gz" for release in ("6.12", "6.6", "6.8")]
    assert repository == [
        ("oracle/linux_facts.py", "tree", "-o", facts[2], "--origin", "somebody's"),
        ("tools/linux_tables.py", "src/vcpuid/data", facts[2], "tree"),
        ("tools/kvm_tables.py", *facts, "-o", "src/vcpuid/data/kvm-caps.json"),
        ("tools/features.py", "--table", "src/vcpuid/data/features.json", "--facts", *facts),
        ("tools/provenance.py",),
        ("tools/clearing.py",),
        ("tools/release_difference.py", "linux", "6.8"),
    ]
    assert (tmp_path / "src/vcpuid/data/clearing.json").read_text(encoding="utf-8") == "made anew\n"
    listed = (tmp_path / "src/vcpuid/releases.py").read_text(encoding="utf-8")
    assert listed == 'KERNELS = ("6.6", "6.8", "6.12")\n"""Said."""\nQEMUS = ("9.2",)\n'


def test_the_newest_kernel_names_fields_too(adding: ModuleType, repository: list[tuple[str, ...]], tmp_path: Path) -> None:
    (tmp_path / "tree/Makefile").write_text("VERSION = 6\nPATCHLEVEL = 13\n", encoding="utf-8")
    adding.main(["linux", str(tmp_path / "tree")], tmp_path)
    made = {call[0]: call for call in repository}
    assert made["tools/features.py"][-2:] == ("--manual", "tree/tools/arch/x86/kcpuid/cpuid.csv")
    assert made["tools/fields.py"] == ("tools/fields.py", "--linux", f"6.13={tmp_path}/tree")


def test_a_qemu_is_added_by_one_command(adding: ModuleType, repository: list[tuple[str, ...]], tmp_path: Path) -> None:
    assert adding.main(["qemu", "10.1", str(tmp_path / "tree"), "--commit", "abc"], tmp_path) == 0
    assert [call[:3] for call in repository] == [
        ("tools/qemu_catalog.py", "10.1", "--source"),
        ("tools/qemu_tcg.py", f"10.1=@{tmp_path}/tree"),
        ("tools/qemu_boards.py", f"10.1=@{tmp_path}/tree"),
        ("tools/features.py", "--table", "src/vcpuid/data/features.json"),
        ("tools/provenance.py",),
        ("tools/clearing.py",),
        ("tools/release_difference.py", "qemu", "10.1"),
    ]
    assert repository[0][3:] == ("tree", "--commit", "abc")
    assert 'QEMUS = ("9.2", "10.1")' in (tmp_path / "src/vcpuid/releases.py").read_text(encoding="utf-8")


def test_a_step_that_refuses_ends_the_run(
    adding: ModuleType,
    repository: list[tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(globals(), "KVM_WORKS", False)
    assert adding.main(["linux", str(tmp_path / "tree")], tmp_path) == 3
    assert repository[-1][0] == "tools/kvm_tables.py"
    assert capsys.readouterr().err == "add_release.py: tools/kvm_tables.py ended with exit status 7\n"
    assert '"6.8"' not in (tmp_path / "src/vcpuid/releases.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "says"), [("nowhere", "is neither a folder nor"), ("linux=; true", "is neither"), ("empty", "no Makefile")]
)
def test_what_is_no_kernel_is_refused(
    adding: ModuleType, repository: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert adding.main(["linux", str(tmp_path / source) if source == "empty" else source], tmp_path) == 3
    assert says in capsys.readouterr().err
    assert repository == []


def test_a_release_is_compared_with_the_one_before_it(difference: ModuleType) -> None:
    assert difference.neighbour("6.8", KERNELS) == "6.6"
    assert difference.neighbour(KERNELS[0], KERNELS) == KERNELS[1]
    rows = {row[:2]: row[2:] for row in difference.linux("6.6", "6.8")}
    assert rows["bug", "ITS"] == ("1*32+5 its", "-")
    assert rows["KVM", "LAM (CPUID_7_1_EAX)"] == ("-", "F")
    assert rows["list of models", "invlpg_microcode intel 6/97"] == ("0x2e", "listed")
    assert rows["change of KVM's features", "kvm.svm.nested FLUSHBYASID"] == ("-", "grant nested host:SVM")
    assert rows["rule", "linux.amd.erratum-1054"] == ("init_amd_zen1, cpu/amd.c", "-")
    assert ("feature", "FPU") not in rows


def test_qemus_are_compared_too(difference: ModuleType) -> None:
    assert difference.neighbour("10.1", QEMUS) == "10.0"
    rows = {row[:2]: row[2:] for row in difference.qemu("9.2", "10.0")}
    assert rows["model", "ClearwaterForest-v1"][0] == "-"
    assert ("machine type", "pc-q35-10.0") in rows


def test_the_table_is_one_that_a_person_can_read(difference: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    row = difference.Row
    lines = list(difference.laid_out([row("bug", "ITS", "-", "1*32+5 its"), row("rule", "x" * 70, "-", "f")], "6.8", "6.12"))
    assert lines[2] == f"bug   ITS{' ' * 57}  -    1*32+5 its"
    assert lines[3].startswith(f"rule  {'x' * 59}…  -    f")
    assert difference.main(["linux", "6.7"]) == 3
    assert capsys.readouterr().err == "release_difference.py: there are no tables of linux 6.7\n"
    assert difference.main(["linux", "6.8", "--wide"]) == 0
    assert "TDX_PW_MCE" in capsys.readouterr().out
