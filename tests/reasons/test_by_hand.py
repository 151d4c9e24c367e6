"""Rules that no capture shows, on hosts made by hand: a captured machine edited so that the rule decides, and what the source demands.

A row names a rule, the flag or the feature that it decides, and its value after; `edits` are registers ("7.0.edx"), `params` what the
kernel and its modules are given. `unlike` are parameters with which the rule must leave the flag alone on the same host; without it, the
machine as it was captured must not show the rule.

Every rule of a program is captured, or decides on a host here, or stands in UNREACHED with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from support import captures
from vcpuid import kvm
from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Entry, MsrTable, MsrWord, Snapshot
from vcpuid.cpuid.names import find
from vcpuid.cpuid.words import parse_bit
from vcpuid.data import load
from vcpuid.kvm.feature_msrs import FeatureMsrs, feature_msrs
from vcpuid.kvm.lookup import seen
from vcpuid.kvm.vcpu_state import VcpuState
from vcpuid.linux import boot_cpu
from vcpuid.qemu import realize
from vcpuid.qemu.catalog import catalog
from vcpuid.reasons import Decision
from vcpuid.reasons.history import RELEASES
from vcpuid.rulebook import all_rules
from vcpuid.setup import Setup, Stack

MILAN, ZEN1, TURIN = "kvm-amd.EPYC-Milan-v2@7.3", "kvm-amd.EPYC-v1@7.3", "kvm-amd.EPYC-Turin-v1@7.3"
SKYLAKE, SAPPHIRE, DIAMOND = "kvm-intel.corei7_skylake_x@7.3", "kvm-intel.sapphire_rapids-xfd@7.3", "kvm-intel.sapphire_rapids-dmr@7.3"

Edits = dict[str, int | tuple[int, int]]
"""A register's new value, or the bits that are set in it and those that are cleared."""

HYPERVISOR: Edits = {"1.0.ecx": (1 << 31, 0)}
FRED: Edits = {"7.0.eax": 1, "7.1.eax": (7 << 17, 0)}
SEV: Edits = {"80000000.0.eax": 0x80000021, "8000001f.0.eax": 0x1B, "8000001f.0.ecx": 0x1FD, "8000001f.0.edx": 1}


def name(text: bytes) -> Edits:
    """A hypervisor's signature in leaf 0x40000000."""
    words = [int.from_bytes(text[at : at + 4], "little") for at in (0, 4, 8)]
    return {
        "40000000.0.eax": 0x4000000A,
        **{f"40000000.0.{register}": word for register, word in zip(("ebx", "ecx", "edx"), words, strict=True)},
    }


def zhaoxin() -> Edits:
    words = [int.from_bytes(b"  Shanghai  "[at : at + 4], "little") for at in (0, 4, 8)]
    return {f"0.0.{register}": word for register, word in zip(("ebx", "edx", "ecx"), words, strict=True)}


class Host(NamedTuple):
    """A row: the rule, the flag or feature and its value after, the machine, what is changed of it; another kernel than its own."""

    rule: str
    flag: str
    value: bool
    machine: str
    edits: Edits = {}  # noqa: RUF012  (never written to)
    params: dict[str, str | int] = {}  # noqa: RUF012
    unlike: dict[str, str | int] | None = None
    msrs: dict[int, int] = {}  # noqa: RUF012
    under: str | None = None

    @property
    def kernel(self) -> str:
        return self.under or self.machine.rpartition("@")[2]


