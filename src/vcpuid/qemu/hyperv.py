"""Hyper-V enlightenments: what hv-* flags need, and the leaves 0x40000000 to 0x40000082 that they make.

QEMU, target/i386/kvm/kvm.c: kvm_hyperv_properties, kvm_hyperv_expand_features, hyperv_fill_cpuids. Up to 6.0 all of it is done while a
vCPU is set up (hyperv_handle_properties): what is asked for is refused then (`refuse_late`), all of it at once, and hv-passthrough hands
the host's leaves on as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from vcpuid.cpuid import vendors
from vcpuid.cpuid.hyperv import (
    ALLOW_KERNEL_DEBUGGING,
    APIC_ACCESS_RECOMMENDED,
    DEBUG_INTERFACE,
    DEBUG_PLATFORM,
    DEBUG_VENDOR,
    DYNAMIC_PARTITIONING,
    ENLIGHTENMENTS,
    EVMCS_VERSIONS,
    FEATURES,
    HV_1,
    HYPERCALL,
    INTERFACE,
    LIMITS,
    NESTED,
    NO_NONARCH_CORESHARING,
    NO_SPINLOCKS,
    POST_MESSAGES,
    RECOMMENDATIONS,
    SIGNAL_EVENTS,
    VENDOR,
    VERSION,
    VS_1,
)
from vcpuid.cpuid.registers import CpuidTable, Entry, Registers
from vcpuid.cpuid.words import REGISTERS, Bit, CpuidWord, Word
from vcpuid.errors import QemuError, UnavailableError
from vcpuid.qemu import messages

VENDOR_LENGTH = 12
_EAX, _EBX, _ECX, _EDX = range(4)

_EARLY = tuple(ENLIGHTENMENTS)[: tuple(ENLIGHTENMENTS).index("hv-stimer-direct") + 1]
"""The flags of QEMU up to 6.0, in its order."""

# Names in messages, in QEMU's order (HYPERV_FEAT_*).
_TITLES = {
    "hv-relaxed": "relaxed timing (hv-relaxed)",
    "hv-vapic": "virtual APIC (hv-vapic)",
    "hv-time": "clocksources (hv-time)",
    "hv-crash": "crash MSRs (hv-crash)",
    "hv-reset": "reset MSR (hv-reset)",
    "hv-vpindex": "VP_INDEX MSR (hv-vpindex)",
    "hv-runtime": "VP_RUNTIME MSR (hv-runtime)",
    "hv-synic": "synthetic interrupt controller (hv-synic)",
    "hv-stimer": "synthetic timers (hv-stimer)",
    "hv-frequencies": "frequency MSRs (hv-frequencies)",
    "hv-reenlightenment": "reenlightenment MSRs (hv-reenlightenment)",
    "hv-tlbflush": "paravirtualized TLB flush (hv-tlbflush)",
    "hv-evmcs": "enlightened VMCS (hv-evmcs)",
    "hv-ipi": "paravirtualized IPI (hv-ipi)",
    "hv-stimer-direct": "direct mode synthetic timers (hv-stimer-direct)",
    "hv-avic": "AVIC/APICv support (hv-avic/hv-apicv)",
    "hv-syndbg": "Enable synthetic kernel debugger channel (hv-syndbg)",
    "hv-emsr-bitmap": "enlightened MSR-Bitmap (hv-emsr-bitmap)",
    "hv-xmm-input": "XMM fast hypercall input (hv-xmm-input)",
    "hv-tlbflush-ext": "Extended gva ranges for TLB flush hypercalls (hv-tlbflush-ext)",
    "hv-tlbflush-direct": "direct TLB flush (hv-tlbflush-direct)",
}
EXPANDED = (6, 1)
"""Since when enlightenments are settled with the CPU's features, ahead of its vCPUs."""
_HYPERCALLS = frozenset({"hv-relaxed", "hv-vapic", "hv-time"})
"""Flags that make hypercalls available up to 6.0; since then any does."""
_VERSION = Registers(0x1BBC, 0x00060001)
"""What Windows is told of Hyper-V's version up to 6.1, where no property says it."""

