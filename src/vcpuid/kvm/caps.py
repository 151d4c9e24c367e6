"""kvm_cpu_caps: the features that KVM can give to guests, word by word.

A word starts as the CPU's own; the kinds of its features come first, then the rows of `vcpuid.kvm.rules` in the kernel's order
(kvm_set_cpu_caps, since 7.1 kvm_initialize_cpu_caps, in Linux arch/x86/kvm/cpuid.c, and its callers vmx_set_cpu_caps and
svm_set_cpu_caps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vcpuid.cpuid import Snapshot, xfeatures
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.kvm import rules, xstate
from vcpuid.kvm.hardware import Hardware, set_up
from vcpuid.kvm.plan import CapsPlan, RowPlan, plan_of
from vcpuid.linux import BootCpu, boot_cpu
from vcpuid.params import Given
from vcpuid.reasons import Decision, Ledger, Unrecorded
from vcpuid.reasons.lazy import LazySequence
from vcpuid.releases import Release
from vcpuid.setup import Remembered, Setup, settled


@dataclass(frozen=True, slots=True)
class Caps:
    """kvm_cpu_caps once KVM is loaded, by the kernel's names for words, and why they differ from the CPU's.

    `hardware` tells the vendor module's switches, `boot` the host kernel's view; `xcr0` and `xss` are the XSAVE states that KVM supports.
    """

    words: Mapping[str, int]
    decisions: Sequence[Decision] = field(compare=False)
    boot: BootCpu
    hardware: Hardware
    plan: CapsPlan = field(compare=False)
    values: tuple[int, ...]
    xcr0: int
    xss: int

    def has(self, feature: str) -> bool:
        """Whether KVM offers a feature (kvm_cpu_cap_has); one that this kernel's KVM does not know it does not offer."""
        word, mask = self.plan.places.get(feature, (0, 0))
        return bool(self.values[word] & mask)


def caps(host: Snapshot | Setup, kernel: str | Release | None = None, params: Given | None = None) -> Caps:
    """Set up KVM on a host, as loading its modules does.

    `host` gives CPUID (`raw`), feature MSRs and lines of /proc/cpuinfo; `kernel` is its release, by default the snapshot's own, and
    `params` are its parameters (`vcpuid.params`); or `host` is a Setup, which holds both. Raises InputError for a parameter or a release
    that makes no sense. The answers for the last hosts are kept.
    """
    return loaded(settled(host, kernel=kernel, params=params))


@Remembered
def loaded(setup: Setup) -> Caps:
    """Set up KVM for a settled host; its decisions are worked out when they are looked at, by doing the same once more."""
    return _loaded(setup, Unrecorded())


def _loaded(setup: Setup, ledger: Ledger) -> Caps:
    host = setup.host
    boot = boot_cpu(setup)
    hardware = set_up(setup, boot)
    plan = plan_of(setup.kernel.tables, hardware.module)
    values, held = _start(plan, host, boot, ledger)
    for step in plan.steps:
        _take(step, plan, values, held, boot, hardware, ledger)
    xss = _set_up_xss(plan, host, values, boot, ledger)
    for number, left in enumerate(held):
        if left:
            ledger.clear(plan.words[number].word, left, left, rules.OTHER_VENDOR)
    return Caps(
        words=FrozenMap({word.name: value for word, value in zip(plan.words, values, strict=True)}),
        decisions=ledger.decisions if ledger.records else LazySequence(lambda: _loaded(setup, Ledger()).decisions),
        boot=boot,
        hardware=hardware,
        plan=plan,
        values=tuple(values),
        xcr0=xstate.supported_xcr0(boot, host.raw, hardware),
        xss=xss,
    )


def _start(plan: CapsPlan, host: Snapshot, boot: BootCpu, ledger: Ledger) -> tuple[list[int], list[int]]:
    """Bring every word from the CPU's value to what its kinds leave; the second list holds VENDOR bits that wait for the vendor module."""
    raw, host_words = host.raw, boot.caps
    values, held = [], []
    for _, word, linux, known, followed, forced, claimed, vendor, runtime, later, synthesized, scattered in plan.words:
        value = raw.word(word)
        if value & ~known:
            for mask, rule in later:
                value = ledger.clear(word, value, mask, rule)
            value = ledger.keep(word, value, known, rules.NOT_LISTED)
        if value:
            value = ledger.clear(word, value, runtime, rules.RUNTIME)
            if linux is not None:
                value = ledger.clear(word, value, followed & ~host_words[linux], rules.HOST_KERNEL)
        for mask, place, bit in scattered:
            if not host_words[place.word] & place.mask:
                value = ledger.clear(word, value, mask, rules.HOST_KERNEL, bit)
        value = ledger.set(word, value, forced, rules.EMULATED)
        value = ledger.set(word, value, claimed, rules.CLAIMED)
        for mask, place, bit in synthesized:
            if host_words[place.word] & place.mask:
                value = ledger.set(word, value, mask, rules.SYNTHESIZED, bit)
            else:
                value = ledger.clear(word, value, mask, rules.HOST_KERNEL, bit)
        held.append(value & vendor)
        values.append(value & ~vendor)
    return values, held


def _take(step: RowPlan, plan: CapsPlan, values: list[int], held: list[int], boot: BootCpu, hardware: Hardware, ledger: Ledger) -> None:
    """Do one row."""
    action, targets, terms, rule = step
    cause = None
    holds = True
    for kind, switch, word, mask, wanted, bit in terms:
        if kind == "switch":
            found = switch in hardware.on
        elif kind == "host":
            found = bool(boot.caps[word] & mask)
        else:
            found = bool(values[word] & mask)
        if found is not wanted:
            holds, cause = False, bit
            break
        cause = cause or bit
    if not holds and action != "grant":
        return
    for number, mask in targets:
        before = values[number] | held[number]
        name = plan.words[number].word
        if action == "clear" or not holds:
            ledger.clear(name, before, mask, rule, cause)
            values[number] &= ~mask
        else:
            ledger.set(name, before, mask, rule, cause)
            values[number] |= mask
        held[number] &= ~mask


def _set_up_xss(plan: CapsPlan, host: Snapshot, values: list[int], boot: BootCpu, ledger: Ledger) -> int:
    """kvm_setup_xss_caps: without the states of control-flow enforcement in IA32_XSS, its features go too. Returns IA32_XSS."""

    def has(feature: str) -> bool:
        number, mask = plan.places.get(feature, (0, 0))
        return bool(values[number] & mask)

    xss = xstate.supported_xss(boot, host.raw, xsaves=has("XSAVES"), shstk=has("SHSTK"), ibt=has("IBT"))
    if xss != xfeatures.CET:
        for feature in ("SHSTK", "IBT"):
            if has(feature):
                number, mask = plan.places[feature]
                values[number] = ledger.clear(plan.words[number].word, values[number], mask, rules.XSS)
    return xss
