"""A fleet of generated hosts of real hosts' classes: census, baseline, blame, a day in the past, adding, the proof; bytes and memory.

    python benchmarks/bench_fleet.py [HOSTS…]

Without numbers 10,000 to 10,000,000 hosts are made, each time ten times as many, in clusters of some 200 with one to four classes, each
host seen twice, within an hour each time, a tenth of them of another class the second time. Classes are the captures under
tests/captures/kvm with microcode of their own. Memory is the most that the process had up to there, DuckDB's included; processor time
counts its forks too. The proof is worked out with an empty cache, and asked again.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb

from vcpuid import Stack, fleet, read
from vcpuid.fleet import statements
from vcpuid.fleet.adding import Visit
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.proof import prove
from vcpuid.fleet.reading import Reader
from vcpuid.fleet.software import settled
from vcpuid.fleet.store import Store

CAPTURES = Path(__file__).parents[1] / "tests" / "captures" / "kvm"
VARIANTS = 6
ADDED = 2000
STACK = Stack(qemu="10.0")
BEFORE, AFTER = 1_700_000_000, 1_750_000_000


def classes() -> Iterator[HostClass]:
    """Give the captures' classes, each with some revisions of its microcode."""
    for path in sorted(CAPTURES.glob("*.txt.gz")):
        host = read(path)
        for variant in range(VARIANTS):
            yield HostClass.of(replace(host, cpuinfo={**host.cpuinfo, "microcode": hex(variant + 1)}))


def made(path: Path, kinds: list[HostClass], hosts: int) -> None:
    """Make a store of so many hosts without adding them one by one, in the order in which `fleet copy` writes them."""
    Store(path).add([Visit("classes", kind.name, BEFORE, kind) for kind in kinds])
    with duckdb.connect(str(path)) as connection:
        for table in ("cluster_name", "host", "observation"):
            connection.execute(f"delete from {table}")
        connection.execute(f"insert into cluster_name select i, 'cluster' || i from range({-(-hosts // 200)}) r(i)")
        connection.execute(f"insert into host select i, i // 200, 'node' || lpad(i::VARCHAR, 8, '0') from range({hosts}) r(i)")
        drawn = f"(hash(i // 200) % {len(kinds)} + hash(i) % (1 + hash(i // 200) % 4)) % {len(kinds)} + 1"
        other = f"case when hash(i) % 10 = 0 then {drawn} % {len(kinds)} + 1 else {drawn} end"
        first, second = (f"({start} + hash(i + {hosts * turn}) % 3600)::BIGINT" for turn, start in enumerate((BEFORE, AFTER)))
        for seen, until, kind in ((second, str(statements.OPEN), other), (first, second, drawn)):
            rows = (
                f"select i as host, i // 200 as cluster, {seen} as first_seen, 0, {until} as ended, {kind} as kind from range({hosts}) r(i)"
            )
            connection.execute(f"insert into observation select * from ({rows}) order by {statements.ORDER['observation']}")


def timed(what: str, work: Callable[[], object], per: int = 1) -> None:
    """Print how long a job takes, and the memory by then."""
    start, used = time.perf_counter(), sum(os.times()[:4])
    work()
    taken, used = time.perf_counter() - start, sum(os.times()[:4]) - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    rate = f"   {per / taken:12,.0f} a second" if per > 1 else ""
    print(f"    {what:58}{taken:9.3f} s{used:9.3f} s of CPU{memory:8} MB{rate}", flush=True)


def measured(folder: Path, kinds: list[HostClass], hosts: int) -> None:
    """Ask one fleet everything."""
    path = folder / f"{hosts}.duckdb"
    maker = multiprocessing.Process(target=made, args=(path, kinds, hosts))  # so that its memory is not counted
    maker.start()
    maker.join()
    size = os.path.getsize(path)
    print(f"{hosts:,} hosts, {2 * hosts:,} observations, {size / 1e6:,.1f} MB: {size / hosts:.1f} bytes a host")
    store, whole = Store(path), fleet.open(path)
    with duckdb.connect(str(path), read_only=True) as connection:
        timed("hosts by cluster and class", lambda: connection.execute(statements.census()).fetchall())
        timed("the same as of a day in the past", lambda: connection.execute(statements.census(BEFORE + 3600)).fetchall())
        timed("hosts whose class changed", lambda: connection.execute(statements.changed(BEFORE + 3600, AFTER + 3600)).fetchall())
    timed("fleet classes --cluster", lambda: store.census("cluster7"))
    timed("fleet baseline --cluster", lambda: whole.baseline(STACK, cluster="cluster7"))
    timed("fleet blame --cluster", lambda: whole.blame(STACK, cluster="cluster7"))
    timed("fleet history HOST", lambda: whole.history("node00001777"))
    parquet = path.with_suffix(".parquet")
    timed("fleet copy to Parquet", lambda: whole.copy(parquet))
    size = sum(file.stat().st_size for file in parquet.glob("*.parquet"))
    print(f"    as Parquet {size / 1e6:,.1f} MB: {size / hosts:.1f} bytes a host")
    timed("fleet baseline --cluster of it", lambda: fleet.open(parquet).baseline(STACK, cluster="cluster7"))
    shutil.rmtree(parquet)
    path.unlink()


def adding(folder: Path) -> None:
    """Read and add snapshots: files of as many hosts as there are classes of captures."""
    source = folder / "files"
    source.mkdir()
    paths = sorted(CAPTURES.glob("*.txt.gz"))
    for number in range(ADDED):
        shutil.copy(paths[number % len(paths)], source / f"node{number}.txt.gz")

    def add() -> None:
        reader = Reader()
        Store(folder / "added.duckdb").add(Visit("", path.name, BEFORE, reader.read(path)) for path in sorted(source.iterdir()))

    timed("fleet add", add, ADDED)


def main() -> None:
    """Print a block for each number of hosts, then what does not depend on it."""
    numbers = [int(text) for text in sys.argv[1:]] or [10_000, 100_000, 1_000_000, 10_000_000]
    kinds = list({kind.id: kind for kind in classes()}.values())
    print(f"{len(kinds)} classes")
    with tempfile.TemporaryDirectory() as folder:
        for hosts in numbers:
            measured(Path(folder), kinds, hosts)
        adding(Path(folder))
        census = fleet.open(_folder(Path(folder), kinds)).census()
        os.environ["XDG_CACHE_HOME"] = folder
        for what in ("the proof of a -cpu", "the same, kept:"):
            of_all = f"{what} over {len(census.groups)} classes"
            timed(of_all, lambda: prove("qemu64", census, settled(census, STACK)), len(census.groups))


def _folder(folder: Path, kinds: list[HostClass]) -> Path:
    path = folder / "proof.duckdb"
    Store(path).add([Visit("", kind.name, BEFORE, kind) for kind in kinds])
    return path


if __name__ == "__main__":
    main()
