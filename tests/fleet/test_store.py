"""A store keeps what was added, once, whole, in the order of time; and two programs may write to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.captures import CAPTURES, host
from support.command import vcpuid
from support.fleets import kind
from vcpuid import InputError, Stack, UnavailableError, fleet
from vcpuid.cpuid import CpuidTable
from vcpuid.fleet import statements
from vcpuid.fleet.adding import NAME_LIMIT, Added, Visit, weave
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.engines import DuckDb
from vcpuid.fleet.history import of_host
from vcpuid.fleet.places import ParquetFolder
from vcpuid.fleet.store import Store

duckdb = pytest.importorskip("duckdb", reason="needs DuckDB (the extra fleet)")

SKYLAKE, SAPPHIRE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-amd.EPYC-Milan-v2@6.12"
OLD, NEW = kind("kvm-intel.corei7_skylake_x@6.1"), kind(SKYLAKE)
VISITS = [
    Visit("one", "a", 100, OLD),
    Visit("one", "b", 100, kind(SAPPHIRE)),
    Visit("two", "a", 100, kind(MILAN)),
    Visit("one", "a", 200, NEW),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hosts.duckdb"


@pytest.fixture(params=["hosts.duckdb", "hosts.parquet"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of DuckDB's, and a folder of Parquet files."""
    return tmp_path / str(request.param)


def test_what_was_added_is_there_once(either: Path) -> None:
    store = Store(either)
    first = store.add(VISITS)
    assert (first.hosts, first.classes, len(first.new), first.changed) == (3, 4, 4, ("one/a",))
    assert store.add(VISITS) == Added(3, 4, (), ())
    census = store.census()
    assert (census.hosts, {group.kind.id: group.hosts for group in census.groups}) == (
        3,
        {NEW.id: 1, kind(SAPPHIRE).id: 1, kind(MILAN).id: 1},
    )
    assert [group.kind.facts for group in census.groups if group.kind.id == NEW.id] == [NEW.facts]


def test_a_time_is_asked_about_and_a_cluster(either: Path) -> None:
    store = Store(either)
    store.add(VISITS)
    assert store.hosts(["one/a"], 150) == [OLD]
    assert store.hosts(["one/a", "two/a"]) == [NEW, kind(MILAN)]
    assert store.census(as_of=99).hosts == 0
    assert store.census("two").hosts == 1
    with pytest.raises(InputError, match="several hosts are called 'a': put the cluster before it, as in two/a"):
        store.hosts(["a"])
    with pytest.raises(InputError, match="no host is called 'c'"):
        store.hosts(["c"])


def test_a_history_says_what_changed(either: Path) -> None:
    whole = fleet.open(either)
    changed = replace(host(SKYLAKE), params={**host(SKYLAKE).params, "kvm_intel.nested": "N"})
    whole.add(host("kvm-intel.corei7_skylake_x@6.1"), "a", seen=100)
    whole.add(host(SKYLAKE), "a", seen=200)
    whole.add(changed, "a", seen=300)
    first, second, third = of_host(whole, "a")
    assert (first.first, first.last, first.changes) == (100, 100, ())
    assert second.changes[0] == "kernel 6.1 → 6.12"
    assert any("kvm_intel.nested" in change for change in third.changes)
    with pytest.raises(InputError, match="no host is called 'b'"):
        of_host(whole, "b")


def test_a_host_that_is_removed_was_a_member_until_then(either: Path) -> None:
    whole = fleet.open(either)
    whole.add_all(VISITS)
    assert whole.remove(["one/b", "two/a"], when=300) == ("one/b", "two/a")
    assert whole.census().hosts == 1
    assert whole.census(as_of=299).hosts == 3
    with pytest.raises(InputError, match="no host is called 'b'"):
        whole.host("b")
    assert whole.host("b", as_of=299) == kind(SAPPHIRE)
    assert whole.remove(["one/b"], when=400) == ()
    assert [(one.first, one.id, one.changes) for one in of_host(whole, "one/b")] == [
        (100, kind(SAPPHIRE).id, ()),
        (300, None, ("removed",)),
    ]
    gone = {(one.cluster, one.name): (one.before, one.after) for one in whole.changes(150, 350)}
    assert gone == {("one", "a"): (OLD, NEW), ("one", "b"): (kind(SAPPHIRE), None), ("two", "a"): (kind(MILAN), None)}
    whole.add_all([Visit("one", "b", 500, kind(SAPPHIRE))])
    assert whole.census().hosts == 2
    assert [(one.name, one.before, one.after) for one in whole.changes(450)] == [("b", None, kind(SAPPHIRE))]
    assert whole.changes(150, 550, "one") == whole.changes(150, 350, "one")[:1]


