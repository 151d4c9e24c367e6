"""XSAVE: state components that features need, what XCR0 takes, and sizes that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from vcpuid.cpuid import Bit, Registers, bits, xfeatures
from vcpuid.cpuid.words import positions
from vcpuid.hazards.features import needs
from vcpuid.hazards.rule import HazardRule, Looks, Severity
from vcpuid.hazards.view import View, name_of
from vcpuid.kvm.xsave import area_size
from vcpuid.qemu.catalog import catalog

_TOGETHER = ((xfeatures.MPX, "MPX"), (xfeatures.AVX512, "AVX-512"), (xfeatures.AMX, "AMX"))
"""Components that XCR0 takes together or not at all (SDM volume 1, 13.3)."""
_PKRU = xfeatures.PKRU.bit_length() - 1
_LINUX_STATES = (
    ("AVX", xfeatures.AVX), ("MPX", xfeatures.MPX), ("AVX512F", xfeatures.AVX512), ("OSPKE", xfeatures.PKRU), ("ENQCMD", xfeatures.PASID),
    ("SHSTK", xfeatures.CET), ("AMX_TILE", xfeatures.AMX), ("APX", xfeatures.APX),
)  # fmt: skip
"""The components that Linux uses, by the feature that each goes with."""
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
    if not view.tells(1, 0xD):
        return
    off = mask & ~components(view)
    for bit, wanted in _states(view.catalog.release, view.setup.kernel.tables).items():
        if view.has(bit) and wanted & off:
            yield name_of(bit), wanted & off


def _no_state(view: View) -> Iterator[str]:
    for name, lacking in _lacking(view, ~_unpermitted(view)):
        yield f"{name} ({_list(lacking)})" if view.has(bits.XSAVE) else f"{name} (no xsave)"


def _seen_without_state(view: View) -> Iterator[str]:
    """Name features that the guest sees although its table has them not, as far as it sees no state for them."""
    if view.seen is None:
        return
    inside, of_table = replace(view, table=view.seen, seen=None), {name for name, _ in _lacking(view, ~0)}
    yield from (name for name, _ in _lacking(inside, ~_unpermitted(inside)) if name not in of_table)


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


def _supervisor(view: View) -> int:
    """What leaf 0xD lets the guest put into IA32_XSS; nothing where it has no XSAVES."""
    leaf = view.leaf(0xD, 1)
    return leaf.ecx | leaf.edx << 32 if components(view) and view.has(bits.XSAVES) else 0


def _sizes(view: View) -> Iterator[str]:
    enabled, supervisor = components(view), _supervisor(view)
    if not enabled:
        return
    needed, places = xfeatures.LEGACY_AREA, []
    for number in positions((enabled | supervisor) & ~xfeatures.LEGACY):
        size, offset = view.leaf(0xD, number)[:2]
        fixed = _fixed_size(view, number)
        if not size:
            yield f"component {number} has no size"
        elif fixed is not None and size != fixed:
            yield f"component {number} has {size} bytes, it takes {fixed}"
        if size and enabled >> number & 1:
            needed = max(needed, offset + size)
            places.append((offset, offset + size, number))
    told = view.leaf(0xD).ecx
    if told < needed:
        yield f"leaf 0xD tells {told} bytes, its components take {needed}"
    end, before = xfeatures.LEGACY_AREA, "the header"
    for first, past, number in sorted(places):
        if first < end:
            yield f"component {number} begins at {first}, {before} ends at {end}"
        if past > end:
            end, before = past, f"component {number}"


def _fixed_size(view: View, number: int) -> int | None:
    """Return a component's size where it is the same on every processor; Zen 2 tells another of PKRU, which it does not have."""
    return xfeatures.SIZES.get(1 << number) if number != _PKRU or view.has(bits.PKU) else None


def _other_layout(view: View) -> Iterator[str]:
    if view.hardware is None:
        return
    for number in positions((components(view) | _supervisor(view)) & ~xfeatures.LEGACY):
        told, real = view.leaf(0xD, number), view.hardware.registers(0xD, number)
        # Of a component without a size on one side, xsave.sizes or xsave.not-of-host has something to say.
        if told.eax and real.eax and _placed(told) != _placed(real):
            yield f"component {number}: {_area(told)}, the host has {_area(real)}"


def _placed(leaf: Registers) -> tuple[int, int, int]:
    return leaf.eax, leaf.ebx, leaf.ecx & (xfeatures.IN_XSS | xfeatures.ALIGNED)


def _area(leaf: Registers) -> str:
    aligned = ", aligned" if leaf.ecx & xfeatures.ALIGNED else ""
    return f"{leaf.eax} bytes in IA32_XSS{aligned}" if leaf.ecx & xfeatures.IN_XSS else f"{leaf.eax} bytes at {leaf.ebx}{aligned}"


def _switched_off(view: View) -> Iterator[str]:
    """Do what fpu__init_system_xstate does with the table, and tell what makes it give up XSAVE."""
    user, supervisor = components(view), _supervisor(view)
    if not view.has(bits.XSAVE) or view.leaf(0).eax < 0xD:  # without that level Linux takes XSAVE for absent from the start
        return
    if missing := xfeatures.LEGACY & ~(user | supervisor):
        yield f"{_list(missing)} not there"
        return
    if user & xfeatures.APX and user & xfeatures.MPX:
        yield "APX's component is there and MPX's, which share their place"
        return
    used = _used_by_linux(view, user | supervisor)
    compacted = view.has(bits.XSAVEC) or view.has(bits.XSAVES)
    told, added = _told_size(view, used, compacted=compacted), _added_up(view, used, compacted=compacted)
    if told is not None and added != told:
        yield f"{_list(used & ~xfeatures.LEGACY)}: Linux adds up {added} bytes, CPUID tells {told} once they are on"


