"""What a class of hosts can give its guests, as QEMU sees it: the feature words of -cpu max, by QEMU's names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from vcpuid.cpuid.words import positions
from vcpuid.kvm.answers import kvm_says
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.draft import Draft
from vcpuid.qemu.expand import Shape, expand
from vcpuid.qemu.filter import filter_features
from vcpuid.qemu.plan import plan
from vcpuid.qemu.realize import draw
from vcpuid.reasons import Unrecorded
from vcpuid.releases import following
from vcpuid.setup import Setup
from vcpuid.told.completions import completions

Words = dict[str, int]
"""Masks by feature word."""


_OF_NO_USE = frozenset(
    {"FEAT_KVM", "FEAT_KVM_HINTS", "FEAT_SVM", "FEAT_PERF_CAPABILITIES", "FEAT_14_0_ECX", "FEAT_SGX_12_0_EAX", "FEAT_SGX_12_0_EBX",
     "FEAT_SGX_12_1_EAX", "FEAT_XSAVE_XCR0_LO", "FEAT_XSAVE_XCR0_HI", "FEAT_XSAVE_XSS_LO", "FEAT_XSAVE_XSS_HI"}
)  # fmt: skip
"""Feature words that QEMU sets by itself, or that serve what nobody gets unasked either."""


@lru_cache(maxsize=4096)
def offered(setup: Setup) -> Words:
    """Return the features that a host's QEMU, KVM and processor give together, of those that may migrate.

    What the host does not tell counts as there: nobody knows that it is lacking, and the proof of a baseline names it. Of a kernel between
    two with tables only that is offered which both of them offer: nobody can tell more of it.
    """
    return meet(map(_offered, _kernels(setup)))


def _kernels(setup: Setup) -> tuple[Setup, ...]:
    """Return the setup, and the same under the next kernel with tables where its own has none."""
    newer = following(setup.kernel)
    return (setup,) if newer is None else (setup, replace(setup, kernel=newer))


def _offered(setup: Setup) -> Words:
    full = next((made.setup for made in completions(setup) if made.full), None)
    return _given(setup) if full is None else joined((_given(setup), _given(full)))


@lru_cache(maxsize=4096)
def known(setup: Setup) -> Words:
    """Return those of them that do not hang on what the host does not tell."""
    found, full = _given(setup), fullest(setup)
    return found if full is None else meet((found, _given(full)))


def fullest(setup: Setup) -> Setup | None:
    """Return the same host with all there that it could have and does not tell, and a kernel without tables as the next one with some.

    None where it tells all, and its kernel has tables.
    """
    ends = (made.setup for made in completions(setup) if made.full or any(fact.of_kernel for fact in made.facts))
    return next(reversed((*ends,)), None)


def _given(setup: Setup) -> Words:
    draft = _draft(setup, "max")
    filter_features(draft, verbose=False)
    return draft.features


def wanted(setup: Setup, model: str) -> Words:
    """Return the features that a model asks for on a host, whether it gets them or not."""
    return _draft(setup, model).features


def _draft(setup: Setup, model: str) -> Draft:
    tables, kvm = catalog(setup.vmm.tables), kvm_says(setup)
    machine = find_machine(tables.release, setup.machine)
    draft = draw(plan(tables.release, setup.machine, model, setup.globals), tables, machine, kvm, kvm.xcr0, Unrecorded())
    expand(draft, Shape())
    return draft


def meet(given: Iterable[Mapping[str, int]]) -> Words:
    """Return what all have. It does not matter in which order, nor how often the same is there."""
    rest = iter(given)
    found = dict(next(rest))
    for words in rest:
        found = {name: mask & words.get(name, 0) for name, mask in found.items()}
    return found


def joined(given: Iterable[Mapping[str, int]]) -> Words:
    """Return what any has."""
    found: Words = {}
    for words in given:
        for name, mask in words.items():
            found[name] = found.get(name, 0) | mask
    return found


def without(words: Mapping[str, int], other: Mapping[str, int]) -> Words:
    """Return what the first has and the other has not."""
    return {name: rest for name, mask in words.items() if (rest := mask & ~other.get(name, 0))}


def count(words: Mapping[str, int]) -> int:
    """Count the features."""
    return sum(mask.bit_count() for mask in words.values())


def names(words: Mapping[str, int], tables: Catalog) -> Iterator[str]:
    """Give the features by QEMU's names, each once, in QEMU's order; bits without a name are left out."""
    found: dict[str, None] = {}
    for row in tables.words:
        for position in positions(words.get(row.name, 0)):
            if position in row.names:
                found[row.names[position]] = None
    return iter(found)


def worthwhile(given: Mapping[str, int]) -> Words:
    """Leave what somebody may miss: not what QEMU sets by itself, nor what serves a hypervisor in the guest."""
    return {name: mask for name, mask in given.items() if name not in _OF_NO_USE and not name.startswith("FEAT_VMX")}
