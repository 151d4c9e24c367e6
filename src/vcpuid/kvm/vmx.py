"""What VMX offers KVM: the VM-execution, entry and basic capabilities that decide about CPUID bits (setup_vmcs_config, vmx.c).

The capability MSRs 0x480 to 0x491 of the hardware are no feature MSRs. The first of these tells of them: `msr.INDEX`; the "vmx flags" of
/proc/cpuinfo; a snapshot's HWMSR lines; KVM's feature MSRs of the same numbers, made for nested
guests but passing these bits on as the hardware has them; the CPUID feature that comes with the control on every processor so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vcpuid.linux import BootCpu
from vcpuid.linux.machine import machine_of
from vcpuid.releases import linux, number
from vcpuid.setup import Setup, own_kernel

_BASIC, _ENTRY, _SECONDARY = 0x480, 0x484, 0x48B
_VMX = "VMX"


class _Control(NamedTuple):
    """Where to read a control: the name in "vmx flags", the MSR and bit, the kernel since which KVM passes it on, the CPUID feature."""

    flag: str | None
    msr: int | None
    bit: int
    since: str
    feature: str | None


_CONTROLS = {
    "ept": _Control("ept", _SECONDARY, 33, "5.10", _VMX),
    "ept_5level": _Control("ept_5level", None, 0, "5.10", "LA57"),
    "desc": _Control(None, _SECONDARY, 34, "5.10", _VMX),
    "rdtscp": _Control(None, _SECONDARY, 35, "5.10", "RDTSCP"),
    "unrestricted_guest": _Control("unrestricted_guest", _SECONDARY, 39, "5.10", _VMX),
    "invpcid": _Control(None, _SECONDARY, 44, "5.10", "INVPCID"),
    "encls": _Control(None, _SECONDARY, 47, "5.15", "SGX"),
    "xsaves": _Control(None, _SECONDARY, 52, "5.10", "XSAVES"),
    "waitpkg": _Control("usr_wait_pause", _SECONDARY, 58, "5.15", "WAITPKG"),
    "mpx": _Control(None, _ENTRY, 48, "5.10", "MPX"),
    "load_cet": _Control(None, _ENTRY, 52, "6.18", None),
    "no_hw_error_code": _Control(None, _BASIC, 56, "6.18", None),
    "pt": _Control(None, None, 0, "5.10", "INTEL_PT"),
}


def coming_with() -> Iterator[tuple[str, int, int]]:
    """Give the controls that come with a CPUID feature of their own: Linux's symbol for it, the MSR, and the bit as a mask."""
    for row in _CONTROLS.values():
        if row.msr is not None and row.feature not in (None, _VMX):
            assert row.feature is not None
            yield row.feature, row.msr, 1 << row.bit


def controls(setup: Setup, boot: BootCpu) -> set[str]:
    """Return the names of the controls that the processor has; one that nothing tells of counts as there."""
    host, machine = setup.as_it_ran.host, machine_of(setup)
    line = host.cpuinfo.get("vmx_flags")
    flags = None if line is None else line.split()
    msrs = host.msrs
    own = own_kernel(host)
    taken = boot.number if own is None else linux(own).number
    found = set()
    for name, (flag, msr, bit, since, feature) in _CONTROLS.items():
        hardware = None if msr is None else machine.hardware(msr)
        if flags is not None and flag is not None and (msr is None or not machine.given(msr)):
            there = flag in flags
        elif hardware is not None:
            there = bool(hardware >> bit & 1)
        elif msr is not None and msr in msrs and taken >= number(since):
            there = bool(msrs[msr] >> bit & 1)
        else:
            there = feature is None or boot.has(feature)
        if there:
            found.add(name)
    return found
