"""Inventories of Ansible's mean what Ansible makes of them: tests/captures/ansible has what it gave to ssh."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from support.captures import CAPTURES
from vcpuid.errors import InputError
from vcpuid.fleet import targets as targets_module
from vcpuid.fleet.inventory import Inventory, read_inventory
from vcpuid.fleet.targets import Target, target

INVENTORIES = sorted((CAPTURES / "ansible").glob("*.ini"))
INVENTORY = pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.stem)


def told(path: Path) -> dict[str, Any]:
    """What Ansible made of an inventory."""
    (capture,) = path.parent.glob(f"{path.stem}@*.json.gz")
    found: dict[str, Any] = json.loads(gzip.decompress(capture.read_bytes()))
    return found


def within(group: str, groups: dict[str, Any]) -> set[str]:
    return set(groups[group].get("hosts", [])).union(
        *(within(child, groups) for child in groups[group].get("children", []) if child in groups)
    )


def given_to_ssh(one: Target) -> dict[str, str]:
    found = re.fullmatch(r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?:\[(?P<v6>[^]]+)\]|(?P<host>[^:]+))(?::(?P<port>[0-9]+))?", one.address)
    assert found is not None, one.address
    return {"host": found["v6"] or found["host"], "user": found["user"] or "", "port": found["port"] or ""}


def read_text(text: str, folder: Path) -> Inventory:
    path = folder / "hosts"
    path.write_text(text, encoding="utf-8")
    return read_inventory(str(path))


def names(text: str, folder: Path) -> list[str]:
    return [one.name for one in read_text(text, folder).targets()]


def test_there_are_inventories() -> None:
    assert len(INVENTORIES) == 2


@INVENTORY
@pytest.mark.parametrize("form", ["ini", "list"])
def test_ssh_is_given_what_ansible_gives_it(form: str, path: Path, tmp_path: Path) -> None:
    """Templates are Ansible's alone, so a host that has one is not asked, and said to be so."""
    ansible = told(path)
    inventory = read_inventory(str(path)) if form == "ini" else read_text(json.dumps(ansible["list"]), tmp_path)
    ours = inventory.targets()
    rows = {tuple(given_to_ssh(one).values()) for one in ours if not one.refused}
    theirs = {(row["host"], row["user"], row["port"]) for row in ansible["ssh"] if row["host"] != "templated"}
    assert len(rows) > 3
    assert rows == theirs
    assert [one.name for one in ours if one.refused] == [name for name in ("here", "templated") if path.stem == "depths"]


@INVENTORY
@pytest.mark.parametrize("form", ["ini", "list"])
def test_groups_hold_what_ansible_puts_into_them(form: str, path: Path, tmp_path: Path) -> None:
    ansible = told(path)["list"]
    inventory = read_inventory(str(path)) if form == "ini" else read_text(json.dumps(ansible), tmp_path)
    groups = [name for name in ansible if name != "_meta"]
    assert len(groups) > 4
    for name in groups:
        chosen = inventory.targets([name])
        assert {one.name for one in chosen} == within(name, ansible)
        assert {one.cluster for one in chosen} == {"" if name in ("all", "ungrouped") else name}
    assert {one.name for one in inventory.targets()} == set().union(*(within(name, ansible) for name in groups))


