"""The files that examples of the help and of README.md name, made of captures."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from support.captures import capture
from support.command import vcpuid

_GOLDEN = Path(__file__).parents[1] / "golden"


def lay_out(folder: Path) -> None:
    """Lay them out: snapshots of hosts and of a guest, a table, XML of libvirt's, a log, and a folder of hosts."""
    hosts = {"host.txt": "kvm-intel.corei7_skylake_x@6.12", "other.txt": "kvm-intel.corei7_ivy_bridge_3770k@6.1"}
    for name, host in {**hosts, "table.txt": hosts["host.txt"]}.items():
        (folder / name).write_bytes(gzip.decompress(capture(host).read_bytes()))
    guest = vcpuid("guest", "--cpu", "Haswell-noTSX", "--host", str(folder / "host.txt"), "--format", "lines").stdout
    (folder / "guest.txt").write_text(guest, encoding="utf-8")
    shutil.copy(_GOLDEN / "host-model.xml", folder / "guest.xml")
    shutil.copy(_GOLDEN / "haswell.xml", folder / "cpu.xml")
    shutil.copytree(_GOLDEN / "fleet", folder / "hosts")
    (folder / "guest.log").write_text("char device redirected\nerror: missing features: hle,rtm\n", encoding="utf-8")