def test_a_host_that_is_forgotten_never_was(either: Path) -> None:
    whole = fleet.open(either)
    whole.add_all(VISITS)
    with pytest.raises(InputError, match="several hosts are called 'a': put the cluster before it, as in two/a"):
        whole.remove(["one/b", "a"], forget=True)
    with pytest.raises(InputError, match="no host is called 'c'"):
        whole.remove(["one/b", "c"])
    assert whole.census(as_of=150).hosts == 3
    assert whole.remove(["one/b"], forget=True) == ("one/b",)
    assert whole.census(as_of=150).hosts == 2
    with pytest.raises(InputError, match="no host is called 'one/b'"):
        whole.history("one/b")


def test_a_folder_of_snapshots_has_nobody_removed(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes((Path(__file__).parents[1] / "captures" / "kvm" / f"{SKYLAKE}.txt.gz").read_bytes())
    with pytest.raises(UnavailableError, match="take the host's file away"):
        fleet.open(tmp_path).remove(["a"])
    with pytest.raises(InputError, match="no history"):
        fleet.open(tmp_path).changes(0)


visits = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), max_size=12, unique_by=lambda visit: visit[0])


def woven(given_: list[tuple[int, int]]) -> list[list[int]]:
    runs: list[list[int]] = []
    for seen, what in given_:
        weave(runs, seen, what)
    return runs


def was(runs: list[list[int]], seen: int) -> int:
    return [run[2] for run in runs if run[0] <= seen][-1]


@given(visits)
def test_in_the_order_of_time_a_host_is_what_it_was_seen_to_be(found: list[tuple[int, int]]) -> None:
    runs = woven(sorted(found))
    assert [was(runs, seen) for seen, _ in found] == [what for _, what in found]
    assert all(one[1] < other[0] and one[2] != other[2] for one, other in pairwise(runs))
    assert woven([*sorted(found), *found]) == runs


@given(visits)
def test_a_late_visit_is_known_as_of_itself(found: list[tuple[int, int]]) -> None:
    """Within a run of another class only its ends are known: what was seen between them then counts no more."""
    runs: list[list[int]] = []
    for seen, what in found:
        weave(runs, seen, what)
        assert was(runs, seen) == what
        assert all(one[1] < other[0] for one, other in pairwise(runs))


def test_an_empty_file_and_others_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.duckdb: no such store"):
        fleet.open(tmp_path / "missing.duckdb").census()
    junk = tmp_path / "junk.duckdb"
    junk.write_bytes(b"x" * 10000)
    with pytest.raises(InputError, match=r"junk\.duckdb: "):
        fleet.open(junk).census()
    other = tmp_path / "other.duckdb"
    duckdb.connect(str(other)).execute("create table t (a int)").close()
    with pytest.raises(InputError, match=r"other\.duckdb: no store of a fleet"):
        fleet.open(other).census()
    with pytest.raises(InputError, match="folder of snapshots, or a store whose name"):
        fleet.open(tmp_path / "hosts.txt")


def test_a_store_of_another_form_is_refused(path: Path) -> None:
    Store(path).add(VISITS)
    with duckdb.connect(str(path)) as connection:
        connection.execute("update form set version = 99")
    for ask in (lambda: Store(path).add(VISITS), Store(path).census):
        with pytest.raises(InputError, match="form 99"):
            ask()


CHANGED = (
    "update class set facts = null",
    "delete from class",
    "update host set name = null, cluster = null",
    "update observation set kind = null",
    f"update host set name = repeat('a', {NAME_LIMIT + 1})",
    "drop table host; create view host as select 1::BIGINT as host, content as name, '' as cluster from read_text('/etc/hostname')",
)