LINUX = [
    Host("linux.amd.no-snp-host", "SEV_SNP", False, MILAN, SEV, {"msr.c0010010": 1 << 23, "msr.c0010133": 1 << 30}),
    Host(
        "linux.amd.sme-unused", "SME", False, MILAN, SEV, {"msr.c0010010": 1 << 23}, {"msr.c0010010": 1 << 23, "cmdline": "mem_encrypt=on"}
    ),
    Host("linux.amd.smm-unlocked", "SEV", False, MILAN, SEV, {"msr.c0010010": 1 << 23, "msr.c0010015": 0}, {"msr.c0010010": 1 << 23}),
    Host("linux.amd.encryption-off", "SEV", False, MILAN, SEV, {}, {"msr.c0010010": 1 << 23}),
    Host("linux.amd.svm-off", "SVM", False, MILAN, {}, {"msr.c0010114": 1 << 4}),
    Host("linux.amd.power", "ACC_POWER", True, MILAN, {"80000007.0.edx": (1 << 12, 0)}),
    Host("linux.amd.erratum-1054", "IRPERF", False, ZEN1, {"80000008.0.ebx": (1 << 1, 0)}),
    Host("linux.topology.multi-node", "AMD_DCM", True, MILAN, {"80000001.0.ecx": (1 << 22, 0), "8000001e.0.ecx": 1 << 8}),
    Host("linux.ppin", "INTEL_PPIN", True, SKYLAKE, {}, {"msr.4e": 2}, {"msr.4e": 1}),
    Host("linux.intel.cpuid-fault", "CPUID_FAULT", True, SKYLAKE, {}, {"msr.ce": 1 << 31}, {"msr.ce": 0}),
    Host("linux.intel.mpx-erratum", "MPX", False, SKYLAKE, {"7.0.ebx": (1 << 14, 1 << 7)}, under="4.18"),
    Host("linux.intel.no-fast-strings", "ERMS", False, SKYLAKE, {}, {"msr.1a0": 0}),
    Host("linux.intel.no-lbr-depth", "ARCH_LBR", False, SAPPHIRE, {"7.0.edx": (1 << 19, 0), "a.0.eax": 0x0402, "1c.0.eax": 0}),
    Host("linux.intel.split-lock", "SPLIT_LOCK_DETECT", True, SKYLAKE, {"7.0.edx": (1 << 30, 0)}, {"msr.cf": 1 << 5}, {"msr.cf": 0}),
    Host("linux.kvm.clock", "TSC_KNOWN_FREQ", True, SKYLAKE, HYPERVISOR | name(b"KVMKVMKVM\0\0\0") | {"40000001.0.eax": 1 << 3}),
    Host(
        "linux.hyperv.frequency",
        "TSC_KNOWN_FREQ",
        True,
        SKYLAKE,
        HYPERVISOR | name(b"Microsoft Hv") | {"40000003.0.eax": 0x860, "40000003.0.edx": 1 << 8},
    ),
    Host("linux.hyperv.invariant", "TSC_RELIABLE", True, SKYLAKE, HYPERVISOR | name(b"Microsoft Hv") | {"40000003.0.eax": 0x8060}),
    Host("linux.vmware.tsc", "CONSTANT_TSC", True, MILAN, HYPERVISOR | name(b"VMwareVMware")),
    Host("linux.level", "SMEP", False, SKYLAKE, {"0.0.eax": 6}),
    Host("linux.not-read", "XSTORE", False, SKYLAKE, {"c0000000.0.eax": 0xC0000001, "c0000001.0.edx": 1 << 2}),
    Host("linux.feat-ctl.absent", "VMX", False, SKYLAKE, {}, {"msr.3a": "absent"}),
    Host("linux.feat-ctl.vmx-off", "VMX", False, SKYLAKE, {}, {"msr.3a": 1}),
    Host("linux.feat-ctl.sgx-off", "SGX", False, SKYLAKE, {"7.0.ebx": (1 << 2, 0)}, {"msr.3a": 5}, {"msr.3a": 0x60005}),
    Host("linux.feat-ctl.sgx-lc-off", "SGX_LC", False, SKYLAKE, {"7.0.ebx": (1 << 2, 0), "7.0.ecx": (1 << 30, 0)}, {"msr.3a": 0x40005}, {}),
    Host("linux.fred.system-calls", "SYSFAST32", False, MILAN, FRED, {}, {"cmdline": "fred=off"}),
    Host("linux.amd.zen2-invlpgb", "INVLPGB", False, "kvm-amd.EPYC-Rome-v4@7.3", {"80000008.0.ebx": (1 << 3, 0)}),
    Host("linux.amd.zen5-tlbi", "TLBI", True, TURIN, {"80000008.0.ebx": (1 << 3, 0)}),
    Host("linux.option.tlbi", "INVLPGB", False, TURIN, {"80000008.0.ebx": (1 << 3, 0)}, {"cmdline": "tlbi=ipi"}, {}),
    Host("linux.mitigation.not-with-pti", "INVLPGB", False, TURIN, {"80000008.0.ebx": (1 << 3, 0)}, {"cmdline": "pti=on"}, {}),
    Host("linux.level-missing", "MWAIT", False, SKYLAKE, {"0.0.eax": 4, "1.0.ecx": (1 << 3, 0)}),
    Host("linux.lass.unused", "LASS", False, MILAN, {"7.0.eax": 1, "7.1.eax": (1 << 6, 0), "7.0.ebx": (1 << 20, 0)}, under="6.19"),
    Host("linux.option.fred", "FRED", False, MILAN, FRED, {"cmdline": "fred=off"}, {}),
    Host("linux.option.fred-not-on", "FRED", False, "kvm-amd.EPYC-Milan-v2@6.12", FRED, {}, {"cmdline": "fred=on"}),
    Host("linux.tsc.no-deadline", "TSC_DEADLINE_TIMER", False, SKYLAKE, {"1.0.edx": (0, 1 << 4), "1.0.ecx": (1 << 24, 0)}),
    Host(
        "linux.tsc.reliable",
        "TSC_RELIABLE",
        True,
        SKYLAKE,
        {"0.0.eax": 0x16, "1.0.eax": 0x506C9, "15.0.eax": 2, "15.0.ebx": 100, "15.0.ecx": 19200000},
    ),
    Host("linux.tsx.control", "MSR_TSX_CTRL", True, SKYLAKE, {"7.0.edx": (1 << 29, 0)}, {"msr.10a": 0x180}),
    Host(
        "linux.tsx.off",
        "RTM",
        False,
        SKYLAKE,
        {"7.0.edx": (1 << 29, 0), "7.0.ebx": (1 << 11, 0)},
        {"msr.10a": 0x180, "cmdline": "tsx=off"},
        {"msr.10a": 0x180},
    ),
    Host(
        "linux.tsx.on",
        "RTM",
        True,
        SKYLAKE,
        {"7.0.edx": (1 << 29, 0), "7.0.ebx": (0, 1 << 11)},
        {"msr.10a": 0x180},
        {"msr.10a": 0x180, "cmdline": "tsx=off"},
    ),
    Host("linux.xsave.apx-and-mpx", "XSAVE", False, SAPPHIRE, {"d.0.eax": 0x8001F}),
    Host("linux.xsave.no-sse-state", "XSAVE", False, SKYLAKE, {"d.0.eax": 1}),
    Host("linux.xsave.compacted", "XCOMPACTED", True, ZEN1, {"d.1.eax": (2, 0)}),
    Host("linux.pcid.model", "PCID", False, SKYLAKE, {"1.0.eax": 0x90672, "1.0.ecx": (1 << 17, 0)}, under="5.10"),
    Host("linux.hygon.erratum-1386", "XSAVES", False, "kvm-amd.Dhyana-v2@6.1", {"d.1.eax": (8, 0)}),
    Host("linux.zhaoxin.arch-perfmon", "ARCH_PERFMON", True, SKYLAKE, zhaoxin() | {"a.0.eax": 0x0402}),
]
"""`flag` is the kernel's name without X86_FEATURE_ or X86_BUG_."""

