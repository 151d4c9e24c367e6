"""What people type, by its grammar: -cpu, -smp, -machine, -global, releases, parameters, and the places that verbs take.

Most of it makes sense, so that what is behind the reading is reached; the rest is what typing mistakes and scripts make of it.
"""

from __future__ import annotations

from functools import cache
from random import Random

from vcpuid.cpuid.names import all_features
from vcpuid.params import FACTS, MODULES
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.qemu.smp import keys
from vcpuid.releases import KERNELS, QEMUS

Param = dict[str, int | str | bool]

USUAL = ("host", "max", "qemu64", "EPYC", "Haswell")

NUMBERS = (
    "0", "1", "2", "3", "4", "7", "8", "16", "64", "255", "256", "288", "289", "1024", "4096", "4097", "65536", "-1", "-4", "0x10", "0b11",
    "010", "9" * 20, "2147483648", "4294967295", "4294967296", "18446744073709551615", "18446744073709551616", "0x" + "f" * 6000,
    "9" * 4400, "²", "٣", "", "on", "1.5", " 2", "1_0", "1e3", "+1", "--1", "08",
)  # fmt: skip

VALUES = (
    "on", "off", "yes", "no", "true", "false", "auto", *NUMBERS, "0x80000008", "1e9", "2.5G", "1K", "3P", "9E", "0.0000000001G", "00",
    "GenuineIntel", "AuthenticAMD", "HygonGenuine", "CentaurHauls", "x" * 12, "y" * 48, "z" * 100, "é", "日本", "日本日本日本日本日本日本",
    "é" * 12, "é" * 48, "\x1b[31m", "\n", "NaN", "inf", "a=b", "=", "node=0",
)  # fmt: skip

JUNK = (
    "", "+", "-", "=", "==", "+-", "-+", "+=", "=on", "x", "+avx2=on", "-avx2=off", " ", "\t", "é=1", "migratable", "pmu", "hv-", "enforce",
    "check", "kvm=off", "enforce=on", "check=off", "%s", "{}", "{0}", "..", "\ud800", "host", "\U0001f600", "\x7f", "\u202e",
)  # fmt: skip

_RELEASES = (
    "6.18.44-fc", "v7.2.22", "0.0", "99.99", "6", "", "6.", ".1", "x", "6.12.107+deb13", "²", "6.²", "1" * 20 + ".1", "6.1-rc1", " 6.1",
    "7.2 (Debian)", "-6.1", "6,1", "latest", "9" * 4400 + ".1", "6." + "0" * 5000, "٦.١", "6.1\n", "6_1.2",
)  # fmt: skip

_CMDLINES = (
    "nopti", "mitigations=off", "clearcpuid=avx2,rtm", "clearcpuid=514", "clearcpuid=999999", "clearcpuid=-1,,", "clearcpuid=²",
    "clearcpuid=" + "9" * 4400, "setcpuid=5", "noxsave nox2apic fred=on ibt=off tsx=off tsx=on tsx=auto spectre_v2=eibrs srso=ibpb nosmt",
    "mds=" + "x" * 10000, "a=b=c ='" * 3, '"', "clearcpuid=" + ",".join(map(str, range(2000))),
)  # fmt: skip


@cache
def catalogs() -> tuple[Catalog, ...]:
    """The catalogs of all QEMUs."""
    return tuple(map(catalog, QEMUS))


@cache
def flags() -> tuple[str, ...]:
    """Every flag of any QEMU."""
    return tuple(sorted({name for known in catalogs() for name in known.flags}))


@cache
def properties() -> tuple[str, ...]:
    """Every property of any QEMU's CPUs, aliases among them."""
    return tuple(sorted({name for known in catalogs() for name in (*known.flags, *known.properties, *known.aliases)}))


@cache
def models() -> tuple[str, ...]:
    """Every model of any QEMU."""
    return tuple(sorted({name for known in catalogs() for name in (*known.models, *known.model_aliases)} | {*USUAL, "base", "486"}))


@cache
def machines() -> tuple[str, ...]:
    """Every machine type of any QEMU, in both spellings."""
    names = {text for known in catalogs() for pair in known.machine_names.items() for text in pair if text}
    return tuple(sorted(names | {"none", "x-remote", "virt", "", "Q35", "pc-q35-99.9", "²"}))


def release(random: Random, known: tuple[str, ...]) -> str | None:
    """A release; mostly one with tables."""
    draw = random.random()
    return None if draw < 0.05 else random.choice(known) if draw < 0.85 else random.choice(_RELEASES)


def kernel(random: Random) -> str | None:
    """A kernel's release."""
    return release(random, KERNELS)


def qemu(random: Random) -> str | None:
    """A QEMU's release."""
    return release(random, QEMUS)


def setting(random: Random) -> str:
    """One part of -cpu behind the model."""
    if random.random() < 0.1:
        return random.choice(JUNK)
    name = random.choice(properties())
    if random.random() < 0.1:
        name = name.replace("-", "_")
    if random.random() < 0.05:
        name = random.choice((name.upper(), name + random.choice(("x", " ", "é"))))
    draw = random.random()
    if draw < 0.55:
        return random.choice("+-") + name
    if draw < 0.65:
        return name
    value = random.choice(VALUES) if random.random() < 0.8 else str(random.getrandbits(random.choice((4, 8, 16, 32, 33, 64, 65, 200))))
    return f"{name}={value}"


