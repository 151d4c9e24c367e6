"""What the kernel learns of the machine from elsewhere than CPUID: its command line and model-specific registers.

Parameters (`params` of `boot_cpu` and `cpuinfo`), each with what holds where it is not given:

| name | meaning | default |
| --- | --- | --- |
| `cmdline` | the kernel's command line | empty |
| `msr.INDEX` | what RDMSR reads at boot (INDEX hexadecimal); "absent" where it raises #GP | see below |

An MSR that is not given is taken from the snapshot where `SNAPSHOT` lists it, else from `TYPICAL`, else it is absent. The feature MSRs
of a snapshot are those that KVM offers to guests: they differ from the hardware's where KVM filters (0x10a) or nests (0x480 to 0x491),
so who knows the hardware's should give them.

Where Linux changes what CPUID itself answers (RDRAND and topology extensions of AMD family 0x15, TSX), a snapshot's RAW was read after
that, and there is nothing left to do.
"""

from __future__ import annotations

from collections.abc import Mapping

from vcpuid.cpuid.registers import Snapshot
from vcpuid.errors import InputError

PLATFORM_ID = 0x17
TEST_CTRL = 0x33
MISC_ENABLE = 0x1A0
FEAT_CTL = 0x3A
PLATFORM_INFO = 0xCE
MICROCODE = 0x8B
ARCH_CAPABILITIES = 0x10A
CORE_CAPABILITIES = 0xCF
MISC_FEATURES_ENABLES = 0x140
TME_ACTIVATE = 0x982
K7_HWCR = 0xC0010015
SYSCFG = 0xC0010010
VM_CR = 0xC0010114
LS_CFG = 0xC0011020
PRED_CMD = 0x49
SBPB = 1 << 7

TYPICAL = {
    TEST_CTRL: 0,
    MISC_ENABLE: 1,  # fast strings on; BTS and PEBS available
    FEAT_CTL: 0x60005,  # locked; VMX outside SMX, SGX and its launch control on
    MISC_FEATURES_ENABLES: 0,
    K7_HWCR: 0x1000001,  # TSC counts at P0, SMM locked
    SYSCFG: 0,  # memory encryption off
    VM_CR: 0,  # SVM not disabled
    TME_ACTIVATE: 0,
    CORE_CAPABILITIES: 0,
    LS_CFG: 0,
    PRED_CMD: 1 | SBPB,  # the bits that a write takes: nothing can be read
}
"""MSRs of a machine whose firmware enabled what it has and encrypts nothing."""

SNAPSHOT = frozenset({MICROCODE, ARCH_CAPABILITIES, *range(0x480, 0x493)})
"""MSRs for which KVM's answer is the hardware's, or near it."""


class Machine:
    """A host as the booting kernel sees it beside CPUID."""

    __slots__ = ("_msrs", "options")

    def __init__(self, host: Snapshot, params: Mapping[str, str | int] | None = None) -> None:
        self._msrs: dict[int, int | None] = {**TYPICAL, **{index: value for index, value in host.msrs.items() if index in SNAPSHOT}}
        for name, value in (params or {}).items():
            if name.startswith("msr."):
                self._msrs[_number(name[4:], 16)] = None if value == "absent" else _number(value)
            elif name != "cmdline":
                raise InputError(f"unknown parameter {name!r} of the Linux host: cmdline and msr.INDEX are known")
        self.options = _options(str((params or {}).get("cmdline", "")))

    def msr(self, index: int) -> int | None:
        """Return what RDMSR gives; None where it raises #GP."""
        return self._msrs.get(index)

    def option(self, name: str) -> str | None:
        """Return the last value that the command line gives an option, "" where it has none; None where it is not there."""
        return self.options.get(name)


def _number(value: str | int, base: int = 0) -> int:
    try:
        return value if isinstance(value, int) else int(value, base)
    except ValueError:
        raise InputError(f"{value!r} is not a number") from None


def _options(cmdline: str) -> dict[str, str]:
    options = {}
    for word in cmdline.split():
        name, _, value = word.partition("=")
        options[name] = value
    return options
