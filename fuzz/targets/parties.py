"""Made-up hosts through all parties and everything that reads them, with the laws that hold for any host.

Replaying the decisions of a party over the words that it was given gives the words that it hands on; what is settled stays settled; what a
host tells less makes no answer another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from fuzz import hosts
from fuzz.seeds import host_lines, machines
from fuzz.target import Case, Target, hold
from fuzz.text import hold_told
from vcpuid import Setup, Stack, decode, hazards, kvm, linux, qemu, resolve
from vcpuid.answers.certainty import open_bits
from vcpuid.answers.survey import cpuid_features, survey, words_of
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import CpuidTable, MsrTable, Snapshot
from vcpuid.cpuid.long_mode import in_64_bit_mode
from vcpuid.errors import RefusedError, VcpuidError
from vcpuid.reasons import Decision, Trace, read_register, replay
from vcpuid.releases import KERNELS, QEMUS
from vcpuid.software import clock, crypto, glibc, psabi
from vcpuid.software import hyperv as enlightenments
from vcpuid.software.cpu import software_cpu

CPUS = (
    "host", "host", "host", "max", "max", "Haswell-v4", "EPYC-Milan", "Skylake-Server-v4", "SapphireRapids", "qemu64", "486", "base",
    "EPYC-Genoa,+topoext", "host,hv-passthrough", "max,+x2apic", "host,migratable=off", "host,-xsave", "host,kvm=off", "Opteron_G5",
    "host,hv-relaxed,hv-vapic,hv-time,hv-spinlocks=0x1fff,hv-evmcs", "athlon", "YongFeng", "Dhyana", "host,host-cache-info=on",
    "host,l3-cache=off,pmu=on", "max,vmx=on", "GraniteRapids", "host,phys-bits=52,host-phys-bits=off", "Cascadelake-Server-noTSX,+vmx",
)  # fmt: skip
SMPS = ("1", "2", "4,cores=2,threads=2", "8,sockets=2,dies=2,cores=2", "1,maxcpus=64,cores=32,threads=2")
WIDTHS = (1, 20, 40, 80, 160)


def _replays(before: Mapping[Any, int], decisions: Iterable[Decision], after: Mapping[Any, int], who: str) -> None:
    replayed = replay(before, decisions)
    wrong = [word for word in after if replayed.get(word, 0) != after[word]]
    hold(not wrong, f"{who}: replaying the decisions gives the words", wrong[:5])


def _kvm(host: Snapshot, asked: Case) -> None:
    kernel = asked["kernel"]
    made = kvm.supported(host, kernel)
    _replays(in_64_bit_mode(host).raw.words(), made.decisions, made.table.words(), "KVM")
    places = [entry[:2] for entry in made.table]
    hold(len(places) == len(set(places)), "KVM gives no leaf twice")
    kvm.emulated(host, kernel)
    kvm.hyperv_supported(host, kernel)
    linux.cpuinfo(host, kernel)


def _qemu(host: Snapshot, asked: Case) -> None:
    made = qemu.guest_tables(asked["cpu"], host=host, qemu=asked["qemu"], smp=asked["smp"], kernel=asked["kernel"])
    _replays(made.supported.words(), made.decisions, made.tables[0].words(), "QEMU")
    _vcpu(made.tables[0], host, asked["kernel"])
    hazards.of_table(made.tables[0], host, Stack(kernel=asked["kernel"], qemu=asked["qemu"]))


def _vcpu(table: CpuidTable, host: Snapshot, kernel: str) -> None:
    kept = kvm.set_cpuid(table, host=host, kernel=kernel)
    _replays(table.words(), kept.decisions, kept.table.words(), "the vCPU")
    again = kvm.set_cpuid(kept.table, host=host, kernel=kernel)
    hold(again.table == kept.table and not again.decisions, "a table that was kept is kept as it is")
    read = kvm.seen(kept.table, kernel=kernel)
    _replays(kept.table.words(), read.decisions, read.table.words(), "the look-up")


def _path(host: Snapshot, asked: Case) -> None:
    setup = Setup.of(host, Stack(asked["kernel"], asked["qemu"], smp=asked["smp"]))
    path = resolve(asked["cpu"], host=setup)
    _steps(path.trace)
    survey(path)
    hazards.of_path(path)


def _steps(trace: Trace) -> None:
    for step in trace.steps:
        if step.whole and step.party != "silicon":
            _replays(step.before, step.decisions or (), step.after, step.party)


def _decode(host: Snapshot, asked: Case) -> None:
    raw, width = host.raw, asked["width"]
    for leaf in decode.leaves(raw):
        for value in leaf.values():
            str(value.reading)
    decode.spell(raw, None)
    decode.identity(raw), decode.tlbs(raw), decode.facts(raw), decode.frequencies(raw)
    found = decode.Cpus([raw]).topology(raw)
    found.counts()
    decode.draw_topology(found, width)
    decode.draw_xsave(decode.xsave(raw), width)
    hold(not decode.diff(raw, raw), "a table does not differ from itself")


def _software(host: Snapshot, asked: Case) -> None:
    cpu = software_cpu(host.raw, asked["kernel"])
    glibc.glibc(cpu), psabi.levels(cpu), clock.clocks(cpu), crypto.drivers(cpu)
    enlightenments.report(host.raw)


def _verdict(host: Snapshot, asked: Case) -> None:
    verdict(asked["cpu"], Setup.of(host, Stack(asked["kernel"], asked["qemu"], smp=asked["smp"]))).as_dict()


def _told(host: Snapshot, asked: Case) -> None:
    """What a host tells less makes no answer another one; what hangs on it is not told.

    This holds for processors that there are: what is made up for the missing facts is what such have.
    """
    if not host.raw:
        return
    lost = {place % len(host.raw) for place in asked["lost"]}
    raw = CpuidTable(entry for number, entry in enumerate(host.raw) if number not in lost)
    if not raw:
        return
    part, stack = replace(host, raw=raw, msrs=MsrTable()), Stack(asked["kernel"], asked["qemu"])
    answers = []
    for snapshot in (part, host):
        path = resolve(asked["cpu"], host=Setup.of(snapshot, stack))
        words = words_of(cpuid_features())
        hidden, seen = open_bits(path, words), path.trace.steps[-1].after
        answers.append({word: (hidden.get(word, 0), read_register(seen, word)) for word in words})
    for word, (open_part, value) in answers[0].items():
        open_whole, truth = answers[1][word]
        hold(not (value ^ truth) & ~(open_part | open_whole), "what is told less makes no answer another one", word)


_ASKED: dict[str, tuple[int, Callable[[Snapshot, Case], None]]] = {
    "kvm": (6, _kvm), "qemu": (6, _qemu), "path": (2, _path), "decode": (4, _decode), "software": (4, _software), "verdict": (1, _verdict),
    "told": (1, _told),
}  # fmt: skip
"""What is asked of a host, and how often."""


def make(random: Random) -> Case:
    """Make a host, and what is asked of it."""
    what = random.choices(list(_ASKED), [often for often, _ in _ASKED.values()])[0]
    asked: Case = {"what": what, "kernel": random.choice(KERNELS), "qemu": random.choice(QEMUS), "cpu": random.choice(CPUS)}
    asked |= {"smp": random.choice(SMPS), "width": random.choice(WIDTHS), "host": hosts.lines(random)}
    if what == "told":
        asked["host"] = [line for line in host_lines(random.choice(machines())) if line.startswith(("RAW ", "MSR ", "KERNEL "))]
        asked["lost"] = [random.randrange(1 << 16) for _ in range(random.choice((1, 1, 4, 20)))]
    return asked


def check(case: Case) -> str:
    """Ask it: an answer that the laws hold for, or a refusal."""
    host = hosts.read(case["host"])
    try:
        _ASKED[case["what"]][1](host, case)
    except RefusedError:
        return "refused"
    except VcpuidError as error:
        hold_told(error)
        return "refused"
    return f"{case['what']} answered"


TARGET = Target("parties", "made-up hosts through all parties, with their laws", make, check, share=2.0, seconds=20.0)
