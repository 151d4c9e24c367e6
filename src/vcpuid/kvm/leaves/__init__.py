"""What KVM_GET_SUPPORTED_CPUID answers, leaf by leaf (__do_cpuid_func, Linux arch/x86/kvm/cpuid.c).

A leaf is a function that is given the table under construction and the registers of sub-leaf 0, which hold the CPU's answer. It changes
them in place and adds sub-leaves. `LEAVES` finds it, with the rule that accounts for what it changes beyond the features of
`vcpuid.kvm.caps`; a leaf that is not there KVM answers with zeros.
"""

from __future__ import annotations

from vcpuid.kvm.leaves import amd, basic, extended, paravirt, sets, sgx, xsave
from vcpuid.kvm.leaves.build import BLANK, LEFT_OUT, Build, KvmLeaf

LEAVES: dict[int, KvmLeaf] = {
    function: leaf for module in (basic, sets, xsave, sgx, extended, amd, paravirt) for function, leaf in module.LEAVES.items()
}

__all__ = ["BLANK", "LEAVES", "LEFT_OUT", "Build", "Leaf"]
