"""Hyper-V enlightenments: what hv-* flags need, and the leaves 0x40000000 to 0x40000082 that they make.

QEMU, target/i386/kvm/kvm.c: kvm_hyperv_properties, kvm_hyperv_expand_features, hyperv_fill_cpuids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vcpuid.cpuid.registers import CpuidTable, Entry, Registers
from vcpuid.errors import QemuError, UnavailableError
from vcpuid.qemu import messages

VENDOR, INTERFACE, VERSION, FEATURES, RECOMMENDATIONS, LIMITS, NESTED = (*range(0x40000000, 0x40000006), 0x4000000A)
DEBUG_VENDOR, DEBUG_INTERFACE, DEBUG_PLATFORM = 0x40000080, 0x40000081, 0x40000082

VENDOR_LENGTH = 12
NO_SPINLOCKS = 0xFFFFFFFF
"""hv-spinlocks: never tell the hypervisor of a long spin, which is as good as no such flag."""

_HYPERCALL = 1 << 5  # FEATURES EAX
_POST_MESSAGES_AND_SIGNAL_EVENTS = 3 << 4  # FEATURES EBX
_DYNAMIC_PARTITIONING = 1 << 3  # FEATURES EDX
_APIC_ACCESS_RECOMMENDED = 1 << 3  # RECOMMENDATIONS EAX
_NO_NONARCH_CORESHARING = 1 << 18  # RECOMMENDATIONS EAX
_EVMCS_VERSIONS = 0x0101  # NESTED EAX: from 1 to 1
_ALLOW_KERNEL_DEBUGGING = 1 << 1  # DEBUG_PLATFORM EAX
_EAX, _EBX, _ECX, _EDX = range(4)


class Enlightenment(NamedTuple):
    """One hv-* flag: its name in messages, the bits it sets as (leaf, register, mask), and the flags it needs."""

    title: str
    bits: tuple[tuple[int, int, int], ...]
    needs: tuple[str, ...] = ()
    passthrough: bool = True


# In QEMU's order (HYPERV_FEAT_*), which decides what is complained about first; so is the order of `needs`.
ENLIGHTENMENTS: dict[str, Enlightenment] = {
    "hv-relaxed": Enlightenment("relaxed timing (hv-relaxed)", ((RECOMMENDATIONS, _EAX, 1 << 5),)),
    "hv-vapic": Enlightenment("virtual APIC (hv-vapic)", ((FEATURES, _EAX, 1 << 4),)),
    "hv-time": Enlightenment("clocksources (hv-time)", ((FEATURES, _EAX, 1 << 1 | 1 << 9),)),
    "hv-crash": Enlightenment("crash MSRs (hv-crash)", ((FEATURES, _EDX, 1 << 10),)),
    "hv-reset": Enlightenment("reset MSR (hv-reset)", ((FEATURES, _EAX, 1 << 7),)),
    "hv-vpindex": Enlightenment("VP_INDEX MSR (hv-vpindex)", ((FEATURES, _EAX, 1 << 6),)),
    "hv-runtime": Enlightenment("VP_RUNTIME MSR (hv-runtime)", ((FEATURES, _EAX, 1 << 0),)),
    "hv-synic": Enlightenment("synthetic interrupt controller (hv-synic)", ((FEATURES, _EAX, 1 << 2),)),
    "hv-stimer": Enlightenment("synthetic timers (hv-stimer)", ((FEATURES, _EAX, 1 << 3),), ("hv-time", "hv-synic")),
    "hv-frequencies": Enlightenment("frequency MSRs (hv-frequencies)", ((FEATURES, _EAX, 1 << 11), (FEATURES, _EDX, 1 << 8))),
    "hv-reenlightenment": Enlightenment("reenlightenment MSRs (hv-reenlightenment)", ((FEATURES, _EAX, 1 << 13),)),
    "hv-tlbflush": Enlightenment("paravirtualized TLB flush (hv-tlbflush)", ((RECOMMENDATIONS, _EAX, 1 << 2 | 1 << 11),), ("hv-vpindex",)),
    "hv-evmcs": Enlightenment("enlightened VMCS (hv-evmcs)", ((RECOMMENDATIONS, _EAX, 1 << 14),), ("hv-vapic",)),
    "hv-ipi": Enlightenment("paravirtualized IPI (hv-ipi)", ((RECOMMENDATIONS, _EAX, 1 << 10 | 1 << 11),), ("hv-vpindex",)),
    "hv-stimer-direct": Enlightenment("direct mode synthetic timers (hv-stimer-direct)", ((FEATURES, _EDX, 1 << 19),), ("hv-stimer",)),
    "hv-avic": Enlightenment("AVIC/APICv support (hv-avic/hv-apicv)", ((RECOMMENDATIONS, _EAX, 1 << 9),)),
    "hv-syndbg": Enlightenment(
        "Enable synthetic kernel debugger channel (hv-syndbg)", ((FEATURES, _EDX, 1 << 11),), ("hv-relaxed", "hv-synic"), False
    ),
    "hv-emsr-bitmap": Enlightenment("enlightened MSR-Bitmap (hv-emsr-bitmap)", ((NESTED, _EAX, 1 << 19),)),
    "hv-xmm-input": Enlightenment("XMM fast hypercall input (hv-xmm-input)", ((FEATURES, _EDX, 1 << 4),)),
    "hv-tlbflush-ext": Enlightenment(
        "Extended gva ranges for TLB flush hypercalls (hv-tlbflush-ext)", ((FEATURES, _EDX, 1 << 14),), ("hv-tlbflush",)
    ),
    "hv-tlbflush-direct": Enlightenment("direct TLB flush (hv-tlbflush-direct)", ((NESTED, _EAX, 1 << 17),), ("hv-vapic",)),
}


def enabled(props: Mapping[str, Any]) -> bool:
    """Whether any hv-* flag makes the guest see Hyper-V (hyperv_enabled)."""
    return (
        bool(props.get("hv-passthrough")) or props.get("hv-spinlocks", NO_SPINLOCKS) != NO_SPINLOCKS or any(map(props.get, ENLIGHTENMENTS))
    )


def prepare(props: Mapping[str, Any], host: CpuidTable | None) -> list[str]:
    """Do what comes before features are expanded (x86_cpu_pre_plug, x86_cpu_hyperv_realize): return QEMU's warnings; raises QemuError."""
    if props.get("hv-vpindex") and host is not None and not host:
        raise QemuError(messages.HYPERV_VP_INDEX())
    too_long = len(str(props.get("hv-vendor-id") or "")) > VENDOR_LENGTH
    return [messages.HYPERV_VENDOR_CUT(length=VENDOR_LENGTH)] if too_long else []


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
    if props.get("hv-passthrough"):
        if host is None:
            raise UnavailableError("hv-passthrough needs the host's Hyper-V leaves, and the snapshot has no HV lines")
        asked |= {name for name, one in ENLIGHTENMENTS.items() if _supported(one, host) and (one.passthrough or release < (10, 0))}
        found = _host_values(frozenset(asked), host)
    else:
        for name in ENLIGHTENMENTS:
            if name in asked:
                _check(ENLIGHTENMENTS[name], asked, host)
        found = _own_values(frozenset(asked), props)
    if "hv-synic" in asked and "hv-vpindex" not in asked and not props.get("x-hv-synic-kvm-only"):
        raise _lacking(ENLIGHTENMENTS["hv-synic"], "hv-vpindex")
    return found


