"""What the lines of /proc/cpuinfo tell of IA32_ARCH_CAPABILITIES, and of what KVM makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

import vcpuid
from support.bochs import environment
from support.captures import MACHINES, MITIGATIONS_OFF, host, release
from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.kvm.feature_msrs import known_arch_capabilities
from vcpuid.linux.arch_cap import ArchCap
from vcpuid.linux.bugs import MMIO_IMMUNE
from vcpuid.linux.narrow import Bounds, arch_capabilities
from vcpuid.setup import Setup, Stack

SAPPHIRE, SKYLAKE, MILAN = "kvm-intel.sapphire_rapids-xfd@7.3", "kvm-intel.corei7_skylake_x@7.3", "kvm-amd.EPYC-Milan-v2@7.3"
NOTHING, ALL = Bounds(), (1 << 64) - 1
INTEL = [name for name in MACHINES if name.startswith("kvm-intel") and host(name).raw.registers(7).edx >> 29 & 1]


def setup(name: str, **changed: object) -> Setup:
    """A capture of which nobody read an MSR."""
    bare = replace(host(name), msrs=MsrTable(), **changed)  # type: ignore[arg-type]
    return Setup.of(bare, Stack(kernel=release(name), params=MITIGATIONS_OFF))


@pytest.mark.parametrize("name", INTEL)
def test_the_captured_processors_are_within_the_bounds(name: str) -> None:
    must, may = arch_capabilities(setup(name))
    hardware = int(environment(name, host(name))["msr.10a"])
    assert must & ArchCap.IBRS_ALL
    assert must & ArchCap.RDCL_NO
    assert must & ~hardware == 0
    assert hardware & ~may == 0
    assert not may & ArchCap.MDS_NO


@pytest.mark.parametrize("name", INTEL)
def test_what_is_known_of_kvms_is_what_it_answered(name: str) -> None:
    value, mask = known_arch_capabilities(setup(name))
    assert host(name).msrs[0x10A] & mask == value
    for bit in (ArchCap.RDCL_NO, ArchCap.IBRS_ALL, ArchCap.SSB_NO, ArchCap.MDS_NO, ArchCap.PSCHANGE_MC_NO, ArchCap.GDS_CTRL):
        assert mask & bit
    assert not mask & ArchCap.TSX_CTRL


def test_without_the_lines_of_its_own_kernel_little_is_known() -> None:
    raw = Snapshot(raw=host(SAPPHIRE).raw)
    assert arch_capabilities(Setup.of(raw)) == NOTHING
    assert arch_capabilities(setup(SAPPHIRE, kernel=None)) == NOTHING
    value, mask = known_arch_capabilities(Setup.of(raw))
    assert value & mask & ArchCap.PSCHANGE_MC_NO
    assert mask & 1 << 10
    assert not mask & (ArchCap.IBRS_ALL | ArchCap.MDS_NO | ArchCap.TSX_CTRL)


def test_what_the_host_s_own_kernel_told_holds_under_another() -> None:
    here, there = (arch_capabilities(Setup.of(host(SAPPHIRE), Stack(kernel=kernel))) for kernel in ("7.3", "6.1"))
    assert here == there != NOTHING


def test_processors_without_the_msr_leave_nothing_open() -> None:
    for name in (SKYLAKE, MILAN):
        assert arch_capabilities(setup(name)) == NOTHING
        assert known_arch_capabilities(setup(name)) == (host(name).msrs[0x10A], ALL)


def test_what_is_told_is_known() -> None:
    assert known_arch_capabilities(Setup.of(host(SAPPHIRE))) == (host(SAPPHIRE).msrs[0x10A], ALL)


def test_enhanced_ibrs_may_come_from_cpuid() -> None:
    raw = [e._replace(eax=0x80000021) if e.function == 0x80000000 else e for e in host(SAPPHIRE).raw if e.function != 0x80000021]
    automatic = CpuidTable([*raw, Entry(0x80000021, 0, 0, 1 << 8, 0, 0, 0)])
    assert not arch_capabilities(setup(SAPPHIRE, raw=automatic)).must & ArchCap.IBRS_ALL
    without = {
        **host(SAPPHIRE).cpuinfo,
        "flags": host(SAPPHIRE).cpuinfo["flags"].replace(" ibrs_enhanced", ""),
        "bugs": host(SAPPHIRE).cpuinfo["bugs"].replace(" eibrs_pbrsb", "").replace(" bhi", ""),
    }
    assert not arch_capabilities(setup(SAPPHIRE, cpuinfo=without)).may & ArchCap.IBRS_ALL


def printed(bugs: str) -> Bounds:
    """What is known of Sapphire Rapids' MSR where its kernel printed these bugs."""
    return arch_capabilities(setup(SAPPHIRE, cpuinfo={**host(SAPPHIRE).cpuinfo, "bugs": bugs}))


