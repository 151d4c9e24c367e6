"""What stands in the place of TABLE: a guest's table, or a host; and what is said of what is left out."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from support.captures import CAPTURES
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
    assert lacking.endswith("\n12 of 22 enlightenments; --all prints the rest.\n")
    found = re.search(r"^Recommended: -cpu (.*)$", lacking, re.MULTILINE)
    assert found is not None
    done = vcpuid("hyperv", HOST, "--cpu", found[1], "--qemu", "10.0")
    assert done.returncode == 0
    assert done.stdout.endswith("\n0 of 22 enlightenments; --all prints the rest.\n")
