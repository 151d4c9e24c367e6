"""Every answer and every refusal of real libvirts, exactly: XML with its order, QEMU's arguments, errors' words and numbers.

The answers on real processors are compared where VCPUID_PEERS names a folder that holds their dumps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from support.libvirt_captures import Case, Row, cases, origin, played, rows
from vcpuid.errors import LibvirtError
from vcpuid.libvirt import Libvirt, ask, connect
from vcpuid.libvirt.cpu_map import CpuMap, cpu_map
from vcpuid.libvirt.journal import Journal, decisions
from vcpuid.libvirt.names import to_qemu
from vcpuid.reasons import Decision, replay
from vcpuid.releases import libvirt as released

Answer = dict[str, Any]


def asked(row: Row) -> Answer:
    return {**row["request"], **({"machine": row["machine"]} if row["machine"] else {})}


def ours(row: Row) -> Answer:
    """vcpuid's answer in a row's form."""
    setup, kvm = played(row["host"], row["libvirt"])
    try:
        return {"answer": ask(asked(row), host=setup, libvirt=row["libvirt"], kvm=kvm)}
    except LibvirtError as error:
        return {"error": error.as_dict()}


def theirs(row: Row, first: str) -> Answer:
    """A row's answer; where domcapabilities' <cpu> is that of the first row it says no more than that."""
    if "error" in row:
        return {"error": row["error"]}
    return {"answer": {**row["answer"], "cpu": first} if row["answer"].get("cpu") == "same" else row["answer"]}


ENDED = re.compile(
    r"(?i)(?<=^internal error: )(qemu unexpectedly closed the monitor( \(vm='t'\))?|process exited while connecting to monitor)(?=: )"
)
"""How libvirt begins to say that QEMU has ended: one or the other, by chance."""


def without_chance(answer: Answer) -> Answer:
    if "error" not in answer:
        return answer
    return {"error": {**answer["error"], "message": ENDED.sub("QEMU ended", answer["error"]["message"])}}


def without_hyperv(answer: Answer) -> Answer:
    return {name: {part: value for part, value in told.items() if part != "hyperv"} for name, told in answer.items()}


def check(case: Case, name: str) -> None:
    found = rows(name)[case]
    first = found[0].get("answer", {}).get("cpu", "")
    for row in found:
        wanted, got = theirs(row, first), ours(row)
        left_out = (
            case[0].startswith("real/") or row["request"].get("virt") == "qemu"
        )  # real hosts' KVM was not asked for its Hyper-V leaves
        if case[2] == "domcapabilities" and "hyperv" not in wanted.get("answer", {}) and left_out:
            got = without_hyperv(got)
        assert without_chance(got) == without_chance(wanted), row


def libvirt_of(case: Case) -> Libvirt:
    setup, kvm = played(*case[:2])
    return connect(setup, released(case[1]).tables, kvm)


ANSWERED = [case for case in cases("rows") if case[2] != "qemu_host"]
PROBED = [case for case in cases("rows") if case[2] == "qemu_host"]
MORE = cases("more")
REAL = [case for case in cases("real") if case[2] != "qemu_host"]
REAL_PROBED = [case for case in cases("real") if case[2] == "qemu_host"]


@pytest.mark.conformance("libvirt", origin)
@pytest.mark.parametrize(("host", "libvirt", "do"), ANSWERED)
def test_a_libvirt_on_a_played_host(host: str, libvirt: str, do: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    case = host, libvirt, do
    check(case, "rows")
    if do in ("argv", "start"):
        fired(f"libvirt/{host}/{libvirt}", noted(case, rows("rows")[case]))


@pytest.mark.conformance("libvirt", origin)
@pytest.mark.parametrize(("host", "libvirt", "do"), MORE)
def test_a_libvirt_asked_at_random(host: str, libvirt: str, do: str) -> None:
    check((host, libvirt, do), "more")


@pytest.mark.conformance("libvirt on real CPUs", origin)
@pytest.mark.parametrize(("host", "libvirt", "do"), REAL)
def test_a_libvirt_on_a_real_processor(host: str, libvirt: str, do: str) -> None:
    check((host, libvirt, do), "real")


def noted(case: Case, found: list[Row]) -> list[Decision]:
    """The decisions behind plans, starts and their refusals."""
    libvirt, made = libvirt_of(case), list[Decision]()
    for row in found:
        try:
            planned = libvirt.started(asked(row)).planned if case[2] == "start" else libvirt.planned(asked(row))
            made += decisions(planned.journal.rulings, libvirt.known)
        except LibvirtError as error:
            made += decisions(error.causes, libvirt.known)  # type: ignore[arg-type]  # a LibvirtError's causes are rulings
    return made


def told_by_qemu(row: Row, name: str, known: CpuMap) -> None:
    """Hold what QEMU is worked out to tell against libvirt's cache of what it told."""
    libvirt, answer = libvirt_of((row["host"], row["libvirt"], name)), row["answer"]
    told, properties = libvirt.by_kvm.told, answer["properties"]
    pairs = {name: value if isinstance(value, list) else [value, "yes"] for name, value in properties.items()}
    on = {name for name, (value, _) in pairs.items() if value == "true"}
    assert {to_qemu(name) for name in known.named(told.features)} == {name for name in on if name in names_of(known)}
    kept = {name for name in on if pairs[name][1] != "no"}
    assert {to_qemu(name) for name in known.named(told.migratable)} == {name for name in kept if name in names_of(known)}
    assert names_of(known) & properties.keys() == names_of(known) & set(map(to_qemu, told.names))
    assert told.vendor == pairs["vendor"][0]
    assert told.signature == tuple(int(pairs[name][0]) for name in ("family", "model", "stepping"))
    offers = told.offers
    assert [name for name, offer in offers.items() if offer.usable] == answer["usable"]
    assert {name for name, offer in offers.items() if offer.deprecated} == set(answer["deprecated"])
    blocked = {name: list(map(to_qemu, offer.blockers)) for name, offer in offers.items() if offer.blockers}
    assert list(blocked.items()) == list(answer["blockers"].items())