CET: Edits = {"7.0.ecx": (1 << 7, 0), "7.0.edx": (1 << 20, 0), "d.1.eax": (8, 0), "d.1.ecx": (0x1800, 0)}
TRACE: Edits = {"7.0.ebx": (1 << 25, 0), "14.0.eax": 1, "14.0.ebx": 0xF, "14.1.eax": 0x02490002}
ALL = {0x48B: 0xFFFFFFFF << 32}
"""A processor with every secondary control."""

KVM = [
    Host("kvm.vmx.absent", "vmx", False, SKYLAKE, {}, {"msr.3a": 1}, {}),
    Host("kvm.svm.absent", "npt", False, MILAN, {}, {"msr.c0010114": 1 << 4}, {}),
    Host("kvm.vmx.nested", "vmx", False, SKYLAKE, {}, {"kvm_intel.nested": 0}),
    Host("kvm.vmx.invpcid", "invpcid", False, SKYLAKE, {"7.0.ebx": (1 << 10, 0)}, msrs={0x48B: 0}),
    Host("kvm.vmx.xsaves", "xsaves", False, SKYLAKE, {"d.1.eax": (8, 0)}, msrs={0x48B: 0}),
    Host("kvm.vmx.waitpkg", "waitpkg", False, SAPPHIRE, {"7.0.ecx": (1 << 5, 0)}, msrs={0x48B: 0}),
    Host("kvm.vmx.mpx", "mpx", False, SKYLAKE, {"7.0.ebx": (1 << 14, 0)}),
    Host("kvm.vmx.pt", "intel-pt", False, SKYLAKE, TRACE),
    Host("kvm.vmx.sgx", "sgx", False, SKYLAKE, {"7.0.ebx": (1 << 2, 0)}, {"kvm_intel.sgx": 0}, {"kvm_intel.sgx": 1}, ALL),
    Host("kvm.vmx.cet", "shstk", False, SAPPHIRE, CET, {"kvm_intel.cet": 0}, {}),
    Host("kvm.vmx.cet-guest", "shstk", False, SAPPHIRE, CET, {"kvm_intel.unrestricted_guest": 0}, {}),
    Host("kvm.vmx.cet-error-code", "shstk", False, SAPPHIRE, CET, msrs={0x480: 0}),
    Host("kvm.caps.cet-maxphyaddr", "ibt", False, SAPPHIRE, CET, {"kvm_intel.allow_smaller_maxphyaddr": 1}, {}),
    Host("kvm.caps.cet-xss", "shstk", False, SAPPHIRE, CET | {"d.1.ecx": 0}),
    Host("kvm.caps.shstk-shadow", "shstk", False, SAPPHIRE, CET, {"kvm_intel.ept": 0}, {}),
    Host("kvm.svm.ibt", "ibt", False, MILAN, CET),
    Host(
        "kvm.svm.perfmon-v2",
        "perfmon-v2",
        False,
        MILAN,
        name(b"KVMKVMKVM\0\0\0") | {"80000000.0.eax": 0x80000022, "80000022.0.eax": 1, "80000022.0.ebx": 6, "80000001.0.ecx": (0, 1 << 23)},
    ),
    Host("kvm.caps.spec-ctrl-amd", "spec-ctrl", True, MILAN, {"80000008.0.ebx": (1 << 12 | 1 << 14 | 1 << 30, 0)}),
    Host(
        "kvm.sev.off",
        "sev",
        False,
        MILAN,
        SEV | {"8000000a.0.edx": 0xCB},
        {"msr.c0010010": 1 << 23, "kvm_amd.sev": 0},
        {"msr.c0010010": 1 << 23},
    ),
    Host("kvm.caps.not-before-6.8", "lam", False, SAPPHIRE, {"7.1.eax": (1 << 26, 0)}, under="6.1"),
    Host("kvm.caps.not-before-6.19", "80000008.0.ebx.20", False, MILAN, {"80000008.0.ebx": (1 << 20, 0)}, under="6.18"),
    Host(
        "kvm.caps.not-before-7.1", "80000021.0.eax.23", False, MILAN, {"80000000.0.eax": 0x80000021, "80000021.0.eax": 1 << 23}, under="7.0"
    ),
    Host("kvm.caps.not-before-7.2", "gmet", False, "kvm-amd.EPYC-Milan-v2@6.12", {"8000000a.0.edx": (1 << 17, 0)}),
    Host(
        "kvm.caps.not-before-7.3", "80000021.0.ecx.7", False, MILAN, {"80000000.0.eax": 0x80000021, "80000021.0.ecx": 1 << 7}, under="7.2"
    ),
    Host("kvm.leaf.power", "80000007.0.ebx.0", False, MILAN, {"80000007.0.ebx": 1}),
    Host("kvm.leaf.amd-reserved", "80000019.0.ecx.0", False, MILAN, {"80000019.0.ecx": 1}),
    Host("kvm.leaf.amd-features", "80000021.0.ebx.0", False, MILAN, {"80000000.0.eax": 0x80000021, "80000021.0.ebx": 1}),
    Host("kvm.leaf.reserved", "80000001.0.ebx.16", False, MILAN, {"80000001.0.ebx": 0x10000}),
    Host("kvm.leaf.sev", "8000001f.0.ebx.0", False, MILAN, SEV | {"8000001f.0.ebx": 1}),
    Host("kvm.leaf.amd-pmu", "80000022.0.ebx.0", False, MILAN, {"80000000.0.eax": 0x80000022, "80000022.0.ebx": 1}),
    Host("kvm.leaf.no-feature", "14.0.ebx.0", False, SKYLAKE, {"0.0.eax": 0x16, "14.0.ebx": 1}),
    Host("kvm.leaf.sgx", "12.0.ebx.1", False, SKYLAKE, {"0.0.eax": 0x16, "12.0.ebx": 2}),
]
"""`flag` is any spelling of the feature, or a place."""


