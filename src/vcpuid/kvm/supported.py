"""KVM_GET_SUPPORTED_CPUID (kvm_dev_ioctl_get_cpuid and get_cpuid_func, Linux arch/x86/kvm/cpuid.c)."""

from __future__ import annotations

from vcpuid.cpuid import Snapshot
from vcpuid.kvm.caps import loaded
from vcpuid.kvm.leaves import LEAVES, Build
from vcpuid.params import Given
from vcpuid.reasons import Result
from vcpuid.reasons.lazy import LazySequence
from vcpuid.releases import Release
from vcpuid.setup import Remembered, Setup, settled

_RANGES = (0, 0x80000000, 0xC0000000, 0x40000000)
"""First leaves of the ranges, in the order in which KVM reports them; EAX of the first tells the last."""


def supported(host: Snapshot | Setup, kernel: str | Release | None = None, params: Given | None = None) -> Result:
    """Return what KVM_GET_SUPPORTED_CPUID answers on a host, and why it differs from the CPU's own CPUID.

    `host` gives CPUID (`raw`), feature MSRs and lines of /proc/cpuinfo; its tables of KVM's are not looked at. `kernel` is its release, by
    default the snapshot's own, `params` are its parameters (`vcpuid.params`); or `host` is a Setup, which holds both. The answers for the
    last hosts are kept. Raises InputError for a parameter or a release that makes no sense, KvmError(E2BIG) for a CPU with more sub-leaves
    than KVM has room for.
    """
    return answered(settled(host, kernel=kernel, params=params))


@Remembered
def answered(setup: Setup) -> Result:
    """Ask the model of KVM of a settled host."""
    return Result(_built(setup).table(), LazySequence(lambda: (*loaded(setup).decisions, *_built(setup).decisions())))


def _built(setup: Setup) -> Build:
    build = Build(setup.host, loaded(setup))
    for first in _RANGES:
        if first != 0xC0000000 or _has_centaur(build):
            last = _leaf(build, first)
            for function in range(first + 1, last + 1):
                _leaf(build, function)
    return build


def _leaf(build: Build, function: int) -> int:
    """Answer one leaf; returns EAX of its first entry."""
    leaf = LEAVES.get(function)
    if leaf is None:
        build.blank(function)
        return 0
    registers = build.subleaf(function, 0, leaf.rule)
    leaf.answer(build, registers)
    return registers[0]


def _has_centaur(build: Build) -> bool:
    return build.caps.boot.vendor == "centaur" or (build.caps.boot.vendor == "zhaoxin" and build.kernel >= (6, 18))
