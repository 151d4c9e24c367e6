"""What can stand in each place of a command line, for shells to offer: features, CPUs, hosts, releases and the like.

Each of `features`, `cpus` and so on is the `shell_complete=` of options and arguments. Nothing is loaded before a shell asks. An error is
left to `vcpuid.cli.completion`, which turns it into nothing offered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from vcpuid.errors import InputError
from vcpuid.releases import KERNELS, LIBVIRTS, QEMUS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from vcpuid.cpuid.features import Feature
    from vcpuid.qemu.catalog import Catalog

Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]
Offers = Iterable[tuple[str, str]]
"""Texts, each with a few words on what it is, for the shells that show them."""


def _completer(offers: Callable[[click.Context, str], Offers]) -> Completer:
    """Make a completer of a function that may offer too much: `offers(context, typed)`.

    What begins as was typed is kept, but for what holds a blank: it would have to be quoted, by each shell's own rules.
    """

    def complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        told: dict[str, str] = {}
        for text, about in offers(context, typed):
            if " " not in text:
                told.setdefault(text, about)
        return [CompletionItem(text, help=told[text] or None) for text in _begun(typed, told)]

    return complete


def _begun(typed: str, texts: Iterable[str]) -> list[str]:
    """Give the texts that begin as was typed; where none does, those that begin so but for case and for `-` against `_`."""
    if found := [text for text in texts if text.startswith(typed)]:
        return found
    from vcpuid.cpuid.feature_table import key_of

    return [text for text in texts if key_of(text).startswith(key_of(typed))]


def _plain(texts: Iterable[str]) -> Offers:
    return ((text, "") for text in texts)


# Features


@_completer
def features(context: click.Context, typed: str) -> Offers:
    """FEATURE: every feature once, under the spelling that was begun, else under its name."""
    return _features(typed)


@_completer
def features_or_words(context: click.Context, typed: str) -> Offers:
    """NAME: a feature or a word of them."""
    from vcpuid.cpuid.feature_table import table
    from vcpuid.cpuid.feature_words import LINUX_WORDS

    yield from _features(typed)
    yield from LINUX_WORDS.items()
    yield from ((name, f"the features of {word}") for name, word in table().hardware.items())


@_completer
def features_tried(context: click.Context, typed: str) -> Offers:
    """FEATURE: one that has an instruction which can be tried."""
    from vcpuid.probe.instructions import INSTRUCTIONS

    return ((instruction.feature, instruction.name) for instruction in INSTRUCTIONS)


@_completer
def features_of_cpuid(context: click.Context, typed: str) -> Offers:
    """FEATURE: one that a table for KVM_SET_CPUID2 can show, or all that can be tried."""
    from vcpuid.cpuid.words import CpuidWord

    yield "all", "every feature that can be tried"
    yield from _features(typed, lambda feature: feature.bit is not None and isinstance(feature.bit.word, CpuidWord))


def _features(typed: str, wanted: Callable[[Feature], bool] = lambda feature: True) -> Offers:
    from vcpuid.cpuid.names import all_features, spellings

    for feature in filter(wanted, all_features()):
        names = spellings(feature) if typed else (feature.name,)
        for name in _begun(typed, names)[:1]:
            yield name, feature.description or ""


@_completer
def rules(context: click.Context, typed: str) -> Offers:
    """ID: every rule, each with its reason."""
    from vcpuid.rulebook import all_rules

    return ((card.id, card.reason) for card in all_rules())


# QEMU


@_completer
def cpus(context: click.Context, typed: str) -> Offers:
    """CPU, as QEMU's -cpu takes it: a model of the chosen QEMU, behind a comma its properties."""
    catalog = _catalog(context)
    head, comma, begun = typed.rpartition(",")
    if not comma:
        return _models(catalog)
    return ((f"{head},{text}", about) for text, about in _properties(catalog, head.partition(",")[0], begun))


def _catalog(context: click.Context) -> Catalog:
    from vcpuid import releases
    from vcpuid.live.installed import default_qemu
    from vcpuid.qemu.catalog import catalog

    return catalog(releases.qemu(context.params.get("qemu") or default_qemu()).tables)


def _models(catalog: Catalog) -> Offers:
    yield "host", "all that the host can give"
    yield "max", "all that the host can give"
    yield "base", "nothing but what is named"
    for name in sorted((*catalog.models, *catalog.model_aliases)):
        version = catalog.model_aliases.get(name)
        yield name, catalog.models[name].model_id if name in catalog.models else f"alias of {version}" if version else "by machine type"