@pytest.mark.parametrize("change", CHANGED)
def test_a_store_that_somebody_changed_is_refused(path: Path, change: str) -> None:
    """Nor does it read other files: a view in the place of a table is none."""
    Store(path).add(VISITS)
    with duckdb.connect(str(path)) as connection:
        connection.execute(change)
    with pytest.raises(InputError, match=r"hosts\.duckdb: "):
        fleet.open(path).census()


def test_no_name_is_longer_than_names_are(either: Path) -> None:
    longest = "a" * NAME_LIMIT
    Store(either).add([Visit(longest, longest, 100, OLD)])
    assert Store(either).census().hosts == 1
    with pytest.raises(InputError, match=f"a name of more than {NAME_LIMIT} characters"):
        Store(either).add([Visit("", longest + "a", 100, OLD)])


def test_a_time_that_is_none_is_found_out(path: Path) -> None:
    Store(path).add(VISITS)
    with duckdb.connect(str(path)) as connection:
        connection.execute("update observation set lasted = 99999999999999")
    with pytest.raises(InputError, match="changed by something else"):
        Store(path).history("one/a")


def test_what_has_lock_in_its_name_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "clock").mkdir()
    junk = tmp_path / "clock" / "lock.duckdb"
    junk.write_bytes(b"junk" * 100)
    start = time.monotonic()
    with pytest.raises(InputError):
        fleet.open(junk).census()
    assert time.monotonic() - start < 10


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hosts.parquet"
    Store(path).add(VISITS)
    told = path / "store.json"
    for text, message in (
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"form": 99, "turn": 1}', "form 99"),
        ('{"form": 2, "turn": 7}', "no store"),
    ):
        told.write_text(text, encoding="utf-8")
        for ask in (Store(path).census, lambda: Store(path).add(VISITS)):
            with pytest.raises(InputError, match=message):
                ask()
    told.write_text('{"form": 2, "turn": 1}', encoding="utf-8")
    assert Store(path).census().hosts == 3
    (path / "class-1.parquet").write_bytes(b"junk" * 100)
    with pytest.raises(InputError, match=r"hosts\.parquet: "):
        Store(path).census()


def test_who_looks_while_a_folder_is_written_sees_what_was(tmp_path: Path) -> None:
    path = tmp_path / "hosts.parquet"
    Store(path).add(VISITS)
    with ParquetFolder(path).look() as engine:
        Store(path).add([Visit("one", "c", 300, NEW)])
        (row,) = engine.rows("select count(*) from host")
        assert row == (3,)
    assert Store(path).census().hosts == 4
    for number in range(4):
        Store(path).add([Visit("one", f"d{number}", 300, NEW)])
    assert len(list(path.glob("*.parquet"))) == 2 * 4


def test_what_a_killed_writer_left_of_its_memory_is_cleared_away(tmp_path: Path) -> None:
    place = tmp_path / "fleet.parquet"
    (place / "spill").mkdir(parents=True)
    (place / "spill" / "duckdb_temp_storage.tmp").write_bytes(b"left")
    Store(place).add(VISITS)
    assert not (place / "spill").exists()
    assert Store(place).census().hosts == 3


def test_what_holds_now_is_written_first_by_cluster_and_class(either: Path) -> None:
    """So the newest of all hosts are read alone, and neighbours are alike."""
    Store(either).add(VISITS)
    Store(either).copy(either.with_name("copied.parquet"))
    (file,) = either.with_name("copied.parquet").glob("observation-*.parquet")
    rows = duckdb.connect().execute(f"select ended < {statements.OPEN}, cluster, kind from read_parquet('{file}')").fetchall()
    assert len({old for old, *_ in rows}) == 2
    assert rows == sorted(rows)


def test_a_later_word_on_the_same_second_counts(either: Path) -> None:
    Store(either).add([Visit("", "a", 100, OLD)])
    assert Store(either).add([Visit("", "a", 100, NEW)]).hosts == 1
    assert Store(either).hosts(["a"]) == [NEW]
    assert [row[3] for row in Store(either).history("a")] == [NEW]


