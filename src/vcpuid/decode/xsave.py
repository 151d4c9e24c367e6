"""The XSAVE area as leaf 0xD describes it, in its standard and its compacted form (Intel SDM vol. 1, chapter 13)."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.cpuid.registers import CpuidTable

LEGACY, HEADER = 512, 64
NAMES = {0: "x87", 1: "SSE", 2: "AVX", 3: "BNDREGS", 4: "BNDCSR", 5: "opmask", 6: "ZMM_Hi256", 7: "Hi16_ZMM", 8: "PT", 9: "PKRU",
         10: "PASID", 11: "CET_U", 12: "CET_S", 13: "HDC", 14: "UINTR", 15: "LBR", 16: "HWP", 17: "XTILECFG", 18: "XTILEDATA", 19: "APX",
         62: "LWP"}  # fmt: skip


class Component(NamedTuple):
    """A state component: `offset` in the standard form, None where it has no place there; `compacted` with all components in the area."""

    number: int
    name: str
    size: int
    offset: int | None
    compacted: int | None
    supervisor: bool
    aligned: bool
    xfd: bool


class XsaveLayout(NamedTuple):
    """The area with all components that XCR0 and IA32_XSS may enable.

    `size` is that of the standard form, `compacted_size` of the compacted one, None where there is no XSAVEC.
    """

    components: tuple[Component, ...]
    size: int
    compacted_size: int | None
    user: int
    supervisor: int


def xsave(table: CpuidTable) -> XsaveLayout:
    """Lay the area out; without leaf 0xD it has no components."""
    main, more = table.registers(0xD), table.registers(0xD, 1)
    user = main.edx << 32 | main.eax
    supervisor = more.edx << 32 | more.ecx
    if not user:
        return XsaveLayout((), 0, None, 0, 0)
    compacts = bool(more.eax & 2)
    found = [
        Component(0, "x87, SSE (legacy region)", LEGACY, 0, 0 if compacts else None, False, False, False),
        Component(-1, "header", HEADER, LEGACY, LEGACY if compacts else None, False, False, False),
    ]
    end = LEGACY + HEADER
    for entry in sorted(table.leaf(0xD), key=lambda each: each.index):
        if entry.index < 2 or not entry.eax or not (user | supervisor) >> entry.index & 1:
            continue
        aligned, own = bool(entry.ecx & 2), bool(entry.ecx & 1)
        start = -(-end // 64) * 64 if aligned else end
        found.append(
            Component(
                entry.index,
                NAMES.get(entry.index, f"component {entry.index}"),
                entry.eax,
                None if own else entry.ebx,
                start if compacts else None,
                own,
                aligned,
                bool(entry.ecx & 4),
            )
        )
        end = start + entry.eax
    return XsaveLayout(tuple(found), main.ecx, end if compacts else None, user, supervisor)
