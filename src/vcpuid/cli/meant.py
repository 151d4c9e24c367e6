"""What somebody may mean whose verb or option vcpuid has not: the one that is spelled nearly so, or does what others call so."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence

from vcpuid.spelling import distance

MODELS = ("qemu models", "which of QEMU's CPU models run on a host")
BASELINE = ("fleet baseline", "the best -cpu that runs on all hosts of a folder")
MIGRATE = ("fleet migrate", "whether a guest moves from one host to another")
DIFF = ("diff", "a guest's CPU beside its host's; with --by field any two dumps")
DRIFT = ("drift", "what an upgrade changes for a guest")
FLAGS = ("linux flags", "the flags of /proc/cpuinfo, of a host or a guest")
VULNERABILITIES = ("linux vulnerabilities", "what a kernel says of Spectre and its kin, on a host or in a guest")
DECODE = ("decode", "every field of every leaf")
EXPLAIN = ("explain", "what became of one feature, and why")
GUEST = ("guest", "the guest's whole CPU against its host's")
CHECK = ("check", "whether a -cpu runs on a host, and what hurts")
COLLECT = ("collect", "a snapshot of this machine")
CONVERT = ("convert", "another program's dump in, another out")
DIAGNOSE = ("diagnose", "what an error message or a log says")
NAMES = ("names", "how everybody spells a feature")
HYPERV = ("hyperv", "which enlightenments Windows finds")
LIBVIRT_CAPABILITIES = ("libvirt capabilities", "the host's CPU as virsh capabilities prints it")
LIBVIRT_DOMCAPABILITIES = ("libvirt domcapabilities", "the CPUs that a domain can have")
SUPPORTED = ("kvm supported", "what KVM offers to guests")
COMPLETION = ("completion", "the script for your shell")
WORTH = ("worth", "what flags are worth to programs")

MEANT: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(("baseline", "cpu-baseline", "hypervisor-cpu-baseline", "common", "lowest", "intersect", "evc"), (BASELINE,)),
    **dict.fromkeys(("compare", "cpu-compare", "hypervisor-cpu-compare"), (CHECK, DIFF, BASELINE)),
    **dict.fromkeys(("migrate", "migratable", "migration", "move", "live-migrate"), (MIGRATE, BASELINE)),
    **dict.fromkeys(("upgrade", "update"), (DRIFT,)),
    **dict.fromkeys(("capabilities", "caps"), (LIBVIRT_CAPABILITIES, LIBVIRT_DOMCAPABILITIES, SUPPORTED)),
    **dict.fromkeys(("domcapabilities", "dom-capabilities"), (LIBVIRT_DOMCAPABILITIES,)),
    **dict.fromkeys(("features", "flags", "cpuinfo", "proc"), (FLAGS, GUEST)),
    **dict.fromkeys(("cpuid", "leaf", "leaves", "read"), (DECODE,)),
    **dict.fromkeys(("dump", "snapshot", "save", "capture", "export"), (COLLECT, CONVERT)),
    **dict.fromkeys(("models", "cpu-models", "list", "ls", "cpus"), (MODELS,)),
    **dict.fromkeys(("info", "show", "get", "describe", "lscpu", "cpu", "host", "inspect", "status"), (DECODE, GUEST, FLAGS)),
    **dict.fromkeys(("why", "feature", "missing", "bit"), (EXPLAIN, CHECK)),
    **dict.fromkeys(("vulnerabilities", "vulnerability", "spectre", "meltdown", "mitigations", "bugs"), (VULNERABILITIES,)),
    **dict.fromkeys(("validate", "verify", "test", "run", "runs", "supports", "start", "boot"), (CHECK,)),
    **dict.fromkeys(("error", "errors", "log", "logs", "warning", "warnings"), (DIAGNOSE,)),
    **dict.fromkeys(("name", "alias", "aliases", "spell", "search", "find", "lookup"), (NAMES,)),
    **dict.fromkeys(("windows", "hv", "enlightenments"), (HYPERV,)),
    **dict.fromkeys(("import", "read-dump", "translate"), (CONVERT,)),
    **dict.fromkeys(("supported", "support"), (SUPPORTED, CHECK)),
    **dict.fromkeys(("completions", "complete", "bash", "zsh", "fish"), (COMPLETION,)),
    **dict.fromkeys(("level", "levels", "x86-64-v3", "glibc"), (WORTH,)),
    "hosts": (BASELINE, ("fleet classes", "which hosts are alike")),
    "topology": (DECODE,),
    "man": (("help", "a verb's help; make man writes pages"),),
}
"""Words that others use, each with the verbs that do so here, the likeliest first."""

OPTIONS: dict[str, tuple[str, ...]] = {
    **{f"--{form}": (f"--format {form}",) for form in ("json", "jsonl", "csv", "lines", "table")},
    **dict.fromkeys(("--output", "--output-format", "--out", "--fmt"), ("--format", "-o")),
    **dict.fromkeys(("--model", "--cpu-model", "--guest-cpu", "-cpu", "-c"), ("--cpu",)),
    **dict.fromkeys(("--snapshot", "--file", "--dump", "--source", "--from-file", "--node", "--hosts"), ("--host",)),
    **dict.fromkeys(("--xml", "--vm", "--dom", "--guest-xml"), ("--domain",)),
    **dict.fromkeys(("--machine-type", "-M", "-machine", "--type"), ("--machine",)),
    **dict.fromkeys(("--linux", "--kernel-version", "--kernel-release"), ("--kernel",)),
    **dict.fromkeys(("--qemu-version", "--qemu-release", "--emulator"), ("--qemu",)),
    **dict.fromkeys(("--libvirt-version", "--libvirt-release"), ("--libvirt",)),
    **dict.fromkeys(("--vcpus", "--cores", "--threads", "-smp"), ("--smp",)),
    **dict.fromkeys(("--params", "--parameter", "--module", "--option"), ("--param",)),
    **dict.fromkeys(("--nocolor", "--nocolour", "--no-colour", "--color", "--colour", "--plain"), ("--no-color",)),
    **dict.fromkeys(("--silent", "-s"), ("--quiet",)),
    **dict.fromkeys(("--full", "--everything", "--verbose", "--long", "-a", "-v"), ("--all", "--full")),
    **dict.fromkeys(("--hypervisor", "--manager"), ("--vmm", "--for")),
    **dict.fromkeys(("--write", "-w"), ("--output", "--save")),
    "-global": ("--global",),
    "-?": ("--help",),
}
"""Options that others have, each with what does so here, the likeliest first."""

_FEW = 3
"""Letters of a name, of which one may be wrong; of a longer one, one in so many."""


def near(word: str, known: Iterable[str]) -> list[str]:
    """Give the words that are spelled nearly so, the nearest first: as many letters differ as may be a slip, or the end is left out."""
    typed, found = word.lstrip("-").lower()[:60], []
    for other in dict.fromkeys(known):
        name = other.lstrip("-").lower()
        most = max(1, min(len(typed), len(name)) // _FEW)
        apart = distance(typed, name) if abs(len(typed) - len(name)) <= most else most + 1
        if name.startswith(typed) and len(typed) >= _FEW:
            apart = min(apart, 1)
        if apart <= most and len(typed) > 1:
            found.append((apart, other))
    least = min((apart for apart, _ in found), default=0)
    return [other for apart, other in found if apart == least]


def no_verb(word: str, path: str, known: Sequence[str], *, first: bool) -> str:
    """Say that a word is no verb, and what may be meant; `known` are the verbs below `path`, `first` tells that these are vcpuid's own."""
    begun = f"There is no verb {word[:60]!r} in {path}."
    slips = near(word, known)
    leads = [] if slips else _leads(word, first)
    if slips:
        return f"{begun} Did you mean {' or '.join(f'{path} {name}' for name in slips)}?"
    if leads:
        return f"{begun} Near to that: {', '.join(f'vcpuid {verb} ({about})' for verb, about in leads)}."
    return f"{begun} {path} --help lists them all."