ARCH_CAPABILITIES: Edits = {"7.0.edx": (1 << 29, 0)}
PDCM: Edits = {"1.0.ecx": (1 << 15, 0)}
RTM: Edits = {"7.0.edx": (1 << 29, 0), "7.0.ebx": (1 << 11, 0)}
COUNTERS: dict[str, str | int] = {"pmu": 1}
FEATURE_MSRS = [
    Host("kvm.arch-cap.not-listed", "10a.25", False, SKYLAKE, ARCH_CAPABILITIES, {"msr.10a": 1 << 25}, {"msr.10a": 0}),
    Host("kvm.arch-cap.gds", "10a.26", True, SKYLAKE, ARCH_CAPABILITIES, {"msr.10a": 1 << 25}, {"msr.10a": 0}),
    Host("kvm.arch-cap.taa-without-rtm", "10a.8", False, SKYLAKE, RTM, {"msr.10a": 0x180, "cmdline": "tsx=off"}, {"msr.10a": 0x180}),
    Host("kvm.perf-cap.no-pmu", "345.0", False, SKYLAKE, PDCM, {"msr.345": 5, "pmu": 0}, {"msr.345": 5} | COUNTERS),
    Host("kvm.perf-cap.not-listed", "345.15", False, SKYLAKE, PDCM, {"msr.345": 1 << 15} | COUNTERS, {"msr.345": 0} | COUNTERS),
    Host("kvm.perf-cap.no-lbr", "345.0", False, SKYLAKE, PDCM | {"1.0.eax": 0x306A9}, {"msr.345": 5} | COUNTERS, {"msr.345": 0} | COUNTERS),
    Host("kvm.perf-cap.no-pebs", "345.6", False, SKYLAKE, PDCM, {"msr.345": 1 << 6} | COUNTERS, {"msr.345": 0} | COUNTERS),
]
"""`flag` is a bit of a feature MSR that nobody asked KVM for; `params` give the hardware's."""