def test_bits_that_are_weighed_together_are_narrowed_together() -> None:
    bugs = host(SAPPHIRE).cpuinfo["bugs"]
    assert "retbleed" in bugs.split()
    assert printed(bugs).must & ArchCap.RSBA  # the model is not on the list of affected ones
    assert not printed(bugs.replace(" retbleed", "")).may & ArchCap.RSBA
    assert not printed(bugs + " mmio_stale_data").must & MMIO_IMMUNE  # the model is not on the list: not a line of this kernel's
    assert printed(bugs.replace(" eibrs_pbrsb", "")).must & ArchCap.PBRSB_NO  # it has enhanced IBRS
    assert not printed(bugs + " rfds").may & ArchCap.RFDS_NO
    assert printed(bugs + " rfds").must & ArchCap.RFDS_CLEAR


def test_a_bug_that_the_kernel_need_not_know_tells_nothing_by_its_absence() -> None:
    """6.1 and 6.12 got its from a stable release, and gds 6.1 as well: a Tiger Lake without them may run an older one."""
    name = "kvm-intel.tigerlake-rnd03@6.1"
    bugs = host(name).cpuinfo["bugs"]
    assert {"gds", "its", "bhi"} <= set(bugs.split())

    def known(*gone: str, more: str = "") -> Bounds:
        left = " ".join(bug for bug in bugs.split() if bug not in gone)
        return arch_capabilities(setup(name, cpuinfo={**host(name).cpuinfo, "bugs": left + more}))

    later = ("its", "its_native_only", "vmscape", "tsa")
    assert not known(*later).must & ArchCap.ITS_NO
    assert known("its", "its_native_only", more=" vmscape").must & ArchCap.ITS_NO
    assert known("gds", *later).must & ArchCap.GDS_NO  # bhi came later
    assert not known("gds", "bhi", "rfds", *later).must & ArchCap.GDS_NO


def test_tsx_ctrl_is_not_read_off_a_processor_whose_tsx_was_hidden_otherwise() -> None:
    raw = host(SAPPHIRE).raw
    bugs = {**host(SAPPHIRE).cpuinfo, "bugs": host(SAPPHIRE).cpuinfo["bugs"] + " taa"}
    plain = CpuidTable(e._replace(ebx=e.ebx & ~(1 << 11), edx=e.edx & ~(1 << 11)) if e[:2] == (7, 0) else e for e in raw)
    aborting = CpuidTable(e._replace(edx=e.edx | 1 << 11) if e[:2] == (7, 0) else e for e in plain)
    assert arch_capabilities(setup(SAPPHIRE, raw=plain, cpuinfo=bugs)).must & ArchCap.TSX_CTRL
    assert not arch_capabilities(setup(SAPPHIRE, raw=aborting, cpuinfo=bugs)).must & ArchCap.TSX_CTRL


def test_what_the_bugs_line_tells_is_told_of_a_guest() -> None:
    for feature, sees in (("rdctl-no", True), ("ssb-no", True), ("mds-no", False), ("ibrs-all", True), ("rsba", True)):
        bare = replace(setup(SAPPHIRE).host, supported=None, emulated=None, hyperv=None, table=None, kept=None)
        told = vcpuid.explain(feature, "host", bare, Stack(kernel=release(SAPPHIRE), params=MITIGATIONS_OFF))
        assert (told.visible, told.depends) == (sees, ()), feature
    assert vcpuid.explain("fb-clear", "host", bare, Stack(kernel=release(SAPPHIRE), params=MITIGATIONS_OFF)).visible is None