def test_a_cluster_is_the_first_group_that_lists_a_host(tmp_path: Path) -> None:
    inventory = read_text("alone\n[b:vars]\nx=1\n[a]\none\n[b]\ntwo\none\n[top:children]\na\nb\n", tmp_path)
    assert {one.name: one.cluster for one in inventory.targets()} == {"alone": "", "one": "a", "two": "b"}
    assert {one.name: one.cluster for one in inventory.targets(["b", "top"])} == {"one": "b", "two": "b"}
    assert [remark.partition(": ")[2] for remark in inventory.remarks()] == [
        "in several groups: one: the first is taken, or that of --group",
    ]


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("n[1:3]", ["n1", "n2", "n3"]),
        ("n[08:10]", ["n08", "n09", "n10"]),
        ("n[:2]", ["n0", "n1", "n2"]),
        ("n[1:10:4].x", ["n1.x", "n5.x", "n9.x"]),
        ("[a:c]", ["a", "b", "c"]),
        ("[Y:b]", None),
        ("[y:B]", ["y", "z", "A", "B"]),
        ("[1:2][a:b]", ["1a", "1b", "2a", "2b"]),
    ],
)
def test_ranges(pattern: str, hosts: list[str] | None, tmp_path: Path) -> None:
    text = f"[group]\nx\n{pattern} ansible_user=u\n"
    if hosts is None:
        with pytest.raises(InputError, match="ends before it begins"):
            names(text, tmp_path)
    else:
        assert names(text, tmp_path) == ["x", *hosts]


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("n[1:2", 1, "a range is"),
        ("n[1]", 1, "a range is"),
        ("n[a:2]", 1, "neither of numbers nor of letters"),
        ("n[01:100]", 1, "both ends must be of one width"),
        ("n[1:3:0]", 1, "no step"),
        ("n[1:2]" + "[1:2]" * 9, 1, "more than 8 ranges"),
        ("n[0:99999999]", 1, "more than 131072 hosts"),
        ("n" + "[0:99]" * 8, 1, "more than 131072 hosts"),
        ("\n[a:sons]\n", 2, "and not of 'sons'"),
        ("[a b]", 1, "is no section"),
        ("[a:children]\n\nb\n", 3, "there is no group 'b'"),
        ("[a:vars]\nx=1\n", 1, "there is no group 'a'"),
        ("[a]\nb\n[a:vars]\nx\n", 4, "NAME=VALUE is wanted"),
        ("b x", 1, "NAME=VALUE is wanted after a host"),
        ("b 'x", 1, "No closing quotation"),
        ("all:\n  hosts:\n", 1, "YAML is not read: ansible-inventory"),
        ("---\nall:\n", 1, "YAML is not read: ansible-inventory"),
        ("#!/bin/sh\necho\n", None, "a program, which is not run"),
        ("{", None, "no JSON"),
        ("[" * 4 + "{", 1, "no section|a range"),
        ('{"a": []}', None, "'a' is no group"),
        ('{"a": {"hosts": [1]}}', None, "no list of names"),
        ('{"a": {"vars": []}}', None, "no object"),
        ('{"a": {}, "_meta": {"hostvars": 3}}', None, "no object"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int | None, cause: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=cause) as raised:
        read_text(text, tmp_path).targets()
    assert (raised.value.source, raised.value.line) == (str(tmp_path / "hosts"), line)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a ansible_port=0", "'0' is no port"),
        ("a ansible_port=65536", "'65536' is no port"),
        ("a ansible_port=ssh", "'ssh' is no port"),
        ("-oProxyCommand=x", "ssh would take it for an option"),
        ("a ansible_host=-oProxyCommand=x", "ssh would take it for an option"),
        ("a ansible_user=-oProxyCommand=x", "ssh would take it for an option"),
        ("../up", "cannot be that of a file"),
        ("[..]\na", "cannot be that of a folder"),
        ("[a:children]\nb\n[b:children]\na\n", "is within itself"),
    ],
)
def test_what_can_be_no_host_is_refused(text: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=cause):
        read_text(text, tmp_path).targets()
    with pytest.raises(InputError, match="there is no group 'nowhere'"):
        read_text("a\n", tmp_path).targets(["nowhere"])


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    said = " ".join(read_text("a ansible_become=true\n[b]\nc\n[b:vars]\nansible_ssh_common_args=-J x\n", tmp_path).remarks())
    assert "ansible_ssh_common_args, ansible_become: not read" in said
    assert "group_vars beside it: not read" in said


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("node1", "node1"),
        ("root@node1.example.org", "node1.example.org"),
        ("me@corp@node1", "node1"),
        ("ssh://root@node1:22", "node1"),
        ("ssh://node1", "node1"),
        ("ssh://root@[2001:db8::1]:22", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_host_is_called_as_ssh_reaches_it_without_user_and_port(address: str, name: str) -> None:
    assert target(address) == Target(name, address)


@pytest.mark.parametrize(
    "address", ["", "-v", "--", "a b", "a\nb", "a\x1b[2J", "..", ".", "a/b", ".hidden", "ssh://", "a@", "n" * 252, "x.json", "b.gz.json"]
)
def test_what_can_be_no_file_or_an_option_is_no_host(address: str) -> None:
    with pytest.raises(InputError):
        target(address)


@pytest.mark.parametrize("cluster", ["..", "a/../b", "/a", "a/", "a//b", ".a", "a\x1b"])
def test_what_can_be_no_folder_is_no_cluster(cluster: str) -> None:
    with pytest.raises(InputError, match="can be no cluster's name"):
        target("node1", cluster)


def test_lists_of_hosts(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# all\n\nnode1\n  root@node2   # the second\r\nnode#3\n", encoding="utf-8")
    assert [one.address for one in targets_module.targets([f"@{path}", "node4"])] == ["node1", "root@node2", "node#3", "node4"]
    path.write_text("node1\nnode2 node3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"hosts:2: 'node2 node3' is no host"):
        list(targets_module.targets([f"@{path}"]))


def test_a_host_that_is_named_twice_is_one_and_two_of_one_name_are_refused() -> None:
    assert targets_module.distinct([target("a"), target("b"), target("a")]) == [target("a"), target("b")]
    assert len(targets_module.distinct([target("a", "x"), target("a", "y")])) == 2
    with pytest.raises(InputError, match="two hosts would be called x/a: root@a and a"):
        targets_module.distinct([target("root@a", "x"), target("a", "x")])


DEEP = "".join(f"[g{number}:children]\ng{number + 1}\n[g{number}:vars]\nansible_user=user{number}\n" for number in range(2000))


def test_groups_as_deep_as_they_may_be_take_no_more_than_they_are_long(tmp_path: Path) -> None:
    inventory = read_text(f"{DEEP}[g2000]\nh\n", tmp_path)
    tracemalloc.start()
    try:
        (found,) = inventory.targets(["g1000", "g0"])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert (found.address, found.cluster) == ("user1999@h", "g1000")


@pytest.mark.long
def test_hosts_that_are_listed_over_and_over_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hosts:6: hosts are listed more than 524288 times"):
        read_text("[a]\n" + "h[0:120000]\n" * 100, tmp_path)


def test_of_many_hosts_variables_those_are_kept_that_are_read(tmp_path: Path) -> None:
    line = " ".join(f"name{number}=x" for number in range(2000))
    inventory = read_text(f"h[0:5000] {line} ansible_user=me\n[all:vars]\n" + "".join(f"n{number}=x\n" for number in range(2000)), tmp_path)
    assert {len(variables) for variables in inventory.hosts.values()} == {1}
    assert not inventory.groups["all"].variables
    assert inventory.targets()[0].address == "me@h0"
