"""Which files of sysfs hang on which features: found by turning each feature round on the processors that were booted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from conformance.test_vulnerabilities import CASES, Booted, read
from vcpuid.cpuid import CpuidWord, MsrWord, bits
from vcpuid.cpuid.features import Feature, short_symbol
from vcpuid.cpuid.names import all_features
from vcpuid.cpuid.notes import SUMMED_UP
from vcpuid.cpuid.showing import hiding, showing
from vcpuid.linux import vulnerabilities
from vcpuid.linux.boot import boot_cpu
from vcpuid.linux.machine import ARCH_CAPABILITIES
from vcpuid.linux.serving import SERVING
from vcpuid.linux.standing import standing
from vcpuid.linux.sysfs import FILES, files
from vcpuid.linux.tables import NOWHERE
from vcpuid.setup import settled

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")

OF_OTHER_USE = {"avx", "rtm", "rdrand", "vmx", "hypervisor", "topoext"}
"""What a mitigation looks at besides, and what is not there for its sake."""

LEAVES = (0x1, 0x7, 0x80000001, 0x80000008, 0x80000021)
BITS = {
    short_symbol(feature.linux).upper(): feature
    for feature in all_features()
    if feature.bit is not None
    and feature.linux is not None
    and feature.linux.startswith(("X86_FEATURE_", "ARCH_CAP_"))
    and (
        feature.bit.word == MsrWord(ARCH_CAPABILITIES) or (isinstance(feature.bit.word, CpuidWord) and feature.bit.word.function in LEAVES)
    )
}
LISTED = {(file, name) for file, names in SERVING.items() for name in names}
OWN = {(file, name) for file, name in LISTED if name not in BITS}
"""Those that are flags of Linux's own."""


def otherwise(booted: Booted, feature: Feature) -> Iterator[str]:
    """Give the files that say something else of the same processor with a bit turned round."""
    bit, host, params = feature.bit, booted.host, dict(booted.params)
    assert bit is not None
    if isinstance(bit.word, CpuidWord):
        turned = replace(host, raw=(hiding if host.raw.has(bit) else showing)(host.raw, bit))
    else:
        held = params.get(f"msr.{ARCH_CAPABILITIES:x}", 0) if host.raw.has(bits.ARCH_CAPABILITIES) else 0
        params[f"msr.{ARCH_CAPABILITIES:x}"] = int(held) ^ bit.mask
        turned = replace(host, raw=showing(host.raw, bits.ARCH_CAPABILITIES))
    return differing(vulnerabilities(host, host.kernel, booted.params), vulnerabilities(turned, host.kernel, params))


def flags_otherwise(booted: Booted, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give the files that a kernel which has booted words otherwise with one of its flags turned round, each with the flag."""
    setup = settled(booted.host, kernel=booted.host.kernel, params=booted.params)
    cpu = boot_cpu(setup)
    whole = standing(setup, cpu)
    for name in names:
        word, mask = cpu.tables.features.get(name, NOWHERE)
        caps = tuple(value ^ mask if at == word else value for at, value in enumerate(cpu.caps))
        yield from ((file, name) for file in differing(files(whole), files(whole._replace(cpu=replace(cpu, caps=caps)))))


def differing(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    return (file for file, text in before.items() if after.get(file) != text)


@pytest.mark.long
def test_each_file_hangs_on_what_is_listed_for_it() -> None:
    assert set(SERVING) <= {file.name for file in FILES}
    summed = {name.upper() for names in SUMMED_UP.values() for name in names}
    left = LISTED - {(file, name) for file, name in OWN if name in summed}
    for kernel, name in CASES:
        booted = read(kernel)[name]
        for wanted in {what for _, what in left - OWN}:
            left -= {(file, wanted) for file in otherwise(booted, BITS[wanted])}
        left -= set(flags_otherwise(booted, {what for _, what in left & OWN}))
        if not left:
            break
    assert not left


@pytest.mark.parametrize("case", CASES[::40], ids="@".join)
def test_no_file_hangs_on_what_is_not_listed(case: tuple[str, str]) -> None:
    kernel, name = case
    booted = read(kernel)[name]
    found = {(file, symbol) for symbol, feature in BITS.items() if feature.name not in OF_OTHER_USE for file in otherwise(booted, feature)}
    assert found <= LISTED


def test_a_flag_that_linux_makes_of_bits_serves_no_file_that_none_of_them_serves() -> None:
    for symbol, names in SUMMED_UP.items():
        for name in names:
            makers = {short_symbol(other).upper() for other, made in SUMMED_UP.items() if name in made}
            assert symbol.removeprefix("X86_FEATURE_") in makers
            assert {file for file, what in LISTED if what == name.upper()} <= {file for file, what in LISTED if what in makers}
