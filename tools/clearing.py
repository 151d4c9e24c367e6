"""Write data/clearing.json: which rules clear which feature, on which vendor's processors, under which kernels.

    python tools/clearing.py > clearing.json && mv clearing.json src/vcpuid/data/clearing.json

A feature that a message calls missing may have been cleared by any rule that clears it on some host. So this runs the path of `-cpu host`
and `-cpu max` on every capture of a host under every kernel, on some with each parameter of KVM's modules turned round and parts of
Linux's command line, and notes what cleared a bit. Two hosts that have every feature, one of each vendor, are asked likewise, since no
processor has all that a rule clears. A row is [rule, vendors, cause, places]: I, A and O for Intel, AMD with Hygon, and others.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import vcpuid
from vcpuid import kvm
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Registers, Snapshot, bits, vendors
from vcpuid.cpuid.names import all_features, by_bit, short_place
from vcpuid.cpuid.words import Bit, positions, range_of
from vcpuid.errors import VcpuidError
from vcpuid.linux.options import SWITCHES
from vcpuid.linux.tables import tables as linux_tables
from vcpuid.params import AMD, COMMON, INTEL
from vcpuid.path.pipeline import resolve
from vcpuid.reasons import Action, Decision
from vcpuid.releases import KERNELS
from vcpuid.setup import Setup, Stack
from vcpuid.told.completions import completions

CAPTURES = Path(__file__).resolve().parents[1] / "tests" / "captures"
LINES = (
    "mitigations=off",
    "nopku",
    "tsx=on",
    "tsx=off",
    "spectre_v2=off",
    "gather_data_sampling=force",
    *(switch.option + (f"={switch.value}" if switch.value else "") for switch in SWITCHES),
)
"""Command lines by which features go; clearcpuid=, which can turn off anything, is asked of each feature by itself."""
MSRS: tuple[dict[str, int | str], ...] = ({"msr.3a": 1}, {"msr.c0010114": 0x18}, {"msr.1a0": 1 << 34 | 1 << 22 | 1}, {"msr.1a0": 0})
"""Firmware that leaves VMX, SVM, NX or the fast strings off."""
EACH = 4
"""Of so many captures one is asked with other settings."""
LETTERS = {vendors.INTEL: "I", vendors.AMD: "A", vendors.HYGON: "A"}

Key = tuple[str, str, str]
"""A rule, the place of the bit, the place of the feature that is its cause or nothing."""


def settings(letter: str) -> Iterator[dict[str, int | str]]:
    """Give what is asked beside the kernel: each parameter of the vendor's module turned round, a command line."""
    for name, default in {**COMMON, **(AMD if letter == "A" else INTEL)}.items():
        yield {name: int(not default)}
    for line in LINES:
        yield {"cmdline": line}
    yield from MSRS


def cleared_by_name(kernel: str) -> Iterator[dict[str, int | str]]:
    """Give a command line for each feature that a kernel clears by the name that it shows."""
    for name, _ in linux_tables(kernel).shown_features:
        yield {"cmdline": f"clearcpuid={name}"}


def complete(host: Snapshot) -> Snapshot:
    """Give a host the features that any processor has, so that no rule lacks what it clears; KVM and the MSRs are not told."""
    leaves = {(entry.function, entry.index): entry.registers for entry in host.raw}
    for feature in all_features():
        word = feature.place.word
        if isinstance(word, CpuidWord) and (range_of(word.function), 0) in leaves and feature.place != bits.HYPERVISOR:
            key = word.function, word.index
            registers = leaves.get(key, Registers(0, 0, 0, 0))
            leaves[key] = registers._replace(**{word.register: getattr(registers, word.register) | feature.place.mask})
            first = range_of(word.function), 0
            leaves[first] = leaves[first]._replace(eax=max(leaves[first].eax, word.function))
    return Snapshot(raw=CpuidTable(Entry(*key, 0, *registers) for key, registers in sorted(leaves.items())), kernel=host.kernel)


def cleared(cpu: str, setup: Setup) -> Iterator[Key]:
    """Give what cleared a bit on a path; nothing where the path ends in a refusal."""
    try:
        path = resolve(cpu, host=setup)
    except VcpuidError:
        return
    for step in path.trace.steps:
        for decision in step.decisions:
            yield from _of(decision, step.after.get(decision.word, 0))


def kept_off(setup: Setup) -> Iterator[Key]:
    """Give what clears bits of a vCPU that is given all that the processor has."""
    kept = kvm.set_cpuid(setup.host.raw, host=setup)
    for decision in kept.decisions:
        yield from _of(decision, kept.table.word(decision.word) if isinstance(decision.word, CpuidWord) else 0)


def _of(decision: Decision, after: int) -> Iterator[Key]:
    """Give the bits that a decision cleared; not those that came back after it in its own step."""
    if decision.action is Action.CLEARED:
        cause = "" if decision.cause is None or by_bit(decision.cause) is None else short_place(decision.cause)
        for position in positions(decision.mask & ~after):
            if by_bit(Bit(decision.word, position)) is not None:
                yield decision.rule.id, short_place(Bit(decision.word, position)), cause


def files() -> list[Path]:
    """Give the captures of hosts."""
    return sorted((CAPTURES / "kvm").glob("*.txt.gz"))


def worked_out(captured: Sequence[Snapshot], kernels: Sequence[str] = KERNELS) -> dict[Key, set[str]]:
    """Tell what clears what, and on which vendors' hosts: on these hosts, and on two made of the first of either vendor, under kernels."""
    seen: dict[Key, set[str]] = defaultdict(set)
    made = [complete(next(host for host in captured if LETTERS.get(host.vendor) == letter)) for letter in ("I", "A")]
    named = {kernel: [("host", params) for params in cleared_by_name(kernel)] for kernel in kernels}
    for number, host in enumerate((*made, *captured)):
        print(f"{number + 1} of {len(made) + len(captured)}", file=sys.stderr)
        letter = LETTERS.get(host.vendor, "O")
        asked = number < len(made) or number % EACH == 0
        turned = [("host", params) for params in settings(letter)] if asked else []
        setups = [
            (cpu, Setup.of(host, Stack(kernel=kernel, params=params, what_if=True)))
            for kernel in kernels
            for cpu, params in (("host", {}), ("max", {}), *turned, *(named[kernel] if number < len(made) else ()))
        ]
        bare = Snapshot(raw=host.raw, kernel=host.kernel)
        stacks = [Stack(kernel=kernel, what_if=True) for kernel in kernels] if number < len(made) else [Stack()]
        setups += [("host", made_up.setup) for stack in stacks for made_up in completions(Setup.of(bare, stack))]
        found = [key for cpu, setup in setups for key in cleared(cpu, setup)]
        if number < len(made):
            found += [key for kernel in kernels for key in kept_off(Setup.of(host, Stack(kernel=kernel)))]
        for key in found:
            seen[key].add(letter)
    return seen


def document() -> str:
    """Work all of it out and return the file."""
    captured = [vcpuid.read(file) for file in files()]
    seen = worked_out(captured)
    grouped: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (rule, place, cause), letters in sorted(seen.items()):
        grouped[rule, "".join(sorted(letters)), cause].append(place)
    rows = ",\n".join(json.dumps([*key, " ".join(places)]) for key, places in grouped.items())
    source = {"script": "tools/clearing.py", "captures": len(captured), "kernels": list(KERNELS)}
    return f'{{\n"source": {json.dumps(source)},\n"rows": [\n{rows}\n]\n}}\n'


def main() -> None:
    """Print the table."""
    sys.stdout.write(document())


if __name__ == "__main__":
    main()