HERE = {row.rule for row in (*LINUX, *KVM, *FEATURE_MSRS)} | {"kvm.lookup.tsx-hidden", "libvirt.argv.unknown", "libvirt.model.removed.kept"}
UNREACHED = {
    "linux.option.nousershstk": "when the option is read the flag is not set yet: it goes later, by linux.dropped",
}


def edited(table: CpuidTable, edits: Edits) -> CpuidTable:
    """A table with registers changed; entries that do not exist are added."""
    entries = {entry[:2]: entry for entry in table}
    for place, change in edits.items():
        function, index, register = place.split(".")
        key = (int(function, 16), int(index, 16))
        entry = entries.get(key, Entry(*key, 0, 0, 0, 0, 0))
        before = getattr(entry, register)
        entries[key] = entry._replace(**{register: change if isinstance(change, int) else (before | change[0]) & ~change[1]})
    return CpuidTable(entries.values())


def made(row: Host) -> Snapshot:
    """The machine with the row's edits; what Linux said of the machine as it was does not hold for it any more."""
    host = captures.host(row.machine)
    return dataclasses.replace(host, raw=edited(host.raw, row.edits), msrs=MsrTable({**host.msrs, **row.msrs}), cpuinfo={})


def deciders(decisions: Iterable[Decision], bit: Bit) -> set[str]:
    return {decision.rule.id for decision in decisions if decision.word == bit.word and decision.mask & bit.mask}


@pytest.mark.parametrize("row", LINUX, ids=lambda row: row.rule)
def test_linux(row: Host) -> None:
    kernel = row.kernel
    cpu = boot_cpu(made(row), kernel, row.params)
    word, mask = {**cpu.tables.bugs, **cpu.tables.features}[row.flag]
    bit = Bit(cpu.tables.words[word], mask.bit_length() - 1)
    assert row.rule in deciders(cpu.decisions, bit)
    assert bool(cpu.caps[word] & mask) is row.value
    other = boot_cpu(captures.host(row.machine), kernel) if row.unlike is None else boot_cpu(made(row), kernel, row.unlike)
    assert row.rule not in deciders(other.decisions, bit)