def names_of(known: CpuMap) -> set[str]:
    return set(map(to_qemu, known.names))


@pytest.mark.conformance("QEMU for libvirt", origin)
@pytest.mark.parametrize(("host", "libvirt", "do"), PROBED)
def test_what_qemu_tells_libvirt(host: str, libvirt: str, do: str) -> None:
    for row in rows("rows")[host, libvirt, do]:
        told_by_qemu(row, do, cpu_map(released(libvirt).tables))


@pytest.mark.conformance("QEMU for libvirt on real CPUs", origin)
@pytest.mark.parametrize(("host", "libvirt", "do"), REAL_PROBED)
def test_what_qemu_tells_libvirt_on_a_real_processor(host: str, libvirt: str, do: str) -> None:
    for row in rows("real")[host, libvirt, do]:
        told_by_qemu(row, do, cpu_map(released(libvirt).tables))


@pytest.mark.parametrize(("host", "libvirt", "do"), [case for case in ANSWERED if case[2] == "argv"])
def test_replaying_the_decisions_gives_the_features_that_are_passed_on(host: str, libvirt: str, do: str) -> None:
    daemon = libvirt_of((host, libvirt, do))
    for row in rows("rows")[host, libvirt, do]:
        if "error" in row:
            continue
        planned = daemon.planned(asked(row))
        journal: Journal = planned.journal
        words = replay({}, decisions(journal.rulings, daemon.known))
        on = {
            name
            for place, name in enumerate(daemon.known.names)
            if words.get(daemon.known.bits[place].word, 0) & daemon.known.bits[place].mask
        }
        assert on == {name for name, policy in planned.cpu.features.items() if policy in ("require", "force")}
        assert journal.model is None or journal.model[0] == planned.cpu.model
