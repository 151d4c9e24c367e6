"""Texts of 100 KiB that are made to keep a message's pattern busy."""

from __future__ import annotations

import re

from vcpuid.diagnosis.messages import MessageForm

HUNDRED_KIB = 100 << 10


def hostile(message: MessageForm) -> dict[str, str]:
    example, probe = message.example, message.probes[0]
    half = example[: len(example) // 2] or "x"
    return {
        "the probe again and again": (probe * HUNDRED_KIB)[:HUNDRED_KIB],
        "the first half again and again": (half * HUNDRED_KIB)[:HUNDRED_KIB],
        "all but the end again and again": (example[:-1] * HUNDRED_KIB)[:HUNDRED_KIB],
        "letters": "a" * HUNDRED_KIB + probe,
        "digits": "0" * HUNDRED_KIB + probe,
        "blanks": " " * HUNDRED_KIB + probe,
        "quotes": "'" * HUNDRED_KIB + probe,
        "a list without end": example + ",a" * (HUNDRED_KIB // 2),
        "the half, then blanks": half + " " * HUNDRED_KIB,
        "words": "a.b-c " * (HUNDRED_KIB // 6) + probe,
        "wide blanks": (re.sub(r"\s+", " " * 79, example[:-1]) * HUNDRED_KIB)[:HUNDRED_KIB],
        "long words": (re.sub(r"\b(\w)(?=\W|$)", lambda found: found[1] * 79, example[:-1]) * HUNDRED_KIB)[:HUNDRED_KIB],
        "long numbers": (re.sub(r"[0-9]+", "0" * 500, example[:-1]) * HUNDRED_KIB)[:HUNDRED_KIB],
        "each word again and again": " ".join(f"{word} " * 60 for word in example.split()) + probe,
    }
