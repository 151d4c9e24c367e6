"""What KVM answers a VMM on a host: as the snapshot observed it, where it did, else as the model has it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

from vcpuid.cpuid import CpuidTable, MsrTable, MsrWord, Word, xfeatures
from vcpuid.cpuid.feature_words import CONTROL_MSRS
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.errors import VcpuidError
from vcpuid.kvm.caps import loaded
from vcpuid.kvm.emulated import emulated
from vcpuid.kvm.feature_msrs import FeatureMsrs, feature_msrs
from vcpuid.kvm.hyperv import hyperv_supported
from vcpuid.kvm.supported import answered
from vcpuid.kvm.xstate import with_amx_state
from vcpuid.setup import KEPT, MODULES, Remembered, Setup


class Answers:
    """KVM's answers of one settled host, each worked out when it is first asked for."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.host = setup, setup.host

    @cached_property
    def vendor(self) -> str:
        """The twelve characters of leaf 0."""
        return self.host.vendor

    @cached_property
    def feature_msrs(self) -> FeatureMsrs:
        """KVM's feature MSRs, what of them the snapshot does not tell, and which are not known at all."""
        return feature_msrs(self.setup)

    @cached_property
    def odd_modules(self) -> tuple[str, ...]:
        """The modules on which this host's KVM runs and that are none of Linux's own: what was not asked of such a KVM is not known."""
        return tuple(sorted({name.partition(".")[0] for name in self.host.params} - set(MODULES)))

    @property
    def msrs(self) -> MsrTable:
        """KVM's feature MSRs as far as they are known: the snapshot's, else worked out of the hardware's."""
        return self.feature_msrs.table

    @cached_property
    def msr_words(self) -> FrozenMap[Word, int]:
        """KVM's feature MSRs as words; of VMX's controls the half that says what may be 1, as QEMU counts their bits."""
        return FrozenMap((MsrWord(index), value >> 32 if index in CONTROL_MSRS else value) for index, value in self.msrs.items())

    @cached_property
    def msr_words_before(self) -> FrozenMap[Word, int]:
        """The same words before KVM: the hardware's, else KVM's own, since an MSR that it told itself counts from there on."""
        before = self.feature_msrs.before
        return FrozenMap({**self.msr_words, **before}) if before else self.msr_words

    @cached_property
    def raw(self) -> CpuidTable:
        """The processor's CPUID; what KVM supports stands for one that the snapshot does not tell, with the state of AMX it has then."""
        return self.host.raw or with_amx_state(self.supported)

    @cached_property
    def supported(self) -> CpuidTable:
        """KVM_GET_SUPPORTED_CPUID; raises what `vcpuid.kvm.supported` does where it is modelled."""
        return answered(self.setup).table if self.host.supported is None else self.host.supported

    @cached_property
    def emulated(self) -> CpuidTable:
        """KVM_GET_EMULATED_CPUID."""
        return emulated(self.setup).table if self.host.emulated is None else self.host.emulated

    @cached_property
    def hyperv(self) -> CpuidTable:
        """KVM_GET_SUPPORTED_HV_CPUID."""
        return hyperv_supported(self.setup).table if self.host.hyperv is None else self.host.hyperv

    @cached_property
    def xcr0(self) -> int | None:
        """The XSAVE components that a guest may have (KVM_GET_DEVICE_ATTR, KVM_X86_XCOMP_GUEST_SUPP); None where the host tells nothing.

        A VMM asks for the permission to use AMX before it asks this; who took the snapshot's SUP lines need not have, and leaf 0xD then
        lacks the state of AMX's tiles.
        """
        if not self.host.raw:
            return None if self.host.supported is None else _components(self.raw)
        offered = loaded(self.setup).xcr0
        if self.host.supported is not None:
            offered = _components(self.host.supported) | offered & xfeatures.AMX
        return offered


def _components(table: CpuidTable) -> int:
    leaf = table.registers(0xD)
    return leaf.eax | leaf.edx << 32


@Remembered
def kvm_says(setup: Setup) -> Answers:
    """Return KVM's answers for a settled host; they are kept, and so is what was worked out of them."""
    return Answers(setup)


def ask_ahead(hosts: Sequence[Setup]) -> None:
    """Work out what KVM answers on hosts about which each answer will be asked, of as many as are kept; what it raises is raised then.

    It is one answer of all hosts after the other: what that needs of the program stays in the processor's caches meanwhile, which takes
    a sixth off the time.
    """
    for answer in ("feature_msrs", "supported"):
        for host in hosts[:KEPT]:
            with suppress(VcpuidError):
                getattr(kvm_says(host), answer)
