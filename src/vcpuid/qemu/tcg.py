"""CPUs without KVM: what QEMU's own emulator, TCG, can give, and the CPU that it makes of a -cpu argument.

QEMU, target/i386/tcg/tcg-cpu.c and target/i386/cpu.c (tcg_features of feature_word_info). The tables are data/qemu-tcg.json. Leaves and
caches are not modelled: what is told here are features.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from vcpuid import data
from vcpuid.cpuid.registers import Registers
from vcpuid.qemu import messages
from vcpuid.qemu.catalog import HOST_MODELS, Catalog, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.draft import Draft, FeatureSwitch
from vcpuid.qemu.expand import KVM_HIDDEN, Shape, expand
from vcpuid.qemu.filter import filter_features
from vcpuid.qemu.plan import KVM_DEFAULT_OFF, KVM_DEFAULT_ON, plan
from vcpuid.qemu.realize import draw_on
from vcpuid.qemu.supported import LEAVES, Supported
from vcpuid.reasons import Ledger, Rule, Unrecorded

TCG_DEFAULT_OFF = Rule(
    "qemu.tcg.default-off", "without KVM, QEMU switches it off in every model", "x86_tcg_default_props, target/i386/tcg/tcg-cpu.c",
    remedy="name it with +feature",
)  # fmt: skip

_OFF = "vme"
_HOST_LACKS, _TCG_LACKS = messages.HOST_LACKS.template.partition("{")[0], "TCG doesn't support requested feature: "


class _Able(Supported):
    """What TCG supports, on any host."""

    __slots__ = ()

    def __init__(self, tables: Catalog) -> None:
        words = data.load("qemu-tcg")[tables.release]["words"]
        self._leaves = (Registers(),) * len(LEAVES)
        self.words = {row.name: words.get(row.name, 0) for row in tables.words}


@cache
def _able(tables: Catalog) -> _Able:
    return _Able(tables)


def draft(release: str, machine: str, cpu: str, ledger: Ledger | None = None) -> Draft:
    """Create the CPU of a -cpu argument, expanded and not yet filtered; a ledger notes its decisions. Raises QemuError."""
    tables, found = catalog(release), plan(release, machine, cpu)
    kept = [switch for switch in found.switches if switch.rule not in (KVM_DEFAULT_ON, KVM_DEFAULT_OFF)]
    own = found.model not in HOST_MODELS and found.model != "base"
    switches = (*((FeatureSwitch(tables.flags[_OFF], False, TCG_DEFAULT_OFF),) if own else ()), *kept)
    made = draw_on(
        found._replace(switches=switches),
        tables,
        find_machine(release, machine),
        _able(tables),
        _identity(tables, found.model),
        ledger or Unrecorded(),
    )
    expand(made, Shape())
    made.take("FEAT_KVM", made.features["FEAT_KVM"], KVM_HIDDEN)
    return made


def _identity(tables: Catalog, name: str) -> dict[str, Any]:
    """Return what a CPU has of its model, or "max" of TCG, where under KVM it would be the host's."""
    model = tables.models.get(name)
    if model is not None:
        return {"vendor": model.vendor}
    return {**data.load("qemu-tcg")[tables.release]["max"], "migratable": True} if name in HOST_MODELS else {}


def realized(release: str, machine: str, cpu: str) -> tuple[Draft, tuple[str, ...]]:
    """Make the CPU of a -cpu argument: its features as the guest has them, and QEMU's warnings; raises QemuError."""
    made = draft(release, machine, cpu)
    filter_features(made, verbose=bool(made.props["check"]))
    return made, tuple(warning.replace(_HOST_LACKS, _TCG_LACKS) for warning in made.warnings)
