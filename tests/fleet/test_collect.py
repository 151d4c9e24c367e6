"""fleet collect with a program in ssh's place: what hosts and connections do that no real server does on demand."""

from __future__ import annotations

import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support.captures import capture
from support.command import Done, vcpuid
from support.fake_ssh import answers, fake_ssh, snapshot
from vcpuid import data, fleet, read, sources
from vcpuid.errors import InputError, UnavailableError
from vcpuid.fleet import remote
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.collect import HostAnswer, collect
from vcpuid.fleet.remote import Way, ask
from vcpuid.fleet.store import Store
from vcpuid.fleet.targets import Target, target

pytestmark = pytest.mark.long

MILAN, SKYLAKE = "kvm-amd.EPYC-Milan-v2@7.3", "kvm-intel.corei7_skylake_x@6.12"


def run(tmp_path: Path, hosts: dict[str, str], *more: str, store: str = "fleet") -> tuple[Done, dict[str, Any]]:
    """Collect from all the hosts, and give the answer, which is what its schema says."""
    done = vcpuid("fleet", "collect", str(tmp_path / store), *hosts, "--ssh", fake_ssh(tmp_path, hosts), "--format", "json", *more)
    told = json.loads(done.stdout)
    jsonschema.validate(told, json.loads(data.schema("fleet-collect")))
    assert told["asked"] == len(told["hosts"]) + len(told["unanswered"]) == len(hosts)
    assert done.returncode == (1 if told["unanswered"] else 0)
    return done, told


def why(tmp_path: Path, code: str, *more: str) -> str:
    """Why a host did not answer, of which nothing is kept then."""
    done, told = run(tmp_path, {"node1": code, "node2": answers(MILAN)}, *more)
    (one,) = told["unanswered"]
    assert (one["name"], one["address"]) == ("node1", "node1")
    assert [path.name for path in (tmp_path / "fleet").iterdir()] == ["node2.txt"]
    assert f"node1 did not answer: {one['why'][:80]}" in done.stderr
    cause: str = one["why"]
    return cause


def test_what_is_kept_is_what_came(tmp_path: Path) -> None:
    _, told = run(tmp_path, {"b": answers(MILAN), "root@a": answers(SKYLAKE)}, "--cluster", "x/y")
    assert (tmp_path / "fleet" / "x" / "y" / "b.txt").read_bytes() == snapshot(MILAN)
    assert [(row["name"], row["cluster"], row["class"]) for row in told["hosts"]] == [
        (name, "x/y", HostClass.of(read(capture(machine))).name) for name, machine in (("a", SKYLAKE), ("b", MILAN))
    ]
    assert told["added"] is None


def test_ssh_asks_nobody_and_leaves_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"open({str(log)!r}, 'a').write(repr((options, host, command)) + chr(10)); {answers(MILAN)}"
    for more in ((), ("--sudo",)):
        hosts = {"ssh://me@node1:2222": code}
        ssh = fake_ssh(tmp_path, hosts) + " -F 'my config'"
        assert vcpuid("fleet", "collect", str(tmp_path / "fleet"), *hosts, "--ssh", ssh, *more).returncode == 0
    options = ["-F", "my config", "-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes", "-o", "ControlMaster=no"]
    options += ["-o", "RemoteCommand=none", "-T"]
    assert log.read_text(encoding="utf-8").splitlines() == [
        repr((options, "ssh://me@node1:2222", command)) for command in ("python3 -I -", "sudo -n python3 -I -")
    ]
    assert (tmp_path / "fleet" / "node1.txt").exists()


def test_what_a_host_is_given_runs_the_collector_between_the_marks(tmp_path: Path) -> None:
    """In any locale, and whatever lies in the folder that it is run in."""
    (tmp_path / "struct.py").write_text("raise SystemExit('the wrong module')", encoding="utf-8")
    code = f"""
import subprocess
done = subprocess.run(["sh", "-c", command.replace("python3", {sys.executable!r})], input=program, cwd={str(tmp_path)!r},
                      env={{"LC_ALL": "C", "PYTHONUTF8": "0"}}, stdout=subprocess.PIPE)
sys.exit(done.returncode if done.stdout.startswith(begin) and done.stdout.endswith(end) and not out(done.stdout) else 99)
"""
    _, told = run(tmp_path, {"node1": code})
    assert told["hosts"][0]["class"] == HostClass.of(sources.this_machine()).name


