"""How wide the guest's physical addresses are: phys-bits, host-phys-bits, guest-phys-bits.

QEMU, target/i386/host-cpu.c (host_cpu_adjust_phys_bits), target/i386/kvm/kvm-cpu.c (kvm_set_guest_phys_bits), target/i386/cpu.c
(x86_cpu_realizefn).
"""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.errors import QemuError
from vcpuid.kvm.answers import Answers
from vcpuid.qemu import messages
from vcpuid.qemu.draft import Draft

_LM, _PSE36, _PAE = bits.LM.mask, bits.PSE36.mask, bits.PAE.mask
_MAX, _MIN, _TCG = 52, 32, 40
"""Most and least bits that QEMU takes, and how many a CPU has where nobody says."""
_UNSET = 0xFFFFFFFF


def _of_host(host: Answers) -> int:
    """Return the host's own (host_cpu_phys_bits)."""
    return host.raw.registers(0x80000008).eax & 0xFF if host.raw.registers(0x80000000).eax >= 0x80000008 else 36


def adjust(draft: Draft, host: Answers) -> tuple[int, int]:
    """Bring the properties in line with the host, and warn where they are not; return what follows for phys-bits and guest-phys-bits."""
    props = draft.props
    phys, guest, limit = props["phys-bits"], props.get("guest-phys-bits", 0), props["host-phys-bits-limit"]
    if not draft.has("FEAT_8000_0001_EDX", _LM):
        return phys, 0 if guest == _UNSET else guest
    of_host = _of_host(host)
    if phys not in (0, of_host):
        warning = messages.HOST_BITS_DIFFER(host=of_host, asked=phys)
        draft.warnings.append(warning)
        draft.once.append(warning)
    if props["host-phys-bits"]:
        phys = min(of_host, limit) if limit else of_host
    if guest == _UNSET:
        guest = min(draft.supported.leaf(0x80000008).eax >> 16 & 0xFF, phys)
        if limit and props["host-phys-bits"]:
            guest = min(guest, limit)
    return phys, guest


def settle(draft: Draft, phys: int, guest: int) -> None:
    """Settle both properties; raises QemuError for values that QEMU does not take."""
    number = draft.catalog.number
    if draft.has("FEAT_8000_0001_EDX", _LM):
        if number >= (11, 0) and phys and phys < _MIN:
            raise QemuError(messages.PHYS_BITS_LOW(least=_MIN, asked=phys))
        if number < (11, 0) and phys and not _MIN <= phys <= _MAX:
            raise QemuError(messages.PHYS_BITS_RANGE(least=_MIN, most=_MAX, asked=phys))
        phys = phys or _TCG
        if guest and not _MIN <= guest <= phys:
            raise QemuError(messages.GUEST_BITS_RANGE(least=_MIN, most=phys, asked=guest))
    else:
        if phys:
            raise QemuError(messages.PHYS_BITS_32())
        if guest:
            raise QemuError(messages.GUEST_BITS_32())
        phys = 36 if draft.has("FEAT_1_EDX", _PSE36 | _PAE if number >= (8, 2) else _PSE36) else 32
    draft.props["phys-bits"], draft.props["guest-phys-bits"] = phys, guest
