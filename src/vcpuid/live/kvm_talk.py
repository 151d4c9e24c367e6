"""A VMM's calls to KVM about CPUID, as its memory shows them: which ioctls they are, and what goes through them.

From Linux include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h and prctl.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from vcpuid.live import kvm_structs as structs

IOCTL, ARCH_PRCTL = 16, 158
"""Numbers of the system calls."""

MOST_ENTRIES, MOST_MSRS = 256, 1024
"""As many entries and MSRs of a call are read; KVM takes no more of the first, and 255 of the second."""

Read = Callable[[int, int], bytes]
"""Reads memory: at an address, so many bytes; fewer where it ends."""


class Carries(Enum):
    """What goes through a call."""

    NUMBER = "its argument is the number itself"
    TABLE = "struct kvm_cpuid2"
    OLD_TABLE = "struct kvm_cpuid"
    MSRS = "struct kvm_msrs"
    INDICES = "struct kvm_msr_list"
    CAPABILITY = "struct kvm_enable_cap"


class TalkCall(NamedTuple):
    """A call about CPUID: its name, what it carries, and whether that comes back from KVM."""

    name: str
    carries: Carries = Carries.NUMBER
    answers: bool = False


IOCTLS = {
    structs.GET_API_VERSION: TalkCall("KVM_GET_API_VERSION"),
    structs.CREATE_VM: TalkCall("KVM_CREATE_VM"),
    structs.CHECK_EXTENSION: TalkCall("KVM_CHECK_EXTENSION"),
    structs.CREATE_VCPU: TalkCall("KVM_CREATE_VCPU"),
    structs.GET_SUPPORTED_CPUID: TalkCall("KVM_GET_SUPPORTED_CPUID", Carries.TABLE, answers=True),
    structs.GET_EMULATED_CPUID: TalkCall("KVM_GET_EMULATED_CPUID", Carries.TABLE, answers=True),
    structs.GET_SUPPORTED_HV_CPUID: TalkCall("KVM_GET_SUPPORTED_HV_CPUID", Carries.TABLE, answers=True),
    structs.SET_CPUID2: TalkCall("KVM_SET_CPUID2", Carries.TABLE),
    structs.GET_CPUID2: TalkCall("KVM_GET_CPUID2", Carries.TABLE, answers=True),
    structs.SET_CPUID: TalkCall("KVM_SET_CPUID", Carries.OLD_TABLE),
    structs.GET_MSRS: TalkCall("KVM_GET_MSRS", Carries.MSRS, answers=True),
    structs.SET_MSRS: TalkCall("KVM_SET_MSRS", Carries.MSRS),
    structs.GET_MSR_INDEX_LIST: TalkCall("KVM_GET_MSR_INDEX_LIST", Carries.INDICES, answers=True),
    structs.GET_MSR_FEATURE_INDEX_LIST: TalkCall("KVM_GET_MSR_FEATURE_INDEX_LIST", Carries.INDICES, answers=True),
    structs.ENABLE_CAP: TalkCall("KVM_ENABLE_CAP", Carries.CAPABILITY),
    structs.SET_TSC_KHZ: TalkCall("KVM_SET_TSC_KHZ"),
    structs.GET_TSC_KHZ: TalkCall("KVM_GET_TSC_KHZ"),
}
"""ioctls, by number."""

PERMISSIONS = {
    0x1021: TalkCall("ARCH_GET_XCOMP_SUPP"),
    0x1022: TalkCall("ARCH_GET_XCOMP_PERM"),
    0x1023: TalkCall("ARCH_REQ_XCOMP_PERM"),
    0x1024: TalkCall("ARCH_GET_XCOMP_GUEST_PERM"),
    0x1025: TalkCall("ARCH_REQ_XCOMP_GUEST_PERM"),
}
"""arch_prctl's requests about XSAVE components, AMX's tiles, by number."""

WANTED = {IOCTL: (1, tuple(IOCTLS)), ARCH_PRCTL: (0, tuple(PERMISSIONS))}
"""All of them, for `seccomp.program`."""

_SEEN_RUN = 24
"""struct kvm_run's apic_base, which KVM writes whenever KVM_RUN returns, and no vCPU's is 0."""


def given(call: TalkCall, argument: int, read: Read) -> dict[str, object]:
    """Tell what a call hands over, as it is made; of one that asks, how much room it gives.

    Raises OSError where memory is not to be read.
    """
    if call.carries is Carries.NUMBER:
        return {"arg": argument}
    if call.carries is Carries.CAPABILITY:
        capability, flags, *arguments = struct.unpack("<II4Q", _exactly(read, argument, 40))
        return {"cap": capability, "flags": flags, "args": arguments}
    count = _count(read, argument)
    if call.answers:
        return {"asked": count}
    return {"asked" if call.carries is Carries.MSRS else "nent": count, **_told(call, argument, read)}


def answered(call: TalkCall, argument: int, result: int, read: Read) -> dict[str, object]:
    """Tell what KVM returned; nothing of a call that hands something over, or that KVM refuses. Raises OSError as `given` does."""
    if not call.answers or result < 0:
        return {}
    if call.carries is Carries.MSRS:
        return _told(call, argument, read, result)
    key = "nent" if call.carries is Carries.TABLE else "n"
    return {key: _count(read, argument), **_told(call, argument, read)}


def has_run(read: Read, run: int) -> bool:
    """Tell by its struct kvm_run, at this address, whether KVM_RUN has returned on a vCPU before."""
    return any(_exactly(read, run + _SEEN_RUN, 8))


def _told(call: TalkCall, at: int, read: Read, most: int = MOST_MSRS) -> dict[str, object]:
    """Read what stands behind the count."""
    count = _count(read, at)
    if call.carries is Carries.INDICES:
        indices = _exactly(read, at + 4, 4 * min(count, MOST_MSRS))
        return {"indices": [f"{index:#x}" for (index,) in struct.iter_unpack("<I", indices)]}
    if call.carries is Carries.MSRS:
        pairs = _exactly(read, at + 8, 16 * min(count, most, MOST_MSRS))
        return {"msrs": [[f"{index:#x}", f"{value:#x}"] for index, value in struct.iter_unpack("<I4xQ", pairs)]}
    if call.carries is Carries.OLD_TABLE:
        entries = _exactly(read, at + 8, 24 * min(count, MOST_ENTRIES))
        return {"entries": [[function, 0, 0, *registers] for function, *registers in struct.iter_unpack("<5I4x", entries)]}
    entries = _exactly(read, at + 8, 40 * min(count, MOST_ENTRIES))
    return {"entries": [list(entry) for entry in struct.iter_unpack("<7I12x", entries)]}


def _count(read: Read, at: int) -> int:
    (count,) = struct.unpack("<I", _exactly(read, at, 4))
    found: int = count
    return found


def _exactly(read: Read, at: int, size: int) -> bytes:
    data = read(at, size)
    if len(data) != size:
        raise OSError(14, "its memory ends there")
    return data