def test_an_old_python_says_that_it_is_old() -> None:
    marks = remote._Marks.new()
    program = marks.program().replace(b"(3, 8)", b"(9, 8)")
    done = subprocess.run([sys.executable, "-I", "-"], input=program, capture_output=True)
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"Python {here} is too old: the collector needs 3.8\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"Welcome!\nYou have mail.\n", b"bye\n"),
        (b"no end of line", b"\x00\xff\x1b[2J"),
        (b"\x00\xff\x1b[2J" * 1000, b"\n\n"),
        (b"CPU AMD\nKERNEL 2.4\n", b"KERNEL 2.4\nnothing of KVM\n"),
    ],
)
@pytest.mark.parametrize("status", [0, 1, 255])
def test_what_stands_around_a_whole_snapshot_is_no_part_of_it(before: bytes, after: bytes, status: int, tmp_path: Path) -> None:
    code = f"out({before!r}); {answers(MILAN)}; out({after!r}); err(b'odd'); sys.exit({status})"
    run(tmp_path, {"node1": code})
    assert (tmp_path / "fleet" / "node1.txt").read_bytes() == snapshot(MILAN)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("err(b'banner\\r\\n\\nssh: connect to host node1 port 22: Connection refused\\r\\n'); sys.exit(255)",
         "ssh: connect to host node1 port 22: Connection refused"),
        ("err(b'Host key verification failed.\\n'); sys.exit(255)", "Host key verification failed."),
        ("err(b'bash: line 1: python3: command not found\\n'); sys.exit(127)", "bash: line 1: python3: command not found"),
        ("err(b'sudo: a password is required\\n'); sys.exit(1)", "sudo: a password is required"),
        ("out(b'This account is currently not available.\\n'); sys.exit(1)", "This account is currently not available."),
        ("out(begin); err(b'vcpuid_collect: /dev/cpu/0/cpuid: gone\\nbye\\n'); sys.exit(4)", "/dev/cpu/0/cpuid: gone"),
        ("sys.exit(255)", "ssh ended with exit status 255"),
        ("os.kill(os.getpid(), 9)", "ssh was ended by signal 9"),
        ("pass", "the collector was not run, and nothing was said"),
        ("out(b'hello\\n')", "the collector was not run; said was: hello"),
        ("out(b'\\xff\\x00' * 9000)", "the collector was not run; said was: " + "\ufffd" * 200 + "…"),
        ("err(b'\\x1b[2Jx\\x07' + b'y' * 300 + b'\\n'); sys.exit(1)", "\ufffd[2Jx\ufffd" + "y" * 194 + "…"),
        (f"out(begin + {snapshot(MILAN)[:2000]!r})", "the snapshot broke off: ssh ended with exit status 0"),
        (f"out(begin + {snapshot(MILAN)[:2000]!r}); os.kill(os.getpid(), 15)", "the snapshot broke off: ssh was ended by signal 15"),
        (f"out(begin + {snapshot(MILAN)!r}); err(b'vcpuid_collect: no MSRs\\nclient_loop: send disconnect: Broken pipe\\n'); sys.exit(255)",
         "the snapshot broke off: client_loop: send disconnect: Broken pipe"),
        ("out(begin + end)",
         "its snapshot cannot be read: no CPUID in it: neither RAW or SUP lines of a snapshot nor another form that is known"),
        (f"out(begin + {snapshot(MILAN)!r} + bytes(3) + end)", "its snapshot cannot be read: line "),
        (f"out(begin + {snapshot(MILAN)!r} + b'RAW 1 2 zz' + end)", "its snapshot cannot be read: line "),
        ("out(begin + b'\\xff\\n' + end)", "its snapshot cannot be read: line 1: not text: byte 0xff is not UTF-8"),
    ],
)  # fmt: skip
def test_why_a_host_did_not_answer(code: str, cause: str, tmp_path: Path) -> None:
    found = why(tmp_path, code)
    assert found.startswith(cause) if cause.endswith("line ") else found == cause


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"open({str(pid)!r}, 'w').write(str(os.getpid())); out(begin); time.sleep(60)"
    start = time.monotonic()
    assert why(tmp_path, code, "--timeout", "1") == "no answer within 1 seconds"
    assert time.monotonic() - start < 20
    assert_gone(pid)


