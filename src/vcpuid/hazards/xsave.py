"""XSAVE: state components that features need, what XCR0 takes, and sizes that fit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from vcpuid.cpuid import Bit, bits, xfeatures
from vcpuid.cpuid.words import positions
from vcpuid.hazards.features import needs
from vcpuid.hazards.rule import HazardRule, Severity
from vcpuid.hazards.view import View, name_of
from vcpuid.qemu.catalog import catalog

_LEGACY_AREA = 576
"""Bytes of x87 and SSE state and of the header (Intel SDM volume 1, 13.4)."""
_TOGETHER = ((xfeatures.MPX, "MPX"), (xfeatures.AVX512, "AVX-512"), (xfeatures.AMX, "AMX"))
"""Components that XCR0 takes together or not at all (SDM volume 1, 13.3)."""
_NEEDS = ((xfeatures.AVX, xfeatures.SSE), (xfeatures.AVX512, xfeatures.AVX))
"""Components that XCR0 takes only with others: AVX's with SSE's, AVX-512's with AVX's."""


def components(view: View) -> int:
    """What leaf 0xD lets the guest put into XCR0; nothing where it has no XSAVE."""
    leaf = view.leaf(0xD)
    return leaf.eax | leaf.edx << 32 if view.has(bits.XSAVE) else 0


@cache
def _states(release: str, kernel: str) -> dict[Bit, int]:
    """Components of XCR0 by the features that use them: QEMU's table, handed on to all that need those features by Linux' table."""
    tables = catalog(release)
    states: dict[Bit, int] = {}
    for number, name, mask, _ in tables.components:
        bit = Bit(tables.by_name[name].word, mask.bit_length() - 1)
        if bit != bits.XSAVE and not 1 << number & xfeatures.SUPERVISOR:
            states[bit] = states.get(bit, 0) | 1 << number
    changed = True
    while changed:
        changed = False
        for feature, needed in needs(kernel):
            grown = states.get(feature, 0) | states.get(needed, 0)
            if grown != states.get(feature, 0):
                states[feature], changed = grown, True
    return states


def _permittable(view: View) -> int:
    """AMX's components, where the processor has them: KVM tells of them only to those that asked Linux for leave to use them."""
    hardware = view.hardware
    return xfeatures.AMX if hardware is not None and hardware.registers(0xD).eax & xfeatures.AMX == xfeatures.AMX else 0


def _unpermitted(view: View) -> int:
    """AMX's components, where the processor has them and the table was made without leave to use them."""
    return _permittable(view) if components(view) & xfeatures.AMX != xfeatures.AMX else 0


def _lacking(view: View, mask: int) -> Iterator[tuple[str, int]]:
    """Name features with those of their components that lie in `mask` and that the guest cannot switch on."""
    off = mask & ~components(view)
    for bit, wanted in _states(view.catalog.release, view.setup.kernel.tables).items():
        if view.has(bit) and wanted & off:
            yield name_of(bit), wanted & off


def _no_state(view: View) -> Iterator[str]:
    for name, lacking in _lacking(view, ~_unpermitted(view)):
        yield f"{name} ({_list(lacking)})" if view.has(bits.XSAVE) else f"{name} (no xsave)"


def _no_permission(view: View) -> Iterator[str]:
    if view.state is None:  # QEMU asks for leave before it makes its table
        yield from (name for name, _ in _lacking(view, _unpermitted(view)))


def _list(mask: int) -> str:
    numbers = list(positions(mask))
    return f"component{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _not_of_host(view: View) -> Iterator[str]:
    if view.supported is None:
        return
    leaf = view.supported.registers(0xD)
    if extra := components(view) & ~(leaf.eax | leaf.edx << 32 | _permittable(view) | xfeatures.LEGACY):
        yield _list(extra)


def _impossible(view: View) -> Iterator[str]:
    enabled = components(view)
    if not enabled:
        return
    if view.state is not None:
        enabled |= _unpermitted(view)
    if not enabled & xfeatures.X87:
        yield "component 0 (x87) is not there"
    for mask, name in _TOGETHER:
        if 0 < enabled & mask < mask:
            yield f"{name}: {_list(mask & ~enabled)} missing"
    for mask, needed in _NEEDS:
        if enabled & mask and not enabled & needed:
            yield f"{_list(enabled & mask)} without {_list(needed)}"


def _sizes(view: View) -> Iterator[str]:
    enabled = components(view)
    if not enabled:
        return
    needed = _LEGACY_AREA
    for number in positions(enabled & ~xfeatures.LEGACY):
        size, offset = view.leaf(0xD, number)[:2]
        if not size:
            yield f"component {number} has no size"
        needed = max(needed, offset + size)
    told = view.leaf(0xD).ecx
    if told < needed:
        yield f"leaf 0xD tells {told} bytes, its components take {needed}"


RULES = (
    HazardRule(
        "xsave.no-state", Severity.BREAKS, _no_state,
        "XCR0 cannot hold the state that the feature needs, so its instructions raise #UD. glibc asks XGETBV first; the kernel and other "
        "programs may look at the feature's bit alone.",
        "switch the feature off with -feature, or +xsave and the feature that brings the state (+avx, +avx512f, +pku, +amx-tile)",
    ),
    HazardRule(
        "xsave.no-permission", Severity.RISK, _no_permission,
        "KVM tells of AMX whoever asks, and of its state only those that have asked Linux for leave to give it to guests. A table made of "
        "such an answer has AMX's features without their state.",
        "arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM) before KVM_GET_SUPPORTED_CPUID, as QEMU does, or -amx-tile,-amx-int8,-amx-bf16",
    ),
    HazardRule(
        "xsave.not-of-host", Severity.BREAKS, _not_of_host,
        "KVM does not let the guest switch these components on: XSETBV raises #GP when its kernel tries to, early at boot.",
        "switch off the features that use them; AMX needs a KVM that permits it",
    ),
    HazardRule(
        "xsave.impossible", Severity.BREAKS, _impossible,
        "XSETBV refuses such a set: the guest's kernel takes a #GP as it switches on what leaf 0xD offers.",
        "give the components that belong together, or none of them",
    ),
    HazardRule(
        "xsave.sizes", Severity.BREAKS, _sizes,
        "The area for XSAVE is smaller than what XSAVE writes. Linux finds that out, warns of it and does without XSAVE and AVX; others "
        "overwrite memory.",
        "take leaf 0xD from KVM or QEMU as they give it",
    ),
)  # fmt: skip
