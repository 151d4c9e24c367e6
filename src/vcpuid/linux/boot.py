"""boot_cpu_data: the order in which Linux identifies the boot processor (early_identify_cpu, identify_cpu and what follows, common.c)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vcpuid.cpuid.registers import Snapshot
from vcpuid.cpuid.words import Word
from vcpuid.errors import InputError
from vcpuid.linux import (
    amd,
    bugs,
    fpu,
    hypervisor,
    identify,
    intel,
    mitigations,
    options,
    protection,
    rules,
    timekeeping,
    topology,
    tsx,
    zhaoxin_centaur,
)
from vcpuid.linux.cpu import Cpu
from vcpuid.linux.machine import Machine, machine_of
from vcpuid.linux.observed import adopt
from vcpuid.linux.tables import NOWHERE, Tables, tables
from vcpuid.params import Given, Params
from vcpuid.reasons import Decision, Ledger, Unrecorded
from vcpuid.reasons.lazy import LazySequence
from vcpuid.releases import Release
from vcpuid.setup import Remembered, Setup, settled


@dataclass(frozen=True, slots=True)
class BootCpu:
    """What boot_cpu_data holds when the kernel has booted.

    `caps` are the words of x86_capability, then those of bugs; `vmx` those of vmx_capability; `decisions` say why words differ from what
    CPUID tells. Names of features are the kernel's without X86_FEATURE_.
    """

    tables: Tables
    vendor: str
    family: int
    model: int
    stepping: int
    phys_bits: int
    virt_bits: int
    caps: tuple[int, ...]
    vmx: tuple[int, ...]
    decisions: Sequence[Decision] = field(compare=False)

    @property
    def kernel(self) -> str:
        """The release whose tables stand for the kernel asked for."""
        return self.tables.release

    @property
    def number(self) -> tuple[int, int]:
        """Major and minor of that release."""
        return self.tables.number

    def has(self, feature: str) -> bool:
        """Tell whether a feature is set, printed or hidden; one that this release does not know is not."""
        word, mask = self.tables.features.get(feature, NOWHERE)
        return bool(self.caps[word] & mask)

    def has_bug(self, bug: str) -> bool:
        """Tell whether a bug is set, by its name without X86_BUG_; one that this release does not know is not."""
        word, mask = self.tables.bugs.get(bug, NOWHERE)
        return bool(self.caps[word] & mask)

    def word(self, name: str) -> int:
        """Return a word by the name that enum cpuid_leafs has for it, such as CPUID_7_0_EBX; KeyError where the release has none."""
        return self.caps[self.tables.word_numbers[name]]

    @property
    def bugs(self) -> tuple[str, ...]:
        """The bugs set, in the kernel's order and without X86_BUG_; hidden ones too."""
        return tuple(name for name, (word, mask) in self.tables.bugs.items() if self.caps[word] & mask)

    def words(self) -> dict[Word, int]:
        """Return every word of features and of bugs."""
        return dict(zip(self.tables.words, self.caps, strict=True))


def boot_cpu(
    host: Snapshot | Setup,
    kernel: str | Release | None = None,
    params: Given | None = None,
    observed: bool = False,
    facts: bool = False,
) -> BootCpu:
    """Identify the boot processor as a Linux release does.

    `host` gives CPUID (`raw`) and MSRs; `kernel` is the release, the host's own by default, and `params` is what neither shows (`cmdline`,
    `tsx_mode` and `msr.INDEX`, see `vcpuid.linux.machine`); or `host` is a Setup, which holds both. With `observed`, the flags that the
    host's own /proc/cpuinfo printed, where the snapshot has its lines, take the place of those worked out (rule "linux.observed"); with
    `facts`, only those do that depend on more than CPUID: Linux's own words, bugs and VMX flags.
    Raises InputError for a host that tells no CPUID, for a parameter that is not Linux's and for a release that is not a number.
    """
    refuse_others(params)
    setup = settled(host, kernel=kernel, params=params)
    return _boot(setup, machine_of(setup), observed, facts) if observed or facts else booted(setup)