def cpu(random: Random) -> str:
    """Make a text for -cpu."""
    draw = random.random()
    if draw < 0.02:
        return random.choice(("", "host,", ",", ",,,", "host,,", "+avx2", "host+avx2", "x" * 1000, "²", "\ud800", "HOST", " host", "host "))
    if draw < 0.025:
        return ",".join(["host", *(setting(random) for _ in range(random.choice((100, 1000))))])
    model = random.choice(models()) if random.random() < 0.6 else random.choice(USUAL)
    if draw > 0.6:
        return ",".join([model, *(random.choice("+-") + random.choice(flags()) for _ in range(random.choice((0, 1, 2, 5, 20))))])
    if random.random() < 0.02:
        model += random.choice(("-v1", "-v99", "-v", "-x86_64-cpu", "x"))
    return ",".join([model, *(setting(random) for _ in range(random.choice((0, 0, 1, 1, 2, 3, 5, 10))))])


def smp(random: Random) -> str:
    """Make a text for -smp."""
    draw = random.random()
    if draw < 0.3:
        return random.choice(("1", "2", "4", "8"))
    if draw < 0.34:
        return random.choice(("", ",", "=", ",,", "cpus", "cpus=", "1,", "1,2", "x=1", "maxcpus", "é"))
    known = [*keys(random.choice(QEMUS)), "xx"]
    small = random.random() < 0.5
    parts = [f"{key}={_number(random, small)}" for key in random.sample(known, random.randrange(1, 5))]
    return ",".join([_number(random, small), *parts] if random.random() < 0.5 else parts)


def _number(random: Random, small: bool) -> str:
    return str(random.choice((1, 1, 2, 2, 3, 4))) if small else random.choice(NUMBERS)


def machine(random: Random) -> str:
    """Make a text for -machine."""
    if random.random() < 0.5:
        return random.choice(("q35", "pc", "q35", "pc-q35-7.2"))
    name = random.choice(machines()) if random.random() < 0.5 else random.choice(("q35", "pc"))
    return ",".join([name, *(_machine_part(random) for _ in range(random.choice((0, 1, 1, 2, 3))))])


def _machine_part(random: Random) -> str:
    place, what = random.choice(("0", "1", "2", "9" * 20, "x", "", "-1")), random.choice(("cache", "topology", "x", ""))
    return random.choice(
        (
            f"smp-cache.{place}.{what}={random.choice(('l1d', 'l2', 'l3', 'core', 'socket', 'thread', ''))}",
            f"smp.{random.choice(('cpus', 'cores', 'sockets', 'maxcpus', 'x'))}={random.choice(NUMBERS)}",
            f"kernel-irqchip={random.choice(('on', 'off', 'split', 'x', ''))}",
            f"{random.choice(('accel', 'type', 'usb', 'smm', 'hpet', 'pic', 'nosuch', 'max-ram-below-4g'))}={random.choice(VALUES)}",
            random.choice(JUNK),
        )
    )


def global_property(random: Random) -> str:
    """Make a text for -global."""
    driver = random.choice(("cpu", "x86_64-cpu", "host-x86_64-cpu", "q35-pcihost", "i440FX-pcihost", "x", "", "." * 3))
    name = random.choice(properties()) if random.random() < 0.7 else random.choice(("pci-hole64-size", "x", "", "x" * 100))
    if random.random() < 0.2:
        return f"driver={driver},property={name},value={random.choice(VALUES)}"
    return f"{driver}.{name}={random.choice(VALUES)}"


def param(random: Random) -> tuple[str, int | str | bool]:
    """One parameter, NAME and value."""
    known = [*sorted(FACTS), *(name for names in MODULES.values() for name in names), "cmdline", "tsx_mode"]
    odd = ("msr.10a", "msr.8b", "msr.33", "msr.zz", "msr.", "msr." + "f" * 40, "msr.1_0", "x", "", "kvm.", ".", "kvm_pvm.x", "kvm.nested")
    name = random.choice(odd) if random.random() < 0.25 else random.choice(known)
    if name in known and random.random() < 0.2:
        name = f"{random.choice(('kvm', 'kvm_intel', 'kvm_amd'))}.{name}"
    draw = random.random()
    if draw < 0.3 or name == "cmdline":
        return name, random.choice(_CMDLINES)
    if draw < 0.7:
        return name, random.choice((0, 1, -1, 2, 7, 100, 4096, 4097, 2**31, 2**32, 2**63, 2**64, 10**25, True, False))
    return name, random.choice(("Y", "N", "y", "absent", "auto", *NUMBERS))


def params(random: Random) -> Param:
    """Make some parameters, mostly none."""
    return {} if random.random() < 0.5 else dict(param(random) for _ in range(random.choice((1, 1, 2, 4))))


@cache
def _features() -> tuple[str, ...]:
    return tuple(feature.name for feature in all_features())


def place(random: Random) -> str:
    """Make a feature's name, or a leaf, a sub-leaf, a register, a bit, by number."""
    draw = random.random()
    if draw < 0.3:
        return random.choice(_features())
    if draw < 0.4:
        return random.choice((*JUNK, *NUMBERS))
    function = random.choice(("7", "0x7", "d", "80000008", "0x80000001", "40000001", "ffffffff", "100000000", *NUMBERS[:20]))
    parts = [function, random.choice(NUMBERS), random.choice(("eax", "ebx", "ecx", "edx", "EBX", "exx", "")), random.choice(NUMBERS)]
    text = ".".join(parts[: random.choice((1, 2, 2, 3, 4))])
    prefix = random.choice(("", "", "", "", "CPUID.", "msr.", "CPUID_LNX_", "1*32+", "CPUID."))
    return prefix + text + random.choice(("", "", "", ":3", ":0", " "))
