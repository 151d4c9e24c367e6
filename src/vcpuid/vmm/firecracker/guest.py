"""From KVM_GET_SUPPORTED_CPUID to the tables of a whole microVM: Firecracker's part of the path in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vcpuid import releases
from vcpuid.cpuid import CpuidTable, MsrWord
from vcpuid.cpuid.registers import vendor_name
from vcpuid.cpuid.text import characters
from vcpuid.cpuid.vendors import AMD, INTEL
from vcpuid.errors import FirecrackerError
from vcpuid.formats.firecracker_template import Template
from vcpuid.reasons import Decision, Ledger
from vcpuid.releases import Release, choose, number
from vcpuid.vmm.firecracker.msrs import guest_msrs
from vcpuid.vmm.firecracker.normalize import MAX_VCPUS, normalize
from vcpuid.vmm.firecracker.silicon import Silicon
from vcpuid.vmm.firecracker.template import apply, check_host, static
from vcpuid.vmm.patching import TableDraft, VcpuPlace

RELEASES = ("1.10", "1.11", "1.12", "1.13", "1.14", "1.15", "1.16", "1.17")
"""Releases with rules, oldest first; 1.17 is its development, at the commit that data/firecracker.json names."""

DEFAULT = "1.16"
"""The newest that is released."""

_NO_MSRS: Mapping[int, int] = MappingProxyType({})
_OLD_ENTRIES = 80
"""KVM_MAX_CPUID_ENTRIES of kvm-bindings up to 0.10, which Firecracker 1.10 has; later ones have KVM's 256."""


def released(asked: str | Release | None = None) -> Release:
    """Choose the rules for a release of Firecracker, of None the newest that is released; raises InputError where it is none."""
    return asked if isinstance(asked, Release) else choose(DEFAULT if asked is None else asked, RELEASES, "Firecracker")


@dataclass(frozen=True, slots=True)
class Guest:
    """What Firecracker makes of a configuration.

    `tables` holds one table a vCPU, as handed to KVM_SET_CPUID2; `msrs` the feature MSRs that the guest reads, and those that the template
    sets; `decisions` lead from KVM's answer and its feature MSRs to `tables[0]` and `msrs`. `warnings` are what Firecracker logs, `remarks`
    what is not known for sure, and why.
    """

    tables: tuple[CpuidTable, ...]
    msrs: Mapping[MsrWord, int]
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def guest(
    supported: CpuidTable,
    *,
    host: CpuidTable,
    template: Template | str | None = None,
    vcpus: int = 1,
    smt: bool = False,
    offered: Mapping[int, int] = _NO_MSRS,
    release: str | Release | None = None,
    kernel: str | Release | None = None,
) -> Guest:
    """Work out the tables that Firecracker hands to KVM_SET_CPUID2.

    `supported` is KVM_GET_SUPPORTED_CPUID in a process that may use AMX (Firecracker asks for the permission since 1.12), `host` the
    host's own CPUID (RAW entries), `offered` KVM's feature MSRs. `template` is a custom template, the name of a static one, or None.
    `vcpus` and `smt` are vcpu_count and smt of the machine configuration. `release` is Firecracker's, by default the newest that is
    released, `kernel` that of the host's Linux, by default the newest with tables.

    Raises FirecrackerError, with the part of Firecracker's message that names the cause, where Firecracker refuses; InputError for a name
    or a release that is none.
    """
    chosen, asked_kernel = released(release), releases.linux(kernel)
    asked = chosen.number
    if not 1 <= vcpus <= MAX_VCPUS or (smt and vcpus > 1 and vcpus % 2):
        limits = f"greater than 0, less than {MAX_VCPUS} and must be 1 or an even number if SMT is enabled"
        raise FirecrackerError(f"The number of vCPUs must be {limits}.")
    silicon = Silicon(host, supported)
    log: list[str] = []
    try:
        custom = _template(template, chosen.tables, silicon, log)
        passes = _tables(
            supported, custom, [VcpuPlace(index, vcpus, 2 if smt and vcpus > 1 else 1) for index in range(vcpus)], silicon, asked, log
        )
    except FirecrackerError as error:
        raise FirecrackerError(error.message, log) from None
    tables = tuple(table for table, _ in passes)
    msrs = guest_msrs(custom, tables[0], offered, asked, number(asked_kernel.asked))
    told = (chosen.remark,) if chosen.remark and not isinstance(release, Release) else ()
    untold = tuple(
        f"the host does not tell leaf {function:#x} of its own CPUID, which Firecracker hands on: KVM's answer stands for it"
        for function in sorted(silicon.untold)
    )
    return Guest(tables, msrs.values, (*passes[0][1], *msrs.decisions), tuple(log), (*told, *untold, *msrs.remarks))


def _template(template: Template | str | None, release: str, silicon: Silicon, log: list[str]) -> Template:
    if isinstance(template, str):
        log += check_host(template, release, silicon)
        return static(template, release)
    return template or Template()


def _tables(
    supported: CpuidTable, template: Template, vcpus: list[VcpuPlace], silicon: Silicon, release: tuple[int, int], log: list[str]
) -> list[tuple[CpuidTable, list[Decision]]]:
    """Make each vCPU's table, with the decisions that led to it."""
    if release <= (1, 10) and len(supported) > _OLD_ENTRIES:
        raise FirecrackerError("Cannot open the VM file descriptor: Argument list too long (os error 7)")
    vendor = _vendor(supported)
    ledger = Ledger()
    shared = TableDraft(supported, ledger)
    apply(shared, template)
    passes = []
    for vcpu in vcpus:
        own = Ledger()
        draft = shared.fork(own)
        normalize(draft, vendor, vcpu, silicon, release, log)
        passes.append((draft.table(), [*ledger.decisions, *own.decisions]))
    return passes


def _vendor(supported: CpuidTable) -> str:
    """The maker, by which Firecracker chooses its code (Cpuid::try_from in cpuid/mod.rs)."""
    leaf = supported.get(0)
    if leaf is None:
        raise FirecrackerError("Can create cpuid from raw: Leaf 0 not found in the given `kvm_bindings::CpuId`.")
    vendor = vendor_name(leaf.registers)
    if vendor not in (INTEL, AMD):
        letters = list(characters(leaf.ebx, leaf.edx, leaf.ecx).encode("latin-1"))
        raise FirecrackerError(
            rf"Can create cpuid from raw: Unsupported CPUID manufacturer id: \"{letters}\" "
            "(only 'GenuineIntel' and 'AuthenticAMD' are supported)."
        )
    return vendor