def _properties(catalog: Catalog, model: str, begun: str) -> Offers:
    """Give the properties of a model: `+name` and `-name` where a sign was typed, else `name=`, and its values behind that."""
    from vcpuid.qemu.properties import settable

    names = dict.fromkeys(catalog.flags, "bool") | settable(catalog, model)
    names |= {alias: names[name] for alias, name in catalog.aliases.items() if "_" not in alias and name in names}
    if begun[:1] in ("+", "-"):
        yield from ((begun[0] + name, _about(name)) for name, kind in names.items() if kind == "bool")
    elif "=" in begun:
        name = begun.partition("=")[0]
        yield from ((f"{name}={value}", "") for value in _values(name, names.get(catalog.aliases.get(name, name), "")))
    else:
        yield from ((f"{name}=", _about(name) if kind == "bool" else kind) for name, kind in names.items())


_ANY_CPU = "x86_64-cpu"
"""QEMU's type that every CPU is of."""


def _about(name: str) -> str:
    from vcpuid.cpuid.feature_table import key_of, table

    return next((feature.description for feature in table().called(key_of(name)) if feature.description), "")


def _values(name: str, kind: str) -> Iterable[str]:
    if name == "vendor":
        from vcpuid.cpuid.vendors import KINDS

        return KINDS
    return {"bool": ("on", "off"), "OnOffAuto": ("on", "off", "auto")}.get(kind, ())


@_completer
def machines(context: click.Context, typed: str) -> Offers:
    """Machine types of the chosen QEMU, by alias and in full; behind a comma where the interrupt controllers are."""
    from vcpuid.qemu.machine_option import IRQCHIP

    known = _catalog(context).machine_names
    if "," in typed:
        head = typed.rpartition(",")[0]
        yield from _plain(f"{head},kernel-irqchip={where}" for where in IRQCHIP)
        return
    yield from ((alias, name) for name, alias in known.items() if alias)
    yield from ((name, "") for name in known)


@_completer
def global_properties(context: click.Context, typed: str) -> Offers:
    """QEMU's -global: the properties of any CPU."""
    every, _, begun = typed.rpartition(".") if typed.startswith(_ANY_CPU) else (_ANY_CPU, ".", "")
    return ((f"{every}.{text}", about) for text, about in _properties(_catalog(context), "base", begun.lstrip("+-")))


@_completer
def topologies(context: click.Context, typed: str) -> Offers:
    """QEMU's -smp: the keys that can come next."""
    from vcpuid.qemu.smp import keys

    head, comma, _ = typed.rpartition(",")
    return ((f"{head}{comma}{key}=", "") for key in keys(_catalog(context).release))


@_completer
def qemus(context: click.Context, typed: str) -> Offers:
    """Releases of QEMU with tables, and the names of the user's own."""
    from vcpuid import data

    yield from _plain(QEMUS)
    with suppress(InputError):  # a list that cannot be read has nothing to offer
        yield from ((name, row.get("binary", "")) for name, row in data.imported().items())


@_completer
def libvirts(context: click.Context, typed: str) -> Offers:
    """Releases of libvirt with tables."""
    return _plain(LIBVIRTS)


@_completer
def firecrackers(context: click.Context, typed: str) -> Offers:
    """Complete a release of Firecracker."""
    from vcpuid.vmm.firecracker import RELEASES

    return _plain(_begun(typed, RELEASES))


@_completer
def vmms(context: click.Context, typed: str) -> Offers:
    """NAME[:RELEASE]: the VMMs that are modelled, each with its releases behind a colon."""
    from vcpuid.vmm.firecracker import RELEASES
    from vcpuid.vmm.known import NAMES

    releases = {"qemu": QEMUS, "firecracker": RELEASES}
    name, colon, _ = typed.partition(":")
    return _plain(f"{name}:{release}" for release in releases.get(name, ())) if colon else _plain(NAMES)


