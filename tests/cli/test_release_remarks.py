"""A release that vcpuid has no tables of is said to have none, by every verb and for every option that takes releases.

COMMANDS has a command line for each verb with such an option; a verb that is new needs one, or the test fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.captures import CAPTURES
from support.command import commands, vcpuid
from vcpuid.cli import cli

GOLDEN = CAPTURES.parent / "golden"
HOST, OTHER = (str(CAPTURES / "kvm" / f"kvm-intel.{name}.txt.gz") for name in ("corei7_skylake_x@6.12", "corei7_ivy_bridge_3770k@6.1"))
FLEET = str(GOLDEN / "fleet")
DOMAIN, CHECKED = str(GOLDEN / "host-model.xml"), str(GOLDEN / "icelake.xml")

UNKNOWN = {
    "--kernel": ("6.10", "no tables of Linux 6.10"),
    "--guest-kernel": ("6.10", "no tables of Linux 6.10"),
    "--qemu": ("12.0", "no tables of QEMU 12.0"),
    "--libvirt": ("13.1", "no tables of libvirt 13.1"),
    "--vmm": ("qemu:12.0", "no tables of QEMU 12.0"),
    "--firecracker": ("1.99", "no tables of Firecracker 1.99"),
}
"""Options that name a release, each with one that has no tables, and what is to be said of it."""

STACKS = {"kernel": "--kernel", "qemu": "--qemu", "libvirt": "--libvirt"}
"""What a side of drift or explore names, by the option that would name it elsewhere."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "diagnose": ("missing features: avx2", "--host", HOST, "--cpu", "Haswell"),
    "explain": ("avx2", "--host", HOST),
    "guest": ("--host", HOST),
    "explore": (HOST, "--save", "page.html"),
    "check": ("Haswell", HOST),
    "diff": (HOST, "--cpu", "Haswell", "--flags"),
    "drift": (HOST, "--to", "qemu=10.0"),
    "probe": ("sse2", "--host", HOST),
    "worth": ("--host", HOST),
    "hyperv": ("--host", HOST),
    "names": ("avx2",),
    "convert": (CHECKED, "--to", "qemu"),
    "fleet baseline": (FLEET,),
    "fleet blame": (FLEET,),
    "fleet export": (FLEET, "--to", "qemu"),
    "fleet migrate": (FLEET, "--cpu", "qemu64"),
    "fleet models": (FLEET,),
    "kvm emulated": (HOST,),
    "kvm lookup": (HOST, "7"),
    "kvm set": (HOST,),
    "kvm supported": (HOST,),
    "qemu expand": ("Haswell", HOST),
    "qemu models": (HOST,),
    "qemu table": ("Haswell", HOST),
    "libvirt argv": (DOMAIN, HOST),
    "libvirt baseline": (CHECKED, HOST),
    "libvirt capabilities": (HOST,),
    "libvirt compare": (CHECKED, HOST),
    "libvirt domcapabilities": (HOST,),
    "libvirt migrate": (DOMAIN, HOST, OTHER),
    "libvirt models": (HOST,),
    "libvirt start": (DOMAIN, HOST),
    "linux flags": (HOST,),
    "linux vulnerabilities": (HOST,),
}
WITH_A_DOMAIN = {
    "diagnose": ("missing features: avx2", "--host", HOST, "--domain", DOMAIN),
    "explain": ("avx2", "--host", HOST, "--domain", DOMAIN),
    "guest": ("--host", HOST, "--domain", DOMAIN),
    "explore": (HOST, "--save", "page.html", "--domain", DOMAIN),
    "check": (DOMAIN, HOST),
    "diff": (HOST, "--domain", DOMAIN),
    "worth": ("--host", HOST, "--domain", DOMAIN),
    "hyperv": ("--host", HOST, "--domain", DOMAIN),
    "fleet export": (FLEET, "--to", "libvirt"),
    "fleet migrate": (FLEET, "node1", "node3", "--domain", DOMAIN),
    "drift": (HOST, "--to", "qemu=10.0", "--domain", DOMAIN),
    "qemu expand": (DOMAIN, HOST),
    "qemu table": (DOMAIN, HOST),
    "linux flags": (HOST, "--guest", "--domain", DOMAIN),
    "linux vulnerabilities": (HOST, "--guest", "--domain", DOMAIN),
}
"""How a verb is asked where only a domain makes it read --libvirt."""
WITH_A_GUEST = {
    "linux flags": (HOST, "--guest"),
    "linux vulnerabilities": (HOST, "--guest"),
    "fleet export": (FLEET, "--to", "firecracker"),
}
"""How a verb is asked where only a guest makes it read --qemu and --guest-kernel, or only a form --firecracker."""
SIDES = {
    "drift": (("--from", "--to"), (HOST,)),
    "fleet drift": (("--from", "--to"), (FLEET,)),
    "explore": (("--to",), (HOST, "--save", "page.html")),
}
"""Verbs of which an option names a whole stack."""


def asked() -> Iterator[tuple[str, str]]:
    for path, command in commands(cli):
        options = {name for parameter in command.params for name in parameter.opts}
        for option in UNKNOWN:
            if option in options:
                yield " ".join(path), option


@pytest.mark.parametrize(("verb", "option"), list(asked()))
def test_a_release_without_tables_is_remarked_on(
    verb: str, option: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    release, remark = UNKNOWN[option]
    arguments = COMMANDS[verb]
    if option == "--libvirt":
        arguments = WITH_A_DOMAIN.get(verb, arguments)
    elif option in ("--guest-kernel", "--firecracker") or (option == "--qemu" and verb != "fleet export"):
        arguments = WITH_A_GUEST.get(verb, arguments)
    done = vcpuid(*verb.split(), *arguments, option, release)
    assert done.returncode in (0, 1), done.stderr
    assert remark in done.stderr


def test_what_reads_no_release_says_so() -> None:
    """fleet drift asks no libvirt: a release of it was taken without a word."""
    done = vcpuid("fleet", "drift", FLEET, "--cpu", "qemu64", "--from", "libvirt=9.0", "--to", "qemu=11.1,libvirt=13.1")
    assert "--from libvirt=9.0 has no effect" in done.stderr
    assert "--to libvirt=13.1 has no effect" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("program", STACKS)
@pytest.mark.parametrize(("verb", "option"), [(verb, option) for verb, (options, _) in SIDES.items() for option in options])
def test_of_a_stack_likewise(
    verb: str, option: str, program: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    release, remark = UNKNOWN[STACKS[program]]
    if (verb, program) == ("fleet drift", "libvirt"):
        remark = "has no effect"
    arguments = (*SIDES[verb][1], *(("--domain", DOMAIN) if program == "libvirt" and verb != "fleet drift" else ()))
    done = vcpuid(*verb.split(), *arguments, option, f"{program}={release}")
    assert done.returncode in (0, 1), done.stderr
    assert remark in done.stderr
