"""What the kernel learns of the machine from elsewhere than CPUID: its command line and model-specific registers.

Parameters (`params` of `boot_cpu` and `cpuinfo`), each with what holds where it is not given:

| name | meaning | default |
| --- | --- | --- |
| `cmdline` | the kernel's command line | empty |
| `tsx_mode` | what it does with TSX where the command line does not say: "off", "on" or "auto" | "auto" from 7.0 on, before "off" |
| `msr.INDEX` | what RDMSR reads at boot (INDEX hexadecimal); "absent" where it raises #GP | see below |
| `microcode` | the microcode's revision, which MSR 0x8b holds: in its upper half on Intel, in its lower half on others | see below |

An MSR that is not given is taken from the snapshot: from its HWMSR lines, what RDMSR read there; the microcode's revision from
/proc/cpuinfo or KVM's feature MSR, which is what RDMSR reads. The other feature MSRs are what KVM offers to guests: they tell of the
hardware's where KVM does not make them up (`vcpuid.linux.behind_kvm`), and what is taken from there is a guess that `tells` denies. What
the snapshot does not tell at all is taken from `TYPICAL` (but for what a guest of KVM lacks), else it is absent.

Where Linux changes what CPUID itself answers (RDRAND and topology extensions of AMD family 0x15, TSX), a snapshot's RAW was read after
that, and there is nothing left to do.
"""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.cpuid.registers import Snapshot, is_kvm_guest
from vcpuid.cpuid.vendors import linux_kind
from vcpuid.linux import behind_kvm
from vcpuid.numbers import U32, number
from vcpuid.params import CMDLINE, REVISION, TSX_MODE, Value, msrs_in, read_msr, read_revision
from vcpuid.setup import Remembered, Setup

PLATFORM_ID = 0x17
TEST_CTRL = 0x33
FEAT_CTL = 0x3A
PRED_CMD = 0x49
PPIN_CTL = 0x4E
MICROCODE = 0x8B
PLATFORM_INFO = 0xCE
CORE_CAPABILITIES = 0xCF
ARCH_CAPABILITIES = 0x10A
MCU_OPT_CTRL = 0x123
MISC_FEATURES_ENABLES = 0x140
MISC_ENABLE = 0x1A0
TME_ACTIVATE = 0x982
SYSCFG = 0xC0010010
K7_HWCR = 0xC0010015
VM_CR = 0xC0010114
RMP_END = 0xC0010133
AMD_PPIN_CTL = 0xC00102F0
LS_CFG = 0xC0011020

PRED_CMD_SBPB = 1 << 7
PLATFORM_INFO_CPUID_FAULT = 1 << 31
MCU_OPT_CTRL_GDS_LOCKED = 1 << 5

TYPICAL = {
    TEST_CTRL: 0,
    FEAT_CTL: 0x60005,  # locked; VMX outside SMX, SGX and its launch control on
    PRED_CMD: 1 | PRED_CMD_SBPB,  # the bits that a write takes: nothing can be read
    PPIN_CTL: 2,
    MICROCODE: 0x7FFFFFFF_7FFFFFFF,  # newer than every revision that Linux knows, in Intel's half and in AMD's
    PLATFORM_INFO: PLATFORM_INFO_CPUID_FAULT,
    CORE_CAPABILITIES: bits.MSR_IA32_CORE_CAPS_SPLIT_LOCK_DETECT.mask,
    ARCH_CAPABILITIES: bits.ARCH_CAP_RDCL_NO.mask
    | bits.ARCH_CAP_IBRS_ALL.mask
    | bits.ARCH_CAP_SKIP_VMENTRY_L1DFLUSH.mask
    | bits.ARCH_CAP_MDS_NO.mask,
    MISC_FEATURES_ENABLES: 0,
    MISC_ENABLE: 1,  # fast strings on; BTS and PEBS available
    TME_ACTIVATE: 0,  # memory is not encrypted
    SYSCFG: 0,
    K7_HWCR: 1,  # SMM is locked
    VM_CR: 0,  # SVM is not disabled
    AMD_PPIN_CTL: 2,
    LS_CFG: 0,
}
"""MSRs of a machine of the last ten years, with current microcode, whose firmware enabled what there is but for memory encryption."""

KVM_LACKS = (TEST_CTRL, PPIN_CTL, AMD_PPIN_CTL, LS_CFG)
"""MSRs that KVM does not give its guests."""


class Machine:
    """A host as the booting kernel sees it beside CPUID."""

    __slots__ = ("_given", "_hardware", "_msrs", "options", "seen", "tsx_mode")

    def __init__(self, setup: Setup) -> None:
        host, params = setup.as_it_ran.host, setup.params.linux
        self.seen = host.msrs
        self._hardware: dict[int, int | None] = {**_microcode(host), **dict.fromkeys(host.hardware_msrs.refused), **host.hardware_msrs}
        self._given = {index: _read(host, name, params[name]) for name, index in msrs_in(params)}
        self._hardware |= self._given
        lacking = dict.fromkeys(KVM_LACKS) if is_kvm_guest(host.raw) else {}
        self._msrs: dict[int, int | None] = {**TYPICAL, **lacking, **dict(behind_kvm.estimates(host.msrs)), **self._hardware}
        self.options = _options(str(params.get(CMDLINE, "")))
        self.tsx_mode = params.get(TSX_MODE, usual_tsx_mode(setup))

    def msr(self, index: int) -> int | None:
        """Return what RDMSR gives; None where it raises #GP."""
        return self._msrs.get(index)

    def tells(self, index: int) -> bool:
        """Whether an MSR is told, by the snapshot or as a parameter: what `msr` returns of others is a guess."""
        return index in self._hardware

    def given(self, index: int) -> bool:
        """Whether an MSR was given as a parameter."""
        return index in self._given

    def hardware(self, index: int) -> int | None:
        """Return an MSR that is told as the hardware has it; None where it is not, where KVM alone told it, or where RDMSR raises #GP."""
        return self._hardware.get(index)

    def option(self, name: str) -> str | None:
        """Return the last value that the command line gives an option, "" where it has none; None where it is not there."""
        return self.options.get(name)


def usual_tsx_mode(setup: Setup) -> str:
    """Return what a kernel does with TSX that is built as arch/x86/Kconfig proposes (X86_INTEL_TSX_MODE_*), as Debian's are."""
    return "auto" if setup.kernel.number >= (7, 0) else "off"


@Remembered
def machine_of(setup: Setup) -> Machine:
    """Return a host as its kernel sees it beside CPUID."""
    return Machine(setup)


def _microcode(host: Snapshot) -> dict[int, int]:
    """Take the revision from KVM's feature MSR, else from /proc/cpuinfo, which prints half of the MSR; nothing where neither has one."""
    if MICROCODE in host.msrs:
        return {MICROCODE: host.msrs[MICROCODE]}
    revision = number(host.cpuinfo.get("microcode", ""), U32)
    if revision is None:
        return {}
    return {MICROCODE: _holding(host, revision)}


def _read(host: Snapshot, name: str, value: Value) -> int | None:
    """Return the MSR that a parameter gives."""
    return _holding(host, read_revision(value)) if name == REVISION else read_msr(name, value)[1]


def _holding(host: Snapshot, revision: int) -> int:
    """Return what MSR 0x8b holds with that revision (intel_get_microcode_revision in asm/microcode.h, init_amd in cpu/amd.c)."""
    return revision << 32 if linux_kind(host.vendor) == "intel" else revision


def _options(cmdline: str) -> dict[str, str]:
    options = {}
    for word in cmdline.split():
        name, _, value = word.partition("=")
        options[name] = value
    return options
