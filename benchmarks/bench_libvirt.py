"""How fast libvirt is worked out: a start, and domcapabilities of a host that is asked for the first time.

    python benchmarks/bench_libvirt.py

The goals are 5 ms for a start and 30 ms for domcapabilities, the maps being loaded. Figures are medians.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from timing import median

from vcpuid import Setup, Snapshot, Stack
from vcpuid.formats.lines import parse_snapshot
from vcpuid.libvirt import Libvirt
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.qemu import KvmHost

HOSTS = Path(__file__).parents[1] / "tests" / "captures" / "libvirt" / "hosts.json.gz"
RELEASES = (("9.0", "7.2"), ("11.3", "10.0"), ("12.9", "11.1"))
START = {"do": "start", "cpu": "<cpu mode='host-model'/>"}
KVM = KvmHost(tsc_khz=2_500_000)


def hosts() -> Iterator[tuple[str, Snapshot]]:
    """Give an Intel host and one of AMD."""
    lines = json.loads(gzip.decompress(HOSTS.read_bytes()))
    for name in ("bochs/sapphire_rapids-gnr@7.3", "tcg/EPYC-Genoa-v1@6.12"):
        yield name, parse_snapshot(lines[name], name)


def main() -> None:
    """Time both on two hosts."""
    for release, qemu in RELEASES:
        loading = median(lambda release=release: CpuMap(release), 20)  # type: ignore[misc]
        print(f"libvirt {release}, QEMU {qemu}: its map takes {loading * 1e3:.1f} ms to load")
        for name, host in hosts():
            setup = Setup.of(host, Stack(qemu=qemu))
            kept = Libvirt(setup, release, KVM)
            first = median(lambda: Libvirt(setup, release, KVM).answer({"do": "domcapabilities"}), 20)  # noqa: B023
            start = median(lambda: kept.answer(START), 100)  # noqa: B023
            print(f"  {name:32} domcapabilities {first * 1e3:5.1f} ms (goal 30)   start {start * 1e3:4.1f} ms (goal 5)")


if __name__ == "__main__":
    main()