def refuse_others(params: Given | None) -> None:
    """Raise InputError where parameters are given that Linux's flags do not depend on."""
    for name in Params.of(params).kvm:
        raise InputError(f"the parameter {name} is KVM's and has no effect on Linux's flags: cmdline, tsx_mode and msr.INDEX have")


@Remembered
def booted(setup: Setup) -> BootCpu:
    """Identify the boot processor by the rules alone."""
    return _boot(setup, machine_of(setup), observed=False, facts=False)


def booted_once(setup: Setup) -> BootCpu:
    """Do the same for who keeps the answer himself, as of guests: nothing of it is kept here, where hosts have their room."""
    return _boot(setup, Machine(setup), observed=False, facts=False)


def _boot(setup: Setup, machine: Machine, observed: bool, facts: bool) -> BootCpu:
    """Identify the boot processor; its decisions are worked out when they are looked at, by doing the same once more."""
    cpu = _booted(setup, machine, observed, facts, Unrecorded())
    decisions = LazySequence(lambda: _booted(setup, machine, observed, facts, Ledger()).ledger.decisions)
    return BootCpu(
        cpu.tables,
        cpu.vendor,
        cpu.family,
        cpu.model,
        cpu.stepping,
        cpu.phys_bits,
        cpu.virt_bits,
        tuple(cpu.caps),
        tuple(cpu.vmx),
        decisions,
    )


def _booted(setup: Setup, machine: Machine, observed: bool, facts: bool, ledger: Ledger) -> Cpu:
    host = setup.host
    if not host.raw and host.supported is None and not (observed and "flags" in host.cpuinfo):
        raise InputError("the host does not tell its CPUID: take a snapshot with RAW lines, or a dump of CPUID")
    cpu = Cpu(host, tables(setup.kernel.tables), machine, ledger)
    _identify(cpu)
    if observed or facts:
        adopt(cpu, host.cpuinfo, of_cpuid=observed, own="kernel" not in setup.assumed)
    return cpu


def _identify(cpu: Cpu) -> None:
    identify.read(cpu)
    early_init, bsp_init, init = _VENDORS[cpu.vendor]
    # early_identify_cpu
    cpu.force("CPUID", rules.HAS_CPUID)
    options.apply(cpu)
    topology.read(cpu)
    early_init(cpu)
    protection.filter_levels(cpu)
    bsp_init(cpu)
    cpu.force("ALWAYS", rules.ALWAYS)
    bugs.mark(cpu)
    intel.split_lock(cpu)
    cpu.force("NOPL", rules.NOPL)
    # setup_arch, mm_core_init and trap_init
    hypervisor.ask(cpu)
    protection.paging(cpu)
    timekeeping.init(cpu)
    mitigations.isolate_page_tables(cpu)
    protection.fred(cpu)
    options.apply_late(cpu)
    # identify_cpu
    cpu.apply_forced()
    cpu.set("APIC_MSRS_FENCE", rules.APIC_FENCE)
    init(cpu)
    protection.filter_levels(cpu)
    protection.protect(cpu)
    cpu.apply_forced()
    protection.inventory_number(cpu)
    # arch_cpu_finalize_init
    tsx.init(cpu)
    mitigations.select(cpu)
    fpu.init(cpu)
    # init_hw_perf_events
    intel.performance_monitoring(cpu)


def _nothing(cpu: Cpu) -> None:
    del cpu


_VENDORS = {
    "intel": (intel.early_init, _nothing, intel.init),
    "amd": (amd.early_init, amd.bsp_init, amd.init),
    "hygon": (amd.early_init, amd.bsp_init, amd.init),
    "centaur": (zhaoxin_centaur.early_init, _nothing, zhaoxin_centaur.init),
    "zhaoxin": (zhaoxin_centaur.early_init, _nothing, zhaoxin_centaur.init),
    "unknown": (_nothing, _nothing, _nothing),
}