def test_pipes_links_and_closed_folders_are_told(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "captures" / "kvm" / f"{SKYLAKE}.txt.gz"
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt.gz").write_bytes(source.read_bytes())
    os.mkfifo(tmp_path / "one" / "pipe")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "one" / "gone.txt").symlink_to(tmp_path / "nowhere")
    census = fleet.open(tmp_path).census()
    assert census.hosts == 1
    why = {one.name: one.why for one in census.unread}
    assert set(why) == {"pipe", "two", "gone"}
    assert why["pipe"] == "no regular file"
    assert "not followed" in why["two"]
    os.mkfifo(tmp_path / "pipe.duckdb")
    with pytest.raises(InputError, match="no regular file"):
        fleet.open(tmp_path / "pipe.duckdb").census()


def test_two_files_of_one_host_in_no_cluster_are_told(tmp_path: Path) -> None:
    for ending, capture in ((".txt.gz", SKYLAKE), (".gz", SAPPHIRE)):
        (tmp_path / f"n{ending}").write_bytes((Path(__file__).parents[1] / "captures" / "kvm" / f"{capture}.txt.gz").read_bytes())
    with pytest.raises(InputError, match="two files tell of it"):
        fleet.open(tmp_path).host("n")


def test_facts_that_were_changed_are_found_out(path: Path) -> None:
    Store(path).add(VISITS)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"update class set facts = (select facts from class where class = {OLD.id}) where class = {NEW.id}")
    with pytest.raises(InputError, match=r"hosts\.duckdb: .* the facts of another"):
        Store(path).census()
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"update class set facts = 'junk' where class = {NEW.id}")
    with pytest.raises(InputError, match=r"hosts\.duckdb: .* cannot be read"):
        Store(path).census()


def test_without_duckdb_it_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UnavailableError, match=r"pip install 'vcpuid\[fleet\]'"):
        Store(path).add(VISITS)


class Rows:
    """An engine that somebody brings along."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with duckdb.connect(str(self.path), read_only=True) as connection:
            return list(connection.execute(sql).fetchall())


def test_whatever_answers_sql_is_a_fleet_to_read(path: Path) -> None:
    Store(path).add(VISITS)
    whole = fleet.open(Rows(path))
    assert whole.census().hosts == 3
    assert whole.migrate("one/a", "one/a", "host", Stack(qemu="10.0")).outcome == "yes"
    with pytest.raises(UnavailableError, match="only read"):
        whole.add(host(SKYLAKE), "c")


WRITER = """
import sys
from pathlib import Path
from vcpuid.fleet.adding import Visit
from vcpuid.fleet.store import Store
from vcpuid.fleet.classes import HostClass
from vcpuid import read
kind = HostClass.of(read(sys.argv[2]))
for turn in range(int(sys.argv[4])):
    Store(Path(sys.argv[1])).add([Visit(sys.argv[3], f"host{turn}-{n}", 100, kind) for n in range(200)])
    print(turn, flush=True)
