"""Ansible's inventories: the INI form, and what `ansible-inventory --list` prints, which is all that Ansible makes of any other form.

A group is a cluster. Those variables are read that say how ssh reaches a host, with Ansible's precedence: a host's own, then those of its
groups, the deepest first, of equally deep ones the last by name. Templates and priorities of groups are not read, nor the folders
group_vars and host_vars, which are in what `ansible-inventory --list` prints.
"""

from __future__ import annotations

import json
import re
import shlex
import string
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vcpuid.errors import InputError
from vcpuid.fleet.targets import MOST_HOSTS, Target, address, checked
from vcpuid.formats.files import read_text
from vcpuid.numbers import decimal

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_GROUP = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_WITH_PORT = re.compile(r"(?:\[(.+)\]|((?:[^:\[\]]|\[[^\]]*\])*)):([0-9]+)")
_RANGE = re.compile(r"\[([^\[\]:]*):([^\[\]:]+)(?::([^\[\]:]+))?\]")
_EVERYBODY = ("all", "ungrouped")
"""Groups that every inventory has, which are no clusters."""

_HOST, _USER, _PORT = ("ansible_ssh_host", "ansible_host"), ("ansible_ssh_user", "ansible_user"), ("ansible_ssh_port", "ansible_port")
"""A variable under its two names; the first has precedence."""

_CONNECTION = "ansible_connection"
_BY_SSH = ("ssh", "smart", "paramiko", "paramiko_ssh")
_LAST_PORT = 65535
_NOT_READ = (
    "ansible_ssh_private_key_file", "ansible_private_key_file", "ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args",
    "ansible_ssh_executable", "ansible_python_interpreter", "ansible_become",
)  # fmt: skip
"""Variables that change how Ansible reaches a host: here that is for the user's ssh configuration to say, or for --ssh and --sudo."""

_KNOWN = frozenset({*_HOST, *_USER, *_PORT, _CONNECTION, *_NOT_READ})
"""The variables that are kept: an inventory has many for each of its hosts."""

_MOST_LISTED = 4 * MOST_HOSTS
"""A host is in some groups, and a range lists it anew in each line."""

_TRANSLATE = "ansible-inventory -i FILE --list > hosts.json makes one that is read"
_NAMED = 3
_BRACKETS = frozenset("[]")
_RANGES = 8
"""Ranges in one name of a host."""

Variables = dict[str, object]


@dataclass
class _HostGroup:
    children: dict[str, None] = field(default_factory=dict)
    variables: Variables = field(default_factory=dict)


class _Inherited(NamedTuple):
    """The chosen groups in which a host is, and its groups' variables, each with the depth and the name of the group that tells it."""

    within: frozenset[str]
    variables: dict[str, tuple[int, str, object]]


_NOWHERE: frozenset[str] = frozenset()


def _joined(parts: Iterable[_Inherited]) -> _Inherited:
    """Put together what groups tell: of each variable the deepest group's value, of equally deep ones the last one's by name."""
    within, variables = _NOWHERE, dict[str, tuple[int, str, object]]()
    for part in parts:
        within |= part.within
        for name, ranked in part.variables.items():
            if name not in variables or variables[name][:2] < ranked[:2]:
                variables[name] = ranked
    return _Inherited(within, variables)


