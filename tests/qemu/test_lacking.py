"""What hosts lack of QEMU's models, worked out for all of them at once, is what each model's own draft lacks on each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.qemu_captures import qemu_host
from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.kvm.answers import kvm_says
from vcpuid.qemu.catalog import catalog, machine
from vcpuid.qemu.expand import Shape, expand
from vcpuid.qemu.filter import filter_features
from vcpuid.qemu.lacking import AskedModels, lacking, packed, unpacked
from vcpuid.qemu.plan import plan
from vcpuid.qemu.realize import draw
from vcpuid.qemu.supported import supported
from vcpuid.reasons import Unrecorded
from vcpuid.releases import QEMUS
from vcpuid.setup import Setup, Stack

HOSTS = ("tcg/EPYC-Genoa-v1@7.3", "bochs/sapphire_rapids-gnr@7.3", "bochs/core2_penryn_t9600@6.12")


def without(host: Snapshot, function: int) -> Snapshot:
    """Return a host whose KVM supports nothing of a leaf."""
    assert host.supported is not None
    entries = (entry if entry.function != function else Entry(*entry[:3], 0, 0, 0, 0) for entry in host.supported)
    return replace(host, supported=CpuidTable(entries))


@pytest.mark.parametrize("release", [QEMUS[0], "7.2", "9.1", "10.1", QEMUS[-1]])
@pytest.mark.parametrize("given", [(), ("cpu.x-force-features=on", "cpu.intel-pt=on"), ("cpu.intel-pt=on",)])
def test_a_model_lacks_what_its_own_draft_lacks(release: str, given: tuple[str, ...]) -> None:
    tables, described = catalog(release), machine(release, "q35")
    asked = AskedModels(tables, "q35", described, tuple(sorted((*tables.models, *tables.model_aliases))), given)
    if "intel-pt" not in tables.flags or "x-force-features" not in tables.properties:
        asked = replace(asked, globals=())
    seen = 0
    for name in HOSTS:
        for host in (qemu_host(name), without(qemu_host(name), 0xD), without(qemu_host(name), 0x14)):
            says = kvm_says(Setup.of(host, Stack(qemu=release)))
            for xcr0 in (None, 0x207, says.xcr0):
                found = lacking(asked, supported(tables, described, says, Unrecorded(), xcr0), says.vendor)
                for model, missing in found if seen % 4 == 0 else list(found)[:: max(1, len(asked.names) // 6)]:
                    draft = draw(plan(release, "q35", model, asked.globals), tables, described, says, xcr0, Unrecorded())
                    expand(draft, Shape())
                    filter_features(draft, verbose=False)
                    assert unpacked(tables, missing) == {word: mask for word, mask in draft.filtered.items() if mask}, (model, name, xcr0)
                seen += 1
    assert seen == 27


def test_words_are_packed_as_they_were() -> None:
    tables = catalog(QEMUS[-1])
    words = {row.name: (number * 0x9E3779B97F4A7C15) & (1 << 64) - 1 for number, row in enumerate(tables.words)}
    assert unpacked(tables, packed(tables, words)) == {name: value for name, value in words.items() if value}