def _used_by_linux(view: View, states: int) -> int:
    """Return the components that a Linux in the guest switches on (xsave_cpuid_features and the masks below it)."""
    linux = view.guest_linux
    used = states & xfeatures.LEGACY
    for feature, component in _LINUX_STATES:
        if linux.has(feature):
            used |= states & component
    if not linux.has("XFD"):
        used &= ~xfeatures.TILE_DATA
    if view.setup.kernel.number < (6, 18):
        used &= ~(xfeatures.CET_KERNEL if view.setup.kernel.number > (6, 1) else xfeatures.CET)
    return used


def _told_size(view: View, used: int, *, compacted: bool) -> int | None:
    """Return the bytes that KVM tells of the components in use, by the host's layout; None where nothing is known or it refuses the set."""
    if view.supported is None or view.hardware is None:
        return None
    main, more = view.supported.registers(0xD), view.supported.registers(0xD, 1)
    user, supervisor = used & ~xfeatures.SUPERVISOR, used & xfeatures.SUPERVISOR
    if user & ~(main.eax | main.edx << 32 | _permittable(view) | xfeatures.LEGACY):
        return None
    if supervisor & ~(more.ecx | more.edx << 32):  # IA32_XSS stays 0: Linux goes on after the #GP
        supervisor = 0
    return area_size(view.hardware, user | supervisor if compacted else user, compacted=compacted)


def _added_up(view: View, used: int, *, compacted: bool) -> int:
    """Add up the components in use as Linux does (xstate_calculate_size): the last one's place and size."""
    extended = [view.leaf(0xD, number) for number in positions(used & ~xfeatures.LEGACY)]
    if compacted or not extended:
        return area_size(view.table, used, compacted=True)
    last = max((leaf for leaf in extended if not leaf.ecx & xfeatures.IN_XSS), key=lambda leaf: leaf.ebx, default=Registers())
    return last.ebx + last.eax


RULES = (
    HazardRule(
        "xsave.no-state", Severity.BREAKS, _no_state,
        "XCR0 cannot hold the state that the feature needs, so its instructions raise #UD. glibc asks XGETBV first; the kernel and other "
        "programs may look at the feature's bit alone.",
        "switch the feature off with -feature, or add +xsave and the feature that brings the state (+avx, +avx512f, +pku, +amx-tile)",
        Looks.HOST,
    ),
    HazardRule(
        "xsave.seen-without-state", Severity.RISK, _seen_without_state,
        "This machine's KVM shows the feature although the guest's table does not have it, and shows no room for its state: XCR0 cannot "
        "hold that. A Linux in the guest switches the feature off, and so does whoever asks XGETBV; its instructions raise #UD in programs "
        "that look at the feature's bit alone.",
        "run the guest on a host with stock Linux: no option of QEMU changes what this KVM shows",
        Looks.HOST,
    ),
    HazardRule(
        "xsave.no-permission", Severity.RISK, _no_permission,
        "KVM tells of AMX whoever asks, and of its state only those that have asked Linux for leave to give it to guests. A table made of "
        "such an answer has AMX's features without their state.",
        "call arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM) before KVM_GET_SUPPORTED_CPUID, as QEMU does, or add -amx-tile,-amx-int8,-amx-bf16",
        Looks.HOST,
    ),
    HazardRule(
        "xsave.not-of-host", Severity.BREAKS, _not_of_host,
        "KVM does not let the guest switch these components on: XSETBV raises #GP when its kernel tries to, early at boot.",
        "switch off the features that use them; AMX needs a KVM that permits it",
        Looks.HOST,
    ),
    HazardRule(
        "xsave.impossible", Severity.BREAKS, _impossible,
        "XSETBV refuses such a set: the guest's kernel takes a #GP as it switches on what leaf 0xD offers.",
        "give the components that belong together, or none of them",
        Looks.HOST,
    ),
    HazardRule(
        "xsave.sizes", Severity.BREAKS, _sizes,
        "Programs that set up the area for XSAVE by this leaf have too little room, or look for state where it is not: they overwrite "
        "memory, or restore what was never saved.",
        "take leaf 0xD from KVM or QEMU as they give it",
    ),
    HazardRule(
        "xsave.other-layout", Severity.BREAKS, _other_layout,
        "XSAVE writes as the host's processor does it, whatever the table says: who reads the area by this leaf (signal frames, debuggers, "
        "migration) finds other state there, or none.",
        "take the sub-leaves of leaf 0xD from KVM's answer on the host that runs the guest",
        Looks.HOST,
    ),
    HazardRule(
        "xsave.linux-off", Severity.BREAKS, _switched_off,
        "Linux gives up XSAVE over it at boot, and AVX and all else that needs it (fpu__init_system_xstate). From 6.16 on it does not live "
        "through that where it is built with CONFIG_X86_DEBUG_FPU, as Debian's is: x86_task_fpu has nothing for a kernel thread, and "
        "fpstate_reset writes through the null pointer.",
        "take leaf 0xD from KVM's answer on the host that runs the guest, or switch off xsave and all that needs it",
        Looks.HOST,
    ),
)  # fmt: skip
