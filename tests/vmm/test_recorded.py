"""Tables of VMMs that nobody modelled: told as observed, the known idioms named, and accounted for bit by bit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.captures import CAPTURES
from vcpuid import Stack, read, resolve
from vcpuid.answers.explain import explain
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Snapshot
from vcpuid.cpuid.names import find
from vcpuid.errors import KvmError
from vcpuid.path.pipeline import Path as CpuPath
from vcpuid.reasons import Basis, replay
from vcpuid.vmm.recorded import Recorded, account

LIBKRUN, GVISOR, KVMTOOL = "vmm/libkrun-msb-0.7.11", "vmm/gvisor-runsc-20240729", "vmm/kvmtool-b48735e"
SKYLAKE = "kvm/kvm-intel.corei7_skylake_x@6.12"


def capture(name: str) -> Snapshot:
    return read(CAPTURES / f"{name}.txt.gz")


def path(name: str) -> CpuPath:
    snapshot = capture(name)
    assert snapshot.table is not None
    return resolve(name, host=Snapshot(supported=snapshot.supported, kernel=snapshot.kernel), vmm=Recorded((snapshot.table,)))


def rules(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for decision in path(name).made.decisions:
        assert isinstance(decision.word, CpuidWord)
        word = decision.word
        found.setdefault(decision.rule.id, []).append(f"{word.function:x}.{word.index:x}.{word.register}")
    return found


def test_libkrun_writes_ids_topology_and_a_brand_and_nothing_else() -> None:
    found = rules(LIBKRUN)
    assert found.keys() == {"recorded.apic-id", "recorded.topology", "recorded.brand"}
    brand = [f"8000000{leaf}.0.{register}" for leaf in (2, 3) for register in ("eax", "ebx", "ecx", "edx")]
    assert found["recorded.brand"] == brand[:-1]  # "Intel(R) Xeon(R) Processor" ends before the last of these
    assert found["recorded.apic-id"] == ["1.0.ebx", "b.0.edx"]


def test_gvisor_copies_osxsave_and_hands_on_the_rest() -> None:
    assert rules(GVISOR) == {"recorded.runtime": ["1.0.ecx"]}


def test_kvmtool_hands_on_all_that_kvm_supports() -> None:
    assert not rules(KVMTOOL)


@pytest.mark.parametrize("name", [LIBKRUN, GVISOR, KVMTOOL])
def test_the_vmm_is_a_party_whose_table_is_observed(name: str) -> None:
    resolved = path(name)
    step = resolved.trace.vmm
    assert (step.party, step.basis) == ("vmm", Basis.OBSERVED)
    words = replay(step.before, step.decisions)
    assert {w: v for w, v in words.items() if v} == {w: v for w, v in step.after.items() if v}
    assert resolved.headline() == f"the table of {name}, Linux {capture(name).kernel}"


def test_explain_names_what_an_unknown_vmm_did() -> None:
    host = capture(SKYLAKE)
    assert host.supported is not None
    taken = CpuidTable(e._replace(ebx=e.ebx & ~(1 << 5)) if e.function == 7 else e for e in host.supported)
    told = explain(find("avx2"), resolve("dump", host=host, vmm=Recorded((taken,))))
    assert [stage.value for stage in told.stages] == [True, True, True, False, False, False]
    assert told.chain[0].rule.id == "recorded.taken"
    assert "the VMM took it away" in told.verdict
    assert told.as_dict()["setup"]["vmm"]["release"] == "recorded"  # type: ignore[index]  # of a document for JSON


def test_what_the_processor_says_is_told_from_what_the_vmm_made_up() -> None:
    host = capture(SKYLAKE)
    assert host.supported is not None
    power = host.raw.get(6)
    assert power is not None
    table = CpuidTable(power._replace(flags=e.flags) if e.function == 6 else e for e in host.supported)
    assert {d.rule.id for d in Recorded((table,)).make("x", path(LIBKRUN).setup, _Says(host)).decisions} == {"recorded.of-processor"}


class _Says:
    """KVM's answers of a snapshot."""

    def __init__(self, host: Snapshot) -> None:
        assert host.supported is not None
        self.host, self.supported = host, host.supported


def test_a_table_that_kvm_refuses_is_refused() -> None:
    host = capture(SKYLAKE)
    assert host.supported is not None
    wrong = CpuidTable(e._replace(eax=0x2D2E) if e.function == 0x80000008 else e for e in host.supported)
    with pytest.raises(KvmError, match="EINVAL"):
        resolve("dump", host=host, stack=Stack(), vmm=Recorded((wrong,)))


word = st.integers(0, 0xFFFFFFFF)
places = st.sampled_from([(0, 0), (1, 0), (4, 1), (7, 0), (7, 1), (0xB, 0), (0xD, 2), (0x40000001, 0), (0x80000001, 0), (0x80000002, 0)])
tables = st.dictionaries(places, st.tuples(word, word, word, word), max_size=8).map(
    lambda rows: CpuidTable(Entry(*place, 1, *registers) for place, registers in rows.items())
)


@given(tables, tables, tables)
def test_the_account_leads_from_any_answer_to_any_table(supported: CpuidTable, table: CpuidTable, raw: CpuidTable) -> None:
    decisions = account(supported, table, raw)
    assert {w: v for w, v in replay(supported.words(), decisions).items() if v} == {w: v for w, v in table.words().items() if v}
    changed = {w: supported.words().get(w, 0) ^ table.words().get(w, 0) for w in supported.words().keys() | table.words().keys()}
    for place, mask in changed.items():
        assert not mask & ~sum_of(d.mask for d in decisions if d.word == place)


def sum_of(masks: object) -> int:
    total = 0
    for mask in masks:  # type: ignore[attr-defined]
        total |= mask
    return total


def test_of_a_table_that_was_kept_nobody_says_who_changed_it() -> None:
    reported = CpuidTable([Entry(7, 0, 1, 0, 0x28, 0, 0)])
    kept = CpuidTable([Entry(7, 0, 1, 0, 0x120, 0, 0)])
    for handed, rules in ((True, ["recorded.taken", "recorded.added"]), (False, ["recorded.kept-without", "recorded.kept-with"])):
        assert [decision.rule.id for decision in account(reported, kept, CpuidTable(), handed=handed)] == rules