def templates(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """TEMPLATE: Firecracker's static ones, or a file."""
    from click.shell_completion import CompletionItem

    from vcpuid.vmm.firecracker import names

    found = [CompletionItem(name) for name in names() if name.startswith(typed)]
    return [*found, CompletionItem(typed, type="file")]


# Hosts and kernels


def hosts(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """HOST, SOURCE and TABLE: this machine in its three ways, on a CPU of choice, or a file."""
    from click.shell_completion import CompletionItem

    return [*_this_machine(context, parameter, typed), CompletionItem(typed, type="file")]


@_completer
def _this_machine(context: click.Context, typed: str) -> Offers:
    if ":" in typed:
        return ((f"{way}:{cpu}", "") for way in ("live", "kvm", "cpu") for cpu in _cpu_numbers())
    return (("live", "this machine's processor"), ("kvm", "processor and KVM"), ("cpu", "the processor, by the kernel's device"))


def cpus_then_hosts(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """CPU or a domain's file first, then HOST; with --table only HOST."""
    further = context.params.get("table_source") or context.params.get("arguments")
    return (hosts if further else cpus_or_files)(context, parameter, typed)


def cpus_or_files(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """CPU, or the file of a domain."""
    from click.shell_completion import CompletionItem

    found = cpus(context, parameter, typed)
    return found if found else [CompletionItem(typed, type="file")]


@_completer
def cpu_numbers(context: click.Context, typed: str) -> Offers:
    """The numbers of the CPUs that this process may run on."""
    return _plain(_cpu_numbers())


def _cpu_numbers() -> Iterator[str]:
    return map(str, sorted(os.sched_getaffinity(0)))


@_completer
def engines(context: click.Context, typed: str) -> Offers:
    """What answers from a store."""
    return _plain(("duckdb", "spark"))


@_completer
def kernels(context: click.Context, typed: str) -> Offers:
    """Releases of Linux with tables."""
    return _plain(KERNELS)


@_completer
def params(context: click.Context, typed: str) -> Offers:
    """NAME=VALUE: parameters of KVM's modules, in full or short, and facts of the machine."""
    from vcpuid.params import MODULES, TSX_MODE, TSX_MODES, names

    name, equals, _ = typed.partition("=")
    modules = {short: module for module, known in MODULES.items() for short in known}
    if equals:
        values = TSX_MODES if name == TSX_MODE else ("0", "1") if name.rpartition(".")[2] in modules else ()
        return _plain(f"{name}={value}" for value in values)
    full = ((f"{name}=", "parameter of a module" if "." in name else "fact of the machine") for name in sorted(names()))
    return (*full, *((f"{name}=", f"parameter of {module}") for name, module in modules.items()))


@_completer
def stacks(context: click.Context, typed: str) -> Offers:
    """One side of `drift`: programs with their releases, joined by commas."""
    done, comma, last = typed.rpartition(",")
    name, equals, _ = last.partition("=")
    known = {"kernel": KERNELS, "qemu": QEMUS, "libvirt": LIBVIRTS, "machine": ()}
    offers = [f"{name}={release}" for release in known.get(name, ())] if equals else [f"{program}=" for program in known]
    return _plain(f"{done}{comma}{offer}" for offer in offers)


# What is inside a snapshot and its tables, and around them


@_completer
def parts(context: click.Context, typed: str) -> Offers:
    """PART: the tables that a snapshot can have."""
    from vcpuid.cpuid.parts import TABLES

    return TABLES.items()


@_completer
def leaves(context: click.Context, typed: str) -> Offers:
    """LEAF, in hexadecimal, with 0x in front where that was typed."""
    from vcpuid.decode.layout import titles

    prefix = typed[:2] if typed[:2].lower() == "0x" else ""
    return ((f"{prefix}{leaf:x}", about) for leaf, about in titles().items())


@_completer
def ignored(context: click.Context, typed: str) -> Offers:
    """WHAT a comparison can leave out: two words, leaves, and the features that have a place in hardware."""
    from vcpuid.decode.ignore import CPU, NONE
    from vcpuid.decode.layout import titles

    yield CPU, "what differs among CPUs of one machine"
    yield NONE, "nothing"
    yield from ((f"{leaf:x}", about) for leaf, about in titles().items())
    yield from _features(typed, lambda feature: feature.bit is not None)


@_completer
def glibcs(context: click.Context, typed: str) -> Offers:
    """Releases of glibc with tables."""
    from vcpuid.software.glibc import RELEASES

    return _plain(RELEASES)


@_completer
def verbs(context: click.Context, typed: str) -> Offers:
    """VERB, and behind one that has verbs below it those."""
    group = context.find_root().command
    for word in context.params.get("words") or ():
        below = group.get_command(context, word) if isinstance(group, click.Group) else None
        group = below or group
    if not isinstance(group, click.Group):
        return ()
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return ((name, "" if verb is None else summary(verb)) for name, verb in found)


def summary(command: click.Command) -> str:
    """Give the first sentences of a verb's help."""
    return " ".join((command.help or "").split("\n\n")[0].split())


@_completer
def traced(context: click.Context, typed: str) -> Offers:
    """What a trace can tell apart, after a comma another part."""
    before, comma, _ = typed.rpartition(",")
    named = before.split(",")
    about = {"vm": "the guest", "vcpu": "its vCPU", "leaf": "leaf and sub-leaf", "rip": "the guest's address", "stack": "KVM's back-trace"}
    of_a_command = {"program": "what was executed", "object": "the file of the code", "offset": "where in it"}
    return ((f"{before}{comma}{part}", told) for part, told in (about | of_a_command).items() if part not in named)