_NOT_PASSED_THROUGH = frozenset({"hv-syndbg"})
"""Flags that hv-passthrough leaves off since QEMU 9.2."""


def enabled(props: Mapping[str, Any]) -> bool:
    """Whether any hv-* flag makes the guest see Hyper-V (hyperv_enabled)."""
    return (
        bool(props.get("hv-passthrough")) or props.get("hv-spinlocks", NO_SPINLOCKS) != NO_SPINLOCKS or any(map(props.get, ENLIGHTENMENTS))
    )


def ignored(props: Mapping[str, Any], host: CpuidTable | None) -> tuple[str, ...]:
    """Name the properties that ask for Hyper-V and that QEMU ignores without a word, since the host's KVM has none of it."""
    if host is None or host or not enabled(props):
        return ()
    spins = props.get("hv-spinlocks", NO_SPINLOCKS) != NO_SPINLOCKS
    return (*(name for name in (*ENLIGHTENMENTS, "hv-passthrough") if props.get(name)), *(["hv-spinlocks"] if spins else []))


def prepare(props: Mapping[str, Any], host: CpuidTable | None) -> None:
    """Do what comes before features are expanded (x86_cpu_pre_plug); raises QemuError."""
    if props.get("hv-vpindex") and host is not None and not host:
        raise QemuError(messages.HYPERV_VP_INDEX())


def vendor_warnings(props: Mapping[str, Any]) -> list[str]:
    """Warn of a vendor that is too long: before features are expanded, in 6.0 once they are, and in 5.2 while a vCPU is set up."""
    too_long = len(str(props.get("hv-vendor-id") or "")) > VENDOR_LENGTH
    return [messages.HYPERV_VENDOR_CUT(length=VENDOR_LENGTH)] if too_long else []


