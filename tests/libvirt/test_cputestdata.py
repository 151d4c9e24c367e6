"""libvirt's own tests of its x86 driver, on its own data of 34 machines: read in place, where VCPUID_PEERS names the folder that holds it.

The data are those of libvirt 11.3, and so is the map that they are held against. `support.cputestdata` has the tests themselves. Run on the
data of other releases they tell how that release's answers differ:

    python tests/libvirt/test_cputestdata.py FOLDER 9.0        FOLDER is tests/cputestdata of a source tree
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest

from support import peers
from support.cputestdata import Case, Driver
from vcpuid.libvirt.cpu_map import cpu_map

RELEASE = "11.3"


@cache
def found() -> dict[str, Case]:
    return {f"{case.kind}: {case.name}": case for case in Driver(peers.members(peers.LIBVIRT), cpu_map(RELEASE)).cases()}


def origin(name: str) -> dict[str, str | None]:
    return {"kernel": None, "qemu": None, "vendor": None}


@pytest.mark.conformance("libvirt's tests", origin)
@pytest.mark.parametrize("name", list(found()))
def test_it_passes(name: str) -> None:
    theirs, ours = found()[name].run()
    assert ours == theirs


@pytest.mark.skipif(not peers.LIBVIRT.is_file(), reason="needs libvirt's cputestdata in the folder that VCPUID_PEERS names")
def test_every_kind_is_there() -> None:
    assert {case.kind for case in found().values()} == {"compare", "update", "guest CPU", "baseline", "host", "guest", "json", "live"}


if __name__ == "__main__":
    folder, release = sys.argv[1:]
    files = {path.name: path.read_text(encoding="utf-8") for path in Path(folder).glob("x86_64-*")}
    results = [(case, *case.run()) for case in Driver(files, cpu_map(release)).cases()]
    for case, theirs, ours in results:
        if theirs != ours:
            print(f"{case.kind}: {case.name}\n  libvirt: {theirs}\n  vcpuid:  {ours}")
    print(f"{sum(theirs == ours for _, theirs, ours in results)} of {len(results)} exact")
