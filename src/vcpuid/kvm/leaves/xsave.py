"""Leaf 0xD: which states XSAVE and XSAVES save, and how large their areas are."""

from __future__ import annotations

from vcpuid.cpuid import bits, xfeatures
from vcpuid.kvm.leaves.build import SOURCE, Build, KvmLeaf
from vcpuid.kvm.xsave import ALIGNED_SINCE, area_size
from vcpuid.kvm.xstate import permitted_xcr0
from vcpuid.reasons import Rule

_STATES = Rule(
    "kvm.leaf.xsave",
    "KVM offers the states that the host runs with, that KVM knows and that the process may use; sizes follow from those",
    SOURCE,
    remedy="let the process ask for permission to use AMX (ARCH_REQ_XCOMP_GUEST_PERM)",
)
_AREA = Rule(
    "kvm.leaf.xsave-area", "the CPU gives the area's size for the states now switched on; KVM gives it for all that it offers", SOURCE
)

_XSAVEC_OR_XSAVES = bits.XSAVEC.mask | bits.XSAVES.mask


def _xsave(build: Build, registers: list[int]) -> None:
    caps = build.caps
    raw = build.host.raw
    xcr0, xss = permitted_xcr0(caps.boot, caps.xcr0, caps.hardware), caps.xss
    size = area_size(raw, xcr0, compacted=False)
    registers[:] = (registers[0] & xcr0, size, size, registers[3] & xcr0 >> 32)
    if not xcr0:
        return
    registers = build.subleaf(0xD, 1, _AREA)
    build.features(registers, 0xD, 1)
    compacted = registers[0] & _XSAVEC_OR_XSAVES
    registers[1] = area_size(raw, xcr0 | xss, compacted=True, aligned=build.kernel >= ALIGNED_SINCE) if compacted else 0
    registers[2] &= xss
    registers[3] &= xss >> 32
    for index in range(2, (xcr0 | xss).bit_length()):
        if (xcr0 | xss) >> index & 1:
            supervisor = not xcr0 >> index & 1
            size, _, flags, _ = raw.registers(0xD, index)
            if size and bool(flags & xfeatures.IN_XSS) is supervisor:
                registers = build.subleaf(0xD, index, _STATES)
                if not build.has("XFD"):
                    registers[2] &= ~xfeatures.NEEDS_XFD
                registers[3] = 0


LEAVES = {0xD: KvmLeaf(_xsave, _STATES)}
