"""Changes to bytes: single ones, numbers, tokens, lines, pieces of other texts, and what wraps a whole text."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from random import Random

Change = Callable[[Random, bytes], bytes]

WORDS = [
    b"RAW ", b"SUP ", b"CPU 0:\n", b"CPU:\n", b"eax=0x", b"CPUID 00000000", b"[SL 00]", b"empty", b"SETRC -7", b"KERNEL 6.12\n", b"KERNEL ",
    b"PARAM kvm.x y\n", b"NAMED avx on\n", b"MSR 10a 1 0\n", b"CPUINFO flags fpu\n", b"<cpudata arch='x86'>", b"</cpudata>", b"<cpu>",
    b"<!DOCTYPE a>", b"&#27;", b"&lt;", b"<![CDATA[", b"<!--", b"-->", b'<?xml version="1.0"?>', b'{"return":', b'"cpuid_modifiers"',
    b'"snapshots": {', b'"raw": [', b"ioctl(3, KVM_SET_CPUID2, ", b"nent=99999999", b"<unfinished ...>", b"<... ioctl resumed>",
    b"[pid 1] ", b"flags\t: ", b"processor\t: 0\n", b"> ", b"| ", b"```", b"------[ Logical CPU #0 ]------\n", b"0x00000007: subleafs:\n",
    b"  0: EAX=0x", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc2\x9b", b"\xe2\x80\xa8", b"\xc2\x85", b"\xe2\x80\xae", b"\x0c", b"\x00",
    b"\x1b[31m", b"\r", b"\r\n", b"\n\n", b"\t", b" " * 50, b"9" * 30, b"0" * 9, b"ffffffff", b"80000000", b"40000000", b"-1", b"1e999",
    b"NaN", b"null", b"true", b"[]", b"{}", b"\\ud800", b"\\u001b", b"\\u0000", "²".encode(), "٣".encode(), "é".encode(),
    b"\xf0\x9f\x98\x80", b"0x", b"#", b"#3", b"(QEMU) ", b"Nov 28 10:20:30 ", b"[    0.000000] ", b"10:20:30 ", b"1_0", b"9" * 4400,
]  # fmt: skip
"""What the forms know, and what no form expects."""

NUMBERS = [
    b"0", b"1", b"ffffffff", b"7fffffff", b"80000000", b"00000000", b"40000000", b"40000001", b"100000000", b"ffff", b"1f", b"d", b"7",
    b"b", b"8000001d", b"80000026", b"c0000000", b"20000000", b"9" * 20, b"f" * 40, b"-1", b"",
]  # fmt: skip

PREFIXES = [
    b"> ",
    b"| ",
    b">> ",
    b"\t",
    b"Nov 28 10:20:30 host kernel: ",
    b"[    1.234567] ",
    b"2026-11-28T10:20:30Z ",
    b"    ",
    b"* ",
    b"- ",
]
"""What stands before the lines of a pasted text."""

_NUMBER = re.compile(rb"[0-9a-fA-F]{2,}")
_TOKEN = re.compile(rb"[\w.]+|[^\w\s]|\s+")


def flip(random: Random, data: bytes) -> bytes:
    """Replace some bytes."""
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        changed[random.randrange(len(changed))] = random.choice((random.randrange(256), random.randrange(32, 127)))
    return bytes(changed)


def delete(random: Random, data: bytes) -> bytes:
    """Take a piece out."""
    start = random.randrange(len(data) + 1)
    return data[:start] + data[start + random.choice((1, 1, 2, 8, 100, 3000)) :]


def insert(random: Random, data: bytes) -> bytes:
    """Put words in."""
    start = random.randrange(len(data) + 1)
    return data[:start] + random.choice(WORDS) * random.choice((1, 1, 1, 1, 2, 3)) + data[start:]


def repeat(random: Random, data: bytes) -> bytes:
    """Repeat a piece."""
    start = random.randrange(len(data) + 1)
    end = start + random.choice((1, 4, 20, 80, 400, 2000))
    return data[:end] + data[start:end] * random.choice((1, 1, 2, 5, 30)) + data[end:]


def cut(random: Random, data: bytes) -> bytes:
    """Keep the beginning or the end."""
    at = random.randrange(len(data) + 1)
    return data[:at] if random.random() < 0.5 else data[at:]


def renumber(random: Random, data: bytes) -> bytes:
    """Replace numbers."""
    places = list(_NUMBER.finditer(data))
    for place in sorted(random.sample(places, min(len(places), random.choice((1, 1, 2, 5)))), key=lambda place: -place.start()):
        new = random.choice(NUMBERS) if random.random() < 0.6 else b"%x" % random.getrandbits(random.choice((8, 16, 32, 33, 64)))
        if random.random() < 0.5:
            new = new.rjust(len(place[0]), b"0")
        data = data[: place.start()] + new + data[place.end() :]
    return data


def relines(random: Random, data: bytes) -> bytes:
    """Exchange, drop, repeat or shuffle lines."""
    lines = data.split(b"\n")
    kind, one, other = random.randrange(6), random.randrange(len(lines)), random.randrange(len(lines))
    if kind == 0:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 1:
        del lines[one]
    elif kind == 2:
        lines.insert(other, lines[one])
    elif kind == 3:
        lines[one:one] = lines[one : one + random.choice((1, 3, 10))] * random.choice((1, 2, 10, 100))
    elif kind == 4:
        random.shuffle(lines)
    else:
        lines = lines[:one] + lines[other:]
    return b"\n".join(lines)


def retoken(random: Random, data: bytes) -> bytes:
    """Put a token in the place of another one nearby."""
    start = random.randrange(len(data) + 1)
    found = list(_TOKEN.finditer(data, start, min(len(data), start + 400)))
    if len(found) < 2:
        return data
    old, new = random.sample(found, 2)
    return data[: old.start()] + new[0] + data[old.end() :]


def prefix(random: Random, data: bytes) -> bytes:
    """Quote all lines, as mails and logs do."""
    before = random.choice(PREFIXES)
    return b"\n".join(before + line for line in data.split(b"\n"))


CHANGES: Sequence[Change] = (flip, delete, insert, insert, repeat, cut, renumber, renumber, relines, relines, retoken, retoken, prefix)


def splice(random: Random, data: bytes, other: bytes) -> bytes:
    """Put a piece of another text in, between or in the place of what is there."""
    at, start = random.randrange(len(data) + 1), random.randrange(len(other) + 1)
    length = random.choice((10, 100, 1000, 10000))
    return data[:at] + other[start : start + length] + data[at if random.random() < 0.5 else min(len(data), at + length) :]


def wrap(random: Random, data: bytes) -> bytes:
    """Do to a whole text what other programs do: gzip, whole or cut, UTF-16, a byte order mark, other ends of lines, a fence, a mail."""
    kind = random.randrange(7)
    if kind == 0:
        return gzip.compress(data, 1, mtime=0)
    if kind == 1:
        packed = gzip.compress(data, 1, mtime=0)
        return flip(random, packed) if random.random() < 0.5 else packed[: random.randrange(1, 400)]
    if kind == 2:
        return data.decode("utf-8", "replace").encode("utf-16")
    if kind == 3:
        return b"\xef\xbb\xbf" + data
    if kind == 4:
        return data.replace(b"\n", b"\r\n")
    if kind == 5:
        return b"```\n" + data + b"\n```\n"
    return b"Hello,\nmy cpu:\n\n" + data + b"\nthanks\n"