class Inventory:
    """An inventory: groups, and hosts with their own variables and the groups that list them, all in the order in which they are named."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.groups: dict[str, _HostGroup] = {name: _HostGroup() for name in _EVERYBODY}
        self.hosts: dict[str, Variables] = {}
        self.homes: dict[str, dict[str, None]] = {}
        self._listed = 0

    def group(self, name: str) -> _HostGroup:
        """Return a group, a new one if there was none."""
        return self.groups.setdefault(name, _HostGroup())

    def put(self, hosts: Collection[str], group: str, variables: Variables) -> None:
        """Put hosts into a group, with variables of their own; raises InputError for too many."""
        self._listed += len(hosts)
        if self._listed > _MOST_LISTED:
            raise InputError(f"hosts are listed more than {_MOST_LISTED} times", source=self.source)
        self.group(group)
        for host in hosts:
            if (homes := self.homes.get(host)) is None:
                self.homes[host], self.hosts[host] = {group: None}, dict(variables)
            else:
                homes[group] = None
                self.hosts[host].update(variables)
        if len(self.hosts) > MOST_HOSTS:
            raise InputError(f"more than {MOST_HOSTS} hosts", source=self.source)

    def targets(self, chosen: Sequence[str] = ()) -> list[Target]:
        """Return the hosts of the chosen groups, else all.

        A host's cluster is the first chosen group that it is in, directly or not; where none are chosen, the first that lists it. Raises
        InputError for a group that there is not, for what can be no host or port, and where groups are within each other in a circle.
        """
        if unknown := [name for name in chosen if name not in self.groups]:
            raise InputError(f"there is no group {unknown[0][:60]!r}", source=self.source)
        given = self._inherited(chosen)
        found = []

        @cache
        def of(groups: tuple[str, ...]) -> _Inherited:
            return _joined(given[name] for name in (*groups, _EVERYBODY[0]))

        for host, homes in self.homes.items():
            groups = tuple(name for name in homes if name not in _EVERYBODY) or ("ungrouped",)
            whole = of(groups)
            cluster = next((name for name in chosen if name in whole.within), None)
            if chosen and cluster is None:
                continue
            cluster = groups[0] if cluster is None else cluster
            variables = {name: ranked[-1] for name, ranked in whole.variables.items()} | self.hosts[host]
            found.append(self._target(host, "" if cluster in _EVERYBODY else cluster, variables))
        return found

    def _inherited(self, chosen: Sequence[str]) -> dict[str, _Inherited]:
        """Return by group what its hosts have of it and of those above it; each is told from its parents alone, however deep they are."""
        parents: dict[str, list[str]] = {name: [] for name in self.groups}
        for name, group in self.groups.items():
            for child in group.children:
                parents[child].append(name)
        found: dict[str, _Inherited] = {}
        depth: dict[str, int] = {}
        try:
            for name in TopologicalSorter(parents).static_order():
                depth[name] = 1 + max((depth[parent] for parent in parents[name]), default=0)
                rank = 0 if name == _EVERYBODY[0] else depth[name]
                own = {told: (rank, name, value) for told, value in self.groups[name].variables.items()}
                within = frozenset((name,)) if name in chosen else _NOWHERE
                found[name] = _joined((_Inherited(within, own), *(found[parent] for parent in parents[name])))
        except CycleError as error:
            raise InputError(f"group {str(error.args[1][0])[:60]!r} is within itself", source=self.source) from None
        return found

    def _target(self, host: str, cluster: str, variables: Variables) -> Target:
        told = {names: next((variables[name] for name in names if name in variables), None) for names in (_HOST, _USER, _PORT)}
        connection = variables.get(_CONNECTION, "ssh")
        refused = ""
        if not isinstance(connection, str) or connection.removeprefix("ansible.builtin.") not in _BY_SSH:
            refused = f"{_CONNECTION} is {str(connection)[:40]}, and hosts are asked by ssh"
        for names, value in told.items():
            if isinstance(value, dict | list) or "{{" in str(value):
                refused = f"{names[-1]} is no plain value but {str(value)[:60]}"
        port = None if refused or told[_PORT] is None else decimal(str(told[_PORT]), _LAST_PORT)
        if not refused and told[_PORT] is not None and not port:
            raise InputError(f"host {host[:60]}: {str(told[_PORT])[:40]!r} is no port", source=self.source)
        user = None if told[_USER] is None else str(told[_USER])
        where = host if refused or told[_HOST] is None else str(told[_HOST])
        try:
            return checked(Target(host, address(where, None if refused else user, port), cluster, refused))
        except InputError as error:
            raise InputError(error.cause, source=self.source) from None

    def remarks(self) -> list[str]:
        """Say what was passed over: variables that are not read, folders beside the file, groups besides a host's cluster."""
        said = []
        given = {name for group in self.groups.values() for name in group.variables}.union(*self.hosts.values())
        if unread := [name for name in _NOT_READ if name in given]:
            said.append(f"{self.source}: {', '.join(unread)}: not read; let ~/.ssh/config, --ssh or --sudo say it")
        beside = [name for name in ("group_vars", "host_vars") if (Path(self.source).parent / name).is_dir()]
        if beside and self.source != "standard input":
            said.append(f"{self.source}: {' and '.join(beside)} beside it: not read; {_TRANSLATE}")
        if several := [host for host, groups in self.homes.items() if len(groups.keys() - _EVERYBODY) > 1]:
            more = f" and {len(several) - _NAMED} more" if len(several) > _NAMED else ""
            said.append(f"{self.source}: in several groups: {', '.join(several[:_NAMED])}{more}: the first is taken, or that of --group")
        return said


