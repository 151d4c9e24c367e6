"""Hosts that never were: captured ones with registers changed, and made-up ones; as the lines of a snapshot."""

from __future__ import annotations

from random import Random

from fuzz.seeds import host, machines
from vcpuid.cpuid import Snapshot
from vcpuid.formats import parse
from vcpuid.releases import KERNELS

Leaves = dict[tuple[int, int], list[int]]

FUNCTIONS = (
    *range(8), 9, 0xA, 0xB, 0xD, 0xF, 0x10, 0x12, *range(0x14, 0x20), 0x20, 0x21, 0x23, 0x24, 0x27, 0x28, 0x29, 0x20000000, 0x40000000,
    0x40000001, *range(0x40000003, 0x40000007), 0x4000000A, 0x40000010, 0x40000100, 0x40000101, *range(0x80000000, 0x80000028), 0x80860000,
    0x80860001, 0xC0000000, 0xC0000001, 0xFFFFFFFF,
)  # fmt: skip
"""Leaves that something asks for."""

VENDORS = (b"GenuineIntel", b"AuthenticAMD", b"GenuineIntel", b"AuthenticAMD", b"HygonGenuine", b"CentaurHauls", b"  Shanghai  ", bytes(12))

_MSRS = (0x10A, 0x8B, 0x345, 0xCF, 0x480, 0x481, 0x482, 0x48B, 0x48C, 0x48D, 0x48E, 0x48F, 0x490, 0x491, 0x492, 0xC0011029)
_FLAGS = ("fpu", "vme", "de", "pse", "tsc", "msr", "avx", "avx2", "la57", "vmx", "svm", "hypervisor", "xsave", "ht", "x")


def register(random: Random) -> int:
    """A register: nothing, all, something small, or anything."""
    draw = random.random()
    if draw < 0.2:
        return 0
    if draw < 0.3:
        return 0xFFFFFFFF
    return random.getrandbits(random.choice((3, 5, 8, 16)) if draw < 0.45 else 32)


def lines(random: Random) -> list[str]:
    """Make a host, as the lines of a snapshot."""
    leaves = _changed(random) if random.random() < 0.5 else _made_up(random)
    if random.random() < 0.7:
        vendor = random.choice(VENDORS)
        ebx, edx, ecx = (int.from_bytes(vendor[place : place + 4], "little") for place in (0, 4, 8))
        top = _top(random, 0) if random.random() < 0.5 else random.choice((0xD, 0x10, 0x16, 0x1F, 0x21))
        leaves[0, 0] = [top, ebx, ecx, edx]
    if random.random() < 0.5:
        leaves[0x80000000, 0] = [_top(random, 0x80000000), *(register(random) for _ in range(3))]
    places = list(leaves)
    if random.random() < 0.2:
        random.shuffle(places)
    told = [_line("RAW", *place, leaves[place]) for place in places]
    if random.random() < 0.5:
        told += [f"MSR {index:x} 1 {random.getrandbits(64):x}" for index in random.sample(_MSRS, random.randrange(1, 16))]
    if random.random() < 0.15:
        told.append("CPUINFO flags " + " ".join(random.sample(_FLAGS, 6)))
    if random.random() < 0.1:
        told.append(f"PARAM kvm_intel.nested {random.choice(('Y', 'N', '1', 'x'))}")
    if random.random() < 0.2:
        told.append(f"KERNEL {random.choice((*KERNELS, '6.12.1', 'x', '6.18-fc'))}")
    return told


def read(told: list[str]) -> Snapshot:
    """Read a host that `lines` made; raises InputError where what is left of it is none."""
    return parse("".join(line + "\n" for line in told), "a made-up host")[0]


def _line(kind: str, function: int, index: int, registers: list[int]) -> str:
    return f"{kind} {function & 0xFFFFFFFF:08x}.{index & 0xFFFFFFFF:x} " + " ".join(f"{value & 0xFFFFFFFF:08x}" for value in registers)


def _top(random: Random, base: int) -> int:
    """The last leaf that a range claims to have."""
    usual = (base, base + 1, base + 4, base + 7, base + 0xD, base + 0x10, base + 0x1F, base + 0x21, base + 0xFF, base + 0x1000)
    return random.choice((*usual, 0, 0xFFFFFFFF, 0x7FFFFFFF, random.getrandbits(32)))


def _changed(random: Random) -> Leaves:
    """A captured host of which some leaves are gone or otherwise."""
    leaves = {entry[:2]: list(entry[3:]) for entry in host(random.choice(machines())).raw}
    for _ in range(random.choice((1, 3, 10, 40))):
        place = random.choice(list(leaves))
        draw = random.random()
        if draw < 0.25 and len(leaves) > 1:
            del leaves[place]
        elif draw < 0.5:
            leaves[place] = [register(random) for _ in range(4)]
        elif draw < 0.8:
            leaves[place][random.randrange(4)] ^= 1 << random.randrange(32)
        else:
            leaves[place][random.randrange(4)] = register(random)
    return leaves


def _made_up(random: Random) -> Leaves:
    leaves: Leaves = {}
    for function in FUNCTIONS:
        if random.random() < 0.2:
            continue
        for index in range(1 if random.random() < 0.6 else random.choice((2, 3, 5, 8, 20, 64))):
            leaves[function, index] = [register(random) for _ in range(4)]
    for _ in range(random.choice((5, 20, 20, 20, 300)) if random.random() < 0.3 else 0):
        function = random.getrandbits(random.choice((6, 32))) | random.choice((0, 0x80000000, 0x40000000))
        leaves[function, random.getrandbits(random.choice((2, 5, 32)))] = [register(random) for _ in range(4)]
    return leaves
