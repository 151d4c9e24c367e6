"""fleet collect against a real OpenSSH server on loopback: this machine is every host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import program, vcpuid
from support.sshd import server
from vcpuid import fleet, sources
from vcpuid.fleet.classes import HostClass

pytestmark = [pytest.mark.sshd, pytest.mark.x86, pytest.mark.process, pytest.mark.long]

ACCOUNTS = {
    "node1": "",
    "node2": "",
    "greets": 'echo Welcome; sh -c "$SSH_ORIGINAL_COMMAND"; echo Goodbye >&2; echo bye; false',
    "nologin": "echo This account is currently not available.; exit 1",
    "without-python": 'PATH=/nowhere; eval "$SSH_ORIGINAL_COMMAND"',
    "other-program": "echo I am a git server",
    "silent": "true",
    "cut": 'sh -c "$SSH_ORIGINAL_COMMAND" | head -c 3000; sleep 0.2; kill -9 $PPID',
}


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("sshd"), ACCOUNTS) as command:
        yield command


def test_a_host_becomes_a_file_that_says_what_this_machine_says(ssh: str, tmp_path: Path) -> None:
    done = vcpuid("fleet", "collect", str(tmp_path), "node1", "root@node2", "--cluster", "east", "--ssh", ssh)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == ["east/node1.txt", "east/node2.txt"]
    assert (done.returncode, done.stdout) == (0, "2 of 2 hosts answered; they are of 1 class.\n")
    here = HostClass.of(sources.this_machine())
    assert fleet.open(tmp_path).host("node1").id == fleet.open(tmp_path).host("east/node2").id == here.id


def test_what_a_shell_prints_around_it_is_no_part_of_it(ssh: str, tmp_path: Path) -> None:
    assert vcpuid("fleet", "collect", str(tmp_path), "greets", "node1", "--ssh", ssh).returncode == 0
    assert (tmp_path / "greets.txt").read_bytes() == (tmp_path / "node1.txt").read_bytes()


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("nologin", "This account is currently not available."),
        ("without-python", "python3"),
        ("other-program", "the collector was not run; said was: I am a git server"),
        ("silent", "the collector was not run, and nothing was said"),
        ("cut", "the snapshot broke off: Connection to 127.0.0.1 closed by remote host."),
        ("nobody@node1", "nobody@127.0.0.1: Permission denied (publickey"),
        ("ssh://node1:1", "ssh: connect to host 127.0.0.1 port 1: Connection refused"),
    ],
)
def test_who_does_not_answer_is_told_with_the_last_line(host: str, why: str, ssh: str, tmp_path: Path) -> None:
    done = vcpuid("fleet", "collect", str(tmp_path), "node2", host, "--ssh", ssh, "--format", "json")
    told = json.loads(done.stdout)
    (one,) = told["unanswered"]
    assert done.returncode == 1
    assert one["address"] == host
    assert why in one["why"]
    assert [row["name"] for row in told["hosts"]] == ["node2"]
    assert [path.name for path in tmp_path.iterdir()] == ["node2.txt"]


def test_a_host_whose_key_is_another_is_not_asked(ssh: str, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    done = vcpuid("fleet", "collect", str(tmp_path / "fleet"), "node1", "--ssh", f"{ssh} -o UserKnownHostsFile={known}")
    assert done.returncode == 1
    assert "Host key verification failed." in done.stdout
    assert known.read_bytes() == b""


def test_into_a_store(ssh: str, tmp_path: Path) -> None:
    store = tmp_path / "fleet.duckdb"
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("[east]\nnode[1:2]\n[west]\nweb ansible_host=node1\nsilent\n", encoding="utf-8")
    done = program("fleet", "collect", str(store), "--inventory", str(inventory), "--ssh", ssh, "--format", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["added"] == {
        "hosts": 3, "classes": 1, "new": [HostClass.of(sources.this_machine()).name], "changed": [],
    }  # fmt: skip
    assert [row["name"] for row in json.loads(done.stdout)["unanswered"]] == ["silent"]
    kept = fleet.open(store)
    assert (kept.census("east").hosts, kept.census("west").hosts) == (2, 1)
