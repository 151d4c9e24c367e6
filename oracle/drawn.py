"""Draws what a QEMU is started with: -cpu, -machine and -smp at random, from what its release knows, so that rare things meet."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from vcpuid.qemu.catalog import HOST_MODELS, Catalog
from vcpuid.qemu.machine_option import CACHES, IRQCHIP, LEVELS
from vcpuid.qemu.properties import settable

NUMBERS = {
    "level": range(0x30), "min-level": range(0x30), "xlevel": range(0x80000000, 0x80000028), "min-xlevel": range(0x80000000, 0x80000028),
    "phys-bits": range(30, 66), "guest-phys-bits": range(30, 54), "host-phys-bits-limit": range(31, 54), "family": range(280),
    "model": range(260), "stepping": range(18), "tsc-frequency": (0, 1, 999, 1000, 1000000), "lbr-fmt": range(65),
    "hv-spinlocks": range(9000), "avx10-version": range(4), "level-func7": range(4),
}  # fmt: skip
"""Properties that are numbers, each with values that matter; others are drawn from a few small numbers."""

PLACES = ("socket-id", "die-id", "module-id", "core-id", "thread-id", "node-id")
OWN = frozenset({"realized", "hotplugged", "hotpluggable", "start-powered-off", "memory", "unnamed-gpio-in", "crash-information"})
"""Properties of any device, which say nothing of a CPU."""


class Drawn(NamedTuple):
    """The arguments of one run."""

    host: str
    cpu: str
    machine: str
    smp: str


def draw(seed: str, tables: Catalog, hosts: list[str], count: int) -> Iterator[Drawn]:
    """Draw runs; the same seed gives the same ones."""
    random = Random(seed)
    for _ in range(count):
        machine = _machine(random, tables)
        single = machine.startswith("isapc") and random.random() < 0.9
        yield Drawn(random.choice(hosts), _cpu(random, tables), machine, "1" if single else _smp(random, tables))


def _cpu(random: Random, tables: Catalog) -> str:
    models = [*tables.models, *tables.model_aliases]
    model = random.choice(["host", "max", "base"]) if random.random() < 0.25 else random.choice(models)
    kinds = {name: kind for name, kind in settable(tables, model).items() if name not in OWN and kind not in ("string", "str")}
    flags = sorted(tables.flags)
    parts = []
    for _ in range(random.choice((0, 0, 1, 2, 4, 8))):
        name = random.choice(flags)
        parts.append(random.choice((f"+{name}", f"-{name}", f"{name}=on", f"{name}=off")))
    for _ in range(random.choice((0, 0, 1, 2, 3))):
        name = random.choice(sorted(kinds))
        kind = kinds[name]
        if kind == "bool":
            parts.append(f"{name}={random.choice(('on', 'off'))}")
        elif name in NUMBERS:
            parts.append(f"{name}={random.choice(list(NUMBERS[name]))}")
        elif name not in PLACES and kind.startswith(("int", "uint")):
            parts.append(f"{name}={random.choice((0, 1, 2, 8, 300))}")
    rare = [name for name in ("phys-bits", "tsc-frequency", *PLACES) if name in kinds and random.random() < 0.03]
    parts += [f"{name}={random.choice(list(NUMBERS.get(name, range(2))))}" for name in rare]
    if model in HOST_MODELS and random.random() < 0.2:
        parts.append("migratable=off")
    random.shuffle(parts)
    return ",".join([model, *parts])


def _machine(random: Random, tables: Catalog) -> str:
    names = [name for name in tables.machine_names if name != "nitro"]
    name = random.choice(["q35", "pc", "microvm"]) if random.random() < 0.5 else random.choice([*names, "isapc"])
    options = []
    if random.random() < 0.25:
        options.append(f"kernel-irqchip={random.choice(IRQCHIP)}")
    if random.random() < 0.15 and tables.number >= (10, 0):
        for place, cache in enumerate(random.sample(CACHES, random.choice((1, 1, 2, 4)))):
            # Most levels that are drawn for themselves would contradict each other.
            level = (
                {"l1d": "core", "l1i": "core", "l2": "module", "l3": "socket"}[cache] if random.random() < 0.7 else random.choice(LEVELS)
            )
            options.append(f"smp-cache.{place}.cache={cache},smp-cache.{place}.topology={level}")
    if random.random() < 0.2:
        options.append(random.choice(("usb=on", "graphics=off", "smm=off", "mem-merge=off", "dump-guest-core=off", "pic=off", "nosuch=1")))
    return ",".join([name, *options])


def _smp(random: Random, tables: Catalog) -> str:
    if random.random() < 0.4:
        return random.choice(("1", "1", "2", "3", "4", "8"))
    levels = ["sockets", "dies", "cores", "threads", *(["modules"] if tables.number >= (10, 0) else [])]
    chosen = {level: random.choice((1, 2, 2, 3, 4)) for level in random.sample(levels, random.choice((1, 2, 3)))}
    total = 1
    for number in chosen.values():
        total *= number
    cpus = total if random.random() < 0.8 else random.randint(1, 12)
    return ",".join([str(cpus), *(f"{level}={number}" for level, number in chosen.items())])
