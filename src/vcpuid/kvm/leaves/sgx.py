"""Leaf 0x12: software guard extensions."""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.kvm.leaves.build import SOURCE, Build, KvmLeaf, zero
from vcpuid.reasons import Rule

_SGX = Rule("kvm.leaf.sgx", "KVM offers SGX only where the host does, and of its attributes those that it knows", SOURCE, since="5.15")

_MISC_EXINFO = bits.SGX_EXINFO.mask
_ATTRIBUTES_61 = (
    bits.SGX_DEBUG.mask | bits.SGX_MODE64.mask | bits.SGX_PROVISIONKEY.mask | bits.SGX_TOKENKEY.mask | bits.SGX_KSS.mask
)  # fmt: skip
_ATTRIBUTES = _ATTRIBUTES_61 | bits.SGX_AEX_NOTIFY.mask


def _sgx(build: Build, registers: list[int]) -> None:
    if not build.has("SGX"):
        zero(registers)
        return
    build.features(registers, 0x12)
    registers[1] &= _MISC_EXINFO
    registers = build.subleaf(0x12, 1, _SGX)
    registers[0] &= _ATTRIBUTES if build.kernel > (6, 1) else _ATTRIBUTES_61
    registers[1] = 0


LEAVES = {0x12: KvmLeaf(_sgx, _SGX)}