def test_one_that_hangs_and_does_not_want_to_end_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    assert why(tmp_path, code, "--timeout", "1") == "no answer within 1 seconds"
    assert_gone(pid)


@pytest.mark.parametrize("first", ["", "begin + "])
def test_output_without_an_end_is_cut(first: str, tmp_path: Path) -> None:
    assert why(tmp_path, f"out({first}b'')\nwhile True: out(b'x' * 65536)") == "more than 2 MiB came: no snapshot is that large"


def test_errors_without_an_end_cost_no_memory(tmp_path: Path) -> None:
    code = f"err(b'x' * (64 << 20)); err(b'\\nvcpuid_collect: nothing of KVM\\n'); {answers(MILAN)}"
    _, told = run(tmp_path, {"node1": code})
    assert not told["unanswered"]


def test_what_ssh_leaves_behind_holds_nobody_up(tmp_path: Path) -> None:
    """As a connection that is kept for the next call does, with ssh's standard error in its hands."""
    code = f"{answers(MILAN)}\nif os.fork() == 0: time.sleep(30)"
    start = time.monotonic()
    _, told = run(tmp_path, {"node1": code})
    assert not told["unanswered"]
    assert time.monotonic() - start < 20


def test_as_many_as_jobs_are_asked_at_a_time(tmp_path: Path) -> None:
    mark = f"""
folder = {str(tmp_path)!r}
open(f"{{folder}}/running-{{host}}", "w").close()
time.sleep(0.3)
running = len([name for name in os.listdir(folder) if name.startswith("running-")])
open(f"{{folder}}/seen-{{host}}", "w").write(str(running))
os.unlink(f"{{folder}}/running-{{host}}")
"""
    run(tmp_path, {f"node{number}": f"{mark}{answers(MILAN)}" for number in range(9)}, "--jobs", "3")
    seen = [path.read_text(encoding="utf-8") for path in tmp_path.glob("seen-*")]
    assert len(seen) == 9
    assert max(seen) == "3"


def test_a_host_of_an_inventory_that_ssh_does_not_reach_is_told(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("[east]\nnode1 ansible_port=2222\n[west]\nhere ansible_connection=local\n", encoding="utf-8")
    ssh = fake_ssh(tmp_path, {"ssh://node1:2222": answers(MILAN)})
    args = ("fleet", "collect", str(tmp_path / "fleet"), "--inventory", str(inventory), "--ssh", ssh)
    done = vcpuid(*args)
    assert done.returncode == 1
    assert "1 of 2 hosts answered" in done.stdout
    assert "ansible_connection is local, and hosts are asked by ssh" in done.stdout
    assert (tmp_path / "fleet" / "east" / "node1.txt").exists()
    assert vcpuid(*args, "--group", "east").returncode == 0
    assert vcpuid(*args, "--group", "east", "--cluster", "north").returncode == 0
    assert (tmp_path / "fleet" / "north" / "node1.txt").exists()


def test_the_list_of_who_did_not_answer_is_in_every_form(tmp_path: Path) -> None:
    hosts = {"node1": answers(MILAN), "me@node2": "err(b'down\\n'); sys.exit(255)"}
    ssh = fake_ssh(tmp_path, hosts)
    shown = {
        form: vcpuid("fleet", "collect", str(tmp_path / "fleet"), *hosts, "--ssh", ssh, "--format", form).stdout
        for form in ("table", "lines", "csv", "jsonl")
    }
    assert "1 of 2 hosts answered" in shown["table"]
    assert all(word in shown["table"] for word in ("1 did not answer", "node2", "me@node2", "down"))
    assert shown["lines"] == "me@node2\n"
    assert shown["csv"] == "name,cluster,address,why\nnode2,,me@node2,down\n"
    assert json.loads(shown["jsonl"]) == {"name": "node2", "cluster": "", "address": "me@node2", "why": "down"}


def test_the_collectors_notes_are_told_once_for_all_hosts(tmp_path: Path) -> None:
    noted = b"nothing of KVM: /dev/kvm: No such file or directory\n"
    code = f"out(begin + {noted + snapshot(MILAN)!r} + end)"
    done, told = run(tmp_path, {"node1": code, "node2": code, "node3": answers(MILAN)})
    assert "vcpuid: 2 hosts (node1 and others): nothing of KVM: /dev/kvm: No such file or directory\n" in done.stderr
    assert [row["notes"][0] for row in told["hosts"][:2]] == [noted.decode().strip()] * 2


def test_a_file_is_replaced_as_a_whole_and_has_the_usual_rights(tmp_path: Path) -> None:
    run(tmp_path, {"node1": answers(MILAN)})
    path = tmp_path / "fleet" / "node1.txt"
    with path.open("rb") as before:
        run(tmp_path, {"node1": answers(SKYLAKE)})
        assert before.read() == snapshot(MILAN)
    assert path.read_bytes() == snapshot(SKYLAKE)
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    run_again, _ = run(tmp_path, {"node1": "sys.exit(255)"})
    assert (run_again.returncode, path.read_bytes()) == (1, snapshot(SKYLAKE))


def test_another_file_of_the_same_host_is_told(tmp_path: Path) -> None:
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "node1.txt.gz").write_bytes(gzip.compress(snapshot(SKYLAKE)))
    done, _ = run(tmp_path, {"node1": answers(MILAN), "node2": answers(MILAN)})
    assert "node1.txt.gz: a file of the same host besides node1.txt" in done.stderr
    assert "node2" not in done.stderr