def read_inventory(path: str) -> Inventory:
    """Read an inventory's file, `-` for standard input; raises InputError."""
    source, text = read_text(path)
    if text.lstrip().startswith("{"):
        return _json(text, source)
    return _ini(text, source)


def _ini(text: str, source: str) -> Inventory:
    inventory = Inventory(source)
    group, kind = "ungrouped", "hosts"
    declared: set[str] = set(_EVERYBODY)
    awaited: dict[str, int] = {}
    for number, given in enumerate(text.split("\n"), 1):
        line = given.strip()
        if number == 1 and line.startswith("#!"):
            raise InputError(f"a program, which is not run: {_TRANSLATE}", source=source)
        if not line or line[0] in "#;":
            continue
        try:
            if section := _SECTION.fullmatch(line):
                group, kind = section[1], section[2] or "hosts"
                if kind not in ("hosts", "children", "vars"):
                    raise InputError(f"a section of hosts, children or vars is known, and not of {kind[:40]!r}")
                inventory.group(group)
                if kind == "vars":
                    awaited.setdefault(group, number)
                else:
                    declared.add(group)
            elif line.startswith("[") and line.endswith("]"):
                raise InputError(f"{line[:60]!r} is no section")
            elif kind == "hosts":
                _put_hosts(line, inventory, group)
            elif kind == "children":
                child = _group_name(line)
                inventory.group(group).children[child] = None
                inventory.group(child)
                awaited.setdefault(child, number)
            else:
                name, found, value = line.partition("=")
                if not found:
                    raise InputError(f"NAME=VALUE is wanted, and not {line[:60]!r}")
                inventory.group(group).variables.update(_known({name.strip(): _value(value.strip())}))
        except InputError as error:
            raise InputError(error.cause, source=source, line=number) from None
    for name, number in awaited.items():
        if name not in declared:
            raise InputError(f"there is no group {name[:60]!r}", source=source, line=number)
    return inventory


def _group_name(line: str) -> str:
    found = _GROUP.fullmatch(line)
    if found is None:
        raise InputError(f"the name of a group is wanted, and not {line[:60]!r}")
    return found[1]


