"""What stands in the place of TABLE: a guest's table, or a host; and what is said of what is left out."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from support.captures import CAPTURES, capture
from support.command import vcpuid

HOST = str(CAPTURES / "kvm" / "kvm-intel.sapphire_rapids-xfd@6.12.txt.gz")
PLAIN = ("--cpu", "host,hv-relaxed", "--qemu", "10.0")


def test_a_host_in_the_place_of_a_table_is_the_host() -> None:
    named, given = vcpuid("hyperv", HOST, *PLAIN), vcpuid("hyperv", "--host", HOST, *PLAIN)
    assert named == given
    assert "no effect" not in named.stderr
    text = gzip.decompress(Path(HOST).read_bytes()).decode()
    assert vcpuid("hyperv", "-", *PLAIN, stdin=text).stdout.splitlines()[2:] == given.stdout.splitlines()[2:]


def test_a_guest_in_the_place_of_a_table_is_a_table() -> None:
    guest = vcpuid("guest", "--host", HOST, *PLAIN, "--format", "lines").stdout
    done = vcpuid("hyperv", "-", *PLAIN, stdin=guest)
    assert "--cpu has no effect: TABLE is given" in done.stderr
    assert done.stdout.startswith("A Windows guest of this table lacks 12 of the 13 ")


def test_where_nothing_is_lacking_all_has_the_list() -> None:
    lacking = vcpuid("hyperv", HOST, *PLAIN).stdout
    assert lacking.endswith("\n\n--all prints all 22 enlightenments.\n")
    found = re.search(r"^Recommended: -cpu (.*)$", lacking, re.MULTILINE)
    assert found is not None
    done = vcpuid("hyperv", HOST, "--cpu", found[1], "--qemu", "10.0")
    assert done.returncode == 0
    first, *_, empty, end = done.stdout.splitlines()
    assert first == f"A Windows guest with -cpu {found[1]} finds all 13 recommended Hyper-V enlightenments"
    assert (empty, end) == ("", "--all prints all 22 enlightenments.")


def test_what_keeps_an_idle_guest_quiet_is_shown_however_short_the_answer() -> None:
    shown = vcpuid("hyperv", HOST, *PLAIN, env={"COLUMNS": "80"}).stdout
    cut = re.search(r"^(\d+) of 12 that are missing; --all prints all 22.$", shown, re.MULTILINE)
    assert cut is not None
    marked = {line.split()[0] for line in shown.splitlines() if line.startswith("hv-") and " idle  " in line}
    assert marked == {"hv-time", "hv-vpindex", "hv-synic", "hv-stimer"}
    assert int(cut[1]) < 12


@pytest.mark.parametrize("name", ["kvm-amd.EPYC-v1@5.10", "kvm-intel.corei7_skylake_x@6.12"])
def test_a_host_that_is_a_guest_itself_is_the_host(name: str) -> None:
    host = str(capture(name))
    named = vcpuid("hyperv", host)
    assert named == vcpuid("hyperv", "--host", host)
    assert bool(re.search("^Recommended: .*,hv-tlbflush-ext$", named.stdout, re.MULTILINE)) == (not name.endswith("@5.10"))


def test_what_a_host_finds_as_a_guest_is_asked_as_it_says(tmp_path: Path) -> None:
    guest = vcpuid("guest", "--host", HOST, *PLAIN, "--format", "lines").stdout
    both = "".join(f"{line}\n" for line in guest.splitlines() if line.startswith("RAW")) + "SUP 00000001.0 f0 0 0 0 0\n"
    (tmp_path / "both.txt").write_text(both, encoding="utf-8")
    done = vcpuid("hyperv", "both.txt", cwd=tmp_path)
    assert (
        "both.txt: taken for a host, since its KVM answers; as a guest: vcpuid convert both.txt --to cpuid | vcpuid hyperv -" in done.stderr
    )
    converted = vcpuid("convert", "both.txt", "--to", "cpuid", cwd=tmp_path).stdout
    assert vcpuid("hyperv", "-", stdin=converted).stdout.startswith("A Windows guest of this table lacks 12 of the 13 ")


def test_two_hosts_are_one_too_many() -> None:
    done = vcpuid("hyperv", HOST, "--host", HOST)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"Error: {HOST} is a host's snapshot, and --host names a host as well\n")