def test_a_store_takes_all_in_one_transaction(tmp_path: Path) -> None:
    hosts = {"node1": answers(MILAN), "node2": answers(MILAN), "node3": answers(SKYLAKE), "node4": "sys.exit(3)"}
    _, told = run(tmp_path, hosts, "--cluster", "east", store="fleet.duckdb")
    assert (told["added"]["hosts"], told["added"]["classes"], len(told["added"]["new"]), told["added"]["changed"]) == (3, 2, 2, [])
    time.sleep(1.1)  # of two visits in one second the first stays
    _, again = run(tmp_path, {"node1": answers(SKYLAKE)}, "--cluster", "east", store="fleet.duckdb")
    assert (again["added"]["new"], again["added"]["changed"]) == ([], ["east/node1"])
    census = fleet.open(tmp_path / "fleet.duckdb").census("east")
    assert [(group.hosts, group.kind.id) for group in census.groups] == [
        (number, HostClass.of(read(capture(machine))).id) for number, machine in ((2, SKYLAKE), (1, MILAN))
    ]


def test_a_place_that_is_none_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    ssh = fake_ssh(tmp_path, {"node1": f"open({str(asked)!r}, 'w')"})
    (tmp_path / "file").touch()
    (tmp_path / "none.duckdb").write_bytes(b"no database" * 1000)
    for place in ("file", "none.duckdb", "file/below", "nowhere/fleet.duckdb", "x" * 300, "y" * 300 + ".duckdb"):
        done = vcpuid("fleet", "collect", str(tmp_path / place), "node1", "--ssh", ssh)
        assert done.returncode in (3, 4)
        assert done.stderr.count("\n") == 1
    assert not asked.exists()


@pytest.mark.parametrize(
    ("args", "status", "cause"),
    [
        ((), 2, "name a HOST, an @FILE or an --inventory"),
        (("a", "--group", "b"), 2, "--group is about an --inventory"),
        (("a", "--ssh", "/no/such/ssh"), 4, "/no/such/ssh: cannot be run: No such file or directory"),
        (("a", "--ssh", "'"), 3, "--ssh"),
        (("a", "--ssh", ""), 3, "--ssh names no command"),
        (("a", "--jobs", "0"), 2, "--jobs"),
        (("a", "--timeout", "0"), 2, "--timeout"),
        (("a", "--timeout", "nan"), 2, "--timeout"),
        (("a", "--cluster", "../up"), 3, "can be no cluster's name"),
        (("me@a", "a"), 3, "two hosts would be called a"),
        (("@/dev/null",), 3, "there is nobody to ask"),
        (("--inventory", "/dev/null"), 3, "there is nobody to ask"),
        (("@/no/such/file",), 3, "/no/such/file: No such file or directory"),
        (("--", "-oProxyCommand=touch x"), 3, "ssh would take it for an option"),
    ],
)
def test_what_makes_no_sense_is_refused(args: tuple[str, ...], status: int, cause: str, tmp_path: Path) -> None:
    done = vcpuid("fleet", "collect", str(tmp_path / "fleet"), *args)
    assert (done.returncode, done.stdout) == (status, "")
    assert cause in done.stderr


