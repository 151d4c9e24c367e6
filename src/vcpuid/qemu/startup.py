"""What QEMU sets in a vCPU before its guest runs, and how it ends where KVM does not take that.

QEMU, target/i386/kvm/kvm.c: kvm_arch_init_vcpu and hyperv_init_vcpu, which refuse, and kvm_buf_set_msrs, which aborts. What is set stands
in `data/qemu-start.json`. Whether a KVM takes it can only be tried: `start` does, on a vCPU that somebody hands to it.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import cycle, islice
from typing import NamedTuple, Protocol

from vcpuid.cpuid import CpuidTable, bits
from vcpuid.data import load
from vcpuid.errors import KvmError
from vcpuid.kvm.answers import Answers
from vcpuid.qemu import messages, vmx_msrs
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.kvmhost import MCE_AND_MCA
from vcpuid.qemu.state import CpuState
from vcpuid.releases import number

_TABLES = "qemu-start"
_UCODE_REV = 0x8B
_PERF_CAPABILITIES = 0x345
_UCODE_AMD, _UCODE_OTHERS = 0x01000065, 0x1_0000_0000
_MISC_ENABLE, _MISC_ENABLE_MWAIT = 1, 0x40000
_MOST_COUNTERS, _MOST_FIXED_COUNTERS = 18, 3
_BANKS, _MCG_CTL, _MCG_SER, _MCG_LMCE = 10, 0x100, 0x1000000, 0x8000000
_MCG_BANKS = 0xFF


class FreshVcpu(Protocol):
    """A vCPU on which nothing was set yet; what KVM refuses is a KvmError."""

    def enable(self, capability: int, argument: int | None) -> None:
        """KVM_ENABLE_CAP; None is room for KVM's answer."""

    def set_cpuid(self, table: CpuidTable) -> None:
        """KVM_SET_CPUID2."""

    def machine_checks(self) -> int:
        """KVM_X86_GET_MCE_CAP_SUPPORTED: the bits that MCG_CAP may have, beside the number of banks."""

    def set_machine_checks(self, wanted: int) -> None:
        """KVM_X86_SETUP_MCE: MCG_CAP."""

    def set_msrs(self, values: Sequence[tuple[int, int]]) -> int:
        """KVM_SET_MSRS: return how many of them KVM took before it refused one."""


class RunningKvm(Protocol):
    """A KVM that can be tried; `vcpuid.live.trial.Trial` is this machine's."""

    @property
    def listed(self) -> Collection[int]:
        """KVM_GET_MSR_INDEX_LIST: the MSRs that QEMU saves and restores where it knows them."""

    def vcpu(self) -> AbstractContextManager[FreshVcpu]:
        """Give a vCPU of a new machine with KVM's own interrupt controllers; it is thrown away at the end."""


class Write(NamedTuple):
    """An MSR that QEMU sets. `asked` is the property or feature without which it would not set it so; None where it does for every CPU."""

    msr: int
    value: int
    asked: str | None


class Capability(NamedTuple):
    """A capability that QEMU enables for a property, and what it prints where KVM refuses."""

    number: int
    argument: int | None
    asked: str
    message: str


class Halt(NamedTuple):
    """QEMU's end before the guest runs: an abort, or a refusal. `asked` is as in Write."""

    aborts: bool
    message: str
    asked: str | None


class Startup(NamedTuple):
    """All that QEMU sets, in its order: capabilities, the table, MCG_CAP where there are machine checks, and lists of MSRs."""

    capabilities: tuple[Capability, ...]
    table: CpuidTable
    machine_checks: int | None
    msrs: tuple[tuple[Write, ...], ...]


def startup(state: CpuState, table: CpuidTable, says: Answers, listed: Collection[int]) -> Startup:
    """Say what QEMU sets for a CPU with this table, on a KVM that says and lists so much."""
    facts = _Facts(state, table, says, listed)
    rows = load(_TABLES)
    capabilities = (
        Capability(int(number_), argument, asked, message)
        for number_, argument, when, asked, message in rows["capabilities"]
        if facts.hold(when, 0)
    )
    lists = (tuple(facts.writes(rows[part])) for part in ("init", "control", "put", "deadline"))
    return Startup(tuple(capabilities), table, facts.machine_checks, tuple(filter(None, lists)))


def start(wanted: Startup, kvm: RunningKvm) -> Halt | None:
    """Try it on a KVM; None where that takes all of it. A KVM that gives no vCPU at all raises what it raises."""
    with kvm.vcpu() as vcpu:
        for capability in wanted.capabilities:
            try:
                vcpu.enable(capability.number, capability.argument)
            except KvmError as error:
                told = messages.MESSAGES[capability.message](reason=_reason(error), number=error.errno)
                return Halt(False, told, capability.asked)
        try:
            if wanted.machine_checks is not None:
                lacks = wanted.machine_checks & ~(vcpu.machine_checks() | _MCG_BANKS)
                if lacks & _MCG_LMCE:
                    return Halt(False, messages.NO_LMCE(), "lmce")
                vcpu.set_machine_checks(wanted.machine_checks & ~lacks)
            vcpu.set_cpuid(wanted.table)
        except KvmError as error:
            return Halt(False, messages.VCPU_FAILED(reason=_reason(error)), None)
        for writes in wanted.msrs:
            taken = vcpu.set_msrs([(write.msr, write.value) for write in writes])
            if taken < len(writes):
                refused = writes[taken]
                return Halt(True, messages.MSR_REFUSED(msr=refused.msr, value=refused.value), refused.asked)
    return None