def _put_hosts(line: str, inventory: Inventory, group: str) -> None:
    """Put the hosts of a line into a group, with its variables."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise InputError(f"{line[:60]!r}: {error}") from None
    pattern, *settings = words
    if pattern == "---" or pattern.endswith(":"):
        raise InputError(f"{pattern[:60]!r} is no host; an inventory in YAML is not read: {_TRANSLATE}")
    variables: Variables = {}
    if with_port := _WITH_PORT.fullmatch(pattern):
        pattern = with_port[1] or with_port[2]
        variables[_PORT[-1]] = with_port[3]
    for setting in settings:
        name, found, value = setting.partition("=")
        if not found:
            raise InputError(f"NAME=VALUE is wanted after a host, and not {setting[:60]!r}")
        variables[name] = _value(value)
    known, hosts = _known(variables), list(islice(_expanded(pattern), MOST_HOSTS + 1))
    if len(hosts) > MOST_HOSTS:
        raise InputError(f"{pattern[:60]!r}: more than {MOST_HOSTS} hosts")
    inventory.put(hosts, group, known)


def _known(variables: Variables) -> Variables:
    return {name: value for name, value in variables.items() if name in _KNOWN}


def _value(text: str) -> str:
    """Take quotes off, as Python would."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _expanded(pattern: str, ranges: int = 0) -> Iterator[str]:
    """Give the hosts of node[01:20], of [a:f] and of more such in one name; the last one counts fastest."""
    found = _RANGE.search(pattern)
    if found is None:
        if "[" in pattern or "]" in pattern:
            raise InputError(f"{pattern[:60]!r}: a range is [BEGIN:END] or [BEGIN:END:STEP]")
        yield pattern
        return
    if ranges == _RANGES:
        raise InputError(f"{pattern[:60]!r}: more than {_RANGES} ranges")
    before, after = pattern[: found.start()], pattern[found.end() :]
    last = not _BRACKETS.intersection(before + after)
    for one in _range(found[1] or "0", found[2], found[3]):
        if last:
            yield f"{before}{one}{after}"
        else:
            yield from _expanded(f"{before}{one}{after}", ranges + 1)


def _range(begin: str, end: str, step: str | None) -> Iterator[str]:
    """Give what is between two numbers, as wide as the first where that begins with 0, or between two letters."""
    told = f"[{begin[:20]}:{end[:20]}{'' if step is None else f':{step[:20]}'}]"
    by = 1 if step is None else decimal(step)
    if not by:
        raise InputError(f"{told}: {(step or '')[:20]!r} is no step")
    letters = string.ascii_letters
    if len(begin) == len(end) == 1 and begin in letters and end in letters:
        first, last, width = letters.index(begin), letters.index(end), None
    else:
        first_, last_ = decimal(begin), decimal(end)
        if first_ is None or last_ is None:
            raise InputError(f"{told} is a range neither of numbers nor of letters")
        first, last, width = first_, last_, len(begin) if begin[0] == "0" and len(begin) > 1 else 0
        if width and len(end) != width:
            raise InputError(f"{told}: both ends must be of one width, since the first begins with 0")
    if first > last:
        raise InputError(f"{told} ends before it begins")
    for number in range(first, min(last, first + by * MOST_HOSTS) + 1, by):
        yield letters[number] if width is None else str(number).zfill(width)


def _json(text: str, source: str) -> Inventory:
    """Read what `ansible-inventory --list` prints, with or without --export, or what a dynamic inventory's program does."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"no JSON: {error}", source=source) from None
    inventory = Inventory(source)
    for name, group in told.items():
        if name == "_meta":
            continue
        if not isinstance(group, dict) or not {"hosts", "children", "vars"}.issuperset(group):
            raise InputError(f"{name[:60]!r} is no group as ansible-inventory --list prints it", source=source)
        own = inventory.group(name)
        inventory.put(_names(group, "hosts", source), name, {})
        for child in _names(group, "children", source):
            own.children[child] = None
            inventory.group(child)
        own.variables.update(_known(_mapping(group.get("vars", {}), source)))
    for host, variables in _mapping(_mapping(told.get("_meta", {}), source).get("hostvars", {}), source).items():
        if host in inventory.hosts:
            inventory.hosts[host].update(_known(_mapping(variables, source)))
    return inventory


def _names(group: dict[str, object], what: str, source: str) -> list[str]:
    names = group.get(what, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{what} of a group are no list of names, as ansible-inventory --list prints one", source=source)
    return names


def _mapping(value: object, source: str) -> Variables:
    if not isinstance(value, dict):
        raise InputError("variables are no object, as ansible-inventory --list prints one", source=source)
    return value