def test_the_disk_that_is_full_ends_it_and_leaves_no_child(tmp_path: Path) -> None:
    """What cannot be written is no host's fault."""
    pid, place = tmp_path / "pid", tmp_path / "fleet"
    place.mkdir()
    (place / "node1.txt").mkdir()
    hosts = {"node1": answers(MILAN), "node2": f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"}
    done = vcpuid("fleet", "collect", str(place), "node2", "node1", "--ssh", fake_ssh(tmp_path, hosts))
    assert done.returncode == 4
    assert "cannot be written" in done.stderr
    assert [path.name for path in place.iterdir()] == ["node1.txt"]
    if pid.exists():
        assert_gone(pid)


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("store", ["fleet", "fleet.duckdb"])
def test_a_signal_ends_the_children_and_what_came_is_kept(store: str, number: signal.Signals, tmp_path: Path) -> None:
    pid, place = tmp_path / "pid", tmp_path / store
    hosts = {"node1": answers(MILAN), "node2": f"open({str(pid)!r}, 'w').write(str(os.getpid())); out(begin); time.sleep(60)"}
    hosts["node3"] = "err(b'done before\\n'); sys.exit(255)"
    command = [sys.executable, "-m", "vcpuid", "fleet", "collect", str(place), *hosts, "--ssh", fake_ssh(tmp_path, hosts), "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert b"2 of 3: node3 did not answer: done before" in process.stderr.readline()  # it is asked once node1 has answered
    while not (pid.exists() and pid.read_text(encoding="utf-8")):
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-number, b"", b"")
    assert_gone(pid)
    assert fleet.open(place).census().hosts == 1
    assert fleet.open(place).host("node1").id == HostClass.of(read(capture(MILAN))).id
    assert not list(tmp_path.rglob("*.part"))


def test_who_stops_listening_ends_what_is_under_way(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hosts = {"a": f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)", "b": answers(MILAN)}
    replies = ask([target("a"), target("b")], Way(fake_ssh(tmp_path, hosts)))
    assert next(replies).target.name == "b"
    while not (pid.exists() and pid.read_text(encoding="utf-8")):
        time.sleep(0.01)
    replies.close()
    assert_gone(pid)


def test_an_error_of_who_listens_keeps_what_came(tmp_path: Path) -> None:
    def told(answer: HostAnswer) -> None:
        raise ValueError(answer.target.name)

    with pytest.raises(ValueError, match="node1"):
        collect(tmp_path / "fleet.duckdb", [target("node1")], Way(fake_ssh(tmp_path, {"node1": answers(MILAN)})), told)
    assert fleet.open(tmp_path / "fleet.duckdb").census().hosts == 1


def test_from_python(tmp_path: Path) -> None:
    heard: list[str] = []
    hosts = {"node1": answers(MILAN), "node2": answers(MILAN)}
    found = collect(tmp_path, [*map(target, hosts), Target("c", "c", "", "not today")], Way(fake_ssh(tmp_path, hosts)),
                    lambda answer: heard.append(answer.target.name))  # fmt: skip
    assert sorted(heard) == ["c", "node1", "node2"]
    assert [(one.target.name, one.why) for one in found.unanswered] == [("c", "not today")]
    one, other = (answer.kind for answer in found.answers if answer.kind is not None)
    assert one is other
    with pytest.raises(UnavailableError, match="cannot be run"):
        collect(tmp_path, [target("a")], Way("/no/such/ssh"))
    with pytest.raises(InputError, match="a fleet is a folder"):
        collect(tmp_path / "node1.txt", [])
    assert Store(tmp_path / "x.duckdb").add([]).hosts == 0


def assert_gone(pid: Path) -> None:
    number = int(pid.read_text(encoding="utf-8"))
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