def _supported(one: Enlightenment, host: CpuidTable) -> bool:
    return all(host.registers(leaf)[register] & mask == mask for leaf, register, mask in one.bits)


def _check(one: Enlightenment, asked: set[str], host: CpuidTable | None) -> None:
    if host is not None and not _supported(one, host):
        raise QemuError(messages.HYPERV_LACKS(title=one.title))
    for need in one.needs:
        if need not in asked:
            raise _lacking(one, need)


def _lacking(one: Enlightenment, need: str) -> QemuError:
    return QemuError(messages.HYPERV_NEEDS(title=one.title, needed=ENLIGHTENMENTS[need].title))


def _host_values(flags: frozenset[str], host: CpuidTable) -> HyperV:
    _, ebx, ecx, edx = host.registers(VENDOR)
    spinlocks = host.registers(RECOMMENDATIONS).ebx
    return HyperV(flags, (ebx, ecx, edx), host.registers(INTERFACE), host.registers(VERSION), spinlocks, host.registers(LIMITS))


def _own_values(flags: frozenset[str], props: Mapping[str, Any]) -> HyperV:
    vendor = str(props.get("hv-vendor-id") or "Microsoft Hv").encode()[:VENDOR_LENGTH].ljust(VENDOR_LENGTH, b"\0")
    version = Registers(
        props["hv-version-id-build"],
        props["hv-version-id-major"] << 16 | props["hv-version-id-minor"],
        props["hv-version-id-spack"],
        props["hv-version-id-sbranch"] << 24 | props["hv-version-id-snumber"] & 0xFFFFFF,
    )
    first, second, third = (int.from_bytes(vendor[at : at + 4], "little") for at in (0, 4, 8))
    interface = Registers(int.from_bytes(b"Hv#1", "little"))
    limits = Registers(props["x-hv-max-vps"] & 0xFFFFFFFF, 64)
    return HyperV(flags, (first, second, third), interface, version, props["hv-spinlocks"], limits)


def entries(hyperv: HyperV, props: Mapping[str, Any], host: CpuidTable | None) -> list[Entry]:
    """Make the leaves, in QEMU's order."""
    bits = {leaf: [0, 0, 0, 0] for leaf in (FEATURES, RECOMMENDATIONS, NESTED)}
    for name in hyperv.flags:
        for leaf, register, mask in ENLIGHTENMENTS[name].bits:
            bits[leaf][register] |= mask
    features, recommendations, nested = bits[FEATURES], bits[RECOMMENDATIONS], bits[NESTED]
    if "hv-evmcs" in hyperv.flags:
        nested[_EAX] |= _EVMCS_VERSIONS
    features[_EAX] |= _HYPERCALL
    if "hv-synic" in hyperv.flags and not props.get("x-hv-synic-kvm-only"):
        features[_EBX] |= _POST_MESSAGES_AND_SIGNAL_EVENTS
    features[_EDX] |= _DYNAMIC_PARTITIONING
    recommendations[_EBX] = hyperv.spinlocks
    if "hv-vapic" in hyperv.flags and "hv-avic" not in hyperv.flags:
        recommendations[_EAX] |= _APIC_ACCESS_RECOMMENDED
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
        return _NO_NONARCH_CORESHARING
    return host.registers(RECOMMENDATIONS).eax & _NO_NONARCH_CORESHARING if setting == "auto" and host is not None else 0


def _debugger_leaves() -> dict[int, tuple[int, int, int, int]]:
    first, second, third = (int.from_bytes(b"Microsoft VS"[at : at + 4], "little") for at in (0, 4, 8))
    return {
        DEBUG_VENDOR: (0, first, second, third),
        DEBUG_INTERFACE: (int.from_bytes(b"VS#1", "little"), 0, 0, 0),
        DEBUG_PLATFORM: (_ALLOW_KERNEL_DEBUGGING, 0, 0, 0),
    }