def _leads(word: str, first: bool) -> list[tuple[str, str]]:
    key = word.lower().replace("_", "-")
    found = list(MEANT.get(key, ()))
    if not found and (slips := near(key, MEANT)):
        found = list(MEANT[slips[0]])
    if not found and first:
        found = _not_a_word(word)
    return found


def _not_a_word(word: str) -> list[tuple[str, str]]:
    """Lead from what stands where a verb should: a file, an error text, a feature."""
    from vcpuid.cpuid.names import find
    from vcpuid.errors import InputError

    if os.path.isfile(word) and word.isprintable():
        return [(f"decode {shlex.quote(word)}", DECODE[1]), (f"guest --host {shlex.quote(word)}", GUEST[1])]
    if os.path.isdir(word) and word.isprintable():
        return [(f"fleet classes {shlex.quote(word)}", "which hosts are alike")]
    if " " in word:
        return [("diagnose TEXT", DIAGNOSE[1])]
    try:
        find(word)
    except InputError:
        return []
    return [(f"explain {word}", EXPLAIN[1]), (f"names {word}", NAMES[1])]


def _options(option: str, known: Sequence[str]) -> list[str]:
    return [text for text in OPTIONS.get(option, ()) if text.split()[0] in known][:1]


def no_option(option: str, known: Sequence[str]) -> str:
    """Say that the verb has no such option, and which it has that may be meant."""
    begun = f"No such option {option[:60]!r}."
    found = _options(option, known) or near(option, [text for text in known if text.startswith("--")])
    found = found or [text for slip in near(option, OPTIONS)[:1] for text in _options(slip, known)]
    return f"{begun} Did you mean {' or '.join(found)}?" if found else begun