@pytest.mark.parametrize("row", KVM, ids=lambda row: row.rule)
def test_kvm(row: Host) -> None:
    kernel = row.kernel
    bit = parse_bit(row.flag) or find(row.flag).bit
    assert bit is not None
    assert isinstance(bit.word, CpuidWord)
    result = kvm.supported(made(row), kernel, row.params)
    assert row.rule in deciders(result.decisions, bit)
    assert bool(result.table.word(bit.word) & bit.mask) is row.value
    other = kvm.supported(captures.host(row.machine), kernel) if row.unlike is None else kvm.supported(made(row), kernel, row.unlike)
    assert row.rule not in deciders(other.decisions, bit)


@pytest.mark.parametrize("row", FEATURE_MSRS, ids=lambda row: row.rule)
def test_kvm_feature_msrs(row: Host) -> None:
    index, position = row.flag.split(".")
    bit = Bit(MsrWord(int(index, 16)), int(position))
    bare = dataclasses.replace(made(row), msrs=MsrTable(), supported=None)

    def found(params: dict[str, str | int] | None) -> FeatureMsrs:
        return feature_msrs(Setup.of(bare, Stack(kernel=row.machine.rpartition("@")[2], params=params or {})))

    assert row.rule in deciders(found(row.params).decisions, bit)
    assert bool(found(row.params).table[bit.word.msr] & bit.mask) is row.value
    assert row.rule not in deciders(found(row.unlike).decisions, bit)


def test_kvm_hides_tsx_from_a_guest_that_turned_it_off() -> None:
    """IA32_TSX_CTRL bit 1 (TSX_CPUID_CLEAR) takes HLE and RTM out of what the guest's CPUID returns (kvm_cpuid)."""
    table = CpuidTable([Entry(7, 0, 1, 0, 1 << 4 | 1 << 11 | 1 << 5, 0, 0)])
    result = seen(table, kernel="7.3", state=VcpuState(tsx_ctrl=1 << 1))
    assert result.table.registers(7).ebx == 1 << 5
    assert {decision.rule.id for decision in result.decisions} == {"kvm.lookup.tsx-hidden"}
    assert seen(table, kernel="7.3", state=VcpuState()).table == table


class Guest(NamedTuple):
    """A row for QEMU: the rule, the feature word and bit that it decides, its value after, the CPU, and the host that KVM reports.

    `silicon` are further edits, of the processor alone and not of what KVM reports of it, where the rule is to decide.
    """

    rule: str
    word: str
    bit: int
    value: bool
    cpu: str
    machine: str
    edits: Edits
    unlike: Edits
    msrs: dict[int, int] = {}  # noqa: RUF012
    board: str = "q35"
    release: str = "11.1"
    silicon: Edits = {}  # noqa: RUF012
    unlike_cpu: str | None = None

    def played(self, edits: Edits) -> Snapshot:
        """The host with the same edits in its CPUID and in what its KVM reports."""
        host = captures.host(self.machine)
        assert host.supported is not None
        msrs = MsrTable({**host.msrs, **self.msrs}) if edits is self.edits else host.msrs
        raw = edited(edited(host.raw, edits), self.silicon if edits is self.edits else {})
        return dataclasses.replace(host, raw=raw, supported=edited(host.supported, edits), msrs=msrs)