def _reason(error: KvmError) -> str:
    """The system's own words for an error, as QEMU prints them."""
    return error.reason.rpartition(": ")[2] or errno.errorcode.get(error.errno, str(error.errno))


class _Facts:
    """What the conditions and the values of the table are about."""

    def __init__(self, state: CpuState, table: CpuidTable, says: Answers, listed: Collection[int]) -> None:
        features = says.msrs
        self._state, self._listed, self._features = state, listed, features
        self._flags, self._release = catalog(state.release).flags, number(state.release)
        pmu = table.registers(0xA) if table.registers(0).eax >= 0xA else None
        version = pmu.eax & 0xFF if pmu else 0
        checks = state.family >= 6 and state.features["FEAT_1_EDX"] & MCE_AND_MCA == MCE_AND_MCA
        self.machine_checks = (_BANKS | _MCG_CTL | _MCG_SER | (_MCG_LMCE if state.props["lmce"] else 0)) if checks else None
        self._counts = {
            "counters": min(pmu.eax >> 8 & 0xFF, _MOST_COUNTERS) if pmu and version else 0,
            "fixed-counters": min(pmu.edx & 0x1F, _MOST_FIXED_COUNTERS) if pmu and version > 1 else 0,
            "trace-ranges": says.supported.registers(0x14, 1).eax & 7,
        }
        self._values = {
            "perf-capabilities": features.get(_PERF_CAPABILITIES, 0) & state.features["FEAT_PERF_CAPABILITIES"],
            "ucode-rev": state.props["ucode-rev"] or self._ucode(),
            "misc-enable": _MISC_ENABLE | (_MISC_ENABLE_MWAIT if state.features["FEAT_1_ECX"] & bits.MWAIT.mask else 0),
            **vmx_msrs.values(state.features, features),
        }
        self._named = {
            "hyper-v": state.hyperv is not None,
            "pmu-version-2": version > 1,
            "machine-checks": checks,
            "perf-capabilities": bool(features.get(_PERF_CAPABILITIES)),
            "vmx-basic": "vmx-basic" in self._values,
        }

    def _ucode(self) -> int:
        """The microcode's revision where nobody sets one: KVM's for the host's own CPU, else a fixed one."""
        own = self._features.get(_UCODE_REV, 0) if self._state.model in ("host", "max") else 0
        return own or (_UCODE_AMD if self._state.is_amd else _UCODE_OTHERS)

    def writes(self, rows: Sequence[Sequence[object]]) -> Iterator[Write]:
        """Give the MSRs of a part of the table."""
        for first, count, step, values, when, asked in rows:
            msr = int(str(first), 16)
            if not self.hold(str(when), msr):
                continue
            many = count if isinstance(count, int) else self._counts[str(count)]
            because = self._asked(str(asked))
            several = values if isinstance(values, list) else [values]
            for place, value in zip(range(msr, msr + many * int(str(step)), int(str(step))), islice(cycle(several), many), strict=True):
                yield Write(place, self._value(str(value)), because)

    def _asked(self, name: str) -> str | None:
        """The property or feature to name, where it is on; for enlightenments that nobody named, the one that brought them all."""
        if not name or not self._on(name):
            return None
        unnamed = name.startswith("hv-") and not self._state.props.get(name)
        return "hv-passthrough" if unnamed else name

    def _value(self, text: str) -> int:
        if text in self._values:
            return int(str(self._values[text]))
        return self._state.features.get(text, 0) if text.startswith("FEAT_") else int(text, 16)

    def hold(self, when: str, msr: int) -> bool:
        """Whether all conditions on an MSR hold."""
        return all(any(self._holds(word, msr) for word in words.split("|")) for words in when.split())

    def _holds(self, word: str, msr: int) -> bool:
        if word.startswith("!"):
            return not self._holds(word[1:], msr)
        kind, _, rest = word.partition(":")
        if kind in ("listed", "lists"):
            return (int(rest, 16) if rest else msr) in self._listed
        return self._release >= number(rest) if kind == "since" else self._on(word)

    def _on(self, name: str) -> bool:
        """Whether a property or a feature is on, or one of the table's own conditions holds."""
        if name in self._named:
            return self._named[name]
        state, flag = self._state, self._flags.get(name)
        if flag is not None:
            return bool(state.features[flag.word] & flag.mask)
        return (state.hyperv is not None and name in state.hyperv.flags) or bool(state.props.get(name))
