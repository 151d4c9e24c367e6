"""What an answer says of the Linux host's parameters: which change nothing there, and which stand for what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vcpuid.kvm.caps import loaded
from vcpuid.kvm.feature_msrs import VMX
from vcpuid.kvm.hyperv import hyperv_supported
from vcpuid.linux import effect
from vcpuid.params import msrs_in
from vcpuid.setup import Setup


def advised(setup: Setup) -> Setup:
    """Return a setup whose remarks tell of the Linux host's parameters too; it is the same one where none are given."""
    if not setup.params.linux:
        return setup
    return replace(setup, remarks=tuple(dict.fromkeys((*setup.remarks, *remarks(setup)))))


def remarks(setup: Setup) -> tuple[str, ...]:
    """Say what was made of the parameters that are the Linux host's: a sentence each for those that ask for one."""
    return (*without_effect(setup), *_taken_as_given(setup))


def without_effect(setup: Setup) -> tuple[str, ...]:
    """Say which words of the command line, and whether `tsx_mode`, change nothing that Linux or KVM makes of this processor."""
    return effect.without_effect(setup, _made, "Linux and KVM make the same of its processor without")


def _made(setup: Setup) -> tuple[object, ...]:
    return (*effect.made_of(setup), hyperv_supported(setup).table)


def _taken_as_given(setup: Setup) -> Iterator[str]:
    taken = [name for name, index in msrs_in(setup.params.linux) if index in VMX and index not in setup.host.msrs]
    if taken and setup.host.raw and "nested" in loaded(setup).hardware.on:
        yield f"{', '.join(taken)}: taken as what KVM offers, since what it keeps back from guests that nest is not modelled"