def needed(asked: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pair each enlightenment that is not asked for with the first one that needs it: QEMU refuses what is asked for without its needs.

    `asked` are all properties that are on; with hv-passthrough nothing is needed.
    """
    wanted = list(dict.fromkeys(asked))
    alone = "x-hv-synic-kvm-only" in wanted
    if "hv-passthrough" in wanted:
        return
    for name in wanted:  # grows: what is needed has needs of its own
        needs = ENLIGHTENMENTS[name].needs if name in ENLIGHTENMENTS else ()
        for need in (*needs, *(("hv-vpindex",) if name == "hv-synic" and not alone else ())):
            if need not in wanted:
                wanted.append(need)
                yield need, name


class HyperV(NamedTuple):
    """The enlightenments in force, and the values that go with them: the properties', or with hv-passthrough the host's."""

    flags: frozenset[str]
    vendor: tuple[int, int, int]
    interface: Registers
    version: Registers
    spinlocks: int
    limits: Registers


def expand(props: Mapping[str, Any], host: CpuidTable | None, release: tuple[int, int]) -> HyperV | None:
    """Settle the enlightenments against what KVM_GET_SUPPORTED_HV_CPUID says of the host; None where the guest gets none.

    An empty `host` stands for a KVM without Hyper-V, where QEMU ignores all of it; with None nothing is known of the host, and it is taken
    to support what is asked for. Raises QemuError with QEMU's own message where the host lacks one or one lacks another that it needs, and
    UnavailableError where hv-passthrough asks for what is not known.
    """
    if not enabled(props) or (host is not None and not host):
        return None
    asked = {name for name in ENLIGHTENMENTS if props.get(name)}
    if release < EXPANDED:
        if props.get("hv-passthrough") and host is not None:
            return _host_values(_passed_through(asked, host, release), host)
        return _own_values(frozenset(asked), props)
    if props.get("hv-passthrough"):
        if host is None:
            raise UnavailableError("hv-passthrough needs the host's Hyper-V leaves, and the snapshot has no HV lines")
        asked |= {
            name for name in ENLIGHTENMENTS if _supported(name, host, release) and (name not in _NOT_PASSED_THROUGH or release < (9, 2))
        }
        found = _host_values(frozenset(asked), host)
    else:
        for name in ENLIGHTENMENTS:
            if name in asked:
                _check(name, asked, host, release)
        found = _own_values(frozenset(asked), props)
    if "hv-synic" in asked and "hv-vpindex" not in asked and not props.get("x-hv-synic-kvm-only"):
        raise _lacking("hv-synic", "hv-vpindex")
    return found


def _bits(name: str, release: tuple[int, int]) -> tuple[Bit, ...]:
    """Return the bits of a flag that the host has to have."""
    needed = ENLIGHTENMENTS[name].bits
    if name == "hv-vapic" and release < (6, 2):
        needed += (APIC_ACCESS_RECOMMENDED,)
    return (*needed, HYPERCALL) if name in _HYPERCALLS and release < EXPANDED else needed


def _supported(name: str, host: CpuidTable, release: tuple[int, int]) -> bool:
    return all(map(host.has, _bits(name, release)))


def _passed_through(asked: set[str], host: CpuidTable, release: tuple[int, int]) -> frozenset[str]:
    """Return the flags that hv-passthrough of QEMU up to 6.0 leaves on: what is asked for, and what the host has."""
    return frozenset(name for name in ENLIGHTENMENTS if name in asked or (name in _EARLY and _supported(name, host, release)))


def refuse_late(props: Mapping[str, Any], host: CpuidTable | None, release: tuple[int, int]) -> None:
    """Refuse what QEMU up to 6.0 refuses while a vCPU is set up; raises QemuError with a line for each flag.

    With hv-passthrough a flag that the host has needs those below it as well; which they are then is settled in the order of flags.
    """
    if host is None:
        return
    passthrough = props.get("hv-passthrough")
    on = {name for name in _EARLY if props.get(name)}
    said: list[str] = []
    for name in _EARLY:
        if not props.get(name) and not passthrough:
            continue
        missing = next((need for need in ENLIGHTENMENTS[name].needs if need not in on), None)
        if missing is not None:
            said.append(messages.HYPERV_NEEDS(title=_TITLES[name], needed=_TITLES[missing]))
        elif name != "hv-evmcs" and not _supported(name, host, release):
            if props.get(name):
                said.append(messages.HYPERV_LACKS(title=_TITLES[name]))
        elif passthrough:
            on.add(name)
    if "hv-synic" in on and "hv-vpindex" not in on and not props.get("x-hv-synic-kvm-only"):
        said.append(messages.HYPERV_NEEDS(title=_TITLES["hv-synic"], needed=_TITLES["hv-vpindex"]))
    if said:
        raise QemuError("\n".join([*said, messages.VCPU_FAILED(reason="Function not implemented")]))


def _check(name: str, asked: set[str], host: CpuidTable | None, release: tuple[int, int]) -> None:
    if host is not None and not _supported(name, host, release):
        raise QemuError(messages.HYPERV_LACKS(title=_TITLES[name]))
    for need in ENLIGHTENMENTS[name].needs:
        if need not in asked:
            raise _lacking(name, need)


def _lacking(name: str, need: str) -> QemuError:
    return QemuError(messages.HYPERV_NEEDS(title=_TITLES[name], needed=_TITLES[need]))


def _host_values(flags: frozenset[str], host: CpuidTable) -> HyperV:
    _, ebx, ecx, edx = host.registers(VENDOR)
    spinlocks = host.registers(RECOMMENDATIONS).ebx
    return HyperV(flags, (ebx, ecx, edx), host.registers(INTERFACE), host.registers(VERSION), spinlocks, host.registers(LIMITS))


def _own_values(flags: frozenset[str], props: Mapping[str, Any]) -> HyperV:
    vendor = str(props.get("hv-vendor-id") or vendors.HYPERV)[:VENDOR_LENGTH]
    version = _VERSION
    if "hv-version-id-build" in props:
        version = Registers(
            props["hv-version-id-build"],
            props["hv-version-id-major"] << 16 | props["hv-version-id-minor"],
            props["hv-version-id-spack"],
            props["hv-version-id-sbranch"] << 24 | props["hv-version-id-snumber"] & 0xFFFFFF,
        )
    interface = Registers(HV_1)
    limits = Registers(props["x-hv-max-vps"] & 0xFFFFFFFF, 64)
    return HyperV(flags, vendors.twelve(vendor), interface, version, props["hv-spinlocks"], limits)


def entries(hyperv: HyperV, props: Mapping[str, Any], host: CpuidTable | None, release: tuple[int, int]) -> list[Entry]:
    """Make the leaves, in QEMU's order."""
    early = release < EXPANDED
    if early and props.get("hv-passthrough") and host is not None:
        return list(host)
    on: dict[Word, int] = {}
    for name in hyperv.flags:
        for bit in ENLIGHTENMENTS[name].bits:
            on[bit.word] = on.get(bit.word, 0) | bit.mask
    features, recommendations, nested = (
        [on.get(CpuidWord(leaf, 0, register), 0) for register in REGISTERS] for leaf in (FEATURES, RECOMMENDATIONS, NESTED)
    )
    if "hv-evmcs" in hyperv.flags:
        nested[_EAX] |= EVMCS_VERSIONS
    if not early or not _HYPERCALLS.isdisjoint(hyperv.flags):
        features[_EAX] |= HYPERCALL.mask
    if "hv-synic" in hyperv.flags and not early and not props.get("x-hv-synic-kvm-only"):
        features[_EBX] |= POST_MESSAGES.mask | SIGNAL_EVENTS.mask
    features[_EDX] |= DYNAMIC_PARTITIONING.mask
    recommendations[_EBX] = hyperv.spinlocks
    if "hv-vapic" in hyperv.flags and "hv-avic" not in hyperv.flags:
        recommendations[_EAX] |= APIC_ACCESS_RECOMMENDED.mask
    recommendations[_EAX] |= _core_sharing(str(props.get("hv-no-nonarch-coresharing")), host)
    last = DEBUG_PLATFORM if "hv-syndbg" in hyperv.flags else NESTED if nested[_EAX] else LIMITS
    leaves = {
        VENDOR: (last, *hyperv.vendor),
        INTERFACE: hyperv.interface,
        VERSION: hyperv.version,
        FEATURES: features,
        RECOMMENDATIONS: recommendations,
        LIMITS: hyperv.limits,
    }
    if nested[_EAX]:
        leaves |= dict.fromkeys(range(LIMITS + 1, NESTED), (0, 0, 0, 0))
        leaves[NESTED] = nested
    if "hv-syndbg" in hyperv.flags:
        leaves |= _debugger_leaves()
    return [Entry(leaf, 0, 0, *registers) for leaf, registers in leaves.items()]


def _core_sharing(setting: str, host: CpuidTable | None) -> int:
    """The bit that says no two vCPUs of different virtual cores share a physical one; `auto` copies the host's."""
    if setting == "on":
        return NO_NONARCH_CORESHARING.mask
    return host.registers(RECOMMENDATIONS).eax & NO_NONARCH_CORESHARING.mask if setting == "auto" and host is not None else 0


def _debugger_leaves() -> dict[int, tuple[int, int, int, int]]:
    return {
        DEBUG_VENDOR: (0, *vendors.twelve("Microsoft VS")),
        DEBUG_INTERFACE: (VS_1, 0, 0, 0),
        DEBUG_PLATFORM: (ALLOW_KERNEL_DEBUGGING.mask, 0, 0, 0),
    }
