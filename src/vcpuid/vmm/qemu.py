"""QEMU as a VMM of the path: an adapter over `vcpuid.qemu`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vcpuid import qemu, releases
from vcpuid.cpuid import Bit, CpuidTable, Word, brand_string
from vcpuid.cpuid.vendors import signature
from vcpuid.cpuid.words import positions
from vcpuid.kvm.answers import Answers
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.guest import make
from vcpuid.qemu.managers import understood
from vcpuid.qemu.messages import unspecific
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.supported import supported
from vcpuid.qemu.unknown import hinting, unnamed
from vcpuid.reasons import Unrecorded
from vcpuid.reasons.lazy import LazyMapping, LazySequence
from vcpuid.releases import Release
from vcpuid.setup import Setup
from vcpuid.vmm import Made


@dataclass(frozen=True, slots=True)
class Qemu:
    """What is asked of it is the argument of -cpu; `Made.detail` is QEMU's CPU, a `vcpuid.qemu.CpuState`."""

    name: str = "qemu"
    spoken: str = "QEMU"
    title: str = "QEMU's table for KVM_SET_CPUID2"

    def release(self, asked: str | None) -> Release:
        """Choose the tables for a release of QEMU, or for the name of an imported one."""
        return releases.qemu(asked)

    @staticmethod
    def software(setup: Setup) -> str:
        """Name QEMU and machine type."""
        return f"QEMU {setup.spoken_vmm}, {setup.machine}"

    def describe(self, asked: str, setup: Setup, remark: str = "") -> str:
        """Name the software, and spell -cpu."""
        return f"{self.software(setup)}, {setup.linux}, {remark}-cpu {asked}"

    def alike(self, table: CpuidTable, setup: Setup) -> Iterator[str]:
        """Give the host's own CPU, then every model with the guest's signature and name."""
        yield "host"
        wanted, brand = signature(table.registers(1).eax), brand_string(table).strip()
        for name, model in catalog(setup.vmm.tables).models.items():
            if (model.family, model.model, model.stepping) == wanted and model.model_id.strip() == brand:
                yield name

    def make(self, asked: str, setup: Setup, kvm: Answers) -> Made:
        """Make the tables as `vcpuid.qemu.guest_tables` does, on this host's KVM; raises what that raises."""
        cpu, remark = understood(asked)
        with hinting(cpu, setup):
            made = make(cpu, setup, qemu.KvmHost(xcr0=kvm.xcr0))
        state = made.state
        return Made(
            tables=made.tables,
            msrs=made.msrs,
            decisions=LazySequence(lambda: made.decisions),
            denied=LazySequence(lambda: _bits(state, state.filtered)),
            dropped=LazySequence(lambda: _bits(state, made.dropped)),
            forced=bool(state.props["x-force-features"]),
            warnings=made.warnings,
            available=LazyMapping(lambda: _available(state)),
            remarks=() if remark is None else (remark,),
            open=LazyMapping(lambda: unnamed(state.model, made.decisions, setup.vmm)),
            detail=state,
        )

    def unspecific(self, warning: str) -> str:
        """Leave open what is the host's in one of QEMU's own texts."""
        return unspecific(warning)


QEMU = Qemu()


def _bits(state: CpuState, masks: Mapping[str, int]) -> tuple[Bit, ...]:
    """Give the bits of masks by feature word, in QEMU's order."""
    if not masks:
        return ()
    rows = ((row.word, masks[row.name]) for row in catalog(state.release).words if row.name in masks)
    return tuple(Bit(word, position) for word, mask in rows for position in positions(mask))


def _available(state: CpuState) -> dict[Word, int]:
    return {row.word: state.supported[row.name] for row in catalog(state.release).words}


def available(setup: Setup, kvm: Answers) -> dict[Word, int]:
    """Return the bits that QEMU can give a guest on this host, by word; of another VMM's setup, the newest QEMU on a q35."""
    of_qemu = setup.vmm.program == "QEMU"
    tables = catalog((setup.vmm if of_qemu else releases.qemu()).tables)
    able = supported(tables, tables.machine(setup.machine if of_qemu else "q35"), kvm, Unrecorded())
    return {row.word: able.words[row.name] for row in tables.words}