PT_HOST: Edits = {"7.0.ebx": (1 << 25, 0), "14.0.eax": 1, "14.0.ebx": 0xF, "14.0.ecx": 0x7, "14.1.eax": 0x02490002, "14.1.ebx": 0x003F1FFF}
APX_STATE: Edits = {"d.13.eax": 0x80, "d.13.ebx": 0x3C0}
MPX_STATE: Edits = {"d.3.eax": 0x40, "d.3.ebx": 0x3C0, "d.4.eax": 0x40, "d.4.ebx": 0x400}
QEMU = [
    Guest(
        "qemu.filter.processor-trace",
        "FEAT_7_0_EBX",
        25,
        False,
        "host,intel-pt=on",
        SKYLAKE,
        {"0.0.eax": 0x16} | PT_HOST | {"14.0.ebx": 0x7},
        {"0.0.eax": 0x16} | PT_HOST,
    ),
    Guest(
        "qemu.supported.broken-tsx",
        "FEAT_7_0_EBX",
        11,
        False,
        "host",
        SKYLAKE,
        {"1.0.eax": 0x306C3, "7.0.ebx": (1 << 11, 0)},
        {"1.0.eax": 0x50654, "7.0.ebx": (1 << 11, 0)},
    ),
    Guest(
        "qemu.supported.no-sgx",
        "FEAT_7_0_EBX",
        2,
        False,
        "host",
        SKYLAKE,
        {"7.0.ebx": (1 << 2, 0)},
        {},
        board="microvm",
    ),
    Guest(
        "qemu.supported.fb-clear",
        "FEAT_ARCH_CAPABILITIES",
        17,
        True,
        "host",
        SKYLAKE,
        {"7.0.edx": (1 << 29, 0)},
        {"7.0.edx": (1 << 29, 0)},
        msrs={0x10A: 1 << 5 | 1 << 8 | 7 << 13},
    ),
    Guest(
        "qemu.supported.fake-arch-capabilities",
        "FEAT_7_0_EDX",
        29,
        False,
        "host",
        SKYLAKE,
        {"7.0.edx": (1 << 29, 0)},
        {"7.0.edx": (1 << 29, 0)},
        release="10.1",
        silicon={"7.0.edx": (0, 1 << 29)},
    ),
    Guest(
        "qemu.expand.conflict",
        "FEAT_7_1_EDX",
        21,
        False,
        "host",
        SKYLAKE,
        {"7.0.eax": 1, "7.0.ebx": (1 << 14, 0), "7.1.edx": 1 << 21, "d.0.eax": (0x8001B, 0)} | MPX_STATE | APX_STATE,
        {"7.0.eax": 1, "7.1.edx": 1 << 21, "d.0.eax": (0x80003, 0)} | APX_STATE,
    ),
    Guest(
        "qemu.realize.lbr-fmt",
        "FEAT_PERF_CAPABILITIES",
        0,
        True,
        "Haswell-noTSX,pmu=on,lbr-fmt=5",
        SKYLAKE,
        {"1.0.ecx": (1 << 15, 0)},
        {"1.0.ecx": (1 << 15, 0)},
        msrs={0x345: 5},
        unlike_cpu="Haswell-noTSX,pmu=on",
    ),
]


@pytest.mark.parametrize("row", QEMU, ids=lambda row: row.rule)
def test_qemu(row: Guest) -> None:
    bit = Bit(catalog(row.release).by_name[row.word].word, row.bit)
    state = realize(row.cpu, row.played(row.edits), row.release, row.board)
    assert row.rule in deciders(state.decisions, bit)
    assert bool(state.features[row.word] & bit.mask) is row.value
    other = realize(row.unlike_cpu or row.cpu, row.played(row.unlike), row.release, row.board)
    assert row.rule not in deciders(other.decisions, bit)


def test_every_rule_is_captured_or_made_to_decide_or_named() -> None:
    captured = load("captured-rules")["rules"].keys()
    by_hand = HERE | {row.rule for row in QEMU}
    rules = {card.id for card in all_rules() if card.party in RELEASES}
    assert not captured & by_hand, "captured by now: no host need be made for it"
    assert not UNREACHED.keys() & (captured | by_hand)
    assert rules - captured == by_hand | UNREACHED.keys()
    page = " ".join((Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8").split())
    assert f"{len(rules & captured)} of the {len(rules)} rules of Linux, KVM, QEMU and libvirt" in page
    assert f"Of the {len(rules - captured)} rules that are left, {len(by_hand)} decide on a host made by hand" in page


def test_nousershstk_takes_the_flag_all_the_same() -> None:
    host = made(Host("", "", False, SAPPHIRE, {"7.0.ecx": (1 << 7, 0)}))
    assert boot_cpu(host, "7.3").has("USER_SHSTK")
    assert not boot_cpu(host, "7.3", {"cmdline": "nousershstk"}).has("USER_SHSTK")