"""


def writer(path: Path, cluster: str, turns: int) -> subprocess.Popen[str]:
    capture = Path(__file__).parents[1] / "captures" / "kvm" / f"{SKYLAKE}.txt.gz"
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(capture), cluster, str(turns)], stdout=subprocess.PIPE, text=True)


@pytest.mark.process
@pytest.mark.long
def test_two_writers_lose_nothing(either: Path) -> None:
    both = [writer(either, "one", 5), writer(either, "two", 5)]
    assert [process.wait(60) for process in both] == [0, 0]
    for process in both:
        assert process.stdout is not None
        process.stdout.close()
    assert Store(either).census().hosts == 2 * 5 * 200


@pytest.mark.process
@pytest.mark.long
def test_a_writer_that_is_killed_leaves_what_was_whole(either: Path) -> None:
    """At any moment: what it had said to be added is there, and of the rest all of a turn or nothing."""
    for delay in (0.0, 0.01, 0.05, 0.12):
        process = writer(either, f"after {delay}", 50)
        assert process.stdout is not None
        told = int(process.stdout.readline())
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in process.stdout.read().split())])
        process.wait()
        process.stdout.close()
        hosts = Store(either).census(f"after {delay}").hosts
        assert hosts % 200 == 0
        assert hosts >= (told + 1) * 200
    assert either.exists()


def test_a_folder_is_a_fleet_without_an_index(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "captures" / "kvm"
    for cluster, name, capture in (("one", "a", SKYLAKE), ("one", "b", SAPPHIRE), ("two", "a", MILAN)):
        (tmp_path / cluster).mkdir(exist_ok=True)
        (tmp_path / cluster / f"{name}.txt.gz").write_bytes((source / f"{capture}.txt.gz").read_bytes())
    (tmp_path / "two" / "c.txt").write_text("cut", encoding="utf-8")
    (tmp_path / ".hidden").write_text("cut", encoding="utf-8")
    whole = fleet.open(tmp_path)
    assert whole.census().hosts == 3
    assert [one.name for one in whole.census().unread] == ["c"]
    assert whole.census("one").unread == ()
    assert whole.host("two/a").id == kind(MILAN).id == HostClass.of(host(MILAN)).id
    for what, message in (("a", "several hosts"), ("c", "host c cannot be read: line 1"), ("d", "no host is called 'd'")):
        with pytest.raises(InputError, match=message):
            whole.host(what)
    with pytest.raises(UnavailableError, match="no index"):
        whole.add(host(SKYLAKE), "e")
    with pytest.raises(InputError, match="no history"):
        whole.census(as_of=5)
    with pytest.raises(InputError, match="there is no host in cluster 'three'"):
        whole.census("three")


def test_a_class_comes_back_with_all_its_kinds_of_cores(either: Path) -> None:
    facts = host(SKYLAKE)
    mixed = CpuidTable(entry._replace(edx=entry.edx | 1 << 15) if entry.function == 7 else entry for entry in facts.raw)
    cut = HostClass.of(replace(facts, raw=mixed))
    both = HostClass.of(replace(facts, raw=mixed), facts)
    Store(either).add([Visit("", "cut", 100, cut), Visit("", "both", 100, both)])
    assert Store(either).hosts(["cut", "both"]) == [cut, both]
    assert (cut.whole, both.whole, len(both.cores)) == (False, True, 2)


def test_what_cannot_be_read_again_is_not_kept(path: Path) -> None:
    odd = HostClass.of(replace(host(SKYLAKE), cpuinfo={"microcode": "0x1\f2"}))
    with pytest.raises(InputError, match="a snapshot cannot hold"):
        Store(path).add([Visit("", "a", 100, OLD), Visit("", "odd", 100, odd)])
    assert Store(path).census().hosts == 0


@pytest.mark.process
def test_a_question_is_one_look(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes as soon as a question's first statement is answered, and yet is in none of its answer."""
    Store(path).add(VISITS)
    answered = DuckDb.rows
    writers: list[subprocess.Popen[str]] = []
    opened: list[str] = []
    connect = duckdb.connect

    def rows(self: DuckDb, sql: str) -> list[tuple[Any, ...]]:
        found = answered(self, sql)
        if not writers:
            writers.append(writer(path, "one", 1))
            time.sleep(0.3)
        return found

    def opening(*args: Any, **options: Any) -> Any:
        opened.append(args[0])
        return connect(*args, **options)

    monkeypatch.setattr(DuckDb, "rows", rows)
    monkeypatch.setattr(duckdb, "connect", opening)
    census = Store(path).census("one")
    assert census.hosts == 2 == sum(len(group.names) for group in census.groups)
    assert len(opened) == 1
    (process,) = writers
    assert process.wait(60) == 0
    assert process.stdout is not None
    process.stdout.close()
    assert Store(path).census("one").hosts == 202
    opened.clear()
    fleet.open(path).migrate("one/a", "two/a", "qemu64", Stack(qemu="10.0"))
    of_host(fleet.open(path), "one/a")
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("files", "again", "said"),
    [
        (1, False, "1 host of 1 class; the store did not know it."),
        (1, True, "1 host of 1 class; the store knows it already."),
        (3, False, "3 hosts of 3 classes; all of them are new to the store."),
        (3, True, "3 hosts of 3 classes; the store knows all of them already."),
        (2, None, "2 hosts of 2 classes; 1 of them is new to the store."),
    ],
)
def test_what_is_new_to_a_store_is_said_in_a_sentence(files: int, again: bool | None, said: str, either: Path) -> None:
    named = [str(CAPTURES / "kvm" / f"{name}.txt.gz") for name in (SKYLAKE, SAPPHIRE, MILAN)[:files]]
    if again is not False:
        vcpuid("fleet", "add", str(either), *(named if again else named[:1]))
    assert vcpuid("fleet", "add", str(either), *named).stdout == f"{said}\n"
